/* SPDX-License-Identifier: Apache-2.0
 * What the machine offers. */
#include "core/session/machine.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/backend/engine.h"
#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/base/str.h"

static uint64_t meminfo(const char *text, const char *key)
{
	const char *at = strstr(text, key);

	return at ? strtoull(at + strlen(key), NULL, 10) * 1024 : 0;
}

void bl_ram_look(uint64_t *total, uint64_t *available)
{
	struct bl_err err = BL_ERR_INIT;
	char *text = NULL;

	*total = *available = 0;
	if (bl_read_file(&text, NULL, "/proc/meminfo", 1u << 20, true, &err) == BL_OK) {
		*total = meminfo(text, "MemTotal:");
		*available = meminfo(text, "MemAvailable:");
	}
	bl_free(text);
}

uint64_t bl_resident_bytes(void)
{
	struct bl_err ignored = BL_ERR_INIT;
	char *text = NULL;
	uint64_t bytes = 0;

	if (bl_read_file(&text, NULL, "/proc/self/status", 1u << 16, true, &ignored) == BL_OK)
		bytes = meminfo(text, "RssAnon:");
	bl_free(text);
	return bytes;
}

void bl_machine_look(struct bl_machine *m, const char *program_dir)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_backend backend;
	struct bl_str gpu = {0};
	cpu_set_t set;
	char *text = NULL;

	memset(m, 0, sizeof *m);
	m->n_cpus = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
	snprintf(m->cpu, sizeof m->cpu, "unknown processor");
	if (bl_read_file(&text, NULL, "/proc/cpuinfo", 4u << 20, true, &err) == BL_OK) {
		const char *at = strstr(text, "model name");
		at = at ? strchr(at, ':') : NULL;
		if (at)
			snprintf(m->cpu, sizeof m->cpu, "%.*s", (int)strcspn(at + 2, "\n"), at + 2);
	}
	bl_free(text);
	bl_ram_look(&m->ram_bytes, &m->ram_free_bytes);
	bl_backend_open(&backend, program_dir);
	for (int i = 0; i < backend.n_devices; i++)
		bl_str_addf(&gpu, "%s%s", i ? ", " : "", backend.devices[i].name);
	if (!backend.n_devices)
		bl_str_addf(&gpu, "none in use: %s", backend.note && *backend.note ? backend.note : "no device");
	bl_backend_close(&backend);
	m->gpu = bl_str_take(&gpu);
}

enum bl_status bl_machine_device(const char *device, const char *program_dir, struct bl_err *err)
{
	struct bl_backend backend = {0};
	int which;

	if (!bl_starts_with(device, "cuda")) /* nothing to look for */
		return bl_engine_device(&backend, device, &which, err);
	bl_backend_open(&backend, program_dir);
	bl_engine_device(&backend, device, &which, err);
	bl_backend_close(&backend);
	return err->status;
}

char *bl_machine_cuda_module(const char *program_dir)
{
	return bl_backend_module(program_dir);
}

void bl_machine_free(struct bl_machine *m)
{
	bl_free(m->gpu);
	m->gpu = NULL;
}
