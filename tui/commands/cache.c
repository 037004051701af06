/* SPDX-License-Identifier: Apache-2.0
 * cache: what is stored, and dropping it. */
#include <string.h>

#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/calib/calib.h"
#include "tui/cli.h"

static void list(struct bl_cli *c, const char *dir)
{
	struct bl_cache_entry *e;
	size_t n;
	uint64_t total = 0;
	cJSON *out = c->json ? cJSON_AddArrayToObject(c->json, "entries") : NULL;
	char bytes[16], when[21];

	bl_cache_list(&e, &n, dir);
	for (size_t i = 0; i < n; i++) {
		total += e[i].bytes;
		bl_wall_iso(e[i].wall_s, when);
		if (out) {
			cJSON *j = cJSON_CreateObject();
			cJSON_AddStringToObject(j, "key", e[i].key);
			cJSON_AddStringToObject(j, "kind", e[i].kind);
			cJSON_AddStringToObject(j, "model", e[i].model);
			bl_json_add_int(j, "bytes", (int64_t)e[i].bytes);
			bl_json_add_int(j, "time", e[i].wall_s);
			cJSON_AddBoolToObject(j, "complete", e[i].complete);
			cJSON_AddItemToArray(out, j);
		} else {
			bl_cli_line(c, "%.12s %-6.6s %9s %s%s %.20s", e[i].key, e[i].kind, bl_human_bytes(bytes, sizeof bytes, (double)e[i].bytes), when,
				    e[i].complete ? "" : " unfinished", e[i].model);
		}
	}
	if (out) {
		cJSON_AddStringToObject(c->json, "folder", dir);
		bl_json_add_int(c->json, "bytes_total", (int64_t)total);
	} else if (n) {
		bl_cli_line(c, "%s in %s", bl_human_bytes(bytes, sizeof bytes, (double)total), dir);
	} else {
		bl_cli_line(c, "nothing is stored in %s", dir);
	}
	bl_cache_free(e, n);
}

enum bl_status bl_cmd_cache(struct bl_cli *c, struct bl_err *err)
{
	const char *verb = c->o.n_args ? c->o.args[0] : "list";
	char *dir = bl_cli_cache(c);

	if (!strcmp(verb, "list") && c->o.n_args < 2)
		list(c, dir);
	else if (!strcmp(verb, "drop") && c->o.n_args == 2)
		bl_cache_drop(dir, c->o.args[1], bl_given(&c->o, BL_OPT_DRY_RUN), err);
	else
		bl_fail(err, BL_USAGE, "cache: list, or drop KEY (the beginning of one is enough)");
	bl_free(dir);
	return err->status;
}
