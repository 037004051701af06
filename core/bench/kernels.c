/* SPDX-License-Identifier: Apache-2.0
 * Kernels: the rows of kernels/bench.h through the table of this processor, on one thread. The data is larger than the inner caches, as a unit's rows are
 * when they stream through; the copy it is compared with touches as many bytes of memory as the kernel does. */
#include <stdio.h>
#include <string.h>

#include "core/backend/backend.h"
#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/bench/bench.h"
#include "kernels/bench.h"

#define ROWS 512
#define COLS 4096

struct bl_bench_kernels {
	struct bk_bench_data *data;
	uint8_t *from, *to;      /* of the copy */
	uint64_t copy_bytes;
	int (*checked[16])(const struct bk_ops *ops, struct bk_check *c); int n_checked;
};

/* A kernel that reads and writes n bytes is matched by a copy of n / 2: that reads n / 2 and writes n / 2. */
static uint64_t moved(const struct bk_bench_row *row)
{
	return (uint64_t)(row->bytes * ROWS * COLS);
}

enum bl_status bl_bench_kernels_new(struct bl_bench_kernels **out, struct bl_err *err)
{
	struct bl_bench_kernels *k = bl_xalloc(1, sizeof *k);
	int n;
	const struct bk_bench_row *rows = bk_bench_rows(&n);

	for (int i = 0; i < n; i++)
		k->copy_bytes = moved(&rows[i]) / 2 > k->copy_bytes ? moved(&rows[i]) / 2 : k->copy_bytes;
	k->data = bk_bench_data_new(ROWS, COLS);
	if (!k->data)
		bl_fail(err, BL_NO_MEMORY, "kernels: no memory for the data");
	else if (bl_try_alloc(&k->from, k->copy_bytes, 1, "the baseline's source", err) == BL_OK)
		bl_try_alloc(&k->to, k->copy_bytes, 1, "the baseline's copy", err);
	if (err->status) {
		bl_bench_kernels_free(k);
		return err->status;
	}
	memset(k->from, 1, k->copy_bytes); /* so that pages are there, and not the one page of zeros */
	memset(k->to, 2, k->copy_bytes);
	*out = k;
	return BL_OK;
}

void bl_bench_kernels_free(struct bl_bench_kernels *k)
{
	if (!k)
		return;
	bk_bench_data_free(k->data);
	bl_free(k->from);
	bl_free(k->to);
	bl_free(k);
}

int bl_bench_kernels_count(void)
{
	int n;

	bk_bench_rows(&n);
	return n;
}

const char *bl_bench_kernels_level(void)
{
	return bl_cpu_ops()->name;
}

/* Once per operation, however many rows it has. */
static enum bl_status check(struct bl_bench_kernels *k, const struct bk_bench_row *row, struct bl_err *err)
{
	struct bk_check c = {.state = 1};

	for (int i = 0; i < k->n_checked; i++)
		if (k->checked[i] == row->check)
			return BL_OK;
	if (k->n_checked < (int)(sizeof k->checked / sizeof k->checked[0]))
		k->checked[k->n_checked++] = row->check;
	return row->check(bl_cpu_ops(), &c) ? bl_fail(err, BL_MISMATCH, "kernel %s (%s): %s", row->op, bl_cpu_ops()->name, c.why) : BL_OK;
}

enum bl_status bl_bench_kernel(struct bl_bench_row *r, struct bl_bench_kernels *k, int i, int runs, struct bl_progress *progress, struct bl_err *err)
{
	const struct bk_ops *ops = bl_cpu_ops();
	int n;
	const struct bk_bench_row *row = &bk_bench_rows(&n)[i];
	uint64_t bytes = moved(row);

	bl_bench_row_init(r, row->name, "a copy that moves as many bytes");
	r->bytes = bytes;
	if (check(k, row, err))
		return err->status;
	bk_bench_prepare(k->data, ops, row);
	for (int run = -1; run < runs; run++) { /* the first one brings the data in */
		if (atomic_load(&progress->cancel))
			return bl_fail(err, BL_CANCELLED, "%s", bl_status_text(BL_CANCELLED));
		uint64_t start = bl_now_ns();
		row->run(ops, k->data);
		if (run >= 0)
			bl_bench_add(&r->job, start);
		start = bl_now_ns();
		memcpy(k->to, k->from, bytes / 2);
		__asm__ volatile("" : : "r"(k->to) : "memory"); /* nobody reads it; it must still happen */
		if (run >= 0)
			bl_bench_add(&r->baseline, start);
	}
	return BL_OK;
}
