/* SPDX-License-Identifier: Apache-2.0
 * Bytes from a hostile terminal: through the decoder into the workbench on the demo model, drawn at changing sizes. It
 * runs in a folder of its own, types no '/' into prompts and confirms nothing, so that it writes nowhere else. First
 * byte: size; the bytes 0xf8..0xff (no UTF-8) change it, make time pass, or deliver what came so far. */
#include <dlfcn.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/mem.h"
#include "tui/app_private.h"
#include "tui/input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct bl_settings *settings;
static int home, own = -1; /* libFuzzer reads its corpus where it was started, also after the first input */

static void prepare(void)
{
	static const char *const xdg[] = { "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME",
					   "XDG_DATA_HOME",   "HF_HOME",        "HOME" };
	char folder[] = "/tmp/fuzz_keys.XXXXXX";
	glob_t plugins = { 0 };

	home = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (home < 0 || !mkdtemp(folder))
		abort();
	own = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (own < 0 || symlinkat(BL_SOURCE_DIR "/tests/models/tiny-exaone4", own, "m"))
		abort();
	/* held open for good: libFuzzer counts in them and must not see them go */
	glob(BL_BUILD_DIR "/plugins/*/*.so", 0, NULL, &plugins);
	for (size_t i = 0; i < plugins.gl_pathc; i++)
		if (!dlopen(plugins.gl_pathv[i], RTLD_NOW | RTLD_LOCAL))
			abort();
	globfree(&plugins);
	for (size_t i = 0; i < sizeof xdg / sizeof xdg[0]; i++)
		setenv(xdg[i], "/nonexistent", 1);
	setenv("BL_TEST_CLOCK", "1767225600", 1);
	settings = bl_settings_new();
}

static void on_event(void *ctx, const struct bl_input_event *e)
{
	struct bl_app *app = ctx;

	if (bl_app_should_quit(app))
		return;
	if (e->kind == BL_INPUT_PASTE && strchr(e->text, '/'))
		return;
	if (e->kind == BL_INPUT_PASTE)
		bl_app_paste(app, e->text);
	else if (e->kind == BL_INPUT_MOUSE)
		bl_app_mouse(app, e->mouse, e->row, e->col);
	else if (strcmp(e->text, app->priv->prompt.on ? "/" : app->priv->ask.on ? "y" : "") != 0)
		bl_app_key(app, e->text); /* no paths out of here, and nothing is confirmed */
	bl_free(bl_app_take_clipboard(app));
	bl_app_wants_suspend(app);
}

static void check_cells(const struct bl_grid_s *g)
{
	for (int i = 0; i < g->rows * g->cols; i++) {
		uint32_t ch = g->cells[i].ch;

		if (g->cells[i].width && (ch < 0x20 || (ch >= 0x7f && ch < 0xa0) || (g->ascii && ch > 0x7e)))
			abort();
		if (g->cells[i].role >= BL_ROLE_COUNT)
			abort();
	}
}

static void resize(struct bl_app *app, unsigned v)
{
	static const int rows[] = { 24, 1, 2, 3, 5, 8, 10, 40 }, cols[] = { 80, 1, 2, 7, 20, 40, 120, 200 };

	bl_app_resize(app, rows[v & 7], cols[v >> 3 & 7]);
}

/* Most of the time went into opening the model. So its session goes on to the next workbench, with a new plan and
 * what was computed from the weights; its jobs are cancelled. */
static struct bl_session *lent;

static void look_at_model(struct bl_app *app)
{
	struct bl_err err = BL_ERR_INIT;

	if (!lent && bl_app_open(app, "m", &err))
		abort();
	if (!lent)
		return;
	app->session = lent;
	lent = NULL;
	bl_app_push(app, "layers", NULL);
	bl_session_start_stats(app->session);
}

/* Not one that has work left, or another that was opened meanwhile: the workbench closes that itself. */
static void take_back(struct bl_app *app)
{
	struct bl_session *s = app->session;
	struct bl_job_view jobs[64];
	int n = s ? bl_jobs_list(s->jobs, jobs, 64) : 0;

	for (int i = 0; i < n && i < 64; i++)
		bl_jobs_cancel(s->jobs, jobs[i].id);
	for (int i = 0; s && i < 50 && bl_jobs_busy(s->jobs); i++)
		usleep(1000);
	if (!s || bl_jobs_busy(s->jobs) || strcmp(s->model->title, "m") != 0)
		return;
	bl_app_detach(app);
	bl_plan_free(s->plan);
	s->plan = bl_plan_new(s->model, bl_target_rows(&n)[0].name);
	bl_session_edited(s);
	lent = s;
}


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bl_session_options o = { .threads = 1, .seed = 42, .program_dir = BL_BUILD_DIR };
	struct bl_input in;
	struct bl_app *app;
	uint64_t now = 1000;
	size_t from = 1;

	if (!settings)
		prepare();
	if (size < 2 || size > 4096)
		return 0;
	if (fchdir(own))
		abort();
	app = bl_app_new(settings, &o, 24, 80, data[0] & 64);
	resize(app, data[0]);
	if (!(data[0] & 128))
		look_at_model(app);
	bl_input_init(&in, 25);
	for (size_t i = 1; i <= size; i++) {
		if (i < size && data[i] < 0xf8)
			continue;
		bl_input_feed(&in, data + from, i - from, now, on_event, app);
		from = i + 1;
		if (i < size && data[i] == 0xf8) {
			now += 30;
		} else if (i < size && data[i] == 0xf9) {
			now += 2000;
		} else if (i + 1 < size && data[i] == 0xfa) {
			resize(app, data[++i]);
			from = i + 1;
		}
		bl_input_expire(&in, now, on_event, app);
		bl_app_tick(app);
		bl_app_draw(app);
		check_cells(&app->grid);
	}
	bl_input_free(&in);
	take_back(app);
	bl_app_free(app);
	if (fchdir(home))
		abort();
	return 0;
}
