/* SPDX-License-Identifier: Apache-2.0
 * The public interface of bitlathe's plugins, version 4 (plugins made for versions 1 to 3 are still taken). Self-contained: a plugin includes this header and nothing else of bitlathe,
 * is built as a shared object, and exports one symbol:
 *
 *     const struct bl_plugin_v1 *bl_plugin_v1(void);
 *
 * A plugin lists what it brings: methods (weights -> codes) and exporters (codes -> files). Everything it returns is constant and lives as
 * long as the object is loaded. All calls may come from several threads at once with different row ranges; plugins keep no state.
 * Functions that can fail return NULL on success or a static sentence on failure ("group size 48 is not supported").
 * Example of a whole plugin: plugins/methods/rtn/rtn.c. Build one outside the tree:
 *     cc -shared -fPIC -I<prefix>/include/bitlathe my.c -o ~/.local/share/bitlathe/plugins/my.so */
#ifndef BL_PLUGIN_API_H
#define BL_PLUGIN_API_H

#include <stddef.h>
#include <stdint.h>

#define BL_PLUGIN_API_VERSION 4

/* ---- parameters: rows that make forms, flags, recipe keys and help ---- */
enum bl_param_type { BL_PARAM_INT = 1, BL_PARAM_REAL, BL_PARAM_BOOL, BL_PARAM_CHOICE };
struct bl_param {
	const char *name;        /* "observer": lower_snake, the key in plans and recipes */
	enum bl_param_type type;
	const char *fallback;    /* default as text: "minmax", "0.01", "true" */
	double min, max;         /* INT, REAL: inclusive range */
	const char *choices;     /* CHOICE: "minmax|mse" */
	const char *sentence;    /* one sentence for help and forms */
};
/* Names that the host knows, in methods that see whole units: `inputs`, a choice "base|quantized": whose inputs the Hessian is of, the base model's or those of
 * the model as quantized up to the block (the host then solves the blocks in order); `qep_alpha`, a real: the weights that the method gets are moved by this part
 * of the way to those that make up best for what quantized inputs have lost; `token_weight`, a choice "same|rms": whether tokens count the same, or by the size of
 * what the linear makes of them where a norm follows (o, down): then by one over its mean square; `sparsity`, a real, and `mask_structure`, a choice of "n:m" where
 * 0:0 is none: how many weights become 0, which the export promises and the proof counts. */
/* Values in the order of the rows: number for INT/REAL/BOOL, index of the choice for CHOICE. */
typedef const double *bl_param_values;

/* ---- the grid that codes live on ---- */
enum bl_grid_number {
	BL_GRID_INT = 1,
	BL_GRID_E4M3 = 2,    /* with a group (version 3): one scale per square of group x group, `scales` says it for every row */
	/* since version 3; codes are the stored patterns */
	BL_GRID_E2M1 = 3,    /* 4-bit floats; group 32: scales are powers of two; group 16: E4M3 values over one number of the unit (bl_x_rows.global) */
	BL_GRID_NF4 = 4,     /* the 16 values of bitsandbytes; scales are the largest |w| of a group, float32 */
	BL_GRID_NF4_NESTED = 5, /* the same, and the scales are quantized again when they are written */
	BL_GRID_SCB = 6,     /* 8-bit integers in units of the row's largest |w| / 127, which is what `scales` holds, float32 */
	BL_GRID_FULL = 7,    /* since version 4: bfloat16 values that a method has changed; codes are their patterns (BL_DM_BF16), there are no scales */
	BL_GRID_MX_E4M3 = 8, /* E4M3 values in groups of 32 whose scales are powers of two */
	BL_GRID_BNB_FP4 = 9, /* as NF4, with the 16 values that bitsandbytes calls fp4 */
	BL_GRID_BNB_FP4_NESTED = 10,
};
enum bl_grid_act {
	BL_GRID_ACT_NONE = 0,
	BL_GRID_ACT_INT8_TOKEN = 1,
	BL_GRID_ACT_FP8_TOKEN = 2,
	/* since version 2: one scale for all tokens, bl_x_rows.input_scale */
	BL_GRID_ACT_INT8_TENSOR = 3,
	BL_GRID_ACT_FP8_TENSOR = 4,
	/* since version 3 */
	BL_GRID_ACT_FP8_GROUP = 5, /* dynamic, one scale per token and group of columns */
	BL_GRID_ACT_FP4_GROUP = 6, /* the same in 4-bit floats, in units of one number: bl_x_rows.input_scale */
};
struct bl_grid {
	uint32_t number;   /* enum bl_grid_number */
	uint32_t bits;     /* 2..8 */
	uint32_t symmetric;/* 1, or 0: one zero point per scale */
	uint32_t act;      /* enum bl_grid_act: what the server does with the input */
	int64_t group;     /* columns per scale; 0: one scale per row (channel); -1: one scale for the whole linear (version 2; exporters only) */
};

