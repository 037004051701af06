/* SPDX-License-Identifier: Apache-2.0
 * Units whose inputs are rounded, in the server's arithmetic and in that of transformers with compressed-tensors: what a unit gives is what loops in double make
 * of what it saw, step by step as either client takes them, and not what they make of it as the other one does. */
#include "support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/half.h"

#define TOKENS 27
#define UNITS  4

static struct machine machine;
static struct bl_model *tiny;

struct seen { float *x[UNITS], *y[UNITS]; int64_t cols[UNITS], rows[UNITS]; bool fp32; };

static void keep(struct seen *s, float **to, const struct bk_mat *m)
{
	const int64_t n = m->rows * m->cols;
	uint16_t *h = bl_xalloc((size_t)n, 4);

	assert_true(m->rows == TOKENS && m->ld == m->cols);
	*to = bl_xalloc((size_t)n, sizeof(float));
	assert_int_equal(machine.engine.ops->get(machine.engine.run, s->fp32 ? (void *)*to : h, m->p, (size_t)n * (s->fp32 ? 4 : 2)), 0);
	for (int64_t i = 0; i < n && !s->fp32; i++)
		(*to)[i] = bl_bf16_f32(h[i]);
	bl_free(h);
}

static enum bl_status see_input(void *ctx, int unit, int64_t first, const struct bk_mat *x, struct bl_err *err)
{
	struct seen *s = ctx;

	assert_true(first == 0 && unit < UNITS);
	s->cols[unit] = x->cols;
	keep(s, &s->x[unit], x);
	return err->status;
}

static enum bl_status see_output(void *ctx, int unit, int64_t first, const struct bk_mat *y, struct bl_err *err)
{
	struct seen *s = ctx;

	assert_true(first == 0);
	s->rows[unit] = y->cols;
	keep(s, &s->y[unit], y);
	return err->status;
}

/* --- by hand --- */

static double e2m1(double x)
{
	static const double list[] = { 0, .5, 1, 1.5, 2, 3, 4, 6 };
	int best = 0;

	for (int k = 1; k < 8; k++) {
		const double d = fabs(list[k] - fabs(x)), was = fabs(list[best] - fabs(x));
		best = d < was || (d == was && k % 2 == 0) ? k : best;
	}
	return copysign(list[best], x);
}

static float e4m3(float x) { return bl_e4m3_f32(bl_f32_e4m3(fmaxf(-448, fminf(448, x)))); }

static float in_type(float f, bool fp32) { return fp32 ? f : bl_round_bf16(f); }

/* n values of one scale; given: the static one, or what FP4's scales are in units of */
static void server_rounds(float *to, const float *x, int64_t n, enum bl_weights_act act, float given)
{
	float top = 0, s;

	for (int64_t i = 0; i < n; i++)
		top = fmaxf(top, fabsf(x[i]));
	for (int64_t i = 0; i < n; i++)
		switch (act) {
		case BL_WEIGHTS_ACT_INT8_TOKEN: to[i] = rintf(x[i] * (127 / top)) * (top / 127); break;
		case BL_WEIGHTS_ACT_INT8_STATIC: to[i] = fmaxf(-128, fminf(127, rintf(x[i] / given))) * given; break;
		case BL_WEIGHTS_ACT_FP8_STATIC: to[i] = e4m3(x[i] / given) * given; break;
		case BL_WEIGHTS_ACT_FP4_GROUP:
			s = e4m3(given * (top / 6));
			to[i] = s > 0 ? (float)(e2m1(fmax(-6, fmin(6, (double)(x[i] * (given / s))))) * (double)s) / given : 0;
			break;
		default: to[i] = e4m3(x[i] / (top / 448)) * (top / 448); break;
		}
}

