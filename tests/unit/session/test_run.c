/* SPDX-License-Identifier: Apache-2.0
 * Jobs of the running model: preflight, progress, pause, cancel in the middle, evaluation with its plan, snapshots that bring their numbers back, and a
 * script that edits while jobs run (for ThreadSanitizer). */
#include "live_support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/session/live.h"

static const struct bl_preflight *preflight(struct bl_session *s, const struct bl_calib_request *r)
{
	const struct bl_preflight *p = bl_session_preflight(s, r);

	for (int i = 0; i < 4000 && p->known == BL_KNOWN_COMPUTING; i++, usleep(5000))
		p = bl_session_preflight(s, r);
	return p;
}

static void preflights(void **state)
{
	struct bl_session *s = open_live(DEMO_MODEL);
	struct bl_calib_request r = small_request(4), bad;
	struct bl_str text = {0};
	char *missing[] = {(char *)(uintptr_t)"/nowhere/at/all.txt"};

	(void)state;
	assert_int_equal(bl_session_preflight(s, &r)->known, BL_KNOWN_COMPUTING); /* never waits */
	const struct bl_preflight *p = preflight(s, &r);
	assert_int_equal(p->known, BL_KNOWN_YES);
	assert_int_equal(p->windows, WINDOWS);
	assert_int_equal(p->tokens, WINDOWS * LENGTH);
	assert_int_equal(p->n_files, 1);
	assert_string_equal(p->file[0].file, "words.txt");
	assert_true(p->disk_need > 1000000 && p->disk_free > 0 && p->ram_need > 0 && p->ram_free > 0 && p->seconds.value > 0);
	assert_true(!p->complete && p->reuse_from_block == 0);
	assert_non_null(strstr(p->preview, "the old house"));
	bl_session_data_preview(s, 1, &text);
	assert_true(text.len > 10);
	bl_str_free(&text);
	calibrate_small(s, 4);
	p = preflight(s, &r);
	r.keep_windows = 3;
	p = preflight(s, &r);
	assert_false(p->complete); /* another calibration */
	r.keep_windows = 4;
	p = preflight(s, &r);
	for (int i = 0; i < 400 && !p->complete; i++, usleep(10000)) { /* once it has reached the disk */
		r.memory_limit++;
		p = preflight(s, &r);
	}
	assert_true(p->complete);
	bad = r;
	bad.files = missing;
	p = preflight(s, &bad);
	assert_int_equal(p->known, BL_KNOWN_REFUSED);
	assert_non_null(strstr(p->why, "all.txt"));
	bad = r;
	bad.seqlen = 1 << 20;
	p = preflight(s, &bad);
	assert_int_equal(p->known, BL_KNOWN_REFUSED);
	bl_session_close(s);
}

static struct bl_job_view until(struct bl_session *s, uint64_t id, enum bl_job_state state)
{
	struct bl_job_view v;

	for (int i = 0; i < 20000; i++, usleep(1000)) {
		assert_true(bl_jobs_view(s->jobs, id, &v));
		if (v.state == state)
			return v;
		if (v.state >= BL_JOB_DONE)
			fail_msg("the job ended first: %s", v.err.text);
	}
	fail_msg("the job did not get there");
	return v;
}

/* Enough to be caught in the middle. */
static struct bl_calib_request long_request(void)
{
	struct bl_calib_request r = small_request(4);

	r.samples = 40;
	r.seqlen = 64;
	return r;
}

static void paused_and_cancelled(void **state)
{
	struct bl_session *s = open_live(DEMO_MODEL);
	struct bl_calib_request r = long_request();
	struct bl_err err = BL_ERR_INIT;
	int known = 0, later = 0;

	(void)state;
	uint64_t id = bl_session_calibrate(s, &r), second = bl_session_calibrate(s, &r);
	while (!bl_session_input(s, 3))
		usleep(1000);
	assert_true(bl_jobs_pause(s->jobs, id));
	until(s, id, BL_JOB_PAUSED);
	for (int i = 0; i < s->model->n_units; i++)
		known += bl_session_input(s, i) != NULL; /* visible as it goes */
	assert_true(known >= 4 && known < s->model->n_units);
	usleep(50000);
	for (int i = 0; i < s->model->n_units; i++)
		later += bl_session_input(s, i) != NULL;
	assert_int_equal(later, known);
	assert_non_null(strstr(bl_session_calib_title(s), "40×64"));
	bl_jobs_cancel(s->jobs, second); /* queued */
	bl_jobs_cancel(s->jobs, id);
	assert_int_equal(bl_jobs_wait(s->jobs, id, &err), BL_CANCELLED);
	wait_idle(s);
	assert_null(bl_session_calib(s));
	bl_err_clear(&err);
	assert_int_equal(bl_jobs_wait(s->jobs, bl_session_calibrate(s, &r), &err), BL_OK); /* goes on where it was */
	assert_true(bl_calib_tokens(bl_session_calib(s)) == 40 * 64);
	bl_session_close(s);
}

