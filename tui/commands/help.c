/* SPDX-License-Identifier: Apache-2.0
 * help and the workbench itself. */
#include <string.h>

#include "tui/app_loop.h"
#include "tui/cli.h"
#include "tui/script.h"

enum bl_status bl_cmd_help(struct bl_cli *c, struct bl_err *err)
{
	int found = -1;

	for (int i = 0; i < BL_COMMAND_COUNT && c->o.n_args; i++)
		if (!strcmp(bl_command_row((enum bl_command)i)->name, c->o.args[0]))
			found = i;
	if (c->o.n_args && found < 0)
		return bl_options_unknown_command(c->o.args[0], err);
	bl_docs_help(&c->text, found);
	if (c->json)
		cJSON_AddStringToObject(c->json, "help", bl_str_c(&c->text));
	return BL_OK;
}

static enum bl_status stopped(const void *ctx, struct bl_err *err)
{
	return bl_cli_stopped(ctx, err);
}

enum bl_status bl_cmd_workbench(struct bl_cli *c, struct bl_err *err)
{
	const char *what = c->o.n_args ? c->o.args[0] : NULL;
	struct bl_script script = {.keys_path = c->o.value[BL_OPT_KEYS], .rows = 24, .cols = 80, .frames_dir = c->o.value[BL_OPT_FRAMES],
				   .ascii = bl_given(&c->o, BL_OPT_ASCII), .stopped = stopped, .ctx = c};

	if (bl_given(&c->o, BL_OPT_DRY_RUN))
		return bl_fail(err, BL_USAGE, "--dry-run: the workbench shows what it would do and asks; bitlathe plan, export ... --dry-run say it without a screen");
	if (!bl_given(&c->o, BL_OPT_KEYS)) {
		c->session.autosave = true;
		return bl_workbench(c->settings, &c->session, what, err);
	}
	if (bl_given(&c->o, BL_OPT_SIZE) && bl_script_size(c->o.value[BL_OPT_SIZE], &script.rows, &script.cols, err))
		return err->status;
	if (bl_script_run(&script, c->settings, &c->session, what, &c->text, err))
		return err->status;
	if (c->json)
		cJSON_AddStringToObject(c->json, "screen", bl_str_c(&c->text));
	return BL_OK;
}
