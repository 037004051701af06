/* SPDX-License-Identifier: Apache-2.0
 * What the tests of core/base share: CMocka with its required headers, and a scratch folder that removes itself. */
#ifndef BL_TESTS_UNIT_BASE_SUPPORT_H
#define BL_TESTS_UNIT_BASE_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Setup and teardown: *state is the path of an empty folder. */
int scratch_make(void **state);
int scratch_drop(void **state);
/* "<folder>/<name>" in one of four rotating buffers. */
const char *in(void **state, const char *name);
void put(const char *path, const char *text);
/* Number of names in a folder, hidden ones included. */
size_t names_in(const char *dir);
/* Runs fn in a child process with stderr caught in text; returns its wait status. */
int in_child(void (*fn)(void), char *text, size_t cap);

#endif