static void library_rounds(float *to, const float *x, int64_t n, enum bl_weights_act act, float given, bool fp32)
{
	float top = 0, s;

	for (int64_t i = 0; i < n; i++)
		top = fmaxf(top, fabsf(x[i]));
	switch (act) {
	case BL_WEIGHTS_ACT_INT8_TOKEN: s = in_type(top / 127.5f, fp32); break;
	case BL_WEIGHTS_ACT_INT8_STATIC:
	case BL_WEIGHTS_ACT_FP8_STATIC: s = in_type(given, fp32); break;
	case BL_WEIGHTS_ACT_FP4_GROUP: s = e4m3(given * in_type(top / 6, fp32)) / given; break;
	default: s = in_type(top / 448, fp32); break;
	}
	for (int64_t i = 0; i < n; i++) {
		const float t = in_type(x[i] / s, fp32);

		if (act == BL_WEIGHTS_ACT_FP4_GROUP)
			to[i] = in_type((float)e2m1(fmax(-6, fmin(6, (double)(x[i] / s)))) * s, fp32);
		else if (bl_act_is_e4m3(act))
			to[i] = in_type(e4m3(t) * s, fp32);
		else
			to[i] = in_type(rintf(fmaxf(-128, fminf(127, t))) * s, fp32);
	}
}

static float weight_at(const struct bl_unit_weights *w, int64_t row, int64_t k, enum bl_arithmetic a)
{
	const int8_t q = w->codes[row * w->cols + k];
	const float s = w->scales[w->group ? (row * w->cols + k) / w->group : row], v = bl_act_is_e4m3(w->act) ? bl_e4m3_f32((uint8_t)q) : (float)q;

	if (a == BL_ARITHMETIC_SERVER)
		return v * s;
	return bl_round_bf16(v * (w->act == BL_WEIGHTS_ACT_FP4_GROUP ? s : bl_round_bf16(s)));
}

/* rms(y - by hand) / rms(by hand) */
static double apart(const struct seen *s, const struct bl_unit_weights *w, enum bl_arithmetic a)
{
	const int64_t width = w->group ? w->group : w->cols;
	float *x = bl_xalloc((size_t)(TOKENS * w->cols), sizeof(*x)), *wf = bl_xalloc((size_t)w->cols, sizeof(*wf));
	double d2 = 0, y2 = 0;

	for (int64_t i = 0; i < TOKENS * w->cols; i += width)
		if (a == BL_ARITHMETIC_SERVER)
			server_rounds(x + i, s->x[w->unit] + i, width, w->act, w->input_scale);
		else
			library_rounds(x + i, s->x[w->unit] + i, width, w->act, w->input_scale, s->fp32);
	for (int64_t row = 0; row < w->rows; row++) {
		for (int64_t k = 0; k < w->cols; k++)
			wf[k] = weight_at(w, row, k, a);
		for (int64_t t = 0; t < TOKENS; t++) {
			double sum = 0;

			for (int64_t k = 0; k < w->cols; k++)
				sum += (double)x[t * w->cols + k] * (double)wf[k];
			d2 += (sum - (double)s->y[w->unit][t * w->rows + row]) * (sum - (double)s->y[w->unit][t * w->rows + row]);
			y2 += sum * sum;
		}
	}
	bl_free(x);
	bl_free(wf);
	return sqrt(d2 / y2);
}

/* --- the forward --- */

static struct bl_unit_weights *coded(int unit, enum bl_weights_act act, int64_t group)
{
	const struct bl_unit *u = &tiny->units[unit];
	struct bl_unit_weights *w = bl_unit_weights_grouped(unit, u->rows, u->cols, group);
	uint32_t r = 12345;

	w->act = act;
	w->input_scale = act == BL_WEIGHTS_ACT_FP4_GROUP ? 2688 / 6.f : 0.013f;
	for (int64_t i = 0; i < u->rows * u->cols; i++) {
		r = r * 1664525 + 1013904223;
		const float v = (float)(int32_t)r / 2147483648.0f;
		w->codes[i] = act == BL_WEIGHTS_ACT_FP4_GROUP ? (int8_t)bl_f32_e4m3((float)e2m1(6 * (double)v)) :
			      bl_act_is_e4m3(act)              ? (int8_t)bl_f32_e4m3(448 * v * v * v) :
								 (int8_t)lrintf(127 * v);
	}
	for (int64_t i = 0; i < u->rows * bl_unit_weights_spr(w); i++)
		w->scales[i] = (bl_act_is_e4m3(act) ? .0007f : .0011f) * (1 + .1f * (float)(i % 7));
	return w;
}

