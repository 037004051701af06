/* SPDX-License-Identifier: Apache-2.0
 * A tuning run, for its files. */
#ifndef BL_TUNE_PRIVATE_H
#define BL_TUNE_PRIVATE_H

#include "core/base/mem.h"
#include "core/forward/tape.h"
#include "core/tune/tune.h"

struct tune_state { /* of a unit; everything in the run's memory */
	int unit;
	bool tuned, offsets;              /* offsets: there is a v (integers) */
	float growth;                     /* of v's rate */
	int64_t rows, cols, spr;
	struct bk_grid grid;
	enum bl_weights_act act;
	float input_scale;
	struct bk_mat w;                  /* BF16 or F32, members one after the other; not tuned: what it computes with */
	struct bk_mat full;               /* of a unit that computes with something fixed: its own weights (MODEL) */
	float *v, *v1, *v2;               /* [rows, cols]: offsets and their moments (ADAM) */
	float *base, *factor, *f1, *f2;   /* [rows, spr]: scale = base * factor */
	float *scale, *dscale;
	int8_t *zero, *best;              /* best: codes [rows, cols] */
	float *best_scale;
	void *own;                        /* all of them but w */
};

struct tune {
	const struct bl_tune_request *rq;
	const struct bl_tuning *how;
	struct bl_engine *e;
	struct bl_forward *f;
	const struct bl_model *m;
	struct bl_tape *tape;
	struct tune_state *states;        /* [n_units] */
	int dtype;
	int64_t windows, batch, tokens, hidden;
	void *w_hat[BL_UNIT_KIND_COUNT];  /* the block that computes */
	int64_t step;                     /* from 1 */
	float offset_rate, factor_rate;   /* now */
	uint64_t start_ns;
	int together;                     /* units that are trained since then */
	char report[200];                 /* of all units */
};

#define TUNE_OP(t, err, doing, call) bl_engine_check((t)->e, (t)->e->ops->call, doing, err)
#define TUNE_GRAD(t, err, doing, call) bl_engine_check((t)->e, (t)->e->grad->call, doing, err)

/* state.c */
enum bl_status tune_state_open(struct tune *t, int unit, struct bl_err *err); /* weights, and the start of what is trained, which is the best so far */
enum bl_status tune_state_restart(struct tune *t, int unit, struct bl_err *err); /* what is trained is as at the start; the best stays */
void tune_state_close(struct tune *t, int unit);
/* What the block's units multiply with: as they are now, or (best) as they were when last kept. */
enum bl_status tune_weights(struct tune *t, int block, bool best, struct bl_tape_weight w[BL_UNIT_KIND_COUNT], struct bl_err *err);
/* The base model's. */
enum bl_status tune_base_weights(struct tune *t, int block, struct bl_tape_weight w[BL_UNIT_KIND_COUNT], struct bl_err *err);
enum bl_status tune_keep(struct tune *t, int unit, struct bl_err *err);       /* what it is now is the best */
/* A sink's functions, ctx: the run. The gradient becomes a step at once. */
bool tune_wants(void *ctx, int unit);
enum bl_status tune_step(void *ctx, int unit, const struct bk_mat *g, struct bl_err *err);

/* result.c */
enum bl_status tune_result(struct tune *t, int unit, struct bl_err *err);     /* the best, handed to `done` */

/* start.c */
enum bl_status tune_start(struct tune *t, struct tune_state *s, float *base, int8_t *zero, float *v, struct bl_err *err); /* host memory; v NULL: none */

/* block.c, model.c */
enum bl_status tune_blocks(struct tune *t, struct bl_err *err);
enum bl_status tune_model(struct tune *t, struct bl_err *err);

static inline struct bk_mat tune_mat(void *p, int64_t rows, int64_t cols, int dtype) { return (struct bk_mat){ p, rows, cols, cols, dtype }; }
static inline bool tune_cancelled(const struct tune *t) { return t->rq->cancel && atomic_load(t->rq->cancel); }

/* The windows in a seeded order, over and over. */
struct tune_order { int64_t *of, n, at; uint64_t state[4]; };
void tune_order_init(struct tune_order *o, const int64_t *windows, int64_t n, uint64_t seed);
int64_t tune_order_next(struct tune_order *o);
uint64_t tune_order_draw(struct tune_order *o, uint64_t below); /* a number from the same generator */
void tune_order_free(struct tune_order *o);

#endif
