/* SPDX-License-Identifier: Apache-2.0
 * Weight statistics against plain double sums over every element: the three types, units of several members, NaN and Inf, constant and empty
 * rows, odd shapes; the same digits from any number of threads; cancel, exhausted memory, a file that shrinks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/backend/backend.h"
#include "core/base/file.h"
#include "core/base/half.h"
#include "core/base/mem.h"
#include "core/stats/weight_stats.h"

struct fake { /* a model of one unit */
	struct bl_model model;
	struct bl_unit unit;
	struct bl_tensor tensors[3];
	char *bytes[3];
	float *values[3]; /* what the bytes mean */
};

static char *const names[3] = { (char *)"blk.q.weight", (char *)"blk.k.weight", (char *)"blk.v.weight" };

static float as_stored(enum bl_dtype d, float x)
{
	return d == BL_F32 ? x : d == BL_BF16 ? bl_round_bf16(x) : bl_f16_f32(bl_f32_f16(x));
}

static void add_member(struct fake *f, enum bl_dtype d, int64_t rows, int64_t cols, const float *w)
{
	int i = f->unit.n_members++;
	size_t n = (size_t)(rows * cols), size = d == BL_F32 ? 4 : 2;
	char *p;

	f->bytes[i] = malloc(n * size + 1);
	f->values[i] = malloc(n * sizeof(float) + 4);
	p = f->bytes[i] + 1; /* an odd address: files promise no alignment */
	for (size_t k = 0; k < n; k++) {
		uint16_t h = d == BL_BF16 ? bl_f32_bf16(w[k]) : bl_f32_f16(w[k]);

		f->values[i][k] = as_stored(d, w[k]);
		memcpy(p + size * k, d == BL_F32 ? (const void *)&w[k] : (const void *)&h, size);
	}
	f->tensors[i] = (struct bl_tensor){ .name = names[i], .dtype = d, .rank = 2, .shape = { rows, cols }, .n_elems = (int64_t)n, .data = p };
	f->unit.members[i] = (struct bl_member){ .name = names[i], .weight = &f->tensors[i], .rows = rows, .cols = cols };
	f->unit.rows += rows;
	f->unit.cols = cols;
	f->unit.dtype = d;
	f->model.units = &f->unit;
	f->model.n_units = 1;
}

static void drop(struct fake *f)
{
	for (int i = 0; i < f->unit.n_members; i++) {
		free(f->bytes[i]);
		free(f->values[i]);
	}
}

static void near(const char *what, double got, double want, double rel)
{
	if (!(fabs(got - want) <= rel * fabs(want) + 1e-300))
		fail_msg("%s is %.17g instead of %.17g", what, got, want);
}

/* Everything again, element by element. */
static void compare(const struct fake *f, const struct bl_weight_stats *s)
{
	double n = 0, sum = 0, sum2 = 0, m2 = 0, m4 = 0, lo = INFINITY, hi = -INFINITY, beyond = 0;
	uint64_t odd = 0, all = 0, hist[BL_STATS_BINS] = { 0 };
	float *row = calloc((size_t)f->unit.rows + 1, 4), *col = calloc((size_t)f->unit.cols + 1, 4);
	int64_t at = 0;

	for (int pass = 0; pass < 2; pass++, at = 0)
		for (int i = 0; i < f->unit.n_members; i++)
			for (int64_t r = 0; r < f->unit.members[i].rows; r++, at++)
				for (int64_t c = 0; c < f->unit.cols; c++) {
					double x = f->values[i][r * f->unit.cols + c], d = x - (pass ? s->mean : 0);
					double absmax = fmax(-lo, hi);
					int bin;

					if (pass == 0) {
						all++;
						odd += !isfinite(x);
					}
					if (!isfinite(x))
						continue;
					if (pass == 0) {
						n++;
						sum += x;
						sum2 += x * x;
						lo = fmin(lo, x);
						hi = fmax(hi, x);
						row[at] = fmaxf(row[at], fabsf((float)x));
						col[c] = fmaxf(col[c], fabsf((float)x));
						continue;
					}
					m2 += d * d;
					m4 += d * d * d * d;
					beyond += fabs(x) > 6 * s->rms;
					bin = absmax > 0 ? (int)floor((x / absmax + 1) / 2 * BL_STATS_BINS) : BL_STATS_BINS / 2;
					if (x < 0 && bin == BL_STATS_BINS / 2)
						bin--; /* so near to zero that 1 swallowed it */
					hist[bin >= BL_STATS_BINS ? BL_STATS_BINS - 1 : bin]++;
				}
	assert_int_equal(s->n_elems, all);
	assert_int_equal(s->n_nonfinite, odd);
	assert_int_equal(s->rows, f->unit.rows);
	assert_int_equal(s->cols, f->unit.cols);
	if (n == 0) {
		lo = hi = 0;
		n = 1;
	}
	assert_true(s->min == (float)lo && s->max == (float)hi && s->absmax == (float)fmax(-lo, hi));
	if (fabs(s->mean - sum / n) > 1e-7 * sqrt(sum2 / n) + 1e-300)
		fail_msg("mean is %.17g instead of %.17g", s->mean, sum / n);
	near("rms", s->rms, sqrt(sum2 / n), 2e-7);
	near("kurtosis", s->kurtosis, m2 > 0 ? m4 / n / (m2 / n * (m2 / n)) : 0, 1e-6);
	near("outlier share", s->outlier_share, beyond / n, 1e-15);
	assert_memory_equal(s->row_absmax, row, (size_t)f->unit.rows * 4);
	assert_memory_equal(s->col_absmax, col, (size_t)f->unit.cols * 4);
	assert_memory_equal(s->histogram, hist, sizeof(hist));
	free(row);
	free(col);
}

