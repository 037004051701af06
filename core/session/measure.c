/* SPDX-License-Identifier: Apache-2.0
 * Evaluation put together. Files are read before anything runs, so that a wrong name costs no time. */
#include "core/session/measure.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/session/live.h"
#include "core/session/stored.h"
#include "core/text/dataset.h"

/* ---- the plan's weights ---- */

struct solving { struct bl_session *s; const struct bl_plan *plan; struct bl_weight_set *set; };

static enum bl_status solve_unit(void *ctx, size_t item, struct bl_err *err)
{
	struct solving *w = ctx;

	return bl_session_unit_weights(w->s, (int)item, bl_plan_choice(w->plan, (int)item), &w->set->of[item], err);
}

enum bl_status bl_measure_weights(struct bl_weight_set *out, struct bl_session *s, const struct bl_plan *plan, const atomic_int *cancel, struct bl_err *err)
{
	struct bl_weight_set set = {.n = s->model->n_units};
	struct solving w = {s, plan, &set};

	struct bl_fold *f = NULL;

	if (s->model->n_units && bl_live_fold(s->priv->live, bl_plan_choice(plan, 0), &f, err))
		return err->status;
	set.keep = f;
	set.small = f && bl_fold_changes_small(f) ? bl_fold_model(f) : NULL;
	set.of = bl_xalloc((size_t)set.n + 1, sizeof *set.of);
	if (bl_pool_run(s->pool, (size_t)set.n, solve_unit, &w, cancel, err))
		bl_measure_weights_free(&set);
	else
		*out = set;
	return err->status;
}

void bl_measure_weights_free(struct bl_weight_set *w)
{
	for (int i = 0; i < w->n; i++)
		bl_unit_weights_unref(w->of[i]);
	bl_free(w->of);
	bl_fold_unref(w->keep);
	*w = (struct bl_weight_set){.of = NULL};
}

struct turning { struct bl_weight_set *to; const struct bl_weight_set *from; };

static enum bl_status turn_unit(void *ctx, size_t item, struct bl_err *err)
{
	struct turning *t = ctx;
	struct bl_unit_weights *w = t->from->of[item];

	if (w && !(t->to->of[item] = bl_unit_weights_transformers(w)))
		return bl_fail(err, BL_NO_MEMORY, "memory: %.1f MiB asked for decoded weights", (double)(w->rows * w->cols) / (1 << 19));
	return BL_OK;
}

enum bl_status bl_weights_transformers(struct bl_weight_set *out, const struct bl_weight_set *w, struct bl_pool *pool, struct bl_err *err)
{
	struct bl_weight_set made = {.n = w->n, .small = w->small, .keep = bl_fold_ref(w->keep)};
	struct turning t = {&made, w};

	made.of = bl_xalloc((size_t)w->n + 1, sizeof *made.of);
	if (bl_pool_run(pool, (size_t)w->n, turn_unit, &t, NULL, err))
		bl_measure_weights_free(&made);
	else
		*out = made;
	return err->status;
}

static bool changes_nothing(const struct bl_weight_set *w)
{
	for (int i = 0; i < w->n; i++)
		if (w->of[i])
			return false;
	return !w->small;
}

/* ---- texts ---- */

struct texts {
	struct bl_tokenizer *t;
	struct bl_chat *chat;
	struct bl_err no_chat;                  /* why there is none */
	int32_t *ppl_ids, *kl_ids;              /* kl_ids NULL: the same windows */
	struct bl_eval_windows ppl, kl;
	struct bl_mcq_item *items; size_t n_items, n_used;
	int32_t end;
};

static void texts_free(struct texts *x)
{
	bl_tokenizer_free(x->t);
	bl_chat_free(x->chat);
	bl_free(x->ppl_ids);
	bl_free(x->kl_ids);
	bl_mcq_free(x->items, x->n_items);
}

static int32_t eos_at(const cJSON *v, int i, int64_t vocab)
{
	const cJSON *e = cJSON_IsArray(v) ? cJSON_GetArrayItem(v, i) : i == 0 ? v : NULL;

	return cJSON_IsNumber(e) && e->valuedouble >= 0 && e->valuedouble < (double)vocab ? (int32_t)e->valuedouble : -1;
}

