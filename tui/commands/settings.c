/* SPDX-License-Identifier: Apache-2.0
 * settings: what is set, and NAME=VALUE to change it for good, as :setting does. */
#include <string.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "tui/cli.h"

static void text_of(struct bl_str *dst, const struct bl_settings *s, enum bl_setting_id id)
{
	switch (bl_setting_row(id)->type) {
	case BL_SETTING_BOOL:
		bl_str_add(dst, bl_settings_bool(s, id) ? "true" : "false");
		break;
	case BL_SETTING_INT:
		bl_str_addf(dst, "%ld", bl_settings_int(s, id));
		break;
	default:
		bl_str_add(dst, bl_settings_text(s, id));
	}
}

static void list(struct bl_cli *c, const char *path)
{
	cJSON *out = c->json ? cJSON_AddArrayToObject(c->json, "settings") : NULL;

	for (int i = 0; i < BL_SETTING_COUNT; i++) {
		const struct bl_setting_row *r = bl_setting_row((enum bl_setting_id)i);
		struct bl_str value = {0};
		text_of(&value, c->settings, (enum bl_setting_id)i);
		if (out) {
			cJSON *e = cJSON_CreateObject();
			cJSON_AddStringToObject(e, "name", r->name);
			cJSON_AddStringToObject(e, "value", bl_str_c(&value));
			cJSON_AddStringToObject(e, "default", r->fallback);
			cJSON_AddStringToObject(e, "choices", r->choices);
			cJSON_AddStringToObject(e, "sentence", r->sentence);
			cJSON_AddItemToArray(out, e);
		} else {
			bl_cli_wrapped(c, 27, "%-10s %-15s %s%s%s", r->name, bl_str_c(&value), r->sentence, *r->choices ? " One of: " : "", r->choices);
		}
		bl_str_free(&value);
	}
	if (out)
		cJSON_AddStringToObject(c->json, "file", path);
	else
		bl_cli_line(c, "kept in %s%s", path, bl_is_file(path) ? "" : " (made when something is set)");
}

static enum bl_status set(struct bl_cli *c, const char *text, struct bl_err *err)
{
	const char *eq = strchr(text, '=');
	const struct bl_target *target;

	if (!eq)
		return bl_fail(err, BL_USAGE, "settings %s: must be NAME=VALUE", text);
	char *name = bl_xstrndup(text, (size_t)(eq - text));
	if (!strcmp(name, "target"))
		bl_target_find(&target, eq + 1, err);
	if (!err->status)
		bl_settings_set(c->settings, name, eq + 1, err);
	bl_free(name);
	return err->status;
}

enum bl_status bl_cmd_settings(struct bl_cli *c, struct bl_err *err)
{
	char *path = bl_given(&c->o, BL_OPT_SETTINGS) ? bl_xstrdup(c->o.value[BL_OPT_SETTINGS]) : bl_settings_path();

	for (int i = 0; i < c->o.n_args && !err->status; i++)
		set(c, c->o.args[i], err);
	if (!err->status && c->o.n_args && !bl_given(&c->o, BL_OPT_DRY_RUN))
		bl_settings_save(c->settings, path, err);
	if (!err->status)
		list(c, path);
	bl_free(path);
	return err->status;
}
