/* SPDX-License-Identifier: Apache-2.0
 * Numbers of the running model against direct computation: layer errors in double, effects against a full evaluation bit for bit. */
#include "live_support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "core/base/half.h"
#include "core/base/mem.h"

/* An engine and a forward beside the session's. */
struct own { struct bl_backend b; struct bl_engine e; struct bl_forward *f; };

static void own_open(struct own *o, struct bl_session *s)
{
	struct bl_forward_options fo = {.fp32 = false};
	struct bl_err err = BL_ERR_INIT;

	memset(o, 0, sizeof *o);
	bl_backend_open(&o->b, live_program_dir());
	assert_int_equal(bl_engine_open(&o->e, &o->b, live_device(), s->pool, 0, &err), BL_OK);
	assert_int_equal(bl_forward_new(&o->f, s->model, &o->e, &fo, &err), BL_OK);
}

static void own_close(struct own *o)
{
	bl_forward_free(o->f);
	bl_engine_close(&o->e);
	bl_backend_close(&o->b);
}

struct inputs { int unit; float *x; int64_t cols; struct bl_engine *e; };

static enum bl_status see(void *ctx, int unit, int64_t first, const struct bk_mat *x, struct bl_err *err)
{
	struct inputs *in = ctx;

	if (unit != in->unit)
		return BL_OK;
	size_t n = (size_t)(x->rows * x->ld);
	uint16_t *rows = bl_xalloc(n, sizeof *rows);
	bl_engine_check(in->e, in->e->ops->get(in->e->run, rows, x->p, ((size_t)(x->rows - 1) * (size_t)x->ld + (size_t)x->cols) * 2), "inputs", err);
	for (int64_t t = 0; t < x->rows; t++)
		for (int64_t k = 0; k < x->cols; k++)
			in->x[(first + t) * in->cols + k] = bl_bf16_f32(rows[t * x->ld + k]);
	bl_free(rows);
	return err->status;
}

/* What a unit sees of the kept windows. */
static float *inputs_of(struct bl_session *s, int unit)
{
	const struct bl_calib *c = bl_session_calib(s);
	int64_t n = bl_calib_kept_windows(c), len = bl_calib_window(c), start[WINDOWS + 1];
	struct inputs in = {unit, bl_xalloc((size_t)(n * len * s->model->units[unit].cols), 4), s->model->units[unit].cols, NULL};
	struct bl_sequences seq = {bl_calib_ids(c), start, n};
	struct bl_tap tap = {.ctx = &in, .input = see};
	struct bl_err err = BL_ERR_INIT;
	struct bl_pass *p = NULL;
	struct own o;

	for (int64_t i = 0; i <= n; i++)
		start[i] = i * len;
	own_open(&o, s);
	in.e = &o.e;
	assert_int_equal(bl_pass_new(&p, o.f, &seq, &err), BL_OK);
	assert_int_equal(bl_pass_embed(p, &err), BL_OK);
	assert_int_equal(bl_pass_run(p, 0, NULL, &tap, &err), BL_OK);
	bl_pass_free(p);
	own_close(&o);
	return in.x;
}

static double weight(const struct bl_unit *u, int64_t row, int64_t k)
{
	int m = 0;

	while (row >= u->members[m].rows)
		row -= u->members[m++].rows;
	uint16_t h;
	memcpy(&h, (const char *)u->members[m].weight->data + (row * u->cols + k) * 2, 2);
	return bl_bf16_f32(h);
}

static double nearest_e2m1(double x)
{
	static const double list[] = {0, .5, 1, 1.5, 2, 3, 4, 6};
	int best = 0;

	for (int k = 1; k < 8; k++) {
		double d = fabs(list[k] - fabs(x)), was = fabs(list[best] - fabs(x));
		best = d < was || (d == was && k % 2 == 0) ? k : best;
	}
	return copysign(list[best], x);
}

