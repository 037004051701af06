/* SPDX-License-Identifier: Apache-2.0
 * The document: edits, locks, steps, snapshots. The heart is a random walk of edits, undos and redos that is compared with
 * a plain list of printed documents after every step. */
#include "tests/unit/plan/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include "core/plan/plan_file.h"
#include "core/plan/state.h"

#define TARGET "l4-vllm-0.14.1"

static struct bl_scheme scheme(const char *name)
{
	struct bl_scheme s = {0};
	struct bl_err err = BL_ERR_INIT;

	assert_int_equal(bl_scheme_parse(&s, name, &err), BL_OK);
	return s;
}

static char *printed(const struct bl_plan *p)
{
	struct bl_str b = {0};

	bl_plan_print(&b, p);
	return bl_str_take(&b);
}

static void new_plan(void **state)
{
	struct bl_model *m = model_make(&exaone_1b);
	struct bl_plan *p = bl_plan_new(m, TARGET);
	char name[BL_SCHEME_NAME_MAX];

	(void)state;
	assert_int_equal(bl_plan_n_units(p), 120);
	assert_string_equal(bl_plan_target(p), TARGET);
	assert_string_equal(bl_plan_format(p), "compressed-tensors");
	assert_string_equal(bl_plan_summary(name, p), "BF16");
	assert_false(bl_plan_dirty(p));
	assert_null(bl_plan_undo_label(p));
	assert_null(bl_plan_redo_label(p));
	assert_false(bl_plan_undo(p));
	assert_false(bl_plan_redo(p));
	for (int i = 0; i < 120; i++) {
		assert_string_equal(scheme_of(p, i), "BF16");
		assert_string_equal(bl_plan_choice(p, i)->method, "");
	}
	bl_plan_free(p);
	model_drop(m);
}

static void an_edit_is_one_step(void **state)
{
	struct bl_model *m = model_make(&tiny_shape);
	struct bl_plan *p = bl_plan_new(m, TARGET);
	struct bl_scheme w8 = scheme("W8A8"), w4 = scheme("W4A16"), full = BL_SCHEME_FULL;
	char name[BL_SCHEME_NAME_MAX];

	(void)state;
	bl_plan_begin(p, "outer");
	bl_plan_begin(p, "inner");
	assert_true(bl_plan_set_scheme(p, 0, &w8));
	assert_true(bl_plan_end(p));
	assert_true(bl_plan_set_scheme(p, 3, &w4));
	assert_true(bl_plan_set_method(p, 3, "gptq", "block_size=64"));
	assert_false(bl_plan_undo(p)); /* not in the middle of a step */
	assert_true(bl_plan_end(p));
	assert_string_equal(bl_plan_undo_label(p), "outer");
	assert_string_equal(bl_plan_choice(p, 0)->method, "rtn");
	assert_string_equal(bl_plan_choice(p, 3)->method, "gptq");
	assert_string_equal(bl_plan_choice(p, 3)->params, "block_size=64");
	assert_string_equal(bl_plan_summary(name, p), "mixed");
	assert_true(bl_plan_dirty(p));
	assert_true(bl_plan_undo(p));
	assert_string_equal(bl_plan_redo_label(p), "outer");
	assert_false(bl_plan_dirty(p));
	assert_string_equal(scheme_of(p, 0), "BF16");
	assert_true(bl_plan_redo(p));
	assert_string_equal(scheme_of(p, 3), "W4A16");
	/* nothing changes: no step, and the way forward stays open */
	uint64_t revision = bl_plan_revision(p);
	bl_plan_undo(p);
	bl_plan_begin(p, "nothing");
	bl_plan_set_scheme(p, 0, &w8);
	bl_plan_set_scheme(p, 0, &full);
	assert_false(bl_plan_end(p));
	assert_string_equal(bl_plan_redo_label(p), "outer");
	assert_true(bl_plan_revision(p) > revision);
	/* an edit closes it */
	bl_plan_set_scheme(p, 1, &w8);
	assert_null(bl_plan_redo_label(p));
	/* full precision takes method and parameters away, and takes none */
	bl_plan_set_method(p, 1, "gptq", "a=1");
	bl_plan_set_scheme(p, 1, &full);
	assert_string_equal(bl_plan_choice(p, 1)->method, "");
	assert_string_equal(bl_plan_choice(p, 1)->params, "");
	assert_true(bl_plan_set_method(p, 1, "gptq", "a=1"));
	assert_string_equal(bl_plan_choice(p, 1)->method, "");
	bl_plan_free(p);
	model_drop(m);
}

