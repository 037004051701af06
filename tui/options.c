/* SPDX-License-Identifier: Apache-2.0
 * Parsing of the command line. */
#include "tui/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/str.h"

static const struct bl_option_row options[BL_OPTION_COUNT] = {
#define BL_OPTION(id, name, letter, arg, many, commands, sentence) {name, letter, arg, many, commands, sentence},
#include "tui/options_list.h"
#undef BL_OPTION
};
static const struct bl_command_row commands[BL_COMMAND_COUNT] = {
#define BL_COMMAND(id, name, args, least, most, sentence) {name, args, least, most, sentence},
#include "tui/commands/command_list.h"
#undef BL_COMMAND
};

const struct bl_option_row *bl_option_row(enum bl_option o) { return &options[o]; }
const struct bl_command_row *bl_command_row(enum bl_command c) { return &commands[c]; }

/* Is the word in a list of words? */
static bool listed(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (const char *at = list; (at = strstr(at, word)); at += len)
		if ((at == list || at[-1] == ' ') && (!at[len] || at[len] == ' '))
			return true;
	return false;
}

bool bl_option_fits(enum bl_option o, enum bl_command c)
{
	return !strcmp(options[o].commands, "*") || listed(options[o].commands, commands[c].name);
}

/* Edits that turn a into b: insertions, removals, replacements. */
static int distance(const char *a, const char *b)
{
	int row[65], n = (int)strlen(b);

	if (n > 64 || strlen(a) > 64)
		return 99;
	for (int j = 0; j <= n; j++)
		row[j] = j;
	for (int i = 1; a[i - 1]; i++) {
		int corner = row[0];
		row[0] = i;
		for (int j = 1; j <= n; j++) {
			int was = row[j], best = corner + (a[i - 1] != b[j - 1]);
			best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
			row[j] = was + 1 < best ? was + 1 : best;
			corner = was;
		}
	}
	return row[n];
}

static int find_option(const char *name, size_t len)
{
	for (int i = 0; i < BL_OPTION_COUNT; i++)
		if (strlen(options[i].name) == len && !strncmp(options[i].name, name, len))
			return i;
	return -1;
}

static int find_letter(char letter)
{
	for (int i = 0; i < BL_OPTION_COUNT; i++)
		if (options[i].letter && options[i].letter == letter)
			return i;
	return -1;
}

static enum bl_status unknown_option(const char *text, enum bl_command c, struct bl_err *err)
{
	int best = -1, least = 4;

	for (int i = 0; i < BL_OPTION_COUNT; i++)
		if (distance(text + 2, options[i].name) < least && strcmp(options[i].commands, "-")) {
			best = i;
			least = distance(text + 2, options[i].name);
		}
	return best >= 0 ? bl_fail(err, BL_USAGE, "unknown option %s: did you mean --%s?", text, options[best].name) :
	       bl_fail(err, BL_USAGE, "unknown option %s: `bitlathe help %s` lists the options", text, commands[c].name);
}

static const char *const later[] = {"score", "run", "report", "surgery",
				    "tune", "jobs", "attach"};

enum bl_status bl_options_unknown_command(const char *word, struct bl_err *err)
{
	for (int i = 0; i < BL_COMMAND_COUNT; i++)
		if (distance(word, commands[i].name) <= 2)
			return bl_fail(err, BL_USAGE, "unknown command %s: did you mean %s?", word, commands[i].name);
	return bl_fail(err, BL_USAGE, "no command is called \"%s\" (bitlathe help lists them)", word);
}

static enum bl_status find_command(struct bl_options *o, const char *word, bool *is_command, struct bl_err *err)
{
	*is_command = true;
	for (int i = 0; i < BL_COMMAND_COUNT; i++)
		if (!strcmp(commands[i].name, word)) {
			o->command = (enum bl_command)i;
			return BL_OK;
		}
	for (size_t i = 0; i < sizeof later / sizeof later[0]; i++)
		if (!strcmp(later[i], word))
			return bl_fail(err, BL_USAGE, "%s is not in this version (bitlathe help lists what is)", word);
	*is_command = false;
	if (strchr(word, '/') || strchr(word, '.'))
		return BL_OK; /* a file or an id */
	for (int i = 0; i < BL_COMMAND_COUNT; i++)
		if (distance(word, commands[i].name) <= 2)
			return bl_fail(err, BL_USAGE, "unknown command %s: did you mean %s?", word, commands[i].name);
	return BL_OK;
}

