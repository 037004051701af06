/* SPDX-License-Identifier: Apache-2.0
 * A plan with stages is measured, solved and scaled on the weights after them, everywhere alike: what a change of order cannot change stays the same number,
 * the live effect is that of a full evaluation, and what nobody can know is said. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/session/measure.h"
#include "core/session/run_private.h"
#include "core/transform/fold.h"
#include "live_support.h"

static void stages(struct bl_session *s, const char *text)
{
	struct bl_err err = BL_ERR_INIT;

	if (bl_session_set_stages(s, text, &err))
		fail_msg("%s: %s", text, err.text);
	bl_session_edited(s);
}

/* Once the stages are made. */
static float absmax_of(struct bl_session *s, int unit)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_fold *f = NULL;

	if (bl_session_fold(s, &f, &err))
		fail_msg("%s", err.text);
	bl_fold_unref(f);
	return bl_session_unit_absmax(s, unit);
}

static void order_changes_no_error(void **state)
{
	static const char *const schemes[] = {"W8A16", "W8A8", "W4A16_channel"};
	struct bl_session *s = open_live(DEMO_MODEL);

	(void)state;
	calibrate_small(s, WINDOWS);
	for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
		char text[64] = "all=";
		double before[4], after;

		strcat(text, schemes[i]);
		set_text(s, text);
		stages(s, "");
		for (int k = 0; k < 4; k++)
			before[k] = error_of(s, 8 + k, bl_plan_choice(s->plan, 8 + k), NULL);
		stages(s, "permute");
		for (int k = 0; k < 4; k++) {
			after = error_of(s, 8 + k, bl_plan_choice(s->plan, 8 + k), NULL);
			if (!(fabs(after - before[k]) <= 2e-3 * before[k]))
				fail_msg("%s %s: %.9g, in another order %.9g", s->model->units[8 + k].name, schemes[i], before[k], after);
		}
		stages(s, "smooth:pairs=updown,alpha=0.9"); /* another down, the same o */
		assert_true(fabs(error_of(s, 11, bl_plan_choice(s->plan, 11), NULL) - before[3]) > 1e-6 * before[3]);
		assert_true(fabs(error_of(s, 9, bl_plan_choice(s->plan, 9), NULL) - before[1]) <= 2e-3 * before[1]);
	}
	bl_session_close(s);
}

/* All of it anew, by the way that `evaluate` takes. */
static double full(struct bl_session *s)
{
	const struct bl_calib *c = bl_session_calib(s);
	struct bl_eval_windows w = {bl_calib_ids(c), bl_calib_kept_windows(c), bl_calib_window(c)};
	struct bl_err err = BL_ERR_INIT;
	struct bl_run_place at = {.device = live_device(), .program_dir = live_program_dir()};
	struct bl_eval_kl out;
	struct bl_place place;

	if (bl_place_open(&place, s, &at, false, &err) || bl_evaluate_windows(place.f, &place.set, &w, NULL, NULL, &out, NULL, NULL, &err))
		fail_msg("%s", err.text);
	bl_place_close(&place);
	return out.mean;
}

static void effects_are_whole(void **state)
{
	static const char *const rows[] = {"smooth", "smooth:pow2=false;permute", "rotate"};
	struct bl_session *s = open_live(DEMO_MODEL);

	(void)state;
	calibrate_small(s, WINDOWS);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		set_text(s, "all=BF16");
		stages(s, rows[i]);
		double plain = effect_of(s).kl.value, want = full(s);
		assert_true(fabs(plain - want) <= 1e-6 + 1e-4 * want);
		assert_true(plain > 0 && plain < 5e-3); /* another rounding of bfloat16, nothing else */
		set_text(s, "4-7.down=W4A16");
		want = full(s);
		assert_true(want > plain);
		assert_true(fabs(effect_of(s).kl.value - want) <= 1e-4 * want);
		struct bl_quantity unit;
		bl_session_unit_kl(s, 19, bl_plan_choice(s->plan, 19), true);
		bl_session_wait_live(s);
		unit = bl_session_unit_kl(s, 19, bl_plan_choice(s->plan, 19), true);
		assert_int_equal(unit.origin, BL_MEASURED);
		assert_true(unit.value > 0 && unit.value < want);
	}
	bl_session_close(s);
}

