/* SPDX-License-Identifier: Apache-2.0
 * Any text as a plan; what is accepted must print, read again and print the same, and can be edited, undone and copied. link: bl_plan */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/plan/plan_file.h"
#include "core/plan/target.h"
#include "tests/fuzz/demo_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void same_text(const struct bl_plan *p, const struct bl_str *want)
{
	struct bl_str now = {0};

	bl_plan_print(&now, p);
	if (now.len != want->len || memcmp(now.s, want->s, now.len))
		abort();
	bl_str_free(&now);
}

static void use(struct bl_plan *p, const struct bl_model *m, const struct bl_str *text)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_problem *problems = NULL;
	struct bl_plan *copy = bl_plan_copy(p);
	int n;

	same_text(copy, text);
	bl_plan_free(copy);
	bl_target_check_plan(&problems, NULL, &bl_target_rows(&n)[0], m, p);
	bl_free(problems);
	bl_plan_begin(p, "everything");
	bl_plan_set_text(p, m, "all=W4A16:rtn,observer=mse", NULL, NULL, &err);
	bl_plan_set_edit(p, "x", "[1]", &err);
	if (bl_plan_n_snapshots(p))
		bl_plan_snapshot_restore(p, 0, &err);
	for (int i = bl_plan_n_snapshots(p) - 1; i >= 0; i--)
		bl_plan_snapshot_drop(p, i);
	if (bl_plan_end(p) && !bl_plan_undo(p))
		abort();
	same_text(p, text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct bl_model *m = fuzz_model();
	struct bl_err err = BL_ERR_INIT;
	struct bl_plan *p = NULL, *q = NULL;
	struct bl_str text = {0};
	char *note = NULL;

	if (bl_plan_parse(&p, m, (const char *)data, n, "fuzz", &note, &err) == BL_OK) {
		bl_plan_print(&text, p);
		if (bl_plan_parse(&q, m, bl_str_c(&text), text.len, "again", NULL, &err))
			abort();
		same_text(q, &text);
		use(p, m, &text);
		bl_plan_free(p);
		bl_plan_free(q);
	} else if (p) {
		abort();
	}
	bl_free(note);
	bl_str_free(&text);
	return 0;
}
