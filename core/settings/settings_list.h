/* SPDX-License-Identifier: Apache-2.0
 * BL_SETTING(id, name, type, default, min, max, choices, sentence) */
/* clang-format off */
BL_SETTING(THEME,     "theme",     TEXT,   "dark",  0, 64,   "", "Theme by name: a file themes/NAME.theme; `bitlathe themes` lists them.")
BL_SETTING(COLOR,     "color",     CHOICE, "auto",  0, 0,    "auto|never|16|256|truecolor", "How many colours to use; NO_COLOR wins over auto.")
BL_SETTING(GLYPHS,    "glyphs",    CHOICE, "auto",  0, 0,    "auto|ascii|utf8", "Characters for lines, bars and sparklines; auto follows the locale.")
BL_SETTING(COLUMNS,   "columns",   TEXT,   "",      0, 400,  "", "Columns of the layers screen, comma separated; empty: what fits.")
BL_SETTING(TARGET,    "target",    TEXT,   "l4-vllm-0.14.1", 0, 64, "", "Serving target of new plans; `bitlathe targets` lists them.")
BL_SETTING(MOUSE,     "mouse",     BOOL,   "false", 0, 1,    "", "Use the mouse for selecting and scrolling.")
BL_SETTING(HINTS,     "hints",     BOOL,   "true",  0, 1,    "", "Show first-run hints.")
BL_SETTING(LOG_SCALE, "log_scale", BOOL,   "false", 0, 1,    "", "Histograms with a logarithmic count axis.")
BL_SETTING(ESC_MS,    "esc_ms",    INT,    "25",    0, 1000, "", "Milliseconds to wait after Esc for the rest of a key sequence.")
/* clang-format on */