/* Whoever tries pruning and then another scheme does not want that one pruned, too. */
static void the_method_of_pruning_goes_with_it(void **state)
{
	struct bl_model *m = model_make(&tiny_shape);
	struct bl_plan *p = bl_plan_new(m, TARGET);
	struct bl_scheme pruned = scheme("BF16_SPARSE"), w8 = scheme("W8A8"), w4 = scheme("W4A16");

	(void)state;
	bl_plan_set_scheme(p, 0, &w4);
	bl_plan_set_scheme(p, 0, &pruned);
	assert_string_equal(bl_plan_choice(p, 0)->method, "sparsegpt");
	assert_true(bl_plan_keeps_method(bl_plan_choice(p, 0), &pruned));
	assert_false(bl_plan_keeps_method(bl_plan_choice(p, 0), &w8));
	bl_plan_set_scheme(p, 0, &w8);
	assert_string_equal(bl_plan_choice(p, 0)->method, "rtn");
	/* what was chosen stays: pruned and rounded */
	bl_plan_set_scheme(p, 0, &pruned);
	bl_plan_set_method(p, 0, "sparsegpt", "mask_structure=2:4");
	bl_plan_set_scheme(p, 0, &w4);
	assert_string_equal(bl_plan_choice(p, 0)->method, "sparsegpt");
	bl_plan_set_method(p, 0, "sparsegpt", "");
	bl_plan_set_scheme(p, 0, &w8);
	assert_string_equal(bl_plan_choice(p, 0)->method, "sparsegpt");
	bl_plan_free(p);
	model_drop(m);
}

static void locks(void **state)
{
	struct bl_model *m = model_make(&tiny_shape);
	struct bl_plan *p = bl_plan_new(m, TARGET);
	struct bl_scheme w8 = scheme("W8A8");
	struct bl_err err = BL_ERR_INIT;
	int changed = -1, locked = -1;
	char before[65], after[65];

	(void)state;
	bl_plan_digest(p, before);
	bl_plan_set_lock(p, 2, true);
	bl_plan_digest(p, after);
	assert_string_equal(before, after); /* a lock says nothing about the result */
	assert_true(bl_plan_dirty(p));
	assert_false(bl_plan_set_scheme(p, 2, &w8));
	assert_false(bl_plan_set_method(p, 2, "rtn", "observer=mse"));
	assert_string_equal(scheme_of(p, 2), "BF16");
	assert_int_equal(bl_plan_set_text(p, m, "all=W8A8", &changed, &locked, &err), BL_OK);
	assert_int_equal(changed, m->n_units - 1);
	assert_int_equal(locked, 1);
	assert_string_equal(scheme_of(p, 2), "BF16");
	assert_int_equal(bl_plan_preset(p, m, "W4A16", &err), BL_OK);
	assert_string_equal(scheme_of(p, 2), "BF16");
	assert_string_equal(scheme_of(p, 3), "W4A16");
	/* a snapshot is a whole: restoring it goes past locks and brings its own */
	assert_int_equal(bl_plan_snapshot_save(p, "locked", NULL, &err), BL_OK);
	bl_plan_set_lock(p, 2, false);
	assert_true(bl_plan_set_scheme(p, 2, &w8));
	bl_plan_set_lock(p, 3, true);
	assert_int_equal(bl_plan_snapshot_restore(p, 0, &err), BL_OK);
	assert_string_equal(scheme_of(p, 2), "BF16");
	assert_true(bl_plan_choice(p, 2)->locked);
	assert_false(bl_plan_choice(p, 3)->locked);
	bl_plan_free(p);
	model_drop(m);
}

