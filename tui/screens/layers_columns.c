/* SPDX-License-Identifier: Apache-2.0
 * Columns of the layers screen. */
#include "tui/screens/layers_columns.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/str.h"
#include "core/estimate/estimate.h"
#include "tui/edit.h"
#include "tui/screens/screens.h"
#include "tui/widgets/spark.h"

static const struct bl_unit *unit_of(const struct bl_app *app, int unit)
{
	return &app->session->model->units[unit];
}

static const struct bl_choice *choice_of(const struct bl_app *app, int unit)
{
	return bl_plan_choice(app->session->plan, unit);
}

static void number(const struct bl_app *app, struct bl_layer_cell *out, double v, int width, int decimals)
{
	(void)app;
	bl_screen_number(out->text, sizeof out->text, v, width, decimals);
	out->role = BL_ROLE_MEASURED;
}

static void unknown(const struct bl_app *app, struct bl_layer_cell *out)
{
	snprintf(out->text, sizeof out->text, "%s", bl_app_glyph(app, "·", "."));
	out->role = BL_ROLE_UNKNOWN;
}

/* ---- what it is ---- */

static void cell_block(struct bl_app *app, int unit, struct bl_layer_cell *out)
{
	snprintf(out->text, sizeof out->text, "%d", unit_of(app, unit)->block);
}

static double key_block(struct bl_app *app, int unit)
{
	(void)app;
	return unit;
}

static void cell_unit(struct bl_app *app, int unit, struct bl_layer_cell *out)
{
	snprintf(out->text, sizeof out->text, "%s", bl_unit_kind_name(unit_of(app, unit)->kind));
}

static double key_unit(struct bl_app *app, int unit)
{
	return unit_of(app, unit)->kind;
}

static void cell_scheme(struct bl_app *app, int unit, struct bl_layer_cell *out)
{
	const char *format;
	const struct bl_scheme *s = bl_session_scheme(app->session, unit, &format);
	char name[BL_SCHEME_NAME_MAX];

	snprintf(out->text, sizeof out->text, "%s", format && !strcmp(format, "?") ? "?" : bl_scheme_short(name, s));
	out->role = bl_edit_scheme_role(s);
}

static double key_scheme(struct bl_app *app, int unit)
{
	const struct bl_scheme *s = bl_session_scheme(app->session, unit, NULL);

	return s->bits * 1e6 + s->number * 1e5 + s->group;
}

static void cell_method(struct bl_app *app, int unit, struct bl_layer_cell *out)
{
	const struct bl_choice *c = choice_of(app, unit);
	const char *format;

	bl_session_scheme(app->session, unit, &format);
	if (format) {
		snprintf(out->text, sizeof out->text, "file");
		out->role = BL_ROLE_DIM;
		return;
	}
	snprintf(out->text, sizeof out->text, "%s%s", c->method[0] ? c->method : bl_app_glyph(app, "–", "-"),
		 c->params && *c->params ? "*" : "");
}

static void cell_lock(struct bl_app *app, int unit, struct bl_layer_cell *out)
{
	snprintf(out->text, sizeof out->text, "%s", choice_of(app, unit)->locked ? bl_app_glyph(app, "⚿", "L") : " ");
	out->role = BL_ROLE_WARN;
}

static double key_lock(struct bl_app *app, int unit)
{
	return choice_of(app, unit)->locked ? 0 : 1;
}

static void cell_shape(struct bl_app *app, int unit, struct bl_layer_cell *out)
{
	snprintf(out->text, sizeof out->text, "%lldx%lld", (long long)unit_of(app, unit)->rows, (long long)unit_of(app, unit)->cols);
	out->role = BL_ROLE_DIM;
}

static double key_shape(struct bl_app *app, int unit)
{
	return (double)unit_of(app, unit)->rows * (double)unit_of(app, unit)->cols;
}

/* ---- weight ranges: measured, or unknown until read ---- */

#define STAT_COLUMN(name, expr, width, decimals) \
	static double key_##name(struct bl_app *app, int unit) \
	{ \
		const struct bl_weight_stats *s = bl_session_stats(app->session, unit); \
		return s ? (double)(expr) : NAN; \
	} \
	static void cell_##name(struct bl_app *app, int unit, struct bl_layer_cell *out) \
	{ \
		double v = key_##name(app, unit); \
		if (isnan(v)) \
			unknown(app, out); \
		else \
			number(app, out, v, width, decimals); \
	}

