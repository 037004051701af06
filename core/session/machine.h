/* SPDX-License-Identifier: Apache-2.0
 * What the machine offers, for `doctor` and the headings of measurements. */
#ifndef BL_SESSION_MACHINE_H
#define BL_SESSION_MACHINE_H

#include <stdint.h>

#include "core/base/err.h"

struct bl_machine {
	char cpu[128];
	int n_cpus;                        /* this process may use */
	uint64_t ram_bytes, ram_free_bytes;
	char *gpu;                         /* one sentence: devices, or why there is none */
};
/* Of this process, in memory now: what is not a mapped file. */
uint64_t bl_resident_bytes(void);
void bl_ram_look(uint64_t *total, uint64_t *available); /* bytes; zeros: unknown */
void bl_machine_look(struct bl_machine *m, const char *program_dir);
/* Can work run there? "auto", "cpu", "cuda", "cuda:N"; BL_USAGE for another name, BL_NO_DEVICE with the reason. */
enum bl_status bl_machine_device(const char *device, const char *program_dir, struct bl_err *err);
char *bl_machine_cuda_module(const char *program_dir); /* its path (bl_free); NULL: none came with this program */
void bl_machine_free(struct bl_machine *m);

#endif