/* ---- the random walk ---- */

static const char *const schemes[] = {"BF16", "W8A8", "W4A16", "W4A16_ASYM_g64", "W8A16", "FP8_DYNAMIC", "W3A16"};
static const char *const params[] = {"", "observer=mse", "grid=50", "observer=mse,grid=20"};
static const char *const keys[] = {"max_position_embeddings", "rope_theta", "note", "use_cache"};

static void random_edit(struct bl_plan *p, struct bl_rng *r)
{
	struct bl_err err = BL_ERR_INIT;
	int unit = (int)(bl_rng_u64(r) % (uint64_t)bl_plan_n_units(p)), n = bl_plan_n_snapshots(p);
	struct bl_scheme s = scheme(schemes[bl_rng_u64(r) % 7]);
	char name[32];

	snprintf(name, sizeof name, "s%d", (int)(bl_rng_u64(r) % 12));
	switch (bl_rng_u64(r) % 12) {
	case 0: case 1: case 2: bl_plan_set_scheme(p, unit, &s); break;
	case 3: bl_plan_set_method(p, unit, bl_rng_u64(r) % 2 ? "rtn" : "gptq", params[bl_rng_u64(r) % 4]); break;
	case 4: bl_plan_set_lock(p, unit, bl_rng_u64(r) % 2); break;
	case 5: bl_plan_set_target(p, bl_rng_u64(r) % 2 ? TARGET : "a100-vllm-0.14.1"); break;
	case 6: bl_plan_set_zero_nonfinite(p, bl_rng_u64(r) % 2); break;
	case 7: bl_plan_set_edit(p, keys[bl_rng_u64(r) % 4], bl_rng_u64(r) % 3 ? bl_rng_u64(r) % 2 ? "17" : "" : NULL, &err); break;
	case 8: bl_plan_snapshot_save(p, name, "a note", &err); break;
	case 9: if (n) bl_plan_snapshot_drop(p, (int)(bl_rng_u64(r) % (uint64_t)n)); break;
	case 10: if (n) bl_plan_snapshot_rename(p, (int)(bl_rng_u64(r) % (uint64_t)n), name, &err); break;
	default: if (n) bl_plan_snapshot_restore(p, (int)(bl_rng_u64(r) % (uint64_t)n), &err); break;
	}
}

/* A list of documents with a position in it is all that undo and redo mean. */
struct reference { char **doc; size_t n, at, cap; };

static void went(struct reference *f, struct bl_plan *p)
{
	char *now = printed(p);

	if (!strcmp(now, f->doc[f->at])) { /* no change, no step */
		bl_free(now);
		return;
	}
	while (f->n > f->at + 1)
		bl_free(f->doc[--f->n]);
	bl_xgrow(&f->doc, &f->cap, f->n + 1);
	f->doc[f->n++] = now;
	f->at++;
}

