/* SPDX-License-Identifier: Apache-2.0
 * Panes of the unit screen. */
#include "tui/screens/unit_panes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/str.h"
#include "tui/app_private.h"
#include "tui/screens/screens.h"
#include "tui/widgets/bar.h"
#include "tui/widgets/histogram.h"
#include "tui/widgets/pager.h"

#define OCTAVES 16 /* powers of two in the histograms of the input */
#define FINE    64 /* their bars when each is an eighth of a power of two */

/* ---- the weights ---- */

static void draw_histogram(struct bl_app *app, bool log, const struct bl_weight_stats *s, struct bl_grid_s *g,
			   struct bl_grid_view v)
{
	int cols = v.cols - 12 < 64 ? v.cols - 12 : 64, bars = v.rows - 2;
	uint64_t top = 0;
	char text[96];

	if (cols < 8 || bars < 1)
		return;
	bl_histogram(g, (struct bl_grid_view){v.row, v.col + 10, bars, cols}, s->histogram, BL_STATS_BINS, log);
	for (int i = 0; i < BL_STATS_BINS; i++)
		if (s->histogram[i] > top)
			top = s->histogram[i];
	snprintf(text, sizeof text, "%.2g", (double)top);
	bl_grid_text_right(g, v.row, v.col + 9, 9, BL_ROLE_DIM, 0, text);
	if (bars > 1)
		bl_grid_text_right(g, v.row + bars - 1, v.col + 9, 9, BL_ROLE_DIM, 0, log ? "1 (log)" : "0");
	snprintf(text, sizeof text, "%.4g", -(double)s->absmax);
	bl_grid_text(g, v.row + bars, v.col + 10, 12, BL_ROLE_DIM, 0, text);
	bl_grid_text(g, v.row + bars, v.col + 10 + cols / 2, 2, BL_ROLE_DIM, 0, "0");
	snprintf(text, sizeof text, "%.4g", (double)s->absmax);
	bl_grid_text_right(g, v.row + bars, v.col + 10 + cols, 12, BL_ROLE_DIM, 0, text);
	bl_app_keys_of(app, BL_ACT_SCALE, text, sizeof text);
	bl_grid_textf(g, v.row + bars + 1, v.col + 10, cols, BL_ROLE_DIM, 0, "%s counts of 64 bins over the whole range (%s switches)",
		      log ? "logarithmic" : "linear", text);
}

struct channel { float value; int64_t index; };

static int larger_first(const void *a, const void *b)
{
	const struct channel *x = a, *y = b;

	return x->value < y->value ? 1 : x->value > y->value ? -1 : x->index < y->index ? -1 : 1;
}

/* Profile of all channels (the largest of each bucket) and the worst ones with their numbers. */
static void draw_channels(struct bl_app *app, int unit, const float *absmax, int64_t n, const char *what, struct bl_grid_s *g,
			  struct bl_grid_view v)
{
	const struct bl_unit *u = &app->session->model->units[unit];
	int cols = v.cols - 4 < 72 ? v.cols - 4 : 72;
	struct channel *all = bl_xalloc((size_t)n + 1, sizeof *all);
	uint64_t bucket[72] = {0};

	if (cols < 8 || n < 1) {
		bl_free(all);
		return;
	}
	for (int64_t i = 0; i < n; i++)
		all[i] = (struct channel){absmax[i], i};
	qsort(all, (size_t)n, sizeof *all, larger_first);
	double top = all[0].value > 0 ? all[0].value : 1;
	for (int64_t i = 0; i < n; i++) {
		uint64_t h = (uint64_t)(1e6 * (double)absmax[i] / top);
		int64_t b = i * cols / n;
		if (h > bucket[b])
			bucket[b] = h;
	}
	int bars = v.rows - 3 > 4 ? 4 : v.rows - 3;
	if (bars > 0)
		bl_histogram(g, (struct bl_grid_view){v.row, v.col + 2, bars, cols}, bucket, cols, false);
	bl_grid_textf(g, v.row + bars, v.col + 2, cols, BL_ROLE_DIM, 0, "largest |w| per %s 0..%lld: median %.4g, top %.4g", what,
		      (long long)n - 1, (double)all[n / 2].value, (double)all[0].value);
	for (int k = 0, y = v.row + bars + 1, x = v.col + 2; k < n && y < v.row + v.rows; k++) {
		char text[64];
		int64_t local = all[k].index;
		const char *member = "";

		if (n == u->rows) /* output channels: say which member */
			for (int j = 0; j < u->n_members; j++) {
				member = u->members[j].name;
				if (local < u->members[j].rows)
					break;
				local -= u->members[j].rows;
			}
		const char *dot = strrchr(member, '.');
		if (*member)
			snprintf(text, sizeof text, "%s[%lld] %.4g", dot ? dot + 1 : member, (long long)local, (double)all[k].value);
		else
			snprintf(text, sizeof text, "%lld %.4g", (long long)local, (double)all[k].value);
		if (x + 22 > v.col + v.cols) {
			x = v.col + 2;
			if (++y >= v.row + v.rows)
				break;
		}
		bl_grid_text(g, y, x, 21, BL_ROLE_MEASURED, 0, text);
		x += 22;
	}
	bl_free(all);
}

