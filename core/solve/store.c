/* SPDX-License-Identifier: Apache-2.0
 * The file: a head, scales, codes, zero points, the report. Sizes follow from the unit; a head that says otherwise is refused before anything is read. It is
 * used as it lies, mapped, so that exporting a large model needs no more memory than a small one. */
#include "core/solve/store.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/base/str.h"

#define PRODUCER   4 /* counts up when solvers give other numbers: part of the key */
#define REPORT_MAX 8192

struct head {
	char magic[8]; /* "BLSOLVE" */
	uint32_t producer, report_bytes;
	int64_t rows, cols, spr;
	int32_t has_zeros, has_order;
	double rel, seconds;
	float global;
	uint32_t unused;
	char key[64];
	struct bl_sum body, sum; /* sum: of everything above */
};

void bl_solved_key(char key[65], const struct bl_solve_request *rq, const char *calib_key, const char *device)
{
	struct bl_str s = { 0 };
	char scheme[BL_SCHEME_NAME_MAX];

	bl_str_addf(&s, "chain %s\nsolved %d\nmodel %s\nunit %s\nscheme %s\nmethod %s %s\nparams %s\ncalibration %s\ndevice %s\nnonfinite %d\n", rq->chain ? rq->chain : "", PRODUCER, rq->model->digest,
		    rq->model->units[rq->unit].name, bl_scheme_name(scheme, &rq->scheme), rq->method, bl_registry_method_version(rq->registry, rq->method),
		    rq->params ? rq->params : "", calib_key, device, rq->zero_nonfinite);
	bl_sha256_of(bl_str_c(&s), s.len, key);
	bl_str_free(&s);
}

static char *path_of(const char *cache_dir, const char *key)
{
	struct bl_str s = { 0 };

	bl_str_addf(&s, "%s/solved/%s.bin", cache_dir, key);
	return bl_str_take(&s);
}

static struct head head_of(const struct bl_solved *s, const char *key)
{
	struct head h = { .magic = "BLSOLVE", .producer = PRODUCER, .rows = s->rows, .cols = s->cols, .spr = s->spr, .has_zeros = s->zeros != NULL, .has_order = s->group_of != NULL, .rel = s->rel, .global = s->global,
			  .seconds = s->seconds, .report_bytes = (uint32_t)strlen(s->report) };

	memcpy(h.key, key, sizeof h.key);
	h.body = bl_sum_add(h.body, s->scales, (size_t)(s->rows * s->spr) * sizeof *s->scales);
	if (s->group_of)
		h.body = bl_sum_add(h.body, s->group_of, (size_t)s->cols * sizeof *s->group_of);
	h.body = bl_sum_add(h.body, s->codes, (size_t)(s->rows * s->cols * s->code_bytes));
	if (s->zeros)
		h.body = bl_sum_add(h.body, s->zeros, (size_t)(s->rows * s->spr));
	h.body = bl_sum_add(h.body, s->report, h.report_bytes);
	h.sum = bl_sum_add(h.sum, &h, offsetof(struct head, sum));
	return h;
}

enum bl_status bl_solved_save(const struct bl_solved *s, const char *cache_dir, const char *key, struct bl_err *err)
{
	struct head h;
	char *path = path_of(cache_dir, key), *folder = bl_path_join(cache_dir, "solved");
	struct bl_str tmp = { 0 };
	int fd = -1;

	if (strlen(s->report) > REPORT_MAX) {
		bl_fail(err, BL_INVALID, "the report of a solved unit is too long");
		goto done;
	}
	if (bl_mkdirs(folder, 0755, err))
		goto done;
	h = head_of(s, key);
	bl_str_addf(&tmp, "%s/.%s.%ld.tmp", folder, key, (long)getpid());
	fd = open(bl_str_c(&tmp), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0) {
		bl_fail_sys(err, BL_IO, "%s", bl_str_c(&tmp));
		goto done;
	}
	const struct { const void *p; size_t n; } parts[] = {
		{ &h, sizeof h }, { s->scales, (size_t)(s->rows * s->spr) * sizeof *s->scales }, { s->group_of, s->group_of ? (size_t)s->cols * sizeof *s->group_of : 0 },
		{ s->codes, (size_t)(s->rows * s->cols * s->code_bytes) },
		{ s->zeros, s->zeros ? (size_t)(s->rows * s->spr) : 0 }, { s->report, h.report_bytes },
	};
	uint64_t at = 0;
	for (size_t i = 0; i < sizeof parts / sizeof parts[0] && !err->status; at += parts[i++].n)
		if (parts[i].n)
			bl_pwrite_all(fd, parts[i].p, parts[i].n, at, bl_str_c(&tmp), err);
	close(fd);
	if (!err->status && rename(bl_str_c(&tmp), path))
		bl_fail_sys(err, BL_IO, "%s", path);
	if (err->status)
		(void)unlink(bl_str_c(&tmp));
done:
	bl_str_free(&tmp);
	bl_free(folder);
	bl_free(path);
	return err->status;
}

