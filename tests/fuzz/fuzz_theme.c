/* SPDX-License-Identifier: Apache-2.0
 * Themes and keymaps from hostile files: never a crash, never a control character in a warning, always looks that can
 * be printed. */
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "tui/keymap.h"
#include "tui/theme.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(struct bl_str *s)
{
	for (size_t i = 0; i < s->len; i++)
		if ((unsigned char)s->s[i] < 0x20 && s->s[i] != '\n')
			abort();
	bl_str_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bl_theme t = { .name = "x" };
	struct bl_keymap k = { 0 };
	struct bl_str warnings = { 0 };
	struct bl_err err = BL_ERR_INIT;

	if (bl_theme_parse(&t, (const char *)data, size, "x.theme", &warnings, &err) == BL_OK)
		for (int colors = 0; colors <= 256; colors += 8) {
			struct bl_theme r = t;

			bl_theme_reduce(&r, colors);
			for (int i = 0; i < BL_ROLE_COUNT; i++)
				if (r.look[i].fg_index >= colors + (colors == 0) ||
				    r.look[i].bg_index >= colors + (colors == 0))
					abort();
		}
	check_text(&warnings);
	bl_keymap_parse(&k, (const char *)data, size, "keys", &warnings);
	for (size_t i = 0; i < k.n; i++) {
		const struct bl_binding *b;
		char label[64];

		bl_binding_label(label, &k.rows[i]);
		bl_keymap_find(&k, k.rows[i].context, (const char(*)[BL_KEY_MAX])k.rows[i].keys, k.rows[i].n_keys, &b);
	}
	bl_keymap_free(&k);
	check_text(&warnings);
	return 0;
}