/* ---- what the host offers ---- */
enum bl_quotient { BL_QUOTIENT_BF16 = 0, BL_QUOTIENT_F32 = 1 };
struct bl_host {
	uint32_t size;  /* sizeof(struct bl_host) of the host: later versions append */
	void (*log)(int level, const char *text);
	/* All functions below work on n_rows rows of float32 weights [n_rows, cols], row-major; a row has
	 * spr = group ? cols/group : 1 scales. They are vectorised; nothing needs alignment. */

	/* lo/hi [n_rows, spr]: smallest and largest value of each group. */
	void (*range)(float *lo, float *hi, const float *w, int64_t n_rows, int64_t cols, const struct bl_grid *g);
	/* Scales and zero points from ranges times `shrink` (1: whole range), rounded to bfloat16 (the type they are stored in) exactly as
	 * compressed-tensors does; a zero range gives 2^-7. zeros may be NULL when symmetric; zeros are signed grid values. */
	void (*scales)(float *scales, int8_t *zeros, const float *lo, const float *hi, int64_t n, double shrink, const struct bl_grid *g);
	/* codes [n_rows, cols]: int: signed grid values; e4m3: the bytes. quotient: whether w/s is rounded to bfloat16 before it is
	 * clamped and rounded, as compressed-tensors on a CPU does. */
	void (*encode)(int8_t *codes, const float *w, const float *scales, const int8_t *zeros, int64_t n_rows, int64_t cols,
		       const struct bl_grid *g, enum bl_quotient quotient);
	/* w^ [n_rows, cols] = (code - zero) * scale, as float32 product. */
	void (*decode)(float *w_hat, const int8_t *codes, const float *scales, const int8_t *zeros, int64_t n_rows, int64_t cols,
		       const struct bl_grid *g);
	/* err [n_rows, spr]: sum over the group of |w - Q(w)|^norm for the given scales, without storing codes. */
	void (*error)(float *err, const float *w, const float *scales, const int8_t *zeros, int64_t n_rows, int64_t cols,
		      const struct bl_grid *g, enum bl_quotient quotient, double norm);
	/* Appends text to an output that the host handed in. */
	void (*text)(void *out, const char *text);
	/* since version 3: double quantization of n values as bitsandbytes does it; q [n], block_max [(n + 255) / 256], map: [256] the entries q stands for */
	void (*nest)(uint8_t *q, float *block_max, float *offset, const float **map, const float *values, int64_t n);
};

/* ---- the device (version 2): what a method that sees a whole unit works with ---- */
enum bl_dm_type { BL_DM_BF16 = 1, BL_DM_F32 = 3, BL_DM_CODES = 4 };
struct bl_dm { /* a matrix in the device's memory, row-major: never to be read or written by the plugin itself */
	void *p;
	int64_t rows, cols, ld;
	int type; /* enum bl_dm_type */
};
struct bl_scale_search { /* ranges (1 - (1 - least) * i / steps) of the whole range, i = 0 .. steps */
	double least;
	int steps;
	int full_range; /* integers: also absmax / 2^(bits-1), whose scales may be negative; E2M1: also absmax / 4 */
};
struct bl_prune { double ratio; int n, m; }; /* weights that become 0: `ratio` of all, or (m > 0; 2, 4, 8 or 16) n of every m columns */
/* Functions return NULL, or what went wrong, which the plugin hands on; everything may be called from one thread at a time. Vectors (scales [rows, spr] float32,
 * zeros [rows, spr] int8 or NULL, weight [cols] float32, order and group_of [cols] int32) lie in the device's memory too. */
