/* SPDX-License-Identifier: Apache-2.0
 * What the passes of weight statistics share: tiles, accumulators, moments. */
#ifndef BL_STATS_PRIVATE_H
#define BL_STATS_PRIVATE_H

#include <pthread.h>
#include <stdbool.h>

#include "core/backend/backend.h"
#include "core/stats/weight_stats.h"

#define TILE_ELEMS (1 << 17)
#define FEW_ELEMS  (1 << 13)  /* rows looked at together: in the first-level cache */
#define PATTERNS   65536
#define FLUSH_AT   (1u << 31) /* elements in a 32-bit table before it is emptied into the 64-bit one */
#define TOP_MIN    (-121)     /* what the kernels ask for */
#define OUTLIER_RMS 6.0
#define MIDDLE     (BL_STATS_BINS / 2)
#define OCTAVES    5          /* MIDDLE is 2^5: below absmax / 2^5 are the two bins of the middle */

struct tile { int member; int64_t row0, n, at; }; /* at: row within the unit */

struct slot { /* accumulators that one tile at a time has for itself */
	struct slot *next, *all;
	uint32_t *counts;      /* 16-bit path: of patterns in lists */
	uint16_t *list;        /* [few rows] */
	uint16_t low, most;    /* smallest and largest pattern from which lists began; 0: everything is counted */
	uint64_t n_counted;    /* since the last flush */
	uint64_t below;        /* elements below zero */
	uint64_t n_above;      /* outliers */
	uint16_t *col16;
	float *col32, *rows32; /* float32 path; rows32: converted rows of a 16-bit member */
	uint32_t *list32;
	uint64_t bins[BL_STATS_BINS + 1]; /* the last: not finite */
	struct bk_extremes ends;
};

struct run {
	const struct bl_unit *u;
	struct bl_weight_stats *s;
	struct tile *tiles;
	size_t n_tiles;
	bool narrow;           /* all members share one 16-bit type */
	enum bk_dtype dtype;   /* that type, or float32 */
	uint16_t inf, octave;  /* patterns */
	atomic_uint top;       /* largest pattern without sign so far */
	uint16_t *row16, *col16; /* [rows], [cols] */
	uint64_t *totals;      /* [PATTERNS] */
	struct value { float v; uint32_t pattern; double n; } *values; /* [n_values] counted ones: not below zero by size, then below zero by size */
	size_t n_values;
	uint16_t low, most;
	uint64_t below;
	double (*sums)[4];     /* [n_tiles] sums of powers */
	struct bk_central *central; /* [n_tiles], when that pass is needed */
	pthread_mutex_t lock;
	struct slot *idle, *slots;
	uint64_t n_nonfinite;
};

enum bk_dtype bl_stats_dtype(enum bl_dtype d);
const void *bl_stats_tile(const struct run *r, const struct tile *t);
/* The tile's rows as float32: in place, or converted into the slot. */
enum bl_status bl_stats_tile_f32(struct run *r, const struct tile *t, struct slot *s, const void **out, struct bl_err *err);
int64_t bl_stats_few_rows(const struct run *r);
/* An accumulator for the tile at hand. Also called for a tile after another failed. */
enum bl_status bl_stats_borrow(struct run *r, struct slot **out, struct bl_err *err);
void bl_stats_give_back(struct run *r, struct slot *s, uint64_t n_nonfinite);
void bl_stats_flush(struct run *r, struct slot *s);

/* The smallest top with |w| < 2^top that kernels take. */
int bl_stats_top(float absmax);
float bl_stats_value(const struct run *r, uint32_t bits);
/* The pattern of the largest value that is not above x >= 0. */
uint32_t bl_stats_bits_below(const struct run *r, double x);
/* min and max, from what the slots know. */
void bl_stats_set_ends(struct run *r);
void bl_stats_set_kurtosis(struct bl_weight_stats *s, double var, double m4);
/* Mean, rms, kurtosis from sums of powers; min and max are known. */
enum bl_status bl_stats_moments(struct run *r, struct bl_pool *pool, const atomic_int *cancel, struct bl_err *err);

/* One pass over 16-bit tiles, and what follows; two over others. */
enum bl_status bl_stats_count_tile(void *ctx, size_t item, struct bl_err *err);
enum bl_status bl_stats_finish_narrow(struct run *r, struct bl_pool *pool, const atomic_int *cancel, struct bl_err *err);
enum bl_status bl_stats_first_tile(void *ctx, size_t item, struct bl_err *err);
enum bl_status bl_stats_finish_wide(struct run *r, struct bl_pool *pool, const atomic_int *cancel, struct bl_err *err);

#endif
