/* SPDX-License-Identifier: Apache-2.0
 * Calibration of the real models on the CPU: input ranges against those that transformers saw, Hessians against kept inputs, interrupted against not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/half.h"
#include "core/base/mem.h"
#include "core/calib/private.h"

#define DEMO BL_SOURCE_DIR "/tests/models/tiny-exaone4"
#define GOLDEN BL_SOURCE_DIR "/../shared/golden/"

static char dir[64];
static struct bl_pool *pool;
static struct bl_backend backend;
static struct bl_engine engine;

static int setup(void **state)
{
	struct bl_err err = BL_ERR_INIT;

	(void)state;
	bl_guard_install();
	snprintf(dir, sizeof dir, "/tmp/bl-calib-XXXXXX");
	return mkdtemp(dir) && !bl_engine_open(&engine, &backend, "cpu", pool, 0, &err) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	bl_engine_close(&engine);
	bl_remove_tree(dir);
	return 0;
}

#define OK(call)                                    \
	do {                                        \
		struct bl_err e_ = BL_ERR_INIT;     \
		struct bl_err *err = &e_;           \
		if (call)                           \
			fail_msg("%s", e_.text);    \
	} while (0)

/* Every member of a unit sees the unit's input. */
static double against(const struct bl_calib *c, const struct bl_model *m, const struct bl_st *golden)
{
	double worst = 0;

	for (int u = 0; u < m->n_units; u++)
		for (int i = 0; i < m->units[u].n_members; i++) {
			const struct bl_input_stats *s = bl_calib_stats(c, u);
			const struct bl_tensor *t;
			char name[256];
			double rms = 0, most = 0;
			float want;

			snprintf(name, sizeof name, "input_absmax.%s", m->units[u].members[i].name);
			t = bl_st_find(golden, name);
			assert_non_null(t);
			assert_int_equal(t->n_elems, s->cols);
			for (int64_t k = 0; k < s->cols; k++) {
				memcpy(&want, (const char *)t->data + 4 * k, 4);
				rms += (double)want * (double)want;
				most = fabs((double)want - (double)s->channel_absmax[k]) > most ? fabs((double)want - (double)s->channel_absmax[k]) : most;
			}
			rms = sqrt(rms / (double)s->cols);
			worst = most / rms > worst ? most / rms : worst;
		}
	return worst;
}

static void ranges_of(const char *name, bool outliers, double limit)
{
	char path[512], folder[512];
	struct bl_st golden;
	struct bl_model *m;
	struct bl_forward *f;
	struct bl_calib *c;
	const struct bl_tensor *ids;
	struct bl_calib_data d;
	struct bl_calib_options o = { .fp32 = true, .device = "cpu" };
	struct bl_forward_options fo = { .fp32 = true };
	int32_t *copy;

	snprintf(path, sizeof path, GOLDEN "%s/forward.safetensors", name);
	snprintf(folder, sizeof folder, BL_SOURCE_DIR "/../shared/models/%s", name);
	if (!bl_is_file(path) || !bl_is_dir(folder)) {
		print_message("skipped: %s is not there\n", path);
		skip();
	}
	OK(bl_st_open(&golden, path, err));
	OK(bl_model_open(&m, folder, err));
	ids = bl_st_find(&golden, "input_ids");
	assert_true(ids && ids->dtype == BL_I32 && ids->rank == 2);
	copy = bl_xalloc((size_t)ids->n_elems, 4);
	memcpy(copy, ids->data, (size_t)ids->n_elems * 4);
	d = (struct bl_calib_data){ copy, ids->shape[0], ids->shape[1], "" };
	OK(bl_forward_new(&f, m, &engine, &fo, err));
	OK(bl_calib_run(&c, f, &d, dir, &o, NULL, NULL, NULL, err));
	assert_true(against(c, m, &golden) < limit);
	assert_false(bl_calib_has_hessians(c));
	if (outliers) { /* this model was given outlier channels */
		int n = 0;

		for (int u = 0; u < m->n_units; u++)
			n += bl_calib_stats(c, u)->n_outlier_channels;
		assert_true(n > 0);
	}
	bl_calib_free(c);
	bl_forward_free(f);
	bl_model_close(m);
	bl_st_close(&golden);
	bl_free(copy);
}

