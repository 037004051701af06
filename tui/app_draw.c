/* SPDX-License-Identifier: Apache-2.0
 * The fixed places: line 1, the body between, the rule or message, the job line, totals, verdict, keys. What does not
 * fit goes in this order: hints, job line, rule, totals and verdict, line 1; the body and the last line stay. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "tui/app_private.h"
#include "tui/widgets/bar.h"

#define JOBS_SHOWN 64

/* Rows of each fixed place, -1: not shown. */
struct places {
	int title, rule, n_rule, job, totals, verdict, keys;
	struct bl_grid_view body;
};

int bl_app_jobs_running(const struct bl_app *app, struct bl_job_view *first)
{
	struct bl_job_view jobs[JOBS_SHOWN];
	int n, running = 0;

	if (!app->session)
		return 0;
	n = bl_jobs_list(app->session->jobs, jobs, JOBS_SHOWN);
	for (int i = (n < JOBS_SHOWN ? n : JOBS_SHOWN) - 1; i >= 0; i--)
		if ((jobs[i].state == BL_JOB_RUNNING || jobs[i].state == BL_JOB_PAUSED) && !jobs[i].quiet) {
			bool longer = !running || !first || jobs[i].seconds_left > first->seconds_left;

			if (first && longer)
				*first = jobs[i];
			running++;
		}
	return running;
}

/* Rows that a text takes when it is broken at blanks; draws it when g is given. */
static int wrap(struct bl_grid_s *g, int row, int cols, int max_rows, enum bl_role role, const char *text)
{
	int used = 0;

	while (*text && used < max_rows && cols > 0) {
		char line[1024];
		size_t len = 0, cut = 0;

		while (text[len] && len < sizeof line - 4) {
			size_t step = 1;

			while (((unsigned char)text[len + step] & 0xC0) == 0x80)
				step++;
			memcpy(line + len, text + len, step);
			line[len + step] = '\0';
			if (bl_text_width(line) > cols)
				break;
			len += step;
			if (text[len] == ' ')
				cut = len;
		}
		if (!text[len])
			cut = len;
		if (!cut || used == max_rows - 1)
			cut = text[len] && used == max_rows - 1 ? strnlen(text, sizeof line - 1) : len;
		if (!cut)
			break;
		memcpy(line, text, cut);
		line[cut] = '\0';
		if (g)
			bl_grid_text(g, row + used, 0, cols, role, 0, line);
		used++;
		text += cut;
		while (*text == ' ')
			text++;
	}
	return used;
}

static const char *message_mark(enum bl_message_kind kind)
{
	return kind == BL_MSG_ERROR ? "✗ " : kind == BL_MSG_WARN ? "! " : "";
}

static void message_text(const struct bl_app *app, char *dst, size_t cap)
{
	const struct bl_app_private *p = app->priv;

	snprintf(dst, cap, "%s%s", message_mark(p->message.kind), p->message.text);
}

static struct places layout(const struct bl_app *app)
{
	struct places l = { -1, -1, 0, -1, -1, -1, -1, { 0, 0, 0, 0 } };
	int rows = app->grid.rows, cols = app->grid.cols, bottom = rows, top = 0;
	bool totals = app->session && rows >= 8, message = app->priv->message.on;
	bool job = bl_app_jobs_running(app, NULL) > 0;
	char text[1100];

	if (rows >= 2)
		l.keys = --bottom;
	if (totals) {
		l.verdict = --bottom;
		l.totals = --bottom;
	}
	/* a job takes the place of the rule, so that nothing jumps when it begins or ends; only a message needs a row besides */
	if (message && rows >= 10 && job)
		l.job = --bottom;
	if (rows >= 6 || message) {
		int want = 1;

		if (message) {
			message_text(app, text, sizeof text);
			want = wrap(NULL, 0, cols, app->priv->message.kind == BL_MSG_INFO ? 1 : 4, BL_ROLE_TEXT, text);
			want = want < 1 ? 1 : want > bottom - 1 ? bottom - 1 : want;
		}
		l.n_rule = want > 0 ? want : 0;
		bottom -= l.n_rule;
		l.rule = l.n_rule ? bottom : -1;
		if (!message && job && l.rule >= 0) {
			l.job = l.rule;
			l.rule = -1;
		}
	}
	if (rows >= 5)
		l.title = top++;
	l.body = (struct bl_grid_view){ top, 0, bottom > top ? bottom - top : 0, cols };
	return l;
}

struct bl_grid_view bl_app_body(const struct bl_app *app)
{
	return layout(app).body;
}

/* ---- the job line ---- */

static void amount(char *dst, size_t cap, double v, const char *unit)
{
	if (!strcmp(unit, "bytes"))
		bl_human_bytes(dst, cap, v);
	else
		snprintf(dst, cap, "%.0f", v);
}

