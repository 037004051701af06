/* SPDX-License-Identifier: Apache-2.0
 * Completions for bash, zsh and fish: commands, the options that go with each, and the words that an option takes where they are few and known. */
#include <stdio.h>
#include <string.h>

#include "core/plan/target.h"
#include "tui/cli.h"

static bool shown(int o)
{
	return strcmp(bl_option_row((enum bl_option)o)->commands, "-") != 0;
}

/* Words that stand behind the option; empty: files, or anything. */
static void words_of(struct bl_str *out, enum bl_option o)
{
	char name[BL_SCHEME_NAME_MAX];
	int n;

	if (o == BL_OPT_PRESET || o == BL_OPT_SCHEME) {
		const struct bl_scheme_row *rows = bl_scheme_rows(&n);
		for (int i = 0; i < n; i++)
			bl_str_addf(out, "%s%s", out->len ? " " : "", bl_scheme_name(name, &rows[i].scheme));
	} else if (o == BL_OPT_TARGET) {
		const struct bl_target *rows = bl_target_rows(&n);
		for (int i = 0; i < n; i++)
			bl_str_addf(out, "%s%s", out->len ? " " : "", rows[i].name);
	} else if (o == BL_OPT_DEVICE) {
		bl_str_add(out, "auto cpu cuda");
	} else if (o == BL_OPT_ARITHMETIC) {
		bl_str_add(out, "server transformers");
	}
}

/* Words that may stand first behind the command. */
static const char *verbs_of(enum bl_command c)
{
	return c == BL_CMD_snapshot ? "save list restore rename drop" : c == BL_CMD_cache ? "list drop" : "";
}

static void command_names(struct bl_str *out)
{
	for (int i = 0; i < BL_COMMAND_COUNT; i++)
		bl_str_addf(out, "%s%s", i ? " " : "", bl_command_row((enum bl_command)i)->name);
}

static void bash(struct bl_str *out)
{
	bl_str_add(out, "# bash completion for bitlathe, made from its tables\n_bitlathe() {\n\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev= cmd=${COMP_WORDS[1]} words= verbs=\n"
			"\t[ \"$COMP_CWORD\" -gt 0 ] && prev=${COMP_WORDS[COMP_CWORD-1]}\n\tcase $prev in\n");
	for (int o = 0; o < BL_OPTION_COUNT; o++) {
		struct bl_str words = {0};
		words_of(&words, (enum bl_option)o);
		if (words.len)
			bl_str_addf(out, "\t--%s) COMPREPLY=($(compgen -W \"%s\" -- \"$cur\")); return ;;\n", bl_option_row((enum bl_option)o)->name, words.s);
		bl_str_free(&words);
	}
	bl_str_add(out, "\tesac\n\tcase $cmd in\n");
	for (int i = 0; i < BL_COMMAND_COUNT; i++) {
		bl_str_addf(out, "\t%s) words=\"", bl_command_row((enum bl_command)i)->name);
		for (int o = 0; o < BL_OPTION_COUNT; o++)
			if (shown(o) && bl_option_fits((enum bl_option)o, (enum bl_command)i))
				bl_str_addf(out, "--%s ", bl_option_row((enum bl_option)o)->name);
		bl_str_addf(out, "\"; verbs=\"%s\" ;;\n", verbs_of((enum bl_command)i));
	}
	bl_str_add(out, "\tesac\n\tif [ \"$COMP_CWORD\" = 1 ] || [ \"$prev\" = help ]; then verbs=\"");
	command_names(out);
	bl_str_add(out, "\"; [ \"$COMP_CWORD\" = 1 ] && words=\"");
	for (int o = 0; o < BL_OPTION_COUNT; o++)
		if (shown(o) && bl_option_fits((enum bl_option)o, BL_CMD_workbench))
			bl_str_addf(out, "--%s ", bl_option_row((enum bl_option)o)->name);
	bl_str_add(out, "\"\n\telif [ \"$COMP_CWORD\" != 2 ]; then verbs=; fi\n\tcase $cur in\n\t-*) COMPREPLY=($(compgen -W \"$words\" -- \"$cur\")) ;;\n"
			"\t*) COMPREPLY=($(compgen -W \"$verbs\" -- \"$cur\"; compgen -f -- \"$cur\")) ;;\n\tesac\n}\ncomplete -o filenames -F _bitlathe bitlathe\n");
}

static void quoted(struct bl_str *out, const char *s, bool colons)
{
	for (; *s; s++)
		if (*s == '\'')
			bl_str_add(out, "'\\''");
		else if (colons && (*s == '[' || *s == ']' || *s == ':'))
			bl_str_addf(out, "\\%c", *s);
		else
			bl_str_addc(out, *s);
}