/* Closing in the middle of everything leaves nothing behind that runs. */
static void closed_in_the_middle(void **state)
{
	struct bl_calib_request r = long_request();

	(void)state;
	for (int i = 0; i < 4; i++) {
		struct bl_session *s = open_live(DEMO_MODEL);
		struct bl_choice c = choice_of("W4A16", "rtn", "");
		struct bl_layer_error e;
		struct bl_effect effect;
		char why[160];
		if (i > 1) {
			calibrate_small(s, 4);
			set_text(s, "all=W4A16");
			for (int u = 0; u < s->model->n_units; u++) {
				bl_session_layer_error(s, u, &c, &e, why);
				bl_session_unit_kl(s, u, &c, true);
			}
			bl_session_effect(s, &effect);
			usleep((useconds_t)(rand() % 200000));
		} else {
			bl_session_calibrate(s, &r);
			usleep((useconds_t)(rand() % 400000));
		}
		bl_session_close(s);
	}
}

static void evaluations(void **state)
{
	struct bl_session *s = open_live(DEMO_MODEL);
	struct bl_eval_request r = {.ppl = data_file, .kl = data_file, .windows = 3, .seqlen = 64};
	struct bl_err err = BL_ERR_INIT;
	bool stale = true;

	(void)state;
	assert_null(bl_session_evaluation(s, &stale));
	assert_false(stale);
	set_text(s, "all=W4A16");
	uint64_t id = bl_session_evaluate(s, &r);
	set_text(s, "0=BF16"); /* the job has the plan as it was */
	assert_int_equal(bl_jobs_wait(s->jobs, id, &err), BL_OK);
	const struct bl_eval_result *e = bl_session_evaluation(s, &stale);
	assert_true(e && stale && e->has_ppl && e->has_kl && e->has_plan && e->kl.mean > 0 && e->kl.tokens == 3 * 63);
	double kl = e->kl.mean;
	assert_true(bl_plan_undo(s->plan));
	bl_session_edited(s);
	e = bl_session_evaluation(s, &stale);
	assert_true(e && !stale && e->kl.mean == kl);
	bl_jobs_cancel(s->jobs, bl_session_evaluate(s, &r));
	wait_idle(s);
	e = bl_session_evaluation(s, &stale);
	assert_true(e && !stale && e->kl.mean == kl);
	r.ppl = r.kl = (char *)(uintptr_t)"/nowhere/at/all.txt";
	assert_int_not_equal(bl_jobs_wait(s->jobs, bl_session_evaluate(s, &r), &err), BL_OK);
	assert_non_null(strstr(err.text, "all.txt"));
	bl_session_close(s);
}

/* A snapshot brings back its numbers in a session that has never computed them, and without the cache of results. */
static void snapshots_bring_numbers_back(void **state)
{
	struct bl_session *s = open_live(DEMO_MODEL);
	struct bl_eval_request r = {.ppl = data_file, .kl = data_file, .windows = 3, .seqlen = 64};
	struct bl_choice c = choice_of("W4A16", "rtn", "");
	struct bl_layer_error le = {0, true};
	struct bl_err err = BL_ERR_INIT;
	struct bl_effect e;
	char path[128], results[128], why[160];
	bool stale = true;

	(void)state;
	calibrate_small(s, 4);
	set_text(s, "all=W4A16");
	double kl = effect_of(s).kl.value, error = error_of(s, 6, &c, NULL);
	assert_int_equal(bl_jobs_wait(s->jobs, bl_session_evaluate(s, &r), &err), BL_OK);
	double ppl = bl_session_evaluation(s, &stale)->plan_ppl.value;
	assert_int_equal(bl_session_snapshot(s, "four bits", "a note", &err), BL_OK);
	set_text(s, "all=BF16");
	snprintf(path, sizeof path, "%s/a.plan.json", test_dir);
	assert_int_equal(bl_session_save(s, path, &err), BL_OK);
	bl_session_close(s);
	snprintf(results, sizeof results, "%s/bitlathe/results", test_dir);
	assert_true(bl_is_dir(results));
	bl_remove_tree(results);

	s = open_live(path);
	assert_int_equal(bl_session_adopt_calib(s, NULL, &err), BL_OK);
	assert_null(bl_session_evaluation(s, &stale)); /* it is not of this plan */
	assert_int_equal(bl_plan_snapshot_restore(s->plan, 0, &err), BL_OK);
	bl_session_edited(s);
	wait_idle(s);
	bl_session_effect(s, &e);
	assert_true(e.kl.origin == BL_MEASURED && !e.stale && !e.computing && e.kl.value == kl);
	assert_int_equal(bl_session_layer_error(s, 6, &c, &le, why), BL_KNOWN_YES);
	assert_true(le.rel == error && !le.with_activations);
	const struct bl_eval_result *ev = bl_session_evaluation(s, &stale);
	assert_true(ev && !stale && ev->plan_ppl.value == ppl);
	assert_false(bl_jobs_busy(s->jobs));
	bl_session_close(s);
	assert_false(bl_is_dir(results)); /* numbers of a document do not become this machine's */
}

