/* SPDX-License-Identifier: Apache-2.0
 * Methods that weigh the base model's inputs against the quantized model's, on a unit of the bundled model with synthetic inputs: without a difference GPTAQ is
 * GPTQ to the byte; with one both come nearer to the base's outputs; Qronos' first column is its best beside all others, and with fine steps the rest is the
 * least squares solution. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "core/base/rng.h"
#include "core/plugin/method_run.h"
#include "core/solve/solve.h"

enum { K = 256, TOKENS = 1024 };

struct fixture {
	struct bl_model *m;
	struct bl_backend backend;
	struct bl_pool *pool;
	struct bl_engine e;
	struct bl_registry r;
	float *h, *g, *xx; /* sum y y^T, x y^T, x x^T */
	void *cross;       /* g, in the engine's memory */
};

static void make_moments(struct fixture *f)
{
	float *x = bl_xalloc(TOKENS * K, sizeof *x), *y = bl_xalloc(TOKENS * K, sizeof *y);
	struct bl_rng rng;

	bl_rng_seed(&rng, 7);
	for (int t = 0; t < TOKENS; t++) {
		const double common = bl_rng_normal(&rng), noise = 0.1 * bl_rng_normal(&rng);

		for (int k = 0; k < K; k++) {
			x[t * K + k] = (float)((common * (k % 3) + bl_rng_normal(&rng)) * (k % 41 == 5 ? 10 : 1));
			y[t * K + k] = (float)(0.97 * x[t * K + k] + noise * (k % 5) + 0.1 * bl_rng_normal(&rng));
		}
	}
	for (int i = 0; i < K; i++)
		for (int j = 0; j < K; j++)
			for (int t = 0; t < TOKENS; t++) {
				f->h[i * K + j] += y[t * K + i] * y[t * K + j];
				f->g[i * K + j] += x[t * K + i] * y[t * K + j];
				f->xx[i * K + j] += x[t * K + i] * x[t * K + j];
			}
	bl_free(x);
	bl_free(y);
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	const char *device = getenv("BL_TEST_DEVICE"), *beside = getenv("BL_BUILD_DIR"); /* where the module and the plugins are */
	struct bl_err err = BL_ERR_INIT;

	if (bl_model_open(&f->m, BL_SOURCE_DIR "/tests/models/tiny-exaone4", &err))
		fail_msg("%s", err.text);
	bl_backend_open(&f->backend, beside ? beside : BL_BUILD_DIR);
	f->pool = bl_pool_new(2);
	if (bl_engine_open(&f->e, &f->backend, device ? device : "cpu", f->pool, 0, &err))
		fail_msg("%s", err.text);
	bl_registry_open(&f->r, beside ? beside : BL_BUILD_DIR);
	f->h = bl_xalloc(K * K, sizeof *f->h);
	f->g = bl_xalloc(K * K, sizeof *f->g);
	f->xx = bl_xalloc(K * K, sizeof *f->xx);
	make_moments(f);
	assert_int_equal(bl_engine_alloc(&f->e, &f->cross, K * K * 4, "cross moments", &err), BL_OK);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	bl_engine_release(&f->e, f->cross);
	bl_registry_close(&f->r);
	bl_engine_close(&f->e);
	bl_pool_free(f->pool);
	bl_backend_close(&f->backend);
	bl_model_close(f->m);
	bl_free(f->h);
	bl_free(f->g);
	bl_free(f->xx);
	free(f);
	return 0;
}

static struct bl_solved *solve(struct fixture *f, const char *scheme, const char *method, const char *params, const float *cross)
{
	struct bl_solve_request rq = { .registry = &f->r, .model = f->m, .unit = 0, .method = method, .params = params, .h = f->h, .cross_device = f->cross, .tokens = TOKENS };
	struct bl_err err = BL_ERR_INIT;
	struct bl_solved *s = NULL;

	assert_int_equal(bl_scheme_parse(&rq.scheme, scheme, &err), BL_OK);
	assert_int_equal(f->e.ops->put(f->e.run, f->cross, cross, K * K * 4), 0);
	if (!strcmp(method, "gptq"))
		rq.cross_device = NULL;
	if (bl_solve_unit(&s, &f->e, &rq, &err))
		fail_msg("%s", err.text);
	assert_string_equal(s->report, "");
	return s;
}

static void weights_of(const struct fixture *f, int64_t row, double w[K])
{
	const struct bl_unit *u = &f->m->units[0];
	int m = 0;

	for (; row >= u->members[m].rows; m++)
		row -= u->members[m].rows;
	for (int k = 0; k < K; k++) {
		const uint32_t bits = (uint32_t)((const uint16_t *)u->members[m].weight->data)[row * K + k] << 16;
		float v;

		memcpy(&v, &bits, 4);
		w[k] = v;
	}
}

