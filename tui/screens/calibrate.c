/* SPDX-License-Identifier: Apache-2.0
 * Calibration as a form: the data and what becomes of their rows, the values, what the model will really see, and what the run will need of this machine
 * before it starts. Two pages hang below it: the full preview and the rows that are dropped or cut. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "tui/app_private.h"
#include "tui/screens/screens.h"
#include "tui/widgets/pager.h"
#include "tui/widgets/table.h"

#define NEED_ROWS 3 /* rule, need, reuse */

enum page { PAGE_FORM, PAGE_PREVIEW, PAGE_ROWS };

struct calibrate_state {
	struct bl_list list;
	enum page page;
	struct bl_pager pager;
	struct bl_str text; /* of the page; empty: not there yet */
	int64_t window;
	bool start; /* Enter was pressed while the data were still being read */
};

static const struct bl_preflight *preflight(struct bl_app *app)
{
	const struct bl_calib_request *r = bl_app_calib_form(app);

	return r->n_files ? bl_session_preflight(app->session, r) : NULL;
}

static int n_rows(struct bl_app *app)
{
	return bl_app_calib_form(app)->n_files + 1 + BL_CALIB_FIELDS;
}

/* The field of a row; NULL: a file, or the row that adds one. */
static const struct bl_form_field *field_at(struct bl_app *app, int row)
{
	int i = row - bl_app_calib_form(app)->n_files - 1;

	return i >= 0 && i < BL_CALIB_FIELDS ? &bl_calib_fields[i] : NULL;
}

/* ---- the form ---- */

static void draw_file(struct bl_app *app, struct bl_grid_s *g, struct bl_grid_view v, int y, int i, const struct bl_preflight *p)
{
	const struct bl_calib_request *r = bl_app_calib_form(app);
	int wide = v.cols >= 70 ? v.cols - 55 : v.cols - 23, x;
	char name[400], text[160];

	wide = wide > 60 ? 60 : wide;
	x = v.col + 12 + wide;
	bl_screen_tail(bl_printable(name, sizeof name, r->files[i]), wide);
	bl_grid_text(g, y, v.col + 12, wide, BL_ROLE_TEXT, 0, name);
	if (!p || i >= p->n_files || i >= (int)(sizeof p->file / sizeof p->file[0])) {
		bl_grid_text(g, y, x + 2, 2, BL_ROLE_UNKNOWN, 0, p && p->known == BL_KNOWN_COMPUTING ? "…" : "·");
		return;
	}
	if (p->file[i].why[0] && p->file[i].rows <= p->file[i].dropped) { /* nothing of it is used: why is what matters */
		bl_grid_text(g, y, x + 1, v.col + v.cols - x - 1, BL_ROLE_ERROR, 0, p->file[i].why);
		return;
	}
	snprintf(text, sizeof text, "%lld rows", (long long)p->file[i].rows);
	bl_grid_text_right(g, y, x + 11, 10, BL_ROLE_MEASURED, 0, text);
	snprintf(text, sizeof text, "%lld dropped %lld cut", (long long)p->file[i].dropped, (long long)p->file[i].cut);
	bl_grid_text(g, y, x + 12, 13, BL_ROLE_TEXT, 0, p->file[i].layout);
	bl_grid_text(g, y, x + 26, v.col + v.cols - x - 26, p->file[i].dropped ? BL_ROLE_WARN : BL_ROLE_TEXT, 0, text);
}

static void draw_row(struct bl_app *app, struct calibrate_state *st, struct bl_grid_s *g, struct bl_grid_view v, int y, int row,
		     const struct bl_preflight *p)
{
	const struct bl_calib_request *r = bl_app_calib_form(app);
	const struct bl_form_field *f = field_at(app, row);
	bool here = row == st->list.row;
	char add[64], note[80];

	if (f) {
		const char *help = f->help;

		if (f == &bl_calib_fields[0] && p && p->known == BL_KNOWN_YES && p->windows < r->samples) {
			snprintf(note, sizeof note, "windows; the data give %lld, so all of them are used", (long long)p->windows);
			help = note;
		}
		bl_screen_field(app, g, v, y, f, r, help);
	} else {
		if (row == 0)
			bl_grid_text(g, y, v.col + 2, 9, BL_ROLE_KEYTEXT, 0, "data");
		if (row < r->n_files) {
			draw_file(app, g, v, y, row, p);
		} else {
			bl_app_keys_of(app, BL_ACT_FILE_ADD, add, sizeof add);
			bl_grid_textf(g, y, v.col + 12, v.cols - 12, BL_ROLE_HINT, 0, "%s adds a file: jsonl (text, messages, conversations, prompt) or text", add);
		}
	}
	if (here)
		bl_screen_cursor(app, g, v, y);
}

