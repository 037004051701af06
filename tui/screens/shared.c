/* SPDX-License-Identifier: Apache-2.0
 * Text of numbers, and rows of forms, that several screens show. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tui/app_private.h"
#include "tui/screens/screens.h"
#include "tui/widgets/spark.h"

#define CHEAP_FLOP      4e11 /* a few seconds of two cores */
#define BINS_PER_OCTAVE 8    /* of an input's histogram: 3 bits below the exponent */
#define OCTAVES         12 /* of a sparkline: down to a four thousandth of the largest */

bool bl_screen_errors_are_true(const struct bl_app *app)
{
	const struct bl_calib *c = bl_session_calib(app->session);

	return c && bl_calib_has_hessians(c);
}

/* alone: of the weights alone, although the inputs are rounded, too, on a screen whose errors are those of outputs */
static enum bl_known error_of(struct bl_app *app, int unit, const struct bl_choice *c, double *rel, bool *alone)
{
	struct bl_layer_error e = { 0 };
	char why[160];
	enum bl_known known;

	*alone = false;
	if (!bl_screen_errors_are_true(app))
		return bl_session_weight_error(app->session, unit, c, rel, why);
	known = bl_session_layer_error(app->session, unit, c, &e, why);
	*rel = e.rel;
	*alone = bl_scheme_rounds_inputs(&c->scheme) && !e.with_activations;
	return known;
}

double bl_screen_error_db(struct bl_app *app, int unit, const struct bl_choice *c)
{
	double rel = 0;
	bool alone;

	if (c->scheme.number == BL_NUM_FULL)
		return -INFINITY;
	if (error_of(app, unit, c, &rel, &alone) != BL_KNOWN_YES)
		return NAN;
	return rel > 0 ? 10 * log10(rel) : -INFINITY;
}

char *bl_screen_error_text(struct bl_app *app, int unit, const struct bl_choice *c, char *dst)
{
	double rel = 0;
	bool alone;

	if (c->scheme.number == BL_NUM_FULL) {
		snprintf(dst, 24, "%s", bl_app_glyph(app, "–", "-"));
		return dst;
	}
	switch (error_of(app, unit, c, &rel, &alone)) {
	case BL_KNOWN_YES:
		if (rel > 0)
			snprintf(dst, 24, "%.1f%s", 10 * log10(rel), alone ? "w" : "");
		else
			snprintf(dst, 24, "exact");
		break;
	case BL_KNOWN_COMPUTING: snprintf(dst, 24, "%s", bl_app_glyph(app, "…", "~")); break;
	case BL_KNOWN_REFUSED: snprintf(dst, 24, "refused"); break;
	case BL_KNOWN_UNSOLVED: snprintf(dst, 24, "unsolved"); break;
	case BL_KNOWN_NO: snprintf(dst, 24, "%s", bl_app_glyph(app, "·", ".")); break;
	}
	return dst;
}

double bl_screen_kl(struct bl_app *app, int unit, const struct bl_choice *c)
{
	struct bl_quantity q = BL_QUANTITY_UNKNOWN("");

	if (c->scheme.number == BL_NUM_FULL)
		return 0;
	q = bl_session_unit_kl(app->session, unit, c, false);
	return q.origin == BL_UNKNOWN ? NAN : 1e3 * q.value;
}

/* One run of the model over the kept windows per unit: at once on a GPU, and on a CPU when it is a small one. */
bool bl_screen_kl_is_cheap(struct bl_app *app)
{
	const struct bl_calib *c = bl_session_calib(app->session);
	const struct bl_model *m = app->session->model;
	struct bl_device_view device;
	double weights = 0;

	if (!c)
		return false;
	bl_session_device(app->session, &device);
	for (int i = 0; i < m->n_units; i++)
		weights += (double)m->units[i].rows * (double)m->units[i].cols;
	return device.cuda || 2 * weights * (double)bl_calib_kept_windows(c) * (double)bl_calib_window(c) < CHEAP_FLOP;
}

char *bl_screen_kl_text(struct bl_app *app, int unit, const struct bl_choice *c, bool want, char *dst)
{
	struct bl_quantity q;

	if (c->scheme.number == BL_NUM_FULL) {
		snprintf(dst, 24, "%s", bl_app_glyph(app, "–", "-"));
		return dst;
	}
	q = bl_session_unit_kl(app->session, unit, c, want);
	q.value *= 1e3;
	bl_app_quantity_marked(app, dst, &q, q.value < 1000 ? 2 : 0, bl_session_unit_kl_computing(app->session, unit, c) ? BL_MARK_COMPUTING : BL_MARK_NONE);
	if (bl_scheme_weights_alone(&c->scheme) && q.origin != BL_UNKNOWN && strlen(dst) < 22)
		strcat(dst, "w");
	return dst;
}

char *bl_screen_number(char *dst, size_t cap, double v, int width, int decimals)
{
	if (snprintf(dst, cap, "%.*f", decimals, v) <= width && (v == 0 || fabs(v) >= 0.5 * pow(10, -decimals)))
		return dst;
	if (fabs(v) >= 100 && snprintf(dst, cap, "%.0f", v) <= width)
		return dst;
	if (snprintf(dst, cap, "%.1e", v) > width)
		snprintf(dst, cap, "%.0e", v);
	return dst;
}