static double scale_of(const struct bl_solved *s, int64_t row, int k)
{
	const int64_t group = s->group_of ? s->group_of[k] : k / (K / s->spr);

	return s->scales[row * s->spr + group];
}

/* |Q y - W x|^2 of some rows, over |W x|^2 */
static double error_of(const struct fixture *f, const struct bl_solved *s)
{
	double error = 0, all = 0;

	for (int64_t row = 0; row < s->rows; row += 7) {
		double w[K], q[K];

		weights_of(f, row, w);
		for (int k = 0; k < K; k++)
			q[k] = s->codes[row * K + k] * scale_of(s, row, k);
		for (int i = 0; i < K; i++)
			for (int j = 0; j < K; j++) {
				error += q[i] * f->h[i * K + j] * q[j] - 2 * w[i] * f->g[i * K + j] * q[j] + w[i] * f->xx[i * K + j] * w[j];
				all += w[i] * f->xx[i * K + j] * w[j];
			}
	}
	return error / all;
}

static void same(const struct bl_solved *a, const struct bl_solved *b)
{
	assert_memory_equal(a->codes, b->codes, (size_t)(a->rows * a->cols));
	assert_memory_equal(a->scales, b->scales, (size_t)(a->rows * a->spr) * sizeof(float));
}

static const char *const schemes[] = { "W4A16", "W3A16_channel", "W4A16_actorder" };
#define SCHEMES ((int)(sizeof schemes / sizeof schemes[0]))

static void without_a_difference_gptaq_is_gptq(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < SCHEMES; i++) {
		struct bl_solved *a = solve(f, schemes[i], "gptq", "", f->h), *b = solve(f, schemes[i], "gptaq", "alpha=1", f->h), *c = solve(f, schemes[i], "gptaq", "alpha=0", f->g);

		same(a, b);
		same(a, c);
		bl_solved_free(a);
		bl_solved_free(b);
		bl_solved_free(c);
	}
}

/* Nothing made up for, and the same damping, said in parts of the largest eigenvalue and of the mean of the diagonal: GPTQ, but for ties. */
static void with_nothing_made_up_for_qronos_is_gptq(void **state)
{
	struct fixture *f = *state;
	double x[K], y[K], mean = 0, size = 1;
	char params[64];

	for (int k = 0; k < K; k++) {
		x[k] = 1 / 16.0;
		mean += (double)f->h[k * K + k] / K;
	}
	for (int i = 0; i < 30; i++) {
		size = 0;
		for (int k = 0; k < K; k++) {
			y[k] = 0;
			for (int j = 0; j < K; j++)
				y[k] += f->h[k * K + j] * x[j];
			size += y[k] * y[k];
		}
		size = sqrt(size);
		for (int k = 0; k < K; k++)
			x[k] = y[k] / size;
	}
	snprintf(params, sizeof params, "alpha=0,dampening_frac=%.9g", 0.01 * mean / size);
	for (int i = 0; i < SCHEMES; i++) {
		struct bl_solved *a = solve(f, schemes[i], "gptq", "", f->h), *b = solve(f, schemes[i], "qronos", params, f->g);
		int64_t other = 0;

		for (int64_t k = 0; k < a->rows * a->cols; k++)
			other += a->codes[k] != b->codes[k];
		assert_true(other < a->rows * a->cols / 200);
		bl_solved_free(a);
		bl_solved_free(b);
	}
}

/* Each step nearer to what the base model's unit gives; sweeps and refits go on in the same direction. */
static void nearer_to_the_base(void **state)
{
	static const struct { const char *method, *params; } steps[] = { { "gptq", "" }, { "gptaq", "alpha=0.5" }, { "qronos", "" }, { "qronos", "rounds=2" } };
	struct fixture *f = *state;

	for (int i = 0; i < SCHEMES; i++) {
		double last = INFINITY;

		for (size_t k = 0; k < sizeof steps / sizeof steps[0]; k++) {
			struct bl_solved *s = solve(f, schemes[i], steps[k].method, steps[k].params, f->g);
			const double e = error_of(f, s);

			assert_true(e > 0 && e < last);
			last = e;
			bl_solved_free(s);
		}
		struct bl_solved *a = solve(f, schemes[i], "gptaq", "alpha=1", f->g), *b = solve(f, schemes[i], "gptaq", "alpha=1,rounds=2", f->g);

		assert_true(error_of(f, b) < error_of(f, a));
		bl_solved_free(a);
		bl_solved_free(b);
	}
}

