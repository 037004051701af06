/* SPDX-License-Identifier: Apache-2.0
 * The session's model that runs: device, calibration, true layer errors, end-to-end effect of the plan, evaluation. Asking never waits for work; work
 * happens on the main lane, which owns the device. Called from the screen's thread. */
#ifndef BL_SESSION_RUN_H
#define BL_SESSION_RUN_H

#include "core/calib/calib.h"
#include "core/evaluate/evaluate.h"
#include "core/session/session.h"
#include "core/solve/batch.h"

/* --- device --- */
struct bl_device_view {          /* copied; NVML when it can be loaded, else what the driver tells */
	char name[64];           /* "H200", "CPU"; "" while not looked at */
	bool cuda, lost;
	double used_gib, total_gib;
	int utilization, temperature_c, power_w; /* -1: unknown */
	int other_processes;     /* on the same GPU, other than this one; -1: unknown */
};
void bl_session_device(struct bl_session *s, struct bl_device_view *out);
/* "auto", "cpu", "cuda", "cuda:N"; work from now on runs there. Also the way on after a lost GPU. */
enum bl_status bl_session_set_device(struct bl_session *s, const char *device, struct bl_err *err);

/* --- calibration --- */
struct bl_calib_request {
	char **files; int n_files;      /* data */
	int64_t samples, seqlen;        /* windows and their length; defaults 512, 2048 */
	bool hessians, block_inputs;
	int64_t keep_windows;           /* for live KL; default 16 */
	uint64_t seed;                  /* order in which windows are taken when there are more than samples; 0: file order */
	uint64_t memory_limit;          /* of the device, bytes; 0: none */
	uint64_t ram_limit;             /* host bytes for hidden states; 0: none */
};
void bl_calib_request_copy(struct bl_calib_request *dst, const struct bl_calib_request *src);
void bl_calib_request_free(struct bl_calib_request *r);

struct bl_preflight {           /* what a calibration will need and how it will go; computed in the background, cheap to ask */
	enum bl_known known;     /* COMPUTING while the data are read */
	char why[200];           /* REFUSED: why it cannot start */
	int64_t rows_read, rows_used, rows_dropped, rows_cut, tokens, windows;
	struct { char file[96], layout[24], why[120]; int64_t rows, dropped, cut; } file[8]; int n_files;
	char preview[1200];      /* the beginning of what the model will see, special tokens visible */
	uint64_t gpu_need, gpu_free, ram_need, ram_free, disk_need, disk_free;
	int64_t batch_tokens; bool streams_weights, offloads_hidden, spills_hidden; /* spills: to a file in the cache */
	struct bl_quantity seconds; /* modelled */
	int reuse_from_block;    /* > 0: blocks before it are in the store */
	bool complete;           /* the store already has all of it */
	const char *template_name;
};
const struct bl_preflight *bl_session_preflight(struct bl_session *s, const struct bl_calib_request *r);
/* Dropped and cut rows as text lines ("file:line: why"), and the full preview, once known. */
void bl_session_data_report(struct bl_session *s, struct bl_str *out);
void bl_session_data_preview(struct bl_session *s, int64_t window, struct bl_str *out);

uint64_t bl_session_calibrate(struct bl_session *s, const struct bl_calib_request *r); /* job id */
/* What is known of a unit's input: of the running calibration as it goes, of the finished one afterwards; NULL: unknown. */
const struct bl_input_stats *bl_session_input(const struct bl_session *s, int unit);
const struct bl_calib *bl_session_calib(const struct bl_session *s); /* finished; NULL: none */
/* Samples x length and data of the calibration in use, "512×1024 calib_text.jsonl +1"; "" when none. */
const char *bl_session_calib_title(const struct bl_session *s);
/* Largest |input| of every unit (NaN: unknown), for static activations: of the calibration in use, else of the newest stored one, which is adopted.
 * NULL when there is none or the plan needs none; bl_free. */
float *bl_session_input_absmax(struct bl_session *s);
/* Ranges from elsewhere, [n_units]; taken over, and they come before those of a calibration. NULL: no longer. */
void bl_session_use_ranges(struct bl_session *s, float *absmax);
/* Of one unit under the plan, by the finished calibration. NaN: unknown. As long as the plan's stages are not made (bl_session_fold makes them), the checkpoint's. */
float bl_session_unit_absmax(const struct bl_session *s, int unit);
/* Adopts a stored calibration (newest of this model when key is NULL). BL_NOT_FOUND when there is none. */
enum bl_status bl_session_adopt_calib(struct bl_session *s, const char *key, struct bl_err *err);

/* --- true layer error: tr(dW H dWT) / tr(W H WT) on the calibration set; with quantized activations measured on kept inputs as the server computes --- */
struct bl_layer_error { double rel; bool with_activations; };
enum bl_known bl_session_layer_error(struct bl_session *s, int unit, const struct bl_choice *c, struct bl_layer_error *out, char why[160]); /* NO: no calibration */
bool bl_session_layer_error_known(struct bl_session *s, int unit, const struct bl_choice *c, struct bl_layer_error *out); /* without starting anything */
void bl_session_want_errors(struct bl_session *s, int first_unit, int last_unit); /* visible rows come first */

