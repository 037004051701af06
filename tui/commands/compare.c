/* SPDX-License-Identifier: Apache-2.0
 * compare: rows of plans, each quantized and measured, as a table for people, for Markdown or as JSON. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/session/compare.h"
#include "tui/cli.h"

struct texts { char **of; size_t n, cap; };

struct compare_work { struct bl_session *s; struct bl_compare *all; const struct bl_eval_request *rq; struct bl_progress progress; };

static enum bl_status compare_work(void *ctx, struct bl_err *err)
{
	struct compare_work *w = ctx;

	return bl_compare_run(w->s, w->all, w->rq, &w->progress, err);
}

/* ---- rows ---- */

static void add(struct texts *t, const char *from, size_t n)
{
	while (n && (*from == ' ' || *from == '\n')) {
		from++;
		n--;
	}
	while (n && (from[n - 1] == ' ' || from[n - 1] == '\n'))
		n--;
	if (!n)
		return;
	bl_xgrow(&t->of, &t->cap, t->n + 1);
	t->of[t->n++] = bl_xstrndup(from, n);
}

static void split(struct texts *t, const char *text, const char *separators)
{
	for (;;) {
		size_t n = strcspn(text, separators);
		add(t, text, n);
		if (!text[n])
			return;
		text += n + 1;
	}
}

static enum bl_status make_rows(struct texts *rows, const struct bl_cli *c, const struct bl_session *s, struct bl_err *err)
{
	struct texts schemes = {NULL, 0, 0};

	for (int i = 0; i < c->o.n_many; i++)
		if (c->o.many_of[i] == BL_OPT_ROWS)
			split(rows, c->o.many[i], ";");
	if (bl_given(&c->o, BL_OPT_ALL_METHODS)) {
		split(&schemes, bl_given(&c->o, BL_OPT_SCHEMES) ? c->o.value[BL_OPT_SCHEMES] : "W8A8,W4A16,W4A16_channel,W3A16", ",");
		for (size_t i = 0; i < schemes.n && !err->status; i++) {
			struct bl_scheme parsed;
			if (!bl_scheme_parse(&parsed, schemes.of[i], err))
				bl_compare_all_methods(s, schemes.of[i], true, &rows->of, &rows->n, &rows->cap);
			bl_free(schemes.of[i]);
		}
		bl_free(schemes.of);
	}
	if (!err->status && !rows->n)
		bl_fail(err, BL_USAGE, "nothing to compare: --rows \"W4A16:rtn; W4A16:gptq\", or --all-methods");
	return err->status;
}

static enum bl_status eval_request(struct bl_eval_request *rq, const struct bl_cli *c, struct bl_err *err)
{
	const struct bl_options *o = &c->o;
	long long windows, seqlen, items;

	if (bl_option_int(o, BL_OPT_WINDOWS, 1, 1ll << 40, 0, &windows, err) || bl_option_int(o, BL_OPT_SEQLEN, 2, 1 << 20, BL_EVAL_SEQLEN, &seqlen, err) ||
	    bl_option_int(o, BL_OPT_ITEMS, 1, 1ll << 40, 0, &items, err) || bl_cli_size(o, BL_OPT_MEMORY_LIMIT, 1, &rq->memory_limit, err))
		return err->status;
	rq->ppl = (char *)(uintptr_t)o->value[BL_OPT_PPL];
	rq->kl = (char *)(uintptr_t)o->value[BL_OPT_KL];
	rq->mcq = (char *)(uintptr_t)o->value[BL_OPT_MCQ];
	rq->windows = windows;
	rq->seqlen = seqlen;
	rq->items = items;
	if (!rq->ppl && !rq->kl && !rq->mcq)
		return bl_fail(err, BL_USAGE, "nothing to measure: --ppl FILE, --kl FILE or --mcq FILE says on what");
	return BL_OK;
}

/* ---- the calibration that rows need ---- */

static bool needs_calibration(const struct bl_compare *all)
{
	for (int i = 0; i < all->n; i++)
		if (all->row[i].needs_calibration)
			return true;
	return false;
}

/* ---- output ---- */

static double kl_of(const struct bl_compare_row *r)
{
	return !r->done ? NAN : r->r.has_kl ? r->r.kl.mean : r->r.has_plan ? NAN : 0;
}