static void undo_is_a_list_of_states(void **state)
{
	struct bl_model *m = model_make(&tiny_shape);

	(void)state;
	setenv("BL_TEST_CLOCK", "1700000000", 1);
	for (uint64_t seed = 1; seed <= 8; seed++) {
		struct bl_plan *p = bl_plan_new(m, TARGET);
		struct reference f = {0};
		struct bl_rng r;

		bl_rng_seed(&r, seed);
		bl_xgrow(&f.doc, &f.cap, 1);
		f.doc[f.n++] = printed(p);
		for (int step = 0; step < 500; step++) {
			uint64_t what = bl_rng_u64(&r) % 10, revision = bl_plan_revision(p);
			if (what < 2) {
				bool could = f.at > 0;
				assert_int_equal(bl_plan_undo_label(p) != NULL, could);
				assert_int_equal(bl_plan_undo(p), could);
				f.at -= could;
			} else if (what < 4) {
				bool could = f.at + 1 < f.n;
				assert_int_equal(bl_plan_redo(p), could);
				f.at += could;
			} else {
				bl_plan_begin(p, "edit");
				for (uint64_t k = bl_rng_u64(&r) % 4; k + 1 > 0; k--) /* 1 to 4 edits in a step */
					random_edit(p, &r);
				bl_plan_end(p);
				went(&f, p);
			}
			char *now = printed(p);
			assert_string_equal(now, f.doc[f.at]);
			assert_int_equal(bl_plan_dirty(p), strcmp(now, f.doc[0]) != 0);
			assert_true(bl_plan_revision(p) >= revision);
			bl_free(now);
		}
		while (bl_plan_undo(p))
			f.at--;
		assert_int_equal(f.at, 0);
		char *start = printed(p);
		assert_string_equal(start, f.doc[0]);
		bl_free(start);
		while (bl_plan_redo(p))
			f.at++;
		assert_int_equal(f.at, f.n - 1);
		char *end = printed(p);
		assert_string_equal(end, f.doc[f.n - 1]);
		bl_free(end);
		for (size_t i = 0; i < f.n; i++)
			bl_free(f.doc[i]);
		bl_free(f.doc);
		bl_plan_free(p);
	}
	unsetenv("BL_TEST_CLOCK");
	model_drop(m);
}

/* 20,000 steps on 256 units: a step is what it changed, not a copy of the plan. */
static void undo_stays_small(void **state)
{
	struct shape s = tiny_shape;
	s.layers = 64;
	struct bl_model *m = model_make(&s);
	struct bl_plan *p = bl_plan_new(m, TARGET);
	struct bl_scheme a = scheme("W8A8"), b = scheme("W4A16");
	size_t bytes = 0;

	(void)state;
	for (int i = 0; i < 20000; i++)
		bl_plan_set_scheme(p, i % 256, (i / 256) % 2 ? &a : &b);
	assert_int_equal(p->n_undo, 20000);
	for (size_t i = 0; i < p->n_undo; i++) {
		bytes += sizeof p->undo[i] + (size_t)(p->undo[i].n + 1) * sizeof *p->undo[i].changes + strlen(p->undo[i].label) + 1;
		assert_null(p->undo[i].rest);
	}
	assert_true(bytes < 20000 * 256);
	assert_int_equal(p->interned.n, 1);
	bl_plan_free(p);
	model_drop(m);
}

/* ---- the rest ---- */

static void copies_are_apart(void **state)
{
	struct bl_model *m = model_make(&tiny_shape);
	struct bl_plan *p = bl_plan_new(m, TARGET);
	struct bl_err err = BL_ERR_INIT;
	char a[65], b[65];

	(void)state;
	assert_int_equal(bl_plan_set_text(p, m, "down=W4A16:rtn,observer=mse", NULL, NULL, &err), BL_OK);
	assert_int_equal(bl_plan_snapshot_save(p, "one", "first", &err), BL_OK);
	struct bl_plan *c = bl_plan_copy(p);
	char *now = printed(p), *copy = printed(c);
	assert_string_equal(now, copy);
	assert_null(bl_plan_undo_label(c));
	bl_plan_digest(p, a);
	bl_plan_digest(c, b);
	assert_string_equal(a, b);
	assert_int_equal(bl_plan_revision(p), bl_plan_revision(c));
	bl_plan_free(p);
	char *later = printed(c); /* the copy owns all it holds */
	assert_string_equal(copy, later);
	bl_free(now);
	bl_free(copy);
	bl_free(later);
	bl_plan_free(c);
	model_drop(m);
}