/* Whether the template puts this token right after what the assistant said. */
static bool ends_a_turn(const struct texts *x, int32_t id)
{
	static const struct bl_message turns[2] = {{"user", "a"}, {"assistant", "b"}};
	struct bl_err ignored = BL_ERR_INIT;
	struct bl_str text = {0};
	struct bl_ids ids = {0};
	bool yes = false;

	if (x->chat && bl_chat_render(x->chat, turns, 2, false, &text, &ignored) == BL_OK &&
	    bl_tokenizer_encode(x->t, bl_str_c(&text), text.len, false, &ids, &ignored) == BL_OK)
		for (size_t i = 1; i < ids.n; i++)
			yes = ids.ids[i] == id || (yes && !bl_tokenizer_is_special(x->t, ids.ids[i]));
	bl_str_free(&text);
	bl_ids_free(&ids);
	return yes;
}

/* The token that ends a reply: the end of sequence of generation_config.json or config.json; of several the one that the template uses. */
static enum bl_status find_end(struct texts *x, const struct bl_model *m, struct bl_err *err)
{
	struct bl_err ignored = BL_ERR_INIT;
	char *path = bl_path_join(m->dir, "generation_config.json");
	cJSON *generation = NULL;

	(void)bl_json_load(&generation, path, 1u << 20, 10000, &ignored);
	const cJSON *v = generation ? cJSON_GetObjectItemCaseSensitive(generation, "eos_token_id") : NULL;
	if (eos_at(v, 0, m->config.vocab) < 0)
		v = cJSON_GetObjectItemCaseSensitive(m->config.json, "eos_token_id");
	x->end = eos_at(v, 0, m->config.vocab);
	for (int i = 0; eos_at(v, i, m->config.vocab) >= 0; i++)
		if (ends_a_turn(x, eos_at(v, i, m->config.vocab))) {
			x->end = eos_at(v, i, m->config.vocab);
			break;
		}
	cJSON_Delete(generation);
	bl_free(path);
	if (x->end < 0)
		return bl_fail(err, BL_INVALID, "%s: neither generation_config.json nor config.json has eos_token_id: multiple choice needs the token that ends an answer",
			       m->title);
	return BL_OK;
}

static enum bl_status load_mcq(struct texts *x, const struct bl_model *m, const struct bl_eval_request *rq, struct bl_err *err)
{
	if (bl_mcq_load(&x->items, &x->n_items, rq->mcq, err) || find_end(x, m, err))
		return err->status;
	x->n_used = rq->items > 0 && (uint64_t)rq->items < x->n_items ? (size_t)rq->items : x->n_items;
	return BL_OK;
}

static enum bl_status load(struct texts *x, const struct bl_model *m, const struct bl_eval_request *rq, struct bl_err *err)
{
	int64_t len = rq->seqlen > 0 ? rq->seqlen : BL_EVAL_SEQLEN;

	if (!rq->ppl && !rq->kl && !rq->mcq)
		return bl_fail(err, BL_USAGE, "nothing to measure: --ppl FILE, --kl FILE or --mcq FILE says on what");
	if (bl_tokenizer_open(&x->t, m->dir, err))
		return err->status;
	(void)bl_chat_open(&x->chat, m->dir, &x->no_chat); /* needed by rows of messages alone, which then say why */
	if (rq->ppl && bl_eval_windows_load(&x->ppl_ids, &x->ppl, rq->ppl, x->t, x->chat, len, rq->windows, err))
		return err->status;
	if (rq->kl && rq->ppl && !strcmp(rq->kl, rq->ppl))
		x->kl = x->ppl;
	else if (rq->kl && bl_eval_windows_load(&x->kl_ids, &x->kl, rq->kl, x->t, x->chat, len, rq->windows, err))
		return err->status;
	return rq->mcq ? load_mcq(x, m, rq, err) : BL_OK;
}

/* ---- the run ---- */

