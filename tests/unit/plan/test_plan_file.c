/* SPDX-License-Identifier: Apache-2.0
 * Plans on disk: the same text again, every prefix, every flipped bit, other people's mistakes, a disk that fails at any call. */
#include "tests/unit/plan/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/plan/plan_file.h"
#include "tests/unit/processor_ns.h"

#define TARGET "l4-vllm-0.14.1"

static struct bl_model *m;

static int open_model(void **state)
{
	(void)state;
	m = model_make(&tiny_shape);
	return 0;
}

static int close_model(void **state)
{
	(void)state;
	model_drop(m);
	return 0;
}

static char *printed(const struct bl_plan *p)
{
	struct bl_str b = {0};

	bl_plan_print(&b, p);
	return bl_str_take(&b);
}

/* A plan that uses everything a file can hold. */
static struct bl_plan *rich(void)
{
	struct bl_plan *p = bl_plan_new(m, TARGET);
	struct bl_err err = BL_ERR_INIT;

	setenv("BL_TEST_CLOCK", "1700000000", 1);
	bl_plan_set_text(p, m, "all=W8A8", NULL, NULL, &err);
	bl_plan_snapshot_save(p, "all W8A8 \"quoted\" \\ \xc3\xa9", "note", &err);
	bl_plan_set_text(p, m, "down=W4A16_ASYM_g64:rtn,observer=mse,grid=50", NULL, NULL, &err);
	bl_plan_set_text(p, m, "0.o=FP8_DYNAMIC:gptq", NULL, NULL, &err);
	bl_plan_set_text(p, m, "1.qkv=BF16", NULL, NULL, &err);
	bl_plan_set_lock(p, 1, true);
	bl_plan_set_edit(p, "max_position_embeddings", "16384", &err);
	bl_plan_set_edit(p, "rope_scaling", "{\"a\": [1, \"x y\"]}", &err);
	bl_plan_set_edit(p, "gone", "", &err);
	bl_plan_set_zero_nonfinite(p, true);
	bl_plan_set_format(p, "bf16");
	bl_plan_set_stages(p, "smooth:alpha=0.3,pairs=vo;permute");
	struct bl_snapshot_results *r = bl_snapshot_results_new(m->n_units);
	r->bytes = 123456789;
	r->kl = 0.1 + 0.2;
	r->error[2] = 1.0 / 3;
	r->wall_s = 1700000001;
	memset(r->calib, 'a', 64);
	bl_plan_snapshot_save_with(p, "second", NULL, r, &err);
	assert_int_equal(err.status, BL_OK);
	unsetenv("BL_TEST_CLOCK");
	return p;
}

static enum bl_status parse(const char *text, size_t n, char **again, char **note, struct bl_err *err)
{
	struct bl_plan *p = NULL;
	/* exactly as long as the text, so that a read beyond it shows */
	char *exact = malloc(n ? n : 1);

	memcpy(exact, text, n);
	if (again)
		*again = NULL;
	enum bl_status s = bl_plan_parse(&p, m, exact, n, "a.plan.json", note, err);
	free(exact);
	if (s) {
		assert_null(p);
		assert_int_equal(s, err->status);
		return s;
	}
	if (again)
		*again = printed(p);
	assert_false(bl_plan_dirty(p));
	bl_plan_free(p);
	return s;
}

