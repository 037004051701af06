/* SPDX-License-Identifier: Apache-2.0
 * Text of numbers that several screens show. */
#include <math.h>
#include <stdio.h>

#include "tui/screens/screens.h"

double bl_screen_error_db(struct bl_app *app, int unit, const struct bl_choice *c)
{
	double rel = 0;
	char why[160];

	if (c->scheme.number == BL_NUM_FULL)
		return -INFINITY;
	if (bl_session_weight_error(app->session, unit, c, &rel, why) != BL_KNOWN_YES)
		return NAN;
	return rel > 0 ? 10 * log10(rel) : -INFINITY;
}

char *bl_screen_error_text(struct bl_app *app, int unit, const struct bl_choice *c, char *dst)
{
	double rel = 0;
	char why[160];

	if (c->scheme.number == BL_NUM_FULL) {
		snprintf(dst, 24, "%s", bl_app_glyph(app, "–", "-"));
		return dst;
	}
	switch (bl_session_weight_error(app->session, unit, c, &rel, why)) {
	case BL_KNOWN_YES:
		if (rel > 0)
			snprintf(dst, 24, "%.1f", 10 * log10(rel));
		else
			snprintf(dst, 24, "exact");
		break;
	case BL_KNOWN_COMPUTING: snprintf(dst, 24, "%s", bl_app_glyph(app, "…", "~")); break;
	case BL_KNOWN_REFUSED: snprintf(dst, 24, "refused"); break;
	case BL_KNOWN_NO: snprintf(dst, 24, "%s", bl_app_glyph(app, "·", ".")); break;
	}
	return dst;
}

char *bl_screen_number(char *dst, size_t cap, double v, int width, int decimals)
{
	if (snprintf(dst, cap, "%.*f", decimals, v) > width || (v != 0 && fabs(v) < 0.5 * pow(10, -decimals)))
		if (snprintf(dst, cap, "%.1e", v) > width)
			snprintf(dst, cap, "%.0e", v);
	return dst;
}
