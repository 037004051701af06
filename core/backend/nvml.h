/* SPDX-License-Identifier: Apache-2.0
 * What NVIDIA's management library says of a device, for the status line and beside timings. The library is opened at run time; without it, or where it does
 * not answer a question, the answer's `has_` stays false. A look takes as long as the driver's answers (a millisecond or so) and never waits for the device. */
#ifndef BL_BACKEND_NVML_H
#define BL_BACKEND_NVML_H

#include <stdbool.h>
#include <stdint.h>

struct bl_nvml;
/* NULL with a sentence in why (of size n) when the library is not there or does not start. path: NULL for the system's. */
struct bl_nvml *bl_nvml_open(const char *path, char *why, int n);
void bl_nvml_close(struct bl_nvml *v); /* NULL is fine */
int bl_nvml_count(const struct bl_nvml *v);

struct bl_nvml_look {
	char name[96];
	bool has_memory, has_use, has_temperature, has_power, has_others;
	uint64_t used_bytes, total_bytes; /* of all processes */
	int use_percent;                  /* of the time, kernels ran */
	int temperature;                  /* degrees Celsius */
	double watts;
	int others;                       /* processes that compute on the device, besides this one */
	uint64_t others_bytes;            /* their memory; 0 where it is not told */
};
/* i: as the library counts, or by a CUDA ordinal when uuid/bus order is the same (the default on machines of one kind). false: no such device, or it is gone. */
bool bl_nvml_look(const struct bl_nvml *v, int i, struct bl_nvml_look *out);

#endif
