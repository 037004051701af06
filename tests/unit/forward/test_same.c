/* SPDX-License-Identifier: Apache-2.0
 * The same sequences give the same bits, however they are cut into batches, wherever hidden states and weights are, on any number of threads; the
 * bundled model against a small reference; generation; replaced weights; what must be refused. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/half.h"
#include "core/forward/pass.h"

#define N_SEQ  7
#define LENGTH 37

static struct machine machine;
static struct bl_model *tiny;
static int32_t ids[N_SEQ * LENGTH];

static bool unified(void) { return machine.engine.ops->unified; }

/* --- the bundled model --- */

static void reference(void **state)
{
	struct bl_st *st = open_tensors(BL_SOURCE_DIR "/tests/unit/forward/tiny_golden.safetensors");
	int64_t rows, cols, n;
	int32_t *given = tensor_ids(st, "input_ids", &rows, &cols);
	float *hidden = tensor_floats(st, "hidden_08", &n), *logits = tensor_floats(st, "logits", &n);
	struct outcome o;

	(void)state;
	compute(&o, &machine, tiny, given, rows, cols, &(struct asking){ .fp32 = true, .bf16_frequencies = true, .last = 1 });
	assert_true(worst(o.hidden[8] + 40 * 256, hidden, 8 * 256) < 1e-4);
	assert_true(worst(o.logits, logits, 4096) < 1e-4);
	outcome_free(&o);
	compute(&o, &machine, tiny, given, rows, cols, &(struct asking){ .fp32 = true, .last = 1 });
	assert_true(worst(o.logits, logits, 4096) > 1e-3); /* float32 frequencies: another model, a little */
	outcome_free(&o);
	bl_free(given);
	bl_free(hidden);
	bl_free(logits);
	close_tensors(st);
}

static struct { int32_t ids[64]; int n, most; } heard;

static bool hear(void *ctx, int32_t id)
{
	(void)ctx;
	heard.ids[heard.n++] = id;
	return heard.n < heard.most;
}

static const int32_t prompt[] = { 5, 209, 777, 337, 274, 711, 289, 409, 2233, 86, 455, 2560, 41, 8, 209, 6, 209, 9, 209, 209, 10, 209, 209 };
static const int32_t greedy[] = { 61, 924, 81, 700, 8, 209, 2, 5, 209, 777, 337, 274, 838, 894, 289, 451, 92, 868, 607, 92, 310, 41, 8, 209 };
#define N_PROMPT ((int64_t)(sizeof(prompt) / sizeof(*prompt)))
#define N_GREEDY ((int64_t)(sizeof(greedy) / sizeof(*greedy)))

static void say(bool fp32, const struct bl_generate_options *o, uint64_t weight_bytes, int most)
{
	struct bl_forward_options fo = { .fp32 = fp32, .weight_bytes = weight_bytes };
	struct bl_forward *f = NULL;
	struct bl_err err = BL_ERR_INIT;

	heard.n = 0;
	heard.most = most;
	if (bl_forward_new(&f, tiny, &machine.engine, &fo, &err) || bl_generate(f, NULL, prompt, N_PROMPT, o, hear, NULL, &err))
		fail_msg("%s", err.text);
	bl_forward_free(f);
}

/* What was heard is the greedy text; in BF16 on a GPU, whose products round in another order, up to a tie: a token whose logit is within BF16's rounding of the best. */
static void is_greedy(bool fp32)
{
	int32_t all[N_PROMPT + N_GREEDY];
	struct outcome o;
	const float *l;
	int same = 0;

	assert_int_equal(heard.n, N_GREEDY);
	while (same < N_GREEDY && heard.ids[same] == greedy[same])
		same++;
	if (same == N_GREEDY)
		return;
	assert_true(!fp32 && !unified());
	memcpy(all, prompt, sizeof(prompt));
	memcpy(all + N_PROMPT, greedy, sizeof(greedy));
	compute(&o, &machine, tiny, all, 1, N_PROMPT + same, &(struct asking){ .fp32 = true });
	l = o.logits + (N_PROMPT - 1 + same) * o.vocab;
	if (l[greedy[same]] - l[heard.ids[same]] > 0.05f * fabsf(l[greedy[same]]))
		fail_msg("token %d is %d, not %d, whose logit is higher by %g", same, heard.ids[same], greedy[same], (double)(l[greedy[same]] - l[heard.ids[same]]));
	outcome_free(&o);
}