static void the_same_again(void **state)
{
	struct bl_plan *p = rich(), *q = NULL;
	struct bl_err err = BL_ERR_INIT;
	char *text = printed(p), *twice = printed(p), *again = NULL, *note = NULL, a[65], b[65];

	(void)state;
	assert_string_equal(text, twice);
	assert_int_equal(parse(text, strlen(text), &again, &note, &err), BL_OK);
	assert_string_equal(text, again);
	assert_null(note);
	const char *path = in(state, "a.plan.json");
	assert_true(bl_plan_dirty(p));
	assert_int_equal(bl_plan_save(p, path, &err), BL_OK);
	assert_false(bl_plan_dirty(p));
	assert_true(bl_plan_is_file(path));
	assert_int_equal(bl_plan_load(&q, m, path, &note, &err), BL_OK);
	bl_plan_digest(p, a);
	bl_plan_digest(q, b);
	assert_string_equal(a, b);
	assert_true(bl_plan_choice(q, 1)->locked);
	assert_int_equal(bl_plan_n_snapshots(q), 2);
	assert_int_equal(bl_plan_snapshot(q, 0)->wall_s, 1700000000);
	assert_null(bl_plan_undo_label(q));
	const struct bl_snapshot_results *r = bl_plan_snapshot(q, 0)->results;
	assert_true(r && r->bytes == 123456789 && r->kl == 0.1 + 0.2 && r->error[2] == 1.0 / 3 && isnan(r->error[1]) && isnan(r->score) && r->wall_s == 1700000001);
	assert_null(bl_plan_snapshot(q, 1)->results);
	assert_int_equal(bl_plan_snapshot_rename(q, 0, "renamed", &err), BL_OK);
	assert_true(bl_plan_snapshot(q, 0)->results->kl == 0.1 + 0.2);
	bl_plan_free(p);
	bl_plan_free(q);
	bl_free(text);
	bl_free(twice);
	bl_free(again);
}

/* Numbers of snapshots: what is no number is refused, what the model does not have is left out. */
static void odd_results(void **state)
{
	static const struct { const char *from, *to; enum bl_status status; } cases[] = {
		{"\"kl\": ", "\"kl\": [1], \"x\": ", BL_INVALID},
		{"\"calibration\": \"aa", "\"calibration\": \"zz", BL_INVALID},
		{"\"results\": {", "\"results\": 7, \"x\": {", BL_INVALID},
		{"\"time\": 1700000001", "\"time\": -3", BL_INVALID},
		{"\"errors\": {", "\"errors\": {\"no.such.unit\": 3, \"down\": \"x\",", BL_OK},
		{"\"errors\": {", "\"errors\": 3, \"more\": {", BL_OK},
		{"\"results\": {", "\"results\": null, \"x\": {", BL_OK},
	};
	struct bl_plan *p = rich();
	char *text = printed(p);

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct bl_err err = BL_ERR_INIT;
		struct bl_str odd = {0};
		char *note = NULL;
		const char *at = strstr(text, cases[i].from);
		assert_non_null(at);
		bl_str_addn(&odd, text, (size_t)(at - text));
		bl_str_add(&odd, cases[i].to);
		bl_str_add(&odd, at + strlen(cases[i].from));
		assert_int_equal(parse(bl_str_c(&odd), odd.len, NULL, &note, &err), cases[i].status);
		bl_free(note);
		bl_str_free(&odd);
	}
	bl_free(text);
	bl_plan_free(p);
}

static void every_prefix_is_refused(void **state)
{
	struct bl_plan *p = rich();
	char *text = printed(p);

	(void)state;
	for (size_t n = 0; n + 1 < strlen(text); n++) { /* without the newline alone it is whole */
		struct bl_err err = BL_ERR_INIT;
		if (parse(text, n, NULL, NULL, &err) == BL_OK)
			fail_msg("%zu bytes of %zu were accepted", n, strlen(text));
		assert_int_equal(bl_status_exit(err.status), 3);
		assert_non_null(strstr(err.text, "a.plan.json"));
	}
	bl_free(text);
	bl_plan_free(p);
}

/* A flipped bit is an error that names the file, or another plan (a changed note) that is as good as any: it prints and reads again. */
static void every_flipped_bit(void **state)
{
	struct bl_plan *p = rich();
	char *text = printed(p);
	size_t n = strlen(text), refused = 0, taken = 0;

	(void)state;
	for (size_t i = 0; i < n * 8; i++) {
		struct bl_err err = BL_ERR_INIT;
		char *again = NULL, *twice = NULL, *note = NULL;
		text[i / 8] ^= (char)(1 << i % 8);
		if (parse(text, n, &again, &note, &err)) {
			refused++;
			if (bl_status_exit(err.status) != 3 || !strstr(err.text, "a.plan.json"))
				fail_msg("bit %zu: %s", i, err.text);
		} else {
			taken++;
			if (parse(again, strlen(again), &twice, NULL, &err))
				fail_msg("bit %zu: its own print is refused: %s", i, err.text);
			assert_string_equal(again, twice);
		}
		bl_free(again);
		bl_free(twice);
		bl_free(note);
		text[i / 8] ^= (char)(1 << i % 8);
	}
	assert_true(refused > n && taken > 0);
	bl_free(text);
	bl_plan_free(p);
}

