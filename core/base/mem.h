/* SPDX-License-Identifier: Apache-2.0
 * Two allocation families.
 *   bl_x*    small things; never return NULL: on exhaustion the fatal hook runs (it restores the
 *            terminal), one sentence goes to stderr and the process ends with exit code 6.
 *   bl_try_* tensor-sized things; failure is a status the user sees, with the number of bytes.
 * Sizes are n * size with overflow checks. Memory of both families is freed with bl_free.
 * Test hook: bl_mem_fail_at(n) makes the n-th allocation from now on fail (0: off); the environment
 * variable BL_TEST_FAIL_ALLOC=n sets it at start. cJSON is routed through here (json.c). */
#ifndef BL_BASE_MEM_H
#define BL_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

void *bl_xalloc(size_t n, size_t size) __attribute__((malloc, alloc_size(1, 2), returns_nonnull)); /* zeroed */
void *bl_xrealloc(void *p, size_t n, size_t size) __attribute__((alloc_size(2, 3), returns_nonnull));
char *bl_xstrdup(const char *s) __attribute__((malloc, returns_nonnull));
char *bl_xstrndup(const char *s, size_t n) __attribute__((malloc, returns_nonnull));
/* Grows an array geometrically: *p has *cap elements of `size`; afterwards at least `need`. */
#define bl_xgrow(p, cap, need) bl_xgrow_(( void **)(p), (cap), (need), sizeof **(p))
void bl_xgrow_(void **p, size_t *cap, size_t need, size_t size);

/* *out = zeroed, 64-byte aligned; `what` names it in the message ("the row buffer"). */
enum bl_status bl_try_alloc(void *out_pp, size_t n, size_t size, const char *what, struct bl_err *err);
/* malloc-like, NULL on failure, counted by the failure hook (for library hooks). */
void *bl_try_malloc(size_t bytes);
void bl_free(void *p);

void bl_mem_fail_at(uint64_t nth);
uint64_t bl_mem_count(void); /* allocations so far */
/* Runs before the process ends for lack of memory or by bl_fatal; async-signal-safe work only. */
void bl_fatal_hook(void (*hook)(void));
void bl_fatal(int exit_code, const char *sentence) __attribute__((noreturn));

#endif
