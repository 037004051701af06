/* SPDX-License-Identifier: Apache-2.0
 * Worker threads. bl_pool_run hands out items 0..n-1 in order to all workers and the caller, and returns when all are done.
 * Several threads may run batches at once. Workers stand back (turn.h) so that the screen's thread always wins. The first error
 * (lowest item) is returned, the rest of the items are skipped; *cancel (may be NULL) nonzero stops with BL_CANCELLED.
 * Items are wrapped in bl_guard_run: a mapped file that shrinks is an error, not a crash. */
#ifndef BL_BASE_POOL_H
#define BL_BASE_POOL_H
#include <stdatomic.h>
#include <stddef.h>
#include "core/base/err.h"
struct bl_pool;
struct bl_pool *bl_pool_new(int n_threads); /* 0: all processors this process may use */
void bl_pool_free(struct bl_pool *p);
int bl_pool_threads(const struct bl_pool *p);
enum bl_status bl_pool_run(struct bl_pool *p, size_t n_items, enum bl_status (*fn)(void *ctx, size_t item, struct bl_err *err),
			   void *ctx, const atomic_int *cancel, struct bl_err *err);
#endif
