/* SPDX-License-Identifier: Apache-2.0
 * Shared by the tests of the session. */
#include "support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/mem.h"

char test_dir[64];

int support_setup(void **state)
{
	(void)state;
	snprintf(test_dir, sizeof test_dir, "/tmp/bl-session-XXXXXX");
	return mkdtemp(test_dir) && !setenv("XDG_STATE_HOME", test_dir, 1) ? 0 : -1;
}

int support_teardown(void **state)
{
	(void)state;
	bl_remove_tree(test_dir);
	return 0;
}

struct bl_session *open_with(const char *what, bool autosave, int threads)
{
	struct bl_session_options o = { .threads = threads, .seed = 42, .program_dir = BL_BUILD_DIR, .autosave = autosave };
	struct bl_err err = BL_ERR_INIT;
	struct bl_session *s = NULL;

	if (bl_session_open(&s, what, &o, &err))
		fail_msg("%s", err.text);
	return s;
}

void wait_idle(struct bl_session *s)
{
	for (int i = 0; i < 60000 && bl_jobs_busy(s->jobs); i++)
		usleep(5000);
	assert_false(bl_jobs_busy(s->jobs));
}

void set_all(struct bl_session *s, const char *scheme)
{
	struct bl_err err = BL_ERR_INIT;

	assert_int_equal(bl_plan_preset(s->plan, s->model, scheme, &err), BL_OK);
	bl_session_edited(s);
}

char *state_file(const struct bl_session *s)
{
	return bl_plan_autosave_path(s->model);
}

char *copy_model(const char *name)
{
	char *folder = bl_path_join(test_dir, name), **names;
	struct bl_err err = BL_ERR_INIT;
	size_t n;

	assert_int_equal(bl_mkdirs(folder, 0755, &err), BL_OK);
	assert_int_equal(bl_list_dir(&names, &n, DEMO_MODEL, &err), BL_OK);
	for (size_t i = 0; i < n; i++) {
		char *from = bl_path_join(DEMO_MODEL, names[i]), *to = bl_path_join(folder, names[i]), *data;
		size_t bytes;
		assert_int_equal(bl_read_file(&data, &bytes, from, 1u << 30, false, &err), BL_OK);
		assert_int_equal(bl_write_file(to, data, bytes, 0644, &err), BL_OK);
		bl_free(data);
		bl_free(from);
		bl_free(to);
	}
	bl_list_free(names);
	return folder;
}

void plant_nan(const char *folder, int unit)
{
	struct bl_session *s = open_with(folder, false, 1);
	const void *weight = s->model->units[unit].members[0].weight->data;
	struct bl_err err = BL_ERR_INIT;
	char **names;
	size_t n;
	bool found = false;

	assert_int_equal(bl_list_dir(&names, &n, folder, &err), BL_OK);
	for (size_t i = 0; i < n && !found; i++) {
		char *path = bl_path_join(folder, names[i]), *data = NULL;
		size_t bytes;
		if (bl_ends_with(names[i], ".safetensors")) {
			assert_int_equal(bl_read_file(&data, &bytes, path, 1u << 30, false, &err), BL_OK);
			char *at = memmem(data, bytes, weight, 256);
			found = at != NULL;
			if (found) {
				memset(at, 0xff, 4); /* NaN in every type that weights have */
				assert_int_equal(bl_write_file(path, data, bytes, 0644, &err), BL_OK);
			}
			bl_free(data);
		}
		bl_free(path);
	}
	bl_list_free(names);
	bl_session_close(s);
	assert_true(found);
}
