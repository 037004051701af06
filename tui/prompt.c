/* SPDX-License-Identifier: Apache-2.0
 * The prompt and its history. */
#include "tui/prompt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "tui/app_private.h"
#include "tui/edit.h"

#define HISTORY_MAX 500

/* ---- history ---- */

static void remove_line(struct bl_history *h, size_t i)
{
	bl_free(h->lines[i].text);
	memmove(&h->lines[i], &h->lines[i + 1], (h->n - i - 1) * sizeof h->lines[0]);
	h->n--;
}

void bl_history_add(struct bl_history *h, const char *kind, const char *text)
{
	struct bl_history_line line = { .text = NULL };

	if (!*text || strpbrk(text, "\n\t"))
		return;
	snprintf(line.kind, sizeof line.kind, "%s", kind);
	for (size_t i = 0; i < h->n; i++)
		if (!strcmp(h->lines[i].kind, line.kind) && !strcmp(h->lines[i].text, text)) {
			remove_line(h, i);
			break;
		}
	while (h->n >= HISTORY_MAX)
		remove_line(h, 0);
	line.text = bl_xstrdup(text);
	bl_xgrow(&h->lines, &h->cap, h->n + 1);
	h->lines[h->n++] = line;
}

void bl_history_free(struct bl_history *h)
{
	for (size_t i = 0; i < h->n; i++)
		bl_free(h->lines[i].text);
	bl_free(h->lines);
	*h = (struct bl_history){ 0 };
}

void bl_history_parse(struct bl_history *h, const char *text)
{
	while (*text) {
		size_t len = strcspn(text, "\n"), tab = strcspn(text, "\t\n");
		char kind[16], line[BL_LINE_MAX];

		if (tab < len && tab < sizeof kind && len - tab - 1 < sizeof line) {
			snprintf(kind, sizeof kind, "%.*s", (int)tab, text);
			snprintf(line, sizeof line, "%.*s", (int)(len - tab - 1), text + tab + 1);
			if (bl_utf8_valid(line, strlen(line)))
				bl_history_add(h, kind, line);
		}
		text += len + (text[len] == '\n');
	}
}

void bl_history_print(const struct bl_history *h, struct bl_str *out)
{
	for (size_t i = 0; i < h->n; i++)
		bl_str_addf(out, "%s\t%s\n", h->lines[i].kind, h->lines[i].text);
}

/* Commands share one history, searches another, each argument kind has its own. */
static const char *history_kind(const struct bl_prompt *p)
{
	static const char *const kinds[] = { "COMMAND", "SEARCH", "PATTERN", "SCHEME", "FILE", "METHOD" };

	if (p->then == BL_ACT_SEARCH)
		return "SEARCH";
	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		if (strstr(p->kind, kinds[i]))
			return kinds[i];
	return bl_action_row(p->then)->name;
}

static void walk_history(struct bl_app *app, int step)
{
	struct bl_prompt *p = &app->priv->prompt;
	const struct bl_history *h = &app->priv->history;
	long at = p->history < 0 ? (long)h->n : p->history;
	char kind[16];

	if (p->history < 0)
		snprintf(p->typed, sizeof p->typed, "%s", p->line.text);
	snprintf(kind, sizeof kind, "%s", history_kind(p));
	for (at += step; at >= 0 && at < (long)h->n; at += step)
		if (!strcmp(h->lines[at].kind, kind) && bl_starts_with(h->lines[at].text, p->typed)) {
			p->history = at;
			bl_line_set(&p->line, h->lines[at].text);
			return;
		}
	if (step > 0 && p->history >= 0) { /* back to what was being typed */
		p->history = -1;
		bl_line_set(&p->line, p->typed);
	}
}

/* ---- opening, closing ---- */

void bl_app_prompt(struct bl_app *app, const char *label, const char *initial, const char *complete,
		   enum bl_action then)
{
	struct bl_prompt *p = &app->priv->prompt;