/* The first `from` replaced by `to`. */
static char *changed(const char *text, const char *from, const char *to)
{
	const char *at = strstr(text, from);
	struct bl_str b = {0};

	assert_non_null(at);
	bl_str_addn(&b, text, (size_t)(at - text));
	bl_str_add(&b, to);
	bl_str_add(&b, at + strlen(from));
	return bl_str_take(&b);
}

static void mistakes_are_named(void **state)
{
	static const struct { const char *from, *to, *says[3]; } rows[] = {
		{"\"bitlathe_plan\": 1", "\"bitlathe_plan\": 2", {"bitlathe_plan"}},
		{"\"bitlathe_plan\": 1", "\"bitlathe_plan\": \"1\"", {"bitlathe_plan"}},
		{"\"bitlathe_plan\": 1,", "", {"bitlathe_plan"}},
		{"\"model\": {", "\"model\": 3, \"x\": {", {"model"}},
		{"\"id\": \"", "\"id\": 7, \"x\": \"", {"id"}},
		{"\"target\": \"" TARGET "\"", "\"target\": null", {"target"}},
		{"\"target\": \"" TARGET "\"", "\"target\": [\"" TARGET "\"]", {"target"}},
		{"\"zero_nonfinite\": true", "\"zero_nonfinite\": 1", {"zero_nonfinite"}},
		{"\"16384\"", "16384", {"config_edits", "max_position_embeddings", "text"}},
		{"\"16384\"", "\"{\"", {"config_edits", "max_position_embeddings"}},
		{"max_position_embeddings", "vocab_size", {"config_edits", "vocab_size"}},
		{"\"config_edits\": {", "\"config_edits\": [], \"x\": {", {"config_edits"}},
		{"\"stages\": [", "\"stages\": 3, \"x\": [", {"stages", "list"}},
		{"{\"transform\": \"permute\"}", "7", {"stages[1]", "object"}},
		{"\"transform\": \"permute\"", "\"transform\": \"a;b\"", {"stages[1]", "name"}},
		{"\"transform\": \"permute\"", "\"transform\": 5", {"stages[1]", "transform"}},
		{"\"units\": [", "\"units\": {}, \"x\": [", {"units"}},
		{"\"units\": [", "\"units\": [5,", {"units[0]", "object"}},
		{"model.layers.0.self_attn.o_proj", "model.layers.9.self_attn.o_proj", {"units[1]", "model.layers.9"}},
		{"model.layers.0.self_attn.o_proj", "model.layers.0.self_attn.q_proj", {"units[1]", "q_proj"}}, /* a member is no unit */
		{"model.layers.0.self_attn.o_proj", "model.layers.0.self_attn.qkv_proj", {"units[1]", "twice"}},
		{"{\"name\": \"model.layers.0.self_attn.o_proj\"", "{\"nam\": \"model.layers.0.self_attn.o_proj\"", {"units[1]", "name"}},
		{"\"scheme\": \"FP8_DYNAMIC\"", "\"scheme\": \"W9A9\"", {"units[1]", "W9A9"}},
		{"\"scheme\": \"FP8_DYNAMIC\"", "\"scheme\": 8", {"units[1]", "scheme"}},
		{"\"method\": \"gptq\"", "\"method\": \"0123456789012345678901234567890123456789\"", {"units[1]", "method"}},
		{"\"params\": \"observer=mse,grid=50\"", "\"params\": {}", {"units[3]", "params"}},
		{"\"params\": \"observer=mse,grid=50\"", "\"params\": \"a\\u001b[1m\"", {"units[3]", "params"}},
		{"\"locked\": true", "\"locked\": \"yes\"", {"units[1]", "locked"}},
		{"\"snapshots\": [", "\"snapshots\": {}, \"x\": [", {"snapshots"}},
		{"\"snapshots\": [", "\"snapshots\": [null,", {"snapshots[0]"}},
		{"\"name\": \"second\"", "\"name\": \"\"", {"snapshots[0]", "name"}},
		{"\"name\": \"second\"", "\"name\": \"all W8A8 \\\"quoted\\\" \\\\ \xc3\xa9\"", {"snapshots[1]", "twice"}},
		{"\"time\": 1700000000", "\"time\": -1", {"snapshots[0]", "time"}},
		{"\"time\": 1700000000", "\"time\": 1e300", {"snapshots[0]", "time"}},
		{"\"name\": \"second\"", "\"name\": \"second\", \"name\": \"third\"", {"name"}},
		{"{", "[{", {NULL}},
		{"\"model.layers", "\"\xff\xfe", {NULL}},
	};
	struct bl_plan *p = rich();
	char *text = printed(p);

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct bl_err err = BL_ERR_INIT;
		char *bad = changed(text, rows[i].from, rows[i].to);
		if (parse(bad, strlen(bad), NULL, NULL, &err) == BL_OK)
			fail_msg("%s was accepted", rows[i].to);
		for (int k = 0; k < 3 && rows[i].says[k]; k++)
			if (!strstr(err.text, rows[i].says[k]))
				fail_msg("%s: \"%s\" does not name %s", rows[i].to, err.text, rows[i].says[k]);
		if (bl_status_exit(err.status) != 3 || !strstr(err.text, "a.plan.json") || strchr(err.text, '\x1b'))
			fail_msg("%s: \"%s\"", rows[i].to, err.text);
		bl_free(bad);
	}
	/* within a snapshot the place is named from the top */
	struct bl_err err = BL_ERR_INIT;
	char *tail = strstr(text, "\"snapshots\"");
	char *bad = changed(tail, "\"scheme\": \"FP8_DYNAMIC\"", "\"scheme\": \"no\"");
	struct bl_str whole = {0};
	bl_str_addn(&whole, text, (size_t)(tail - text));
	bl_str_add(&whole, bad);
	assert_int_equal(parse(whole.s, whole.len, NULL, NULL, &err), BL_INVALID);
	assert_non_null(strstr(err.text, "a.plan.json: snapshots[0]: units[1]"));
	bl_str_free(&whole);
	bl_free(bad);
	bl_free(text);
	bl_plan_free(p);
}