static void ranges_tiny(void **state)
{
	(void)state;
	ranges_of("tiny-exaone4", false, 1e-2); /* its RoPE frequencies had been rounded to bf16 */
}

static void ranges_hybrid(void **state)
{
	(void)state;
	ranges_of("hybrid-exaone4", true, 1e-4);
}

static atomic_int cancel;

static void stop_at(void *ctx, const struct bl_calib_progress *p)
{
	if (p->block == *(int *)ctx)
		atomic_store(&cancel, 1);
}

static void same(const char *a, const char *b, const char *key)
{
	char *x, *y, p[512], q[512], **names;
	size_t n, nx, ny;

	snprintf(p, sizeof p, "%s/calib/%s", a, key);
	OK(bl_list_dir(&names, &n, p, err));
	assert_true(n > 8);
	for (size_t i = 0; i < n; i++) {
		snprintf(p, sizeof p, "%s/calib/%s/%s", a, key, names[i]);
		snprintf(q, sizeof q, "%s/calib/%s/%s", b, key, names[i]);
		OK(bl_read_file(&x, &nx, p, 1u << 30, false, err));
		OK(bl_read_file(&y, &ny, q, 1u << 30, false, err));
		if (nx != ny || memcmp(x, y, nx))
			fail_msg("%s differs", names[i]);
		bl_free(x);
		bl_free(y);
	}
	bl_list_free(names);
}

/* EXAONE-4 puts no norm before its projections: what flows into qkv is the block's input. */
static void hessian_is_of_inputs(const struct bl_calib *c, const struct bl_model *m, int block, int64_t tokens)
{
	int64_t k = m->config.hidden;
	double *sums = bl_xalloc((size_t)(k * k), sizeof *sums), trace = 0, worst = 0;
	const uint16_t *x;
	const float *h;

	OK(bl_calib_block_input(c, block, &x, err));
	OK(bl_calib_hessian(c, 4 * block, &h, err));
	for (int64_t t = 0; t < tokens; t++)
		for (int64_t i = 0; i < k; i++)
			for (int64_t j = 0; j <= i; j++)
				sums[i * k + j] += (double)bl_bf16_f32(x[t * k + i]) * (double)bl_bf16_f32(x[t * k + j]);
	for (int64_t i = 0; i < k; i++)
		trace += sums[i * k + i];
	for (int64_t i = 0; i < k; i++)
		for (int64_t j = 0; j < k; j++) {
			double scale = sqrt(sums[i * k + i] * sums[j * k + j]) + 1e-9 * trace, e = fabs((double)h[i * k + j] - sums[i * k + j]) / scale;

			if (j > i)
				assert_true(h[i * k + j] == 0);
			else if (e > worst)
				worst = e;
		}
	assert_true(worst < 1e-5);
	bl_free(sums);
}

static bool seen_scratch;

static void look_for_scratch(void *ctx, const struct bl_calib_progress *p)
{
	struct bl_err err = BL_ERR_INIT;
	char *maps = NULL;

	(void)ctx;
	(void)p;
	if (bl_read_file(&maps, NULL, "/proc/self/maps", 64u << 20, true, &err) == BL_OK)
		seen_scratch |= strstr(maps, ".scratch.bl-") != NULL;
	bl_free(maps);
}

