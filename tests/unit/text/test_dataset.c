/* SPDX-License-Identifier: Apache-2.0
 * Data files: every layout, every row accounted for, cuts, packing, limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/text/dataset.h"
#include "tests/unit/text/support.h"

static struct bl_tokenizer *tokenizer;
static struct bl_chat *chat;

static int open_all(void **state)
{
	struct bl_err err = BL_ERR_INIT;

	(void)state;
	return bl_tokenizer_open(&tokenizer, DEMO, &err) || bl_chat_open(&chat, DEMO, &err);
}

static int close_all(void **state)
{
	(void)state;
	bl_tokenizer_free(tokenizer);
	bl_chat_free(chat);
	remove_texts();
	return 0;
}

static struct bl_dataset *load(const char *name, const char *text, const struct bl_chat *c, struct bl_dataset_options o)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_dataset *d;
	const char *path = write_text(name, text, strlen(text));

	if (bl_dataset_load(&d, &path, 1, tokenizer, c, NULL, &o, &err))
		fail_msg("%s", err.text);
	return d;
}

static void holds(const struct bl_dataset *d, size_t row, const char *layout, int64_t line, const char *text)
{
	struct bl_ids ids = {0};
	struct bl_err err = BL_ERR_INIT;
	const struct bl_dataset_row *r = &d->rows[row];

	assert_true(row < d->n_rows);
	assert_string_equal(r->layout, layout);
	assert_int_equal(r->line, line);
	assert_int_equal(bl_tokenizer_encode(tokenizer, text, strlen(text), false, &ids, &err), BL_OK);
	assert_int_equal(r->n, ids.n);
	assert_memory_equal(d->ids.ids + r->first, ids.ids, ids.n * sizeof *ids.ids);
	bl_ids_free(&ids);
}

static void layouts(void **state)
{
	static const char rows[] =
		"{\"text\":\"Hello, world\"}\n"
		"{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"},{\"role\":\"assistant\",\"content\":\"yo\"}]}\n"
		"\n  \r\n"
		"{\"conversations\":[{\"from\":\"system\",\"value\":\"s\"},{\"from\":\"human\",\"value\":\"hi\"},{\"from\":\"gpt\",\"value\":\"yo\"}]}\n"
		"{\"prompt\":\"q\",\"completion\":\"a\"}\n"
		"{\"prompt\":\"q\"}\r\n"
		"{\"prompt\":[{\"role\":\"user\",\"content\":\"q\"}],\"response\":\"a\"}\n"
		"{\"input_ids\":[1,2,3],\"attention_mask\":[1,1,1]}\n"
		"{\"text\":null,\"input_ids\":[4]}"; /* no newline at the end */
	struct bl_dataset *d = load("a.jsonl", rows, chat, (struct bl_dataset_options){.keep_text = true});
	static const char yo[] = "[|user|]\nhi[|endofturn|]\n[|assistant|]\n<think>\n\n</think>\n\nyo[|endofturn|]\n";
	static const char qa[] = "[|user|]\nq[|endofturn|]\n[|assistant|]\n<think>\n\n</think>\n\na[|endofturn|]\n";

	(void)state;
	assert_int_equal(d->read, 8);
	assert_int_equal(d->used, 8);
	assert_int_equal(d->dropped, 0);
	holds(d, 0, "text", 1, "Hello, world");
	holds(d, 1, "messages", 2, yo);
	holds(d, 2, "conversations", 5, "[|system|]\ns[|endofturn|]\n[|user|]\nhi[|endofturn|]\n[|assistant|]\n<think>\n\n</think>\n\nyo[|endofturn|]\n");
	holds(d, 3, "prompt", 6, qa);
	holds(d, 4, "prompt", 7, "[|user|]\nq[|endofturn|]\n[|assistant|]\n<think>\n\n</think>\n\n");
	holds(d, 5, "prompt", 8, qa);
	assert_int_equal(d->ids.ids[d->rows[6].first + 2], 3);
	assert_int_equal(d->ids.ids[d->rows[7].first], 4);
	assert_string_equal(d->rows[1].text, yo);
	assert_null(d->rows[6].text);
	assert_string_equal(d->rows[0].file, "a.jsonl");
	bl_dataset_free(d);

	d = load("b.jsonl", "{\"prompt\":\"q \",\"response\":\"a\"}\n{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}", NULL, (struct bl_dataset_options){0});
	holds(d, 0, "prompt", 1, "q a"); /* without a template it is text */
	assert_int_equal(d->dropped, 1);
	assert_non_null(strstr(d->drops[0].why, "chat template"));
	bl_dataset_free(d);

	d = load("n.jsonl", "{\"text\":\"a\\u0000\\ufdd1b\\\\u0000\\u0000\"}\n{\"messages\":[{\"role\":\"user\",\"content\":\"a\\u0000\"}]}", chat, (struct bl_dataset_options){.keep_text = true});
	static const char nul[] = "a\0\xef\xb7\x91" "b\\u0000\0";
	assert_int_equal(d->used, 1);
	assert_int_equal(d->rows[0].text_n, sizeof nul - 1);
	assert_memory_equal(d->rows[0].text, nul, sizeof nul - 1);
	assert_non_null(strstr(d->drops[0].why, "NUL"));
	bl_dataset_free(d);

	d = load("c.txt", "one\n\ntwo \xff", NULL, (struct bl_dataset_options){.keep_text = true});
	assert_int_equal(d->n_rows, 1);
	holds(d, 0, "text", 1, "one\n\ntwo \xef\xbf\xbd");
	assert_string_equal(d->rows[0].text, "one\n\ntwo \xef\xbf\xbd");
	bl_dataset_free(d);
}