static void what_is_missing(void **state)
{
	struct bl_plan *p = bl_plan_new(m, TARGET);
	struct bl_err err = BL_ERR_INIT;
	char *text = printed(p), *line = strstr(text, "    {\"name\": \"model.layers.1.mlp.down_proj\"");

	(void)state;
	/* the last unit: it and the comma before it go */
	char *end = strchr(line, '\n');
	line[-2] = ' ';
	memset(line, ' ', (size_t)(end - line));
	assert_int_equal(parse(text, strlen(text), NULL, NULL, &err), BL_INVALID);
	assert_non_null(strstr(err.text, "model.layers.1.mlp.down_proj is missing"));
	bl_free(text);
	bl_plan_free(p);
}

/* Keys of another version are left out, and said so; so is a plan made for another state of the model. */
static void remarks(void **state)
{
	struct bl_plan *p = rich();
	struct bl_err err = BL_ERR_INIT;
	char *text = printed(p), *note = NULL, *again = NULL;
	char *more = changed(text, "\"target\"", "\"new_thing\": {\"a\": [1]}, \"\\u001b[31m\": 1, \"target\"");
	char *most = changed(more, "{\"name\": \"model", "{\"k1\": 1, \"k2\": 2, \"k3\": 3, \"name\": \"model");

	(void)state;
	assert_int_equal(parse(more, strlen(more), &again, &note, &err), BL_OK);
	assert_string_equal(again, text);
	assert_non_null(strstr(note, "new_thing"));
	assert_null(strchr(note, '\x1b'));
	bl_free(note);
	bl_free(again);
	note = NULL;
	assert_int_equal(parse(most, strlen(most), &again, &note, &err), BL_OK);
	assert_non_null(strstr(note, "2 more"));
	bl_free(note);
	note = NULL;
	char *other = changed(text, m->digest, "0000");
	assert_int_equal(parse(other, strlen(other), NULL, &note, &err), BL_OK);
	assert_non_null(strstr(note, "changed since"));
	bl_free(note);
	bl_free(other);
	bl_free(again);
	bl_free(most);
	bl_free(more);
	bl_free(text);
	bl_plan_free(p);
}