char *bl_screen_input_spark(const struct bl_app *app, const struct bl_input_stats *x, int cols, char *dst, size_t cap)
{
	uint64_t octave[OCTAVES];

	bl_screen_input_bins(x->bins, octave, OCTAVES, BINS_PER_OCTAVE);
	return bl_spark(dst, cap, octave, OCTAVES, cols, true, app->grid.ascii);
}

void bl_screen_input_bins(const uint64_t *bins, uint64_t *counts, int n, int per)
{
	const int n_bins = (int)(sizeof ((struct bl_input_stats *)NULL)->bins / sizeof *bins);
	int top = 0;

	for (int i = 0; i < n_bins; i++)
		top = bins[i] ? i : top;
	top = top / per;
	memset(counts, 0, (size_t)n * sizeof *counts);
	for (int i = 0; i < n_bins; i++) {
		int at = n - 1 - (top - i / per);

		if (at < n)
			counts[at < 0 ? 0 : at] += bins[i];
	}
}

char *bl_screen_gib(char dst[24], uint64_t bytes)
{
	double mib = (double)bytes / 1048576;

	if (mib >= 1000)
		snprintf(dst, 24, "%.*f GiB", mib < 102400 ? 1 : 0, mib / 1024);
	else
		snprintf(dst, 24, "%.*f MiB", mib < 10 ? 1 : 0, mib);
	return dst;
}

char *bl_screen_tail(char *name, int cols)
{
	const char *from = name;

	if (bl_text_width(name) <= cols || cols < 4)
		return name;
	while (*from && bl_text_width(from) > cols - 1)
		for (from++; ((unsigned char)*from & 0xC0) == 0x80;)
			from++;
	if (from - name >= 3) { /* room for the ellipsis */
		memcpy(name, "…", 3);
		memmove(name + 3, from, strlen(from) + 1);
	}
	return name;
}

/* ---- rows of forms ---- */

void bl_screen_cursor(struct bl_app *app, struct bl_grid_s *g, struct bl_grid_view v, int y)
{
	bl_grid_paint(g, y, v.col, v.cols, BL_ROLE_SELECTED, BL_ATTR_REVERSE);
	bl_grid_text(g, y, v.col, 1, BL_ROLE_SELECTED, BL_ATTR_REVERSE, bl_app_glyph(app, "▶", ">"));
}

void bl_screen_field(struct bl_app *app, struct bl_grid_s *g, struct bl_grid_view v, int y, const struct bl_form_field *f, const void *request,
		     const char *help)
{
	int wide = v.cols >= 70 ? 30 : v.cols - 14;
	char text[512], shown[512];

	(void)app;
	bl_form_text(f, request, text, sizeof text);
	if (f->kind == BL_FORM_FLAG)
		snprintf(text, sizeof text, "%s", !strcmp(text, "on") ? "[x]" : "[ ]");
	else if (f->zero && (!text[0] || !strcmp(text, "0")))
		snprintf(text, sizeof text, "%s", f->zero);
	bl_screen_tail(bl_printable(shown, sizeof shown, text), wide);
	bl_grid_text(g, y, v.col + 2, 9, BL_ROLE_KEYTEXT, 0, f->name);
	bl_grid_text(g, y, v.col + 12, wide, BL_ROLE_TEXT, 0, shown);
	if (v.cols >= 70)
		bl_grid_text(g, y, v.col + (f->kind == BL_FORM_FILE ? 13 + wide : 24), v.cols, BL_ROLE_DIM, 0, help);
}

void bl_screen_change(struct bl_app *app, const struct bl_form_field *f, void *request, const char *arg)
{
	struct bl_err err = BL_ERR_INIT;
	char text[BL_LINE_MAX], label[64];

	bl_form_text(f, request, text, sizeof text);
	if (f->kind == BL_FORM_FLAG && !*arg)
		arg = !strcmp(text, "on") ? "off" : "on";
	if (*arg) {
		if (bl_form_set(f, request, arg, &err))
			bl_app_message_err(app, &err);
		else
			bl_app_answered(app);
		return;
	}
	if (f->kind == BL_FORM_FILE)
		snprintf(label, sizeof label, "%s: ", f->name);
	else /* a number is typed anew rather than edited */
		snprintf(label, sizeof label, "%s (is %.20s): ", f->name, text);
	bl_app_prompt(app, label, f->kind == BL_FORM_FILE ? text : NULL, f->kind == BL_FORM_FILE ? "FILE" : NULL, BL_ACT_FIELD);
}

unsigned bl_screen_search(struct bl_app *app, struct bl_list *l, int n, char search[128], enum bl_action a, const char *arg,
			  void (*text)(void *ctx, int row, struct bl_str *out), void *ctx, const char *none)
{
	if (a == BL_ACT_SEARCH && !*arg)
		return BL_REACT_UNKNOWN;
	if (a == BL_ACT_SEARCH)
		snprintf(search, 128, "%s", arg);
	if (!bl_list_search(l, n, search, a == BL_ACT_SEARCH_PREV, text, ctx))
		bl_app_message(app, BL_MSG_INFO, "%s has \"%s\"", none, search);
	return BL_REACT_REDRAW;
}
