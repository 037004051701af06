/* SPDX-License-Identifier: Apache-2.0
 * Help and manual page: from the tables of commands, options, actions and settings. docs_complete.c makes the completions of shells. */
#include <stdio.h>
#include <string.h>

#include "core/settings/settings.h"
#include "tui/action.h"
#include "tui/cli.h"

static const struct { int code; const char *meaning; } exits[] = {
	{0, "done and true"}, {1, "failed"}, {2, "wrong usage"}, {3, "refused: input invalid or not supported"}, {4, "the plan breaks a rule of the target"},
	{5, "verification found a mismatch"}, {6, "not enough memory or disk"}, {7, "device lost or not available"}, {124, "time limit"}, {130, "interrupted"},
	{143, "terminated"},
};

static const struct { const char *name, *meaning; } environment[] = {
	{"BITLATHE_CONFIG", "The settings file; -c wins."},
	{"XDG_CONFIG_HOME, XDG_STATE_HOME, XDG_CACHE_HOME", "Where settings and keys, what the workbench remembers, and calibrations with what was solved are kept."},
	{"HF_HUB_CACHE, HF_HOME", "Where ids of models are looked for; nothing is fetched."},
	{"CUDA_VISIBLE_DEVICES", "Which GPUs there are, as for every CUDA program."},
	{"OMP_NUM_THREADS", "Worker threads when --threads is not given."},
	{"SOURCE_DATE_EPOCH", "Time of files in a zip (1980-01-01)."},
	{"NO_COLOR, TERM, COLORTERM, LC_ALL, LC_CTYPE, LANG", "Colours and characters of the workbench."},
	{"TMPDIR", "Where bench keeps its files."},
};

static void option_head(const struct bl_option_row *r, char *dst, size_t cap)
{
	snprintf(dst, cap, "%s%c%s--%s%s%s", r->letter ? "-" : "", r->letter ? r->letter : ' ', r->letter ? ", " : "   ", r->name, r->arg ? " " : "",
		 r->arg ? r->arg : "");
}

static bool shown(int o)
{
	return strcmp(bl_option_row((enum bl_option)o)->commands, "-") != 0;
}

/* "  head   sentence": the sentence has a column of its own, below a head that is too long. */
static void help_row(struct bl_str *out, int width, const char *head, const char *sentence)
{
	struct bl_str line = {0};
	bool below = strlen(head) > (size_t)width;

	if (below)
		bl_str_addf(out, "  %s\n", head);
	bl_str_addf(&line, "  %-*s %s", width, below ? "" : head, sentence);
	bl_cli_wrap(out, width + 3, line.s);
	bl_str_free(&line);
}

static void help_option(struct bl_str *out, int o)
{
	char head[96];

	option_head(bl_option_row((enum bl_option)o), head, sizeof head);
	help_row(out, 26, head, bl_option_row((enum bl_option)o)->sentence);
}

void bl_docs_help(struct bl_str *out, int command)
{
	if (command >= 0) {
		const struct bl_command_row *c = bl_command_row((enum bl_command)command);
		int own = 0;
		bl_str_addf(out, "bitlathe %s %s\n  %s\n", c->name, c->args, c->sentence);
		for (int o = 0; o < BL_OPTION_COUNT; o++)
			own += bl_option_fits((enum bl_option)o, (enum bl_command)command) && strcmp(bl_option_row((enum bl_option)o)->commands, "*");
		for (int pass = own ? 0 : 1; pass < 2; pass++) {
			bl_str_add(out, pass ? "\nOptions of every command\n" : "\nOptions of this command\n");
			for (int o = 0; o < BL_OPTION_COUNT; o++)
				if (shown(o) && bl_option_fits((enum bl_option)o, (enum bl_command)command) &&
				    (strcmp(bl_option_row((enum bl_option)o)->commands, "*") == 0) == (pass == 1))
					help_option(out, o);
		}
		return;
	}
	bl_str_addf(out, "bitlathe %s: a terminal workbench for quantizing large language models\n\nbitlathe [MODEL or PLAN]     opens the workbench\n"
		    "bitlathe COMMAND ...         does one thing:\n\n", BL_VERSION);
	for (int i = 1; i < BL_COMMAND_COUNT; i++) {
		const struct bl_command_row *c = bl_command_row((enum bl_command)i);
		char head[64];
		snprintf(head, sizeof head, "%-9s %s", c->name, c->args);
		help_row(out, 32, head, c->sentence);
	}
	bl_str_add(out, "\n`bitlathe help COMMAND` lists its options. A MODEL is a folder, a .safetensors\n"
		   "file or an id in the Hugging Face cache; a PLAN is a plan file, or a MODEL with\n"
		   "--preset, --set or --recipe.\n");
}

