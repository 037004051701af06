/* SPDX-License-Identifier: Apache-2.0
 * Both allocation families end here, so that one counter sees every allocation: tests make the n-th fail and
 * walk n through a whole operation. The small family does not return failure; it ends the process with a sentence. */
#include "core/base/mem.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static atomic_uint_fast64_t allocations;
static atomic_uint_fast64_t fail_number; /* the allocation that fails, 0: none */
static void (*_Atomic fatal_hook)(void);

__attribute__((constructor)) static void read_environment(void)
{
	const char *s = getenv("BL_TEST_FAIL_ALLOC");

	if (s)
		bl_mem_fail_at(strtoull(s, NULL, 10));
}

static bool refused(void)
{
	uint64_t i = atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed) + 1;

	return i == atomic_load_explicit(&fail_number, memory_order_relaxed);
}

static bool product(size_t n, size_t size, size_t *out)
{
	return !__builtin_mul_overflow(n, size, out) && *out <= PTRDIFF_MAX;
}

static _Noreturn void exhausted(void)
{
	bl_fatal(6, "bitlathe: not enough memory; close other programs or open a smaller model");
}

void *bl_xalloc(size_t n, size_t size)
{
	size_t bytes;
	void *p = NULL;

	if (product(n, size, &bytes) && !refused())
		p = calloc(1, bytes ? bytes : 1);
	if (!p)
		exhausted();
	return p;
}

void *bl_xrealloc(void *p, size_t n, size_t size)
{
	size_t bytes;

	if (!product(n, size, &bytes) || refused())
		exhausted();
	p = realloc(p, bytes ? bytes : 1);
	if (!p)
		exhausted();
	return p;
}

char *bl_xstrdup(const char *s)
{
	return bl_xstrndup(s, strlen(s));
}

char *bl_xstrndup(const char *s, size_t n)
{
	size_t len = strnlen(s, n);
	char *d = bl_xalloc(len + 1, 1);

	memcpy(d, s, len);
	return d;
}

void bl_xgrow_(void **p, size_t *cap, size_t need, size_t size)
{
	size_t want;

	if (need <= *cap)
		return;
	want = *cap > SIZE_MAX / 2 ? need : *cap * 2;
	if (want < need)
		want = need;
	if (want < 8)
		want = 8;
	*p = bl_xrealloc(*p, want, size);
	memset((char *)*p + *cap * size, 0, (want - *cap) * size);
	*cap = want;
}

enum bl_status bl_try_alloc(void *out_pp, size_t n, size_t size, const char *what, struct bl_err *err)
{
	size_t bytes, padded;
	void *p = NULL;

	if (!product(n, size, &bytes) || bytes > PTRDIFF_MAX - 64)
		return bl_fail(err, BL_NO_MEMORY, "not enough memory for %s: %zu x %zu bytes do not fit an address space", what,
			       n, size);
	padded = bytes ? (bytes + 63) / 64 * 64 : 64;
	if (!refused())
		p = aligned_alloc(64, padded);
	if (!p)
		return bl_fail(err, BL_NO_MEMORY, "not enough memory for %s: %zu bytes", what, bytes);
	memset(p, 0, padded);
	memcpy(out_pp, &p, sizeof p);
	return BL_OK;
}

void *bl_try_malloc(size_t bytes)
{
	if (refused() || bytes > PTRDIFF_MAX)
		return NULL;
	return malloc(bytes ? bytes : 1);
}

void bl_free(void *p)
{
	free(p);
}

void bl_mem_fail_at(uint64_t nth)
{
	atomic_store(&fail_number, nth ? atomic_load(&allocations) + nth : 0);
}

uint64_t bl_mem_count(void)
{
	return atomic_load(&allocations);
}

void bl_fatal_hook(void (*hook)(void))
{
	atomic_store(&fatal_hook, hook);
}

void bl_fatal(int exit_code, const char *sentence)
{
	void (*hook)(void) = atomic_exchange(&fatal_hook, NULL); /* once, also when two threads end together */

	if (hook)
		hook();
	if (write(STDERR_FILENO, sentence, strlen(sentence)) >= 0)
		(void)!write(STDERR_FILENO, "\n", 1);
	_exit(exit_code);
}
