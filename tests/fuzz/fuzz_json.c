/* SPDX-License-Identifier: Apache-2.0
 * JSON text: whatever bl_json_parse accepts must print and parse again to the same text. link: bl_base
 * The text is also formatted into an error, which must come out printable. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_str one = { 0 }, two = { 0 }, head = { 0 };
	cJSON *root, *again;

	if (bl_json_parse(&root, (const char *)data, size, 100000, "input", &err) == BL_OK) {
		bl_json_print(&one, root, 0, false);
		if (bl_json_parse(&again, one.s, one.len, 100000, "printed", &err))
			abort();
		bl_json_print(&two, again, 0, false);
		if (one.len != two.len || memcmp(one.s, two.s, one.len))
			abort();
		cJSON_Delete(again);
		bl_str_clear(&two);
		bl_json_print(&two, root, 2, true);
		if (bl_json_parse(&again, two.s, two.len, 100000, "indented", &err))
			abort();
		cJSON_Delete(again);
		cJSON_Delete(root);
	} else {
		if (err.status != BL_INVALID || !bl_utf8_valid(err.text, strlen(err.text)))
			abort();
		bl_err_clear(&err);
		bl_str_addn(&head, data, size > 600 ? 600 : size);
		bl_fail(&err, BL_INVALID, "%s", bl_str_c(&head));
		for (const char *p = err.text; *p; p++)
			if ((unsigned char)*p < 0x20 || *p == 0x7f)
				abort();
		if (!bl_utf8_valid(err.text, strlen(err.text)))
			abort();
	}
	bl_str_free(&one);
	bl_str_free(&two);
	bl_str_free(&head);
	return 0;
}