_Static_assert(sizeof(struct head) % sizeof(float) == 0, "scales follow the head");

struct loading { struct bl_solved *s; const struct head *h; bool trust; };

static enum bl_status check_body(void *ctx, struct bl_err *err)
{
	const struct loading *k = ctx;
	struct bl_solved *s = k->s;
	const uint8_t *p = s->map.data + sizeof *k->h;
	const size_t scales = (size_t)(s->rows * s->spr);

	s->scales = (float *)p;
	s->group_of = k->h->has_order ? (int32_t *)(s->scales + scales) : NULL;
	s->codes = (int8_t *)(p + scales * sizeof *s->scales + (s->group_of ? (size_t)s->cols * sizeof *s->group_of : 0));
	s->zeros = k->h->has_zeros ? s->codes + s->rows * s->cols * s->code_bytes : NULL;
	p = (const uint8_t *)s->codes + s->rows * s->cols * s->code_bytes + (s->zeros ? scales : 0);
	s->report = bl_xstrndup((const char *)p, k->h->report_bytes);
	if (strlen(s->report) != k->h->report_bytes)
		return bl_fail(err, BL_MISMATCH, "%s: its contents are damaged", s->map.path);
	if (k->trust)
		return BL_OK;
	for (int64_t i = 0; s->group_of && i < s->cols; i++)
		if (s->group_of[i] < 0 || s->group_of[i] >= s->spr)
			return bl_fail(err, BL_MISMATCH, "%s: its contents are damaged", s->map.path);
	const struct head again = head_of(s, k->h->key);
	if (memcmp(&again.body, &k->h->body, sizeof again.body))
		return bl_fail(err, BL_MISMATCH, "%s: its contents are damaged", s->map.path);
	for (size_t i = 0; i < scales; i++)
		if (!isfinite(s->scales[i]))
			return bl_fail(err, BL_MISMATCH, "%s: scale %zu is not finite", s->map.path, i);
	return BL_OK;
}

enum bl_status bl_solved_load(struct bl_solved **out, const struct bl_solve_request *rq, const char *cache_dir, const char *key, bool trust, struct bl_err *err)
{
	const struct bl_unit *u = &rq->model->units[rq->unit];
	const struct bl_grid g = bl_grid_of(&rq->scheme);
	char *path = path_of(cache_dir, key);
	struct bl_solved *s = bl_xalloc(1, sizeof *s);
	struct bl_map *map = &s->map;
	struct head h;

	if (!bl_is_file(path)) {
		bl_fail(err, BL_NOT_FOUND, "%s is not in the cache", u->name);
		goto done;
	}
	s->unit = rq->unit;
	s->rows = u->rows;
	s->cols = u->cols;
	s->spr = bl_scheme_scales_per_row(&rq->scheme, u->cols);
	s->code_bytes = (int)bl_scheme_code_bytes(&rq->scheme);
	if (bl_map_open(map, path, err))
		goto done;
	if (map->bytes < sizeof h) {
		bl_fail(err, BL_MISMATCH, "%s: too short", path);
		goto done;
	}
	memcpy(&h, map->data, sizeof h);
	const struct bl_sum zero = { 0 }, sum = bl_sum_add(zero, &h, offsetof(struct head, sum));
	if (memcmp(h.magic, "BLSOLVE", 8) || h.producer != PRODUCER || memcmp(&sum, &h.sum, sizeof sum) || memcmp(h.key, key, sizeof h.key) || h.rows != s->rows ||
	    h.cols != s->cols || h.spr != s->spr || h.has_zeros != !g.symmetric || h.has_order != (rq->scheme.order != 0) || h.report_bytes > REPORT_MAX || !(h.rel >= 0) || !isfinite(h.rel) ||
	    !isfinite(h.global) || h.global < 0 ||
	    map->bytes != sizeof h + (uint64_t)(s->rows * s->cols * s->code_bytes) + (uint64_t)(s->rows * s->spr) * (4 + (h.has_zeros ? 1 : 0)) + (h.has_order ? 4 * (uint64_t)s->cols : 0) + h.report_bytes) {
		bl_fail(err, BL_MISMATCH, "%s: its head does not belong to this unit and choice", path);
		goto done;
	}
	s->rel = h.rel;
	s->seconds = h.seconds;
	s->global = h.global;
	struct loading k = { s, &h, trust };
	bl_guard_run(check_body, &k, err);
done:
	bl_free(path);
	if (err->status)
		bl_solved_free(s);
	else
		*out = s;
	return err->status;
}