struct bl_device {
	uint32_t size; /* sizeof(struct bl_device) of the host: later versions append */
	void *host;    /* handed back with every call */
	const char *(*alloc)(const struct bl_device *d, void **out, size_t bytes);
	void (*release)(const struct bl_device *d, void *p); /* what the plugin does not release is released after the call */
	const char *(*put)(const struct bl_device *d, void *to, const void *from, size_t bytes);
	const char *(*get)(const struct bl_device *d, void *to, const void *from, size_t bytes);
	const char *(*copy)(const struct bl_device *d, void *to, const void *from, size_t bytes);
	/* c = alpha op(a) op(b) + beta c, float32 */
	const char *(*gemm)(const struct bl_device *d, const struct bl_dm *c, const struct bl_dm *a, int ta, const struct bl_dm *b, int tb, float alpha, float beta);
	/* to = h with rows and columns in `order` (NULL: as they are), both triangles, `damp` added to the diagonal, where 0 becomes `dead` first. h: lower triangle counts. */
	const char *(*permute_sym)(const struct bl_device *d, const struct bl_dm *to, const struct bl_dm *h, const int32_t *order, double damp, double dead);
	/* h (both triangles) becomes R, upper, h = R R^T; *failed: it is not positive definite */
	const char *(*factor)(const struct bl_device *d, const struct bl_dm *h, int *failed);
	/* to[:, i] = from[:, order[i]]; back: to[:, order[i]] = from[:, i] */
	const char *(*permute_cols)(const struct bl_device *d, const struct bl_dm *to, const struct bl_dm *from, const int32_t *order, int back);
	const char *(*scale_search)(const struct bl_device *d, float *scales, int8_t *zeros, const struct bl_dm *w, const float *weight, const struct bl_grid *g,
				    const struct bl_scale_search *how);
	/* codes and e = w - w^ (may take w's place), column by column with feedback through R (kernels/solve/solve.h has the mathematics) */
	const char *(*round)(const struct bl_device *d, const struct bl_dm *codes, const struct bl_dm *e, const struct bl_dm *w, const struct bl_dm *r, const float *scales,
			     const int8_t *zeros, const int32_t *group_of, const struct bl_grid *g);
	/* coordinate descent on codes and e; h: both triangles */
	const char *(*descend)(const struct bl_device *d, const struct bl_dm *codes, const struct bl_dm *e, const struct bl_dm *h, const float *scales,
			       const int8_t *zeros, const struct bl_grid *g, int sweeps);
	/* the best scales for the codes; e follows */
	const char *(*refit)(const struct bl_device *d, float *scales, const struct bl_dm *e, const struct bl_dm *codes, const struct bl_dm *w, const struct bl_dm *h,
			     const int8_t *zeros, const struct bl_grid *g);
	const char *(*loss)(const struct bl_device *d, double *per_row_on_device, const struct bl_dm *e, const struct bl_dm *h);
	int (*cancelled)(const struct bl_device *d);
	/* scale_search by sum weight * |w - Q(w)|^norm (since 0.2: look at `size`) */
	const char *(*scale_search_norm)(const struct bl_device *d, float *scales, int8_t *zeros, const struct bl_dm *w, const float *weight, const struct bl_grid *g,
					 const struct bl_scale_search *how, double norm);
	/* since version 4; masks are matrices of codes, not 0 where a weight becomes 0 */
	/* SparseGPT: chooses by what each weight costs once those after it make up for it; e = w - what is left */
	const char *(*prune)(const struct bl_device *d, const struct bl_dm *mask, const struct bl_dm *e, const struct bl_dm *w, const struct bl_dm *r, const struct bl_prune *how);
	/* row by row the smallest |w| * weight[column] */
	const char *(*select)(const struct bl_device *d, const struct bl_dm *mask, const struct bl_dm *w, const float *weight, const struct bl_prune *how);
	/* round, with weights that stay 0 */
	const char *(*round_masked)(const struct bl_device *d, const struct bl_dm *codes, const struct bl_dm *e, const struct bl_dm *w, const struct bl_dm *r,
				    const float *scales, const int8_t *zeros, const int32_t *group_of, const struct bl_grid *g, const struct bl_dm *mask);
	/* since version 4 (kernels/solve/solve.h has the mathematics) */
	/* y := y (R R^T)^-1, r as factor made it */
	const char *(*solve_rows)(const struct bl_device *d, const struct bl_dm *y, const struct bl_dm *r);
	/* y += a x */
	const char *(*add_scaled)(const struct bl_device *d, const struct bl_dm *y, const struct bl_dm *x, float a);
	/* e = w - what codes, scales and zeros stand for; columns stand in the order of groups */
	const char *(*remainder)(const struct bl_device *d, const struct bl_dm *e, const struct bl_dm *w, const struct bl_dm *codes, const float *scales,
				 const int8_t *zeros, const struct bl_grid *g);
	/* to = g - h with rows and columns in `order` (NULL: as they are); both triangles of all of them */
	const char *(*difference)(const struct bl_device *d, const struct bl_dm *to, const struct bl_dm *g, const struct bl_dm *h, const int32_t *order);
	/* s, a square matrix C on entry, becomes a (C R^-T) above the diagonal and 0 elsewhere */
	const char *(*feed)(const struct bl_device *d, const struct bl_dm *s, const struct bl_dm *r, float a);
	/* round, where s and the values that were rounded, v (out, [rows, cols]), have a part in what each column goes to; first [rows] is rounded in the place of
	 * column 0. s with v, or first, may be NULL */
	const char *(*round_fed)(const struct bl_device *d, const struct bl_dm *codes, const struct bl_dm *e, const struct bl_dm *w, const struct bl_dm *r,
				 const float *scales, const int8_t *zeros, const int32_t *group_of, const struct bl_grid *g, const struct bl_dm *s, const struct bl_dm *v,
				 const float *first);
};

