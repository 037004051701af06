/* SPDX-License-Identifier: Apache-2.0
 * Keys: their names, the keymap parser on good and hostile text, and the built-in keys as a whole: no conflicts,
 * everything reachable, nothing that destroys on a key hands rest on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "tui/keymap.h"
#include "tui/screen.h"

static enum bl_key_found find(const struct bl_keymap *k, const char *screen, const char *keys,
			      const struct bl_binding **b)
{
	char list[BL_SEQUENCE_MAX][BL_KEY_MAX] = { "" };
	char copy[64];
	int n = 0;

	snprintf(copy, sizeof copy, "%s", keys);
	for (char *save = NULL, *t = strtok_r(copy, " ", &save); t; t = strtok_r(NULL, " ", &save))
		snprintf(list[n++], BL_KEY_MAX, "%s", t);
	return bl_keymap_find(k, screen, (const char(*)[BL_KEY_MAX])list, n, b);
}

static void test_key_names(void **state)
{
	static const struct {
		const char *in, *out;
	} good[] = {
		{ "j", "j" },
		{ "J", "J" },
		{ "<enter>", "<Enter>" },
		{ "<S-TAB>", "<S-Tab>" },
		{ " ", "<Space>" },
		{ "C-d", "C-d" },
		{ "C-D", "C-d" },
		{ "M-x", "M-x" },
		{ "C-<Up>", "C-<Up>" },
		{ "é", "é" },
		{ "<", "<" },
		{ "C-", NULL },
		{ "C-i", NULL },
		{ "C-m", NULL },
		{ "", NULL },
		{ "ab", NULL },
		{ "<Nothing>", NULL },
		{ "\x1b", NULL },
		{ "\xff", NULL },
		{ "\xc2\x9b", NULL },
		{ "C-1", NULL },
		{ "<Up", NULL },
		{ "<F12>", "<F12>" },
		{ "<F13>", NULL },
		{ "M-<Enter>", "M-<Enter>" },
		{ "C-é", NULL },
		{ "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		char key[BL_KEY_MAX] = "";

		assert_int_equal(bl_key_parse(key, good[i].in), good[i].out != NULL);
		if (good[i].out)
			assert_string_equal(key, good[i].out);
	}
}

static void test_parse(void **state)
{
	struct bl_keymap k = { 0 };
	const struct bl_binding *b = NULL;
	struct bl_str w = { 0 };
	static const char text[] = "# comment\n[*]\nj = down\ng g = top\n= = set\n[ = block-prev\n[layers unit]\nj = "
				   "scheme W4A16_g32\nx = none\n[*]\nx = export\n";

	(void)state;
	bl_keymap_parse(&k, text, strlen(text), "test", &w);
	assert_int_equal(w.len, 0);
	assert_int_equal(find(&k, "help", "j", &b), BL_KEY_FOUND);
	assert_int_equal(b->action, BL_ACT_DOWN);
	assert_int_equal(find(&k, "unit", "j", &b), BL_KEY_FOUND); /* the screen's own wins */
	assert_int_equal(b->action, BL_ACT_SCHEME);
	assert_string_equal(b->arg, "W4A16_g32");
	assert_int_equal(find(&k, "help", "g", &b), BL_KEY_PREFIX);
	assert_int_equal(find(&k, "help", "g g", &b), BL_KEY_FOUND);
	assert_int_equal(find(&k, "help", "g x", &b), BL_KEY_NONE);
	assert_int_equal(find(&k, "help", "=", &b), BL_KEY_FOUND);
	assert_int_equal(b->action, BL_ACT_SET);
	assert_int_equal(find(&k, "help", "[", &b), BL_KEY_FOUND);
	assert_int_equal(find(&k, "layers", "x", &b), BL_KEY_NONE); /* taken away there */
	assert_int_equal(find(&k, "help", "x", &b), BL_KEY_FOUND);
	bl_str_free(&w);
	bl_keymap_free(&k);
}