	bl_prompt_close(app);
	p->on = true;
	p->then = then;
	p->live = then == BL_ACT_FILTER;
	p->chosen = -1;
	p->history = -1;
	snprintf(p->label, sizeof p->label, "%s", label);
	snprintf(p->kind, sizeof p->kind, "%s", complete ? complete : "");
	bl_line_set(&p->line, initial ? initial : p->live ? p->before_live : "");
	bl_complete(app, &p->completion, p->kind, p->line.text, p->line.cursor);
}

void bl_prompt_close(struct bl_app *app)
{
	struct bl_prompt *p = &app->priv->prompt;

	bl_completion_free(&p->completion);
	p->on = false;
}

/* Filter as one types: what no unit says, or not yet, changes nothing. */
static void run_live(struct bl_app *app, const char *text)
{
	uint8_t *selected;
	struct bl_err err = BL_ERR_INIT;

	if (!app->session || !app->priv->prompt.live)
		return;
	selected = bl_xalloc((size_t)app->session->model->n_units + 1, 1);
	if (!*text || bl_edit_find(app, text, selected, &err) == BL_OK)
		bl_action_run(app, app->priv->prompt.then, text);
	bl_free(selected);
}

static unsigned accept(struct bl_app *app)
{
	struct bl_prompt *p = &app->priv->prompt;
	enum bl_action then = p->then;
	char *text = bl_xstrdup(p->line.text);
	unsigned react;

	bl_history_add(&app->priv->history, history_kind(p), text);
	if (p->live)
		snprintf(p->before_live, sizeof p->before_live, "%s", text);
	bl_prompt_close(app);
	if (then == BL_ACT_COMMAND)
		react = bl_action_run_text(app, text);
	else if (!*text && bl_action_needs_argument(then))
		react = BL_REACT_REDRAW; /* nothing typed: nothing done */
	else
		react = bl_action_run(app, then, text);
	bl_free(text);
	return react | BL_REACT_REDRAW;
}

static void cancel(struct bl_app *app)
{
	struct bl_prompt *p = &app->priv->prompt;

	bl_history_add(&app->priv->history, history_kind(p), p->line.text); /* Esc loses nothing that was typed: Up brings it back */
	if (p->live)
		run_live(app, p->before_live);
	bl_prompt_close(app);
}

/* ---- keys ---- */

static size_t common_prefix(const struct bl_completion *c)
{
	size_t len = strlen(c->items[0]);

	for (int i = 1; i < c->n; i++) {
		size_t k = 0;

		while (k < len && c->items[i][k] == c->items[0][k])
			k++;
		len = k;
	}
	while (len > 0 && ((unsigned char)c->items[0][len] & 0xC0) == 0x80)
		len--;
	return len;
}

/* Tab: first what all candidates share, then one after the other. */
static void complete_step(struct bl_app *app, int step)
{
	struct bl_prompt *p = &app->priv->prompt;
	struct bl_completion *c = &p->completion;
	char prefix[BL_LINE_MAX];
	size_t shared;

	if (!c->n)
		return;
	if (p->chosen < 0) {
		shared = common_prefix(c);
		if (shared > p->line.cursor - c->from && shared < sizeof prefix) {
			memcpy(prefix, c->items[0], shared);
			prefix[shared] = '\0';
			bl_line_replace(&p->line, c->from, prefix);
			bl_complete(app, c, p->kind, p->line.text, p->line.cursor);
			return;
		}
	}
	p->chosen = p->chosen < 0 ? (step > 0 ? 0 : c->n - 1) : (p->chosen + step + c->n) % c->n;
	bl_line_replace(&p->line, c->from, c->items[p->chosen]);
}

