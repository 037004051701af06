/* SPDX-License-Identifier: Apache-2.0
 * Shared by the tests of core/text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "tests/unit/text/support.h"

static char folder[64];
static char *last;

cJSON *load_json(const char *path)
{
	struct bl_err err = BL_ERR_INIT;
	cJSON *root = NULL;

	if (bl_json_load(&root, path, 64u << 20, 4000000, &err))
		fail_msg("%s", err.text);
	return root;
}

static void replace(cJSON *in, const char *key, const cJSON *value)
{
	cJSON_DeleteItemFromObjectCaseSensitive(in, key);
	cJSON_AddItemToObject(in, key, cJSON_Duplicate(value, 1));
}

char *changed_tokenizer(const cJSON *changed)
{
	cJSON *whole = load_json(DEMO "/tokenizer.json");
	const cJSON *e, *m;
	struct bl_str text = {0};

	cJSON_ArrayForEach(e, changed) {
		if (strcmp(e->string, "model")) {
			replace(whole, e->string, e);
			continue;
		}
		cJSON_ArrayForEach(m, e)
			replace(cJSON_GetObjectItem(whole, "model"), m->string, m);
	}
	bl_json_print(&text, whole, 0, false);
	cJSON_Delete(whole);
	return bl_str_take(&text);
}

enum bl_status open_changed(struct bl_tokenizer **t, const char *changed, struct bl_err *err)
{
	struct bl_err bad = BL_ERR_INIT;
	cJSON *c = NULL;

	if (bl_json_parse(&c, changed, strlen(changed), 100000, "changed", &bad))
		fail_msg("%s", bad.text);
	char *text = changed_tokenizer(c);
	*t = NULL;
	enum bl_status s = bl_tokenizer_parse(t, text, strlen(text), "tokenizer.json", err);
	cJSON_Delete(c);
	bl_free(text);
	return s;
}

const char *write_text(const char *name, const char *text, size_t n)
{
	struct bl_err err = BL_ERR_INIT;

	if (!folder[0]) {
		strcpy(folder, "/tmp/bl-text-XXXXXX");
		assert_non_null(mkdtemp(folder));
	}
	bl_free(last);
	last = bl_path_join(folder, name);
	assert_int_equal(bl_write_file(last, text, n, 0644, &err), BL_OK);
	return last;
}

void remove_texts(void)
{
	if (folder[0])
		bl_remove_tree(folder);
	bl_free(last);
	last = NULL;
	folder[0] = '\0';
}
