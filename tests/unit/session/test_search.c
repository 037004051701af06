/* SPDX-License-Identifier: Apache-2.0
 * The search on the demo model: the budget holds, what it says of the plan is what the session measures of it, one undo step, locked units stay, what it learned is
 * kept; and a comparison of plans whose numbers are those of an evaluation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/session/compare.h"
#include "core/session/search.h"
#include "live_support.h"

#define TINY BL_SOURCE_DIR "/tests/models/tiny-exaone4"

static const struct bl_search_result *search(struct bl_session *s, struct bl_search_request rq)
{
	struct bl_err err = BL_ERR_INIT;
	uint64_t job = bl_session_search(s, &rq, &err);

	if (!job || bl_jobs_wait(s->jobs, job, &err))
		fail_msg("%s", err.text);
	return bl_session_searched(s);
}

static void within_bytes(void **state)
{
	struct bl_session *s = open_live(TINY);
	struct bl_search_request rq = {.options = "W4A16; W8A16 BF16", .trials = 3};
	struct bl_err err = BL_ERR_INIT;
	char locked[BL_SCHEME_NAME_MAX];

	(void)state;
	assert_int_equal(bl_session_search(s, &rq, &err), 0); /* there is no calibration */
	assert_int_equal(err.status, BL_INVALID);
	bl_err_clear(&err);
	calibrate_small(s, 2);
	set_text(s, "3.o=W8A8");
	bl_plan_set_lock(s->plan, 3 * 4 + 1, true);
	bl_session_edited(s);
	assert_int_equal(bl_search_budget(&rq, BL_BUDGET_BYTES, "55%", s, &err), BL_OK);
	const struct bl_search_result *r = search(s, rq);
	assert_non_null(r);
	assert_true(r->measured && r->exact && r->measurements == 31 * 2 + 1);
	assert_true((double)r->bytes <= rq.value && (double)r->bytes > 0.98 * rq.value);
	assert_string_equal(bl_scheme_name(locked, &r->choice[3 * 4 + 1].scheme), "W8A8");
	assert_true(r->n_trials >= 2 && r->trial[0].kept);
	double least = INFINITY;
	for (int i = 0; i < r->n_trials; i++)
		least = fmin(least, (double)r->trial[i].bytes <= rq.value ? r->trial[i].kl : INFINITY);
	assert_true(r->kl == least);

	/* an ordinary edit: its bytes and its divergence are what was said, one step takes it back */
	double kl = r->kl;
	uint64_t bytes = r->bytes, revision = bl_plan_revision(s->plan);
	assert_true(bl_session_search_take(s));
	assert_true(bl_plan_revision(s->plan) != revision);
	assert_true(bl_session_estimate(s)->bytes == bytes);
	assert_true(effect_of(s).kl.value == kl);
	assert_true(bl_starts_with(bl_plan_undo_label(s->plan), "search: "));
	assert_true(bl_plan_undo(s->plan));
	bl_session_edited(s);
	assert_int_equal(bl_plan_choice(s->plan, 0)->scheme.number, BL_NUM_FULL);
	assert_int_equal(bl_plan_choice(s->plan, 3 * 4 + 1)->scheme.bits, 8);

	/* what it measured is known now */
	assert_int_equal(search(s, rq)->measurements, 0);
	bl_session_close(s);
}