static void another_device(void **state)
{
	struct bl_session *s = open_live(DEMO_MODEL);
	struct bl_device_view v;
	struct bl_err err = BL_ERR_INIT;

	(void)state;
	bl_session_device(s, &v);
	assert_string_equal(v.name, "CPU");
	assert_true(!v.cuda && !v.lost && v.utilization == -1);
	assert_int_equal(bl_session_set_device(s, "abacus", &err), BL_USAGE);
	bl_err_clear(&err);
	assert_int_equal(bl_session_set_device(s, "cuda:99", &err), BL_OK);
	struct bl_calib_request r = small_request(0);
	assert_int_equal(bl_jobs_wait(s->jobs, bl_session_calibrate(s, &r), &err), BL_NO_DEVICE);
	assert_true(strlen(err.text) > 20);
	bl_err_clear(&err);
	assert_int_equal(bl_session_set_device(s, "cpu", &err), BL_OK);
	assert_int_equal(bl_jobs_wait(s->jobs, bl_session_calibrate(s, &r), &err), BL_OK);
	bl_session_close(s);
}

/* A device that goes away in the middle: every product fails from some moment on. */
static struct bk_run_ops breaking;
static const struct bk_run_ops *whole;
static atomic_int products_left;

static int product(struct bk_run *r, const struct bk_mat *c, const struct bk_mat *a, int ta, const struct bk_mat *b, int tb, float alpha, float beta, const void *bias)
{
	return atomic_fetch_sub(&products_left, 1) > 0 ? whole->gemm(r, c, a, ta, b, tb, alpha, beta, bias) : 777;
}

static bool lost(int error) { return error == 777; }
static const char *text_of(int error) { return error == 777 ? "the device has fallen off the bus" : whole->error_text(error); }

static void a_lost_device(void **state)
{
	struct bl_session *s = open_live(DEMO_MODEL);
	struct bl_live *l = s->priv->live;
	struct bl_calib_request r = small_request(4);
	struct bl_choice c = choice_of("W4A16", "rtn", "");
	struct bl_err err = BL_ERR_INIT;
	struct bl_layer_error e;
	struct bl_device_view v;
	char why[160] = "";

	(void)state;
	calibrate_small(s, 0);
	whole = l->engine.ops;
	breaking = *whole;
	breaking.gemm = product;
	breaking.is_lost = lost;
	breaking.error_text = text_of;
	atomic_store(&products_left, 40);
	l->engine.ops = &breaking; /* the lane is idle */
	l->engine.cuda = true;
	assert_int_equal(bl_jobs_wait(s->jobs, bl_session_calibrate(s, &r), &err), BL_NO_DEVICE);
	assert_non_null(strstr(err.text, "device cpu"));
	assert_non_null(strstr(err.text, "bus"));
	bl_session_device(s, &v);
	assert_true(v.lost);
	assert_non_null(bl_session_calib(s)); /* what was there stays */
	assert_non_null(bl_session_input(s, 3));
	bl_session_layer_error(s, 3, &c, &e, why);
	bl_session_wait_live(s);
	assert_int_equal(bl_session_layer_error(s, 3, &c, &e, why), BL_KNOWN_REFUSED); /* not tried on another device unasked */
	bl_err_clear(&err);
	assert_int_equal(bl_jobs_wait(s->jobs, bl_session_calibrate(s, &r), &err), BL_NO_DEVICE);
	bl_err_clear(&err);
	assert_int_equal(bl_session_set_device(s, "cpu", &err), BL_OK);
	bl_session_device(s, &v);
	assert_false(v.lost);
	assert_true(error_of(s, 3, &c, NULL) > 0);
	assert_int_equal(bl_jobs_wait(s->jobs, bl_session_calibrate(s, &r), &err), BL_OK);
	assert_true(error_of(s, 3, &c, NULL) > 0);
	bl_session_close(s);
}