static void test_bad_lines_are_warnings(void **state)
{
	static const char *const bad[] = { "j",
					   "j =",
					   "= down",
					   "j = nothing",
					   "[nowhere]\n",
					   "<Foo> = down",
					   "a b c d e = down",
					   "j = down\x1b[2J x",
					   "[help]]\n",
					   "[]\n",
					   "j k",
					   "C-m = down" };
	struct bl_str w = { 0 };
	static char big[300 * 1024];

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct bl_keymap k = { 0 };

		bl_str_clear(&w);
		bl_keymap_parse(&k, bad[i], strlen(bad[i]), "keys", &w);
		if (strstr(bad[i], "\x1b")) { /* the argument is free text; what is shown of it is not */
			bl_keymap_free(&k);
			continue;
		}
		assert_true(w.len > 0);
		assert_int_equal(k.n, 0);
		bl_keymap_free(&k);
	}
	for (size_t i = 0; i + 12 < sizeof big; i += 12)
		memcpy(big + i, "j k l = top\n", 12);
	bl_str_clear(&w);
	struct bl_keymap k = { 0 };

	bl_keymap_parse(&k, big, sizeof big, "keys", &w); /* too long, ends in zeros */
	assert_true(w.len > 0 && w.len < 10000);
	assert_int_equal(k.n, 1);
	bl_keymap_free(&k);
	bl_str_free(&w);
}

static void test_default_has_no_warnings_and_no_conflicts(void **state)
{
	struct bl_keymap k = { 0 };
	struct bl_str w = { 0 };
	size_t before;

	(void)state;
	bl_keymap_default(&k);
	assert_true(k.n > 60);
	/* a binding that another one of the same screen begins with could never be reached */
	for (size_t i = 0; i < k.n; i++)
		for (size_t j = 0; j < k.n; j++) {
			const struct bl_binding *a = &k.rows[i], *b = &k.rows[j];
			bool same = a->n_keys < b->n_keys && !strcmp(a->context, b->context);

			for (int n = 0; n < a->n_keys && same; n++)
				same = !strcmp(a->keys[n], b->keys[n]);
			if (same)
				fail_msg("%s: a key of %s hides a longer one", a->context,
					 bl_action_row((enum bl_action)a->action)->name);
		}
	/* every binding stands for an action that works there */
	for (size_t i = 0; i < k.n; i++) {
		const char *screens = bl_action_row((enum bl_action)k.rows[i].action)->screens;

		if (strcmp(screens, "*") != 0 &&
		    (!strcmp(k.rows[i].context, "*") || !strstr(screens, k.rows[i].context)))
			fail_msg("%s is bound on %s but works on %s",
				 bl_action_row((enum bl_action)k.rows[i].action)->name, k.rows[i].context, screens);
	}
	/* no line of the text binds a key twice on a screen: a second parse replaces, so it adds nothing */
	before = k.n;
	bl_keymap_default(&k);
	assert_int_equal(k.n, before);
	bl_str_free(&w);
	bl_keymap_free(&k);
}

static void test_actions_are_complete(void **state)
{
	static const char *const groups[] = { "Move", "Choose", "Plan", "Work", "Look", "Program" };

	(void)state;
	for (int a = 0; a < BL_ACTION_COUNT; a++) {
		const struct bl_action_row *r = bl_action_row((enum bl_action)a);
		bool known = false;
		char screens[128];

		assert_true(r->name && r->name[0] && strlen(r->sentence) >= 5);
		assert_int_equal(r->sentence[strlen(r->sentence) - 1], '.');
		assert_int_equal(bl_action_find(r->name), a); /* names are unique, so `:` reaches every action */
		for (size_t g = 0; g < sizeof groups / sizeof groups[0]; g++)
			known |= !strcmp(groups[g], r->group);
		assert_true(known);
		snprintf(screens, sizeof screens, "%s", r->screens);
		for (char *save = NULL, *s = strtok_r(screens, " ", &save); s; s = strtok_r(NULL, " ", &save)) {
			bool found = !strcmp(s, "*");

			for (int i = 0; bl_screens[i]; i++)
				found |= !strcmp(bl_screens[i]->name, s);
			assert_true(found);
		}
	}
}

