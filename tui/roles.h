/* SPDX-License-Identifier: Apache-2.0
 * What cells can mean. Row: id, name in theme files, role it falls back to, attributes used when there is no colour. */
#ifndef BL_TUI_ROLES_H
#define BL_TUI_ROLES_H
/* clang-format off */
#define BL_ROLES(X) \
	X(TEXT,      "text",      TEXT,    0) \
	X(DIM,       "dim",       TEXT,    BL_ATTR_DIM) \
	X(TITLE,     "title",     TEXT,    BL_ATTR_REVERSE) \
	X(HEADING,   "heading",   TEXT,    BL_ATTR_BOLD) \
	X(RULE,      "rule",      DIM,     0) \
	X(SELECTED,  "selected",  TEXT,    BL_ATTR_REVERSE) \
	X(TAGGED,    "tagged",    TEXT,    BL_ATTR_BOLD) \
	X(KEY,       "key",       TEXT,    BL_ATTR_BOLD) \
	X(KEYTEXT,   "keytext",   DIM,     0) \
	X(GOOD,      "good",      TEXT,    0) \
	X(WARN,      "warn",      TEXT,    BL_ATTR_BOLD) \
	X(ERROR,     "error",     TEXT,    BL_ATTR_BOLD | BL_ATTR_REVERSE) \
	X(MEASURED,  "measured",  TEXT,    0) \
	X(MODELLED,  "modelled",  DIM,     0) \
	X(UNKNOWN,   "unknown",   DIM,     0) \
	X(FULL,      "scheme.full", TEXT,  0) \
	X(INT8,      "scheme.int8", TEXT,  0) \
	X(INT4,      "scheme.int4", TEXT,  BL_ATTR_BOLD) \
	X(FP8,       "scheme.fp8",  TEXT,  0) \
	X(OTHER,     "scheme.other", TEXT, 0) \
	X(BAR,       "bar",       TEXT,    0) \
	X(BAR_EMPTY, "bar.empty", DIM,     0) \
	X(RAMP0,     "ramp0",     TEXT,    0) \
	X(RAMP1,     "ramp1",     RAMP0,   0) \
	X(RAMP2,     "ramp2",     RAMP1,   0) \
	X(RAMP3,     "ramp3",     RAMP2,   0) \
	X(RAMP4,     "ramp4",     RAMP3,   BL_ATTR_BOLD) \
	X(MATCH,     "match",     TEXT,    BL_ATTR_UNDERLINE) \
	X(INPUT,     "input",     TEXT,    0) \
	X(HINT,      "hint",      DIM,     0)
/* clang-format on */
enum bl_role {
#define X(id, name, fallback, mono) BL_ROLE_##id,
	BL_ROLES(X)
#undef X
	BL_ROLE_COUNT
};
#endif
