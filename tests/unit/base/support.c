/* SPDX-License-Identifier: Apache-2.0
 * Shared by the tests of core/base, see support.h. */
#include "tests/unit/base/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/file.h"

int scratch_make(void **state)
{
	const char *tmp = getenv("TMPDIR");
	char name[4096];

	snprintf(name, sizeof name, "%s/bl-test-XXXXXX", tmp && *tmp ? tmp : "/tmp");
	if (!mkdtemp(name))
		return -1;
	*state = strdup(name);
	return 0;
}

int scratch_drop(void **state)
{
	bl_remove_tree(*state);
	free(*state);
	return 0;
}

const char *in(void **state, const char *name)
{
	static char text[4][4096];
	static unsigned next;
	char *t = text[next++ % 4];

	snprintf(t, sizeof text[0], "%s/%s", (char *)*state, name);
	return t;
}

void put(const char *path, const char *text)
{
	FILE *f = fopen(path, "wb");

	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

size_t names_in(const char *dir)
{
	struct bl_err err = BL_ERR_INIT;
	char **names;
	size_t n;

	assert_int_equal(bl_list_dir(&names, &n, dir, &err), BL_OK);
	bl_list_free(names);
	return n;
}

int in_child(void (*fn)(void), char *text, size_t cap)
{
	int p[2], status;
	size_t used = 0;
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe(p), 0);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		dup2(p[1], 2);
		close(p[0]);
		close(p[1]);
		fn();
		_exit(99); /* fn was expected to end the process */
	}
	close(p[1]);
	while (used + 1 < cap && (n = read(p[0], text + used, cap - 1 - used)) > 0)
		used += (size_t)n;
	text[used] = '\0';
	close(p[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}