static void say_protocol(struct bl_eval_result *out, const struct texts *x, enum bl_arithmetic a)
{
	const struct bl_eval_windows *w = out->has_ppl ? &x->ppl : &x->kl;
	size_t n = 0, cap = sizeof out->protocol;

	out->protocol[0] = '\0';
	if (out->has_ppl || out->has_kl)
		n = (size_t)snprintf(out->protocol, cap, "%lld windows of %lld, tokens 2 to %lld predicted, bf16 logits", (long long)w->n, (long long)w->len,
				     (long long)w->len);
	if (out->has_mcq && n < cap)
		n += (size_t)snprintf(out->protocol + n, cap - n, "%schoices by the sum of log p of their tokens and id %d, %s", n ? "; " : "", x->end,
			 x->chat ? "question through the chat template" : "question as it is (no chat template)");
	if (a == BL_ARITHMETIC_TRANSFORMERS && n < cap)
		snprintf(out->protocol + n, cap - n, "; rounded inputs as transformers with compressed-tensors computes them");
}

struct bl_measure {
	struct bl_session *s;
	struct bl_eval_request rq; /* file names are not looked at any more, only whether there are any */
	struct texts x;
	struct bl_eval_base *windows, *kl, *mcq; /* NULL: nothing is kept */
};

static enum bl_status measure(struct bl_eval_result *out, struct bl_measure *m, struct bl_forward *f, const struct bl_weight_set *set, bl_eval_report *report, void *ctx,
			      struct bl_err *err)
{
	const struct texts *x = &m->x;
	bool together = m->rq.ppl && m->rq.kl && !x->kl_ids;

	out->has_plan = set != NULL;
	out->has_ppl = m->rq.ppl != NULL;
	out->has_kl = m->rq.kl && set;
	out->has_mcq = m->rq.mcq != NULL;
	if (m->rq.ppl && bl_evaluate_windows_again(m->windows, f, set, &x->ppl, &out->base_ppl, &out->plan_ppl, together ? &out->kl : NULL, report, ctx, err))
		return err->status;
	if (out->has_kl && !together && bl_evaluate_windows_again(m->kl, f, set, &x->kl, NULL, NULL, &out->kl, report, ctx, err))
		return err->status;
	if (m->rq.mcq)
		bl_evaluate_mcq_again(m->mcq, f, set, x->items, x->n_used, x->t, x->chat, x->end, &out->base_mcq, &out->plan_mcq, report, ctx, err);
	return err->status;
}

enum bl_status bl_measure_open(struct bl_measure **out, struct bl_session *s, const struct bl_eval_request *rq, uint64_t cap, struct bl_err *err)
{
	struct bl_measure *m = bl_xalloc(1, sizeof *m);

	m->s = s;
	m->rq = *rq;
	m->x.end = -1;
	if (load(&m->x, s->model, rq, err)) {
		bl_measure_close(m);
		return err->status;
	}
	m->windows = cap ? bl_eval_base_new(cap / 3) : NULL;
	m->kl = cap ? bl_eval_base_new(cap / 3) : NULL;
	m->mcq = cap ? bl_eval_base_new(cap / 3) : NULL;
	*out = m;
	return BL_OK;
}

void bl_measure_close(struct bl_measure *m)
{
	if (!m)
		return;
	texts_free(&m->x);
	bl_eval_base_free(m->windows);
	bl_eval_base_free(m->kl);
	bl_eval_base_free(m->mcq);
	bl_free(m);
}

static void add_windows(struct bl_sha256 *h, const char *what, const struct bl_eval_windows *w, bool wanted)
{
	bl_sha256_add(h, what, strlen(what) + 1);
	if (!wanted)
		return;
	bl_sha256_add(h, &w->n, sizeof w->n);
	bl_sha256_add(h, &w->len, sizeof w->len);
	bl_sha256_add(h, w->ids, (size_t)(w->n * w->len) * sizeof *w->ids);
}

