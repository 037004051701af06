/* SPDX-License-Identifier: Apache-2.0
 * What an export consists of, before anything is written: files with their exact sizes, the tensors in each, and where every byte
 * comes from. */
#ifndef BL_EXPORT_LAYOUT_H
#define BL_EXPORT_LAYOUT_H

#include "core/export/export.h"
#include "core/format/format.h"
#include "core/plugin/method_run.h"

struct bl_out_module { /* one linear */
	const struct bl_member *member;
	const struct bl_unit *unit;
	struct bl_x_module x;
	struct bl_x_tensor tensors[8];
	int n_tensors;
	int64_t tensor_at[8];        /* index into bl_layout.tensors */
	int solver;                  /* index into bl_layout.solvers, -1: full precision, or solved */
	const struct bl_solved *solved; /* of the unit, for methods that solve whole units; NULL with solver -1 and x.quantized: not solved yet */
	int64_t row0;                /* of the member within the unit */
	float input_scale;           /* static activations, else 0 */
	const struct bl_linear *coded; /* of a quantized source that is written in another format, else NULL */
	struct bl_tensor pruned;     /* in full precision, with other values than on disk: those; data NULL: as on disk, or not solved yet */
	bool whole;                  /* some tensor is packed from all rows at once */
};

struct bl_out_tensor {
	struct bl_tensor t;          /* name, dtype, shape; offset within its file */
	const struct bl_tensor *copy;/* bytes as they are on disk, or NULL */
	int64_t module;              /* -1 for copies */
	int which;                   /* tensor number within the module */
	int file;                    /* index into bl_layout.files */
	char *own_name;              /* t.name when it was made here */
};

struct bl_out_file {
	char *name;
	uint64_t bytes;
	struct bl_str head;          /* safetensors header, or the whole text of a small file */
	bool weights;
};

struct bl_layout {
	struct bl_out_module *modules; int64_t n_modules;
	struct bl_out_tensor *tensors; int64_t n_tensors;
	struct bl_out_file *files; int n_files;
	struct bl_solver *solvers; int n_solvers;
	struct bl_source *source;    /* the checkpoint is quantized and converted; else NULL */
	int n_unsolved;              /* units */
	struct bl_x_plan plan;
	struct bl_x_module *plan_modules;
	char format[64];
	struct bl_str edits;         /* of config.json, one a line */
	uint64_t bytes_total;
	char tool[64];
};

enum bl_status bl_layout_make(struct bl_layout *l, const struct bl_export_request *rq, struct bl_err *err);
void bl_layout_free(struct bl_layout *l);
/* What is written where the source has t: itself, or the values that pruning gave it. */
const struct bl_tensor *bl_layout_values(const struct bl_layout *l, const struct bl_tensor *t);

#endif
