/* SPDX-License-Identifier: Apache-2.0
 * What a calibration is called and what it takes, before it runs. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/mem.h"
#include "core/calib/private.h"

void calib_shape_of(struct calib_shape *s, const struct bl_model *m, const struct bl_calib_data *d, const struct bl_calib_options *o)
{
	*s = (struct calib_shape){ .m = m, .windows = d->windows, .len = d->len, .hessians = o->hessians, .fp32 = o->fp32,
				   .keep = o->keep_windows < d->windows ? o->keep_windows : d->windows };
}

void calib_manifest_of(struct calib_manifest *out, const struct calib_shape *s, const struct bl_calib_data *d, const char *device)
{
	*out = (struct calib_manifest){ .hessians = s->hessians, .fp32 = s->fp32, .blocks = s->m->config.layers, .hidden = s->m->config.hidden,
					.windows = s->windows, .len = s->len, .keep = s->keep };
	bl_printable(out->title, sizeof out->title, s->m->title);
	snprintf(out->model_digest, sizeof out->model_digest, "%s", s->m->digest);
	bl_printable(out->device, sizeof out->device, device ? device : "");
	bl_sha256_of(d->ids, (size_t)(d->windows * d->len) * sizeof *d->ids, out->ids_digest);
}

void calib_key_of(char key[65], const struct calib_manifest *m)
{
	struct bl_str s = { 0 };

	bl_str_addf(&s, "calib %d\nmodel %s\nids %s\nwindows %" PRId64 " %" PRId64 "\nhessians %d\nkeep %" PRId64 "\nfp32 %d\ndevice %s\n", CALIB_PRODUCER,
		    m->model_digest, m->ids_digest, m->windows, m->len, m->hessians, m->keep, m->fp32, m->device);
	bl_sha256_of(bl_str_c(&s), s.len, key);
	bl_str_free(&s);
}

void bl_calib_key(char key[65], const struct bl_model *m, const struct bl_calib_data *d, const struct bl_calib_options *o)
{
	struct calib_manifest manifest;
	struct calib_shape s;

	calib_shape_of(&s, m, d, o);
	calib_manifest_of(&manifest, &s, d, o->device);
	calib_key_of(key, &manifest);
}

uint64_t bl_calib_disk_bytes(const struct bl_model *m, const struct bl_calib_data *d, const struct bl_calib_options *o)
{
	struct bl_err ignored = BL_ERR_INIT;
	struct calib_shape s;
	struct calib_head h;
	uint64_t bytes = 0;

	calib_shape_of(&s, m, d, o);
	if (!calib_shape_ok(&s, &ignored))
		return 0;
	for (int b = 0; b < m->config.layers; b++) {
		calib_head_make(&h, &s, CALIB_BLOCK, b);
		bytes += calib_head_stored(&h);
	}
	if (s.keep) {
		calib_head_make(&h, &s, CALIB_INPUTS, 0);
		bytes += calib_head_stored(&h) * (uint64_t)(m->config.layers + 1);
	}
	calib_head_make(&h, &s, CALIB_IDS, 0);
	bytes += calib_head_stored(&h);
	return bytes + (1u << 20); /* the manifest */
}

/* The largest set of accumulators of a block. */
uint64_t calib_set_bytes(const struct bl_model *m, bool hessians, uint64_t *stats)
{
	uint64_t most = 0, most_stats = 0;

	for (int b = 0; b < m->config.layers; b++) {
		uint64_t all = 0, small = 0;

		for (int u = b * CALIB_UNITS; u < (b + 1) * CALIB_UNITS && u < m->n_units; u++) {
			uint64_t k = (uint64_t)m->units[u].cols;

			small += calib_acc_of(m->units[u].cols).bytes;
			all += hessians ? (4 * k * k + 255) / 256 * 256 : 0;
		}
		most = all + small > most ? all + small : most;
		most_stats = small > most_stats ? small : most_stats;
	}
	if (stats)
		*stats = most_stats;
	return most;
}