static void generation(void **state)
{
	const int32_t stop[] = { 700 };
	int32_t first[24];

	(void)state;
	for (int fp32 = 0; fp32 < 2; fp32++) {
		say(fp32, &(struct bl_generate_options){ .n = N_GREEDY }, 0, 64);
		is_greedy(fp32);
	}
	say(true, &(struct bl_generate_options){ .n = N_GREEDY }, 1, 64); /* blocks take turns in two slots */
	assert_memory_equal(heard.ids, greedy, sizeof(greedy));
	say(false, &(struct bl_generate_options){ .n = N_GREEDY, .stop = stop, .n_stop = 1 }, 0, 64);
	assert_int_equal(heard.n, 4);
	say(false, &(struct bl_generate_options){ .n = N_GREEDY }, 0, 3);
	assert_int_equal(heard.n, 3);
	say(false, &(struct bl_generate_options){ .n = N_GREEDY, .temperature = 2, .top_p = 0.99, .seed = 7 }, 0, 64);
	memcpy(first, heard.ids, sizeof(first));
	say(false, &(struct bl_generate_options){ .n = N_GREEDY, .temperature = 2, .top_p = 0.99, .seed = 7 }, 0, 64);
	assert_memory_equal(first, heard.ids, sizeof(first));
	say(false, &(struct bl_generate_options){ .n = N_GREEDY, .temperature = 2, .top_p = 0.99, .seed = 8 }, 0, 64);
	assert_memory_not_equal(first, heard.ids, sizeof(first));
	say(false, &(struct bl_generate_options){ .n = N_GREEDY, .temperature = 1, .top_p = 1e-6, .seed = 7 }, 0, 64);
	is_greedy(false);
}

/* Decoding with the cache says what the whole sequence says. */
static void cache_agrees(void **state)
{
	int32_t all[N_PROMPT + N_GREEDY];
	struct outcome o;

	(void)state;
	memcpy(all, prompt, sizeof(prompt));
	memcpy(all + N_PROMPT, greedy, sizeof(greedy));
	compute(&o, &machine, tiny, all, 1, N_PROMPT + N_GREEDY, &(struct asking){ .fp32 = true });
	for (int64_t i = 0; i < N_GREEDY; i++) {
		const float *l = o.logits + (N_PROMPT - 1 + i) * o.vocab;

		for (int64_t j = 0; j < o.vocab; j++)
			assert_true(l[j] <= l[greedy[i]]);
	}
	outcome_free(&o);
}

/* --- the same bits --- */

static void same_as(const struct outcome *want, struct machine *m, const struct asking *a, const char *what)
{
	struct outcome o;

	compute(&o, m, tiny, ids, N_SEQ, LENGTH, a);
	if (!outcomes_equal(&o, want))
		fail_msg("%s: other bits", what);
	outcome_free(&o);
}

static void batches(void **state)
{
	(void)state;
	for (int fp32 = 0; fp32 < 2; fp32++) {
		struct asking a = { .fp32 = fp32, .last = 5 };
		struct outcome want;

		compute(&want, &machine, tiny, ids, N_SEQ, LENGTH, &a);
		if (unified()) /* a GPU's products may depend on the number of rows */
			for (int64_t n = 1; n < N_SEQ * LENGTH; n = 3 * n + 1) {
				a.batch_tokens = n;
				same_as(&want, &machine, &a, "batches");
			}
		a.batch_tokens = 0;
		a.weight_bytes = 1;
		same_as(&want, &machine, &a, "streamed weights");
		a.weight_bytes = fp32 ? 9 << 20 : 5 << 20;
		same_as(&want, &machine, &a, "some weights resident");
		outcome_free(&want);
	}
}

