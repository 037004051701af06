/* SPDX-License-Identifier: Apache-2.0
 * The CPU back end's memory, scratch and table. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cblas.h>

#include "kernels/run/cpu.h"

#define ALIGN 256
#define COPY_BYTES ((size_t)2 << 20)

struct bk_block { /* lies before what alloc hands out */
	struct bk_block *next, **prev;
	uint64_t bytes;
	void *base;
};

static const char *error_text(int error)
{
	switch (error) {
	case 0: return "done";
	case BK_RUN_REFUSED: return "these shapes or types are not what the operation takes";
	case BK_RUN_NO_MEMORY: return "not enough memory";
	case BK_RUN_UNREADABLE: return "a mapped file could not be read any more";
	default: return "an unknown error";
	}
}

static bool is_lost(int error)
{
	(void)error;
	return false;
}

static bool is_no_memory(int error) { return error == BK_RUN_NO_MEMORY; }

static int open_run(struct bk_run **out, const struct bk_run_options *o)
{
	struct bk_run *r = calloc(1, sizeof(*r));

	if (!r)
		return BK_RUN_NO_MEMORY;
	r->o = *o;
	r->rows = bk_rows_best();
	r->tile = bk_tile_best();
	r->n_desks = (o->threads > 0 ? o->threads : 1) + 8;
	r->desks = calloc((size_t)r->n_desks, sizeof(*r->desks));
	if (!r->desks) {
		free(r);
		return BK_RUN_NO_MEMORY;
	}
	openblas_set_num_threads(1); /* work is spread out here */
	*out = r;
	return 0;
}

static uint64_t available_bytes(void)
{
	FILE *f = fopen("/proc/meminfo", "r");
	char line[128];
	unsigned long long kib = 0;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %llu", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib * 1024;
}

static int memory(struct bk_run *r, uint64_t *used, uint64_t *available)
{
	uint64_t left = r->o.memory_limit > r->used ? r->o.memory_limit - r->used : 0, there = available_bytes();

	*used = r->used;
	*available = r->o.memory_limit && left < there ? left : there;
	return 0;
}

static int block_new(struct bk_block **list, void **out, size_t bytes)
{
	struct bk_block *b;
	void *base;
	char *p;

	if (bytes > SIZE_MAX / 2 || posix_memalign(&base, ALIGN, ALIGN + (bytes ? bytes : 1)))
		return BK_RUN_NO_MEMORY;
	p = (char *)base + ALIGN;
	b = (struct bk_block *)(void *)(p - sizeof(*b));
	*b = (struct bk_block){ .next = *list, .prev = list, .bytes = bytes, .base = base };
	if (b->next)
		b->next->prev = &b->next;
	*list = b;
	*out = p;
	return 0;
}

static uint64_t block_free(void *p)
{
	struct bk_block *b = (struct bk_block *)(void *)((char *)p - sizeof(*b));
	uint64_t bytes = b->bytes;

	*b->prev = b->next;
	if (b->next)
		b->next->prev = b->prev;
	free(b->base);
	return bytes;
}

static int alloc(struct bk_run *r, void **out, size_t bytes)
{
	int error;

	if (r->o.memory_limit && (bytes > r->o.memory_limit || r->used > r->o.memory_limit - bytes))
		return BK_RUN_NO_MEMORY;
	error = block_new(&r->blocks, out, bytes);
	if (!error)
		r->used += bytes;
	return error;
}

static void release(struct bk_run *r, void *p)
{
	if (p)
		r->used -= block_free(p);
}

static int host_alloc(struct bk_run *r, void **out, size_t bytes) { return block_new(&r->host_blocks, out, bytes); }

static void host_release(struct bk_run *r, void *p)
{
	(void)r;
	if (p)
		block_free(p);
}

static void close_run(struct bk_run *r)
{
	if (!r)
		return;
	while (r->blocks)
		block_free((char *)r->blocks + sizeof(*r->blocks));
	while (r->host_blocks)
		block_free((char *)r->host_blocks + sizeof(*r->host_blocks));
	for (int i = 0; i < r->n_desks; i++)
		free(r->desks[i].p);
	for (int i = 0; i < 3; i++)
		free(r->shared[i].p);
	free(r->desks);
	free(r);
}

struct copying { char *dst; const char *src; size_t bytes; };