/* What it will need, and the plan that the run will follow because of it. */
static void draw_need(struct bl_grid_s *g, struct bl_grid_view v, const struct bl_preflight *p)
{
	struct bl_str line = { 0 };
	char a[24], b[24], secs[24];
	bool short_of = false;
	const struct {
		const char *name;
		uint64_t need, free;
	} parts[] = { { "GPU", p->gpu_need, p->gpu_free }, { "RAM", p->ram_need, p->ram_free }, { "disk", p->disk_need, p->disk_free } };

	for (int i = 0; i < 3; i++) {
		bool too_little = parts[i].free && parts[i].need > parts[i].free;

		if (!parts[i].need && i == 0)
			continue; /* the CPU runs it */
		short_of |= too_little;
		bl_str_addf(&line, "%s%s %s", line.len ? " · " : "", parts[i].name, bl_screen_gib(a, parts[i].need));
		if (i == 0 || too_little)
			bl_str_addf(&line, " of %s%s", bl_screen_gib(b, parts[i].free), too_little ? " free" : "");
	}
	if (p->seconds.origin != BL_UNKNOWN && p->seconds.value < 60)
		bl_str_addf(&line, " · about %.0f s", ceil(p->seconds.value));
	else if (p->seconds.origin != BL_UNKNOWN)
		bl_str_addf(&line, " · about %s", bl_human_secs(secs, sizeof secs, p->seconds.value));
	bl_grid_text(g, v.row, v.col + 2, 9, BL_ROLE_KEYTEXT, 0, "will need");
	bl_grid_text(g, v.row, v.col + 12, v.cols - 12, short_of ? BL_ROLE_WARN : BL_ROLE_TEXT, 0, bl_str_c(&line));
	bl_str_clear(&line);
	if (p->complete)
		bl_str_add(&line, "all of it is stored already: Enter takes it up at once");
	else if (p->reuse_from_block > 0)
		bl_str_addf(&line, "same data: blocks before %d are stored, it goes on there", p->reuse_from_block);
	else
		bl_str_add(&line, "nothing stored for these data yet");
	if (p->batch_tokens && !p->complete)
		bl_str_addf(&line, " · batch %lld tokens", (long long)p->batch_tokens);
	bl_str_addf(&line, "%s%s", p->streams_weights ? " · weights stream" : "", p->spills_hidden ? " · states in a file" : p->offloads_hidden ? " · states offloaded" : "");
	if (v.rows > 1) {
		bl_grid_text(g, v.row + 1, v.col + 2, 9, BL_ROLE_KEYTEXT, 0, "reuse");
		bl_grid_text(g, v.row + 1, v.col + 12, v.cols - 12, p->complete || p->reuse_from_block > 0 ? BL_ROLE_GOOD : BL_ROLE_DIM, 0, bl_str_c(&line));
	}
	bl_str_free(&line);
}

/* What the numbers on the other screens come from. */
static void draw_in_use(struct bl_app *app, struct bl_grid_s *g, struct bl_grid_view v, int used)
{
	const char *title = bl_session_calib_title(app->session);
	char text[160];

	if (!*title)
		return;
	snprintf(text, sizeof text, "in use: %.120s", title);
	if (used + 3 + bl_text_width(text) <= v.cols)
		bl_grid_text_right(g, v.row, v.col + v.cols, v.cols, BL_ROLE_DIM, 0, text);
}

