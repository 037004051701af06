/* SPDX-License-Identifier: Apache-2.0
 * Two panes of the unit screen that look at every weight: the error of each output channel under the plan's choice, and W in blocks of inputs and outputs. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/session/pictures.h"
#include "tui/screens/screens.h"
#include "tui/screens/unit_panes.h"
#include "tui/widgets/histogram.h"
#include "tui/widgets/pager.h"

static void hint(struct bl_app *app, struct bl_grid_s *g, struct bl_grid_view v, enum bl_known known, const char *why, const char *nothing)
{
	char text[200];

	if (known == BL_KNOWN_REFUSED)
		snprintf(text, sizeof text, "%s", why);
	else
		snprintf(text, sizeof text, "%s", known == BL_KNOWN_COMPUTING ? bl_app_glyph(app, "computing…", "computing...") : nothing);
	bl_pager_wrap(g, (struct bl_grid_view){v.row, v.col + 2, v.rows, v.cols - 2}, 0, known == BL_KNOWN_REFUSED ? BL_ROLE_WARN : BL_ROLE_HINT, text, v.rows);
}

/* ---- errors by row ---- */

struct row { float rel; int64_t index; };

static int worse_first(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	return x->rel < y->rel ? 1 : x->rel > y->rel ? -1 : x->index < y->index ? -1 : 1;
}

static void row_name(const struct bl_unit *u, int64_t row, char *to, size_t cap)
{
	int m = 0;

	while (m + 1 < u->n_members && row >= u->members[m].rows)
		row -= u->members[m++].rows;
	const char *dot = strrchr(u->members[m].name, '.');
	snprintf(to, cap, "%s[%lld]", dot ? dot + 1 : u->members[m].name, (long long)row);
}

static double db(double rel) { return rel > 0 ? 10 * log10(rel) : -INFINITY; }

/* Bars over 40 dB below the worst row, the largest of each bucket; then the worst rows by name. */
static void draw_rows(const struct bl_unit *u, const float *rel, const char *what, struct bl_grid_s *g, struct bl_grid_view v)
{
	int cols = v.cols - 12 < 64 ? v.cols - 12 : 64, bars = v.rows - 3 > 6 ? 6 : v.rows - 3;
	struct row *all = bl_xalloc((size_t)u->rows + 1, sizeof *all);
	uint64_t bucket[64] = {0};
	double worst;
	char text[96];

	for (int64_t i = 0; i < u->rows; i++)
		all[i] = (struct row){rel[i], i};
	qsort(all, (size_t)u->rows, sizeof *all, worse_first);
	worst = db((double)all[0].rel);
	for (int64_t i = 0; i < u->rows && cols >= 8; i++) {
		double above = db((double)rel[i]) - (worst - 40);
		uint64_t h = above > 0 ? (uint64_t)(above * 1000) : 0;
		int64_t b = i * cols / u->rows;
		bucket[b] = h > bucket[b] ? h : bucket[b];
	}
	if (bars > 0 && cols >= 8) {
		bl_histogram(g, (struct bl_grid_view){v.row, v.col + 10, bars, cols}, bucket, cols, false);
		snprintf(text, sizeof text, "%.1f dB", worst);
		bl_grid_text_right(g, v.row, v.col + 9, 9, BL_ROLE_DIM, 0, text);
		snprintf(text, sizeof text, "%.1f", worst - 40);
		if (bars > 1)
			bl_grid_text_right(g, v.row + bars - 1, v.col + 9, 9, BL_ROLE_DIM, 0, text);
	}
	bars = bars < 0 ? 0 : bars;
	bl_grid_textf(g, v.row + bars, v.col + 2, v.cols - 2, BL_ROLE_DIM, 0, "%s error of rows 0..%lld: median %.1f dB, worst %.1f", what,
		      (long long)u->rows - 1, db((double)all[u->rows / 2].rel), worst);
	for (int k = 0, y = v.row + bars + 1, x = v.col + 2; k < u->rows && y < v.row + v.rows; k++) {
		char name[48];
		row_name(u, all[k].index, name, sizeof name);
		snprintf(text, sizeof text, "%s %.1f", name, db((double)all[k].rel));
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

void bl_unit_errors_pane(struct bl_app *app, int unit, struct bl_grid_s *g, struct bl_grid_view v)
{
	const float *rel = NULL;
	bool weights_only = false;
	char why[160] = "";
	enum bl_known known = v.rows > 0 ? bl_session_row_errors(app->session, unit, bl_plan_choice(app->session->plan, unit), &rel, &weights_only, why) : BL_KNOWN_NO;

	if (rel && v.rows > 0)
		draw_rows(&app->session->model->units[unit], rel,
			  weights_only                                                                                        ? "weight" :
			  bl_scheme_rounds_inputs(&bl_plan_choice(app->session->plan, unit)->scheme) ? "output (inputs unrounded)" : "output",
			  g, v);
	else if (v.rows > 0)
		hint(app, g, v, known, why, "Nothing is rounded here: choose a scheme, and the error of every output channel stands here.");
}

/* ---- blocks ---- */

void bl_unit_blocks_pane(struct bl_app *app, int unit, struct bl_grid_s *g, struct bl_grid_view v)
{
	static const char *const marks[] = {"·", "░", "▒", "▓", "█"}, *const ascii[] = {".", ":", "+", "#", "@"};
	const struct bl_unit *u = &app->session->model->units[unit];
	const float *rms = NULL;
	int rows = 0, cols = 0, lines = v.rows - 1, wide = v.cols - 4;
	char why[160] = "";
	double top = 0;

	if (v.rows < 1)
		return;
	enum bl_known known = bl_session_weight_map(app->session, unit, &rms, &rows, &cols, why);
	if (!rms) {
		hint(app, g, v, known, why, "The weights are quantized already.");
		return;
	}
	lines = lines < rows ? lines : rows;
	wide = wide < cols ? wide : cols;
	if (lines < 1 || wide < 4)
		return;
	for (int i = 0; i < rows * cols; i++)
		top = fmax(top, (double)rms[i]);
	for (int y = 0; y < lines; y++)
		for (int x = 0; x < wide; x++) { /* the largest of the blocks that share a cell */
			double here = 0;
			for (int i = y * rows / lines; i < (y + 1) * rows / lines; i++)
				for (int j = x * cols / wide; j < (x + 1) * cols / wide; j++)
					here = fmax(here, (double)rms[i * cols + j]);
			int level = here > 0 && top > 0 ? 4 + (int)floor(2 * log2(here / top) + 0.5) : 0;
			level = level < 0 ? 0 : level;
			bl_grid_text(g, v.row + y, v.col + 2 + x, 1, (enum bl_role)(BL_ROLE_RAMP0 + level), 0, g->ascii ? ascii[level] : marks[level]);
		}
	bl_grid_textf(g, v.row + lines, v.col + 2, v.cols - 2, BL_ROLE_DIM, 0, "rms of %lldx%lld blocks, outputs down, inputs across: %s %.3g, %s0.7 at each of %s",
		      (long long)((u->rows + rows - 1) / rows), (long long)((u->cols + cols - 1) / cols), g->ascii ? "@" : "█", top, g->ascii ? "x" : "×",
		      g->ascii ? "#+:." : "▓▒░·");
}
