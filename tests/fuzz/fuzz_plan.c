/* SPDX-License-Identifier: Apache-2.0
 * Any text as a plan; what is accepted must print, read again and print the same. link: bl_plan */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/plan/plan_file.h"
#include "tests/fuzz/demo_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct bl_model *m = fuzz_model();
	struct bl_err err = BL_ERR_INIT;
	struct bl_plan *p = NULL, *q = NULL;
	struct bl_str a = {0}, b = {0};
	char *note = NULL;

	if (bl_plan_parse(&p, m, (const char *)data, n, "fuzz", &note, &err) == BL_OK) {
		bl_plan_print(&a, p);
		if (bl_plan_parse(&q, m, bl_str_c(&a), a.len, "again", NULL, &err))
			abort();
		bl_plan_print(&b, q);
		if (a.len != b.len || memcmp(a.s, b.s, a.len))
			abort();
		bl_plan_undo(p);
		bl_plan_free(p);
		bl_plan_free(q);
	}
	bl_free(note);
	bl_str_free(&a);
	bl_str_free(&b);
	return 0;
}