/* n values of one scale, in the server's float32 arithmetic */
static void round_inputs(double *q, const float *x, int64_t n, const struct bl_unit_weights *w)
{
	float top = 0, s;

	for (int64_t k = 0; k < n; k++)
		top = fmaxf(top, fabsf(x[k]));
	s = w->act == BL_WEIGHTS_ACT_INT8_TOKEN ? top / 127 : w->act == BL_WEIGHTS_ACT_FP8_GROUP ? top / 448 : bl_e4m3_f32(bl_f32_e4m3(w->input_scale * (top / 6)));
	for (int64_t k = 0; k < n; k++)
		if (w->act == BL_WEIGHTS_ACT_INT8_TOKEN)
			q[k] = fmin(127, fmax(-128, rintf(x[k] * (127.0f / top)))) * (double)s;
		else if (w->act == BL_WEIGHTS_ACT_FP8_GROUP)
			q[k] = (double)bl_e4m3_f32(bl_f32_e4m3(x[k] / s)) * (double)s;
		else
			q[k] = s > 0 ? nearest_e2m1(fmin(6, fmax(-6, (double)(x[k] * (w->input_scale / s))))) * (double)(s / w->input_scale) : 0;
}

static double coded(const struct bl_unit_weights *w, int64_t at, int64_t row)
{
	return (bl_act_is_e4m3(w->act) ? (double)bl_e4m3_f32((uint8_t)w->codes[at]) : w->codes[at]) * (double)w->scales[w->group ? at / w->group : row];
}

/* |y^ - y|² / |y|² with everything in double; x quantized as the server does it when the weights are codes. */
static double direct_error(struct bl_session *s, int unit, const struct bl_choice *c)
{
	const struct bl_unit *u = &s->model->units[unit];
	struct bl_unit_weights *w = NULL;
	struct bl_err err = BL_ERR_INIT;
	float *x = inputs_of(s, unit);
	double e2 = 0, y2 = 0, *q = bl_xalloc((size_t)u->cols, sizeof *q);

	assert_int_equal(bl_session_unit_weights(s, unit, c, &w, &err), BL_OK);
	for (int64_t t = 0; t < WINDOWS * LENGTH; t++) {
		const float *xt = x + t * u->cols;
		const int64_t width = w->group ? w->group : u->cols;
		for (int64_t k = 0; k < u->cols; k++)
			q[k] = xt[k];
		for (int64_t k = 0; w->kind == BL_WEIGHTS_CODES && k < u->cols; k += width)
			round_inputs(q + k, xt + k, width, w);
		for (int64_t r = 0; r < u->rows; r++) {
			double y = 0, yq = 0;
			for (int64_t k = 0; k < u->cols; k++) {
				double wq = w->kind == BL_WEIGHTS_DENSE ? (double)bl_bf16_f32(w->dense[r * u->cols + k]) : coded(w, r * u->cols + k, r);
				y += xt[k] * weight(u, r, k);
				yq += q[k] * wq;
			}
			e2 += (yq - y) * (yq - y);
			y2 += y * y;
		}
	}
	bl_unit_weights_unref(w);
	bl_free(q);
	bl_free(x);
	return e2 / y2;
}

static void errors_are_exact(void **state)
{
	static const char *const schemes[] = {"W4A16", "W8A16", "W3A16_ASYM_g64", "W8A8", "FP8_BLOCK", "NVFP4", "NVFP4A16"};
	struct bl_session *s = open_live(DEMO_MODEL);

	(void)state;
	calibrate_small(s, WINDOWS);
	for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
		for (int unit = 8; unit < 12; unit++) { /* one of each kind */
			struct bl_choice c = choice_of(schemes[i], "rtn", "");
			struct bl_verdict v;
			bool act = false;
			bl_target_check_unit(&v, s->target, s->model, unit, &c.scheme);
			double want = direct_error(s, unit, &c), got = error_of(s, unit, &c, &act);
			assert_int_equal(act, c.scheme.act != BL_ACT_NONE);
			if (!(fabs(got - want) <= 1e-4 * want))
				fail_msg("%s %s: %.9g, directly %.9g", s->model->units[unit].name, schemes[i], got, want);
		}
	bl_session_close(s);
}