static struct bl_weight_stats *run(const struct fake *f, int threads)
{
	struct bl_pool *pool = bl_pool_new(threads);
	struct bl_weight_stats *s = NULL;
	struct bl_err err = BL_ERR_INIT;

	if (bl_weight_stats_run(&s, &f->model, 0, pool, NULL, &err) != BL_OK)
		fail_msg("%s", err.text);
	bl_pool_free(pool);
	return s;
}

static float *gaussian(int64_t n, uint64_t seed, double size)
{
	float *w = malloc((size_t)n * sizeof(*w));
	uint64_t z = seed;

	for (int64_t i = 0; i < n; i++) {
		double u[2];

		for (int k = 0; k < 2; k++) {
			z = z * 6364136223846793005u + 1442695040888963407u;
			u[k] = ((double)(z >> 33) + 0.5) / 2147483648.0;
		}
		w[i] = (float)(size * sqrt(-2 * log(u[0])) * cos(6.283185307179586 * u[1]) + size / 10);
		if (i % 5003 == 1)
			w[i] *= 40;
	}
	return w;
}

static const enum bl_dtype types[3] = { BL_BF16, BL_F16, BL_F32 };

static void equals_plain_sums(void **state)
{
	static const int64_t shapes[][2] = { { 1, 1 }, { 3, 5 }, { 64, 255 }, { 300, 1024 }, { 1000, 1 }, { 2, 300001 } };

	(void)state;
	for (int t = 0; t < 3; t++)
		for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
			struct fake f = { 0 };
			float *w = gaussian(shapes[i][0] * shapes[i][1], i + 1, 0.02);
			struct bl_weight_stats *s;

			add_member(&f, types[t], shapes[i][0], shapes[i][1], w);
			s = run(&f, 3);
			compare(&f, s);
			assert_int_equal(s->n_first, 0);
			bl_weight_stats_free(s);
			drop(&f);
			free(w);
		}
}

static void fused_and_mixed(void **state)
{
	static const enum bl_dtype sets[][3] = { { BL_BF16, BL_BF16, BL_BF16 }, { BL_F16, BL_F16, BL_F16 }, { BL_F32, BL_F32, BL_F32 },
						 { BL_BF16, BL_F16, BL_F32 } };
	float *w = gaussian(500 * 640, 9, 0.1);

	(void)state;
	for (int k = 0; k < 4; k++) {
		struct fake f = { 0 };
		struct bl_weight_stats *s;
		float sorted[640], median;

		add_member(&f, sets[k][0], 500, 640, w);
		add_member(&f, sets[k][1], 33, 640, w + 1000);
		add_member(&f, sets[k][2], 100, 640, w + 99);
		s = run(&f, 2);
		compare(&f, s);
		for (int i = 0; i < 633; i++) {
			int j = i;

			for (; j > 0 && sorted[j - 1] > s->row_absmax[i]; j--)
				sorted[j] = sorted[j - 1];
			sorted[j] = s->row_absmax[i];
		}
		median = sorted[316];
		assert_true(s->channel.min == sorted[0] && s->channel.median == median && s->channel.max == sorted[632]);
		bl_weight_stats_free(s);
		drop(&f);
	}
	free(w);
}

