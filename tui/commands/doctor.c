/* SPDX-License-Identifier: Apache-2.0
 * doctor: what this machine offers and what is missing. Reports, never fails. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/session/machine.h"
#include "tui/cli.h"
#include "tui/curses_out.h"
#include "tui/term.h"
#include "tui/theme.h"

static void row(struct bl_cli *c, const char *key, const char *value)
{
	if (c->json)
		cJSON_AddStringToObject(c->json, key, value);
	else
		bl_cli_wrapped(c, 15, "%-14s %s", key, value);
}

static void rowf(struct bl_cli *c, const char *key, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static void rowf(struct bl_cli *c, const char *key, const char *fmt, ...)
{
	struct bl_str b = {0};
	va_list ap;

	va_start(ap, fmt);
	bl_str_vaddf(&b, fmt, ap);
	va_end(ap);
	row(c, key, bl_str_c(&b));
	bl_str_free(&b);
}

static void folder(struct bl_cli *c, const char *key, const char *which)
{
	char *dir = bl_xdg_dir(which), size[32];

	rowf(c, key, "%s%s, %s free", dir, bl_is_dir(dir) ? "" : " (made when needed)", bl_human_bytes(size, sizeof size, (double)bl_free_bytes(dir)));
	bl_free(dir);
}

static void plugins(struct bl_cli *c)
{
	struct bl_registry r;
	cJSON *list = c->json ? cJSON_AddArrayToObject(c->json, "broken") : NULL;
	int broken = 0;

	bl_registry_open(&r, c->program_dir);
	for (int i = 0; i < r.n; i++)
		broken += r.entries[i].problem != NULL;
	rowf(c, "plugins", "%d method%s, %d formats%s", bl_registry_n_methods(&r), bl_registry_n_methods(&r) == 1 ? "" : "s", bl_registry_n_exporters(&r),
	     broken ? "; some are broken:" : "");
	for (int i = 0; i < r.n; i++)
		if (r.entries[i].problem && list) {
			cJSON *e = cJSON_CreateObject();
			cJSON_AddStringToObject(e, "path", r.entries[i].path);
			cJSON_AddStringToObject(e, "sentence", r.entries[i].problem);
			cJSON_AddItemToArray(list, e);
		} else if (r.entries[i].problem) {
			rowf(c, "  broken", "%s: %s", r.entries[i].path, r.entries[i].problem);
		}
	if (!bl_registry_method(&r, "rtn") || !bl_registry_exporter(&r, "compressed-tensors"))
		row(c, "missing", "the plugins that come with bitlathe were not found: run it from where it was built or install it (make install)");
	bl_registry_close(&r);
}

/* Names alone; `bitlathe themes` tells more. */
static void themes(struct bl_cli *c)
{
	struct bl_str lines = {0}, names = {0};

	bl_theme_list(&lines, c->program_dir);
	for (char *save = NULL, *line = lines.s ? strtok_r(lines.s, "\n", &save) : NULL; line; line = strtok_r(NULL, "\n", &save))
		bl_str_addf(&names, "%s%.*s", names.len ? ", " : "", (int)strcspn(line, "\t"), line);
	row(c, "themes", names.len ? names.s : "none were found; the screen is plain");
	bl_str_free(&lines);
	bl_str_free(&names);
}

/* The first of the three that is set decides, as in the C library. */
static const char *locale(void)
{
	static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (getenv(names[i]) && *getenv(names[i]))
			return getenv(names[i]);
	return "not set";
}

static void terminal(struct bl_cli *c)
{
	const char *term = getenv("TERM"), *true_color = getenv("COLORTERM");
	int rows, cols, colors = bl_curses_terminal_colors();

	bl_term_size(&rows, &cols);
	rowf(c, "terminal", "%s, %d x %d%s, %s", term && *term ? term : "TERM is not set", cols, rows, isatty(1) ? "" : " (output is not a terminal)",
	     bl_term_wants_ascii("auto") ? "ASCII (the locale is not UTF-8)" : "UTF-8");
	row(c, "locale", locale());
	if (getenv("NO_COLOR") && *getenv("NO_COLOR"))
		row(c, "colour", "off (NO_COLOR)");
	else if (colors < 0)
		row(c, "colour", "unknown: the terminal database does not know this TERM");
	else
		rowf(c, "colour", "%d%s", colors, true_color && strstr(true_color, "truecolor") ? ", 24 bit (COLORTERM)" : "");
}

enum bl_status bl_cmd_doctor(struct bl_cli *c, struct bl_err *err)
{
	struct bl_machine m;
	char a[32], b[32];

	(void)err;
	bl_machine_look(&m, c->program_dir);
	rowf(c, "program", "bitlathe %s", BL_VERSION);
	rowf(c, "processor", "%s, %d usable", m.cpu, m.n_cpus);
	rowf(c, "memory", "%s, %s free", bl_human_bytes(a, sizeof a, (double)m.ram_bytes), bl_human_bytes(b, sizeof b, (double)m.ram_free_bytes));
	row(c, "gpu", m.gpu);
	terminal(c);
	folder(c, "config", "CONFIG");
	folder(c, "state", "STATE");
	folder(c, "cache", "CACHE");
	plugins(c);
	themes(c);
	bl_machine_free(&m);
	return BL_OK;
}
