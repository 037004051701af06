/* SPDX-License-Identifier: Apache-2.0
 * The workbench without a terminal, for tests. */
#include "tests/unit/tui/support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/file.h"
#include "tui/script.h"

static const struct bl_session_options options = { .threads = 2, .seed = 42, .program_dir = BL_BUILD_DIR };
char test_folder[] = "/tmp/test_tui.XXXXXX";

int test_enter_folder(void **state)
{
	static const char *const xdg[] = { "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "HF_HOME", "HOME" };

	(void)state;
	if (!mkdtemp(test_folder) || chdir(test_folder))
		return -1;
	for (size_t i = 0; i < sizeof xdg / sizeof xdg[0]; i++)
		setenv(xdg[i], test_folder, 1);
	unsetenv("HF_HUB_CACHE");
	return symlink(BL_SOURCE_DIR "/tests/models/tiny-exaone4", "tiny");
}

int test_leave_folder(void **state)
{
	(void)state;
	if (chdir("/"))
		return -1;
	bl_remove_tree(test_folder);
	return 0;
}

struct bl_app *test_app(int rows, int cols, bool model)
{
	struct bl_app *app = bl_app_new(bl_settings_new(), &options, rows, cols, false);
	struct bl_err err = BL_ERR_INIT;

	if (model)
		assert_int_equal(bl_app_open(app, "tiny", &err), BL_OK);
	return app;
}

void test_drop(struct bl_app *app)
{
	struct bl_settings *settings = app->settings;

	bl_app_free(app);
	bl_settings_free(settings);
}

void test_press(struct bl_app *app, const char *script)
{
	struct bl_script s = { .keys_path = "test" };
	struct bl_str out = { 0 };
	struct bl_err err = BL_ERR_INIT;

	assert_int_equal(bl_script_play(app, &s, script, strlen(script), &out, &err), BL_OK);
	bl_str_free(&out);
}

bool test_shows(struct bl_app *app, const char *text)
{
	struct bl_str s = { 0 };
	bool found;

	bl_app_draw(app);
	bl_grid_dump(&app->grid, &s, false);
	found = strstr(bl_str_c(&s), text) != NULL;
	bl_str_free(&s);
	return found;
}
