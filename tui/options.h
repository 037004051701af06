/* SPDX-License-Identifier: Apache-2.0
 * The command line, parsed through the two tables (options_list.h, commands/command_list.h). */
#ifndef BL_TUI_OPTIONS_H
#define BL_TUI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/err.h"

enum bl_option {
#define BL_OPTION(id, name, letter, arg, many, commands, sentence) BL_OPT_##id,
#include "tui/options_list.h"
#undef BL_OPTION
	BL_OPTION_COUNT
};
enum bl_command {
#define BL_COMMAND(id, name, args, least, most, sentence) BL_CMD_##id,
#include "tui/commands/command_list.h"
#undef BL_COMMAND
	BL_COMMAND_COUNT
};
struct bl_option_row { const char *name; char letter; const char *arg; bool many; const char *commands, *sentence; };
struct bl_command_row { const char *name, *args; int least, most; const char *sentence; };
const struct bl_option_row *bl_option_row(enum bl_option o);
const struct bl_command_row *bl_command_row(enum bl_command c);
bool bl_option_fits(enum bl_option o, enum bl_command c);

#define BL_MANY_MAX 256
struct bl_options {
	enum bl_command command;
	const char *value[BL_OPTION_COUNT];             /* NULL: not given; "" for flags; the last of repeatable ones */
	const char *many[BL_MANY_MAX]; enum bl_option many_of[BL_MANY_MAX]; int n_many; /* repeatable ones in order */
	const char *args[16]; int n_args;
	int n_before_data;                              /* arguments that stand before the first --data: those behind it are files of data, too */
};
/* Borrows argv. BL_USAGE with a suggestion for what is nearly right. */
enum bl_status bl_options_parse(struct bl_options *o, int argc, char **argv, struct bl_err *err);
enum bl_status bl_options_unknown_command(const char *word, struct bl_err *err); /* BL_USAGE, with what may have been meant */
static inline bool bl_given(const struct bl_options *o, enum bl_option k) { return o->value[k] != NULL; }
/* Files of data: those given with --data and the arguments behind it. BL_USAGE for an argument behind the first that is none. Returns how many through n. */
enum bl_status bl_option_data(const struct bl_options *o, const char *files[BL_MANY_MAX + 16], int *n, struct bl_err *err);
/* Whole number in min..max, or fallback when not given. */
enum bl_status bl_option_int(const struct bl_options *o, enum bl_option k, long long min, long long max, long long fallback, long long *out, struct bl_err *err);

#endif