struct bl_method_unit { /* one call: all rows of what shares an input */
	const struct bl_host *host;
	const struct bl_device *device;
	const char *module;
	struct bl_grid grid;
	const double *params;
	int64_t rows, cols, tokens;
	struct bl_dm w;              /* float32, finite; stays as it is */
	struct bl_dm h;              /* sum x x^T over the tokens; lower triangle counts; stays as it is */
	const float *h_diagonal;     /* [cols], host memory; finite, >= 0 */
	struct bl_dm codes;          /* out */
	float *scales;               /* out [rows, spr] */
	int8_t *zeros;               /* out [rows, spr]; NULL when symmetric */
	/* A sentence for the report: what was not done as asked ("damping raised to 0.04"). Copied. */
	void (*report)(void *ctx, const char *sentence);
	void *ctx;
	/* since version 3: out, [cols], host memory, when columns belong to groups by an index and not by their place; else NULL */
	int32_t *group_of;
	/* since version 4: the linears whose rows these are, one after the other */
	const int64_t *part_rows;
	int n_parts;
	/* since version 4: of methods with BL_METHOD_CROSS sum x y^T, x the inputs of the base model and y those that h is of, whose both triangles then count; it
	 * stays as it is. p is NULL for others. */
	struct bl_dm cross;
};

/* ---- methods that train (version 3): the host runs the loop, the method says how. A weight is scale * (rne(w / (scale * f) + v) - zero): codes follow from
 * offsets v [rows, cols] and factors f [rows, spr] that are trained; gradients pass straight through roundings (of inputs too, where the server rounds them).
 * All units of a plan with such a method are trained in one go and must have the same method and parameters. ---- */
