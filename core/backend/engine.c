/* SPDX-License-Identifier: Apache-2.0
 * Opening a device by name, and its errors as sentences. */
#include "core/backend/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/str.h"

struct items { bk_parallel_fn *fn; void *arg; };

static enum bl_status run_item(void *ctx, size_t item, struct bl_err *err)
{
	const struct items *w = ctx;

	(void)err;
	w->fn(w->arg, item);
	return BL_OK;
}

void bl_engine_parallel(void *ctx, size_t n, bk_parallel_fn *fn, void *arg)
{
	struct bl_engine *e = ctx;
	struct items w = { fn, arg };

	if (!e->pool) {
		for (size_t i = 0; i < n; i++)
			fn(arg, i);
		return;
	}
	bl_pool_run(e->pool, n, run_item, &w, NULL, &e->fault); /* the first error stays */
}

struct reading { void *dst; const void *src; size_t bytes; };

static enum bl_status read_piece(void *ctx, struct bl_err *err)
{
	const struct reading *w = ctx;

	(void)err;
	memcpy(w->dst, w->src, w->bytes);
	return BL_OK;
}

static int read_mapped(void *dst, const void *src, size_t bytes)
{
	struct reading w = { dst, src, bytes };
	struct bl_err err = BL_ERR_INIT;

	return bl_guard_run(read_piece, &w, &err) ? 1 : 0;
}

enum bl_status bl_engine_device(const struct bl_backend *b, const char *device, int *out, struct bl_err *err)
{
	bool can = b->cuda && b->cuda->run && b->n_devices > 0;
	const char *why = b->cuda && !can ? "the CUDA module cannot run models" : b->note;
	char *end;
	long i = 0;

	if (!strcmp(device, "cpu") || (!strcmp(device, "auto") && !can)) {
		*out = -1;
		return BL_OK;
	}
	if (!strncmp(device, "cuda:", 5)) {
		i = strtol(device + 5, &end, 10);
		if (end == device + 5 || *end || i < 0 || i > 4095)
			return bl_fail(err, BL_USAGE, "device %s: after cuda: comes a number", device);
	} else if (strcmp(device, "auto") && strcmp(device, "cuda")) {
		return bl_fail(err, BL_USAGE, "device %s is not known: auto, cpu, cuda or cuda:N", device);
	}
	if (!can)
		return bl_fail(err, BL_NO_DEVICE, "device %s: %s", device, why && *why ? why : "there is none");
	if (i >= b->n_devices)
		return bl_fail(err, BL_NO_DEVICE, "device %s: there %s %d (from 0)", device, b->n_devices == 1 ? "is only" : "are only", b->n_devices);
	*out = (int)i;
	return BL_OK;
}

enum bl_status bl_engine_open(struct bl_engine *e, struct bl_backend *b, const char *device, struct bl_pool *pool, uint64_t memory_limit, struct bl_err *err)
{
	struct bk_run_options o = { .memory_limit = memory_limit, .threads = pool ? bl_pool_threads(pool) : 1, .read = read_mapped };
	const struct bk_run_ops *ops;
	struct bk_run *run = NULL;
	int which = -1, error;

	if (bl_engine_device(b, device && *device ? device : "auto", &which, err))
		return err->status;
	ops = which < 0 ? bk_run_cpu() : b->cuda->run;
	if (ops->version != BK_RUN_VERSION || ops->size != sizeof(*ops))
		return bl_fail(err, BL_NO_DEVICE, "the CUDA module belongs to another build of bitlathe");
	*e = (struct bl_engine){ .ops = ops, .solve = which < 0 ? bk_solve_cpu() : b->cuda->solve, .grad = which < 0 ? bk_grad_cpu() : b->cuda->grad,
				 .backend = b, .pool = pool, .cuda = which >= 0, .device = which < 0 ? 0 : which, .memory_limit = memory_limit };
	o.device = e->device;
	o.parallel = pool ? bl_engine_parallel : NULL;
	o.parallel_ctx = e;
	error = ops->open(&run, &o);
	if (error)
		return bl_fail(err, BL_NO_DEVICE, "device %s cannot be opened: %s", device, ops->error_text(error));
	e->run = run;
	if (e->cuda)
		snprintf(e->name, sizeof(e->name), "%s", b->devices[e->device].name);
	else
		snprintf(e->name, sizeof(e->name), "CPU %d thread%s", o.threads, o.threads == 1 ? "" : "s");
	return BL_OK;
}

void bl_engine_close(struct bl_engine *e)
{
	if (e->run)
		e->ops->close(e->run);
	*e = (struct bl_engine){ 0 };
}

enum bl_status bl_engine_check(struct bl_engine *e, int error, const char *doing, struct bl_err *err)
{
	const char *device = e->cuda ? "GPU" : "CPU";
	uint64_t used = 0, free_bytes = 0;
	char a[16];

	if (e->fault.status) {
		*err = err->status ? *err : e->fault;
		bl_err_clear(&e->fault);
		return err->status;
	}
	if (!error)
		return BL_OK;
	if (e->ops->is_no_memory(error)) {
		e->ops->memory(e->run, &used, &free_bytes);
		return bl_fail(err, BL_NO_MEMORY, "%s memory ran out: %s, %s free; a smaller batch needs less", device, doing,
			       bl_human_bytes(a, sizeof a, (double)free_bytes));
	}
	if (error == BK_RUN_UNREADABLE)
		return bl_fail(err, BL_IO, "%s: a weight file changed while it was read; open the model again", doing);
	if (e->ops->is_lost(error))
		return bl_fail(err, BL_NO_DEVICE, "%s (%s) was lost: %s: %s; --device cpu goes on without it", device, e->name, doing, e->ops->error_text(error));
	return bl_fail(err, BL_FAILED, "%s: %s: %s", device, doing, e->ops->error_text(error));
}

enum bl_status bl_engine_alloc(struct bl_engine *e, void **out, size_t bytes, const char *what, struct bl_err *err)
{
	uint64_t used = 0, free_bytes = 0;
	int error = e->ops->alloc(e->run, out, bytes);
	char a[16], b[16];

	if (!error || !e->ops->is_no_memory(error))
		return bl_engine_check(e, error, what, err);
	e->ops->memory(e->run, &used, &free_bytes);
	return bl_fail(err, BL_NO_MEMORY, "%s memory: %s asked for %s, %s free%s", e->cuda ? "GPU" : "CPU", bl_human_bytes(a, sizeof a, (double)bytes), what,
		       bl_human_bytes(b, sizeof b, (double)free_bytes), e->memory_limit ? " under the limit" : "");
}

void bl_engine_release(struct bl_engine *e, void *p)
{
	if (p)
		e->ops->release(e->run, p);
}

uint64_t bl_engine_available(struct bl_engine *e)
{
	uint64_t used = 0, free_bytes = 0;

	return e->ops->memory(e->run, &used, &free_bytes) ? 0 : free_bytes;
}