STAT_COLUMN(wmin, s->min, 7, 3)
STAT_COLUMN(wmax, s->max, 7, 3)
STAT_COLUMN(absmax, s->absmax, 6, 3)
STAT_COLUMN(rms, s->rms, 6, 4)
STAT_COLUMN(kurtosis, s->kurtosis, 6, 1)
STAT_COLUMN(outliers, 100 * s->outlier_share, 6, 3)
STAT_COLUMN(spread, s->channel.median > 0 ? s->channel.max / s->channel.median : 0, 5, 1)

static double key_nonfinite(struct bl_app *app, int unit)
{
	const struct bl_weight_stats *s = bl_session_stats(app->session, unit);

	return s ? (double)s->n_nonfinite : NAN;
}

static void cell_nonfinite(struct bl_app *app, int unit, struct bl_layer_cell *out)
{
	double v = key_nonfinite(app, unit);

	if (isnan(v)) {
		unknown(app, out);
		return;
	}
	snprintf(out->text, sizeof out->text, "%.0f", v);
	out->role = v > 0 ? BL_ROLE_ERROR : BL_ROLE_DIM;
}

static void cell_spark(struct bl_app *app, int unit, struct bl_layer_cell *out)
{
	const struct bl_weight_stats *s = bl_session_stats(app->session, unit);

	if (!s) {
		out->text[0] = '\0';
		return;
	}
	bl_spark(out->text, sizeof out->text, s->histogram, BL_STATS_BINS, 16, true, app->grid.ascii);
	out->role = BL_ROLE_BAR;
}

/* ---- what the choice costs ---- */

static void cell_error(struct bl_app *app, int unit, struct bl_layer_cell *out)
{
	bl_screen_error_text(app, unit, choice_of(app, unit), out->text);
	out->role = BL_ROLE_MEASURED;
}

static double key_error(struct bl_app *app, int unit)
{
	return bl_screen_error_db(app, unit, choice_of(app, unit));
}

static double key_megabytes(struct bl_app *app, int unit)
{
	const char *format;

	bl_session_scheme(app->session, unit, &format);
	if (format)
		return (double)unit_of(app, unit)->bytes / 1e6;
	return (double)bl_unit_bytes(unit_of(app, unit), &choice_of(app, unit)->scheme) / 1e6;
}

static void cell_megabytes(struct bl_app *app, int unit, struct bl_layer_cell *out)
{
	number(app, out, key_megabytes(app, unit), 6, 2);
}

static double key_time(struct bl_app *app, int unit)
{
	struct bl_quantity q = bl_unit_time(unit_of(app, unit), bl_session_scheme(app->session, unit, NULL), app->session->target, 8);

	return q.origin == BL_UNKNOWN ? NAN : q.value;
}

static void cell_time(struct bl_app *app, int unit, struct bl_layer_cell *out)
{
	double v = key_time(app, unit);

	if (isnan(v)) {
		unknown(app, out);
		return;
	}
	number(app, out, v, 6, 1);
	out->role = BL_ROLE_MODELLED;
}

static void cell_legal(struct bl_app *app, int unit, struct bl_layer_cell *out)
{
	const struct bl_verdict *v = bl_session_verdict(app->session, unit);

	if (!v->legal) {
		snprintf(out->text, sizeof out->text, "%s", bl_app_glyph(app, "✗", "x"));
		out->role = BL_ROLE_ERROR;
	} else {
		snprintf(out->text, sizeof out->text, "%s", v->sentence[0] ? "!" : bl_app_glyph(app, "✓", "+"));
		out->role = v->sentence[0] ? BL_ROLE_WARN : BL_ROLE_GOOD;
	}
}

static double key_legal(struct bl_app *app, int unit)
{
	const struct bl_verdict *v = bl_session_verdict(app->session, unit);

	return !v->legal ? 0 : v->sentence[0] ? 1 : 2;
}

static void cell_kernel(struct bl_app *app, int unit, struct bl_layer_cell *out)
{
	const struct bl_verdict *v = bl_session_verdict(app->session, unit);

	snprintf(out->text, sizeof out->text, "%s", v->kernel ? v->kernel : "");
	out->role = BL_ROLE_DIM;
}

/* ---- what flows in: of the running calibration as it goes, of the finished one afterwards ---- */

