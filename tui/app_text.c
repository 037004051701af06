/* SPDX-License-Identifier: Apache-2.0
 * Text that every screen writes the same way: how sure a number is, glyphs, keys of an action. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tui/app_private.h"

const char *bl_app_glyph(const struct bl_app *app, const char *utf8, const char *ascii)
{
	return app->grid.ascii ? ascii : utf8;
}

char *bl_app_quantity_marked(const struct bl_app *app, char *dst, const struct bl_quantity *q, int decimals,
			     enum bl_mark mark)
{
	const char *before = q->origin == BL_MODELLED ? "~" : "", *after = "";
	int n;

	if (mark == BL_MARK_STALE)
		after = "?";
	if (mark == BL_MARK_COMPUTING)
		after = bl_app_glyph(app, "…", "..");
	if (q->origin == BL_UNKNOWN || isnan(q->value)) {
		snprintf(dst, 24, "%s%s", mark == BL_MARK_COMPUTING ? "" : bl_app_glyph(app, "·", "."),
			 mark == BL_MARK_COMPUTING ? after : "");
		return dst;
	}
	n = snprintf(dst, 24, "%s%.*f%s", before, decimals, q->value, after);
	if (n < 0 || n >= 12)
		snprintf(dst, 24, "%s%.1e%s", before, q->value, after);
	return dst;
}

char *bl_app_quantity(const struct bl_app *app, char *dst, const struct bl_quantity *q, int decimals)
{
	return bl_app_quantity_marked(app, dst, q, decimals, BL_MARK_NONE);
}

const char *bl_app_reason(const char *sentence, int room)
{
	const char *reason = strrchr(sentence, ':');

	return bl_text_width(sentence) > room && reason && reason[1] == ' ' ? reason + 2 : sentence;
}

struct collect {
	char *dst;
	size_t cap, used;
};

static void collect_one(void *ctx, const struct bl_binding *b)
{
	struct collect *c = ctx;
	char label[64];
	int n;

	if ((b->arg[0] && strcmp(b->arg, "?") != 0) || c->used >= c->cap)
		return;
	n = snprintf(c->dst + c->used, c->cap - c->used, "%s%s", c->used ? ", " : "", bl_binding_label(label, b));
	if (n < 0 || (size_t)n >= c->cap - c->used)
		c->dst[c->used] = '\0'; /* whole labels only */
	else
		c->used += (size_t)n;
}

char *bl_app_keys_on(const struct bl_app *app, const char *screen, enum bl_action a, char *dst, size_t cap)
{
	struct collect c = { dst, cap, 0 };

	if (cap)
		dst[0] = '\0';
	bl_keymap_visit(&app->priv->keymap, screen, (int)a, collect_one, &c);
	return dst;
}

char *bl_app_keys_of(const struct bl_app *app, enum bl_action a, char *dst, size_t cap)
{
	return bl_app_keys_on(app, bl_app_top(app)->name, a, dst, cap);
}