static void digest_sees_what_counts(void **state)
{
	static const char *const edits[] = {"0=W8A8", "0=W8A8:rtn,observer=mse", "0=W8A8:gptq", "0=W4A16", "1=W4A16"};
	struct bl_model *m = model_make(&tiny_shape);
	struct bl_plan *p = bl_plan_new(m, TARGET);
	struct bl_err err = BL_ERR_INIT;
	char seen[16][65];
	int n = 0;

	(void)state;
	bl_plan_digest(p, seen[n++]);
	for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
		assert_int_equal(bl_plan_set_text(p, m, edits[i], NULL, NULL, &err), BL_OK);
		bl_plan_digest(p, seen[n++]);
	}
	bl_plan_set_edit(p, "x", "1", &err);
	bl_plan_digest(p, seen[n++]);
	bl_plan_set_target(p, "a10-vllm-0.14.1");
	bl_plan_digest(p, seen[n++]);
	bl_plan_set_format(p, "bf16");
	bl_plan_digest(p, seen[n++]);
	bl_plan_set_zero_nonfinite(p, true);
	bl_plan_digest(p, seen[n++]);
	bl_plan_set_stages(p, "smooth");
	bl_plan_digest(p, seen[n++]);
	bl_plan_set_stages(p, "smooth;permute");
	bl_plan_digest(p, seen[n++]);
	for (int i = 0; i < n; i++)
		for (int k = 0; k < i; k++)
			assert_string_not_equal(seen[i], seen[k]);
	bl_plan_snapshot_save(p, "s", NULL, &err);
	bl_plan_digest(p, seen[n]);
	assert_string_equal(seen[n], seen[n - 1]);
	bl_plan_free(p);
	model_drop(m);
}

static void snapshots(void **state)
{
	struct bl_model *m = model_make(&tiny_shape);
	struct bl_plan *p = bl_plan_new(m, TARGET);
	struct bl_scheme w8 = scheme("W8A8");
	struct bl_err err = BL_ERR_INIT;
	static const char *const bad[] = {"", "a\nb", "\x1b[31m", "\xff", "12345678901234567890123456789012345678901234567890123456789012345"};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		assert_int_equal(bl_plan_snapshot_save(p, bad[i], NULL, &err), BL_USAGE);
		bl_err_clear(&err);
	}
	assert_int_equal(bl_plan_snapshot_save(p, "n", "two\nlines", &err), BL_USAGE);
	bl_err_clear(&err);
	assert_int_equal(bl_plan_snapshot_save(p, "first", "a note", &err), BL_OK);
	bl_plan_set_scheme(p, 0, &w8);
	assert_int_equal(bl_plan_snapshot_save(p, "second", NULL, &err), BL_OK);
	assert_int_equal(bl_plan_snapshot_save(p, "first", NULL, &err), BL_USAGE);
	assert_non_null(strstr(err.text, "first"));
	bl_err_clear(&err);
	assert_int_equal(bl_plan_n_snapshots(p), 2);
	assert_string_equal(bl_plan_snapshot(p, 0)->name, "second"); /* newest first */
	assert_string_equal(bl_plan_snapshot(p, 1)->note, "a note");
	assert_int_equal(bl_plan_find_snapshot(p, "first"), 1);
	assert_int_equal(bl_plan_find_snapshot(p, "third"), -1);
	assert_int_equal(bl_snapshot_choice(bl_plan_snapshot(p, 1), 0)->scheme.number, BL_NUM_FULL);
	assert_int_equal(bl_plan_snapshot_rename(p, 1, "second", &err), BL_USAGE);
	bl_err_clear(&err);
	assert_int_equal(bl_plan_snapshot_rename(p, 1, "oldest", &err), BL_OK);
	bl_plan_snapshot_drop(p, 0);
	assert_int_equal(bl_plan_n_snapshots(p), 1);
	assert_int_equal(bl_plan_snapshot_restore(p, 0, &err), BL_OK);
	assert_string_equal(scheme_of(p, 0), "BF16");
	assert_int_equal(bl_plan_n_snapshots(p), 1);
	bl_plan_undo(p);
	bl_plan_undo(p);
	assert_int_equal(bl_plan_n_snapshots(p), 2);
	assert_string_equal(scheme_of(p, 0), "W8A8");
	bl_plan_undo(p);
	assert_string_equal(bl_plan_snapshot(p, 1)->name, "first");
	/* born and gone within one step (leaks would show) */
	bl_plan_begin(p, "short life");
	bl_plan_snapshot_save(p, "x", NULL, &err);
	bl_plan_snapshot_rename(p, 0, "y", &err);
	bl_plan_snapshot_drop(p, 0);
	assert_false(bl_plan_end(p));
	bl_plan_free(p);
	model_drop(m);
}