static void threads(void **state)
{
	struct asking a = { .last = 5, .absmax = true, .batch_tokens = 100 };
	struct outcome want;

	(void)state;
	compute(&want, &machine, tiny, ids, N_SEQ, LENGTH, &a);
	for (int n = 1; n < 6; n += 2) {
		struct machine other;

		machine_open(&other, n, 0);
		same_as(&want, &other, &a, "threads");
		machine_close(&other);
	}
	outcome_free(&want);
}

/* Are hidden states in the run's memory under this limit? -1: nothing fits. */
static int resident_under(uint64_t limit)
{
	struct machine m;
	struct bl_pass *p = NULL;
	struct bl_forward *f = NULL;
	int64_t start[N_SEQ + 1];
	struct bl_sequences s = { ids, start, N_SEQ };
	struct bl_err err = BL_ERR_INIT;
	int is = -1;

	for (int i = 0; i <= N_SEQ; i++)
		start[i] = i * LENGTH;
	machine_open(&m, 2, limit);
	if (bl_forward_new(&f, tiny, &m.engine, &(struct bl_forward_options){ .fp32 = true, .weight_bytes = 1, .batch_tokens = LENGTH }, &err) == BL_OK &&
	    bl_pass_new(&p, f, &s, &err) == BL_OK) {
		is = p->hidden != NULL;
		assert_int_equal(bl_pass_batches(p), N_SEQ);
	} else {
		assert_int_equal(err.status, BL_NO_MEMORY);
	}
	bl_pass_free(p);
	bl_forward_free(f);
	machine_close(&m);
	return is;
}

/* Hidden states of the same bits; logits too, but where a GPU may sum a product of another width in another order. */
static void same_but_slabs(const struct outcome *want, struct machine *m, const struct asking *a, const char *what)
{
	struct outcome o;
	double off;

	compute(&o, m, tiny, ids, N_SEQ, LENGTH, a);
	for (int i = 0; i < o.n_hidden; i++)
		if (memcmp(o.hidden[i], want->hidden[i], (size_t)(o.tokens * o.hidden_cols) * sizeof(float)))
			fail_msg("%s: other bits in the output of block %d", what, i - 1);
	off = worst(o.logits, want->logits, o.n_logits * o.vocab);
	if (off > (unified() ? 0 : 1e-5))
		fail_msg("%s: logits off by %g", what, off);
	outcome_free(&o);
}

/* A limit under which hidden states stay with the host, and the head comes in slab by slab. */
static void offloaded(void **state)
{
	struct asking a = { .last = 5, .batch_tokens = LENGTH, .fp32 = true };
	struct outcome want;
	struct machine small;
	uint64_t limit = 1 << 20;
	bool nothing = false;

	(void)state;
	compute(&want, &machine, tiny, ids, N_SEQ, LENGTH, &a);
	while (resident_under(limit) != 1) {
		nothing = nothing || resident_under(limit) < 0;
		limit += 20 << 10;
		assert_true(limit < 64 << 20);
	}
	assert_true(nothing);
	limit -= 20 << 10;
	assert_int_equal(resident_under(limit), 0);
	machine_open(&small, 2, limit);
	a.weight_bytes = 1;
	same_but_slabs(&want, &small, &a, "hidden states with the host");
	a.host_bytes = N_SEQ * LENGTH * (uint64_t)tiny->config.hidden * 4 - 1;
	a.spill_dir = "/tmp";
	same_but_slabs(&want, &small, &a, "hidden states in a file");
	machine_close(&small);
	outcome_free(&want);
}

/* --- replaced weights --- */

static void fill(struct bl_unit_weights *w, const struct bl_unit *u, bool fp8)
{
	int64_t at = 0;

	for (int i = 0; i < u->n_members; i++)
		for (int64_t r = 0; r < u->members[i].rows; r++, at++) {
			const uint16_t *src = (const uint16_t *)u->members[i].weight->data + r * u->cols;
			float top = 0;

			for (int64_t j = 0; j < u->cols; j++)
				top = fmaxf(top, fabsf(bl_bf16_f32(src[j])));
			if (w->kind == BL_WEIGHTS_CODES)
				w->scales[at] = top / (fp8 ? 448.0f : 127.0f);
			for (int64_t j = 0; j < u->cols; j++) {
				if (w->kind == BL_WEIGHTS_DENSE)
					w->dense[at * u->cols + j] = src[j];
				else if (fp8)
					w->codes[at * u->cols + j] = (int8_t)bl_f32_e4m3(bl_bf16_f32(src[j]) / w->scales[at]);
				else
					w->codes[at * u->cols + j] = (int8_t)lrintf(bl_bf16_f32(src[j]) / w->scales[at]);
			}
		}
}