static void draw_members(struct bl_app *app, int unit, struct bl_grid_s *g, struct bl_grid_view v)
{
	const struct bl_unit *u = &app->session->model->units[unit];
	int y = v.row;

	bl_grid_textf(g, y++, v.col + 2, v.cols - 2, BL_ROLE_DIM, 0, "served as one layer: %s", u->name);
	for (int i = 0; i < u->n_members && y < v.row + v.rows; i++) {
		const struct bl_member *m = &u->members[i];
		bl_grid_textf(g, y++, v.col + 2, v.cols - 2, BL_ROLE_TEXT, 0, "%-44s %lldx%lld %s%s", m->name, (long long)m->rows,
			      (long long)m->cols, m->weight ? bl_dtype_name(m->weight->dtype) : "quantized", m->bias ? " + bias" : "");
	}
	if (u->n_members > 1 && y < v.row + v.rows)
		bl_grid_text(g, y, v.col + 2, v.cols - 2, BL_ROLE_HINT, 0, "The server fuses them, so they always share one scheme.");
}

/* ---- what flows in ---- */

static void draw_no_input(struct bl_app *app, struct bl_grid_s *g, struct bl_grid_view v)
{
	struct bl_job_view job;
	char key[64];

	bl_app_keys_of(app, BL_ACT_CALIBRATE, key, sizeof key);
	if (bl_app_find_job(app, "calibrate", &job))
		bl_grid_text(g, v.row, v.col + 2, v.cols - 2, BL_ROLE_HINT, 0, "the calibration has not come to this layer yet…");
	else
		bl_grid_textf(g, v.row, v.col + 2, v.cols - 2, BL_ROLE_HINT, 0, "Unknown until the model has run over data: %s calibrates.", key);
}

/* |x| over powers of two; of tokens, which lie close together, over eighths of them. */
static void draw_input_histogram(struct bl_app *app, bool log, const struct bl_input_stats *x, bool tokens, struct bl_grid_s *g, struct bl_grid_view v)
{
	int n = tokens ? FINE : OCTAVES, per_octave = tokens ? 8 : 1, bars = v.rows - 2, cols = (v.cols - 12 < 64 ? v.cols - 12 : 64) / 16 * 16;
	uint64_t counts[FINE], top = 0;
	double largest = exp2(floor(log2((double)x->absmax > 0 ? (double)x->absmax : 1) * per_octave + 1) / per_octave);
	char text[120];

	if (cols < 16 || bars < 1)
		return;
	bl_screen_input_bins(tokens ? x->token_bins : x->bins, counts, n, tokens ? 1 : 8);
	for (int i = 0; i < n; i++)
		top = counts[i] > top ? counts[i] : top;
	if (!top) {
		bl_pager_wrap(g, (struct bl_grid_view){v.row, v.col + 2, v.rows, v.cols - 2}, 0, BL_ROLE_HINT,
			      "The stages of the plan change what flows in: its ranges are known, how often which value comes is not.", v.rows);
		return;
	}
	bl_histogram(g, (struct bl_grid_view){v.row, v.col + 10, bars, cols}, counts, n, log);
	snprintf(text, sizeof text, "%.2g", (double)top);
	bl_grid_text_right(g, v.row, v.col + 9, 9, BL_ROLE_DIM, 0, text);
	if (bars > 1)
		bl_grid_text_right(g, v.row + bars - 1, v.col + 9, 9, BL_ROLE_DIM, 0, log ? "1 (log)" : "0");
	snprintf(text, sizeof text, "< %.2g", largest / exp2((double)(n - 1) / per_octave));
	bl_grid_text(g, v.row + bars, v.col + 10, 12, BL_ROLE_DIM, 0, text);
	snprintf(text, sizeof text, "%.2g", largest / exp2((double)(n / 2) / per_octave));
	bl_grid_text(g, v.row + bars, v.col + 10 + cols / 2, 12, BL_ROLE_DIM, 0, text);
	snprintf(text, sizeof text, "%.4g", (double)x->absmax);
	bl_grid_text_right(g, v.row + bars, v.col + 10 + cols, 12, BL_ROLE_DIM, 0, text);
	bl_app_keys_of(app, BL_ACT_SCALE, text, sizeof text);
	bl_grid_textf(g, v.row + bars + 1, v.col + 10, v.cols - 10, BL_ROLE_DIM, 0, "%s counts of %s (%s switches)", log ? "logarithmic" : "linear",
		      tokens ? "tokens by |x|max, 8 bars per octave" : "|x| per octave", text);
}

