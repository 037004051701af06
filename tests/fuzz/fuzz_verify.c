/* SPDX-License-Identifier: Apache-2.0
 * Any bytes through the proof: as a zip, and as the weight file and config of a package folder. First byte chooses. link: bl_export */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/export/verify.h"
#include "tests/fuzz/demo_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void put(const char *dir, const char *name, const void *data, size_t n)
{
	char path[300];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	f = fopen(path, "wb");
	if (f) {
		fwrite(data, 1, n, f);
		fclose(f);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static char dir[64];
	static struct bl_pool *pool;
	struct bl_err err = BL_ERR_INIT;
	struct bl_verify_result r;
	struct bl_verify_request rq = {.base = fuzz_model(), .want_sha256 = true};
	char path[300];
	int tables;

	if (n < 3)
		return 0;
	if (!pool) {
		pool = bl_pool_new(1);
		snprintf(dir, sizeof dir, "/tmp/bl-fuzz-XXXXXX");
		if (!mkdtemp(dir))
			abort();
	}
	rq.pool = pool;
	rq.target = bl_target_rows(&tables);
	if (data[0] & 1) {
		put(dir, "p.zip", data + 1, n - 1);
		snprintf(path, sizeof path, "%s/p.zip", dir);
	} else { /* second byte: how much of the rest is config */
		size_t split = (n - 2) * data[1] / 256;
		snprintf(path, sizeof path, "%s/folder", dir);
		if (bl_mkdirs(path, 0700, &err))
			abort();
		put(path, "config.json", data + 2, split);
		put(path, "model.safetensors", data + 2 + split, n - 2 - split);
	}
	rq.path = path;
	if (bl_verify_run(&r, &rq, &err) == BL_OK)
		bl_verify_result_free(&r);
	return 0;
}