static const struct bl_eval_ppl *ppl_of(const struct bl_compare_row *r)
{
	return !r->done || !r->r.has_ppl ? NULL : r->r.has_plan ? &r->r.plan_ppl : &r->r.base_ppl;
}

static const struct bl_eval_mcq *mcq_of(const struct bl_compare_row *r)
{
	return !r->done || !r->r.has_mcq ? NULL : r->r.has_plan ? &r->r.plan_mcq : &r->r.base_mcq;
}

static const char *number(char dst[16], double v, const char *format)
{
	if (isfinite(v))
		snprintf(dst, 16, *format == '5' ? "%.5f" : *format == '4' ? "%.4f" : *format == '3' ? "%.3f" : "%.2f", v);
	else
		snprintf(dst, 16, "-");
	return dst;
}

struct cells { char kl[16], ppl[16], mcq[16], mb[16], s[16], top1[16]; };

static void cells_of(struct cells *x, const struct bl_compare_row *r)
{
	number(x->kl, kl_of(r), "5");
	number(x->ppl, ppl_of(r) ? ppl_of(r)->value : NAN, "3");
	number(x->mcq, mcq_of(r) ? mcq_of(r)->acc : NAN, "4");
	number(x->mb, (double)r->bytes / 1e6, "2");
	number(x->s, r->done ? r->solve_s : NAN, "2");
	number(x->top1, r->done && r->r.has_kl ? r->r.kl.top1 : NAN, "4");
}

static void base_row(struct bl_compare_row *row, const struct bl_session *s, const struct bl_compare *all)
{
	*row = (struct bl_compare_row){.done = all->has_base, .r = all->base, .bytes = bl_session_estimate((struct bl_session *)(uintptr_t)s)->base_bytes, .time_ratio = 1};
	row->r.has_plan = row->r.has_kl = false;
}

static void text_row(struct bl_cli *c, const char *name, const struct bl_compare_row *r)
{
	struct cells x;

	cells_of(&x, r);
	if (strlen(name) > 34)
		bl_cli_line(c, "%s", name);
	bl_cli_line(c, "%-34s %8s %8s %7s %8s %8s", strlen(name) > 34 ? "" : name, x.kl, x.ppl, x.mcq, x.mb, x.s);
	if (*r->why)
		bl_cli_wrapped(c, 2, "  %s", r->why);
}

static void to_text(struct bl_cli *c, const struct bl_session *s, const struct bl_compare *all)
{
	struct bl_compare_row base;

	base_row(&base, s, all);
	if (all->has_base) {
		bl_cli_wrapped(c, 2, "%s on %s", s->model->title, all->base.device);
		bl_cli_wrapped(c, 2, "protocol: %s", all->base.protocol);
	}
	if (*bl_session_calib_title(s))
		bl_cli_wrapped(c, 2, "calibration: %s", bl_session_calib_title(s));
	bl_cli_line(c, "%-34s %8s %8s %7s %8s %8s", "row", "KL", "ppl", "choices", "MB", "solve s");
	text_row(c, "base", &base);
	for (int i = 0; i < all->n; i++)
		text_row(c, all->row[i].text, &all->row[i]);
}

/* Rows of one kind stand together; the best of them is set in bold. */
static bool same_kind(const struct bl_compare_row *a, const struct bl_compare_row *b)
{
	size_t n = strcspn(a->text, ": ");

	return n == strcspn(b->text, ": ") && !strncmp(a->text, b->text, n);
}

static bool best(const struct bl_compare *all, int i)
{
	for (int k = 0; k < all->n; k++)
		if (same_kind(&all->row[i], &all->row[k]) && kl_of(&all->row[k]) < kl_of(&all->row[i]))
			return false;
	return isfinite(kl_of(&all->row[i]));
}

static void markdown_row(struct bl_cli *c, const char *name, const struct bl_compare_row *r, bool bold)
{
	struct cells x;

	cells_of(&x, r);
	bl_cli_line(c, "| %s | %s%s%s | %s | %s | %s | %s | %.2fx | %s |", name, bold ? "**" : "", x.kl, bold ? "**" : "", x.ppl, x.mcq, x.top1, x.mb, r->time_ratio, x.s);
}