/* --- end-to-end effect --- */
struct bl_effect {
	struct bl_quantity kl, top1; /* measured: of exactly this plan on the kept windows; modelled: sum of units' own; unknown */
	bool stale, computing;       /* measured, but the plan changed since; being measured */
	double age_s;                /* of a measured one */
};
void bl_session_effect(struct bl_session *s, struct bl_effect *out);
void bl_session_effect_known(struct bl_session *s, struct bl_effect *out); /* the same, without starting anything */
/* KL of one unit alone at a choice (others as in the base), when it was measured; UNKNOWN otherwise. Asking queues the measurement when `want`. */
struct bl_quantity bl_session_unit_kl(struct bl_session *s, int unit, const struct bl_choice *c, bool want);
bool bl_session_unit_kl_computing(struct bl_session *s, int unit, const struct bl_choice *c);
void bl_session_wait_live(struct bl_session *s); /* blocks (command line): all requested errors and the plan's KL are known */

/* The estimate with performance and score from all that is known of the plan, and its effect: the live one, without a calibration the evaluated one. */
void bl_session_quality(struct bl_session *s, struct bl_plan_estimate *e, struct bl_effect *effect);
void bl_session_quality_known(struct bl_session *s, struct bl_plan_estimate *e, struct bl_effect *effect); /* without starting anything */
/* A snapshot that carries the numbers that are known now. */
enum bl_status bl_session_snapshot(struct bl_session *s, const char *name, const char *note, struct bl_err *err);

/* --- evaluation --- */
struct bl_eval_request { /* files, NULL: not asked; windows 0: all */
	char *ppl, *kl, *mcq;
	int64_t windows, seqlen, items;
	uint64_t memory_limit;
	enum bl_arithmetic arithmetic; /* of units whose inputs are rounded; what is solved or shown beside it is the server's */
};
struct bl_eval_result {
	bool has_ppl, has_kl, has_mcq, has_plan; /* has_plan false: the base alone */
	struct bl_eval_ppl base_ppl, plan_ppl;
	struct bl_eval_kl kl;
	struct bl_eval_mcq base_mcq, plan_mcq;
	double seconds, weights_seconds; /* all of it; making the plan's weights alone */
	int64_t wall_s;
	char plan_digest[65], device[64], protocol[320]; /* protocol: with the arithmetic, when it is not the server's */
	int weights_alone;               /* units whose inputs a client rounds and the forward does not */
};
uint64_t bl_session_evaluate(struct bl_session *s, const struct bl_eval_request *r);
const struct bl_eval_result *bl_session_evaluation(const struct bl_session *s, bool *stale); /* newest; NULL: none */

/* --- units whose method sees them whole (needs a calibration with Hessians) --- */
/* Every quantized unit that is not locked gets the method that is recommended (tuned end to end from GPTQ on); a plan without stages gets
 * one that evens out channels for its schemes. One undo step. */
enum bl_status bl_session_recommend(struct bl_session *s, struct bl_err *err);
/* "METHOD[,key=value...]", or "recommended": every quantized unit that is not locked and whose scheme the method takes gets it, also one that trains all of them
 * together. One undo step; *n (may be NULL): how many have it. BL_USAGE: no such method, or its parameters are wrong. */
enum bl_status bl_session_set_methods(struct bl_session *s, const char *text, int *n, struct bl_err *err);
bool bl_session_choice_whole(const struct bl_session *s, const struct bl_choice *c);
bool bl_session_choice_trained(const struct bl_session *s, const struct bl_choice *c); /* together with the others that have its method */
/* Solves such units of the plan into the cache; selected [n_units] or NULL: all. data: what their moments are of, which are made while the data go through the
 * model and not stored (a stored calibration of them is used); NULL: the calibration in use. Job id; 0: there are none. */
uint64_t bl_session_quantize(struct bl_session *s, const uint8_t *selected, const struct bl_calib_request *data);
const struct bl_solve_seconds *bl_session_solve_seconds(const struct bl_session *s); /* where the time of the newest such job went, when it has ended */
/* All such units of the plan from the cache, [n_units], NULL where there is none (bl_session_solved_free); NULL with err when one is not solved. */
struct bl_solved **bl_session_solved(struct bl_session *s, struct bl_err *err);
void bl_session_solved_free(struct bl_session *s, struct bl_solved **all); /* NULL is fine */
/* Error, seconds and report of one that is solved; false when it is not. report: at most cap bytes. */
bool bl_session_solved_look(struct bl_session *s, int unit, double *rel, double *seconds, char *report, size_t cap);

/* Quantized weights of the plan's choice for a unit, solved now (any thread); NULL weights for BF16. */
/* --- stages: exact changes of weights before any unit is solved --- */
/* Sets the plan's stages ("smooth:alpha=0.5;permute", "" for none) as one undo step. BL_USAGE: not understood; BL_UNSUPPORTED: not exact for this model, and why. */
enum bl_status bl_session_set_stages(struct bl_session *s, const char *text, struct bl_err *err);
/* The model after them (counted, bl_fold_unref); *out NULL: there are none. Takes seconds the first time. */
struct bl_fold;
enum bl_status bl_session_fold(struct bl_session *s, struct bl_fold **out, struct bl_err *err);

enum bl_status bl_session_unit_weights(struct bl_session *s, int unit, const struct bl_choice *c, struct bl_unit_weights **out, struct bl_err *err);

#endif
