/* SPDX-License-Identifier: Apache-2.0
 * NVML without its header: the few functions and structures used, as the library has had them since 2014 (its names with _v2 where those exist). */
#include "core/backend/nvml.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/mem.h"

#define PROCESSES 64

typedef void *device_t;
struct memory { unsigned long long total, free, used; };
struct utilization { unsigned gpu, memory; };
struct process { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; };   /* of ..._v2, ..._v3 */

enum { OK = 0, TOO_SMALL = 7 };

struct bl_nvml {
	void *library;
	int n;
	int (*init)(void);
	int (*shutdown)(void);
	int (*count)(unsigned *n);
	int (*handle)(unsigned i, device_t *d);
	int (*name)(device_t d, char *text, unsigned n);
	int (*memory)(device_t d, struct memory *m);
	int (*use)(device_t d, struct utilization *u);
	int (*temperature)(device_t d, int sensor, unsigned *degrees);
	int (*power)(device_t d, unsigned *milliwatts);
	int (*processes)(device_t d, unsigned *n, struct process *p); /* may be NULL: the library is too old */
};

static bool find(const struct bl_nvml *v, void *at, const char *name)
{
	void *p = dlsym(v->library, name);

	memcpy(at, &p, sizeof(p)); /* ISO C has no cast from object to function pointers */
	return p != NULL;
}

struct bl_nvml *bl_nvml_open(const char *path, char *why, int n)
{
	struct bl_nvml *v = bl_xalloc(1, sizeof(*v));
	unsigned count = 0;
	int e;

	v->library = dlopen(path ? path : "libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
	if (!v->library) {
		snprintf(why, (size_t)n, "the NVIDIA management library (%s) is not installed", path ? path : "libnvidia-ml.so.1");
		bl_free(v);
		return NULL;
	}
	if (!find(v, &v->init, "nvmlInit_v2") || !find(v, &v->shutdown, "nvmlShutdown") || !find(v, &v->count, "nvmlDeviceGetCount_v2") ||
	    !find(v, &v->handle, "nvmlDeviceGetHandleByIndex_v2") || !find(v, &v->name, "nvmlDeviceGetName") ||
	    !find(v, &v->memory, "nvmlDeviceGetMemoryInfo") || !find(v, &v->use, "nvmlDeviceGetUtilizationRates") ||
	    !find(v, &v->temperature, "nvmlDeviceGetTemperature") || !find(v, &v->power, "nvmlDeviceGetPowerUsage")) {
		snprintf(why, (size_t)n, "%s is not the NVIDIA management library, or too old", path ? path : "libnvidia-ml.so.1");
		dlclose(v->library);
		bl_free(v);
		return NULL;
	}
	if (!find(v, &v->processes, "nvmlDeviceGetComputeRunningProcesses_v3"))
		find(v, &v->processes, "nvmlDeviceGetComputeRunningProcesses_v2");
	e = v->init();
	if (e != OK || v->count(&count) != OK) {
		snprintf(why, (size_t)n, "the NVIDIA management library does not start (error %d)", e);
		if (e == OK)
			v->shutdown();
		dlclose(v->library);
		bl_free(v);
		return NULL;
	}
	v->n = (int)count;
	if (n > 0)
		why[0] = '\0';
	return v;
}

void bl_nvml_close(struct bl_nvml *v)
{
	if (!v)
		return;
	v->shutdown();
	dlclose(v->library);
	bl_free(v);
}

int bl_nvml_count(const struct bl_nvml *v) { return v->n; }

static void look_processes(const struct bl_nvml *v, device_t d, struct bl_nvml_look *out)
{
	struct process p[PROCESSES];
	unsigned n = PROCESSES;
	const int e = v->processes ? v->processes(d, &n, p) : -1;

	if (e != OK && e != TOO_SMALL)
		return;
	out->has_others = true;
	if (e == TOO_SMALL) { /* more than fit: how many is still told */
		out->others = (int)n - 1;
		return;
	}
	for (unsigned i = 0; i < n; i++) {
		if (p[i].pid == (unsigned)getpid())
			continue;
		out->others++;
		out->others_bytes += p[i].used == ~0ull ? 0 : p[i].used; /* all ones: not available */
	}
}

bool bl_nvml_look(const struct bl_nvml *v, int i, struct bl_nvml_look *out)
{
	struct memory m;
	struct utilization u;
	unsigned value;
	device_t d = NULL;

	*out = (struct bl_nvml_look){ .others = 0 };
	if (i < 0 || i >= v->n || v->handle((unsigned)i, &d) != OK)
		return false;
	if (v->name(d, out->name, sizeof(out->name)) != OK)
		out->name[0] = '\0';
	out->name[sizeof(out->name) - 1] = '\0';
	out->has_memory = v->memory(d, &m) == OK;
	if (out->has_memory)
		out->used_bytes = m.used, out->total_bytes = m.total;
	out->has_use = v->use(d, &u) == OK;
	if (out->has_use)
		out->use_percent = (int)u.gpu;
	out->has_temperature = v->temperature(d, 0, &value) == OK;
	if (out->has_temperature)
		out->temperature = (int)value;
	out->has_power = v->power(d, &value) == OK;
	if (out->has_power)
		out->watts = value / 1000.0;
	look_processes(v, d, out);
	return true;
}