static void every_row_counts(void **state)
{
	static const char rows[] = "{\"text\":\"good\"}\nnot json\n[1]\n{\"text\":7}\n{\"text\":\"\"}\n{\"other\":1}\n{\"messages\":[]}\n{\"messages\":[{\"role\":\"user\"}]}\n"
				   "{\"messages\":[{\"content\":\"x\"}]}\n{\"input_ids\":[1,4096]}\n{\"input_ids\":[-1]}\n{\"input_ids\":[1.5]}\n{\"input_ids\":\"1\"}\n{\"prompt\":3}\n"
				   "{\"text\":\"bad \xff\"}\n{\"text\":\"a\",\"text\":\"b\"}\n{\"text\":\"good again\"}\n";
	static const char *const why[] = {"JSON", "JSON", "text is not a text", "no tokens", "has none of", "not a list of messages", "message 1 has no content", "message 1 has no role",
					  "input_ids[1]", "input_ids[0]", "input_ids[0]", "input_ids is not a list", "prompt is neither", "JSON", "stands twice"};
	struct bl_dataset *d = load("a.jsonl", rows, chat, (struct bl_dataset_options){0});

	(void)state;
	assert_int_equal(d->read, 17);
	assert_int_equal(d->used, 2);
	assert_int_equal(d->dropped, 15);
	assert_int_equal(d->n_drops, 15);
	for (size_t i = 0; i < 15; i++) {
		assert_int_equal(d->drops[i].line, i + 2);
		if (!strstr(d->drops[i].why, why[i]))
			fail_msg("line %zu: \"%s\" does not say \"%s\"", i + 2, d->drops[i].why, why[i]);
	}
	holds(d, 1, "text", 17, "good again");
	bl_dataset_free(d);
}

static void cuts_and_windows(void **state)
{
	static const char rows[] = "{\"input_ids\":[1,2,3,4,5]}\n{\"input_ids\":[6]}\n{\"input_ids\":[7,8,9]}\n";
	static const int32_t all[] = {1, 2, 3, 4, 5, 6, 7, 8, 9}, cut[] = {1, 2, 6, 7, 8};
	struct bl_dataset *d = load("a.jsonl", rows, NULL, (struct bl_dataset_options){0}), *e;
	struct bl_windows w;

	(void)state;
	bl_dataset_windows(&w, d, 4, 0);
	assert_int_equal(w.n, 2);
	assert_memory_equal(w.ids, all, sizeof all);
	bl_dataset_windows(&w, d, 4, 1);
	assert_int_equal(w.n, 1);
	bl_dataset_windows(&w, d, 10, 0);
	assert_int_equal(w.n, 0);
	e = load("a.jsonl", rows, NULL, (struct bl_dataset_options){.max_row_tokens = 2});
	assert_int_equal(e->cut, 2);
	assert_int_equal(e->ids.n, 5);
	assert_memory_equal(e->ids.ids, cut, sizeof cut);
	assert_string_not_equal(d->digest, e->digest);
	bl_dataset_free(e);
	e = load("b.jsonl", rows, NULL, (struct bl_dataset_options){0});
	assert_string_equal(d->digest, e->digest); /* the name plays no part */
	bl_dataset_free(e);
	e = load("a.jsonl", rows, NULL, (struct bl_dataset_options){.max_tokens = 6});
	assert_int_equal(e->n_rows, 2);
	bl_dataset_free(e);
	bl_dataset_free(d);
}

static void refused_files(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_dataset *d = NULL;
	struct bl_dataset_options o = {0};
	const char *path = "/nonexistent/x.jsonl", *folder = BL_SOURCE_DIR;
	atomic_int cancel = 1;

	(void)state;
	assert_int_equal(bl_dataset_load(&d, &path, 1, tokenizer, NULL, NULL, &o, &err), BL_NOT_FOUND);
	bl_err_clear(&err);
	assert_int_not_equal(bl_dataset_load(&d, &folder, 1, tokenizer, NULL, NULL, &o, &err), BL_OK);
	bl_err_clear(&err);
	path = write_text("a.jsonl", "{\"x\":1}\n{\"x\":2}\n", 16);
	assert_int_equal(bl_dataset_load(&d, &path, 1, tokenizer, NULL, NULL, &o, &err), BL_INVALID);
	assert_non_null(strstr(err.text, "no row can be used (of 2); the first one: has none of"));
	bl_err_clear(&err);
	path = write_text("a.jsonl", "", 0);
	assert_int_equal(bl_dataset_load(&d, &path, 1, tokenizer, NULL, NULL, &o, &err), BL_INVALID);
	bl_err_clear(&err);
	path = write_text("a.jsonl", "{\"text\":\"x\"}\n", 13);
	o.cancel = &cancel;
	assert_int_equal(bl_dataset_load(&d, &path, 1, tokenizer, NULL, NULL, &o, &err), BL_CANCELLED);
	bl_err_clear(&err);
	o.cancel = NULL;
	assert_int_equal(bl_dataset_load(&d, &path, 1, NULL, NULL, NULL, &o, &err), BL_INVALID); /* no tokenizer */
	assert_non_null(strstr(err.text, "tokenizer.json"));
	assert_null(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(layouts), cmocka_unit_test(every_row_counts), cmocka_unit_test(cuts_and_windows), cmocka_unit_test(refused_files)};

	return cmocka_run_group_tests(tests, open_all, close_all);
}
