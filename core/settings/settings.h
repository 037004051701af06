/* SPDX-License-Identifier: Apache-2.0
 * The user's settings: one typed table row per setting drives parsing, bounds, writing, the form and the manual. File: $XDG_CONFIG_HOME/bitlathe/config
 * (or $BITLATHE_CONFIG, or -c FILE): "name = value" lines, # comments; hostile input: bad lines become warnings and defaults stay. Written atomically, mode 0600, comments and order kept,
 * only values that differ from the defaults are added. */
#ifndef BL_SETTINGS_SETTINGS_H
#define BL_SETTINGS_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/err.h"
#include "core/base/str.h"

enum bl_setting_id {
#define BL_SETTING(id, name, type, fallback, min, max, choices, sentence) BL_SET_##id,
#include "core/settings/settings_list.h"
#undef BL_SETTING
	BL_SETTING_COUNT
};
enum bl_setting_type { BL_SETTING_BOOL, BL_SETTING_INT, BL_SETTING_TEXT, BL_SETTING_CHOICE };
struct bl_setting_row { const char *name; enum bl_setting_type type; const char *fallback; long min, max; const char *choices; const char *sentence; };
const struct bl_setting_row *bl_setting_row(enum bl_setting_id id);

struct bl_settings;
struct bl_settings *bl_settings_new(void);
void bl_settings_free(struct bl_settings *s);
/* warnings: one sentence per bad line. A missing file is fine. */
void bl_settings_load(struct bl_settings *s, const char *path, struct bl_str *warnings);
enum bl_status bl_settings_save(const struct bl_settings *s, const char *path, struct bl_err *err);
char *bl_settings_path(void); /* bl_free */
bool bl_settings_bool(const struct bl_settings *s, enum bl_setting_id id);
long bl_settings_int(const struct bl_settings *s, enum bl_setting_id id);
const char *bl_settings_text(const struct bl_settings *s, enum bl_setting_id id);
enum bl_status bl_settings_set(struct bl_settings *s, const char *name, const char *value, struct bl_err *err);

#endif