static void same_digits_from_any_threads(void **state)
{
	float *w = gaussian(2000 * 700, 4, 0.03);

	(void)state;
	for (int t = 0; t < 3; t++) {
		struct fake f = { 0 };
		struct bl_weight_stats *one, *many;

		add_member(&f, types[t], 2000, 700, w);
		one = run(&f, 1);
		for (int threads = 2; threads <= 9; threads += 7) {
			many = run(&f, threads);
			assert_true(memcmp(&one->mean, &many->mean, sizeof(double)) == 0);
			assert_true(memcmp(&one->rms, &many->rms, sizeof(double)) == 0);
			assert_true(memcmp(&one->kurtosis, &many->kurtosis, sizeof(double)) == 0);
			assert_memory_equal(one->histogram, many->histogram, sizeof(one->histogram));
			assert_memory_equal(one->row_absmax, many->row_absmax, 2000 * 4);
			assert_memory_equal(one->col_absmax, many->col_absmax, 700 * 4);
			bl_weight_stats_free(many);
		}
		bl_weight_stats_free(one);
		drop(&f);
	}
	free(w);
}

static void nonfinite_elements(void **state)
{
	enum { ROWS = 700, COLS = 500 }; /* two tiles */
	static const int64_t where[10][2] = { { 0, 3 },   { 0, 499 }, { 5, 0 },   { 5, 1 },   { 5, 2 },
					      { 699, 0 }, { 699, 1 }, { 699, 2 }, { 699, 3 }, { 699, 4 } };

	(void)state;
	for (int t = 0; t < 3; t++) {
		struct fake f = { 0 };
		float *w = gaussian(ROWS * COLS, 2, 1);
		struct bl_weight_stats *s;

		add_member(&f, types[t], 4, COLS, w);
		for (int i = 0; i < 10; i++)
			w[where[i][0] * COLS + where[i][1]] = i % 3 == 0 ? NAN : i % 3 == 1 ? INFINITY : -INFINITY;
		add_member(&f, types[t], ROWS, COLS, w);
		s = run(&f, 4);
		compare(&f, s);
		assert_int_equal(s->n_nonfinite, 10);
		assert_int_equal(s->n_first, 8);
		for (int i = 0; i < 8; i++) {
			assert_string_equal(s->first_nonfinite[i].tensor, "blk.k.weight");
			assert_int_equal(s->first_nonfinite[i].row, where[i][0]);
			assert_int_equal(s->first_nonfinite[i].col, where[i][1]);
			assert_true(i % 3 == 0 ? isnan(s->first_nonfinite[i].value) : s->first_nonfinite[i].value == (i % 3 == 1 ? INFINITY : -INFINITY));
		}
		bl_weight_stats_free(s);
		drop(&f);
		free(w);
	}
}

static void flat_units(void **state)
{
	enum { N = 40 * 30 };
	static const float constants[] = { 0, -0.0f, 0.3f, -7, NAN, INFINITY };
	float w[N];

	(void)state;
	for (int t = 0; t < 3; t++)
		for (size_t k = 0; k < 6; k++) {
			struct fake f = { 0 };
			struct bl_weight_stats *s;

			for (int i = 0; i < N; i++)
				w[i] = constants[k];
			add_member(&f, types[t], 40, 30, w);
			s = run(&f, 2);
			compare(&f, s);
			assert_true(s->kurtosis == 0);
			if (isfinite(constants[k]))
				assert_true(s->mean == (double)as_stored(types[t], constants[k]) && s->outlier_share == 0);
			else
				assert_true(s->absmax == 0 && s->rms == 0 && s->n_nonfinite == N);
			bl_weight_stats_free(s);
			drop(&f);
		}
}