static void replaced(void **state)
{
	static const struct { enum bl_weights_kind kind; enum bl_weights_act act; double least, most; } rows[] = {
		{ BL_WEIGHTS_DENSE, BL_WEIGHTS_ACT_NONE, 0, 0 },
		{ BL_WEIGHTS_CODES, BL_WEIGHTS_ACT_INT8_TOKEN, 1e-3, 0.1 },
		{ BL_WEIGHTS_CODES, BL_WEIGHTS_ACT_FP8_TOKEN, 1e-3, 0.2 },
		{ BL_WEIGHTS_CODES, BL_WEIGHTS_ACT_INT8_STATIC, 0.1, 0.8 },
	};
	struct outcome base;

	(void)state;
	compute(&base, &machine, tiny, ids, N_SEQ, LENGTH, &(struct asking){ .fp32 = true, .last = 5 });
	for (size_t k = 0; k < sizeof(rows) / sizeof(*rows); k++) {
		struct bl_weight_set set = { .of = bl_xalloc((size_t)tiny->n_units, sizeof(*set.of)), .n = tiny->n_units };
		struct outcome a, b;
		double d;

		for (int u = 0; u < set.n; u++) {
			set.of[u] = bl_unit_weights_new(u, rows[k].kind, tiny->units[u].rows, tiny->units[u].cols);
			set.of[u]->act = rows[k].act;
			set.of[u]->input_scale = 0.08f;
			fill(set.of[u], &tiny->units[u], rows[k].act == BL_WEIGHTS_ACT_FP8_TOKEN);
		}
		compute(&a, &machine, tiny, ids, N_SEQ, LENGTH, &(struct asking){ .fp32 = true, .last = 5, .set = &set });
		compute(&b, &machine, tiny, ids, N_SEQ, LENGTH, &(struct asking){ .fp32 = true, .last = 5, .set = &set, .batch_tokens = 64, .weight_bytes = 1 });
		if (unified())
			assert_true(outcomes_equal(&a, &b));
		d = rms_error(a.logits, base.logits, a.n_logits * a.vocab);
		print_message("replacement %d: %.3g\n", (int)k, d);
		assert_true(d >= rows[k].least && d <= rows[k].most);
		if (rows[k].kind == BL_WEIGHTS_DENSE)
			assert_true(outcomes_equal(&a, &base));
		outcome_free(&a);
		outcome_free(&b);
		for (int u = 0; u < set.n; u++)
			bl_unit_weights_unref(set.of[u]);
		bl_free(set.of);
	}
	outcome_free(&base);
}

/* --- refused, cancelled, moved --- */