static void draw_bottom(struct bl_app *app, struct calibrate_state *st, struct bl_grid_s *g, struct bl_grid_view v, const struct bl_preflight *p)
{
	struct bl_job_view job;

	if (bl_app_find_job(app, "calibrate", &job)) {
		bl_grid_textf(g, v.row, v.col + 2, v.cols - 2, BL_ROLE_HEADING, 0, "%s is %s: P pauses, C-c asks to cancel; Esc goes back to the layers", job.name,
			      job.state == BL_JOB_PAUSED ? "paused" : job.state == BL_JOB_QUEUED ? "queued" : "running");
		return;
	}
	if (!p)
		bl_grid_text(g, v.row, v.col + 2, v.cols - 2, BL_ROLE_HINT, 0, "Here stands what the run will need, and how long it will take.");
	else if (p->known == BL_KNOWN_REFUSED)
		bl_pager_wrap(g, (struct bl_grid_view){ v.row, v.col + 2, v.rows, v.cols - 2 }, 0, BL_ROLE_ERROR, p->why, v.rows);
	else if (p->known != BL_KNOWN_YES)
		bl_grid_text(g, v.row, v.col + 2, v.cols - 2, BL_ROLE_HINT, 0, st->start ? "reading the data… it starts when they are read" : "reading the data…");
	else
		draw_need(g, v, p);
}

static void draw_preview(struct bl_grid_s *g, struct bl_grid_view v, const struct bl_preflight *p)
{
	struct bl_grid_view text = { v.row, v.col + 12, v.rows, v.cols - 12 };

	if (v.rows < 1)
		return;
	bl_grid_text(g, v.row, v.col + 2, 9, BL_ROLE_KEYTEXT, 0, "preview");
	if (p && p->preview[0])
		bl_pager_wrap(g, text, 0, BL_ROLE_DIM, p->preview, v.rows);
	else
		bl_pager_wrap(g, text, 0, BL_ROLE_HINT,
			      p ? "…" : "What the model will really see: the template rendered, special tokens visible.", v.rows);
}

static void draw_form(struct bl_app *app, struct calibrate_state *st, struct bl_grid_s *g, struct bl_grid_view v)
{
	const struct bl_preflight *p = preflight(app);
	int n = n_rows(app), room = v.rows - NEED_ROWS - 1, shown, n_title, y = v.row;

	n_title = bl_grid_textf(g, y++, v.col, v.cols, BL_ROLE_HEADING, 0, "Calibrate: what flows into every layer%s%s",
				p && p->template_name && p->template_name[0] ? " · template " : "", p && p->template_name ? p->template_name : "");
	draw_in_use(app, g, v, n_title);
	shown = n < room ? n : room;
	if (shown < 1)
		return;
	bl_list_fit(&st->list, n, shown);
	for (int i = 0; i < shown; i++)
		draw_row(app, st, g, v, y++, st->list.top + i, p);
	room = v.row + v.rows - NEED_ROWS - y;
	draw_preview(g, (struct bl_grid_view){ y, v.col, room < 8 ? room : 8, v.cols }, p);
	y = v.row + v.rows - NEED_ROWS;
	bl_grid_hline(g, y, v.col, v.cols, BL_ROLE_RULE);
	draw_bottom(app, st, g, (struct bl_grid_view){ y + 1, v.col, NEED_ROWS - 1, v.cols }, p);
}

/* ---- the pages below it ---- */

static void load_page(struct bl_app *app, struct calibrate_state *st)
{
	const struct bl_preflight *p = preflight(app);

	if (st->text.len || !p || p->known != BL_KNOWN_YES)
		return;
	if (st->page == PAGE_PREVIEW)
		bl_session_data_preview(app->session, st->window, &st->text);
	else
		bl_session_data_report(app->session, &st->text);
	if (!st->text.len && st->page == PAGE_ROWS)
		bl_str_add(&st->text, "No row is dropped or cut.");
}

