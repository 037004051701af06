/* SPDX-License-Identifier: Apache-2.0
 * Quantized checkpoints, read: which linears are stored in which scheme, which tensors that takes, and their codes, scales and zero points as values on
 * our grids, whatever the packing. One row of a table per quant_method (format.c); a new format is one row and one file. Everything here is a
 * stranger's data: types, shapes and contents that later steps trust are checked first, and named with their file when they are wrong.
 * Shares no code with the exporters, so that a proof is one. */
#ifndef BL_FORMAT_FORMAT_H
#define BL_FORMAT_FORMAT_H

#include <stdbool.h>

#include "core/base/json.h"
#include "core/format/ct_config.h"
#include "core/model/model.h"
#include "core/scheme/codec.h"

#define BL_WANTS_MAX 8

struct bl_want { /* a tensor that the format promises for a linear */
	char suffix[48];         /* below the linear's name: "weight_scale" */
	char dtypes[24];         /* "BF16 F16 F32" */
	int rank;
	int64_t shape[2];        /* -1: any */
	bool optional;
};
bool bl_dtype_fits(const char *dtypes, const char *dtype); /* dtypes: names, spaces between them */
bool bl_want_shape_fits(const struct bl_want *w, const struct bl_tensor *t);

struct bl_format;
struct bl_linear { /* a linear as a checkpoint stores it */
	const struct bl_member *member;
	const struct bl_format *format;      /* NULL: full precision */
	char name[40];                       /* of the format, for people: "pack-quantized", "gptq" */
	bool understood;                     /* its numbers can be read here */
	const char *why;                     /* static: why not */
	struct bl_scheme scheme;             /* when understood */
	int group_no;                        /* compressed-tensors: the config group; else 0 */
	struct bl_want want[BL_WANTS_MAX]; int n_want;
	const struct bl_tensor *part[BL_WANTS_MAX]; /* in the order of want; filled by bl_linear_bind */
	bool zeros_off_by_one;               /* GPTQ v1: stored zero points are one too small */
	float offset;                        /* NF4_DQ: the mean of the scales */
};

struct bl_quant { /* quantization_config, understood; borrows from the model */
	const struct bl_model *m;
	const struct bl_format *format;
	const cJSON *config;
	struct bl_ct_config ct;              /* compressed-tensors only */
};
/* BL_UNSUPPORTED: no such quant_method is known; BL_INVALID: its config is wrong. The model must be quantized and outlive the result. */
enum bl_status bl_quant_open(struct bl_quant *q, const struct bl_model *m, struct bl_err *err);
void bl_quant_close(struct bl_quant *q);
const char *bl_quant_method(const struct bl_quant *q); /* the row's: "gptq" */

/* What the config says of a linear: format, scheme, promised tensors. Nothing is read. */
void bl_linear_describe(struct bl_linear *l, const struct bl_quant *q, const struct bl_member *m);
/* Finds the promised tensors; the first one that is missing, of another type or shape is BL_INVALID, with its file. */
enum bl_status bl_linear_bind(struct bl_linear *l, const struct bl_model *m, struct bl_err *err);
/* Looks into the small ones: an index of groups, a table, a shape that is stored. Only of an understood and bound one; reads the map, so run it guarded. */
enum bl_status bl_linear_check(struct bl_linear *l, const struct bl_model *m, struct bl_err *err);
/* Codes [n, cols], scales [n, spr] as a client has them, zeros [n, spr] (not touched when symmetric) of rows row0 .. row0 + n. After bl_linear_check; reads the map. */
void bl_linear_rows(const struct bl_linear *l, int64_t row0, int64_t n, int8_t *codes, float *scales, int8_t *zeros);
/* The group of each column, or NULL: by its place. */
const struct bl_tensor *bl_linear_order(const struct bl_linear *l);
float bl_linear_global(const struct bl_linear *l); /* NVFP4: the number its scales are in units of; else 0 */
float bl_linear_input(const struct bl_linear *l);  /* stored scale of static inputs; else 0 */

/* ---- a whole checkpoint ---- */

struct bl_source { const struct bl_model *m; struct bl_quant q; struct bl_linear *linears; int n; int *first; /* [units] index of its first linear */ };
/* strict: every quantized linear is understood and its tensors are right, else an error that says which is not. Not strict: described only. */
enum bl_status bl_source_open(struct bl_source **out, const struct bl_model *m, bool strict, struct bl_err *err);
void bl_source_close(struct bl_source *s);
const struct bl_linear *bl_source_linear(const struct bl_source *s, int unit, int member);
/* False when its parts differ, or one is not understood. */
bool bl_source_scheme(const struct bl_source *s, int unit, struct bl_scheme *out);

#endif
