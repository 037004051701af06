/* SPDX-License-Identifier: Apache-2.0
 * doctor: what this machine offers and what is missing. Reports, never fails. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/session/machine.h"
#include "tui/cli.h"
#include "tui/term.h"

static void row(struct bl_cli *c, const char *key, const char *value)
{
	if (c->json)
		cJSON_AddStringToObject(c->json, key, value);
	else
		bl_cli_line(c, "%-14s %s", key, value);
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

enum bl_status bl_cmd_doctor(struct bl_cli *c, struct bl_err *err)
{
	struct bl_machine m;
	struct bl_registry r;
	const char *term = getenv("TERM"), *locale = getenv("LC_ALL");
	char a[32], b[32];
	int broken = 0;

	(void)err;
	bl_machine_look(&m, c->program_dir);
	rowf(c, "program", "bitlathe %s", BL_VERSION);
	rowf(c, "processor", "%s, %d usable", m.cpu, m.n_cpus);
	rowf(c, "memory", "%s, %s free", bl_human_bytes(a, sizeof a, (double)m.ram_bytes), bl_human_bytes(b, sizeof b, (double)m.ram_free_bytes));
	row(c, "gpu", m.gpu);
	rowf(c, "terminal", "%s%s, %s", term ? term : "TERM is not set", isatty(1) ? "" : " (output is not a terminal)",
	     bl_term_wants_ascii("auto") ? "ASCII (the locale is not UTF-8)" : "UTF-8");
	if (!locale)
		locale = getenv("LANG");
	row(c, "locale", locale ? locale : "not set");
	row(c, "colour", getenv("NO_COLOR") && *getenv("NO_COLOR") ? "off (NO_COLOR)" : "as the terminal offers");
	folder(c, "config", "CONFIG");
	folder(c, "state", "STATE");
	folder(c, "cache", "CACHE");
	bl_registry_open(&r, c->program_dir);
	for (int i = 0; i < r.n; i++)
		broken += r.entries[i].problem != NULL;
	rowf(c, "plugins", "%d methods, %d formats%s", bl_registry_n_methods(&r), bl_registry_n_exporters(&r), broken ? ", some are broken:" : "");
	for (int i = 0; i < r.n; i++)
		if (r.entries[i].problem)
			rowf(c, "  broken", "%s: %s", r.entries[i].path, r.entries[i].problem);
	if (!bl_registry_method(&r, "rtn") || !bl_registry_exporter(&r, "compressed-tensors"))
		row(c, "missing", "the plugins that come with bitlathe were not found: run it from where it was built or install it (make install)");
	bl_registry_close(&r);
	bl_machine_free(&m);
	return BL_OK;
}