/* All of it anew, by the way that `evaluate` takes. */
static void full(struct bl_session *s, double *kl, double *top1)
{
	const struct bl_calib *c = bl_session_calib(s);
	struct bl_eval_windows w = {bl_calib_ids(c), bl_calib_kept_windows(c), bl_calib_window(c)};
	struct bl_weight_set set = {.of = bl_xalloc((size_t)s->model->n_units, sizeof *set.of), .n = s->model->n_units};
	struct bl_err err = BL_ERR_INIT;
	struct bl_eval_kl out;
	struct own o;

	for (int i = 0; i < set.n; i++)
		assert_int_equal(bl_session_unit_weights(s, i, bl_plan_choice(s->plan, i), &set.of[i], &err), BL_OK);
	own_open(&o, s);
	if (bl_evaluate_windows(o.f, &set, &w, NULL, NULL, &out, NULL, NULL, &err))
		fail_msg("%s", err.text);
	own_close(&o);
	for (int i = 0; i < set.n; i++)
		bl_unit_weights_unref(set.of[i]);
	bl_free(set.of);
	*kl = out.mean;
	*top1 = out.top1;
}

static void effects_are_those_of_an_evaluation(void **state)
{
	static const char *const edits[] = {"all=W8A8", "3.down=W4A16", "6=W4A16_channel", "1.qkv=BF16", "7.gate_up=W3A16", "0=BF16", "all=BF16", "5.o=W4A16"};
	struct bl_session *s = open_live(DEMO_MODEL);
	double before = -1;

	(void)state;
	calibrate_small(s, 4);
	for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
		double kl, top1;
		set_text(s, edits[i]);
		struct bl_effect e = effect_of(s);
		full(s, &kl, &top1);
		if (e.kl.value != kl || e.top1.value != top1)
			fail_msg("after %s: KL %.17g, by an evaluation %.17g; top-1 %.17g, %.17g", edits[i], e.kl.value, kl, e.top1.value, top1);
		assert_true(strcmp(edits[i], "all=BF16") != 0 ? kl > 0 : kl == 0 && top1 == 1);
		assert_true(kl != before);
		before = kl;
	}
	bl_session_close(s);
}

static void measured_stale_measured(void **state)
{
	struct bl_session *s = open_live(DEMO_MODEL);
	struct bl_effect e;

	(void)state;
	bl_session_effect(s, &e);
	assert_true(e.kl.origin == BL_UNKNOWN && !e.computing); /* no calibration: nothing is promised */
	calibrate_small(s, 4);
	set_text(s, "2.down=W4A16");
	bl_session_effect(s, &e);
	assert_true(e.kl.origin == BL_UNKNOWN && e.computing && !e.stale);
	struct bl_effect first = effect_of(s);
	set_text(s, "4.down=W4A16");
	bl_session_effect(s, &e);
	assert_true(e.kl.origin == BL_MEASURED && e.stale && e.computing && e.kl.value == first.kl.value);
	struct bl_effect second = effect_of(s);
	assert_true(second.kl.value > first.kl.value);
	assert_true(bl_plan_undo(s->plan));
	bl_session_edited(s);
	bl_session_effect(s, &e);
	assert_true(!e.stale && !e.computing && e.kl.value == first.kl.value); /* known: nothing to do */
	bl_session_close(s);
}

/* While the whole is unknown, the sum of what the units do alone; one unit alone is what it is in a plan of its own. */
static void units_alone(void **state)
{
	struct bl_session *s = open_live(DEMO_MODEL);
	struct bl_choice c = choice_of("W4A16", "rtn", "");
	struct bl_effect e;

	(void)state;
	calibrate_small(s, 4);
	assert_int_equal(bl_session_unit_kl(s, 9, &c, false).origin, BL_UNKNOWN);
	assert_false(bl_session_unit_kl_computing(s, 9, &c));
	bl_session_unit_kl(s, 9, &c, true);
	bl_session_unit_kl(s, 18, &c, true);
	bl_session_wait_live(s);
	double a = bl_session_unit_kl(s, 9, &c, false).value, b = bl_session_unit_kl(s, 18, &c, false).value;
	assert_true(a > 0 && b > 0);
	bl_plan_begin(s->plan, "both");
	bl_plan_set_scheme(s->plan, 9, &c.scheme);
	bl_plan_set_scheme(s->plan, 18, &c.scheme);
	bl_plan_end(s->plan);
	bl_session_edited(s);
	bl_session_effect(s, &e);
	assert_true(e.kl.origin == BL_MODELLED && fabs(e.kl.value - (a + b)) < 1e-15 && e.computing);
	bl_plan_undo(s->plan);
	bl_plan_set_scheme(s->plan, 9, &c.scheme);
	bl_session_edited(s);
	assert_true(effect_of(s).kl.value == a);
	bl_session_close(s);
}