static void solved_in_any_order(void **state)
{
	struct bl_session *s = open_live(DEMO_MODEL);
	struct bl_err err = BL_ERR_INIT;
	double rel[2] = {0, 0}, seconds;
	char report[512];

	(void)state;
	calibrate_small(s, WINDOWS);
	set_text(s, "2.down=W4A16_channel:gptq");
	for (int k = 0; k < 2; k++) {
		stages(s, k ? "permute" : "");
		assert_false(bl_session_solved_look(s, 11, &rel[k], &seconds, report, sizeof report)); /* other weights: other keys */
		if (bl_jobs_wait(s->jobs, bl_session_quantize(s, NULL, NULL), &err))
			fail_msg("%s", err.text);
		assert_true(bl_session_solved_look(s, 11, &rel[k], &seconds, report, sizeof report));
	}
	print_message("gptq: %.6g, in another order %.6g\n", rel[0], rel[1]);
	assert_true(rel[1] > 0);
	assert_true(fabs(rel[0] - rel[1]) < 0.02 * rel[0]); /* it takes its own order anyway */
	bl_session_close(s);
}

static void scales_follow(void **state)
{
	struct bl_session *s = open_live(DEMO_MODEL);
	struct bl_unit_weights *w = NULL;
	struct bl_err err = BL_ERR_INIT;

	(void)state;
	calibrate_small(s, WINDOWS);
	set_text(s, "all=W8A8_STATIC");
	float plain = absmax_of(s, 11);
	stages(s, "permute");
	assert_true(absmax_of(s, 11) == plain);
	stages(s, "smooth:alpha=1,pairs=updown,pow2=false"); /* all channels alike: all of the difficulty is in the weights */
	float smooth = absmax_of(s, 11);
	assert_true(smooth > 0 && smooth != plain);
	assert_int_equal(bl_session_unit_weights(s, 11, bl_plan_choice(s->plan, 11), &w, &err), BL_OK);
	assert_true(fabsf(w->input_scale * 127 - smooth) <= 0.02f * smooth);
	bl_unit_weights_unref(w);
	const struct bl_input_stats *in = bl_session_input(s, 11);
	float least = in->channel_absmax[0];
	for (int64_t i = 0; i < in->cols; i++)
		least = fminf(least, in->channel_absmax[i]);
	assert_true(in->absmax == smooth && least > 0.9f * smooth); /* the screen shows it, too */
	stages(s, "rotate");
	assert_true(isnan(absmax_of(s, 9)));
	assert_int_equal(bl_session_unit_weights(s, 9, bl_plan_choice(s->plan, 9), &w, &err), BL_INVALID);
	bl_session_close(s);
}

static void refusals(void **state)
{
	struct bl_session *s = open_live(DEMO_MODEL);
	struct bl_err err = BL_ERR_INIT;
	struct bl_fold *f = NULL;

	(void)state;
	assert_int_equal(bl_session_set_stages(s, "smooth:pairs=norm_qkv", &err), BL_UNSUPPORTED);
	assert_string_equal(bl_plan_stages(s->plan), "");
	bl_err_clear(&err);
	assert_int_equal(bl_session_fold(s, &f, &err), BL_OK);
	assert_null(f);
	stages(s, "smooth:alpha=0.50");
	assert_string_equal(bl_plan_stages(s->plan), "smooth"); /* what is given by default is not written */
	for (int k = 0; k < 2; k++) { /* remembered */
		bl_err_clear(&err);
		assert_int_equal(bl_session_fold(s, &f, &err), BL_INVALID);
		assert_non_null(strstr(err.text, "calibrate first"));
	}
	bl_err_clear(&err);
	calibrate_small(s, 0);
	assert_int_equal(bl_session_fold(s, &f, &err), BL_OK);
	assert_non_null(f);
	bl_fold_unref(f);
	bl_session_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(order_changes_no_error, live_setup, support_teardown),
		cmocka_unit_test_setup_teardown(effects_are_whole, live_setup, support_teardown),
		cmocka_unit_test_setup_teardown(solved_in_any_order, live_setup, support_teardown),
		cmocka_unit_test_setup_teardown(scales_follow, live_setup, support_teardown),
		cmocka_unit_test_setup_teardown(refusals, live_setup, support_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
