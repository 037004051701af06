/* SPDX-License-Identifier: Apache-2.0
 * Inside of the transforms: the reader of a pair as a stage finds it, and how stages come to their numbers. */
#ifndef BL_TRANSFORM_PRIVATE_H
#define BL_TRANSFORM_PRIVATE_H

#include "core/transform/fold.h"
#include "core/transform/ops.h"
#include "core/transform/stages.h"

struct fold_sample { float *x; int64_t tokens, cols; }; /* inputs of a unit [tokens, cols]; x NULL: none */

struct fold_block { /* one block on its way through the stages */
	const struct bl_model *m;
	const struct bl_calib *calib;            /* NULL: no stage needs one */
	int block;
	struct fold_sample sample[BL_UNIT_KIND_COUNT]; /* for searches, before any stage */
	struct bl_ops *ops;
};
/* Appends the stage's operations to the block's. */
enum bl_status fold_stage(struct fold_block *b, const struct bl_stage *s, struct bl_err *err);

struct fold_reader { /* weights and inputs of a pair's reader after the operations so far */
	struct bl_channels c;
	const struct bl_unit *u;
	int64_t cols;
	float *absmax, *energy; /* [cols] of the input: largest value, mean square */
	float *wmax, *wsum;     /* [cols] of the weights: largest value, sum of squares; over all rows */
	float *w; int64_t rows; /* some rows [rows, cols], evenly spread */
	float *x; int64_t tokens; /* samples [tokens, cols]; NULL: none */
	float *by_column;         /* the same, [cols, tokens] */
	float *weight;          /* [tokens], mean 1: what an error at a token counts; where a norm divides by the size of the output, the inverse of that */
};
/* most_rows: how many rows are kept in w (0: none). */
enum bl_status fold_reader_open(struct fold_reader *r, const struct fold_block *b, enum bl_fold_pair pair, int64_t most_rows, struct bl_err *err);
void fold_reader_free(struct fold_reader *r);

/* search.c: factors s [channels] by which columns of the reader are multiplied (inputs are divided by them). */
struct fold_goal { int bits; int64_t group; int activations; bool pow2; }; /* activations: 0 per token, 1 one scale, 2 not rounded */
void fold_start(double *s, const struct fold_reader *r, double alpha);       /* SmoothQuant's formula */
double fold_search_alpha(double *s, const struct fold_reader *r, const struct fold_goal *g);   /* the best of its alphas; returns that */
void fold_search_channels(double *s, const struct fold_reader *r, const struct fold_goal *g);  /* goes on from s */
double fold_loss(const double *s, const struct fold_reader *r, const struct fold_goal *g);     /* mean square of the output error to expect */
void fold_finish(double *s, int64_t n, bool pow2);                            /* about 1, representable, powers of two when asked */

/* awq.c */
enum bl_status fold_awq(double *s, const struct fold_block *b, const struct fold_reader *r, const struct bl_stage *st, struct bl_err *err);

/* A row of a tensor as float32. */
void fold_load_row(float *out, const struct bl_tensor *t, int64_t row, int64_t cols);

#endif