unsigned bl_prompt_key(struct bl_app *app, const char *key)
{
	struct bl_prompt *p = &app->priv->prompt;
	char before[BL_LINE_MAX];

	if (!strcmp(key, "<Enter>"))
		return accept(app);
	if (!strcmp(key, "<Esc>") || !strcmp(key, "C-c") || !strcmp(key, "C-g") ||
	    (!p->line.len && !strcmp(key, "<Backspace>"))) {
		cancel(app);
		return BL_REACT_REDRAW;
	}
	if (!strcmp(key, "<Tab>") || !strcmp(key, "<S-Tab>")) {
		complete_step(app, key[1] == 'S' ? -1 : 1);
		run_live(app, p->line.text);
		return BL_REACT_REDRAW;
	}
	snprintf(before, sizeof before, "%s", p->line.text);
	if (!strcmp(key, "<Up>") || !strcmp(key, "C-p") || !strcmp(key, "<Down>") || !strcmp(key, "C-n")) {
		walk_history(app, !strcmp(key, "<Up>") || !strcmp(key, "C-p") ? -1 : 1);
	} else if (!strcmp(key, "C-l")) {
		app->priv->redraw = true;
		return BL_REACT_REDRAW;
	} else if (!strcmp(key, "C-z")) {
		app->priv->suspend = true;
		return BL_REACT_REDRAW;
	} else if (!bl_line_key(&p->line, key)) {
		return BL_REACT_UNKNOWN;
	} else {
		p->history = -1;
	}
	p->chosen = -1;
	bl_complete(app, &p->completion, p->kind, p->line.text, p->line.cursor);
	if (strcmp(before, p->line.text) != 0)
		run_live(app, p->line.text);
	return BL_REACT_REDRAW;
}

void bl_prompt_paste(struct bl_app *app, const char *text)
{
	struct bl_prompt *p = &app->priv->prompt;

	bl_line_insert(&p->line, text);
	p->chosen = -1;
	bl_complete(app, &p->completion, p->kind, p->line.text, p->line.cursor);
	run_live(app, p->line.text);
}

/* ---- drawing ---- */

static void draw_candidates(struct bl_app *app, int row)
{
	struct bl_prompt *p = &app->priv->prompt;
	const struct bl_completion *c = &p->completion;
	struct bl_grid_s *g = &app->grid;
	int x = 0, first = p->chosen > 0 ? p->chosen : 0;

	bl_grid_fill(g, row, 0, g->cols, BL_ROLE_TEXT, 0, ' ');
	if (c->note[0])
		x += bl_grid_textf(g, row, 0, c->n ? g->cols * 2 / 3 : g->cols, c->bad ? BL_ROLE_WARN : BL_ROLE_GOOD, 0,
				   "%s", c->note) +
		     2;
	for (int i = first; i < c->n && x < g->cols; i++) {
		enum bl_role role = i == p->chosen ? BL_ROLE_SELECTED : BL_ROLE_HINT;
		char shown[128];

		bl_printable(shown, sizeof shown, c->items[i]);
		if (i > first && x + bl_text_width(shown) > g->cols - 2) {
			bl_grid_text(g, row, x, 1, BL_ROLE_HINT, 0, "…");
			break;
		}
		x += bl_grid_text(g, row, x, g->cols - x, role, 0, shown) + 2;
	}
}

void bl_prompt_draw(struct bl_app *app)
{
	struct bl_prompt *p = &app->priv->prompt;
	struct bl_grid_s *g = &app->grid;
	int row = g->rows - 1, label, room, cursor;
	const char *from = p->line.text;
	char before[BL_LINE_MAX];

	if (row > 0 && (p->completion.n || p->completion.note[0]))
		draw_candidates(app, row - 1);
	bl_grid_fill(g, row, 0, g->cols, BL_ROLE_INPUT, 0, ' ');
	label = bl_grid_text(g, row, 0, g->cols / 2, BL_ROLE_KEY, 0, p->label);
	room = g->cols - label;
	memcpy(before, p->line.text, p->line.cursor);
	before[p->line.cursor] = '\0';
	cursor = bl_text_width(before);
	while (cursor >= room && *from) { /* scroll so that the cursor is seen */
		char one[8];
		size_t n = 1;

		while (((unsigned char)from[n] & 0xC0) == 0x80)
			n++;
		snprintf(one, sizeof one, "%.*s", (int)n, from);
		cursor -= bl_text_width(one);
		from += n;
	}
	bl_grid_text(g, row, label, room, BL_ROLE_INPUT, 0, from);
	g->cursor_row = row;
	g->cursor_col = label + cursor < g->cols ? label + cursor : g->cols - 1;
}