static double key_inmax(struct bl_app *app, int unit)
{
	const struct bl_input_stats *x = bl_session_input(app->session, unit);

	return x ? (double)x->absmax : NAN;
}

static void cell_inmax(struct bl_app *app, int unit, struct bl_layer_cell *out)
{
	const struct bl_input_stats *x = bl_session_input(app->session, unit);

	if (!x) {
		unknown(app, out);
	} else if (x->nonfinite) {
		snprintf(out->text, sizeof out->text, "NaN");
		out->role = BL_ROLE_ERROR;
	} else {
		number(app, out, (double)x->absmax, 6, 1);
	}
}

static double key_inout(struct bl_app *app, int unit)
{
	const struct bl_input_stats *x = bl_session_input(app->session, unit);

	return x ? x->n_outlier_channels : NAN;
}

static void cell_inout(struct bl_app *app, int unit, struct bl_layer_cell *out)
{
	const struct bl_input_stats *x = bl_session_input(app->session, unit);

	if (!x) {
		unknown(app, out);
		return;
	}
	snprintf(out->text, sizeof out->text, "%d", x->n_outlier_channels);
	out->role = x->n_outlier_channels ? BL_ROLE_WARN : BL_ROLE_DIM;
}

/* How far one scale for the whole input is from a typical value: what a static int8 scale has to span. */
static double key_inspan(struct bl_app *app, int unit)
{
	const struct bl_input_stats *x = bl_session_input(app->session, unit);

	return x && x->rms > 0 ? (double)x->absmax / x->rms : NAN;
}

static void cell_inspan(struct bl_app *app, int unit, struct bl_layer_cell *out)
{
	double v = key_inspan(app, unit);

	if (isnan(v))
		unknown(app, out);
	else
		number(app, out, v, 6, 1);
}

static void cell_inspark(struct bl_app *app, int unit, struct bl_layer_cell *out)
{
	const struct bl_input_stats *x = bl_session_input(app->session, unit);

	if (x) {
		bl_screen_input_spark(app, x, 12, out->text, sizeof out->text);
		out->role = BL_ROLE_BAR;
	}
}

/* ---- what it does to the model ---- */

static void cell_kl(struct bl_app *app, int unit, struct bl_layer_cell *out)
{
	bl_screen_kl_text(app, unit, choice_of(app, unit), false, out->text);
	out->role = BL_ROLE_MEASURED;
}

static double key_kl(struct bl_app *app, int unit)
{
	return bl_screen_kl(app, unit, choice_of(app, unit));
}