/* What it does now: "write 1.2 GB of 1.9 GB", "block 21/30"; of tokens the bar says enough. */
static void doing(const struct bl_job_view *j, char *dst, size_t cap)
{
	char done[24], total[24];
	bool bytes = !strcmp(j->unit, "bytes"), tokens = !strcmp(j->unit, "tokens");
	size_t used = 0;

	if (j->note[0] || tokens) {
		bool said = bl_starts_with(j->name, j->phase); /* the name says it */

		snprintf(dst, cap, "%s%s%s", said ? "" : j->phase, !said && j->phase[0] && j->note[0] ? " " : "", j->note);
	} else {
		bool known = bytes || !strcmp(j->phase, j->unit); /* what is counted was said */

		amount(done, sizeof done, j->done, j->unit);
		amount(total, sizeof total, j->total, j->unit);
		used = (size_t)snprintf(dst, cap, "%s", j->phase);
		if (j->total > 0 && used < cap)
			snprintf(dst + used, cap - used, "%s%s of %s%s%s", j->phase[0] ? " " : "", done, total, known ? "" : " ", known ? "" : j->unit);
	}
}

/* "  118 MB/s"; less than one a second says nothing that the time left does not. */
static void speed(const struct bl_job_view *j, char *dst, size_t cap)
{
	bool tokens = !strcmp(j->unit, "tokens");
	char rate[24];

	*dst = '\0';
	if (j->rate < 1)
		return;
	amount(rate, sizeof rate, tokens && j->rate >= 1e4 ? j->rate / 1000 : j->rate, j->unit);
	snprintf(dst, cap, "  %s%s/s", rate, !tokens ? "" : j->rate >= 1e4 ? "k tok" : " tok");
}

void bl_job_line(const struct bl_job_view *j, int room, char *dst, size_t cap)
{
	char what[160], rate[40], left[40] = "", secs[24];
	const char *state = j->pausing ? "pausing (P goes on)  " : j->state == BL_JOB_PAUSED ? "paused (P goes on)  " : "";

	if (j->cancelling) {
		snprintf(dst, cap, "cancelling");
		return;
	}
	doing(j, what, sizeof what);
	speed(j, rate, sizeof rate);
	if (j->seconds_left >= 0 && j->total > 0)
		snprintf(left, sizeof left, "  %s left", bl_human_secs(secs, sizeof secs, j->seconds_left));
	if (*state)
		rate[0] = left[0] = '\0';
	/* the time left is what one looks for: the speed goes first, then the end of what it does */
	if (bl_text_width(state) + bl_text_width(what) + bl_text_width(rate) + bl_text_width(left) > room)
		rate[0] = '\0';
	if (*left && bl_text_width(what) + bl_text_width(left) > room)
		bl_text_cut(what, sizeof what, room - bl_text_width(left));
	snprintf(dst, cap, "%s%s%s%s", state, what, rate, *what ? left : left + strspn(left, " "));
}

static void draw_job(struct bl_app *app, int row)
{
	struct bl_grid_s *g = &app->grid;
	struct bl_job_view j;
	int n = bl_app_jobs_running(app, &j), x, bar = g->cols / 5;
	char rest[160];
	double share;

	if (!n)
		return;
	share = j.total > 0 ? j.done / j.total : 0;
	x = bl_grid_text(g, row, 0, g->cols / 3, BL_ROLE_TEXT, 0, j.name) + 1;
	if (n > 1)
		x += bl_grid_textf(g, row, x, 12, BL_ROLE_DIM, 0, "(+%d, J) ", n - 1);
	if (j.total > 0) {
		x += bl_grid_text(g, row, x, 1, BL_ROLE_BAR, 0, "▕");
		bl_bar_draw(g, row, x, bar, BL_ROLE_BAR, share);
		x += bar;
		x += bl_grid_textf(g, row, x, g->cols - x, BL_ROLE_BAR, 0, "▏%3.0f %%", 100 * (share > 1 ? 1 : share));
	}
	bl_job_line(&j, g->cols - x - 1, rest, sizeof rest);
	bl_grid_textf(g, row, x + 1, g->cols - x - 1, BL_ROLE_DIM, 0, "%s", rest);
}

/* ---- the last line ---- */

static void first_key(const struct bl_app *app, enum bl_action a, char *dst, size_t cap)
{
	char *end;

	bl_app_keys_of(app, a, dst, cap);
	if ((end = strstr(dst, ", ")))
		*end = '\0';
	if (!strcmp(dst, "Space") && !app->grid.ascii)
		snprintf(dst, cap, "␣");
}

/* "w8a8+w4a16+scheme": the first key of each, one after the other. Returns the last action, -1: there is none, or help. */
static int keys_text(const struct bl_app *app, char *names, char *dst, size_t cap)
{
	int last = -1;
	size_t used = 0;

	*dst = '\0';
	for (char *save = NULL, *name = strtok_r(names, "+", &save); name; name = strtok_r(NULL, "+", &save)) {
		char key[64];
		int a = bl_action_find(name);

		if (a < 0 || a == BL_ACT_HELP)
			continue;
		first_key(app, (enum bl_action)a, key, sizeof key);
		if (key[0] && used < cap)
			used += (size_t)snprintf(dst + used, cap - used, "%s%s", used ? " " : "", key);
		last = a;
	}
	return last;
}