static void draw_page(struct bl_app *app, struct calibrate_state *st, struct bl_grid_s *g, struct bl_grid_view v)
{
	const struct bl_preflight *p = preflight(app);
	struct bl_grid_view text = { v.row + 1, v.col + 1, v.rows - 1, v.cols - 2 };

	load_page(app, st);
	if (!p || p->known == BL_KNOWN_REFUSED) {
		bl_pager_wrap(g, text, 0, p ? BL_ROLE_ERROR : BL_ROLE_HINT, p ? p->why : "No data yet: Esc, then a adds a file.", text.rows);
		return;
	}
	bl_pager_draw(g, text, &st->pager, BL_ROLE_TEXT, st->text.len ? bl_str_c(&st->text) : "reading the data…");
	if (st->page == PAGE_PREVIEW)
		bl_grid_textf(g, v.row, v.col, v.cols, BL_ROLE_HEADING, 0, "What the model will see: window %lld of %lld (Tab next, S-Tab previous, Esc back)",
			      (long long)st->window + 1, (long long)p->windows);
	else
		bl_grid_textf(g, v.row, v.col, v.cols, BL_ROLE_HEADING, 0, "%lld rows read, %lld used, %lld dropped, %lld cut (Esc back)",
			      (long long)p->rows_read, (long long)p->rows_used, (long long)p->rows_dropped, (long long)p->rows_cut);
}

static unsigned open_page(struct calibrate_state *st, enum page page, int64_t window)
{
	st->page = page;
	st->window = window;
	st->pager = (struct bl_pager){ 0 };
	bl_str_clear(&st->text);
	return BL_REACT_REDRAW;
}

static unsigned page_act(struct bl_app *app, struct calibrate_state *st, enum bl_action a, const char *arg)
{
	const struct bl_preflight *p = preflight(app);
	int64_t n = p ? p->windows : 0;
	unsigned react = bl_pager_act(&st->pager, a, arg, bl_app_body(app).rows - 1);

	if (react != BL_REACT_UNKNOWN)
		return react;
	switch (a) {
	case BL_ACT_BACK:
		return open_page(st, PAGE_FORM, 0);
	case BL_ACT_PREVIEW:
		return open_page(st, st->page == PAGE_PREVIEW ? PAGE_FORM : PAGE_PREVIEW, 0);
	case BL_ACT_ROWS:
		return open_page(st, st->page == PAGE_ROWS ? PAGE_FORM : PAGE_ROWS, 0);
	case BL_ACT_PANE_NEXT:
		return st->page == PAGE_PREVIEW && n > 0 ? open_page(st, PAGE_PREVIEW, (st->window + 1) % n) : BL_REACT_REDRAW;
	case BL_ACT_PANE_PREV:
		return st->page == PAGE_PREVIEW && n > 0 ? open_page(st, PAGE_PREVIEW, (st->window + n - 1) % n) : BL_REACT_REDRAW;
	case BL_ACT_OPEN:
	case BL_ACT_FIELD:
	case BL_ACT_FILE_DROP:
		return BL_REACT_REDRAW; /* nothing to change on a page */
	default:
		return BL_REACT_UNKNOWN;
	}
}

/* ---- actions of the form ---- */

static void changed(struct bl_app *app, struct calibrate_state *st)
{
	st->start = false;
	bl_list_fit(&st->list, n_rows(app), n_rows(app));
	preflight(app); /* begins to read */
}

static unsigned change_field(struct bl_app *app, struct calibrate_state *st, const char *arg)
{
	struct bl_calib_request *r = bl_app_calib_form(app);
	const struct bl_form_field *f = field_at(app, st->list.row);

	if (f) {
		bl_screen_change(app, f, r, arg);
	} else if (st->list.row >= r->n_files) {
		if (*arg) {
			bl_calib_form_add(r, arg);
			bl_app_answered(app);
		} else
			bl_action_ask_argument(app, BL_ACT_FILE_ADD);
	} else if (*arg) {
		bl_free(r->files[st->list.row]);
		r->files[st->list.row] = bl_xstrdup(arg);
		bl_app_answered(app);
	} else {
		bl_app_prompt(app, "data file: ", r->files[st->list.row], "FILE", BL_ACT_FIELD);
	}
	changed(app, st);
	return BL_REACT_REDRAW;
}

static unsigned start(struct bl_app *app, struct calibrate_state *st)
{
	const struct bl_preflight *p = preflight(app);

	if (p && (p->known == BL_KNOWN_COMPUTING || p->known == BL_KNOWN_NO)) {
		st->start = true; /* what it needs is shown before it starts */
		return BL_REACT_REDRAW;
	}
	st->start = false;
	if (bl_start_calibration(app) && bl_app_below(app)) /* the ranges arrive where one came from */
		bl_app_pop(app);
	return BL_REACT_REDRAW;
}

