/* SPDX-License-Identifier: Apache-2.0
 * Themes: data files themes/NAME.theme with lines "role = [fg] [on bg] [bold|dim|underline|reverse]"; colours are names (0..255, red, brightblue, default) or #rrggbb. A role that is
 * missing takes the look of its fallback (roles.h). Hostile input: bounded, bad lines are warnings. Colours are reduced once per load to what the terminal has
 * (truecolor, 256, 16, 8, none). */
#ifndef BL_TUI_THEME_H
#define BL_TUI_THEME_H

#include "core/base/err.h"
#include "core/base/str.h"
#include "tui/grid.h"

#define BL_COLOR_DEFAULT (-1)
struct bl_look { int32_t fg, bg; /* 0xRRGGBB, or BL_COLOR_DEFAULT */ int16_t fg_index, bg_index; /* palette index when named or reduced; -1 */ uint8_t attr; };
struct bl_theme { char name[64]; char sentence[160]; struct bl_look look[BL_ROLE_COUNT]; };

enum bl_status bl_theme_parse(struct bl_theme *t, const char *text, size_t n, const char *label, struct bl_str *warnings, struct bl_err *err);
/* Searched: $XDG_CONFIG_HOME/bitlathe/themes, program_dir/themes, <prefix>/share/bitlathe/themes. */
enum bl_status bl_theme_load(struct bl_theme *t, const char *name, const char *program_dir, struct bl_str *warnings, struct bl_err *err);
void bl_theme_builtin(struct bl_theme *t); /* mono: always there */
void bl_theme_list(struct bl_str *out_lines, const char *program_dir); /* "name\tsentence\tpath" */
/* Fills fg_index/bg_index for a terminal with n colours (0: mono attributes only). */
void bl_theme_reduce(struct bl_theme *t, int n_colors);

#endif