enum bl_tuning_scope {
	BL_TUNING_BLOCK = 1, /* block by block: mean square difference from the full-precision block's output on the full-precision input */
	BL_TUNING_MODEL = 2, /* end to end: KL divergence from the base model's next-token distribution */
};
enum bl_tuning_start {
	BL_TUNING_RANGE = 1, /* rounding to nearest, scale = the largest weight / 2^(bits-1), of the other sign than that weight (symmetric grids of integers only) */
	BL_TUNING_SCALES = 2, /* rounding to nearest with the scales that start_method finds */
	BL_TUNING_CODES = 3, /* what start_method finds: v is set so that its codes come out, as near to the weights as that allows */
};
enum bl_tuning_step { BL_TUNING_SIGN = 1, BL_TUNING_ADAM = 2 };
struct bl_tuning {
	uint32_t size;             /* sizeof(struct bl_tuning) of the host: later versions append */
	uint32_t scope, start, step;
	char start_method[32];     /* one that solves whole units */
	char start_params[200];
	double offset_rate, factor_rate; /* learning rates of v and f at first; they fall to 0 in a straight line */
	double offset_growth;      /* of v's rate: times 2^(offset_growth * (bits - 4)) above 4 bits, where the grid's steps are short */
	double factor_least, factor_most; /* f stays within */
	double beta1, beta2;       /* ADAM */
	int64_t windows;           /* of the calibration, at most so many; 0: all */
	int64_t batch;             /* windows in a step */
	int64_t iterations;        /* BLOCK: steps for each block */
	double epochs;             /* MODEL: how often the windows are passed through */
	double held_out;           /* MODEL: part of the windows that is never trained on and decides which state is kept; 0: the last state is */
	int64_t looks;             /* MODEL: how often it is looked at, beside the start, in each try */
	int64_t tries;             /* MODEL: so many runs from the start, with rates times 1, try_factor, 1 / try_factor, try_factor^2 ...; needs held-out windows */
	double try_factor;
	uint32_t quantized_inputs; /* BLOCK: a block's input is what the quantized blocks before it give; else what those in full precision give */
	uint64_t seed;             /* of the order of windows */
	int64_t pieces;            /* MODEL: a window in a step is put together from 1 .. so many pieces of windows (drawn for each), since what is trained
	                              towards is computed and need not be text that occurs; 0 and 1: windows as they are */
	double noise;              /* MODEL: part of the tokens that is replaced by others from the windows */
	double features;           /* MODEL: weight of the relative square differences of the blocks' outputs (their mean) beside the divergence */
};

/* ---- methods ---- */
enum bl_method_flag {
	/* of methods that see whole units: they weigh the inputs of the base model against those of the model as quantized up to the block, and get
	 * bl_method_unit.cross; h is of the latter, and the host solves the blocks in order */
	BL_METHOD_CROSS = 1,
};
struct bl_method_rows { /* one call: a range of rows of one linear */
	const struct bl_host *host;
	const char *module;          /* name, for messages */
	struct bl_grid grid;
	bl_param_values params;
	int64_t n_rows, cols;
	const float *w;              /* [n_rows, cols], finite */
	void *scratch;               /* scratch_bytes() of it, 64-byte aligned, uninitialised */
	int8_t *codes;               /* out [n_rows, cols] */
	float *scales;               /* out [n_rows, spr], values representable in bfloat16 */
	int8_t *zeros;               /* out [n_rows, spr]; NULL when symmetric */
};
struct bl_method {
	const char *name;            /* "rtn" */
	const char *sentence;
	const struct bl_param *params;
	int n_params;
	/* NULL, or why this grid cannot be solved by it. */
	const char *(*refuses)(const struct bl_grid *g, int64_t rows, int64_t cols);
	size_t (*scratch_bytes)(const struct bl_grid *g, int64_t n_rows, int64_t cols);
	/* Rows are independent: any split of a linear into row ranges must give the same bytes. */
	const char *(*solve_rows)(const struct bl_method_rows *call);
	/* version 2; a method has one of solve_rows, solve_unit (which needs a calibration with Hessians) and tuning. */
	const char *(*solve_unit)(const struct bl_method_unit *call);
	/* version 3; the same for all units. Fields not set are 0. */
	const char *(*tuning)(struct bl_tuning *out, bl_param_values params);
	uint32_t flags; /* version 4: enum bl_method_flag */
};