static void zsh_option(struct bl_str *out, int o)
{
	const struct bl_option_row *r = bl_option_row((enum bl_option)o);
	struct bl_str words = {0};

	words_of(&words, (enum bl_option)o);
	for (int letter = r->letter != 0; letter >= 0; letter--) {
		if (letter)
			bl_str_addf(out, "\t\t'%s-%c[", r->many ? "*" : "", r->letter);
		else
			bl_str_addf(out, "\t\t'%s--%s[", r->many ? "*" : "", r->name);
		quoted(out, r->sentence, true);
		bl_str_addf(out, "]%s%s%s' \\\n", r->arg ? words.len ? ":value:(" : ":value:_files" : "", r->arg ? bl_str_c(&words) : "", r->arg && words.len ? ")" : "");
	}
	bl_str_free(&words);
}

static void zsh(struct bl_str *out)
{
	bl_str_add(out, "#compdef bitlathe\n_bitlathe() {\n\tlocal -a commands\n\tcommands=(\n");
	for (int i = 0; i < BL_COMMAND_COUNT; i++) {
		bl_str_addf(out, "\t\t'%s:", bl_command_row((enum bl_command)i)->name);
		quoted(out, bl_command_row((enum bl_command)i)->sentence, true);
		bl_str_add(out, "'\n");
	}
	bl_str_add(out, "\t)\n\tif (( CURRENT == 2 )); then _describe command commands; _files; return; fi\n\tlocal cmd=$words[2]\n\tshift words; (( CURRENT-- ))\n\tcase $cmd in\n");
	for (int i = 0; i < BL_COMMAND_COUNT; i++) {
		const char *verbs = verbs_of((enum bl_command)i);
		bl_str_addf(out, "\t%s) _arguments \\\n", bl_command_row((enum bl_command)i)->name);
		for (int o = 0; o < BL_OPTION_COUNT; o++)
			if (shown(o) && bl_option_fits((enum bl_option)o, (enum bl_command)i))
				zsh_option(out, o);
		if (i == BL_CMD_help) {
			bl_str_add(out, "\t\t'1:command:(");
			command_names(out);
			bl_str_add(out, ")' \\\n");
		} else if (*verbs) {
			bl_str_addf(out, "\t\t'1:verb:(%s)' \\\n", verbs);
		}
		bl_str_add(out, "\t\t'*:file:_files' ;;\n");
	}
	bl_str_add(out, "\tesac\n}\n_bitlathe \"$@\"\n");
}

static void fish(struct bl_str *out)
{
	for (int i = 0; i < BL_COMMAND_COUNT; i++) {
		const char *verbs = verbs_of((enum bl_command)i);
		bl_str_addf(out, "complete -c bitlathe -n __fish_use_subcommand -a %s -d '", bl_command_row((enum bl_command)i)->name);
		quoted(out, bl_command_row((enum bl_command)i)->sentence, false);
		bl_str_add(out, "'\n");
		if (*verbs)
			bl_str_addf(out, "complete -c bitlathe -n '__fish_seen_subcommand_from %s' -a '%s'\n", bl_command_row((enum bl_command)i)->name, verbs);
	}
	bl_str_add(out, "complete -c bitlathe -n '__fish_seen_subcommand_from help' -a '");
	command_names(out);
	bl_str_add(out, "'\n");
	for (int o = 0; o < BL_OPTION_COUNT; o++) {
		const struct bl_option_row *r = bl_option_row((enum bl_option)o);
		struct bl_str words = {0};
		if (!shown(o))
			continue;
		words_of(&words, (enum bl_option)o);
		bl_str_add(out, "complete -c bitlathe");
		if (strcmp(r->commands, "*"))
			bl_str_addf(out, " -n '__fish_seen_subcommand_from %s'", r->commands);
		bl_str_addf(out, " -l %s", r->name);
		if (r->letter)
			bl_str_addf(out, " -s %c", r->letter);
		if (words.len)
			bl_str_addf(out, " -x -a '%s'", words.s);
		else if (r->arg)
			bl_str_add(out, " -r");
		bl_str_add(out, " -d '");
		quoted(out, r->sentence, false);
		bl_str_add(out, "'\n");
		bl_str_free(&words);
	}
}

enum bl_status bl_docs_completion(struct bl_str *out, const char *shell, struct bl_err *err)
{
	if (!strcmp(shell, "bash"))
		bash(out);
	else if (!strcmp(shell, "zsh"))
		zsh(out);
	else if (!strcmp(shell, "fish"))
		fish(out);
	else
		return bl_fail(err, BL_USAGE, "--dump-completion: must be bash, zsh or fish, is %s", shell);
	return BL_OK;
}