static unsigned calibrate_act(struct bl_app *app, void *state, enum bl_action a, const char *arg)
{
	struct calibrate_state *st = state;
	struct bl_calib_request *r = bl_app_calib_form(app);
	const struct bl_form_field *f = field_at(app, st->list.row);
	unsigned react;

	if (st->page != PAGE_FORM)
		return page_act(app, st, a, arg);
	react = bl_list_act(&st->list, a, arg, n_rows(app), bl_app_body(app).rows - NEED_ROWS - 1);
	if (react != BL_REACT_UNKNOWN)
		return react;
	switch (a) {
	case BL_ACT_PANE_NEXT:
	case BL_ACT_PANE_PREV:
		st->list.row = (st->list.row + (a == BL_ACT_PANE_NEXT ? 1 : n_rows(app) - 1)) % n_rows(app);
		return BL_REACT_REDRAW;
	case BL_ACT_OPEN:
		return start(app, st);
	case BL_ACT_FIELD:
		return change_field(app, st, arg);
	case BL_ACT_LEFT:
	case BL_ACT_RIGHT:
		if (f) {
			bl_form_step(f, r, a == BL_ACT_RIGHT ? 1 : -1);
			changed(app, st);
		}
		return BL_REACT_REDRAW;
	case BL_ACT_FILE_ADD:
		if (!*arg)
			return BL_REACT_UNKNOWN; /* asks */
		bl_calib_form_add(r, arg);
		bl_app_answered(app);
		st->list.row = r->n_files; /* so that the next a adds another, and Enter starts */
		changed(app, st);
		return BL_REACT_REDRAW;
	case BL_ACT_FILE_DROP:
		if (st->list.row < r->n_files)
			bl_calib_form_drop(r, st->list.row);
		else
			bl_app_message(app, BL_MSG_INFO, "the cursor is not on a file");
		changed(app, st);
		return BL_REACT_REDRAW;
	case BL_ACT_PREVIEW:
		return open_page(st, PAGE_PREVIEW, 0);
	case BL_ACT_ROWS:
		return open_page(st, PAGE_ROWS, 0);
	default:
		return BL_REACT_UNKNOWN;
	}
}

static void calibrate_draw(struct bl_app *app, void *state, struct bl_grid_s *g, struct bl_grid_view v)
{
	struct calibrate_state *st = state;

	if (st->page == PAGE_FORM)
		draw_form(app, st, g, v);
	else
		draw_page(app, st, g, v);
}

static void calibrate_tick(struct bl_app *app, void *state)
{
	struct calibrate_state *st = state;

	if (st->start)
		start(app, st);
}

static void calibrate_leave(struct bl_app *app, void *state)
{
	struct calibrate_state *st = state;

	bl_app_save_forms(app);
	bl_str_free(&st->text);
}

static void calibrate_row_text(struct bl_app *app, void *state, struct bl_str *out)
{
	(void)state;
	bl_str_add(out, ":calibrate ");
	struct bl_str line = { 0 };

	bl_calib_form_print(bl_app_calib_form(app), &line);
	bl_str_add(out, bl_str_c(&line));
	bl_str_free(&line);
}

static const char *calibrate_footer(const void *state)
{
	const struct calibrate_state *st = state;

	return st->page == PAGE_PREVIEW ? "back pane-next=next pane-prev=previous down up page-down help" :
	       st->page == PAGE_ROWS    ? "back down up page-down help" : NULL;
}

const struct bl_screen bl_screen_calibrate = {
	.name = "calibrate",
	.title = "Calibrate",
	.footer = "open=start field=change add-file drop-file preview rows back help",
	.footer_now = calibrate_footer,
	.state_bytes = sizeof(struct calibrate_state),
	.leave = calibrate_leave,
	.draw = calibrate_draw,
	.act = calibrate_act,
	.row_text = calibrate_row_text,
	.tick = calibrate_tick,
};
