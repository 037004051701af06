/* SPDX-License-Identifier: Apache-2.0
 * Which units a pattern means, in a model of 30 blocks; and that no expression can take long. */
#include "tests/unit/plan/support.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "tests/unit/processor_ns.h"

/* The units meant: blocks from..to, of these kinds (bits in the order qkv, o, gate_up, down); n: how many there are. */
enum { QKV = 1, O = 2, GATE_UP = 4, DOWN = 8, EVERY = 15 };

static const struct { const char *pattern; int n, from, to, kinds; } good[] = {
	{"all", 120, 0, 29, EVERY},
	{"down", 30, 0, 29, DOWN},
	{"gate_up", 30, 0, 29, GATE_UP},
	{"0", 4, 0, 0, EVERY},
	{"11", 4, 11, 11, EVERY},
	{"4-11", 32, 4, 11, EVERY},
	{"4-99", 104, 4, 29, EVERY},
	{"4-11.down", 8, 4, 11, DOWN},
	{"4-11 down", 8, 4, 11, DOWN},
	{"11.o", 1, 11, 11, O},
	{"first", 4, 0, 0, EVERY},
	{"last", 4, 29, 29, EVERY},
	{"last.qkv", 1, 29, 29, QKV},
	{"first.down", 1, 0, 0, DOWN},
	{"model.layers.3.mlp.down_proj", 1, 3, 3, DOWN},
	{"model.layers.3.self_attn.qkv_proj", 1, 3, 3, QKV},
	{"model.layers.3.self_attn.k_proj", 1, 3, 3, QKV}, /* a member means its unit */
	{"model.layers.3.mlp.up_proj", 1, 3, 3, GATE_UP},
	{"re:.*down_proj", 30, 0, 29, DOWN},
	{"re:.*q_proj$", 30, 0, 29, QKV},
	{"re:.*v_proj$", 30, 0, 29, QKV},
	{"re:model\\.layers\\.1\\.", 4, 1, 1, EVERY},
	{"re:model.layers.2\\d\\..*gate_proj", 10, 20, 29, GATE_UP},
	{"re:.*layers[.](0|1)[.].*", 8, 0, 1, EVERY},
	{"re:model", 120, 0, 29, EVERY}, /* tied to the start, not to the end */
	{"re:", 120, 0, 29, EVERY},
	{"re:(?i).*O_PROJ", 30, 0, 29, O},
	{"re:.*\\.(?P<last>o_proj)", 30, 0, 29, O},
};

static void what_is_meant(void **state)
{
	struct bl_model *m = model_make(&exaone_1b);

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		struct bl_err err = BL_ERR_INIT;
		uint8_t sel[120] = {0};
		int n = -1;
		if (bl_pattern_match(m, good[i].pattern, sel, &n, &err))
			fail_msg("%s", err.text);
		if (n != good[i].n)
			fail_msg("%s: %d units, not %d", good[i].pattern, n, good[i].n);
		for (int u = 0; u < 120; u++) {
			int block = m->units[u].block;
			bool want = block >= good[i].from && block <= good[i].to && good[i].kinds >> m->units[u].kind & 1;
			if (sel[u] != want)
				fail_msg("%s: %s is %d", good[i].pattern, m->units[u].name, sel[u]);
		}
	}
	model_drop(m);
}

static const char *const bad[] = {"", "nothing", "30", "11-4", "4-11.", "4-11.nope", "-1", "4-11-13", "99999999999999999999999", "99999999999999999999.down", "firstly",
	"last.", "re:down_proj", "re:(", "re:[", "re:a{99999}", "re:.*\\.k_projx", "re:\\", "All", "model.layers.3", "Linear", "\x1b[31m", "\xff"};

static void what_means_nothing(void **state)
{
	struct bl_model *m = model_make(&exaone_1b);

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct bl_err err = BL_ERR_INIT;
		uint8_t sel[120];
		int n = 7;
		memset(sel, 9, sizeof sel);
		if (bl_pattern_match(m, bad[i], sel, &n, &err) != BL_USAGE)
			fail_msg("\"%s\" was accepted", bad[i]);
		assert_int_equal(n, 7);
		assert_int_equal(sel[0], 9);
		assert_null(strpbrk(err.text, "\x1b\xff"));
		if (*bad[i] >= 'a')
			assert_non_null(strstr(err.text, bad[i]));
	}
	model_drop(m);
}

/* Nested repetition, deep recursion, huge counts: an error or an answer within a second, never a hang. */
static void catastrophes_end(void **state)
{
	/* [!?] and not !, which PCRE2 would look for first and be done */
	static const struct { const char *pattern; bool too_long; } evil[] = {{"re:(.*)*(.*)*(.*)*(.*)*[!?]", true}, {"re:(m|o|d|e|l|.)*(m|o|d|e|l|.)*[!?]", true},
		{"re:((.+)+)+[!?]", true}, {"re:(?=(.*)*[!?])", true}, {"re:(?R)?x|(?R)y", true}, {"re:(?:(?:.{0,30}){0,30}){0,30}[!?]", true},
		{"re:(*LIMIT_MATCH=4000000000)(.*)*(.*)*(.*)*(.*)*[!?]", true}, {"re:(*LIMIT_DEPTH=4000000000)((.+)+)+[!?]", true}, {"re:(.?){200}(.?){200}!", false},
		{"re:.*.*.*[!?]", false}};
	struct bl_model *m = model_make(&exaone_1b);
	uint8_t sel[120];

	(void)state;
	for (size_t i = 0; i < sizeof evil / sizeof evil[0]; i++) {
		struct bl_err err = BL_ERR_INIT;
		uint64_t start = processor_ns();
		if (bl_pattern_match(m, evil[i].pattern, sel, NULL, &err) != BL_USAGE)
			fail_msg("%s was accepted", evil[i].pattern);
		if (evil[i].too_long && !strstr(err.text, "takes too long"))
			fail_msg("%s", err.text);
		if (processor_ns() - start > 10000000000ull)
			fail_msg("%s took %.1f s", evil[i].pattern, (double)(processor_ns() - start) * 1e-9);
	}
	/* just below the limit for each name, for all names of a very deep model */
	struct shape deep = tiny_shape;
	deep.layers = 1000;
	struct bl_model *d = model_make(&deep);
	uint8_t *many = bl_xalloc((size_t)d->n_units, 1);
	struct bl_err err = BL_ERR_INIT;
	uint64_t start = processor_ns();
	bl_pattern_match(d, "re:.*.*.*[!?]", many, NULL, &err);
	assert_int_equal(err.status, BL_USAGE);
	assert_true(processor_ns() - start < 20000000000ull);
	bl_free(many);
	model_drop(d);
	model_drop(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(what_is_meant), cmocka_unit_test(what_means_nothing), cmocka_unit_test(catastrophes_end)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