/* Little memory: smaller batches, and the same numbers up to the last places. */
static void little_memory(void **state)
{
	struct bl_session *s = open_live(DEMO_MODEL);
	struct bl_calib_request r = small_request(4);
	struct bl_err err = BL_ERR_INIT;

	(void)state;
	r.samples = 16;
	assert_int_equal(bl_jobs_wait(s->jobs, bl_session_calibrate(s, &r), &err), BL_OK);
	double rms = bl_session_input(s, 5)->rms;
	r.seed = 0;
	r.keep_windows = 5; /* another key: nothing is taken over */
	for (r.memory_limit = 24 << 20; r.memory_limit > 4 << 20; r.memory_limit /= 2) {
		bl_err_clear(&err);
		enum bl_status status = bl_jobs_wait(s->jobs, bl_session_calibrate(s, &r), &err);
		if (status) { /* what cannot be is said with numbers */
			assert_int_equal(status, BL_NO_MEMORY);
			assert_non_null(strstr(err.text, "MiB"));
			break;
		}
		assert_true(fabs(bl_session_input(s, 5)->rms - rms) < 1e-3 * rms);
		r.keep_windows++;
	}
	assert_true(r.memory_limit < 24 << 20);
	bl_session_close(s);
}

/* What a person does while things run, faster. */
static void edits_while_jobs_run(void **state)
{
	static const char *const edits[] = {"3=W4A16", "4-6=W8A8", "down=W4A16_channel", "7=BF16", "0.qkv=W8A16", "all=W8A8", "gate_up=W3A16", "o=BF16"};
	struct bl_session *s = open_live(DEMO_MODEL);
	struct bl_calib_request r = small_request(4), again = long_request();
	struct bl_eval_request ev = {.ppl = data_file, .kl = data_file, .windows = 2, .seqlen = 48};
	struct bl_err err = BL_ERR_INIT;
	uint64_t id = 0;
	int paused = 0;

	(void)state;
	again.samples = 16;
	bl_session_start_stats(s);
	bl_session_calibrate(s, &r);
	for (int i = 0; i < 240; i++) {
		struct bl_effect e;
		struct bl_device_view d;
		struct bl_job_view jobs[8];
		if (i % 6 == 0)
			set_text(s, edits[i / 6 % 8]);
		if (i % 17 == 0 && bl_plan_undo(s->plan))
			bl_session_edited(s);
		for (int u = i % 8 * 4; u < i % 8 * 4 + 4; u++) {
			const struct bl_choice *c = bl_plan_choice(s->plan, u);
			struct bl_layer_error le;
			double rel;
			char why[160];
			bl_session_layer_error(s, u, c, &le, why);
			bl_session_weight_error(s, u, c, &rel, why);
			const struct bl_input_stats *in = bl_session_input(s, u);
			assert_true(!in || in->absmax >= 0);
			bl_session_unit_kl(s, u, c, i % 5 == 0);
		}
		bl_session_want_errors(s, i % 8 * 4, i % 8 * 4 + 7);
		bl_session_effect(s, &e);
		bl_session_calib_title(s);
		bl_session_preflight(s, i % 40 < 20 ? &again : &r);
		bl_session_device(s, &d);
		bl_session_evaluation(s, NULL);
		bl_jobs_list(s->jobs, jobs, 8);
		bl_session_tick(s);
		if (i == 80)
			bl_session_evaluate(s, &ev);
		if (i == 120)
			bl_session_snapshot(s, "between", "", &err);
		if (i == 130 || i == 180) /* cancelled below, then taken up where it was */
			id = bl_session_calibrate(s, &again);
		if (i == 132 || i == 182)
			paused += bl_jobs_pause(s->jobs, id);
		if (i == 134 || i == 184)
			bl_jobs_resume(s->jobs, id);
		if (i == 160)
			bl_jobs_cancel(s->jobs, id);
		if (i == 200)
			bl_plan_set_zero_nonfinite(s->plan, true), bl_session_edited(s);
		usleep(3000);
	}
	bl_session_wait_live(s);
	wait_idle(s); /* the second calibration too: numbers are those of the newest */
	assert_true(paused > 0);
	assert_int_equal(bl_jobs_wait(s->jobs, id, &err), BL_OK);
	assert_true(bl_calib_tokens(bl_session_calib(s)) == again.samples * again.seqlen);
	effect_of(s);
	bl_session_close(s);
}

int main(void)
{
#define FRESH(t) cmocka_unit_test_setup_teardown(t, live_setup, support_teardown)
	const struct CMUnitTest tests[] = {FRESH(preflights), FRESH(paused_and_cancelled), FRESH(closed_in_the_middle), FRESH(evaluations),
					   FRESH(snapshots_bring_numbers_back), FRESH(another_device), FRESH(a_lost_device), FRESH(little_memory), FRESH(edits_while_jobs_run)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
