/* SPDX-License-Identifier: Apache-2.0
 * Many units one after the other, with everything that is not solving beside it: a thread ahead finds and checks what the next ones need, their weights and
 * Hessians come up while one is solved (when the device has room), and writers take what came out to where it goes. */
#ifndef BL_SOLVE_BATCH_H
#define BL_SOLVE_BATCH_H

#include "core/solve/solve.h"

struct bl_solve_seconds { /* of the thread that solves, but for `files` */
	double total;
	double prepare; /* waited for the thread ahead */
	double moments; /* in bl_solve_batch.moments */
	double up;      /* waited for copies to the device, and looked at what came */
	double solve;   /* until codes and error were back */
	double out;     /* waited for writers */
	double files;   /* writers at work, all of them together */
	int units;
};

struct bl_solve_batch {
	struct bl_engine *e;
	size_t n;
	size_t host_bytes; /* at least bl_solve_host_bytes of every unit */
	enum bl_status (*prepare)(void *ctx, size_t i, struct bl_solve_request *rq, struct bl_err *err); /* on the thread ahead, in order */
	/* On the caller's thread, before a request's copies start: fills what lies on the device (h_device, cross_device), which stays until another block's is asked
	 * for. early: while another unit waits to be solved; what cannot be had then stays NULL. The member may be NULL: Hessians come from the host. */
	enum bl_status (*moments)(void *ctx, size_t i, struct bl_solve_request *rq, bool early, struct bl_err *err);
	enum bl_status (*done)(void *ctx, size_t i, const struct bl_solved *s, struct bl_err *err);      /* on a writer's thread; s lives during the call */
	bool (*stop)(void *ctx);                                                                      /* between units, on the caller's thread; may be NULL */
	void *ctx;
};
/* The first error ends it; what was solved before has been handed on. */
enum bl_status bl_solve_many(const struct bl_solve_batch *b, struct bl_solve_seconds *seconds, struct bl_err *err);

#endif