/* An option that does nothing without one of others is refused, not passed over: 0 (the first row, --json) ends the list. */
static const struct { enum bl_option option; const char *commands; enum bl_option needs[4]; } goes_with[] = {
	{BL_OPT_SAMPLES,      "evaluate quantize compare search", {BL_OPT_DATA}},
	{BL_OPT_KEEP_WINDOWS, "compare search", {BL_OPT_DATA}},
	{BL_OPT_SEQLEN,       "quantize search", {BL_OPT_DATA}},
	{BL_OPT_SEQLEN,       "evaluate compare", {BL_OPT_PPL, BL_OPT_KL, BL_OPT_DATA}},
	{BL_OPT_WINDOWS,      "evaluate compare", {BL_OPT_PPL, BL_OPT_KL}},
	{BL_OPT_ITEMS,        "evaluate compare", {BL_OPT_MCQ}},
	{BL_OPT_PART_BYTES,   "quantize", {BL_OPT_OUT}},
	{BL_OPT_IGNORE_RULES, "quantize", {BL_OPT_OUT}},
	{BL_OPT_FORMAT,       "quantize", {BL_OPT_OUT}},
	{BL_OPT_CONFIG,       "quantize", {BL_OPT_OUT}},
	{BL_OPT_SCHEMES,      "compare", {BL_OPT_ALL_METHODS}},
	{BL_OPT_TOP_P,        "generate", {BL_OPT_TEMPERATURE}},
	{BL_OPT_GENERATION,   "tokenize", {BL_OPT_CHAT, BL_OPT_DATA}},
	{BL_OPT_SIZE,         "workbench", {BL_OPT_KEYS}},
	{BL_OPT_FRAMES,       "workbench", {BL_OPT_KEYS}},
	{BL_OPT_ASCII,        "workbench", {BL_OPT_KEYS}},
	{BL_OPT_TIME_LIMIT,   "workbench", {BL_OPT_KEYS}},
};
/* Two that ask for different things. */
static const struct { enum bl_option option, other; const char *commands, *why; } goes_not_with[] = {
	{BL_OPT_MARKDOWN, BL_OPT_JSON, "compare", "it is one or the other"},
	{BL_OPT_BASE, BL_OPT_PRESET, "evaluate", "with --base a quantized checkpoint is measured as it is"},
	{BL_OPT_BASE, BL_OPT_SET, "evaluate", "with --base a quantized checkpoint is measured as it is"},
	{BL_OPT_BASE, BL_OPT_RECIPE, "evaluate", "with --base a quantized checkpoint is measured as it is"},
	{BL_OPT_BASE, BL_OPT_RECOMMENDED, "evaluate", "with --base a quantized checkpoint is measured as it is"},
	{BL_OPT_BASE, BL_OPT_METHOD, "evaluate", "with --base a quantized checkpoint is measured as it is"},
	{BL_OPT_CALIBRATION, BL_OPT_DATA, "evaluate quantize compare search", "one is stored, the other is made"},
	{BL_OPT_REFUSE_NONFINITE, BL_OPT_NONFINITE, "plan", "it is one or the other"},
	{BL_OPT_BASE, BL_OPT_STAGE, "evaluate", "with --base a quantized checkpoint is measured as it is"},
};

static enum bl_status together(const struct bl_options *o, struct bl_err *err)
{
	const char *command = commands[o->command].name;

	for (size_t i = 0; i < sizeof goes_with / sizeof goes_with[0]; i++) {
		bool has = false;
		struct bl_str list = {0};
		if (!o->value[goes_with[i].option] || !listed(goes_with[i].commands, command))
			continue;
		for (int k = 0; k < 4 && goes_with[i].needs[k]; k++) {
			has |= o->value[goes_with[i].needs[k]] != NULL;
			bl_str_addf(&list, "%s--%s", k ? " or " : "", options[goes_with[i].needs[k]].name);
		}
		if (!has)
			bl_fail(err, BL_USAGE, "--%s does nothing in %s without %s", options[goes_with[i].option].name, command, bl_str_c(&list));
		bl_str_free(&list);
		if (err->status)
			return err->status;
	}
	for (size_t i = 0; i < sizeof goes_not_with / sizeof goes_not_with[0]; i++)
		if (o->value[goes_not_with[i].option] && o->value[goes_not_with[i].other] && listed(goes_not_with[i].commands, command))
			return bl_fail(err, BL_USAGE, "--%s does not go with --%s: %s", options[goes_not_with[i].option].name, options[goes_not_with[i].other].name,
				       goes_not_with[i].why);
	return BL_OK;
}

static enum bl_status take(struct bl_options *o, enum bl_option k, const char *value, struct bl_err *err)
{
	if (k == BL_OPT_DATA && !o->value[k])
		o->n_before_data = o->n_args;
	o->value[k] = value;
	if (!options[k].many)
		return BL_OK;
	if (o->n_many == BL_MANY_MAX)
		return bl_fail(err, BL_USAGE, "--%s: given more than %d times", options[k].name, BL_MANY_MAX);
	o->many[o->n_many] = value;
	o->many_of[o->n_many++] = k;
	return BL_OK;
}