static void config_edits(void **state)
{
	static const struct { const char *key, *value; bool ok; } rows[] = {
		{"max_position_embeddings", "16384", true}, {"rope_scaling", "{\"type\": \"linear\", \"factor\" : 2.0}", true}, {"x", "null", true}, {"x", "", true},
		{"s", "\"a \\\" b\"", true}, {"l", "[1,\n2]", true}, {"hidden_size", "1", false}, {"quantization_config", "{}", false}, {"model_type", "\"x\"", false},
		{"architectures", "[]", false}, {"", "1", false}, {"a b", "1", false}, {"a\x1b", "1", false}, {"\xc3", "1", false}, {"x", "{", false}, {"x", "1,2", false},
		{"x", "1,\"y\":2", false}, {"x", "1} {", false}, {"x", "nan", false}, {"x", "'a'", false}, {"x", "01", false}, {"x", "\"\\u00", false}, {"x", "1}//", false},
	};
	struct bl_model *m = model_make(&tiny_shape);
	struct bl_plan *p = bl_plan_new(m, TARGET);
	struct bl_err err = BL_ERR_INIT;
	char key[16];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		enum bl_status s = bl_plan_set_edit(p, rows[i].key, rows[i].value, &err);
		if (s != (rows[i].ok ? BL_OK : BL_USAGE))
			fail_msg("%s = %s: %s", rows[i].key, rows[i].value, err.text);
		bl_err_clear(&err);
	}
	/* sorted, one line each, blanks only within strings */
	assert_int_equal(bl_plan_n_edits(p), 5);
	assert_string_equal(bl_plan_edit(p, 0)->key, "l");
	assert_string_equal(bl_plan_edit(p, 0)->value, "[1,2]");
	assert_string_equal(bl_plan_edit(p, 2)->value, "{\"type\":\"linear\",\"factor\":2.0}");
	assert_string_equal(bl_plan_edit(p, 3)->value, "\"a \\\" b\"");
	assert_string_equal(bl_plan_edit(p, 4)->value, "");
	assert_int_equal(bl_plan_set_edit(p, "l", NULL, &err), BL_OK);
	assert_int_equal(bl_plan_n_edits(p), 4);
	bl_plan_undo(p);
	assert_int_equal(bl_plan_n_edits(p), 5);
	for (int i = 0; i < BL_EDITS_MAX; i++) {
		snprintf(key, sizeof key, "k%d", i);
		bl_plan_set_edit(p, key, "1", &err);
	}
	assert_int_equal(err.status, BL_USAGE);
	assert_int_equal(bl_plan_n_edits(p), BL_EDITS_MAX);
	bl_plan_free(p);
	model_drop(m);
}

