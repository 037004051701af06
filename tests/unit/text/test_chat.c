/* SPDX-License-Identifier: Apache-2.0
 * Templates as Jinja2 renders them (chat_cases.json, made by tests/tools/chat_cases.py), what is refused and how, and templates that want too much. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/text/chat.h"
#include "tests/unit/text/support.h"

static enum bl_status render(const char *template, const struct bl_message *m, size_t n, bool generation, struct bl_str *out, struct bl_err *err)
{
	struct bl_chat *c;

	if (bl_chat_parse(&c, template, strlen(template), "t.jinja", err))
		return err->status;
	bl_chat_special(c, "bos_token", "<s>");
	bl_chat_special(c, "eos_token", "</s>");
	bl_chat_render(c, m, n, generation, out, err);
	bl_chat_free(c);
	return err->status;
}

static void as_jinja(void **state)
{
	cJSON *all = load_json(BL_SOURCE_DIR "/tests/unit/text/chat_cases.json");
	const cJSON *c, *m;
	int checked = 0;

	(void)state;
	cJSON_ArrayForEach(c, cJSON_GetObjectItem(all, "cases")) {
		struct bl_message messages[16];
		struct bl_err err = BL_ERR_INIT;
		struct bl_str out = {0};
		const cJSON *want = cJSON_GetObjectItem(c, "text");
		const char *template = cJSON_GetObjectItem(c, "template")->valuestring;
		size_t n = 0;
		cJSON_ArrayForEach(m, cJSON_GetObjectItem(c, "messages"))
			messages[n++] = (struct bl_message){cJSON_GetObjectItem(m, "role")->valuestring, cJSON_GetObjectItem(m, "content")->valuestring};
		bl_str_add(&out, "before ");
		enum bl_status s = render(template, messages, n, cJSON_IsTrue(cJSON_GetObjectItem(c, "generation")), &out, &err);
		if (cJSON_IsNull(want) ? s == BL_OK || strcmp(out.s, "before ") : s != BL_OK || strcmp(out.s + 7, want->valuestring))
			fail_msg("%s\ngave \"%s\" %s\nnot  \"%s\"", template, out.s, err.text, cJSON_IsNull(want) ? "an error" : want->valuestring);
		bl_str_free(&out);
		checked++;
	}
	assert_true(checked >= 70);
	cJSON_Delete(all);
}

static void refusals(void **state)
{
	static const struct { const char *template, *says; enum bl_status status; } rows[] = {
		{"a\n{{ 1 | xmlattr }}", "t.jinja: line 2: the filter \"xmlattr\" is not supported; give rows of \"text\"", BL_UNSUPPORTED},
		{"{% include 'x' %}", "the tag \"include\"", BL_UNSUPPORTED}, {"{% call x() %}", "the tag \"call\"", BL_UNSUPPORTED},
		{"{{ 1 is escaped }}", "the test \"escaped\"", BL_UNSUPPORTED}, {"{{ 'a'.format(1) }}", "the method format", BL_UNSUPPORTED},
		{"{{ strftime_now('%d') }}", "write a fixed date", BL_UNSUPPORTED}, {"{{ lipsum() }}", "the function \"lipsum\"", BL_UNSUPPORTED},
		{"{{ [1, 2] }}", "showing a list", BL_UNSUPPORTED}, {"{{ 2 ** 3 }}", "**", BL_UNSUPPORTED}, {"{{ 'É'.lower() }}", "beyond ASCII", BL_UNSUPPORTED},
		{"\n\n{{ raise_exception('no tools') }}", "line 3: the template refuses this conversation: no tools", BL_INVALID},
		{"{% for x in y recursive %}{% endfor %}", "a recursive loop", BL_UNSUPPORTED}, {"{% set x = 1", "not closed", BL_INVALID}, {"{{ a.b.c }}", "of something undefined", BL_INVALID},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct bl_err err = BL_ERR_INIT;
		struct bl_str out = {0};
		struct bl_message m = {"user", "x"};
		enum bl_status s = render(rows[i].template, &m, 1, false, &out, &err);
		if (s != rows[i].status || !strstr(err.text, rows[i].says))
			fail_msg("%s: %d, \"%s\"", rows[i].template, s, err.text);
		bl_str_free(&out);
	}
}

static void too_much(void **state)
{
	static const char *const rows[] = {
		"{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
		"{% set ns = namespace(s='xxxxxxxx') %}{% for a in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}",
		"{% set ns = namespace(l=[1]) %}{% for a in range(100) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
		"{% for a in range(100000) %}{{ 'x' * 100000 }}{% endfor %}",
		"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
		"{% macro m(x) %}{{ m(x + x) }}{{ m(x + x) }}{% endmacro %}{{ m('a') }}",
		"{{ 'x' * 9000000000 }}", "{{ range(10000000) | list }}", "{{ 9223372036854775807 + 1 }}", "{{ 999999999999999999 * 999999999999999999 }}",
	};
	struct bl_message m = {"user", "x"};
	struct bl_str deep = {0};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct bl_err err = BL_ERR_INIT;
		struct bl_str out = {0};
		time_t start = time(NULL);
		if (render(rows[i], &m, 1, false, &out, &err) == BL_OK || time(NULL) - start > 60)
			fail_msg("%s: %ld s, \"%s\"", rows[i], (long)(time(NULL) - start), err.text);
		bl_str_free(&out);
	}
	static const char *const openings[] = {"(", "[", "-", "not ", "{% if a %}", "{% for a in b %}", "a.b", "a|trim|", "1+", "{{ 'a' if ", "x and ", "{'a':"};
	for (size_t i = 0; i < sizeof openings / sizeof openings[0]; i++) {
		struct bl_err err = BL_ERR_INIT;
		struct bl_str out = {0};
		bl_str_clear(&deep);
		if (*openings[i] != '{' || openings[i][1] == '\'')
			bl_str_add(&deep, "{{ ");
		while (deep.len < 500000)
			bl_str_add(&deep, openings[i]);
		assert_int_not_equal(render(deep.s, &m, 1, false, &out, &err), BL_OK);
		bl_str_free(&out);
	}
	bl_str_free(&deep);
}

static void of_a_checkpoint(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_chat *c;
	struct bl_str out = {0};
	struct bl_message m[2] = {{"user", "hi"}, {"assistant", "ok"}};

	(void)state;
	assert_int_equal(bl_chat_open(&c, DEMO, &err), BL_OK);
	assert_string_equal(bl_chat_name(c), "exaone4");
	assert_int_equal(strlen(bl_chat_digest(c)), 64);
	assert_int_equal(bl_chat_render(c, m, 2, true, &out, &err), BL_OK);
	assert_string_equal(out.s, "[|user|]\nhi[|endofturn|]\n[|assistant|]\n<think>\n\n</think>\n\nok[|endofturn|]\n[|assistant|]\n<think>\n\n</think>\n\n");
	bl_chat_free(c);
	bl_str_clear(&out);

	const char *config = "{\"bos_token\":{\"content\":\"<b>\"},\"chat_template\":[{\"name\":\"tool\",\"template\":\"no\"},{\"name\":\"default\",\"template\":\"{{ bos_token }}{{ messages[0].content }}\"}]}";
	char *folder = bl_path_dir(write_text("tokenizer_config.json", config, strlen(config)));
	assert_int_equal(bl_chat_open(&c, folder, &err), BL_OK);
	assert_string_equal(bl_chat_name(c), "custom");
	assert_int_equal(bl_chat_render(c, m, 1, false, &out, &err), BL_OK);
	assert_string_equal(out.s, "<b>hi");
	bl_chat_free(c);
	write_text("chat_template.jinja", "file {{ bos_token }}", 20); /* the file counts before the entry */
	bl_str_clear(&out);
	assert_int_equal(bl_chat_open(&c, folder, &err), BL_OK);
	assert_int_equal(bl_chat_render(c, m, 1, false, &out, &err), BL_OK);
	assert_string_equal(out.s, "file <b>");
	bl_chat_free(c);
	remove_texts();
	assert_int_equal(bl_chat_open(&c, folder, &err), BL_INVALID);
	assert_non_null(strstr(err.text, "no chat template"));
	bl_free(folder);
	bl_str_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(as_jinja), cmocka_unit_test(refusals), cmocka_unit_test(too_much), cmocka_unit_test(of_a_checkpoint)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