static void time_and_score(void **state)
{
	struct bl_session *s = open_live(TINY);
	struct bl_search_request rq = {.options = "W4A16;W8A16;BF16"};
	struct bl_err err = BL_ERR_INIT;

	(void)state;
	calibrate_small(s, 2);
	assert_int_equal(bl_search_budget(&rq, BL_BUDGET_TIME, "0.99x", s, &err), BL_OK);
	const struct bl_search_result *r = search(s, rq);
	assert_true(r->estimate.step_ms.value <= rq.value + 1e-4);
	assert_true(r->estimate.time_ratio.value <= 0.9901);
	assert_non_null(strstr(r->speed, "of the speed model"));
	assert_true(bl_session_search_take(s));
	assert_true(fabs(bl_session_estimate(s)->step_ms.value - r->estimate.step_ms.value) < 1e-4);

	assert_int_equal(bl_search_budget(&rq, BL_BUDGET_SCORE, "best", s, &err), BL_OK);
	rq.trials = 2;
	r = search(s, rq);
	double best = r->estimate.score.value;
	assert_true(best >= 0.5); /* everything in full precision has that */
	assert_int_equal(bl_search_budget(&rq, BL_BUDGET_SCORE, "0.501", s, &err), BL_OK);
	r = search(s, rq);
	assert_true(r->estimate.score.value >= 0.501 && r->estimate.score.value <= best + 1e-6);
	assert_int_equal(bl_search_budget(&rq, BL_BUDGET_SCORE, "0.9", s, &err), BL_OK);
	uint64_t job = bl_session_search(s, &rq, &err);
	assert_int_equal(bl_jobs_wait(s->jobs, job, &err), BL_INVALID);
	bl_session_close(s);
}

static void stopped(void **state)
{
	struct bl_session *s = open_live(TINY);
	struct bl_search_request rq = {.budget = BL_BUDGET_BYTES, .value = 6e6, .options = "W4A16;W8A16"};
	struct bl_err err = BL_ERR_INIT;

	(void)state;
	calibrate_small(s, 2);
	uint64_t job = bl_session_search(s, &rq, &err);
	bl_jobs_cancel(s->jobs, job);
	assert_int_equal(bl_jobs_wait(s->jobs, job, &err), BL_CANCELLED);
	assert_null(bl_session_searched(s));
	assert_false(bl_session_search_take(s));
	bl_session_close(s);
}

static void rows_are_evaluations(void **state)
{
	static const char *const rows[] = {"W4A16:rtn down=W8A8", "W4A16:gptq", "BF16", "W4A16:rtn down=W8A8"};
	struct bl_session *s = open_live(TINY);
	struct bl_eval_request rq = {.kl = data_file, .ppl = data_file, .windows = 3, .seqlen = 40};
	struct bl_compare *c = NULL;
	struct bl_err err = BL_ERR_INIT;
	bool stale;

	(void)state;
	calibrate_small(s, 2);
	assert_int_equal(bl_compare_new(&c, s, rows, 4, &err), BL_OK);
	struct bl_progress progress = {0};
	assert_int_equal(bl_compare_run(s, c, &rq, &progress, &err), BL_OK);
	assert_true(c->row[0].done && !c->row[0].stored && c->row[3].stored);
	assert_true(c->row[0].r.kl.mean == c->row[3].r.kl.mean);
	assert_true(c->row[1].solve_s > 0 && c->row[1].r.kl.mean > 0);
	assert_false(c->row[2].r.has_plan);
	set_text(s, "all=W4A16");
	set_text(s, "down=W8A8");
	assert_int_equal(bl_jobs_wait(s->jobs, bl_session_evaluate(s, &rq), &err), BL_OK);
	const struct bl_eval_result *r = bl_session_evaluation(s, &stale);
	assert_memory_equal(&r->kl, &c->row[0].r.kl, sizeof r->kl);
	assert_memory_equal(&r->plan_ppl, &c->row[0].r.plan_ppl, sizeof r->plan_ppl);
	assert_true(c->row[2].r.base_ppl.value == r->base_ppl.value);
	assert_true(bl_session_estimate(s)->bytes == c->row[0].bytes);
	bl_compare_free(c);
	bl_session_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(within_bytes, live_setup, support_teardown),
		cmocka_unit_test_setup_teardown(time_and_score, live_setup, support_teardown),
		cmocka_unit_test_setup_teardown(stopped, live_setup, support_teardown),
		cmocka_unit_test_setup_teardown(rows_are_evaluations, live_setup, support_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
