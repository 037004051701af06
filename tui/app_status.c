/* SPDX-License-Identifier: Apache-2.0
 * Line 1 and the two lines above the last: what is open, on which device, what the whole plan amounts to, how sure that is, and whether the target takes it. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "tui/app_private.h"

/* ---- line 1 ---- */

/* "H200 12/139 GiB", "+1 other" when somebody else computes on it too. */
static void device_text(struct bl_app *app, char *dst, size_t cap)
{
	struct bl_device_view d;
	size_t used;

	bl_session_device(app->session, &d);
	if (!d.cuda && !d.lost) {
		snprintf(dst, cap, " │ CPU %d threads", bl_pool_threads(app->session->pool));
		return;
	}
	used = (size_t)snprintf(dst, cap, " │ %s", d.name);
	if (d.lost && used < cap)
		snprintf(dst + used, cap - used, " lost");
	else if (d.total_gib > 0 && used < cap)
		used += (size_t)snprintf(dst + used, cap - used, " %.0f/%.0f GiB", d.used_gib, d.total_gib);
	if (!d.lost && d.other_processes > 0 && used < cap)
		snprintf(dst + used, cap - used, " +%d other%s", d.other_processes, d.other_processes == 1 ? "" : "s");
}

/* The plan in a word; of a checkpoint that is quantized and stays so, what the file stores. */
static const char *plan_text(char dst[BL_SCHEME_NAME_MAX], const struct bl_session *s)
{
	const char *format = NULL;

	bl_plan_summary(dst, s->plan);
	if (s->model->n_units && !strcmp(dst, "BF16") && bl_session_scheme(s, 0, &format) && format) {
		bl_scheme_name(dst, bl_session_scheme(s, 0, NULL));
		for (int i = 1; i < s->model->n_units; i++)
			if (!bl_scheme_equal(bl_session_scheme(s, 0, NULL), bl_session_scheme(s, i, NULL)))
				return "mixed in the file";
		if (strlen(dst) + 8 < BL_SCHEME_NAME_MAX)
			strcat(dst, " in file");
	}
	return dst;
}

void bl_app_draw_title(struct bl_app *app, int row)
{
	struct bl_grid_s *g = &app->grid;
	const struct bl_session *s = app->session;
	char left[400], plan[200], device[120], summary[BL_SCHEME_NAME_MAX];
	int x, room;

	bl_grid_fill(g, row, 0, g->cols, BL_ROLE_TITLE, 0, ' ');
	if (!s) {
		bl_grid_text(g, row, 0, g->cols, BL_ROLE_TITLE, 0, "bitlathe │ no checkpoint open");
		return;
	}
	snprintf(left, sizeof left, "%s · %d blocks, %d units", s->model->title, (int)s->model->config.layers,
		 s->model->n_units);
	snprintf(plan, sizeof plan, " │ %s%s", plan_text(summary, s), bl_plan_dirty(s->plan) ? "*" : "");
	for (const char *at = bl_plan_stages(s->plan); *at; at += strcspn(at, ";"), at += *at == ';')
		snprintf(plan + strlen(plan), sizeof plan - strlen(plan), " +%.*s", (int)strcspn(at, ":;") < 16 ? (int)strcspn(at, ":;") : 16, at);
	if (bl_plan_n_snapshots(s->plan) > 0)
		snprintf(plan + strlen(plan), sizeof plan - strlen(plan), " ‹%.60s›",
			 bl_plan_snapshot(s->plan, 0)->name);
	device_text(app, device, sizeof device);
	/* the plan's state must stay in sight: the model's name gives way first */
	room = g->cols - bl_text_width(plan) - bl_text_width(device);
	if (room < bl_text_width(left) && room < 20)
		room = g->cols - bl_text_width(plan) > 8 ? g->cols - bl_text_width(plan) : 8;
	x = bl_grid_text(g, row, 0, room, BL_ROLE_TITLE, 0, left);
	x += bl_grid_text(g, row, x, g->cols - x, BL_ROLE_TITLE, 0, plan);
	bl_grid_text(g, row, x, g->cols - x, BL_ROLE_TITLE, 0, device);
}

/* ---- totals ---- */

static enum bl_role role_of(const struct bl_quantity *q)
{
	return q->origin == BL_MEASURED ? BL_ROLE_MEASURED : q->origin == BL_MODELLED ? BL_ROLE_MODELLED : BL_ROLE_UNKNOWN;
}

/* "3m": how old a measured number is, when that is worth a word. */
static void age(char dst[16], const struct bl_effect *e)
{
	dst[0] = '\0';
	if (e->kl.origin != BL_MEASURED || !(e->age_s >= 60))
		return;
	if (e->age_s < 3600)
		snprintf(dst, 16, " %.0fm", floor(e->age_s / 60));
	else
		snprintf(dst, 16, " %.0fh", fmin(floor(e->age_s / 3600), 999));
}

/* "0.652±.004" */
static void with_spread(const struct bl_app *app, char *dst, size_t cap, const struct bl_quantity *q, int decimals)
{
	char text[24], spread[24];

	bl_app_quantity(app, text, q, decimals);
	snprintf(dst, cap, "%s", text);
	if (q->origin == BL_UNKNOWN || !(q->spread > 0))
		return;
	snprintf(spread, sizeof spread, "%.*f", decimals, q->spread);
	snprintf(dst, cap, "%s%s%s", text, bl_app_glyph(app, "±", "+-"), spread[0] == '0' ? spread + 1 : spread);
}

#define PARTS    8
#define RANK_AGE 4 /* of how old the KL is */

