/* SPDX-License-Identifier: Apache-2.0
 * "-" where a file is named: standard input or output, in the places where one stream is enough; everywhere else it is refused, so that nobody finds a
 * file of that name. Input is kept in memory under a name that the readers of files can open. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/mem.h"
#include "tui/cli.h"

#define STDIN_MAX (64u << 20)

static enum bl_status read_all(struct bl_str *out, const char *option, struct bl_err *err)
{
	char part[65536];
	ssize_t got;

	while ((got = read(STDIN_FILENO, part, sizeof part)) != 0) {
		if (got < 0 && errno == EINTR) {
			if (bl_cli_interruption(err))
				return err->status;
			continue;
		}
		if (got < 0)
			return bl_fail_sys(err, BL_IO, "--%s -: standard input cannot be read", option);
		if (out->len + (size_t)got > STDIN_MAX)
			return bl_fail(err, BL_INVALID, "--%s -: standard input has more than %u MiB", option, STDIN_MAX >> 20);
		bl_str_addn(out, part, (size_t)got);
	}
	return BL_OK;
}

/* A file in memory, open until the program ends. */
static enum bl_status as_file(char **name, const struct bl_str *text, const char *option, struct bl_err *err)
{
	struct bl_str path = {0};
	int fd = memfd_create("stdin", MFD_CLOEXEC);

	for (size_t at = 0; fd >= 0 && at < text->len;) {
		ssize_t n = write(fd, text->s + at, text->len - at);
		if (n < 0 && errno != EINTR) {
			close(fd);
			fd = -1;
		}
		at += n > 0 ? (size_t)n : 0;
	}
	if (fd < 0)
		return bl_fail_sys(err, BL_IO, "--%s -: standard input cannot be kept", option);
	bl_str_addf(&path, "/proc/self/fd/%d", fd);
	*name = bl_str_take(&path);
	return BL_OK;
}

static bool names_a_file(const struct bl_option_row *r)
{
	return r->arg && (!strcmp(r->arg, "FILE") || !strcmp(r->arg, "DIR") || !strcmp(r->arg, "MODEL"));
}

static bool is_output(enum bl_option o)
{
	return o == BL_OPT_OUT || o == BL_OPT_WRITE_RECIPE;
}

static enum bl_status refuse(const struct bl_cli *c, struct bl_err *err)
{
	const struct bl_options *o = &c->o;
	int streams = 0;

	for (int k = 0; k < BL_OPTION_COUNT; k++) {
		const struct bl_option_row *r = bl_option_row((enum bl_option)k);
		bool here = k == BL_OPT_PROMPT || k == BL_OPT_RECIPE || k == BL_OPT_TEXT || k == BL_OPT_KEYS || (is_output((enum bl_option)k) && o->command == BL_CMD_plan);
		bool dash = o->value[k] && !strcmp(o->value[k], "-");
		for (int i = 0; i < o->n_many; i++)
			dash |= o->many_of[i] == (enum bl_option)k && !strcmp(o->many[i], "-");
		if (dash && names_a_file(r) && !here)
			return bl_fail(err, BL_USAGE, "--%s -: %s (./- is a file of that name)", r->name,
				       is_output((enum bl_option)k) ? "this goes to a file or folder, not to standard output" : "this is not read from standard input");
		streams += dash && here && !is_output((enum bl_option)k);
	}
	for (int i = 0; i < o->n_args; i++)
		if (!strcmp(o->args[i], "-"))
			return bl_fail(err, BL_USAGE, "-: a model, plan or checkpoint is not read from standard input (./- is a file of that name)");
	return streams > 1 ? bl_fail(err, BL_USAGE, "standard input can be read once: - stands for it twice") : BL_OK;
}

enum bl_status bl_cli_stdio(struct bl_cli *c, struct bl_err *err)
{
	static const enum bl_option inputs[] = {BL_OPT_PROMPT, BL_OPT_RECIPE, BL_OPT_TEXT};
	struct bl_options *o = &c->o;

	if (refuse(c, err))
		return err->status;
	for (size_t i = 0; i < sizeof inputs / sizeof inputs[0]; i++) {
		struct bl_str text = {0};
		const char *name = bl_option_row(inputs[i])->name, **value = &o->value[inputs[i]];
		for (int k = 0; k < o->n_many; k++)
			if (o->many_of[k] == inputs[i] && !strcmp(o->many[k], "-"))
				value = &o->many[k];
		if (!*value || strcmp(*value, "-"))
			continue;
		if (!read_all(&text, name, err)) {
			if (inputs[i] != BL_OPT_PROMPT) {
				as_file(&c->from_stdin, &text, name, err);
			} else if (memchr(bl_str_c(&text), '\0', text.len)) {
				bl_fail(err, BL_INVALID, "--prompt -: the text has a NUL byte");
			} else {
				if (text.len && text.s[text.len - 1] == '\n') /* what echo adds */
					text.s[--text.len] = '\0';
				c->from_stdin = bl_str_take(&text);
			}
			*value = c->from_stdin;
		}
		bl_str_free(&text);
	}
	return err->status;
}
