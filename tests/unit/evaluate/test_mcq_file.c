/* SPDX-License-Identifier: Apache-2.0
 * Files of questions: what is taken, and that every fault names file, line and field. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/evaluate/evaluate.h"

static char path[64];

static void put(const char *text)
{
	struct bl_err err = BL_ERR_INIT;

	snprintf(path, sizeof path, "/tmp/bl-mcq-%d.jsonl", (int)getpid());
	assert_int_equal(bl_write_file(path, text, strlen(text), 0600, &err), BL_OK);
}

static void refused(const char *text, const char *says)
{
	struct bl_mcq_item *items = NULL;
	struct bl_err err = BL_ERR_INIT;
	size_t n = 0;

	put(text);
	assert_int_equal(bl_mcq_load(&items, &n, path, &err), BL_INVALID);
	unlink(path);
	if (!strstr(err.text, says))
		fail_msg("\"%s\" does not say \"%s\"", err.text, says);
}

static void test_answers(void **state)
{
	struct bl_mcq_item *items;
	struct bl_err err = BL_ERR_INIT;
	size_t n;

	(void)state;
	put("{\"question\":\"a?\",\"choices\":[\"x\",\"y\",\"z\"],\"answer\":2,\"subject\":\"s\"}\n"
	    "\n"
	    "{\"question\":\"b?\",\"choices\":[\"x\",\"y\"],\"answer\":\"B\"}\r\n"
	    "{\"question\":\"c?\",\"choices\":[\"B\",\"A\"],\"answer\":\"A\"}\n"
	    "{\"question\":\"d?\",\"choices\":[\"one\",\"two\"],\"answer\":\"two\"}");
	assert_int_equal(bl_mcq_load(&items, &n, path, &err), BL_OK);
	unlink(path);
	assert_int_equal(n, 4);
	assert_string_equal(items[0].question, "a?");
	assert_int_equal(items[0].n_choices, 3);
	assert_string_equal(items[0].choices[2], "z");
	assert_int_equal(items[0].answer, 2);
	assert_int_equal(items[1].answer, 1);
	assert_int_equal(items[2].answer, 1); /* the text of a choice wins over a letter */
	assert_int_equal(items[3].answer, 1);
	bl_mcq_free(items, n);
}

static void test_faults(void **state)
{
	(void)state;
	refused("", "holds no question");
	refused("\n \n", "holds no question");
	refused("{\"question\":\"a?\",\"choices\":[\"x\",\"y\"],\"answer\":0}\n{oops", ":2");
	refused("{\"choices\":[\"x\",\"y\"],\"answer\":0}", ":1: question");
	refused("{\"question\":\"\",\"choices\":[\"x\",\"y\"],\"answer\":0}", "question");
	refused("{\"question\":\"a\",\"choices\":[\"x\"],\"answer\":0}", "choices");
	refused("{\"question\":\"a\",\"choices\":[\"x\",3],\"answer\":0}", "choices[1]");
	refused("{\"question\":\"a\",\"choices\":[\"x\",\"\"],\"answer\":0}", "choices[1]");
	refused("{\"question\":\"a\",\"choices\":[\"x\",\"y\"],\"answer\":2}", "answer");
	refused("{\"question\":\"a\",\"choices\":[\"x\",\"y\"],\"answer\":-1}", "answer");
	refused("{\"question\":\"a\",\"choices\":[\"x\",\"y\"],\"answer\":0.5}", "answer");
	refused("{\"question\":\"a\",\"choices\":[\"x\",\"y\"],\"answer\":\"C\"}", "answer");
	refused("{\"question\":\"a\",\"choices\":[\"x\",\"y\"]}", "answer");
	refused("{\"question\":\"a\",\"choices\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"10\",\"11\",\"12\",\"13\",\"14\",\"15\",\"16\",\"17\"],"
		"\"answer\":0}", "choices");
}

static void test_missing(void **state)
{
	struct bl_mcq_item *items;
	struct bl_err err = BL_ERR_INIT;
	size_t n;

	(void)state;
	assert_int_not_equal(bl_mcq_load(&items, &n, "/nowhere/at-all.jsonl", &err), BL_OK);
	assert_non_null(strstr(err.text, "at-all.jsonl"));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_missing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
