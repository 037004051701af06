/* SPDX-License-Identifier: Apache-2.0
 * Started without a model: the checkpoints found in the current folder, the Hugging Face cache and among the recent
 * ones. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/str.h"
#include "tui/app_private.h"
#include "tui/screens/screens.h"
#include "tui/widgets/table.h"

struct welcome_state {
	struct bl_found *found;
	size_t n;
	struct bl_list list;
	char search[128];
	bool looked;
};

/* Looking through folders takes time, so it waits until somebody sees the result. */
static void look(struct bl_app *app, struct welcome_state *st)
{
	size_t n;
	const char *const *recent = bl_app_recent(app, &n);

	if (st->looked)
		return;
	st->looked = true;
	bl_model_discover(&st->found, &st->n, recent, n);
}

static void welcome_leave(struct bl_app *app, void *state)
{
	struct welcome_state *st = state;

	(void)app;
	bl_found_free(st->found, st->n);
}

enum { COL_TITLE, COL_FAMILY, COL_BLOCKS, COL_SIZE, COL_STATE, COL_WHERE };

static const struct bl_column columns[] = {
	[COL_TITLE] = { "checkpoint", 28, BL_LEFT, 0, "" }, [COL_FAMILY] = { "family", 10, BL_LEFT, 1, "" },
	[COL_BLOCKS] = { "blocks", 6, BL_RIGHT, 2, "" },    [COL_SIZE] = { "size", 9, BL_RIGHT, 0, "" },
	[COL_STATE] = { "state", 10, BL_LEFT, 0, "" },      [COL_WHERE] = { "where", 0, BL_LEFT, 3, "" },
};

static void cell(void *ctx, int row, int column, struct bl_cell_text *out)
{
	const struct welcome_state *st = ctx;
	const struct bl_found *f = &st->found[row];

	switch (column) {
	case COL_TITLE:
		bl_printable(out->text, sizeof out->text, f->title);
		break;
	case COL_FAMILY:
		bl_printable(out->text, sizeof out->text, f->family ? f->family : "");
		break;
	case COL_BLOCKS:
		snprintf(out->text, sizeof out->text, "%" PRId64, f->blocks);
		break;
	case COL_SIZE:
		bl_human_bytes(out->text, sizeof out->text, (double)f->bytes);
		break;
	case COL_STATE:
		snprintf(out->text, sizeof out->text, "%s", f->quantized ? "quantized" : "full");
		out->role = f->quantized ? BL_ROLE_WARN : BL_ROLE_GOOD;
		break;
	default:
		bl_printable(out->text, sizeof out->text, f->id);
		break;
	}
}

static void welcome_draw(struct bl_app *app, void *state, struct bl_grid_s *g, struct bl_grid_view v)
{
	struct welcome_state *st = state;
	struct bl_table t = { columns, sizeof columns / sizeof columns[0], cell, st, 0, st->search };
	static const char *const empty[] = {
		"No checkpoint here: this list shows folders with config.json and *.safetensors",
		"in the current folder, the Hugging Face cache, and those opened lately.",
		"",
		"bitlathe FOLDER          opens a checkpoint or a plan",
		"bitlathe ORG/NAME        opens one from the Hugging Face cache",
		"",
		"? shows the keys, q leaves.",
	};

	look(app, st);
	t.n_rows = (int)st->n;
	if (st->n) {
		bl_table_draw(g, v, &t, &st->list);
		return;
	}
	for (int i = 0; i < (int)(sizeof empty / sizeof empty[0]) && i + 1 < v.rows; i++)
		bl_grid_text(g, v.row + 1 + i, v.col + 2, v.cols - 2, BL_ROLE_TEXT, 0, empty[i]);
}

static void row_text_of(void *ctx, int row, struct bl_str *out)
{
	const struct welcome_state *st = ctx;

	bl_str_addf(out, "%s %s", st->found[row].title, st->found[row].id);
}

static unsigned welcome_act(struct bl_app *app, void *state, enum bl_action a, const char *arg)
{
	struct welcome_state *st = state;
	struct bl_err err = BL_ERR_INIT;
	unsigned react;
	char *id;

	look(app, st);
	react = bl_list_act(&st->list, a, arg, (int)st->n, bl_app_body(app).rows - 1);
	if (react != BL_REACT_UNKNOWN || !st->n)
		return react;
	switch (a) {
	case BL_ACT_OPEN:
		id = bl_xstrdup(st->found[st->list.row].id);
		bl_app_open(app, id, &err); /* a failure is on screen already */
		bl_free(id);
		return BL_REACT_REDRAW;
	case BL_ACT_SEARCH:
	case BL_ACT_SEARCH_NEXT:
	case BL_ACT_SEARCH_PREV:
		return bl_screen_search(app, &st->list, (int)st->n, st->search, a, arg, row_text_of, st, "no checkpoint");
	default:
		return BL_REACT_UNKNOWN;
	}
}

static void welcome_row_text(struct bl_app *app, void *state, struct bl_str *out)
{
	struct welcome_state *st = state;

	(void)app;
	if (st->n)
		bl_str_add(out, st->found[st->list.row].id);
}

const struct bl_screen bl_screen_welcome = {
	.name = "welcome",
	.title = "Checkpoints",
	.footer = "open down up search log quit help",
	.state_bytes = sizeof(struct welcome_state),
	.leave = welcome_leave,
	.draw = welcome_draw,
	.act = welcome_act,
	.row_text = welcome_row_text,
};