void bl_measure_digest(const struct bl_measure *m, char hex[65])
{
	const struct texts *x = &m->x;
	struct bl_sha256 h;

	bl_sha256_init(&h);
	add_windows(&h, "ppl", &x->ppl, m->rq.ppl != NULL);
	add_windows(&h, "kl", &x->kl, m->rq.kl != NULL);
	bl_sha256_add(&h, &x->end, sizeof x->end);
	if (m->rq.arithmetic != BL_ARITHMETIC_SERVER)
		bl_sha256_add(&h, "transformers", 12);
	for (size_t i = 0; m->rq.mcq && i < x->n_used; i++) {
		const struct bl_mcq_item *it = &x->items[i];
		bl_sha256_add(&h, it->question, strlen(it->question) + 1);
		for (int c = 0; c < it->n_choices; c++)
			bl_sha256_add(&h, it->choices[c], strlen(it->choices[c]) + 1);
		bl_sha256_add(&h, &it->answer, sizeof it->answer);
	}
	bl_sha256_hex(&h, hex);
}

/* with: weights that stand in for the plan's, or NULL. */
static enum bl_status one_with(struct bl_eval_result *out, struct bl_measure *m, struct bl_forward *f, const struct bl_plan *plan, const struct bl_weight_set *with,
			       bl_eval_report *report, void *ctx, struct bl_err *err)
{
	struct bl_eval_result made = {.seconds = 0};
	struct bl_weight_set set = {.of = NULL}, turned = {.of = NULL};
	uint64_t start = bl_now_ns();

	if (!plan || bl_measure_weights(&set, m->s, plan, NULL, err) == BL_OK) {
		const struct bl_weight_set *use = with ? with : changes_nothing(&set) ? NULL : &set;
		if (use && m->rq.arithmetic == BL_ARITHMETIC_TRANSFORMERS && bl_weights_transformers(&turned, use, m->s->pool, err) == BL_OK)
			use = &turned;
		made.weights_seconds = plan ? (double)(bl_now_ns() - start) / 1e9 : 0;
		for (int i = 0; plan && i < bl_plan_n_units(plan); i++)
			made.weights_alone += bl_scheme_weights_alone(&bl_plan_choice(plan, i)->scheme);
		if (!err->status)
			measure(&made, m, f, use, report, ctx, err);
	}
	if (!err->status) {
		say_protocol(&made, &m->x, m->rq.arithmetic);
		made.seconds = (double)(bl_now_ns() - start) / 1e9;
		made.wall_s = bl_wall_s();
		snprintf(made.device, sizeof made.device, "%s", bl_forward_engine(f)->name);
		if (plan)
			bl_plan_digest(plan, made.plan_digest);
		*out = made;
	}
	bl_measure_weights_free(&set);
	bl_measure_weights_free(&turned);
	return err->status;
}

enum bl_status bl_measure_one(struct bl_eval_result *out, struct bl_measure *m, struct bl_forward *f, const struct bl_plan *plan, bl_eval_report *report, void *ctx,
			      struct bl_err *err)
{
	return one_with(out, m, f, plan, NULL, report, ctx, err);
}

static enum bl_status run_with(struct bl_eval_result *out, struct bl_session *s, struct bl_forward *f, const struct bl_plan *plan, const struct bl_weight_set *with,
			       const struct bl_eval_request *rq, bl_eval_report *report, void *ctx, struct bl_err *err)
{
	struct bl_measure *m = NULL;
	uint64_t start = bl_now_ns();

	if (!bl_measure_open(&m, s, rq, 0, err) && !one_with(out, m, f, plan, with, report, ctx, err))
		out->seconds = (double)(bl_now_ns() - start) / 1e9; /* with the reading of files */
	bl_measure_close(m);
	return err->status;
}

enum bl_status bl_measure_run(struct bl_eval_result *out, struct bl_session *s, struct bl_forward *f, const struct bl_plan *plan, const struct bl_eval_request *rq,
			      bl_eval_report *report, void *ctx, struct bl_err *err)
{
	return run_with(out, s, f, plan, NULL, rq, report, ctx, err);
}

/* ---- ranges ---- */