/* What people press without thinking must be safe everywhere, and vi hands must find their keys. */
static void test_resting_keys(void **state)
{
	static const struct {
		const char *keys;
		enum bl_action a;
	} everywhere[] = {
		{ "j", BL_ACT_DOWN },        { "k", BL_ACT_UP },        { "<Down>", BL_ACT_DOWN },
		{ "<Up>", BL_ACT_UP },       { "g g", BL_ACT_TOP },     { "G", BL_ACT_BOTTOM },
		{ "C-d", BL_ACT_HALF_DOWN }, { "C-u", BL_ACT_HALF_UP }, { "C-f", BL_ACT_PAGE_DOWN },
		{ "C-b", BL_ACT_PAGE_UP },   { "/", BL_ACT_SEARCH },    { "?", BL_ACT_HELP },
		{ "<F1>", BL_ACT_HELP },     { ":", BL_ACT_COMMAND },   { "<Esc>", BL_ACT_BACK },
		{ "<Enter>", BL_ACT_OPEN },  { "u", BL_ACT_UNDO },      { "C-r", BL_ACT_REDO },
		{ "C-l", BL_ACT_REDRAW },    { "C-z", BL_ACT_SUSPEND }, { "Q", BL_ACT_QUIT },
		{ "C-c", BL_ACT_CANCEL },
	};
	static const enum bl_action harmful[] = { BL_ACT_QUIT_NOW, BL_ACT_SNAPSHOT_DROP, BL_ACT_ALLOW_NONFINITE };
	struct bl_keymap k = { 0 };

	(void)state;
	bl_keymap_default(&k);
	for (int s = 0; bl_screens[s]; s++) {
		const struct bl_binding *b = NULL;

		for (size_t i = 0; i < sizeof everywhere / sizeof everywhere[0]; i++) {
			if (find(&k, bl_screens[s]->name, everywhere[i].keys, &b) != BL_KEY_FOUND ||
			    b->action != (int)everywhere[i].a)
				fail_msg("%s: %s is not %s", bl_screens[s]->name, everywhere[i].keys,
					 bl_action_row(everywhere[i].a)->name);
		}
		/* h, l and the arrows move or lock: nothing that cannot be undone with one key */
		for (const char *const *key =
			     (const char *const[]){ "h", "l", "<Left>", "<Right>", "<Space>", "<Tab>", NULL };
		     *key; key++)
			if (find(&k, bl_screens[s]->name, *key, &b) == BL_KEY_FOUND)
				for (size_t i = 0; i < sizeof harmful / sizeof harmful[0]; i++)
					assert_int_not_equal(b->action, harmful[i]);
	}
	bl_keymap_free(&k);
}

static void check_footer_name(const struct bl_keymap *k, const char *screen, const char *name)
{
	int a = bl_action_find(name), keys = 0;

	if (a < 0)
		fail_msg("%s: the last line names \"%s\"", screen, name);
	for (size_t i = 0; i < k->n; i++)
		keys += k->rows[i].action == a && (!strcmp(k->rows[i].context, "*") || !strcmp(k->rows[i].context, screen));
	if (!keys)
		fail_msg("%s: \"%s\" in the last line has no key there", screen, name);
}

/* Footers name actions that exist, work there and have a key there. */
static void test_footers(void **state)
{
	struct bl_keymap k = { 0 };

	(void)state;
	bl_keymap_default(&k);
	for (int s = 0; bl_screens[s]; s++) {
		char names[256];

		assert_true(bl_screens[s]->title && bl_screens[s]->footer &&
			    strlen(bl_screens[s]->footer) < sizeof names);
		snprintf(names, sizeof names, "%s", bl_screens[s]->footer);
		for (char *save = NULL, *n = strtok_r(names, " ", &save); n; n = strtok_r(NULL, " ", &save)) {
			if (strchr(n, '=')) { /* what it is called here comes after it */
				assert_true(strchr(n, '=')[1] != '\0');
				*strchr(n, '=') = '\0';
			}
			for (char *more = NULL, *one = strtok_r(n, "+", &more); one; one = strtok_r(NULL, "+", &more))
				check_footer_name(&k, bl_screens[s]->name, one);
		}
	}
	bl_keymap_free(&k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_key_names),
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_bad_lines_are_warnings),
		cmocka_unit_test(test_default_has_no_warnings_and_no_conflicts),
		cmocka_unit_test(test_actions_are_complete),
		cmocka_unit_test(test_resting_keys),
		cmocka_unit_test(test_footers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
