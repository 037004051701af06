/* SPDX-License-Identifier: Apache-2.0
 * Measurements of whole jobs. Files are read once before anything is timed, so that every side finds them in the page cache. */
#include "core/bench/bench.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/base/str.h"
#include "core/session/machine.h"

#define CHUNK (8u << 20)

/* ---- times ---- */

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

double bl_bench_median(const struct bl_bench_times *t)
{
	struct bl_bench_times c = *t;

	if (!c.n)
		return 0;
	qsort(c.s, (size_t)c.n, sizeof *c.s, by_value);
	return c.n % 2 ? c.s[c.n / 2] : (c.s[c.n / 2 - 1] + c.s[c.n / 2]) / 2;
}

double bl_bench_min(const struct bl_bench_times *t)
{
	double m = t->n ? t->s[0] : 0;

	for (int i = 1; i < t->n; i++)
		m = t->s[i] < m ? t->s[i] : m;
	return m;
}

double bl_bench_max(const struct bl_bench_times *t)
{
	double m = t->n ? t->s[0] : 0;

	for (int i = 1; i < t->n; i++)
		m = t->s[i] > m ? t->s[i] : m;
	return m;
}

void bl_bench_add(struct bl_bench_times *t, uint64_t start_ns)
{
	if (t->n < BL_BENCH_RUNS_MAX)
		t->s[t->n++] = (double)(bl_now_ns() - start_ns) / 1e9;
}

/* ---- peak resident memory beyond mapped files ---- */

struct sampler { pthread_t thread; atomic_bool stop; atomic_uint_fast64_t peak; };

static void *sample(void *arg)
{
	struct sampler *s = arg;

	while (!atomic_load(&s->stop)) {
		struct timespec pause = {0, 5000000};
		uint64_t now = bl_resident_bytes();
		if (now > atomic_load(&s->peak))
			atomic_store(&s->peak, now);
		nanosleep(&pause, NULL);
	}
	return NULL;
}

/* ---- reading and statistics ---- */

struct read_work { const struct bl_model *m; struct { int file; uint64_t at, n; } *pieces; size_t n; atomic_uint_fast64_t sum; };

static enum bl_status read_piece(void *ctx, size_t item, struct bl_err *err)
{
	struct read_work *w = ctx;
	const uint8_t *p = w->m->files[w->pieces[item].file].st.map.data + w->pieces[item].at;
	uint64_t n = w->pieces[item].n, sum[8] = {0}, i = 0;

	(void)err;
	for (; i + 64 <= n; i += 64)
		for (int l = 0; l < 8; l++) {
			uint64_t v;
			memcpy(&v, p + i + 8 * (uint64_t)l, 8);
			sum[l] += v;
		}
	for (int l = 1; l < 8; l++)
		sum[0] += sum[l];
	atomic_fetch_add(&w->sum, sum[0]);
	return BL_OK;
}

static enum bl_status read_all(struct bl_session *s, struct bl_bench_times *t, const atomic_int *cancel, struct bl_err *err)
{
	struct read_work w = {.m = s->model};
	size_t cap = 0;

	for (int f = 0; f < s->model->n_files; f++)
		for (uint64_t at = 0; at < s->model->files[f].st.map.bytes; at += CHUNK) {
			bl_xgrow(&w.pieces, &cap, w.n + 1);
			uint64_t left = s->model->files[f].st.map.bytes - at;
			w.pieces[w.n].file = f;
			w.pieces[w.n].at = at;
			w.pieces[w.n++].n = left < CHUNK ? left : CHUNK;
		}
	uint64_t start = bl_now_ns();
	if (bl_pool_run(s->pool, w.n, read_piece, &w, cancel, err) == BL_OK && t)
		bl_bench_add(t, start);
	bl_free(w.pieces);
	return err->status;
}

static void drop(void *ctx, int unit, struct bl_weight_stats *st, const struct bl_err *why)
{
	(void)ctx, (void)unit, (void)why;
	bl_weight_stats_free(st);
}

static enum bl_status stats_all(struct bl_session *s, struct bl_bench_times *t, const atomic_int *cancel, struct bl_err *err)
{
	uint64_t start = bl_now_ns();
	int *units = bl_xalloc((size_t)s->model->n_units + 1, sizeof *units);

	for (int i = 0; i < s->model->n_units; i++)
		units[i] = i;
	if (bl_weight_stats_each(s->model, units, (size_t)s->model->n_units, s->pool, drop, NULL, cancel, err) == BL_OK && t)
		bl_bench_add(t, start);
	bl_free(units);
	return err->status;
}

void bl_bench_row_init(struct bl_bench_row *r, const char *name, const char *baseline)
{
	memset(r, 0, sizeof *r);
	snprintf(r->name, sizeof r->name, "%s", name);
	snprintf(r->baseline_name, sizeof r->baseline_name, "%s", baseline);
}

enum bl_status bl_bench_read(struct bl_bench_row *r, struct bl_session *s, int runs, struct bl_progress *progress, struct bl_err *err)
{
	bl_bench_row_init(r, "read", "");
	for (int f = 0; f < s->model->n_files; f++)
		r->bytes += s->model->files[f].st.map.bytes;
	for (int i = -1; i < runs; i++) /* the first one brings the files into memory */
		if (read_all(s, i < 0 ? NULL : &r->job, &progress->cancel, err))
			return err->status;
	return BL_OK;
}