/* The first column is that with the most energy: w + sum_j w_j (g - h)[j,0] / h[0,0], rounded. */
static void the_first_column_of_qronos(void **state)
{
	struct fixture *f = *state;
	struct bl_solved *s = solve(f, "W8A16_channel", "qronos", "", f->g);
	int first = 0;

	for (int k = 1; k < K; k++)
		first = f->h[k * K + k] > f->h[first * K + first] ? k : first;
	for (int64_t row = 0; row < s->rows; row++) {
		double w[K], best;

		weights_of(f, row, w);
		best = w[first];
		for (int j = 0; j < K; j++)
			best += w[j] * ((double)f->g[j * K + first] - f->h[j * K + first]) / f->h[first * K + first];
		best = fmax(-128, fmin(127, best / s->scales[row]));
		assert_true(fabs(s->codes[row * K + first] - best) < 0.51);
	}
	bl_solved_free(s);
}

/* What no weights can do better, by a Cholesky factor in double: all rows' sum w (xx - g h^-1 g^T) w^T, over |W x|^2. */
static double least_error(const struct fixture *f)
{
	static double l[K][K], z[K][K];
	double error = 0, all = 0;

	for (int j = 0; j < K; j++)
		for (int i = j; i < K; i++) {
			double v = f->h[i * K + j];

			for (int k = 0; k < j; k++)
				v -= l[i][k] * l[j][k];
			l[i][j] = i == j ? sqrt(v) : v / l[j][j];
		}
	for (int n = 0; n < K; n++) /* row n of g L^-T */
		for (int j = 0; j < K; j++) {
			double v = f->g[n * K + j];

			for (int k = 0; k < j; k++)
				v -= z[n][k] * l[j][k];
			z[n][j] = v / l[j][j];
		}
	for (int64_t row = 0; row < f->m->units[0].rows; row += 7) {
		double w[K];

		weights_of(f, row, w);
		for (int k = 0; k < K; k++) {
			double v = 0;

			for (int i = 0; i < K; i++)
				v += w[i] * z[i][k];
			error -= v * v;
			for (int i = 0; i < K; i++)
				all += w[i] * f->xx[i * K + k] * w[k];
		}
	}
	return (error + all) / all;
}

static void with_fine_steps_qronos_is_least_squares(void **state)
{
	struct fixture *f = *state;
	struct bl_solved *fine = solve(f, "W8A16_g128", "qronos", "", f->g), *plain = solve(f, "W8A16_g128", "gptq", "", f->g);
	const double least = least_error(f), qronos = error_of(f, fine), gptq = error_of(f, plain);

	assert_true(least > 0 && qronos >= least && gptq > least);
	assert_true(qronos - least < 0.05 * (gptq - least));
	bl_solved_free(fine);
	bl_solved_free(plain);
}

/* Data that leave most directions open: the weights that do best on them are far away, and Qronos says that it does not go there. */
static void few_data_keep_qronos_near(void **state)
{
	enum { FEW = 60 };
	struct fixture *f = *state;
	struct bl_solve_request rq = { .registry = &f->r, .model = f->m, .unit = 0, .method = "qronos", .params = "", .cross_device = f->cross, .tokens = FEW };
	struct bl_err err = BL_ERR_INIT;
	float *h = bl_xalloc(K * K, sizeof *h), *g = bl_xalloc(K * K, sizeof *g), x[K], y[K];
	struct bl_solved *s = NULL;
	struct bl_rng rng;
	double w[K], away = 0, all = 0;

	bl_rng_seed(&rng, 5);
	for (int t = 0; t < FEW; t++) {
		for (int k = 0; k < K; k++) {
			const double v = bl_rng_normal(&rng);

			x[k] = (float)v;
			y[k] = (float)((t < 3 * FEW / 4 ? v : 0.01 * v) + (t < 3 * FEW / 4 ? 0 : 0.002 * bl_rng_normal(&rng))); /* some inputs are nearly lost */
		}
		for (int i = 0; i < K; i++)
			for (int j = 0; j < K; j++) {
				h[i * K + j] += y[i] * y[j];
				g[i * K + j] += x[i] * y[j];
			}
	}
	rq.h = h;
	assert_int_equal(f->e.ops->put(f->e.run, f->cross, g, K * K * 4), 0);
	assert_int_equal(bl_scheme_parse(&rq.scheme, "W8A16_channel", &err), BL_OK);
	assert_int_equal(bl_solve_unit(&s, &f->e, &rq, &err), BL_OK);
	assert_non_null(strstr(s->report, "damping raised"));
	for (int64_t row = 0; row < s->rows; row += 5) {
		weights_of(f, row, w);
		for (int k = 0; k < K; k++) {
			const double q = s->codes[row * K + k] * scale_of(s, row, k);

			away += (q - w[k]) * (q - w[k]);
			all += w[k] * w[k];
		}
	}
	assert_true(away < all);
	bl_solved_free(s);
	bl_free(h);
	bl_free(g);
}