/* clang-format off */
static const struct bl_layer_column columns[] = {
	/* name        title       width left  rule   fit calib */
	{"block",      "blk",       3, false, false, 1, 1, cell_block, key_block, "Block (layer) number."},
	{"unit",       "unit",      7, true,  false, 1, 1, cell_unit, key_unit, "What the server treats as one linear layer."},
	{"scheme",     "scheme",   10, true,  false, 1, 1, cell_scheme, key_scheme, "How the weights will be stored."},
	{"method",     "method",    6, true,  false, 1, 1, cell_method, NULL, "How they are rounded; * marks parameters that differ from the defaults; file: they are quantized in the checkpoint and stay so."},
	{"lock",       " ",         1, true,  false, 1, 1, cell_lock, key_lock, "Locked units are skipped by edits."},
	{"absmax",     "|w|max",    6, false, true,  1, 2, cell_absmax, key_absmax, "Largest magnitude of the weights."},
	{"outliers",   "outl%",     6, false, false, 1, 3, cell_outliers, key_outliers, "Per cent of weights beyond 6 rms."},
	{"spread",     "sprd",      5, false, false, 2, 4, cell_spread, key_spread, "Largest over median channel maximum."},
	{"rms",        "rms",       6, false, false, 4, 6, cell_rms, key_rms, "Root of the mean square."},
	{"kurtosis",   "kurt",      6, false, false, 5, 7, cell_kurtosis, key_kurtosis, "Kurtosis; 3 is a Gaussian, more has heavier tails."},
	{"min",        "min",       7, false, false, 8, 9, cell_wmin, key_wmin, "Smallest weight."},
	{"max",        "max",       7, false, false, 8, 9, cell_wmax, key_wmax, "Largest weight."},
	{"nonfinite",  "nan",       4, false, false, 9, 9, cell_nonfinite, key_nonfinite, "NaN and Inf among the weights."},
	{"inmax",      "|x|max",    6, false, true,  0, 1, cell_inmax, key_inmax, "Largest magnitude that flows in, over the calibration data; grows while they run."},
	{"inout",      "xout",      4, false, false, 0, 1, cell_inout, key_inout, "Input channels beyond 8 rms of the whole input: what breaks one scale for all (static int8)."},
	{"inspan",     "x/rms",     6, false, false, 0, 3, cell_inspan, key_inspan, "Largest input over its root mean square: what one scale has to span."},
	{"error",      "err dB",    8, false, true,  1, 1, cell_error, key_error, "Error of the layer's output on the calibration data, |X dW|^2/|X W|^2 in dB; before a calibration of the weights alone (w-err); w behind it: so, too, although inputs are rounded."},
	{"kl",         "KL·10³",    6, false, false, 0, 1, cell_kl, key_kl, "KL to the base model with this unit alone quantized, times 1000; measured for the units in view, on a slow device for the one under the cursor; w behind it: the client also rounds inputs, which is not in it."},
	{"mb",         "MB",        6, false, true,  1, 1, cell_megabytes, key_megabytes, "Size as stored, 10^6 bytes."},
	{"time",       "~µs",       6, false, false, 1, 1, cell_time, key_time, "Modelled microseconds per decode step on the target at batch 8."},
	{"legal",      "ok",        2, true,  false, 1, 1, cell_legal, key_legal, "Whether the serving target takes it: ! works but slowly, enter shows why."},
	{"kernel",     "kernel",   14, true,  false, 7, 8, cell_kernel, NULL, "Kernel the serving target will use."},
	{"shape",      "shape",    11, false, false, 6, 9, cell_shape, key_shape, "Rows x columns of the fused layer."},
	{"inspark",    "input |x|",12, true,  true,  0, 3, cell_inspark, NULL, "Histogram of |x| over 12 powers of two, the largest right, logarithmic height."},
	{"spark",      "weights",  16, true,  true,  3, 5, cell_spark, NULL, "Histogram of the weights, -max to max, logarithmic height."},
};
/* clang-format on */
#define N_COLUMNS ((int)(sizeof columns / sizeof columns[0]))

const struct bl_layer_column *bl_layer_column(int i)
{
	return i >= 0 && i < N_COLUMNS ? &columns[i] : NULL;
}

const struct bl_layer_column *bl_layer_column_find(const char *name)
{
	for (int i = 0; i < N_COLUMNS; i++)
		if (bl_ieq(columns[i].name, name))
			return &columns[i];
	return NULL;
}

const char *bl_layer_column_title(const struct bl_app *app, const struct bl_layer_column *c)
{
	if (c->cell == cell_error && !bl_screen_errors_are_true(app))
		return "w-err dB";
	if (c->cell == cell_kl)
		return bl_app_glyph(app, "KL·10³", "KL*1e3");
	if (c->cell == cell_time)
		return bl_app_glyph(app, "~µs", "~us");
	return c->title;
}

static int column_width(const struct bl_layer_column *c)
{
	return c->width + 1 + (c->bar_before ? 1 : 0);
}

static int fit_of(const struct bl_layer_column *c, bool calibrated)
{
	return calibrated ? c->fit_calib : c->fit;
}

int bl_layer_columns_choose(const char *names, bool calibrated, int cols, const struct bl_layer_column **out, int cap)
{
	bool shown[N_COLUMNS] = {false};
	int n = 0, used = 1;

	if (names && *names) {
		char copy[512];

		snprintf(copy, sizeof copy, "%s", names);
		for (char *save = NULL, *word = strtok_r(copy, ", ", &save); word && n < cap; word = strtok_r(NULL, ", ", &save)) {
			const struct bl_layer_column *c = bl_layer_column_find(word);
			if (c)
				out[n++] = c;
		}
		if (n)
			return n;
	}
	for (int fit = 1; fit < 10; fit++)
		for (int i = 0; i < N_COLUMNS; i++)
			if (fit_of(&columns[i], calibrated) == fit && (fit == 1 || used + column_width(&columns[i]) <= cols)) {
				shown[i] = true;
				used += column_width(&columns[i]);
			}
	for (int i = 0; i < N_COLUMNS && n < cap; i++)
		if (shown[i])
			out[n++] = &columns[i];
	return n;
}
