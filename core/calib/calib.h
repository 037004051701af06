/* SPDX-License-Identifier: Apache-2.0
 * What flows into each unit while the model runs over data: ranges, moments, histograms, Hessians; and a store on disk keyed by what it was made from.
 * The store is written as the run goes, one file per block plus a manifest; a run that was killed goes on where it was and ends with the same bytes.
 * Every file carries the digest of its contents and is verified when it is read (BL_MISMATCH names the file). Folder: CACHE/calib/KEY/.
 * Bits: the last places of sums depend on how many tokens go through a block at once. That number is not in the key (a run that is short of memory halves
 * it and goes on); it is stored with each block, and whoever goes on, or repairs a block, runs the blocks before with theirs. */
#ifndef BL_CALIB_CALIB_H
#define BL_CALIB_CALIB_H

#include "core/base/log.h"
#include "core/forward/forward.h"

struct bl_calib_data { const int32_t *ids; int64_t windows, len; const char *digest; }; /* [windows, len]; digest: for messages only, the ids themselves are in the key */

struct bl_calib_options {
	bool hessians;            /* else ranges only */
	bool fp32;                /* must say what the forward was made with */
	int64_t keep_windows;     /* block inputs of the first so many windows are kept (for live KL and activation errors); 0: none */
	const char *device;       /* for the key: results of another kind of device differ in the last bits */
	const atomic_int *cancel;
};

struct bl_input_stats {       /* of one unit's input */
	int64_t cols, tokens;
	uint64_t nonfinite;
	float absmax, *channel_absmax;          /* [cols] */
	double mean, rms, *channel_mean, *channel_rms;
	uint64_t bins[BK_INPUT_BINS], token_bins[BK_INPUT_BINS]; /* kernels/run/run.h */
	int n_outlier_channels;                 /* channels whose absmax > 8 x the rms of the whole input */
	struct { int channel; float absmax; } outlier[16]; /* the largest, descending */
};

struct bl_calib;
struct bl_calib_progress { int block, blocks; int64_t tokens_done, tokens; const char *phase; }; /* tokens through this block, of how many; phase: "forward", "write" */
typedef void bl_calib_report(void *ctx, const struct bl_calib_progress *p);
/* Runs, or goes on with, a calibration; each finished unit is announced through `unit_done` (may be NULL), from the running thread. */
enum bl_status bl_calib_run(struct bl_calib **out, struct bl_forward *f, const struct bl_calib_data *d, const char *cache_dir, const struct bl_calib_options *o,
			    bl_calib_report *report, void (*unit_done)(void *ctx, int unit, const struct bl_input_stats *s), void *ctx, struct bl_err *err);
/* A finished one by key. */
enum bl_status bl_calib_open(struct bl_calib **out, const struct bl_model *m, const char *cache_dir, const char *key, struct bl_err *err);
void bl_calib_free(struct bl_calib *c);
/* A run returns once everything is written; that it has reached the disk is seen to in the background, and only then the store calls itself finished (until
 * then the next run checks it and adds nothing). Waits for that; says what went wrong. bl_calib_free waits too. */
enum bl_status bl_calib_settle(struct bl_calib *c, struct bl_err *err);
/* The newest finished one of a model: its key. BL_NOT_FOUND when there is none. */
enum bl_status bl_calib_find(char key[65], const struct bl_model *m, const char *cache_dir, struct bl_err *err);
/* How far a run with this key has come: blocks that are stored one after the other (not looked into), and whether it is finished. */
int bl_calib_stored(const struct bl_model *m, const char *cache_dir, const char *key, bool *complete);
/* The key such a run has (64 hex), without running it. */
void bl_calib_key(char key[65], const struct bl_model *m, const struct bl_calib_data *d, const struct bl_calib_options *o);
uint64_t bl_calib_disk_bytes(const struct bl_model *m, const struct bl_calib_data *d, const struct bl_calib_options *o); /* before it starts */
/* What it needs beside the forward: on the device (at least, and to overlap copies with work), in host memory. */
void bl_calib_need(const struct bl_model *m, const struct bl_calib_options *o, uint64_t *device_least, uint64_t *device_best, uint64_t *host);

/* How a bound on host memory (0: none) is kept, beside one on the device's: what the engine may hand out and what hidden states may take (for struct
 * bl_forward_options). On the CPU both are one memory. BL_NO_MEMORY: the copies on their way to files alone need more. */
struct bl_calib_bounds { uint64_t device_bytes, host_bytes; };
enum bl_status bl_calib_bound(struct bl_calib_bounds *out, const struct bl_model *m, const struct bl_calib_options *o, bool cuda, uint64_t memory_limit, uint64_t ram_limit,
			      struct bl_err *err);
/* What is left beside the forward's weights is less than the run has a use for: one that brings weights in block by block (weight_bytes 1) is as fast, because
 * all tokens go through a block before the next one is needed. */
bool bl_calib_crowded(struct bl_forward *f, const struct bl_calib_data *d, const struct bl_calib_options *o);

const char *bl_calib_key_of(const struct bl_calib *c);
const char *bl_calib_digest(const struct bl_calib *c); /* of everything in it, 64 hex */
int64_t bl_calib_tokens(const struct bl_calib *c);
bool bl_calib_has_hessians(const struct bl_calib *c);
const struct bl_input_stats *bl_calib_stats(const struct bl_calib *c, int unit); /* NULL: unknown */
/* Lower triangle counts (above it: zeros); raw sums x xᵀ over the tokens, row-major [K, K] float32, mapped; verified at the first use. */
enum bl_status bl_calib_hessian(const struct bl_calib *c, int unit, const float **h, struct bl_err *err);
int64_t bl_calib_kept_windows(const struct bl_calib *c);
int64_t bl_calib_window(const struct bl_calib *c); /* tokens of one */
const int32_t *bl_calib_ids(const struct bl_calib *c); /* [tokens / window, window]; the kept windows come first */
/* Input of a block for the kept windows: bf16 [kept_windows * window, hidden], mapped. block = n blocks: the output of the last one. */
enum bl_status bl_calib_block_input(const struct bl_calib *c, int block, const uint16_t **x, struct bl_err *err);
/* total: until everything is written; hessian and io (waiting for copies and files) are within it, forward is the rest. hessian is timed on one batch of each block. */
struct bl_calib_seconds { double total, forward, hessian, io; };
struct bl_calib_seconds bl_calib_seconds(const struct bl_calib *c); /* of the run that made or finished it; zeros when it was only opened */

/* The `cache` command: what is stored. */
struct bl_cache_entry { char *key, *kind, *model; uint64_t bytes; int64_t wall_s; bool complete; };
void bl_cache_list(struct bl_cache_entry **out, size_t *n, const char *cache_dir);
void bl_cache_free(struct bl_cache_entry *e, size_t n);
enum bl_status bl_cache_drop(const char *cache_dir, const char *key_prefix, bool look, struct bl_err *err); /* exactly one entry must match; look: it stays */

#endif
