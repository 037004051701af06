/* SPDX-License-Identifier: Apache-2.0
 * The public interface of bitlathe's plugins, version 2 (plugins made for version 1 are still taken). Self-contained: a plugin includes this header and nothing else of bitlathe,
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

#define BL_PLUGIN_API_VERSION 2

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
/* Values in the order of the rows: number for INT/REAL/BOOL, index of the choice for CHOICE. */
typedef const double *bl_param_values;

/* ---- the grid that codes live on ---- */
enum bl_grid_number { BL_GRID_INT = 1, BL_GRID_E4M3 = 2 };
enum bl_grid_act {
	BL_GRID_ACT_NONE = 0,
	BL_GRID_ACT_INT8_TOKEN = 1,
	BL_GRID_ACT_FP8_TOKEN = 2,
	/* since version 2: one scale for all tokens, bl_x_rows.input_scale */
	BL_GRID_ACT_INT8_TENSOR = 3,
	BL_GRID_ACT_FP8_TENSOR = 4,
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
};

/* ---- methods ---- */
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
};

/* ---- exporters ---- */
struct bl_x_module {
	const char *name;            /* "model.layers.0.mlp.down_proj" */
	const char *unit;            /* "model.layers.0.mlp.down_proj" or the fused name */
	int64_t rows, cols;
	int quantized;               /* 0: stays in full precision (grid unused) */
	struct bl_grid grid;
	const char *method;          /* "rtn" */
	const char *observer;        /* "minmax", "mse": informative text for the config; may be NULL */
};
struct bl_x_tensor {
	char suffix[32];             /* "weight_scale": stored as NAME.suffix */
	char dtype[12];              /* safetensors spelling: "I8", "BF16" */
	int rank;
	int64_t shape[4];
	int64_t rows_per_step;       /* rows of the linear that make one step of the tensor; 0: independent of rows, packed in one call */
	int64_t bytes_per_step;      /* bytes of the tensor per step (rows_per_step > 0) */
};
struct bl_x_rows {               /* solved rows row0 .. row0+n; row0 is a multiple of 64, n too except at the end */
	int64_t row0, n;
	const int8_t *codes;
	const float *scales;         /* one per row and group; with group -1 one per row, all equal */
	const int8_t *zeros;
	float input_scale;           /* since version 2: of a static activation, > 0 (shared by the parts of a unit); else 0 */
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
	/* The bytes of tensor number t for these rows: ceil(n / rows_per_step) * bytes_per_step bytes (whole tensor when rows_per_step is 0). */
	const char *(*pack)(const struct bl_x_module *m, int t, const struct bl_x_rows *rows, void *dst);
	/* Writes the JSON object for config.json's key "quantization_config" (nothing when no module is quantized). */
	const char *(*config)(const struct bl_x_plan *plan, const struct bl_host *host, void *out);
	/* Names the overall format for people and the recipe: "int-quantized", "mixed-precision"; "" when nothing is quantized. */
	const char *(*format)(const struct bl_x_plan *plan);
};

struct bl_plugin_v1 {
	uint32_t api_version;        /* BL_PLUGIN_API_VERSION: what the plugin was made for */
	const char *name, *version, *sentence;
	const struct bl_method *const *methods;     /* NULL-terminated, or NULL */
	const struct bl_exporter *const *exporters; /* NULL-terminated, or NULL */
};

#define BL_PLUGIN_EXPORT __attribute__((visibility("default")))
const struct bl_plugin_v1 *bl_plugin_v1(void);

#endif