/* Chunks of host memory: enough for a block to leave the device at once, within limits. */
uint64_t calib_chunk_bytes(const struct bl_model *m, bool hessians, int *n_chunks)
{
	uint64_t bytes = CALIB_PIECE, row = 4 * (uint64_t)m->config.hidden;
	int64_t most = 0;

	for (int b = 0; b < m->config.layers; b++) {
		int64_t pieces = CALIB_UNITS;

		for (int u = b * CALIB_UNITS; u < (b + 1) * CALIB_UNITS && u < m->n_units; u++) {
			int64_t k = m->units[u].cols;
			struct calib_section s = { .rows = k, .row_bytes = 4 * k };

			pieces += hessians ? calib_pieces(&s) : 0;
			bytes = calib_acc_of(k).bytes > bytes ? calib_acc_of(k).bytes : bytes;
			bytes = 4 * (uint64_t)k > bytes ? 4 * (uint64_t)k : bytes;
		}
		most = pieces > most ? pieces : most;
	}
	*n_chunks = most + 4 < 8 ? 8 : most + 4 > 20 ? 20 : (int)most + 4;
	return row > bytes ? row : bytes;
}

#define GOOD_BATCH 4096 /* tokens; smaller batches cost more than waiting for copies does */
#define BEST_BATCH 32768

bool calib_second_set(const struct bl_model *m, int64_t tokens, bool fp32, uint64_t set, uint64_t available)
{
	uint64_t device, host;

	bl_forward_need(m, fp32, tokens, tokens < GOOD_BATCH ? tokens : GOOD_BATCH, &device, &host);
	return set <= available && device <= (available - set) / 4 * 3;
}

#define STAGING ((uint64_t)64 << 20) /* of uploads, and small things */

enum bl_status bl_calib_bound(struct bl_calib_bounds *out, const struct bl_model *m, const struct bl_calib_options *o, bool cuda, uint64_t memory_limit, uint64_t ram_limit,
			      struct bl_err *err)
{
	uint64_t least, best, copies, left;
	char a[16], b[16];

	*out = (struct bl_calib_bounds){ memory_limit, 0 };
	if (!ram_limit)
		return BL_OK;
	bl_calib_need(m, o, &least, &best, &copies);
	copies += cuda ? STAGING : 0;
	if (ram_limit <= copies)
		return bl_fail(err, BL_NO_MEMORY, "memory: a bound of %s is too small: copies on their way to files take %s", bl_human_bytes(a, sizeof a, (double)ram_limit),
			       bl_human_bytes(b, sizeof b, (double)copies));
	left = ram_limit - copies;
	out->host_bytes = cuda ? left : 1; /* on the CPU: in the engine's memory, or in a file */
	if (!cuda)
		out->device_bytes = memory_limit && memory_limit < left ? memory_limit : left;
	return BL_OK;
}

bool bl_calib_crowded(struct bl_forward *f, const struct bl_calib_data *d, const struct bl_calib_options *o)
{
	const struct bl_model *m = bl_forward_model(f);
	int64_t tokens = d->windows * d->len;
	uint64_t device, hidden, least, best, host;

	bl_forward_need(m, o->fp32, tokens, tokens < BEST_BATCH ? tokens : BEST_BATCH, &device, &hidden);
	bl_calib_need(m, o, &least, &best, &host);
	return best + device + hidden > bl_engine_available(bl_forward_engine(f));
}

void bl_calib_need(const struct bl_model *m, const struct bl_calib_options *o, uint64_t *device_least, uint64_t *device_best, uint64_t *host)
{
	uint64_t set = calib_set_bytes(m, o->hessians, NULL);
	int n;

	*device_least = set;
	*device_best = 2 * set;
	*host = calib_chunk_bytes(m, o->hessians, &n) * (uint64_t)n;
}

int bl_calib_stored(const struct bl_model *m, const char *cache_dir, const char *key, bool *complete)
{
	struct calib_manifest manifest = { 0 };
	struct bl_err ignored = BL_ERR_INIT;
	char *folder;
	int n = 0;

	*complete = false;
	if (!calib_key_ok(key))
		return 0;
	folder = calib_folder(cache_dir, key);
	if (!calib_manifest_load(&manifest, folder, &ignored)) {
		*complete = manifest.complete;
		for (bool there = true; there && n < m->config.layers; n += there) {
			char name[32], *path;

			calib_file_name(name, CALIB_BLOCK, n);
			path = bl_path_join(folder, name);
			there = bl_is_file(path);
			bl_free(path);
		}
		*complete &= n == m->config.layers;
	}
	calib_manifest_free(&manifest);
	bl_free(folder);
	return n;
}
