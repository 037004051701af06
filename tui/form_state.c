/* SPDX-License-Identifier: Apache-2.0
 * What was last asked of a model, in $XDG_STATE_HOME/bitlathe/forms/DIGEST: a line "calibrate ..." and a line "evaluate ...", as the commands are typed.
 * Broken or missing: the usual values. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "tui/app_private.h"

#define FORMS_BYTES_MAX 65536

static char *forms_path(const struct bl_app *app)
{
	char *state = bl_xdg_dir("STATE"), *dir = bl_path_join(state, "forms"), name[17];
	char *path;

	memcpy(name, app->session->model->digest, 16);
	name[16] = '\0';
	path = bl_path_join(dir, name);
	bl_free(dir);
	bl_free(state);
	return path;
}

static void usual(struct bl_app *app)
{
	struct bl_app_private *p = app->priv;
	int64_t longest = app->session->model->config.max_positions;
	int64_t len = longest >= 2 && longest < 1024 ? longest : 1024;

	bl_calib_request_free(&p->calibrate);
	bl_eval_form_free(&p->evaluate);
	p->calibrate = (struct bl_calib_request){ .samples = 512, .seqlen = len, .hessians = true, .block_inputs = true, .keep_windows = 16,
						    .memory_limit = app->options.memory_limit };
	p->evaluate = (struct bl_eval_request){ .seqlen = len, .memory_limit = app->options.memory_limit };
}

static void read_forms(struct bl_app *app)
{
	char *path = forms_path(app), *text = NULL;
	size_t n;
	struct bl_err err = BL_ERR_INIT;

	if (bl_is_file(path) && bl_read_file(&text, &n, path, FORMS_BYTES_MAX, true, &err) == BL_OK && bl_utf8_valid(text, n))
		for (char *save = NULL, *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
			if (bl_starts_with(l, "calibrate ") && bl_calib_form_parse(&app->priv->calibrate, l + 10, &err))
				bl_log(BL_LOG_WARN, "%s: %s", path, err.text);
			if (bl_starts_with(l, "evaluate ") && bl_eval_form_parse(&app->priv->evaluate, l + 9, &err))
				bl_log(BL_LOG_WARN, "%s: %s", path, err.text);
		}
	bl_free(text);
	bl_free(path);
}

static void ready(struct bl_app *app)
{
	struct bl_app_private *p = app->priv;

	if (!strcmp(p->forms_of, app->session->model->digest))
		return;
	usual(app);
	snprintf(p->forms_of, sizeof p->forms_of, "%s", app->session->model->digest);
	if (p->persistent)
		read_forms(app);
}

struct bl_calib_request *bl_app_calib_form(struct bl_app *app)
{
	ready(app);
	return &app->priv->calibrate;
}

struct bl_eval_request *bl_app_eval_form(struct bl_app *app)
{
	ready(app);
	return &app->priv->evaluate;
}

/* The next start may be in another folder. */
static void whole_path(char **name)
{
	char *full = *name ? realpath(*name, NULL) : NULL;

	if (full) {
		bl_free(*name);
		*name = bl_xstrdup(full);
	}
	free(full);
}

void bl_app_save_forms(struct bl_app *app)
{
	struct bl_app_private *p = app->priv;
	struct bl_calib_request calib;
	struct bl_str line = { 0 }, text = { 0 };
	char *path, *dir;
	struct bl_err err = BL_ERR_INIT;

	if (!p->persistent || !app->session || strcmp(p->forms_of, app->session->model->digest) != 0)
		return;
	bl_calib_request_copy(&calib, &p->calibrate);
	for (int i = 0; i < calib.n_files; i++)
		whole_path(&calib.files[i]);
	bl_calib_form_print(&calib, &line);
	bl_calib_request_free(&calib);
	if (!strchr(bl_str_c(&line), '\n'))
		bl_str_addf(&text, "calibrate %s\n", bl_str_c(&line));
	bl_str_clear(&line);
	whole_path(&p->evaluate.ppl);
	whole_path(&p->evaluate.kl);
	whole_path(&p->evaluate.mcq);
	bl_eval_form_print(&p->evaluate, &line);
	if (!strchr(bl_str_c(&line), '\n'))
		bl_str_addf(&text, "evaluate %s\n", bl_str_c(&line));
	path = forms_path(app);
	dir = bl_path_dir(path);
	if (bl_mkdirs(dir, 0700, &err) || bl_write_file(path, bl_str_c(&text), text.len, 0600, &err))
		bl_log(BL_LOG_WARN, "%s", err.text);
	bl_free(dir);
	bl_free(path);
	bl_str_free(&line);
	bl_str_free(&text);
}