static void run(struct seen *s, const struct bl_weight_set *set, bool fp32)
{
	static const int64_t start[] = { 0, 9, 20, TOKENS };
	const struct bl_forward_options o = { .fp32 = fp32 };
	const struct bl_tap tap = { .ctx = s, .input = see_input, .output = see_output };
	struct bl_err err = BL_ERR_INIT;
	struct bl_forward *f = NULL;
	struct bl_pass *p = NULL;
	int32_t ids[TOKENS];

	for (int i = 0; i < TOKENS; i++)
		ids[i] = 20 + 131 * i;
	*s = (struct seen){ .fp32 = fp32 };
	if (bl_forward_new(&f, tiny, &machine.engine, &o, &err) || bl_pass_new(&p, f, &(struct bl_sequences){ ids, start, 3 }, &err) || bl_pass_embed(p, &err) ||
	    bl_pass_block(p, 0, set, &tap, &err))
		fail_msg("%s", err.text);
	bl_pass_free(p);
	bl_forward_free(f);
}

static void check(enum bl_weights_act act, int64_t group, bool fp32)
{
	struct bl_unit_weights *all[2][UNITS];

	for (int u = 0; u < UNITS; u++) {
		all[0][u] = coded(u, act, group);
		all[1][u] = bl_unit_weights_transformers(all[0][u]);
		assert_true(all[1][u]->kind == BL_WEIGHTS_DENSE && all[1][u]->act == act);
	}
	for (int a = 0; a < 2; a++) {
		struct bl_weight_set set = { .of = bl_xalloc((size_t)tiny->n_units, sizeof(*set.of)), .n = tiny->n_units };
		struct seen s;

		memcpy(set.of, all[a], sizeof(all[a]));
		run(&s, &set, fp32);
		for (int u = 0; u < UNITS; u++) {
			const double own = apart(&s, all[0][u], (enum bl_arithmetic)a), other = apart(&s, all[0][u], (enum bl_arithmetic)!a);

			assert_true(s.cols[u] == all[0][u]->cols && s.rows[u] == all[0][u]->rows);
			if (!(own < (fp32 ? 1e-5 : 2.5e-3)) || !(other > (fp32 ? 20 : 1.1) * own))
				fail_msg("act %d, group %d, arithmetic %d, fp32 %d, unit %d: %.3g from its own, %.3g from the other", (int)act, (int)group, a, fp32, u, own, other);
			bl_free(s.x[u]);
			bl_free(s.y[u]);
		}
		bl_free(set.of);
	}
	for (int u = 0; u < UNITS; u++) {
		bl_unit_weights_unref(all[0][u]);
		bl_unit_weights_unref(all[1][u]);
	}
}

static void each_client_in_its_own_way(void **state)
{
	static const struct { enum bl_weights_act act; int64_t group; } rows[] = {
		{ BL_WEIGHTS_ACT_INT8_TOKEN, 0 }, { BL_WEIGHTS_ACT_INT8_STATIC, 0 }, { BL_WEIGHTS_ACT_FP8_TOKEN, 0 },
		{ BL_WEIGHTS_ACT_FP8_STATIC, 0 }, { BL_WEIGHTS_ACT_FP8_GROUP, 128 }, { BL_WEIGHTS_ACT_FP4_GROUP, 16 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		for (int fp32 = 0; fp32 < 2; fp32++)
			check(rows[i].act, rows[i].group, fp32);
}

static void what_has_no_codes_stays(void **state)
{
	struct bl_unit_weights *w = bl_unit_weights_new(0, BL_WEIGHTS_DENSE, 4, 4), *same = bl_unit_weights_transformers(w);

	(void)state;
	assert_ptr_equal(w, same);
	bl_unit_weights_unref(w);
	bl_unit_weights_unref(same);
}

static int setup(void **state)
{
	(void)state;
	machine_open(&machine, 2, 0);
	tiny = open_model(BL_SOURCE_DIR "/tests/models/tiny-exaone4");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	bl_model_close(tiny);
	machine_close(&machine);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(each_client_in_its_own_way), cmocka_unit_test(what_has_no_codes_stays) };

	return cmocka_run_group_tests(tests, setup, teardown);
}
