/* SPDX-License-Identifier: Apache-2.0
 * The protocols on the demo model: what bl_evaluate_* reports against sums made by hand in double from the logits; identities; sequences of questions;
 * ranges of inputs; progress and cancel. With ../shared: losses against the golden logits. */
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
#include "core/evaluate/evaluate.h"
#include "core/evaluate/run.h"

#define TINY  BL_SOURCE_DIR "/tests/models/tiny-exaone4"
#define PROSE BL_SOURCE_DIR "/tests/data/prose.txt"
#define LEN   24
#define N     5

static struct bl_err err;
#define OK(call)                                                     \
	do {                                                         \
		bl_err_clear(&err);                                  \
		if ((call) != BL_OK)                                 \
			fail_msg("%s: %s", #call, err.text);         \
	} while (0)
#define NEAR(a, b, tol)                                                                     \
	do {                                                                                \
		if (!(fabs((double)(a) - (double)(b)) <= (tol)))                            \
			fail_msg("%s = %.9g, not %.9g", #a, (double)(a), (double)(b));      \
	} while (0)

struct fix {
	struct bl_backend backend;
	struct bl_pool *pool;
	struct bl_engine engine;
	struct bl_model *model;
	struct bl_forward *f;
	struct bl_tokenizer *t;
	struct bl_chat *chat;
	struct bl_weight_set set; /* down of block 5 with a coarse grid, all else the checkpoint's own */
	int32_t *ids;
	struct bl_eval_windows w;
};

/* The unit's weights rounded to multiples of `step`; 0: as they are. */
static struct bl_unit_weights *rounded(const struct bl_model *m, int unit, float step)
{
	const struct bl_unit *u = &m->units[unit];
	struct bl_unit_weights *w = bl_unit_weights_new(unit, BL_WEIGHTS_DENSE, u->rows, u->cols);
	int64_t at = 0;

	for (int j = 0; j < u->n_members; j++)
		for (int64_t i = 0; i < u->members[j].rows * u->cols; i++) {
			uint16_t h;
			memcpy(&h, (const uint8_t *)u->members[j].weight->data + 2 * i, 2);
			w->dense[at++] = step > 0 ? bl_f32_bf16(step * roundf(bl_bf16_f32(h) / step)) : h;
		}
	return w;
}

static int fix_open(void **state)
{
	struct fix *x = bl_xalloc(1, sizeof *x);
	struct bl_forward_options o = {.batch_tokens = 64};
	const char *device = getenv("BL_TEST_DEVICE");

	bl_backend_open(&x->backend, getenv("BL_BUILD_DIR") ? getenv("BL_BUILD_DIR") : BL_BUILD_DIR);
	x->pool = bl_pool_new(2);
	OK(bl_engine_open(&x->engine, &x->backend, device ? device : "cpu", x->pool, 0, &err));
	OK(bl_model_open(&x->model, TINY, &err));
	OK(bl_forward_new(&x->f, x->model, &x->engine, &o, &err));
	OK(bl_tokenizer_open(&x->t, TINY, &err));
	OK(bl_chat_open(&x->chat, TINY, &err));
	OK(bl_eval_windows_load(&x->ids, &x->w, PROSE, x->t, x->chat, LEN, N, &err));
	x->set.n = x->model->n_units;
	x->set.of = bl_xalloc((size_t)x->set.n, sizeof *x->set.of);
	x->set.of[bl_model_unit(x->model, "5.down")] = rounded(x->model, bl_model_unit(x->model, "5.down"), 0.05f);
	*state = x;
	return 0;
}

static int fix_close(void **state)
{
	struct fix *x = *state;

	for (int i = 0; i < x->set.n; i++)
		bl_unit_weights_unref(x->set.of[i]);
	bl_free(x->set.of);
	bl_free(x->ids);
	bl_chat_free(x->chat);
	bl_tokenizer_free(x->t);
	bl_forward_free(x->f);
	bl_model_close(x->model);
	bl_engine_close(&x->engine);
	bl_pool_free(x->pool);
	bl_backend_close(&x->backend);
	bl_free(x);
	return 0;
}

/* ---- logits by hand ---- */

struct taken { struct fix *x; double *out; int64_t vocab; };

static enum bl_status take_rows(void *ctx, int64_t first, const struct bk_mat *logits, struct bl_err *e)
{
	struct taken *t = ctx;
	uint16_t *row = bl_xalloc((size_t)t->vocab, sizeof *row);

	assert_int_equal(logits->dtype, BK_BF16);
	for (int64_t i = 0; i < logits->rows; i++) {
		t->x->engine.ops->get(t->x->engine.run, row, (char *)logits->p + 2 * i * logits->ld, (size_t)t->vocab * 2);
		for (int64_t v = 0; v < t->vocab; v++)
			t->out[(first + i) * t->vocab + v] = (double)bl_bf16_f32(row[v]);
	}
	bl_free(row);
	(void)e;
	return BL_OK;
}

/* log p of every token's successor [n * len, vocab], computed without what is tested. */
static double *log_probs(struct fix *x, const int32_t *ids, const int64_t *start, int64_t n, const struct bl_weight_set *set)
{
	struct bl_sequences s = {ids, start, n};
	struct bl_pass *p;
	struct taken t = {x, NULL, x->model->config.vocab};
	struct bl_head_sink sink = {&t, take_rows};

	t.out = bl_xalloc((size_t)(start[n] * t.vocab), sizeof *t.out);
	OK(bl_pass_new(&p, x->f, &s, &err));
	OK(bl_pass_embed(p, &err));
	OK(bl_pass_run(p, 0, set, NULL, &err));
	OK(bl_pass_head(p, NULL, start[n], 0, &sink, &err));
	bl_pass_free(p);
	for (int64_t i = 0; i < start[n]; i++) {
		double *row = t.out + i * t.vocab, top = -INFINITY, sum = 0;
		for (int64_t v = 0; v < t.vocab; v++)
			top = row[v] > top ? row[v] : top;
		for (int64_t v = 0; v < t.vocab; v++)
			sum += exp(row[v] - top);
		for (int64_t v = 0; v < t.vocab; v++)
			row[v] -= top + log(sum);
	}
	return t.out;
}

static void windows_against_sums(void **state)
{
	struct fix *x = *state;
	int64_t start[N + 1], vocab = x->model->config.vocab, same = 0;
	double nll[2] = {0, 0}, kl = 0, worst = 0;
	struct bl_eval_ppl base, plan, alone;
	struct bl_eval_kl got;

	assert_int_equal(x->w.n, N);
	for (int64_t i = 0; i <= N; i++)
		start[i] = i * LEN;
	double *p = log_probs(x, x->w.ids, start, N, NULL), *q = log_probs(x, x->w.ids, start, N, &x->set);
	for (int64_t i = 0; i < N; i++)
		for (int64_t j = 0; j + 1 < LEN; j++) {
			const double *a = p + (i * LEN + j) * vocab, *b = q + (i * LEN + j) * vocab;
			int32_t next = x->w.ids[i * LEN + j + 1];
			int64_t top_a = 0, top_b = 0;
			double here = 0;
			nll[0] -= a[next];
			nll[1] -= b[next];
			for (int64_t v = 0; v < vocab; v++) {
				here += exp(a[v]) * (a[v] - b[v]);
				top_a = a[v] > a[top_a] ? v : top_a;
				top_b = b[v] > b[top_b] ? v : top_b;
			}
			same += top_a == top_b;
			kl += here;
			worst = here > worst ? here : worst;
		}
	OK(bl_evaluate_windows(x->f, &x->set, &x->w, &base, &plan, &got, NULL, NULL, &err));
	NEAR(base.nll, nll[0] / (N * (LEN - 1)), 1e-4);
	NEAR(plan.nll, nll[1] / (N * (LEN - 1)), 1e-4);
	NEAR(base.value, exp(base.nll), 1e-6);
	NEAR(got.mean, kl / (N * (LEN - 1)), 1e-4);
	NEAR(got.max, worst, 1e-3);
	NEAR(got.top1, (double)same / (N * (LEN - 1)), 1e-12);
	assert_true(got.mean > 0.001 && got.median < got.p99 && got.p99 <= got.max);
	assert_int_equal(got.tokens, N * (LEN - 1));
	assert_int_equal(base.tokens, N * (LEN - 1));
	assert_int_equal(base.windows, N);
	OK(bl_evaluate_windows(x->f, NULL, &x->w, &alone, NULL, NULL, NULL, NULL, &err));
	assert_true(alone.nll == base.nll && alone.stderr_ == base.stderr_);
	bl_free(p);
	bl_free(q);
}

/* The checkpoint's own weights as a plan are no distance at all. */
static void own_weights(void **state)
{
	struct fix *x = *state;
	struct bl_unit_weights *of[64] = {NULL};
	struct bl_weight_set set = {.of = of, .n = x->model->n_units};
	struct bl_eval_ppl base, plan;
	struct bl_eval_kl kl;
	int unit = bl_model_unit(x->model, "2.qkv");

	of[unit] = rounded(x->model, unit, 0);
	OK(bl_evaluate_windows(x->f, &set, &x->w, &base, &plan, &kl, NULL, NULL, &err));
	assert_true(base.nll == plan.nll);
	assert_true(fabs(kl.mean) < 1e-6 && fabs(kl.max) < 1e-6 && kl.top1 == 1);
	assert_int_equal(bl_eval_first_block(x->model, &set), 2);
	assert_int_equal(bl_eval_first_block(x->model, NULL), x->model->config.layers);
	bl_unit_weights_unref(of[unit]);
}

static void too_short(void **state)
{
	struct fix *x = *state;
	struct bl_eval_windows w;
	int32_t *ids;
	struct bl_err why = BL_ERR_INIT;

	assert_int_equal(bl_eval_windows_load(&ids, &w, PROSE, x->t, x->chat, 1 << 20, 0, &why), BL_INVALID);
	assert_non_null(strstr(why.text, "--seqlen"));
	bl_err_clear(&why);
	assert_int_equal(bl_eval_windows_load(&ids, &w, PROSE, x->t, x->chat, 1, 0, &why), BL_USAGE);
	bl_err_clear(&why);
	w = (struct bl_eval_windows){x->w.ids, 0, LEN};
	assert_int_equal(bl_evaluate_windows(x->f, NULL, &w, NULL, NULL, NULL, NULL, NULL, &why), BL_USAGE);
}

/* ---- questions ---- */

static struct bl_mcq_item item(const char *question, const char *a, const char *b, const char *c, int answer)
{
	struct bl_mcq_item it = {.question = bl_xstrdup(question), .n_choices = c ? 3 : 2, .answer = answer};

	it.choices[0] = bl_xstrdup(a);
	it.choices[1] = bl_xstrdup(b);
	if (c)
		it.choices[2] = bl_xstrdup(c);
	return it;
}

static void items_drop(struct bl_mcq_item *it, int n)
{
	for (int i = 0; i < n; i++) {
		bl_free(it[i].question);
		for (int k = 0; k < it[i].n_choices; k++)
			bl_free(it[i].choices[k]);
	}
}

/* Context and choice are one text: its ids, from where it leaves the context's own, and the end behind them. */
static void sequences(void **state)
{
	struct fix *x = *state;
	struct bl_mcq_item it[2] = {item("What is the capital of Muklagaim?", "Honork", "Shogru", NULL, 1), item("The sun", "ny day", " rises", "s", 0)};
	const struct bl_chat *chats[2] = {x->chat, NULL};
	struct bl_mcq_sequences s;

	for (int k = 0; k < 2; k++) {
		int at = 0;
		OK(bl_mcq_encode(&s, it, 2, x->t, chats[k], 8, &err));
		assert_int_equal(s.n, 5);
		for (int i = 0; i < 2; i++)
			for (int c = 0; c < it[i].n_choices; c++, at++) {
				struct bl_message turn = {"user", it[i].question};
				struct bl_str text = {0};
				struct bl_ids context = {0}, whole = {0};
				const int32_t *ids = s.ids + s.start[at];
				int64_t n = s.start[at + 1] - s.start[at], from = s.from[at];
				if (chats[k])
					OK(bl_chat_render(chats[k], &turn, 1, true, &text, &err));
				else
					bl_str_add(&text, it[i].question);
				OK(bl_tokenizer_encode(x->t, text.s, text.len, false, &context, &err));
				bl_str_add(&text, it[i].choices[c]);
				OK(bl_tokenizer_encode(x->t, text.s, text.len, false, &whole, &err));
				assert_int_equal(n, whole.n + 1);
				assert_memory_equal(ids, whole.ids, whole.n * sizeof *ids);
				assert_int_equal(ids[n - 1], 8);
				assert_true(from >= 1 && from < n - 1 && from <= (int64_t)context.n);
				assert_memory_equal(ids, context.ids, (size_t)from * sizeof *ids); /* what is not scored is the context */
				if (chats[k])
					assert_int_equal(from, context.n);
				bl_ids_free(&context);
				bl_ids_free(&whole);
				bl_str_free(&text);
			}
		bl_mcq_sequences_free(&s);
	}
	items_drop(it, 2);
}

static void questions_against_sums(void **state)
{
	struct fix *x = *state;
	struct bl_mcq_item it[4] = {item("What is the capital of Muklagaim?", "Honork", "Randrorx", "Shogru", 2), item("What is the chief export of Bransholor?", "pepper", "rubber", NULL, 0),
				    item("What is the capital of Pepupom?", "Bagraim", "Bagraim", NULL, 0), item("What is the capital of Pepupom?", "Bagraim", "Bagraim", NULL, 1)};
	int64_t vocab = x->model->config.vocab, at = 0;
	struct bl_mcq_sequences s;
	struct bl_eval_mcq base, plan;
	int right[2] = {0, 0}, flips = 0;

	OK(bl_mcq_encode(&s, it, 4, x->t, x->chat, 8, &err));
	double *p = log_probs(x, s.ids, s.start, s.n, NULL), *q = log_probs(x, s.ids, s.start, s.n, &x->set);
	for (int i = 0; i < 4; i++) {
		int best[2] = {0, 0};
		double top[2] = {-INFINITY, -INFINITY};
		for (int c = 0; c < it[i].n_choices; c++, at++) {
			double score[2] = {0, 0};
			for (int64_t j = s.start[at] + s.from[at]; j < s.start[at + 1]; j++) {
				score[0] += p[(j - 1) * vocab + s.ids[j]];
				score[1] += q[(j - 1) * vocab + s.ids[j]];
			}
			for (int k = 0; k < 2; k++)
				if (score[k] > top[k] + 1e-4) { /* equal texts are equal */
					top[k] = score[k];
					best[k] = c;
				}
		}
		right[0] += best[0] == it[i].answer;
		right[1] += best[1] == it[i].answer;
		flips += (best[0] == it[i].answer) != (best[1] == it[i].answer);
	}
	OK(bl_evaluate_mcq(x->f, &x->set, it, 4, x->t, x->chat, 8, &base, &plan, NULL, NULL, &err));
	NEAR(base.acc, right[0] / 4.0, 0);
	NEAR(plan.acc, right[1] / 4.0, 0);
	NEAR(plan.flips, flips / 4.0, 0);
	assert_true(right[0] == 3); /* the model knows the facts; of two equal choices the first is taken */
	assert_int_equal(base.n, 4);
	bl_mcq_sequences_free(&s);
	bl_free(p);
	bl_free(q);
	items_drop(it, 4);
}

/* ---- ranges ---- */

struct seen { struct fix *x; float *top; };

static enum bl_status look(void *ctx, int unit, int64_t first, const struct bk_mat *m, struct bl_err *e)
{
	struct seen *s = ctx;
	uint16_t *row = bl_xalloc((size_t)m->cols, sizeof *row);

	for (int64_t i = 0; i < m->rows; i++) {
		s->x->engine.ops->get(s->x->engine.run, row, (char *)m->p + 2 * i * m->ld, (size_t)m->cols * 2);
		for (int64_t k = 0; k < m->cols; k++)
			s->top[unit] = fmaxf(s->top[unit], fabsf(bl_bf16_f32(row[k])));
	}
	bl_free(row);
	(void)first, (void)e;
	return BL_OK;
}

static void ranges(void **state)
{
	struct fix *x = *state;
	float got[64] = {0}, want[64] = {0};
	struct seen seen = {x, want};
	struct bl_tap tap = {.ctx = &seen, .input = look};
	int64_t start[N + 1];
	struct bl_sequences s = {x->w.ids, start, N};
	struct bl_pass *p;

	for (int64_t i = 0; i <= N; i++)
		start[i] = i * LEN;
	OK(bl_pass_new(&p, x->f, &s, &err));
	OK(bl_pass_embed(p, &err));
	OK(bl_pass_run(p, 0, NULL, &tap, &err));
	bl_pass_free(p);
	OK(bl_eval_ranges(got, x->f, NULL, &x->w, NULL, NULL, &err));
	for (int i = 0; i < x->model->n_units; i++) {
		assert_true(want[i] > 0);
		assert_true(got[i] == want[i]);
	}
}

/* ---- progress, cancel ---- */

struct told { double last, total; int calls; bool backwards; };

static void hear(void *ctx, const char *phase, double done, double total, const char *unit)
{
	struct told *t = ctx;

	t->backwards |= done + 1e-9 < t->last || done > total + 1e-9;
	t->last = done;
	t->total = total;
	t->calls++;
	assert_true(*phase && !strcmp(unit, "tokens"));
}

static void progress(void **state)
{
	struct fix *x = *state;
	struct told t = {0};
	struct bl_eval_kl kl;

	OK(bl_evaluate_windows(x->f, &x->set, &x->w, NULL, NULL, &kl, hear, &t, &err));
	assert_false(t.backwards);
	NEAR(t.last, t.total, 1e-6);
	NEAR(t.total, N * LEN, 0);
	assert_true(t.calls >= 8 + 3);
}

static void cancel(void **state)
{
	struct fix *x = *state;
	atomic_int stop = 1;
	struct bl_forward_options o = {.cancel = &stop};
	struct bl_forward *f;
	struct bl_err why = BL_ERR_INIT;

	OK(bl_forward_new(&f, x->model, &x->engine, &o, &err));
	assert_int_equal(bl_evaluate_windows(f, &x->set, &x->w, NULL, NULL, NULL, NULL, NULL, &why), BL_CANCELLED);
	bl_forward_free(f);
}

/* ---- golden ---- */

static void golden_losses(void **state)
{
	struct fix *x = *state;
	const char *env = getenv("BL_SHARED");
	char path[1024];
	struct bl_st st;
	struct bl_forward_options o = {.fp32 = true};
	struct bl_forward *f;
	struct bl_eval_passes p;
	struct bl_eval_run r;
	int64_t tokens[46], start[3] = {0, 48, 96}, vocab = x->model->config.vocab;
	int32_t ids[96], targets[46];
	float nll[46];

	snprintf(path, sizeof path, "%s/golden/tiny-exaone4/forward.safetensors", env ? env : BL_SOURCE_DIR "/../shared");
	if (bl_st_open(&st, path, &err)) {
		print_message("skipped: no %s\n", path);
		bl_err_clear(&err);
		skip();
	}
	const struct bl_tensor *t = bl_st_find(&st, "input_ids"), *logits = bl_st_find(&st, "logits");
	assert_true(t && t->n_elems == 96 && logits && logits->n_elems == 48 * vocab);
	for (int i = 0; i < 96; i++)
		ids[i] = t->dtype == BL_I64 ? (int32_t)((const int64_t *)t->data)[i] : ((const int32_t *)t->data)[i];
	for (int i = 0; i < 46; i++) { /* the last 24 places of each row but the very last */
		tokens[i] = i / 23 * 48 + 24 + i % 23;
		targets[i] = ids[tokens[i] + 1];
	}
	struct bl_sequences s = {ids, start, 2};
	struct bl_eval_rows rows = {.nll_base = nll};
	OK(bl_forward_new(&f, x->model, &x->engine, &o, &err));
	bl_eval_run_init(&r, f, NULL, 96, "golden", NULL, NULL);
	OK(bl_eval_passes_run(&p, &r, &s, &err));
	OK(bl_eval_rows_run(&rows, &r, &p, tokens, targets, 46, &err));
	bl_eval_passes_free(&p);
	bl_forward_free(f);
	for (int i = 0; i < 46; i++) {
		const float *row = (const float *)logits->data + (i / 23 * 24 + i % 23) * vocab;
		double top = -INFINITY, sum = 0;
		for (int64_t v = 0; v < vocab; v++)
			top = fmax(top, (double)row[v]);
		for (int64_t v = 0; v < vocab; v++)
			sum += exp((double)row[v] - top);
		NEAR(nll[i], top + log(sum) - (double)row[targets[i]], 0.03); /* its cosines were rounded to bfloat16 */
	}
	bl_st_close(&st);
}

/* A second plan beside a base that was kept: the numbers of a run of its own, also when there is no room to keep anything. */
static void a_kept_base_changes_nothing(void **state)
{
	struct fix *x = *state;
	struct bl_eval_ppl base, plan, base2, plan2;
	struct bl_eval_kl kl, kl2;
	struct bl_eval_mcq mcq, mcq2;
	struct bl_mcq_item *items;
	size_t n;

	OK(bl_mcq_load(&items, &n, BL_SOURCE_DIR "/tests/data/choices.jsonl", &err));
	OK(bl_evaluate_windows(x->f, &x->set, &x->w, &base, &plan, &kl, NULL, NULL, &err));
	OK(bl_evaluate_mcq(x->f, &x->set, items, n, x->t, x->chat, 8, NULL, &mcq, NULL, NULL, &err));
	for (uint64_t cap = 16; cap <= 64u << 20; cap = cap < 1024 ? 64u << 20 : 2 * cap) {
		struct bl_eval_base *kept = bl_eval_base_new(cap), *choices = bl_eval_base_new(cap);
		const struct bl_weight_set none = {.of = NULL};

		OK(bl_evaluate_windows_again(kept, x->f, NULL, &x->w, &base2, NULL, NULL, NULL, NULL, &err));
		assert_memory_equal(&base, &base2, sizeof base);
		for (int turn = 0; turn < 2; turn++) {
			OK(bl_evaluate_windows_again(kept, x->f, &x->set, &x->w, &base2, &plan2, &kl2, NULL, NULL, &err));
			assert_memory_equal(&base, &base2, sizeof base);
			assert_memory_equal(&plan, &plan2, sizeof plan);
			assert_memory_equal(&kl, &kl2, sizeof kl);
			OK(bl_evaluate_mcq_again(choices, x->f, &x->set, items, n, x->t, x->chat, 8, NULL, &mcq2, NULL, NULL, &err));
			assert_memory_equal(&mcq, &mcq2, sizeof mcq);
		}
		OK(bl_evaluate_windows_again(kept, x->f, &none, &x->w, &base2, &plan2, &kl2, NULL, NULL, &err));
		assert_true(kl2.max == 0);
		bl_eval_base_free(kept);
		bl_eval_base_free(choices);
	}
	bl_mcq_free(items, n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(windows_against_sums), cmocka_unit_test(own_weights), cmocka_unit_test(too_short),
		cmocka_unit_test(sequences),            cmocka_unit_test(questions_against_sums),
		cmocka_unit_test(ranges),               cmocka_unit_test(progress),
		cmocka_unit_test(cancel),               cmocka_unit_test(golden_losses),
		cmocka_unit_test(a_kept_base_changes_nothing),
	};

	return cmocka_run_group_tests(tests, fix_open, fix_close);
}