/* ---- exporters ---- */
enum bl_x_flag { /* since version 3 */
	BL_X_ORDERED = 1,            /* columns belong to groups by an index: bl_x_rows.group_of */
	BL_X_SCALE_F16 = 2,          /* scales are exact in float16 and not in bfloat16: a checkpoint that is converted */
	BL_X_SCALE_F32 = 4,          /* … only in float32 */
	BL_X_SCALE_NOT_F16 = 16,     /* … some are not exact in float16 */
	BL_X_EXACT = 8,              /* converted: whatever is not exactly representable has to be refused */
};
#define BL_X_WHOLE (-1)              /* rows_per_step, since version 3: packed in one call from all rows (row0 0, n rows) */
struct bl_x_module {
	const char *name;            /* "model.layers.0.mlp.down_proj" */
	const char *unit;            /* "model.layers.0.mlp.down_proj" or the fused name */
	int64_t rows, cols;
	int quantized;               /* 0: stays in full precision (grid unused) */
	uint32_t flags;              /* since version 3: enum bl_x_flag */
	struct bl_grid grid;
	const char *method;          /* "rtn" */
	const char *observer;        /* "minmax", "mse": informative text for the config; may be NULL */
};
struct bl_x_tensor {
	char suffix[48];             /* "weight_scale": stored as NAME.suffix (32 bytes before version 3: struct bl_x_tensor_v2) */
	char dtype[12];              /* safetensors spelling: "I8", "BF16" */
	int rank;
	int64_t shape[4];
	int64_t rows_per_step;       /* rows of the linear that make one step of the tensor; 0: independent of rows, packed in one call; or BL_X_WHOLE */
	int64_t bytes_per_step;      /* bytes of the tensor per step (rows_per_step > 0) */
};
struct bl_x_tensor_v2 { char suffix[32]; char dtype[12]; int rank; int64_t shape[4]; int64_t rows_per_step, bytes_per_step; };
struct bl_x_rows {               /* solved rows row0 .. row0+n; row0 is a multiple of 64, n too except at the end */
	int64_t row0, n;
	const int8_t *codes;
	const float *scales;         /* one per row and group; with group -1 one per row, all equal */
	const int8_t *zeros;
	float input_scale;           /* since version 2: of a static activation, > 0 (shared by the parts of a unit); else 0 */
	/* since version 3 */
	float global;                /* E2M1 in groups of 16: what `scales` were divided by; else 0 */
	const int32_t *group_of;     /* [cols] with BL_X_ORDERED, else NULL */
	const struct bl_host *host;
};
struct bl_x_plan {
	const struct bl_x_module *modules; /* every linear of the model in file order, quantized or not */
	int64_t n_modules;
	const char *const *keep;     /* further linears that stay in full precision ("lm_head") */
	int n_keep;
	const char *tool;            /* "bitlathe 0.1.0" */
};
struct bl_exporter {
	const char *name;            /* "compressed-tensors" */
	const char *sentence;
	/* NULL, or why a module cannot be written in this format. */
	const char *(*refuses)(const struct bl_x_module *m);
	/* Tensors of a quantized module; returns how many (<= cap). */
	int (*tensors)(const struct bl_x_module *m, struct bl_x_tensor *out, int cap);
	/* The bytes of tensor number t for these rows: ceil(n / rows_per_step) * bytes_per_step bytes (whole tensor when rows_per_step is 0 or BL_X_WHOLE). */
	const char *(*pack)(const struct bl_x_module *m, int t, const struct bl_x_rows *rows, void *dst);
	/* Writes the JSON object for config.json's key "quantization_config" (nothing when no module is quantized). */
	const char *(*config)(const struct bl_x_plan *plan, const struct bl_host *host, void *out);
	/* Names the overall format for people and the recipe: "int-quantized", "mixed-precision"; "" when nothing is quantized. */
	const char *(*format)(const struct bl_x_plan *plan);
};

struct bl_plugin_v1 { /* this struct stays as in version 1; api_version says which fields the others have */
	uint32_t api_version;        /* BL_PLUGIN_API_VERSION */
	const char *name, *version, *sentence;
	const struct bl_method *const *methods;     /* NULL-terminated, or NULL */
	const struct bl_exporter *const *exporters; /* NULL-terminated, or NULL */
};

#define BL_PLUGIN_EXPORT __attribute__((visibility("default")))
const struct bl_plugin_v1 *bl_plugin_v1(void);

#endif