static void refused(void **state)
{
	static const int32_t bad[] = { 1, 4096, -1 };
	static const int64_t one[] = { 0, 1 }, two[] = { 0, 2 }, none[] = { 0, 0 };
	atomic_int cancel = 1;
	struct bl_forward *f = NULL;
	struct bl_pass *p = NULL;
	struct bl_err err = BL_ERR_INIT;

	(void)state;
	assert_int_equal(bl_forward_new(&f, tiny, &machine.engine, &(struct bl_forward_options){ .cancel = &cancel }, &err), BL_OK);
	assert_int_equal(bl_pass_new(&p, f, &(struct bl_sequences){ bad, two, 1 }, &err), BL_INVALID);
	assert_non_null(strstr(err.text, "4096"));
	bl_err_clear(&err);
	assert_int_equal(bl_pass_new(&p, f, &(struct bl_sequences){ bad + 2, one, 1 }, &err), BL_INVALID);
	bl_err_clear(&err);
	assert_int_equal(bl_pass_new(&p, f, &(struct bl_sequences){ bad, none, 1 }, &err), BL_INVALID);
	bl_err_clear(&err);
	assert_int_equal(bl_pass_new(&p, f, &(struct bl_sequences){ bad, one, 1 }, &err), BL_OK);
	assert_int_equal(bl_pass_embed(p, &err), BL_CANCELLED);
	bl_err_clear(&err);
	cancel = 0;
	assert_int_equal(bl_pass_embed(p, &err), BL_OK);
	assert_int_equal(bl_pass_block(p, 8, NULL, NULL, &err), BL_FAILED);
	bl_err_clear(&err);
	assert_int_equal(bl_pass_block(p, 0, &(struct bl_weight_set){ .n = 3 }, NULL, &err), BL_INVALID);
	bl_err_clear(&err);
	assert_int_equal(bl_pass_run(p, 0, NULL, NULL, &err), BL_OK);
	bl_pass_free(p);
	bl_forward_free(f);
}

static void moved(void **state)
{
	const int64_t start[] = { 0, 20, 61 };
	struct bl_sequences s = { ids, start, 2 };
	struct bl_forward *f = NULL;
	struct bl_pass *a = NULL, *b = NULL;
	struct bl_err err = BL_ERR_INIT;
	char *x, *y;
	size_t bytes;

	(void)state;
	assert_int_equal(bl_forward_new(&f, tiny, &machine.engine, NULL, &err), BL_OK);
	assert_int_equal(bl_pass_new(&a, f, &s, &err), BL_OK);
	assert_int_equal(bl_pass_new(&b, f, &s, &err), BL_OK);
	bytes = 61 * bl_pass_row_bytes(a);
	x = bl_xalloc(bytes, 1);
	y = bl_xalloc(bytes, 1);
	assert_int_equal(bl_pass_embed(a, &err), BL_OK);
	assert_int_equal(bl_pass_block(a, 0, NULL, NULL, &err), BL_OK);
	assert_int_equal(bl_pass_copy(b, a, &err), BL_OK);
	assert_int_equal(bl_pass_run(a, 1, NULL, NULL, &err), BL_OK);
	assert_int_equal(bl_pass_run(b, 1, NULL, NULL, &err), BL_OK);
	assert_int_equal(bl_pass_read(a, 0, 61, x, &err), BL_OK);
	assert_int_equal(bl_pass_read(b, 0, 61, y, &err), BL_OK);
	assert_memory_equal(x, y, bytes);
	memset(x, 0, bytes);
	assert_int_equal(bl_pass_write(b, 7, 30, x, &err), BL_OK);
	assert_int_equal(bl_pass_read(b, 0, 61, x, &err), BL_OK);
	memset(y + 7 * bl_pass_row_bytes(b), 0, 30 * bl_pass_row_bytes(b));
	assert_memory_equal(x, y, bytes);
	assert_int_equal(bl_pass_read(b, 40, 22, x, &err), BL_FAILED);
	bl_free(x);
	bl_free(y);
	bl_pass_free(a);
	bl_pass_free(b);
	bl_forward_free(f);
}

static int open_machine(void **state)
{
	uint32_t x = 1;

	(void)state;
	machine_open(&machine, 2, 0);
	tiny = open_model(BL_SOURCE_DIR "/tests/models/tiny-exaone4");
	for (int i = 0; i < N_SEQ * LENGTH; i++) {
		x = x * 1664525 + 1013904223;
		ids[i] = (int32_t)(x >> 20);
	}
	return 0;
}

static int close_machine(void **state)
{
	(void)state;
	bl_model_close(tiny);
	machine_close(&machine);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reference), cmocka_unit_test(generation), cmocka_unit_test(cache_agrees), cmocka_unit_test(batches), cmocka_unit_test(threads),
		cmocka_unit_test(offloaded), cmocka_unit_test(replaced),   cmocka_unit_test(refused),	   cmocka_unit_test(moved),
	};

	return cmocka_run_group_tests(tests, open_machine, close_machine);
}