/* How much a channel can contribute: the largest input times the largest weight that it meets. */
static double reach(const struct bl_input_stats *x, const struct bl_weight_stats *w, int64_t k)
{
	double v = (double)x->channel_absmax[k] * (w && k < w->cols ? (double)w->col_absmax[k] : 1);

	return isfinite(v) ? v : 0;
}

/* Every channel in one picture, row by row; a cell is the largest of its channels, in steps of a factor of two below the largest of all. */
static void draw_map(const struct bl_input_stats *x, const struct bl_weight_stats *w, struct bl_grid_s *g, struct bl_grid_view v)
{
	static const char *const marks[] = {"·", "░", "▒", "▓", "█"}, *const ascii[] = {".", ":", "+", "#", "@"};
	int cols = v.cols - 4 < 96 ? v.cols - 4 : 96, rows = v.rows - 1;
	int64_t cells, per;
	double top = 0;

	if (cols < 4 || rows < 1 || x->cols < 1)
		return;
	per = (x->cols + (int64_t)cols * rows - 1) / ((int64_t)cols * rows);
	cells = (x->cols + per - 1) / per;
	for (int64_t k = 0; k < x->cols; k++)
		top = fmax(top, reach(x, w, k));
	for (int64_t c = 0; c < cells; c++) {
		double here = 0;
		int level;

		for (int64_t k = c * per; k < (c + 1) * per && k < x->cols; k++)
			here = fmax(here, reach(x, w, k));
		level = here > 0 && top > 0 ? 4 + (int)floor(log2(here / top) + 0.5) : 0;
		level = level < 0 ? 0 : level;
		bl_grid_text(g, v.row + (int)(c / cols), v.col + 2 + (int)(c % cols), 1, (enum bl_role)(BL_ROLE_RAMP0 + level), 0,
			     g->ascii ? ascii[level] : marks[level]);
	}
	bl_grid_textf(g, v.row + rows, v.col + 2, v.cols - 2, BL_ROLE_DIM, 0, "|x|%s|w| of channels 0..%lld, %lld a cell: %s %.3g, halved at each of %s", g->ascii ? "*" : "·", (long long)x->cols - 1,
		      (long long)per, g->ascii ? "@" : "█", top, g->ascii ? "#+:." : "▓▒░·");
}

void bl_unit_input_line(struct bl_app *app, int unit, struct bl_grid_s *g, struct bl_grid_view v, int y)
{
	const struct bl_input_stats *x = bl_session_input(app->session, unit);
	char spark[128];
	int at;

	bl_grid_text(g, y, v.col, 9, BL_ROLE_TEXT, 0, "input");
	if (!x) {
		draw_no_input(app, g, (struct bl_grid_view){y, v.col + 7, 1, v.cols - 7});
		return;
	}
	bl_screen_input_spark(app, x, 12, spark, sizeof spark);
	bl_grid_text(g, y, v.col + 9, 12, BL_ROLE_BAR, 0, spark);
	at = v.col + 22;
	at += bl_grid_textf(g, y, at, v.col + v.cols - at, BL_ROLE_TEXT, 0, "0 %s %.4g  rms %.3g  %lld tokens  ", bl_app_glyph(app, "…", ".."), (double)x->absmax,
			    x->rms, (long long)x->tokens);
	if (x->nonfinite)
		bl_grid_textf(g, y, at, v.col + v.cols - at, BL_ROLE_ERROR, 0, "%llu NaN or Inf", (unsigned long long)x->nonfinite);
	else
		bl_grid_textf(g, y, at, v.col + v.cols - at, x->n_outlier_channels ? BL_ROLE_WARN : BL_ROLE_TEXT, 0, "%d channel%s > 8 rms",
			      x->n_outlier_channels, x->n_outlier_channels == 1 ? "" : "s");
}