/* Whatever call fails, the old file stands as it was, nothing else is left, and the plan still counts as unsaved. The last of the calls, the fsync of the
 * folder, comes after the rename: then the new file stands. */
static void a_disk_that_fails(void **state)
{
	struct bl_plan *p = rich();
	struct bl_err err = BL_ERR_INIT;
	const char *path = in(state, "kept.plan.json");
	char *old = NULL, *now = NULL, **names = NULL;
	size_t n, failures = 0;

	assert_int_equal(bl_plan_save(p, path, &err), BL_OK);
	assert_int_equal(bl_read_file(&old, NULL, path, 1 << 20, true, &err), BL_OK);
	bl_plan_set_text(p, m, "all=W8A16", NULL, NULL, &err);
	char *new = printed(p);
	for (uint64_t k = 1;; k++) {
		bl_file_fail_at(k);
		enum bl_status s = bl_plan_save(p, path, &err);
		bl_file_fail_at(0);
		if (!s)
			break;
		failures++;
		assert_int_equal(s, BL_NO_SPACE);
		assert_true(bl_plan_dirty(p));
		bl_err_clear(&err);
		assert_int_equal(bl_read_file(&now, NULL, path, 1 << 20, true, &err), BL_OK);
		if (strcmp(now, old) && strcmp(now, new))
			fail_msg("failure %llu left something else", (unsigned long long)k);
		if (failures < 4)
			assert_string_equal(now, old);
		bl_free(now);
		assert_int_equal(bl_list_dir(&names, &n, *state, &err), BL_OK);
		for (size_t i = 0; i < n; i++)
			assert_null(strstr(names[i], ".tmp"));
		bl_list_free(names);
	}
	assert_true(failures >= 4); /* open, write, fsync, rename */
	assert_false(bl_plan_dirty(p));
	assert_int_equal(bl_read_file(&now, NULL, path, 1 << 20, true, &err), BL_OK);
	assert_string_equal(now, new);
	bl_free(now);
	bl_free(old);
	bl_free(new);
	bl_plan_free(p);
}

static void put(const char *path, const char *text)
{
	struct bl_err err = BL_ERR_INIT;

	assert_int_equal(bl_write_file(path, text, strlen(text), 0644, &err), BL_OK);
}

static void what_a_file_is(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_plan *p = NULL;
	char *id = NULL;

	put(in(state, "yes"), "\n {\t\"bitlathe_plan\": 1}");
	put(in(state, "no"), "{\"x\": 1, \"bitlathe_plan\": 1}");
	put(in(state, "empty"), "");
	assert_true(bl_plan_is_file(in(state, "yes")));
	assert_false(bl_plan_is_file(in(state, "no")));
	assert_false(bl_plan_is_file(in(state, "empty")));
	assert_false(bl_plan_is_file(in(state, "missing")));
	assert_false(bl_plan_is_file(*state));
	assert_int_equal(bl_plan_load(&p, m, in(state, "missing"), NULL, &err), BL_NOT_FOUND);
	bl_err_clear(&err);
	assert_int_equal(bl_plan_file_model(&id, in(state, "no"), &err), BL_INVALID);
	bl_err_clear(&err);
	/* beside the plan, when it is not in the current folder */
	assert_int_equal(bl_mkdirs(in(state, "models/x"), 0755, &err), BL_OK);
	put(in(state, "rel"), "{\"bitlathe_plan\": 1, \"model\": {\"id\": \"models/x\"}}");
	assert_int_equal(bl_plan_file_model(&id, in(state, "rel"), &err), BL_OK);
	assert_string_equal(id, in(state, "models/x"));
	bl_free(id);
	put(in(state, "hub"), "{\"bitlathe_plan\": 1, \"model\": {\"id\": \"ORG/NAME\"}}");
	assert_int_equal(bl_plan_file_model(&id, in(state, "hub"), &err), BL_OK);
	assert_string_equal(id, "ORG/NAME");
	bl_free(id);
	setenv("XDG_STATE_HOME", *state, 1);
	char *path = bl_plan_autosave_path(m);
	assert_non_null(strstr(path, m->digest));
	assert_true(bl_starts_with(path, *state));
	bl_free(path);
	unsetenv("XDG_STATE_HOME");
}