/* What does not fit is left out by rank, so that no number goes because another one grew. */
void bl_app_draw_totals(struct bl_app *app, int row)
{
	struct bl_grid_s *g = &app->grid;
	struct bl_plan_estimate estimate, *e = &estimate;
	struct bl_effect effect;
	char bytes[16], n[64], old[16];
	enum bl_mark mark;
	double percent;
	int x;

	bl_session_quality(app->session, e, &effect);
	percent = e->base_bytes ? ((double)e->bytes / (double)e->base_bytes - 1) * 100 : 0;
	mark = effect.computing ? BL_MARK_COMPUTING : effect.stale ? BL_MARK_STALE : BL_MARK_NONE;
	const struct {
		const char *name, *unit;
		const struct bl_quantity *q;
		double scale;
		int decimals, rank; /* 0: the last to give way */
		bool effect, spread;
	} parts[PARTS] = {
		{ "time/tok", "×", &e->time_ratio, 1, 2, 0, false, false }, { "KL", "", &effect.kl, 1, 4, 1, true, false },
		{ "perf", "", &e->perf_ratio, 1, 3, 3, false, false },      { "score", "", &e->score, 1, 3, 2, false, true },
		{ "prompt", "×", &e->prefill_ratio, 1, 2, 5, false, false }, { "top1%", "", &effect.top1, 100, 1, 6, true, false },
		{ "step", " ms", &e->step_ms, 1, 2, 7, false, false },      { "server", " GiB", &e->server_gib, 1, 1, 8, false, false },
	};
	struct { enum bl_role role; bool shown; char text[120]; } out[PARTS] = { 0 };

	x = bl_grid_textf(g, row, 0, g->cols, BL_ROLE_TEXT, 0, "size %s %+.0f%%",
			  bl_human_bytes(bytes, sizeof bytes, (double)e->bytes), percent == 0 ? 0 : percent);
	age(old, &effect);
	for (int i = 0; i < PARTS; i++) {
		struct bl_quantity q = *parts[i].q;

		q.value *= parts[i].scale;
		if (parts[i].spread)
			with_spread(app, n, sizeof n, &q, parts[i].decimals);
		else if (parts[i].effect)
			bl_app_quantity_marked(app, n, &q, parts[i].decimals, mark);
		else
			bl_app_quantity(app, n, &q, parts[i].decimals);
		snprintf(out[i].text, sizeof out[i].text, "%s %s%s", parts[i].name, n, q.origin == BL_UNKNOWN ? "" : parts[i].unit);
		out[i].role = role_of(&q);
	}
	for (int rank = 0, room = g->cols - x; rank <= PARTS && room > 0; rank++) {
		for (int i = 0; i < PARTS; i++)
			if (parts[i].rank == rank) {
				room -= 2 + bl_text_width(out[i].text);
				out[i].shown = room >= 0;
			}
		if (rank == RANK_AGE - 1 && *old && room >= bl_text_width(old)) {
			room -= bl_text_width(old);
			strcat(out[1].text, old);
		}
	}
	for (int i = 0; i < PARTS; i++)
		if (out[i].shown)
			x += 2 + bl_grid_text(g, row, x + 2, g->cols - x - 2, out[i].role, 0, out[i].text);
}

/* ---- verdict ---- */

void bl_app_draw_verdict(struct bl_app *app, int row)
{
	struct bl_grid_s *g = &app->grid;
	struct bl_session *s = app->session;
	int n = 0, n_fatal = 0, refused = 0, last = -1, x;
	const struct bl_problem *p = bl_session_problems(s, &n, &n_fatal), *first = NULL;
	char keys[64], label[48] = "";

	for (int i = 0; i < n; i++) {
		if (p[i].fatal && p[i].unit >= 0 && p[i].unit != last) {
			refused++;
			last = p[i].unit;
		}
		if (!first && (p[i].fatal || !n_fatal))
			first = &p[i];
	}
	x = bl_grid_textf(g, row, 0, g->cols, BL_ROLE_TEXT, 0, "target %s  ", s->target->title);
	x += bl_grid_textf(g, row, x, g->cols - x, BL_ROLE_GOOD, 0, "✓ %d legal", s->model->n_units - refused);
	if (!first)
		return;
	bl_app_keys_of(app, BL_ACT_PROBLEMS, keys, sizeof keys);
	keys[strcspn(keys, ",")] = '\0';
	x += bl_grid_textf(g, row, x, g->cols - x, n_fatal ? BL_ROLE_ERROR : BL_ROLE_WARN, 0, "  %s ",
			   n_fatal ? "✗" : "!");
	if (n_fatal > 1 || (!n_fatal && n > 1))
		x += bl_grid_textf(g, row, x, g->cols - x, BL_ROLE_TEXT, 0, "%d (%s lists): ", n_fatal ? n_fatal : n,
				   keys);
	else
		x += bl_grid_textf(g, row, x, g->cols - x, BL_ROLE_TEXT, 0, "(%s shows) ", keys);
	if (first->unit >= 0)
		snprintf(label, sizeof label, "%d %s", s->model->units[first->unit].block,
			 bl_unit_kind_name(s->model->units[first->unit].kind));
	const char *what = label[0] && first->fatal ? bl_app_reason(first->sentence, g->cols - x) : first->sentence;
	if (label[0] && !bl_starts_with(what, label))
		x += bl_grid_textf(g, row, x, g->cols - x, BL_ROLE_TEXT, 0, "%s: ", label);
	bl_grid_text(g, row, x, g->cols - x, BL_ROLE_TEXT, 0, what);
}