void bl_unit_channels_line(struct bl_app *app, int unit, struct bl_grid_s *g, struct bl_grid_view v, int y)
{
	const struct bl_input_stats *x = bl_session_input(app->session, unit);
	const struct bl_weight_stats *w = bl_session_stats(app->session, unit);
	int64_t best[4];
	char rest[24];
	int n = v.cols >= 110 ? 4 : 3, at;

	if (!x || x->cols < 1)
		return;
	n = x->cols < n ? (int)x->cols : n;
	for (int i = 0; i < n; i++) {
		best[i] = -1;
		for (int64_t k = 0; k < x->cols; k++) {
			bool taken = false;

			for (int j = 0; j < i; j++)
				taken |= best[j] == k;
			if (!taken && (best[i] < 0 || reach(x, w, k) > reach(x, w, best[i])))
				best[i] = k;
		}
	}
	at = v.col + bl_grid_text(g, y, v.col, v.cols, BL_ROLE_TEXT, 0, bl_app_glyph(app, "channels by |x|·|w|  ", "channels by |x|*|w|  "));
	for (int i = 0; i < n && at + 20 < v.col + v.cols; i++) {
		at += bl_grid_textf(g, y, at, v.col + v.cols - at, BL_ROLE_TEXT, 0, "%lld ", (long long)best[i]);
		at += bl_bar_draw_plain(g, y, at, 8, BL_ROLE_BAR, reach(x, w, best[i]) / fmax(reach(x, w, best[0]), 1e-30));
		at += bl_grid_textf(g, y, at, v.col + v.cols - at, BL_ROLE_MEASURED, 0, " %.3g  ", reach(x, w, best[i]));
	}
	snprintf(rest, sizeof rest, "+%lld", (long long)(x->cols - n));
	if (bl_text_width(rest) <= v.col + v.cols - at) /* half a number would be a wrong one */
		bl_grid_text(g, y, at, v.col + v.cols - at, BL_ROLE_DIM, 0, rest);
}

/* ---- all of them ---- */

const char *bl_unit_pane_name(int pane)
{
	static const char *const names[BL_PANE_COUNT] = {"weights", "output channels", "input channels of the weights", "input: histogram", "input: largest of each token",
							 "input: channel map", "error by row", "weights: block map", "members"};

	return names[pane];
}

void bl_unit_pane_draw(struct bl_app *app, int unit, int pane, bool log, struct bl_grid_s *g, struct bl_grid_view v)
{
	const struct bl_weight_stats *s = bl_session_stats(app->session, unit);
	const struct bl_input_stats *x = bl_session_input(app->session, unit);

	if (pane == BL_PANE_MEMBERS)
		draw_members(app, unit, g, v);
	else if (pane == BL_PANE_ERRORS)
		bl_unit_errors_pane(app, unit, g, v);
	else if (pane == BL_PANE_BLOCKS)
		bl_unit_blocks_pane(app, unit, g, v);
	else if ((pane == BL_PANE_INPUT || pane == BL_PANE_TOKENS || pane == BL_PANE_MAP) && !x)
		draw_no_input(app, g, v);
	else if (pane == BL_PANE_INPUT)
		draw_input_histogram(app, log, x, false, g, v);
	else if (pane == BL_PANE_TOKENS)
		draw_input_histogram(app, log, x, true, g, v);
	else if (pane == BL_PANE_MAP)
		draw_map(x, s, g, v);
	else if (!s && app->session->model->config.quant_method[0])
		bl_grid_text(g, v.row, v.col + 2, v.cols - 2, BL_ROLE_HINT, 0, "The weights are quantized already: the original has values to look at.");
	else if (!s)
		bl_grid_text(g, v.row, v.col + 2, v.cols - 2, BL_ROLE_HINT, 0, "reading the weights…");
	else if (pane == BL_PANE_HISTOGRAM)
		draw_histogram(app, log, s, g, v);
	else if (pane == BL_PANE_OUT)
		draw_channels(app, unit, s->row_absmax, s->rows, "output channel", g, v);
	else
		draw_channels(app, unit, s->col_absmax, s->cols, "input channel", g, v);
}
