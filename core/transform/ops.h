/* SPDX-License-Identifier: Apache-2.0
 * What a stage does to one pair of one block, as operations on the pair's channels (vo: those of the key-value heads; updown: the FFN's neurons; norms: the
 * residual's), and their effect on everything that has such channels: rows that make them, columns that read them, Hessians and ranges of the reader's input.
 * With x the reader's input before and x' after: scale x'_c = mul_c x_c; order x'_c = x_from(c); hadamard x' = H x / sqrt(d) inside each head. */
#ifndef BL_TRANSFORM_OPS_H
#define BL_TRANSFORM_OPS_H

#include "core/calib/calib.h"
#include "core/model/model.h"

enum bl_op_kind { BL_OP_SCALE, BL_OP_ORDER, BL_OP_HADAMARD };
struct bl_op {
	enum bl_op_kind kind;
	enum bl_fold_pair pair;
	float *mul;    /* [n] SCALE */
	int32_t *from; /* [n] ORDER; inside a head for vo */
};
struct bl_ops { struct bl_op *at; int n; size_t cap; };
void bl_ops_free(struct bl_ops *o);
struct bl_op *bl_ops_add(struct bl_ops *o, enum bl_op_kind kind, enum bl_fold_pair pair, int64_t n); /* with room for its numbers; valid until the next */

/* The channels of a pair in a model, and the unit that reads them. */
struct bl_channels {
	enum bl_fold_pair pair;
	int64_t n;      /* channels */
	int64_t head;   /* of how many channels a head is; 0: there are no heads */
	int64_t copies; /* columns of the reader that are one channel: query heads per key-value head */
	enum bl_unit_kind reader;
};
struct bl_channels bl_channels_of(const struct bl_model *m, enum bl_fold_pair pair);
/* Column j of the reader is this channel. */
static inline int64_t bl_channel_of(const struct bl_channels *c, int64_t j)
{
	return c->head ? j / c->head / c->copies * c->head + j % c->head : j;
}
/* The pair whose channels a unit reads; false: none. */
bool bl_pair_read_by(const struct bl_model *m, enum bl_unit_kind k, enum bl_fold_pair *pair);

/* A row of the reader (its columns), in place; tmp: as long. */
void bl_ops_reader_row(const struct bl_ops *o, const struct bl_channels *c, float *row, float *tmp, int64_t cols);
/* Row i of the makers afterwards is *mul times row *from before (no hadamard among the operations of the pair; scaled: the makers follow scales, else orders alone). */
void bl_ops_maker_row(const struct bl_ops *o, const struct bl_channels *c, int64_t i, bool scaled, int64_t *from, double *mul);
/* The rows of one head of v, [head, cols], in place. tmp: the same. */
void bl_ops_maker_head(const struct bl_ops *o, const struct bl_channels *c, int64_t head, float *rows, float *tmp, int64_t cols);
bool bl_ops_touch(const struct bl_ops *o, enum bl_fold_pair pair); /* any operation of the pair */
bool bl_ops_mix(const struct bl_ops *o, enum bl_fold_pair pair);   /* a hadamard */
bool bl_ops_reorder(const struct bl_ops *o, enum bl_fold_pair pair);
/* Input j of the reader afterwards is mul[j] times input from[j] before; false: it is a mixture. [cols] each. */
bool bl_ops_columns(const struct bl_ops *o, const struct bl_channels *c, int64_t *from, float *mul, int64_t cols);
/* h [cols, cols], both triangles, in place; tmp [cols, cols] */
void bl_ops_hessian(const struct bl_ops *o, const struct bl_channels *c, float *h, float *tmp, int64_t cols);
/* channel vectors of the reader's input, [cols], in place; false: not known any more (after a hadamard). mean: with sign; squares: mean squares. */
bool bl_ops_absmax(const struct bl_ops *o, const struct bl_channels *c, float *absmax, int64_t cols);
bool bl_ops_moments(const struct bl_ops *o, const struct bl_channels *c, double *mean, double *rms, int64_t cols);

#endif