/* Sizes that cost: many snapshots with parameters that are all different, many edits, a file beyond the limit. */
static void large_files(void **state)
{
	struct bl_plan *p = bl_plan_new(m, TARGET);
	struct bl_err err = BL_ERR_INIT;
	struct bl_str big = {0};
	char *text = printed(p), *again = NULL;
	uint64_t start = processor_ns();

	bl_str_addn(&big, text, strlen(text) - strlen("]\n}\n"));
	for (int i = 0; i < 5000; i++) {
		bl_str_addf(&big, "%s{\"name\": \"s%d\", \"target\": \"t\", \"units\": [", i ? "," : "", i);
		for (int u = 0; u < m->n_units; u++)
			bl_str_addf(&big, "%s{\"name\": \"%s\", \"scheme\": \"W8A8\", \"params\": \"p=%d\"}", u ? "," : "", m->units[u].name, i * 8 + u);
		bl_str_add(&big, "]}");
	}
	bl_str_add(&big, "]\n}\n");
	assert_int_equal(parse(big.s, big.len, &again, NULL, &err), BL_OK);
	assert_true(strlen(again) > big.len / 2);
	assert_true(processor_ns() - start < 60000000000ull);
	bl_free(again);
	bl_free(text);
	bl_str_clear(&big);
	bl_str_add(&big, "{\"bitlathe_plan\": 1, \"model\": {\"id\": \"x\"}, \"target\": \"t\", \"config_edits\": {");
	for (int i = 0; i < 100000; i++)
		bl_str_addf(&big, "%s\"k%d\": \"1\"", i ? "," : "", i);
	bl_str_add(&big, "}, \"units\": []}");
	start = processor_ns();
	assert_int_equal(parse(big.s, big.len, NULL, NULL, &err), BL_INVALID);
	assert_non_null(strstr(err.text, "config_edits"));
	assert_true(processor_ns() - start < 20000000000ull);
	bl_err_clear(&err);
	bl_str_free(&big);
	bl_plan_free(p);
	/* 65 MiB of nothing: refused by its size, before it is read */
	const char *path = in(state, "huge");
	put(path, "{");
	assert_int_equal(truncate(path, 65 << 20), 0);
	p = NULL;
	assert_int_equal(bl_plan_load(&p, m, path, NULL, &err), BL_INVALID);
	assert_null(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_same_again, scratch_make, scratch_drop),
		cmocka_unit_test(odd_results),
		cmocka_unit_test(every_prefix_is_refused),
		cmocka_unit_test(every_flipped_bit),
		cmocka_unit_test(mistakes_are_named),
		cmocka_unit_test(what_is_missing),
		cmocka_unit_test(remarks),
		cmocka_unit_test_setup_teardown(a_disk_that_fails, scratch_make, scratch_drop),
		cmocka_unit_test_setup_teardown(what_a_file_is, scratch_make, scratch_drop),
		cmocka_unit_test_setup_teardown(large_files, scratch_make, scratch_drop),
	};

	return cmocka_run_group_tests(tests, open_model, close_model);
}
