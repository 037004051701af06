/* SPDX-License-Identifier: Apache-2.0
 * Which keys run which action where. Text, the same for the built-in keys (keymap_default.conf) and the user's file
 * ($XDG_CONFIG_HOME/bitlathe/keys), which comes second and wins:
 *
 *     [layers unit]            the screens the following lines are for; [*]: every screen
 *     8 = w8a8                 a key, or several in a row: g g = top
 *     a = scheme W4A16_g32     an argument after the command
 *     x = none                 takes a key away
 *
 * A line for a screen wins over one for every screen. Hostile input: bounded, bad lines are warnings. */
#ifndef BL_TUI_KEYMAP_H
#define BL_TUI_KEYMAP_H

#include "core/base/str.h"
#include "tui/action.h"
#include "tui/key.h"

#define BL_SEQUENCE_MAX 4
#define BL_ACT_UNBOUND  (-1)

struct bl_binding {
	char context[24];
	char keys[BL_SEQUENCE_MAX][BL_KEY_MAX];
	int n_keys, action; /* BL_ACT_UNBOUND: taken away */
	char arg[64];
};
struct bl_keymap {
	struct bl_binding *rows;
	size_t n, cap;
};

void bl_keymap_parse(struct bl_keymap *k, const char *text, size_t n, const char *label, struct bl_str *warnings);
void bl_keymap_default(struct bl_keymap *k);
void bl_keymap_free(struct bl_keymap *k);

enum bl_key_found { BL_KEY_NONE, BL_KEY_PREFIX, BL_KEY_FOUND };
/* keys[n] typed so far on a screen. PREFIX: a longer sequence begins like that. */
enum bl_key_found bl_keymap_find(const struct bl_keymap *k, const char *screen, const char (*keys)[BL_KEY_MAX], int n,
				 const struct bl_binding **out);
/* An action's bindings in force on a screen: calls fn for each, in the order of the text. Every frame asks often: others are not looked up. */
void bl_keymap_visit(const struct bl_keymap *k, const char *screen, int action, void (*fn)(void *ctx, const struct bl_binding *b),
		     void *ctx);
/* "g g" as people read it; dst >= 64 bytes. */
char *bl_binding_label(char *dst, const struct bl_binding *b);

#endif