static enum bl_status parse_one(struct bl_options *o, int argc, char **argv, int *i, struct bl_err *err)
{
	const char *text = argv[*i], *eq = strchr(text, '='), *value = "";
	int k = -1;

	if (text[1] == '-') {
		size_t len = eq ? (size_t)(eq - text - 2) : strlen(text + 2);
		if ((k = find_option(text + 2, len)) < 0)
			return unknown_option(text, o->command, err);
	} else {
		k = find_letter(text[1]);
		if (k < 0)
			return bl_fail(err, BL_USAGE, "unknown option %s: `bitlathe help %s` lists the options", text, commands[o->command].name);
		eq = NULL;
		for (text++; text[1] && !options[k].arg; text++) { /* -qn is -q -n */
			if (take(o, (enum bl_option)k, "", err))
				return err->status;
			k = find_letter(text[1]);
			if (k < 0)
				return bl_fail(err, BL_USAGE, "unknown option -%c in %s: `bitlathe help %s` lists the options", text[1], argv[*i], commands[o->command].name);
		}
		text--; /* the last one stands where the first would */
	}
	if (options[k].arg) {
		if (text[1] == '-' ? eq != NULL : text[2] != 0)
			value = text[1] == '-' ? eq + 1 : text + 2;
		else if (*i + 1 < argc)
			value = argv[++*i];
		else
			return bl_fail(err, BL_USAGE, "--%s: needs %s", options[k].name, options[k].arg);
	} else if (eq) {
		return bl_fail(err, BL_USAGE, "--%s: takes no value", options[k].name);
	}
	return take(o, (enum bl_option)k, value, err);
}

enum bl_status bl_options_parse(struct bl_options *o, int argc, char **argv, struct bl_err *err)
{
	bool have_command = false, only_args = false;

	memset(o, 0, sizeof *o);
	for (int i = 1; i < argc; i++) {
		bool is_command = false;
		if (!only_args && !strcmp(argv[i], "--")) {
			only_args = true;
		} else if (!only_args && argv[i][0] == '-' && argv[i][1]) {
			if (parse_one(o, argc, argv, &i, err))
				return err->status;
		} else if (!have_command && !only_args && (have_command = true, find_command(o, argv[i], &is_command, err))) {
			return err->status;
		} else if (!is_command) {
			if (o->n_args == 16)
				return bl_fail(err, BL_USAGE, "too many arguments, from %s on", argv[i]);
			o->args[o->n_args++] = argv[i];
		}
	}
	if (bl_given(o, BL_OPT_HELP) || bl_given(o, BL_OPT_VERSION))
		return BL_OK;
	for (int k = 0; k < BL_OPTION_COUNT; k++)
		if (o->value[k] && !bl_option_fits((enum bl_option)k, o->command) && strcmp(options[k].commands, "-"))
			return bl_fail(err, BL_USAGE, "--%s does not go with %s (it does with: %s)", options[k].name, commands[o->command].name, options[k].commands);
	const struct bl_command_row *c = &commands[o->command];
	if (o->command == BL_CMD_workbench && o->n_args > c->most)
		return bl_fail(err, BL_USAGE, "%s is no command (bitlathe help lists them); without a command one MODEL or PLAN is opened", o->args[0]);
	if (o->n_args < c->least || o->n_args > c->most)
		return bl_fail(err, BL_USAGE, "%s takes %s: bitlathe %s%s%s", c->name, o->n_args < c->least ? "more arguments" : "fewer arguments", c->name,
			       *c->args ? " " : "", c->args);
	return together(o, err);
}

enum bl_status bl_option_int(const struct bl_options *o, enum bl_option k, long long min, long long max, long long fallback, long long *out, struct bl_err *err)
{
	char *end;

	*out = fallback;
	if (!o->value[k])
		return BL_OK;
	long long v = strtoll(o->value[k], &end, 10);
	if (!*o->value[k] || *end || v < min || v > max)
		return bl_fail(err, BL_USAGE, "--%s: must be a whole number in %lld .. %lld, is %s", options[k].name, min, max, o->value[k]);
	*out = v;
	return BL_OK;
}

enum bl_status bl_option_data(const struct bl_options *o, const char *files[BL_MANY_MAX + 16], int *n, struct bl_err *err)
{
	*n = 0;
	for (int i = 0; i < o->n_many; i++)
		if (o->many_of[i] == BL_OPT_DATA)
			files[(*n)++] = o->many[i];
	for (int i = 1; i < o->n_args; i++) { /* --data A B */
		if (!*n || i < o->n_before_data)
			return bl_fail(err, BL_USAGE, "%s takes one %s, not also %s; files of data come after --data", commands[o->command].name, commands[o->command].args,
				       o->args[i]);
		files[(*n)++] = o->args[i];
	}
	return BL_OK;
}