/* Signs all the same, or all that is large of one sign; and outliers that begin in the middle of the histogram. */
static void one_sided(void **state)
{
	enum { N = 400 * 100 };

	(void)state;
	for (int t = 0; t < 3; t++)
		for (int kind = 0; kind < 5; kind++) {
			struct fake f = { 0 };
			float *w = gaussian(N, 11, 0.02);
			struct bl_weight_stats *s;

			for (int i = 0; i < N; i++) {
				float x = fabsf(w[i]) + 1e-3f;

				w[i] = kind == 0 ? x : kind == 1 ? -x : kind == 2 ? (i % 5 ? x : x / -1000) : kind == 3 ? (i % 5 ? -x : x / 1000) : w[i];
			}
			if (kind == 4) /* absmax is 200 rms and more */
				w[N / 2] = 30;
			if (kind == 4)
				w[N / 2 + 1] = -3;
			add_member(&f, types[t], 400, 100, w);
			s = run(&f, 2);
			compare(&f, s);
			bl_weight_stats_free(s);
			drop(&f);
			free(w);
		}
}

static void outliers_and_extremes(void **state)
{
	enum { N = 100 * 100 };
	static float w[N];
	struct fake f = { 0 };
	struct bl_weight_stats *s;

	(void)state;
	for (int i = 0; i < N; i++)
		w[i] = i % 2 ? 1 : -1;
	w[77] = 100; /* rms about 1.41: only this one is beyond 6 rms */
	add_member(&f, BL_BF16, 100, 100, w);
	s = run(&f, 1);
	near("outlier share", s->outlier_share, 1.0 / N, 1e-12);
	assert_true(s->max == 100 && s->min == -1 && s->channel.max == 100 && s->channel.median == 1 && s->col_absmax[77] == 100);
	assert_int_equal(s->histogram[BL_STATS_BINS - 1], 1);
	bl_weight_stats_free(s);
	drop(&f);
	/* the fourth power of bf16's largest value still fits a double */
	for (int t = 0; t < 3; t += 2) {
		struct fake g = { 0 };

		for (int i = 0; i < N; i++)
			w[i] = (i % 2 ? 1 : -1) * (i % 3 ? 3.3e38f : 1e-40f);
		add_member(&g, types[t], 100, 100, w);
		s = run(&g, 2);
		compare(&g, s);
		assert_true(isfinite(s->kurtosis) && s->kurtosis > 1 && isfinite(s->rms));
		bl_weight_stats_free(s);
		drop(&g);
	}
}

static void stops(void **state)
{
	float *w = gaussian(3000 * 300, 4, 0.03);
	struct bl_pool *pool = bl_pool_new(3);
	struct bl_weight_stats *s = (struct bl_weight_stats *)w;
	struct bl_err err = BL_ERR_INIT;
	atomic_int cancel = 1;

	(void)state;
	for (int t = 0; t < 3; t++) {
		struct fake f = { 0 };

		add_member(&f, types[t], 3000, 300, w);
		bl_err_clear(&err);
		assert_int_equal(bl_weight_stats_run(&s, &f.model, 0, pool, &cancel, &err), BL_CANCELLED);
		assert_ptr_equal(s, w);
		for (uint64_t nth = 1; nth < 20; nth++) {
			struct bl_weight_stats *done = NULL;
			enum bl_status st;

			bl_err_clear(&err);
			bl_mem_fail_at(nth);
			st = bl_weight_stats_run(&done, &f.model, 0, pool, NULL, &err);
			bl_mem_fail_at(0);
			assert_true(st == BL_NO_MEMORY || (st == BL_OK && nth > 5));
			bl_weight_stats_free(done);
		}
		f.tensors[0].dtype = BL_I8;
		bl_err_clear(&err);
		assert_int_equal(bl_weight_stats_run(&s, &f.model, 0, pool, NULL, &err), BL_UNSUPPORTED);
		f.unit.members[0].weight = NULL;
		bl_err_clear(&err);
		assert_int_equal(bl_weight_stats_run(&s, &f.model, 0, pool, NULL, &err), BL_UNSUPPORTED);
		assert_ptr_equal(s, w);
		drop(&f);
	}
	bl_pool_free(pool);
	free(w);
}

struct gathered {
	pthread_mutex_t lock;
	struct bl_weight_stats *s[40];
	int n, refused;
};

static void gather(void *ctx, int unit, struct bl_weight_stats *s, const struct bl_err *why)
{
	struct gathered *g = ctx;

	pthread_mutex_lock(&g->lock);
	g->n++;
	if (why)
		g->refused += s == NULL && strstr(why->text, "blk.q") != NULL && unit == 7;
	else
		g->s[unit] = s;
	pthread_mutex_unlock(&g->lock);
}