static void threads_change_nothing(void **state)
{
	static const char *const methods[] = { "gptaq", "qronos" };
	struct fixture *f = *state;
	struct bl_pool *one = bl_pool_new(1), *two = f->pool;

	for (int i = 0; i < 2; i++) {
		struct bl_solved *a = solve(f, "W4A16", methods[i], "rounds=1", f->g), *b;

		f->e.pool = one;
		b = solve(f, "W4A16", methods[i], "rounds=1", f->g);
		f->e.pool = two;
		same(a, b);
		bl_solved_free(a);
		bl_solved_free(b);
	}
	bl_pool_free(one);
}

/* A Hessian of rank 1 is damped until it has a factor, an indefinite one is told to have none; without the base's inputs nothing is solved. */
static void what_is_no_good(void **state)
{
	struct fixture *f = *state;
	struct bl_solve_request rq = { .registry = &f->r, .model = f->m, .unit = 0, .params = "", .cross_device = f->cross, .tokens = TOKENS };
	struct bl_err err = BL_ERR_INIT;
	float *h = bl_xalloc(K * K, sizeof *h);

	assert_int_equal(bl_scheme_parse(&rq.scheme, "W4A16", &err), BL_OK);
	rq.h = h;
	for (int i = 0; i < 2; i++) {
		struct bl_solved *s = NULL;

		rq.method = i ? "qronos" : "gptaq";
		for (int k = 0; k < K * K; k++)
			h[k] = (float)((k / K % 7 + 1) * (k % K % 7 + 1));
		assert_int_equal(f->e.ops->put(f->e.run, f->cross, h, K * K * 4), 0);
		assert_int_equal(bl_solve_unit(&s, &f->e, &rq, &err), BL_OK);
		assert_true(isfinite(s->rel));
		bl_solved_free(s);
		h[1 * K + 0] = 1e9f;
		assert_int_equal(bl_solve_unit(&s, &f->e, &rq, &err), BL_OK);
		assert_non_null(strstr(s->report, "rounded plainly"));
		bl_solved_free(s);
		memset(h, 0, K * K * sizeof *h);
		assert_int_equal(f->e.ops->put(f->e.run, f->cross, h, K * K * 4), 0);
		assert_int_equal(bl_solve_unit(&s, &f->e, &rq, &err), BL_OK);
		bl_solved_free(s);
		rq.cross_device = NULL;
		assert_int_equal(bl_solve_unit(&s, &f->e, &rq, &err), BL_INVALID);
		assert_non_null(strstr(err.text, "base model's inputs"));
		bl_err_clear(&err);
		rq.cross_device = f->cross;
	}
	bl_free(h);
}

/* What is said to be needed is enough, by the engine's own count. */
static void what_it_takes(void **state)
{
	static const struct { const char *method, *params; } rows[] = { { "gptaq", "" }, { "gptaq", "rounds=1" }, { "qronos", "" }, { "qronos", "rounds=1" } };
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct bl_solve_request rq = { .registry = &f->r, .model = f->m, .unit = 0, .method = rows[i].method, .params = rows[i].params, .h = f->h, .tokens = TOKENS };
		struct bl_err err = BL_ERR_INIT;
		struct bl_solved *s = NULL;
		uint64_t waiting, working;
		struct bl_engine e;

		assert_int_equal(bl_scheme_parse(&rq.scheme, "W4A16", &err), BL_OK);
		bl_solve_need(&f->m->units[0], &rq.scheme, *rows[i].params != 0, true, &waiting, &working);
		working -= 15u << 20; /* nearly all that is added for small things, and what normal equations may take, which they do not here */
		working -= *rows[i].params ? 256u << 20 : 0;
		assert_int_equal(bl_engine_open(&e, &f->backend, "cpu", f->pool, working + K * K * 4, &err), BL_OK);
		assert_int_equal(bl_engine_alloc(&e, &rq.cross_device, K * K * 4, "cross moments", &err), BL_OK);
		assert_int_equal(e.ops->put(e.run, rq.cross_device, f->g, K * K * 4), 0);
		if (bl_solve_unit(&s, &e, &rq, &err))
			fail_msg("%s %s: %s", rows[i].method, rows[i].params, err.text);
		bl_solved_free(s);
		bl_engine_release(&e, rq.cross_device);
		bl_engine_close(&e);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_a_difference_gptaq_is_gptq), cmocka_unit_test(with_nothing_made_up_for_qronos_is_gptq),
		cmocka_unit_test(nearer_to_the_base),     cmocka_unit_test(the_first_column_of_qronos),
		cmocka_unit_test(with_fine_steps_qronos_is_least_squares), cmocka_unit_test(few_data_keep_qronos_near),
		cmocka_unit_test(threads_change_nothing), cmocka_unit_test(what_is_no_good), cmocka_unit_test(what_it_takes),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