/* What was computed once is there when the plan is opened again. */
static void known_at_once(void **state)
{
	struct bl_session *s = open_live(DEMO_MODEL);
	struct bl_choice c = choice_of("W8A8", "rtn", "");
	struct bl_layer_error le = {0, false};
	struct bl_err err = BL_ERR_INIT;
	struct bl_effect e;
	char why[160];

	(void)state;
	calibrate_small(s, 4);
	set_text(s, "all=W8A8");
	double error = error_of(s, 5, &c, NULL), kl = effect_of(s).kl.value;
	const char *title = bl_session_calib_title(s);
	assert_string_equal(title, "6×48 words.txt");
	bl_session_close(s);

	s = open_live(DEMO_MODEL);
	assert_int_equal(bl_session_adopt_calib(s, NULL, &err), BL_OK);
	assert_string_equal(bl_session_calib_title(s), "6×48 words.txt");
	set_text(s, "all=W8A8");
	wait_idle(s);
	assert_int_equal(bl_session_layer_error(s, 5, &c, &le, why), BL_KNOWN_YES);
	assert_true(le.rel == error && le.with_activations);
	bl_session_effect(s, &e);
	assert_true(e.kl.origin == BL_MEASURED && !e.stale && e.kl.value == kl);
	assert_false(bl_jobs_busy(s->jobs)); /* nobody had to compute anything */
	const struct bl_input_stats *in = bl_session_input(s, 3);
	assert_true(in && in->tokens == WINDOWS * LENGTH && in->absmax > 0);
	bl_session_close(s);
}

static void without_a_calibration(void **state)
{
	struct bl_session *s = open_live(DEMO_MODEL);
	struct bl_choice c = choice_of("W4A16", "rtn", ""), full_precision = choice_of("BF16", "", "");
	struct bl_layer_error e;
	struct bl_err err = BL_ERR_INIT;
	char why[160] = "";

	(void)state;
	assert_int_equal(bl_session_layer_error(s, 3, &c, &e, why), BL_KNOWN_NO);
	assert_null(bl_session_input(s, 3));
	assert_string_equal(bl_session_calib_title(s), "");
	assert_int_equal(bl_session_adopt_calib(s, "0000", &err), bl_session_adopt_calib(s, "0000", &err));
	assert_int_not_equal(err.status, BL_OK);
	struct bl_calib_request r = small_request(0);
	r.hessians = false;
	bl_err_clear(&err);
	assert_int_equal(bl_jobs_wait(s->jobs, bl_session_calibrate(s, &r), &err), BL_OK);
	assert_int_equal(bl_session_layer_error(s, 3, &full_precision, &e, why), BL_KNOWN_NO);
	bl_session_layer_error(s, 3, &c, &e, why);
	bl_session_wait_live(s);
	assert_int_equal(bl_session_layer_error(s, 3, &c, &e, why), BL_KNOWN_REFUSED);
	assert_non_null(strstr(why, "Hessians"));
	bl_session_close(s);
}

int main(void)
{
#define FRESH(t) cmocka_unit_test_setup_teardown(t, live_setup, support_teardown)
	const struct CMUnitTest tests[] = {FRESH(errors_are_exact), FRESH(effects_are_those_of_an_evaluation), FRESH(measured_stale_measured),
					   FRESH(units_alone), FRESH(known_at_once), FRESH(without_a_calibration)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