/* ---- manual page ---- */

static void man_text(struct bl_str *out, const char *s)
{
	for (; *s; s++)
		if (*s == '\\')
			bl_str_add(out, "\\e");
		else if (*s == '-')
			bl_str_add(out, "\\-");
		else
			bl_str_addc(out, *s);
}

static void man_item(struct bl_str *out, const char *head, const char *sentence)
{
	bl_str_add(out, ".TP\n.B ");
	man_text(out, head);
	bl_str_add(out, "\n");
	if (sentence[0] == '.' || sentence[0] == '\'')
		bl_str_add(out, "\\&");
	man_text(out, sentence);
	bl_str_add(out, "\n");
}

void bl_docs_man(struct bl_str *out)
{
	char head[300];
	const char *group = "";

	bl_str_addf(out, ".TH BITLATHE 1 \"\" \"bitlathe %s\" \"User Commands\"\n.SH NAME\nbitlathe \\- quantize large language models in a terminal\n.SH SYNOPSIS\n"
		    ".B bitlathe\n[MODEL or PLAN]\n.br\n.B bitlathe\nCOMMAND [OPTION...] [ARGUMENT...]\n.SH COMMANDS\n", BL_VERSION);
	for (int i = 0; i < BL_COMMAND_COUNT; i++) {
		const struct bl_command_row *c = bl_command_row((enum bl_command)i);
		snprintf(head, sizeof head, "%s %s", c->name, c->args);
		man_item(out, head, c->sentence);
	}
	bl_str_add(out, ".SH OPTIONS\n");
	for (int o = 0; o < BL_OPTION_COUNT; o++)
		if (shown(o)) {
			char text[400];
			option_head(bl_option_row((enum bl_option)o), head, sizeof head);
			snprintf(text, sizeof text, "%s%s%s%s", bl_option_row((enum bl_option)o)->sentence, strcmp(bl_option_row((enum bl_option)o)->commands, "*") ? " (" : "",
				 strcmp(bl_option_row((enum bl_option)o)->commands, "*") ? bl_option_row((enum bl_option)o)->commands : "",
				 strcmp(bl_option_row((enum bl_option)o)->commands, "*") ? ")" : "");
			man_item(out, head + (head[0] == ' ' ? 4 : 0), text);
		}
	bl_str_add(out, ".SH ACTIONS OF THE WORKBENCH\nTyped after a colon, or by key; ? lists the keys of a screen.\n");
	for (int a = 0; a < BL_ACTION_COUNT; a++) {
		const struct bl_action_row *r = bl_action_row((enum bl_action)a);
		if (strcmp(group, r->group)) {
			group = r->group;
			bl_str_addf(out, ".SS %s\n", group);
		}
		snprintf(head, sizeof head, ":%s %s", r->name, r->args);
		man_item(out, head, r->sentence);
	}
	bl_str_add(out, ".SH SETTINGS\nLines NAME = VALUE in $XDG_CONFIG_HOME/bitlathe/config; `bitlathe settings` shows and changes them.\n");
	for (int i = 0; i < BL_SETTING_COUNT; i++) {
		const struct bl_setting_row *r = bl_setting_row((enum bl_setting_id)i);
		snprintf(head, sizeof head, "%s = %s", r->name, r->fallback);
		man_item(out, head, r->sentence);
	}
	bl_str_add(out, ".SH ENVIRONMENT\n");
	for (size_t i = 0; i < sizeof environment / sizeof environment[0]; i++)
		man_item(out, environment[i].name, environment[i].meaning);
	bl_str_add(out, ".SH EXIT STATUS\n");
	for (size_t i = 0; i < sizeof exits / sizeof exits[0]; i++) {
		snprintf(head, sizeof head, "%d", exits[i].code);
		man_item(out, head, exits[i].meaning);
	}
}