enum bl_status bl_measure_ranges(float *absmax, struct bl_session *s, struct bl_forward *f, const char *const *files, size_t n_files, int64_t windows, int64_t len,
				 bl_eval_report *report, void *ctx, struct bl_err *err)
{
	struct bl_dataset_options o = {.max_tokens = windows > 0 ? windows * len : 0};
	struct bl_tokenizer *t = NULL;
	struct bl_chat *chat = NULL;
	struct bl_dataset *d = NULL;
	struct bl_err no_chat = BL_ERR_INIT;
	struct bl_weight_set set = {.of = NULL};
	struct bl_fold *fold = NULL;
	struct bl_windows cut;

	if (bl_tokenizer_open(&t, s->model->dir, err))
		return err->status;
	(void)bl_chat_open(&chat, s->model->dir, &no_chat);
	if (bl_dataset_load(&d, files, n_files, t, chat, no_chat.text, &o, err) == BL_OK) {
		bl_dataset_windows(&cut, d, len, windows);
		struct bl_eval_windows w = {cut.ids, cut.n, cut.len};
		if (cut.n < 1)
			bl_fail(err, BL_INVALID, "the data hold %zu tokens and do not fill one window of %lld (shorter ones: --seqlen)", d->ids.n, (long long)len);
		else if (!s->model->n_units || (!bl_live_fold(s->priv->live, bl_plan_choice(s->plan, 0), &fold, err) && !bl_live_stage_set(&set, fold, s->model, -1, err)))
			bl_eval_ranges(absmax, f, set.of ? &set : NULL, &w, report, ctx, err);
		bl_measure_weights_free(&set);
		bl_fold_unref(fold);
		bl_dataset_free(d);
	}
	bl_chat_free(chat);
	bl_tokenizer_free(t);
	return err->status;
}

static bool any_static(const struct bl_plan *p)
{
	for (int i = 0; i < bl_plan_n_units(p); i++)
		if (bl_act_is_static(bl_plan_choice(p, i)->scheme.act))
			return true;
	return false;
}

/* ---- alone ---- */

/* A quantized checkpoint of the session's model. */
static enum bl_status weights_of_other(struct bl_weight_set *out, struct bl_session *s, const char *path, const atomic_int *cancel, struct bl_err *err)
{
	struct bl_model *m;

	if (bl_model_open(&m, path, err))
		return err->status;
	if (!m->config.quantized)
		bl_fail(err, BL_USAGE, "%s: is not quantized; --base is for evaluating a quantized checkpoint beside the model it was made from", m->title);
	else if (bl_same_rest(s->model, m, err) == BL_OK)
		bl_stored_weights(out, m, s->pool, cancel, err);
	bl_model_close(m);
	return err->status;
}

enum bl_status bl_measure_alone(struct bl_eval_result *out, struct bl_session *s, const struct bl_measure_request *rq, const atomic_int *cancel,
				bl_eval_report *report, void *ctx, struct bl_err *err)
{
	struct bl_forward_options o = {.cancel = cancel};
	struct bl_backend b;
	struct bl_engine e = {.run = NULL};
	struct bl_forward *f = NULL;
	struct bl_weight_set other = {.of = NULL}, own = {.of = NULL};

	bl_backend_open(&b, rq->program_dir);
	if ((rq->quantized && weights_of_other(&other, s, rq->quantized, cancel, err)) || bl_engine_open(&e, &b, rq->device, s->pool, rq->eval.memory_limit, err) ||
	    bl_session_own(s, rq->eval.arithmetic, &own, &o.own, err) || bl_forward_new(&f, s->model, &e, &o, err))
		goto done;
	if (rq->quantized) {
		run_with(out, s, f, NULL, &other, &rq->eval, report, ctx, err);
		goto done;
	}
	if (rq->n_data && any_static(s->plan)) {
		float *absmax = bl_xalloc((size_t)s->model->n_units + 1, sizeof *absmax);
		if (bl_measure_ranges(absmax, s, f, rq->data, rq->n_data, rq->samples, rq->seqlen, report, ctx, err)) {
			bl_free(absmax);
			goto done;
		}
		bl_session_use_ranges(s, absmax);
	}
	bl_measure_run(out, s, f, s->plan, &rq->eval, report, ctx, err);
done:
	bl_forward_free(f);
	bl_measure_weights_free(&other);
	bl_measure_weights_free(&own);
	bl_engine_close(&e);
	bl_backend_close(&b);
	return err->status;
}