static void copy_item(void *arg, size_t item)
{
	struct copying *c = arg;
	size_t at = item * COPY_BYTES, n = c->bytes - at;

	memcpy(c->dst + at, c->src + at, n < COPY_BYTES ? n : COPY_BYTES);
}

static int copy(struct bk_run *r, void *dst, const void *src, size_t bytes)
{
	struct copying c = { dst, src, bytes };

	bk_each(r, (bytes + COPY_BYTES - 1) / COPY_BYTES, copy_item, &c);
	return 0;
}

static int zero(struct bk_run *r, void *dst, size_t bytes)
{
	(void)r;
	if (bytes)
		memset(dst, 0, bytes);
	return 0;
}

static int nothing(struct bk_run *r)
{
	(void)r;
	return 0;
}

/* --- what operations share --- */

void bk_each(struct bk_run *r, size_t n, bk_parallel_fn *fn, void *arg)
{
	if (r->o.parallel && n) /* a single item too: the caller may guard items against what mapped files do */
		r->o.parallel(r->o.parallel_ctx, n, fn, arg);
	else
		for (size_t i = 0; i < n; i++)
			fn(arg, i);
	for (int i = 0; i < r->n_desks; i++) /* an item that was left by a jump has not given its desk back */
		atomic_flag_clear(&r->desks[i].taken);
}

static int desk_grow(struct bk_desk *d, size_t floats)
{
	void *p;

	if (d->bytes >= floats * sizeof(float))
		return 0;
	free(d->p);
	d->p = NULL;
	d->bytes = 0;
	if (floats > SIZE_MAX / 8 || posix_memalign(&p, 64, floats * sizeof(float)))
		return BK_RUN_NO_MEMORY;
	d->p = p;
	d->bytes = floats * sizeof(float);
	return 0;
}

float *bk_shared(struct bk_run *r, int which, size_t floats)
{
	return desk_grow(&r->shared[which], floats ? floats : 1) ? NULL : r->shared[which].p;
}

int bk_desks_need(struct bk_run *r, size_t floats)
{
	int error = 0;

	for (int i = 0; i < r->n_desks && !error; i++)
		error = desk_grow(&r->desks[i], floats);
	return error;
}

struct bk_desk *bk_desk_take(struct bk_run *r)
{
	for (;;)
		for (int i = 0; i < r->n_desks; i++)
			if (!atomic_flag_test_and_set_explicit(&r->desks[i].taken, memory_order_acquire))
				return &r->desks[i];
}

void bk_desk_give(struct bk_desk *d) { atomic_flag_clear_explicit(&d->taken, memory_order_release); }

static const struct bk_run_ops table = {
	.version = BK_RUN_VERSION, .size = sizeof(struct bk_run_ops), .name = "cpu", .unified = true,
	.error_text = error_text, .is_lost = is_lost, .is_no_memory = is_no_memory, .open = open_run, .close = close_run,
	.alloc = alloc, .release = release, .memory = memory, .host_alloc = host_alloc, .host_release = host_release,
	.put = copy, .get = copy, .copy = copy, .zero = zero, .wait = nothing,
	.upload = copy, .upload_join = nothing, .download = copy, .download_join = nothing,
	.gemm = bk_cpu_gemm, .quant_tokens = bk_cpu_quant_tokens, .quant_static = bk_cpu_quant_static, .gemm_codes = bk_cpu_gemm_codes,
	.quant_groups = bk_cpu_quant_groups, .gemm_groups = bk_cpu_gemm_groups, .round_inputs = bk_cpu_round_inputs,
	.gather = bk_cpu_gather, .convert = bk_cpu_convert, .rmsnorm = bk_cpu_rmsnorm, .add = bk_cpu_add, .add_rmsnorm = bk_cpu_add_rmsnorm,
	.rmsnorm_add = bk_cpu_rmsnorm_add, .head_norm_rope = bk_cpu_head_norm_rope, .attention = bk_cpu_attention, .gate = bk_cpu_gate,
	.softcap = bk_cpu_softcap, .input_stats = bk_cpu_input_stats, .hessian = bk_cpu_hessian, .diff_sums = bk_cpu_diff_sums, .dot = bk_cpu_dot,
	.mirror = bk_cpu_mirror, .row_loss = bk_cpu_row_loss, .row_kl = bk_cpu_row_kl,
};

const struct bk_run_ops *bk_run_cpu(void) { return &table; }