/* A bound on host memory under which hidden states go to a file: the same bytes, and nothing stays behind. */
static void bounded(void **state)
{
	enum { N = 40, LEN = 64 };
	static int32_t ids[N * LEN];
	struct bl_calib_data d = { ids, N, LEN, "" };
	struct bl_calib_options o = { .hessians = true, .keep_windows = 2, .device = "cpu" };
	struct bl_forward_options fo = { .batch_tokens = LEN };
	uint64_t least, best, copies, ram;
	struct bl_err too_little = BL_ERR_INIT;
	struct bl_calib_bounds b;
	struct bl_calib *c = NULL;
	struct bl_forward *f;
	struct bl_model *m;
	char whole[128], part[128], key[65];

	(void)state;
	for (int i = 0; i < N * LEN; i++)
		ids[i] = 10 + (i * 7919) % 3000;
	snprintf(whole, sizeof whole, "%s/unbounded", dir);
	snprintf(part, sizeof part, "%s/bounded", dir);
	OK(bl_model_open(&m, DEMO, err));
	OK(bl_forward_new(&f, m, &engine, &fo, err));
	OK(bl_calib_run(&c, f, &d, whole, &o, look_for_scratch, NULL, NULL, err));
	OK(bl_calib_settle(c, err));
	bl_calib_free(c);
	bl_forward_free(f);
	assert_false(seen_scratch);
	bl_calib_key(key, m, &d, &o);
	bl_calib_need(m, &o, &least, &best, &copies);
	assert_int_equal(bl_calib_bound(&b, m, &o, false, 0, copies, &too_little), BL_NO_MEMORY);
	fo.spill_dir = dir;
	fo.weight_bytes = 1;
	c = NULL;
	for (ram = copies + least; !c; ram += 64 << 10) { /* the least that is enough */
		struct bl_err short_of = BL_ERR_INIT;

		OK(bl_calib_bound(&b, m, &o, false, 0, ram, err));
		assert_int_equal(b.device_bytes, ram - copies);
		fo.host_bytes = b.host_bytes;
		bl_engine_close(&engine);
		OK(bl_engine_open(&engine, &backend, "cpu", pool, b.device_bytes, err));
		if (bl_forward_new(&f, m, &engine, &fo, &short_of) == BL_OK) {
			bl_calib_run(&c, f, &d, part, &o, look_for_scratch, NULL, NULL, &short_of);
			bl_forward_free(f);
		}
		assert_true(c || short_of.status == BL_NO_MEMORY);
	}
	OK(bl_calib_settle(c, err));
	bl_calib_free(c);
	assert_true(seen_scratch);
	same(whole, part, key);
	bl_model_close(m);
}

static void goes_on(void **state)
{
	enum { N = 5, LEN = 64 };
	static int32_t ids[N * LEN];
	struct bl_calib_data d = { ids, N, LEN, "" };
	struct bl_calib_options o = { .hessians = true, .keep_windows = N, .device = "cpu", .cancel = &cancel };
	struct bl_forward_options fo = { .batch_tokens = 2 * LEN };
	struct bl_forward *f;
	struct bl_model *m;
	struct bl_calib *c, *none = NULL;
	char whole[128], part[128], key[65];

	(void)state;
	for (int i = 0; i < N * LEN; i++)
		ids[i] = 10 + (i * 7919) % 3000;
	snprintf(whole, sizeof whole, "%s/whole", dir);
	snprintf(part, sizeof part, "%s/part", dir);
	OK(bl_model_open(&m, DEMO, err));
	OK(bl_forward_new(&f, m, &engine, &fo, err));
	OK(bl_calib_run(&c, f, &d, whole, &o, NULL, NULL, NULL, err));
	hessian_is_of_inputs(c, m, 0, N * LEN);
	hessian_is_of_inputs(c, m, 5, N * LEN);
	OK(bl_calib_settle(c, err));
	bl_calib_free(c);
	bl_calib_key(key, m, &d, &o);
	for (int b = 2; b < m->config.layers; b += 3) {
		struct bl_err why = BL_ERR_INIT;

		assert_int_equal(bl_calib_run(&none, f, &d, part, &o, stop_at, NULL, &b, &why), BL_CANCELLED);
		atomic_store(&cancel, 0);
	}
	OK(bl_calib_run(&c, f, &d, part, &o, NULL, NULL, NULL, err));
	OK(bl_calib_settle(c, err));
	bl_calib_free(c);
	same(whole, part, key);
	bl_forward_free(f);
	/* another process, with other ideas about batches, reads the same and has nothing to do */
	fo.batch_tokens = LEN;
	OK(bl_forward_new(&f, m, &engine, &fo, err));
	OK(bl_calib_run(&c, f, &d, part, &o, NULL, NULL, NULL, err));
	assert_true(bl_calib_seconds(c).hessian == 0);
	bl_calib_free(c);
	same(whole, part, key);
	bl_forward_free(f);
	bl_model_close(m);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = { T(ranges_tiny), T(ranges_hybrid), T(bounded), T(goes_on) };
	int bad;

	pool = bl_pool_new(2);
	bad = cmocka_run_group_tests(tests, NULL, NULL);
	bl_pool_free(pool);
	return bad;
}