static void to_markdown(struct bl_cli *c, const struct bl_session *s, const struct bl_compare *all)
{
	struct bl_compare_row base;

	base_row(&base, s, all);
	bl_cli_wrapped(c, 0, "%s, %s; %s%s%s", s->model->title, all->base.device, all->base.protocol, *bl_session_calib_title(s) ? "; calibration " : "", bl_session_calib_title(s));
	bl_cli_line(c, "\n| row | KL | ppl | choices | top-1 | MB | time/token (modelled) | solve s |\n|---|---|---|---|---|---|---|---|");
	markdown_row(c, "base", &base, false);
	for (int i = 0; i < all->n; i++)
		markdown_row(c, all->row[i].text, &all->row[i], best(all, i));
	for (int i = 0; i < all->n; i++)
		if (*all->row[i].why)
			bl_cli_line(c, "\n%s: %s", all->row[i].text, all->row[i].why);
}

static void row_json(cJSON *list, const struct bl_compare_row *r)
{
	cJSON *o = cJSON_CreateObject();

	cJSON_AddItemToArray(list, o);
	cJSON_AddStringToObject(o, "row", r->text);
	bl_json_add_int(o, "bytes", (int64_t)r->bytes);
	cJSON_AddNumberToObject(o, "time_ratio", r->time_ratio);
	cJSON_AddBoolToObject(o, "legal", r->legal);
	if (*r->why)
		cJSON_AddStringToObject(o, "failed", r->why);
	if (!r->done)
		return;
	cJSON_AddBoolToObject(o, "stored", r->stored);
	cJSON_AddNumberToObject(o, "solve_seconds", r->solve_s);
	bl_cli_eval_json(o, &r->r);
}

static void to_json(cJSON *o, const struct bl_session *s, const struct bl_compare *all)
{
	cJSON *list;

	cJSON_AddStringToObject(o, "model", s->model->id);
	cJSON_AddStringToObject(o, "device", all->base.device);
	cJSON_AddStringToObject(o, "protocol", all->base.protocol);
	cJSON_AddStringToObject(o, "calibration", bl_session_calib_title(s));
	list = cJSON_AddArrayToObject(o, "rows");
	for (int i = 0; i < all->n; i++)
		row_json(list, &all->row[i]);
}

/* ---- the command ---- */

static enum bl_status run(struct bl_cli *c, struct bl_session *s, struct bl_compare *all, const struct bl_eval_request *rq, struct bl_err *err)
{
	bool look = bl_given(&c->o, BL_OPT_DRY_RUN); /* rows with their sizes, nothing measured */
	int failed = 0;

	if (!look && bl_cli_calibration(c, s, needs_calibration(all), BL_EVAL_SEQLEN, err))
		return err->status;
	struct compare_work w = {.s = s, .all = all, .rq = rq};
	if (!look && bl_cli_work(c, "compare", compare_work, &w, &w.progress, err) && err->status != BL_NO_MEMORY && err->status != BL_NO_DEVICE)
		return err->status; /* what was measured is kept: the same line goes on */
	if (c->json)
		to_json(c->json, s, all);
	else if (bl_given(&c->o, BL_OPT_MARKDOWN))
		to_markdown(c, s, all);
	else
		to_text(c, s, all);
	for (int i = 0; i < all->n; i++)
		failed += *all->row[i].why != '\0';
	if (!err->status && failed)
		bl_fail(err, BL_FAILED, "%d of %d rows could not be measured: the table says why", failed, all->n);
	return err->status;
}

enum bl_status bl_cmd_compare(struct bl_cli *c, struct bl_err *err)
{
	struct bl_session *s;
	struct bl_eval_request rq = {.ppl = NULL};
	struct bl_compare *all = NULL;
	struct texts rows = {NULL, 0, 0};

	if (eval_request(&rq, c, err) || bl_cli_open(c, &s, c->o.args[0], err))
		return err->status;
	if (!make_rows(&rows, c, s, err) && !bl_compare_new(&all, s, (const char *const *)rows.of, (int)rows.n, err))
		run(c, s, all, &rq, err);
	for (size_t i = 0; i < rows.n; i++)
		bl_free(rows.of[i]);
	bl_free(rows.of);
	bl_session_close(s);
	bl_compare_free(all);
	return err->status;
}
