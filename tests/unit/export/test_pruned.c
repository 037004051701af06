/* SPDX-License-Identifier: Apache-2.0
 * Pruned units in an export: the method's values are written where the source has others, promised zeros are counted, and a pattern that is not there, an entry
 * that makes no sense or bytes that differ are noticed. */
#include "tests/unit/export/support.h"

#include <string.h>

/* Solved by hand: the weights with the first `zeros` of every four set to 0. */
static struct bl_solved *make_solved(const struct bl_model *m, int unit, int zeros)
{
	const struct bl_unit *u = &m->units[unit];
	struct bl_solved *s = bl_xalloc(1, sizeof *s);
	uint16_t *w = bl_xalloc((size_t)(u->rows * u->cols), sizeof *w);
	int64_t at = 0;

	*s = (struct bl_solved){.unit = unit, .rows = u->rows, .cols = u->cols, .spr = 1, .code_bytes = 2, .codes = (int8_t *)(void *)w,
				.scales = bl_xalloc((size_t)u->rows, sizeof(float)), .report = bl_xstrdup("")};
	for (int k = 0; k < u->n_members; at += u->members[k++].rows * u->cols)
		memcpy(w + at, u->members[k].weight->data, (size_t)u->members[k].weight->bytes);
	for (int64_t i = 0; i < u->rows * u->cols; i++)
		w[i] = i % 4 < zeros ? 0 : w[i] ? w[i] : 1;
	return s;
}

struct pruned { struct fix f; struct bl_solved *all[256]; };

static void begin(struct pruned *p, int zeros)
{
	memset(p, 0, sizeof *p);
	fix_open(&p->f, TINY, 2);
	fix_plan(&p->f, "BF16 re:.*(o|down)_proj=BF16_SPARSE:sparsegpt,mask_structure=2:4");
	for (int i = 0; i < p->f.model->n_units; i++)
		if (bl_plan_choice(p->f.plan, i)->scheme.number == BL_NUM_PRUNED)
			p->all[i] = make_solved(p->f.model, i, zeros);
}

static void end(struct pruned *p)
{
	for (int i = 0; i < 256; i++)
		bl_solved_free(p->all[i]);
	fix_close(&p->f);
}

static void replace_in(const char *path, const char *from, const char *to)
{
	struct bl_err err = BL_ERR_INIT;
	char *text = NULL, *at;
	size_t n = 0;

	assert_int_equal(bl_read_file(&text, &n, path, 1 << 20, false, &err), BL_OK);
	at = strstr(text, from);
	assert_non_null(at);
	assert_int_equal(strlen(from), strlen(to));
	memcpy(at, to, strlen(to));
	put_file(path, text, n);
	bl_free(text);
}

static void written_and_counted(void **state)
{
	static const char *const lies[][2] = {{"\"2:4\"", "\"3:4\""}, {"\"2:4\"", "\"2:5\""}, {"\"2:4\"", "\"x:4\""}, {"0.mlp.down_proj\"", "0.mlp.dawn_proj\""}};
	struct bl_export_result r;
	struct bl_verify_result v;
	struct pruned p;

	(void)state;
	begin(&p, 2);
	struct bl_export_request rq = fix_request(&p.f, scratch("out"));

	rq.solved = p.all;
	OK(bl_export_run(&r, &rq, &err));
	assert_true(r.proof.pruned_elems > 0 && r.proof.zeros * 2 == r.proof.pruned_elems && r.proof.n_fatal == 0);
	bl_export_result_free(&r);
	fix_verify(&p.f, scratch("out"), true, &v);
	assert_string_equal(first_fatal(&v), "");
	for (int i = 0; i < v.n_findings; i++) /* it is known why they differ */
		assert_null(strstr(v.findings[i].sentence, "differs from the base"));
	bl_verify_result_free(&v);
	for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
		copy_tree(scratch("out"), scratch("lie"));
		replace_in(scratch("lie/config.json"), lies[i][0], lies[i][1]);
		fix_verify(&p.f, scratch("lie"), false, &v);
		assert_true(v.n_fatal > 0);
		bl_verify_result_free(&v);
		bl_remove_tree(scratch("lie"));
	}
	end(&p);
}

/* The export proves its own promise: values without the pattern do not get their name. */
static void promises_are_kept(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_export_result r;
	struct pruned p;

	(void)state;
	begin(&p, 1);
	struct bl_export_request rq = fix_request(&p.f, scratch("short"));

	rq.solved = p.all;
	assert_int_equal(bl_export_run(&r, &rq, &err), BL_MISMATCH);
	assert_non_null(strstr(err.text, "not 2:4 sparse"));
	assert_false(bl_is_dir(scratch("short")));
	bl_err_clear(&err);
	rq.solved = NULL; /* not solved yet */
	assert_int_equal(bl_export_run(&r, &rq, &err), BL_FAILED);
	assert_non_null(strstr(err.text, "not solved"));
	end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(written_and_counted, scratch_make, scratch_drop),
					   cmocka_unit_test_setup_teardown(promises_are_kept, scratch_make, scratch_drop)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