enum bl_status bl_bench_stats(struct bl_bench_row *r, struct bl_session *s, int runs, struct bl_progress *progress, struct bl_err *err)
{
	bl_bench_row_init(r, "stats", "plain read of the same maps, same threads");
	r->goal = 1 / 0.6;
	for (int i = 0; i < s->model->n_units; i++)
		r->bytes += s->model->units[i].bytes;
	for (int i = -1; i < runs; i++) {
		if (read_all(s, i < 0 ? NULL : &r->baseline, &progress->cancel, err) || stats_all(s, i < 0 ? NULL : &r->job, &progress->cancel, err))
			return err->status;
	}
	for (int i = 0; i < r->baseline.n; i++) /* the read also passes what is no unit: compare per byte */
		r->baseline.s[i] *= (double)r->bytes / (double)s->model->bytes;
	return BL_OK;
}

/* ---- export ---- */

static enum bl_status cancelled(const struct bl_progress *progress, struct bl_err *err)
{
	return atomic_load(&progress->cancel) ? bl_fail(err, BL_CANCELLED, "%s", bl_status_text(BL_CANCELLED)) : BL_OK;
}

static enum bl_status plain_loop(struct bl_session *s, const char *path, uint64_t write_bytes, struct bl_bench_times *t, struct bl_progress *progress,
				 struct bl_err *err)
{
	uint8_t *buf = NULL;
	uint64_t start = bl_now_ns(), at = 0, sum = 0;
	int fd = -1;

	if (bl_try_alloc(&buf, CHUNK, 1, "the baseline's buffer", err))
		return err->status;
	unlink(path);
	fd = bl_create_file(path, 0644, err);
	for (int f = 0; f < s->model->n_files && fd >= 0 && !err->status; f++) {
		int in = open(s->model->files[f].st.map.path, O_RDONLY | O_CLOEXEC);
		for (ssize_t n; in >= 0 && !err->status && !cancelled(progress, err) && (n = read(in, buf, CHUNK)) > 0;) {
			uint64_t out = (uint64_t)n < write_bytes - at ? (uint64_t)n : write_bytes - at;
			sum += buf[0];
			if (out && bl_pwrite_all(fd, buf, out, at, path, err) == BL_OK)
				at += out;
		}
		if (in < 0)
			bl_fail_sys(err, BL_IO, "%s: cannot be read", s->model->files[f].st.map.path);
		else
			close(in);
	}
	while (!err->status && !cancelled(progress, err) && at < write_bytes) {
		uint64_t out = write_bytes - at < CHUNK ? write_bytes - at : CHUNK;
		if (bl_pwrite_all(fd, buf, out, at, path, err) == BL_OK)
			at += out;
	}
	if (!err->status && bl_fsync(fd, path, err) == BL_OK)
		bl_bench_add(t, start);
	if (fd >= 0)
		close(fd);
	unlink(path);
	bl_free(buf);
	return sum == UINT64_MAX ? BL_FAILED : err->status;
}

static enum bl_status one_export(struct bl_bench_row *r, struct bl_session *s, const char *out, bool zip, struct bl_bench_times *t,
				 struct bl_progress *progress, struct bl_err *err)
{
	struct bl_export_request rq = {.model = s->model, .plan = s->plan, .registry = &s->registry, .target = s->target, .out = out, .overwrite = true,
				       .ignore_rules = true, .pool = s->pool, .progress = progress, .seed = s->seed};
	struct bl_export_result result;
	atomic_store(&progress->phase, 0);
	uint64_t start = bl_now_ns();

	if (bl_export_run(&result, &rq, err))
		return err->status;
	if (t) {
		bl_bench_add(t, start);
		if (!zip)
			t->s[t->n - 1] -= result.seconds_prove;
	}
	r->bytes = result.package_bytes;
	bl_export_result_free(&result);
	if (zip)
		unlink(out);
	else
		bl_remove_tree(out);
	return BL_OK;
}

enum bl_status bl_bench_export(struct bl_bench_row *r, struct bl_session *s, const char *folder, bool zip, int runs, struct bl_progress *progress,
			       struct bl_err *err)
{
	char *out = bl_path_join(folder, zip ? "bench-export.zip" : "bench-export"), *plain = bl_path_join(folder, "bench-plain.bin");
	struct sampler sampler = {.stop = false};

	bl_bench_row_init(r, zip ? "export-zip" : "export-folder", "one thread reads the source, writes as many bytes, fsync");
	r->goal = zip ? 2.0 : 1.3;
	if (bl_plan_preset(s->plan, s->model, "W8A8", err))
		goto done;
	bl_session_edited(s);
	bool sampled = pthread_create(&sampler.thread, NULL, sample, &sampler) == 0;
	for (int i = -1; i < runs && !err->status; i++)
		if (!one_export(r, s, out, zip, i < 0 ? NULL : &r->job, progress, err) && i >= 0)
			plain_loop(s, plain, r->bytes, &r->baseline, progress, err);
	atomic_store(&sampler.stop, true);
	if (sampled)
		pthread_join(sampler.thread, NULL);
	r->anon_bytes = atomic_load(&sampler.peak);
done:
	bl_free(out);
	bl_free(plain);
	return err->status;
}