static int draw_key(struct bl_app *app, int row, int x, const char *keys, const char *label, int room)
{
	struct bl_grid_s *g = &app->grid;
	int width = bl_text_width(keys) + 1 + bl_text_width(label);

	if (!keys[0] || width > room)
		return 0;
	x += bl_grid_text(g, row, x, room, BL_ROLE_KEY, 0, keys);
	bl_grid_textf(g, row, x, room, BL_ROLE_KEYTEXT, 0, " %s", label);
	return width;
}

static void draw_keys(struct bl_app *app, int row)
{
	struct bl_grid_s *g = &app->grid;
	char names[256], help[64];
	int x = 0, reserve;
	bool stays; /* an error or a warning is shown until it is dismissed */

	if (app->priv->n_pending) {
		for (int i = 0; i < app->priv->n_pending; i++) {
			bl_key_label(help, app->priv->pending[i]);
			x += bl_grid_textf(g, row, x, g->cols - x, BL_ROLE_KEY, 0, "%s ", help);
		}
		bl_grid_text(g, row, x, g->cols - x, BL_ROLE_KEYTEXT, 0, "… (Esc drops it)");
		return;
	}
	first_key(app, BL_ACT_HELP, help, sizeof help);
	reserve = help[0] ? bl_text_width(help) + 7 : 0;
	stays = app->priv->message.on && app->priv->message.kind != BL_MSG_INFO;
	const struct bl_screen *top = bl_app_top(app);
	const char *footer = top->footer_now ? top->footer_now(bl_app_state(app)) : NULL;
	if (!footer)
		footer = top->footer ? top->footer : "";
	snprintf(names, sizeof names, "%s%s", stays ? "dismiss " : "", footer);
	for (char *save = NULL, *name = strtok_r(names, " ", &save); name; name = strtok_r(NULL, " ", &save)) {
		char *label = strchr(name, '='), keys[128];
		int a, w;

		if (label)
			*label++ = '\0';
		a = keys_text(app, name, keys, sizeof keys);
		if (a < 0)
			continue;
		w = draw_key(app, row, x, keys, label ? label : bl_action_row((enum bl_action)a)->name, g->cols - x - reserve);
		x += w ? w + 2 : 0;
	}
	draw_key(app, row, x, help, bl_action_row(BL_ACT_HELP)->name, g->cols - x);
}

/* ---- all of it ---- */

static void draw_rule(struct bl_app *app, const struct places *l)
{
	struct bl_grid_s *g = &app->grid;
	static const enum bl_role roles[] = { BL_ROLE_TEXT, BL_ROLE_WARN, BL_ROLE_ERROR };
	char text[1100], hint[200];

	if (l->rule < 0)
		return;
	if (app->priv->message.on) {
		message_text(app, text, sizeof text);
		wrap(g, l->rule, g->cols, l->n_rule, roles[app->priv->message.kind], text);
		return;
	}
	bl_grid_hline(g, l->rule, 0, g->cols, BL_ROLE_RULE);
	if (g->rows >= 12 && bl_hint(app, hint))
		bl_grid_textf(g, l->rule, 2, g->cols - 4, BL_ROLE_HINT, 0, " %s ", hint);
}

void bl_app_draw(struct bl_app *app)
{
	struct places l = layout(app);
	struct bl_grid_s *g = &app->grid;
	const struct bl_screen *top = bl_app_top(app);

	bl_grid_clear(g);
	if (l.body.rows > 0 && top->draw)
		top->draw(app, bl_app_state(app), g, l.body);
	for (int r = l.body.row + l.body.rows; r < g->rows; r++) /* a screen that drew too far */
		bl_grid_fill(g, r, 0, g->cols, BL_ROLE_TEXT, 0, ' ');
	if (l.title >= 0)
		bl_app_draw_title(app, l.title);
	draw_rule(app, &l);
	if (l.job >= 0)
		draw_job(app, l.job);
	if (l.totals >= 0) {
		bl_app_draw_totals(app, l.totals);
		bl_app_draw_verdict(app, l.verdict);
	}
	if (app->priv->ask.on) {
		int row = g->rows - 1, x;

		bl_grid_fill(g, row, 0, g->cols, BL_ROLE_TEXT, 0, ' ');
		x = bl_grid_text(g, row, 0, g->cols - 6, BL_ROLE_WARN, 0, app->priv->ask.question); /* how to answer is never cut off */
		bl_grid_text(g, row, x, g->cols - x, BL_ROLE_WARN, 0, " (y/n)");
	} else if (app->priv->prompt.on) {
		bl_prompt_draw(app);
	} else if (l.keys >= 0) {
		draw_keys(app, l.keys);
	}
}