static void set_text(void **state)
{
	static const struct { const char *text; enum bl_status status; int changed; const char *scheme, *method, *params; } rows[] = {
		{"all=W8A8", BL_OK, 8, "W8A8", "rtn", ""},
		{"0=W4A16:gptq,block_size=64,damp=0.01", BL_OK, 4, "W4A16", "gptq", "block_size=64,damp=0.01"},
		{"0=BF16:rtn", BL_OK, 4, "BF16", "", ""},
		{"0=w4a16_asym_g64:rtn", BL_OK, 4, "W4A16_ASYM_g64", "rtn", ""},
		{"re:(?=model).*0=W8A16", BL_OK, 4, "W8A16", "rtn", ""},
		{"all", BL_USAGE, 0, NULL, NULL, NULL},
		{"=W8A8", BL_USAGE, 0, NULL, NULL, NULL},
		{"all=W9A9", BL_USAGE, 0, NULL, NULL, NULL},
		{"all=W8A8:", BL_USAGE, 0, NULL, NULL, NULL},
		{"all=W8A8:,x=1", BL_USAGE, 0, NULL, NULL, NULL},
		{"all=W8A8:a-name-that-is-longer-than-any-method", BL_USAGE, 0, NULL, NULL, NULL},
		{"all=W8A8:rtn,x=\x1b[1m", BL_USAGE, 0, NULL, NULL, NULL},
		{"all=W8A8:rtn,x=\xff", BL_USAGE, 0, NULL, NULL, NULL},
		{"nothing=W8A8", BL_USAGE, 0, NULL, NULL, NULL},
	};
	struct bl_model *m = model_make(&tiny_shape);
	struct bl_plan *p = bl_plan_new(m, TARGET);

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct bl_err err = BL_ERR_INIT;
		int changed = -1;
		char *before = printed(p);
		enum bl_status s = bl_plan_set_text(p, m, rows[i].text, &changed, NULL, &err);
		if (s != rows[i].status)
			fail_msg("%s: %s", rows[i].text, err.text);
		if (s) {
			char *after = printed(p);
			assert_string_equal(before, after);
			bl_free(after);
			assert_int_equal(changed, -1);
		} else {
			assert_int_equal(changed, rows[i].changed);
			assert_string_equal(scheme_of(p, 0), rows[i].scheme);
			assert_string_equal(bl_plan_choice(p, 0)->method, rows[i].method);
			assert_string_equal(bl_plan_choice(p, 0)->params, rows[i].params);
			assert_string_equal(bl_plan_undo_label(p), rows[i].text);
		}
		bl_free(before);
	}
	bl_plan_free(p);
	model_drop(m);
}

static void stages(void **state)
{
	struct bl_model *m = model_make(&tiny_shape);
	struct bl_plan *p = bl_plan_new(m, TARGET), *copy;
	struct bl_err err = BL_ERR_INIT;

	(void)state;
	assert_string_equal(bl_plan_stages(p), "");
	bl_plan_set_lock(p, 1, true);
	bl_plan_snapshot_save(p, "before", NULL, &err);
	bl_plan_set_stages(p, "smooth:alpha=0.7");
	assert_string_equal(bl_plan_undo_label(p), "stages smooth:alpha=0.7");
	assert_true(bl_plan_dirty(p));
	for (int i = 0; i < m->n_units; i++) /* a lock keeps a choice, not the weights */
		assert_string_equal(bl_choice_stages(bl_plan_choice(p, i)), "smooth:alpha=0.7");
	bl_plan_set_text(p, m, "all=W8A8", NULL, NULL, &err);
	bl_plan_set_stages(p, "permute");
	copy = bl_plan_copy(p);
	bl_plan_undo(p);
	assert_string_equal(bl_plan_stages(p), "smooth:alpha=0.7");
	assert_string_equal(bl_plan_stages(copy), "permute");
	bl_plan_undo(p);
	assert_string_equal(bl_plan_stages(p), "smooth:alpha=0.7");
	bl_plan_undo(p);
	assert_string_equal(bl_plan_stages(p), "");
	bl_plan_redo(p);
	assert_string_equal(bl_plan_stages(p), "smooth:alpha=0.7");
	uint64_t revision = bl_plan_revision(p);
	bl_plan_set_stages(p, "smooth:alpha=0.7");
	assert_true(bl_plan_revision(p) == revision); /* nothing changed: no step */
	assert_int_equal(bl_plan_snapshot_restore(p, 0, &err), BL_OK);
	assert_string_equal(bl_plan_stages(p), "");
	bl_plan_undo(p);
	assert_string_equal(bl_plan_stages(p), "smooth:alpha=0.7");
	bl_plan_free(copy);
	bl_plan_free(p);
	model_drop(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(new_plan),         cmocka_unit_test(an_edit_is_one_step), cmocka_unit_test(locks), cmocka_unit_test(the_method_of_pruning_goes_with_it),
		cmocka_unit_test(undo_is_a_list_of_states), cmocka_unit_test(undo_stays_small), cmocka_unit_test(copies_are_apart),
		cmocka_unit_test(digest_sees_what_counts), cmocka_unit_test(snapshots),    cmocka_unit_test(config_edits),
		cmocka_unit_test(set_text),         cmocka_unit_test(stages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
