/* SPDX-License-Identifier: Apache-2.0
 * A device that runs models: a bk_run with its table, and errors as sentences. One thread at a time may use it: the main job lane owns it. */
#ifndef BL_BACKEND_ENGINE_H
#define BL_BACKEND_ENGINE_H

#include "core/backend/backend.h"
#include "core/base/err.h"
#include "core/base/pool.h"
#include "kernels/grad/grad.h"
#include "kernels/run/run.h"
#include "kernels/solve/solve.h"

struct bl_engine {
	const struct bk_run_ops *ops;
	const struct bk_solve_ops *solve;
	const struct bk_grad_ops *grad;
	struct bk_run *run;
	struct bl_backend *backend;  /* borrowed */
	struct bl_pool *pool;        /* borrowed; CPU work runs on it */
	bool cuda;
	int device;
	char name[160];              /* "H200", "CPU 2 threads" */
	uint64_t memory_limit;
	struct bl_err fault;         /* of work on the pool (a mapped file that shrank); the next check tells it */
};

/* What a name asks for, without opening it: -1 the CPU, else a CUDA ordinal. BL_USAGE, or BL_NO_DEVICE as below. */
enum bl_status bl_engine_device(const struct bl_backend *b, const char *device, int *out, struct bl_err *err);
/* device: "auto" (CUDA when there is one, else the CPU), "cpu", "cuda", "cuda:N". BL_NO_DEVICE with the backend's note when it cannot be had. */
enum bl_status bl_engine_open(struct bl_engine *e, struct bl_backend *b, const char *device, struct bl_pool *pool, uint64_t memory_limit, struct bl_err *err);
void bl_engine_close(struct bl_engine *e);
/* 0 is BL_OK (unless work on the pool failed since); no memory is BL_NO_MEMORY ("GPU memory: 3.1 GiB asked for Hessians, 2.2 GiB free"), a lost device BL_NO_DEVICE, the rest BL_FAILED. */
enum bl_status bl_engine_check(struct bl_engine *e, int error, const char *doing, struct bl_err *err);
enum bl_status bl_engine_alloc(struct bl_engine *e, void **out, size_t bytes, const char *what, struct bl_err *err);
void bl_engine_release(struct bl_engine *e, void *p); /* NULL is fine */
uint64_t bl_engine_available(struct bl_engine *e);    /* bytes that alloc could still give, under the limit */

/* fn(arg, 0..n-1) on the engine's pool: what struct bk_solve takes; ctx: the engine. */
void bl_engine_parallel(void *engine, size_t n, bk_parallel_fn *fn, void *arg);

#endif