static void whole_model(void **state)
{
	enum { UNITS = 40 };
	static struct fake f[UNITS];
	static struct bl_unit units[UNITS];
	struct gathered g = { .lock = PTHREAD_MUTEX_INITIALIZER };
	struct bl_model m = { .units = units, .n_units = UNITS };
	struct bl_pool *pool = bl_pool_new(4);
	struct bl_err err = BL_ERR_INIT;
	float *w = gaussian(900 * 700, 6, 0.05);
	int order[UNITS];
	atomic_int cancel = 0;

	(void)state;
	memset(f, 0, sizeof(f));
	for (int i = 0; i < UNITS; i++) {
		add_member(&f[i], types[i % 3], 1 + 20 * i, 700, w + i);
		units[i] = f[i].unit;
		order[i] = UNITS - 1 - i;
	}
	units[7].members[0].weight = NULL;
	assert_int_equal(bl_weight_stats_each(&m, order, UNITS, pool, gather, &g, &cancel, &err), BL_OK);
	assert_int_equal(g.n, UNITS);
	assert_int_equal(g.refused, 1);
	assert_null(g.s[7]);
	for (int i = 0; i < UNITS; i++) {
		if (i != 7)
			compare(&f[i], g.s[i]);
		bl_weight_stats_free(g.s[i]);
	}
	cancel = 1;
	g.n = 0;
	assert_int_equal(bl_weight_stats_each(&m, order, UNITS, pool, gather, &g, &cancel, &err), BL_CANCELLED);
	assert_int_equal(g.n, 0);
	for (int i = 0; i < UNITS; i++)
		drop(&f[i]);
	bl_pool_free(pool);
	free(w);
}

static void shrinking_file(void **state)
{
	enum { ROWS = 2048, COLS = 1024 };
	char path[] = "/tmp/bl-stats-XXXXXX";
	int fd = mkstemp(path);
	struct bl_map map;
	struct fake f = { 0 };
	struct bl_pool *pool = bl_pool_new(2);
	struct bl_weight_stats *s = NULL;
	struct bl_err err = BL_ERR_INIT;

	(void)state;
	bl_guard_install();
	assert_int_equal(ftruncate(fd, ROWS * COLS * 2), 0);
	assert_int_equal(bl_map_open(&map, path, &err), BL_OK);
	f.tensors[0] = (struct bl_tensor){ .name = names[0], .dtype = BL_BF16, .n_elems = ROWS * COLS, .data = map.data };
	f.unit = (struct bl_unit){ .n_members = 1, .rows = ROWS, .cols = COLS, .dtype = BL_BF16 };
	f.unit.members[0] = (struct bl_member){ .name = names[0], .weight = &f.tensors[0], .rows = ROWS, .cols = COLS };
	f.model = (struct bl_model){ .units = &f.unit, .n_units = 1 };
	assert_int_equal(ftruncate(fd, ROWS * COLS), 0);
	assert_int_equal(bl_weight_stats_run(&s, &f.model, 0, pool, NULL, &err), BL_IO);
	assert_null(s);
	bl_map_close(&map);
	bl_pool_free(pool);
	close(fd);
	unlink(path);
}

/* All of it with both ways of counting. */
static int setup(void **state)
{
	static struct bk_ops ops;

	ops = *bk_ops_cpu();
	ops.lists = *(const int *)*state;
	bl_cpu_ops_use(&ops);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	bl_cpu_ops_use(NULL);
	return 0;
}

#define BOTH(test) cmocka_unit_test_prestate_setup_teardown(test, setup, teardown, &lists)

int main(void)
{
	int failed = 0;

	for (int lists = 0; lists < 2; lists++) {
		const struct CMUnitTest tests[] = {
			BOTH(equals_plain_sums), BOTH(fused_and_mixed), BOTH(same_digits_from_any_threads), BOTH(nonfinite_elements),
			BOTH(flat_units),        BOTH(one_sided),       BOTH(outliers_and_extremes),        BOTH(stops),
			BOTH(whole_model),       BOTH(shrinking_file),
		};

		print_message("%s\n", lists ? "lists" : "counts of all");
		failed += cmocka_run_group_tests(tests, NULL, NULL);
	}
	return failed;
}
