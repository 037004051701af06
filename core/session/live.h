/* SPDX-License-Identifier: Apache-2.0
 * Inside of the session: the model that runs. Three kinds of state: what only the main lane touches (engine, forward, passes), what the screen's thread
 * alone touches (tables of requests, what it was shown), and what both see, under `lock`. Nothing holds the lock while it works or waits for a disk. */
#ifndef BL_SESSION_LIVE_H
#define BL_SESSION_LIVE_H

#include <pthread.h>

#include "core/session/private.h"
#include "core/session/run.h"
#include "core/solve/batch.h"
#include "core/transform/fold.h"

/* --- shared values: immutable, counted --- */
struct bl_live_calib { /* a finished calibration */
	atomic_int refs;
	struct bl_calib *c;
	char title[160];
	struct bl_results *results;         /* what is known with it; its own lock */
};
struct bl_live_calib *bl_live_calib_ref(struct bl_live_calib *c);
void bl_live_calib_unref(struct bl_live_calib *c); /* NULL is fine */

struct bl_live_plan { /* what a plan makes the model compute */
	atomic_int refs;
	uint64_t revision;
	int n;
	struct bl_choice *choice;           /* [n], params owned */
	uint64_t *hash;                     /* [n] of the choice, 0: the checkpoint's own weights */
	bool zero_nonfinite;
	char digest[65];                    /* equal: the model computes the same */
};
struct bl_live_plan *bl_live_plan_new(int n, const struct bl_choice *(*at)(const void *from, int unit), const void *from, bool zero);
struct bl_live_plan *bl_live_plan_ref(struct bl_live_plan *p);
void bl_live_plan_unref(struct bl_live_plan *p);

/* --- numbers by digest, in memory and on disk (results.c) --- */
struct bl_results;
struct bl_results *bl_results_open(const char *path, const char *calib_key); /* path NULL: memory alone; what cannot be read is nothing */
void bl_results_free(struct bl_results *r);                                  /* saves what is new */
bool bl_results_get(struct bl_results *r, const char *key, double v[3], int64_t *wall_s);
void bl_results_put(struct bl_results *r, const char *key, const double v[3], int64_t wall_s);
/* A number that a snapshot carries: known, unless there is one already, but not kept here. */
void bl_results_lend(struct bl_results *r, const char *key, const double v[3], int64_t wall_s);
void bl_results_title(struct bl_results *r, char *title, size_t cap);        /* "" when none */
void bl_results_set_title(struct bl_results *r, const char *title);
/* "512×1024 calib_text.jsonl +1": how a calibration is called, and what is kept of it in a cache's file of numbers. */
void bl_calib_name(char title[160], const char *const *files, size_t n_files, int64_t windows, int64_t length);
char *bl_results_path(const char *cache_dir, const char *calib_key); /* bl_free */
void bl_results_save(struct bl_results *r);                                  /* when there is something new */
/* Keys: 64 hex. */
void bl_results_error_key(char key[65], const struct bl_unit *u, const struct bl_choice *c, bool zero);
void bl_results_unit_kl_key(char key[65], const struct bl_unit *u, const struct bl_choice *c, bool zero);
void bl_results_chain_key(char key[65], const char *chain); /* of a unit whose codes depend on others' choices too */
void bl_results_plan_key(char key[65], const struct bl_live_plan *p);

/* --- requests of the screen --- */
enum bl_live_kind { BL_LIVE_ERROR, BL_LIVE_UNIT_KL };
struct bl_live_request {
	enum bl_live_kind kind;
	int unit;
	struct bl_choice choice;            /* params owned */
	bool zero_nonfinite;
	struct bl_live_calib *calib;        /* counted */
	char key[65];
	uint64_t hash;
	double value, extra;                /* error; or KL and top1 */
	bool with_activations;
	char why[160];
	atomic_int state;                   /* enum bl_known */
	struct bl_live_request *next_hash;
};
#define BL_LIVE_BUCKETS 4096

/* Of a data file set, as the model will see it (data.c). */
struct bl_live_data {
	atomic_int refs;
	char key[65];                       /* of the request: files as they are, samples, length, seed */
	struct bl_tokenizer *tokenizer;     /* for previews */
	int32_t *ids; int64_t windows, len;
	char digest[65];
	struct bl_preflight seen;           /* the fields of the data are filled */
	char *report;                       /* dropped rows as lines */
	char template_name[64];
};

struct bl_live_eval { struct bl_eval_result r; char digest[65]; bool of_snapshot; struct bl_live_eval *next; };
void bl_live_evals_free(struct bl_live *l);
void bl_live_eval_add(struct bl_live *l, const struct bl_eval_result *r, const char *digest); /* of a snapshot; screen's thread */
void bl_live_seed_evals(struct bl_session *s);
void bl_live_tryouts_free(struct bl_live *l);
void bl_live_pictures_free(struct bl_live *l);
void bl_live_pictures_ask_again(struct bl_live *l); /* what was refused; the screen's thread */
void bl_live_seed(struct bl_session *s); /* numbers of the plan's snapshots that belong to the calibration in use; screen's thread */

struct bl_live {
	struct bl_session *s;
	pthread_mutex_t lock;
	pthread_mutex_t use_lock; /* one calibration is taken up at a time, the look for another one included; taken before `lock` */
	char *program_dir, *cache_dir;

	/* device; under `lock` unless said otherwise */
	char *device;                       /* wanted */
	uint64_t memory_limit, device_wish; /* of the options; counts changes of `device` */
	bool lost;
	struct bl_device_view view;
	pthread_mutex_t backend_lock;
	struct bl_backend backend; bool backend_open; /* backend_lock */
	pthread_t watcher; bool has_watcher, watch_stop;
	pthread_cond_t watch_change;

	/* the main lane's */
	struct bl_engine engine; bool engine_open;
	uint64_t engine_wish, engine_limit;
	struct bl_forward *forward;
	atomic_int cancel;                  /* of the forward */
	int64_t batch_tokens;               /* 0: chosen */
	uint64_t weight_bytes;
	uint64_t host_bytes;                /* that hidden states may take; 0: no bound */
	struct bl_live_weights *weights;    /* solved ones, per unit */
	struct bl_live_hessians *hessians;  /* on the device */
	struct bl_solve_seconds solve_seconds; /* of the newest quantize job, when it has ended */
	char direct_key[65];                /* lock; what units were solved on as it went by, "": stored calibrations count */
	char (*trusted)[65];                /* lock; [n_units]: key of the solved unit that is known to be whole */
	struct bl_live_states *states;      /* hidden states of the kept windows */

	/* folds: newest first */
	pthread_mutex_t fold_lock, fold_build;
	struct { struct bl_fold *f; char *stages, calib[65]; } folds[2];
	struct { uint64_t id; const struct bl_input_stats *of; struct bl_input_stats *s; } *staged; /* [n_units], the screen's; id 0: empty */
	struct bl_err fold_err; char *fold_failed; char fold_failed_calib[65]; /* fold_lock: what cannot be made, and why */

	/* calibration */
	struct bl_live_calib *calib;        /* in use; lock */
	struct bl_live_calib *calib_shown;  /* the screen's */
	_Atomic(struct bl_input_stats *) *inputs; /* [n_units], copies */
	struct bl_input_stats **old_inputs; size_t n_old, cap_old; /* lock; freed by the screen's thread */
	char running_title[160];            /* lock; of a running calibration */
	char title_shown[160];
	uint64_t calib_job;

	/* data and preflight; the screen's, filled by a light job under lock */
	struct bl_live_data *data;          /* newest, lock */
	struct bl_preflight preflight;      /* shown */
	char preflight_key[65];
	uint64_t data_job; char data_wanted[65];
	char data_failed[65], data_why[200]; /* lock */

	/* live work */
	struct bl_live_request *buckets[BL_LIVE_BUCKETS]; /* the screen's */
	struct bl_live_request **queue; size_t n_queue, cap_queue; /* lock; newest last */
	bool running;                       /* lock: a job is there that will empty the queue */
	_Atomic uint64_t job;               /* newest */
	atomic_bool solved_more;            /* what could not be had is asked for again at the screen's next turn */
	atomic_int want_first, want_last;
	struct bl_live_plan *plan;          /* lock: newest */
	bool effect_wanted;                 /* lock: of `plan` */
	bool effect_running;                /* lock */
	uint64_t effect_due_ns;             /* lock: not before */
	char effect_failed[65];             /* lock: digest of a plan that cannot be measured */
	char last_digest[65]; const struct bl_live_calib *last_calib; struct bl_effect last; int64_t last_wall_s; /* the screen's: newest measured */

	/* search */
	struct bl_search_result *search_next, *search; /* lock: newest; the screen's */

	/* methods side by side; the screen's */
	struct bl_tryout *tryout;
	uint64_t try_job;
	char *try_params[64]; int n_try_params;

	/* pictures of a unit; the screen's */
	struct bl_picture *row_errors, *weight_map;

	/* evaluation */
	struct bl_live_eval *eval_next;     /* lock: newest, not yet looked at */
	struct bl_live_eval *evals;         /* the screen's, newest first; the last few */
	bool evals_seeded;
};

/* --- life (live.c) --- */
void bl_live_open(struct bl_session *s, const struct bl_session_options *o);
void bl_live_close(struct bl_session *s); /* after */
void bl_live_tick(struct bl_session *s);
/* The plan as it is, published to the main lane when it changed. Screen's thread. */
void bl_live_publish(struct bl_session *s);
enum bl_status bl_live_take_up(struct bl_live *l, const char *key, struct bl_err *err); /* a stored calibration, now */
void bl_live_start_adopting(struct bl_session *s);           /* a stored calibration, in the background */
struct bl_live_calib *bl_live_get_calib(struct bl_live *l); /* counted, NULL: none */
void bl_live_wake(struct bl_session *s);                     /* screen's thread: starts the live job when it is not there */

/* --- device (device.c); main lane --- */
/* The forward on the wanted device under a limit (0: the session's), opened when it is not; NULL on error. Clears `cancel`. */
struct bl_forward *bl_live_forward(struct bl_live *l, uint64_t limit, struct bl_err *err);
bool bl_live_engine(struct bl_live *l, uint64_t limit, struct bl_err *err); /* the device alone */
void bl_live_drop_forward(struct bl_live *l); /* and all that lives on it */
/* After an error of device work: true when it can be tried again with less memory at once. A lost device is closed and remembered, the sentence completed. */
bool bl_live_failed(struct bl_live *l, int64_t longest, struct bl_err *err);
void bl_live_relax(struct bl_live *l);        /* a new job begins: full batches again */
void bl_live_unwatch(struct bl_live *l);      /* ends the watcher, which wakes the jobs' readers: before the jobs are freed */
void bl_live_device_close(struct bl_live *l); /* screen's thread, at the end */

/* --- pieces of live work (main lane) --- */
struct bl_live_turn { struct bl_job *job; struct bl_live *l; struct bl_live_calib *calib; bool own; /* a job of its own: only its cancel ends it */
		      bool polite; /* or another job that waits */ };
/* Solved weights of a choice, kept per unit; *out NULL: the checkpoint's own. Borrowed until the unit is asked for with another choice. */
enum bl_status bl_live_solve(struct bl_live *l, int unit, const struct bl_choice *c, bool zero, struct bl_unit_weights **out, struct bl_err *err);
/* bl_session_unit_weights for a given policy; any thread. */
enum bl_status bl_live_unit_weights(struct bl_session *s, int unit, const struct bl_choice *c, bool zero, const struct bl_solved *solved, struct bl_unit_weights **out,
				    struct bl_err *err); /* solved: the unit, for methods that see it whole; NULL: from the cache */
void bl_live_weights_free(struct bl_live *l);
/* What was refused is asked for again; the screen's thread. */
void bl_live_ask_again(struct bl_live *l);
/* Units whose method sees them whole: from the cache alone (any thread), or solved now when they are not there (main lane). Freed with bl_solved_free. */
enum bl_status bl_live_stored_unit(struct bl_live *l, int unit, const struct bl_choice *c, bool zero, struct bl_solved **out, struct bl_err *err);
enum bl_status bl_live_solved_unit(struct bl_live *l, int unit, const struct bl_choice *c, bool zero, const atomic_int *cancel, struct bl_solved **out, struct bl_err *err);
/* To and from the cache; what this process has seen to be whole is not summed again. */
enum bl_status bl_live_load_solved(struct bl_live *l, const struct bl_solve_request *rq, const char *key, struct bl_solved **out, struct bl_err *err);
enum bl_status bl_live_save_solved(struct bl_live *l, const struct bl_solved *u, const char *key, struct bl_err *err);
bool bl_live_solved_key(struct bl_live *l, const struct bl_solve_request *rq, char key[65]);
enum bl_status bl_live_no_calibration(const struct bl_session *s, int unit, const struct bl_choice *c, struct bl_err *err);
struct bl_solve_request bl_live_request(const struct bl_session *s, const struct bl_fold *f, int unit, const struct bl_choice *c, bool zero); /* without Hessian */
/* Units whose method asks for the inputs of the model as quantized so far (stream.c): what they depend on, and all of a plan solved block by block into
 * the cache (those selected, and what comes before them). */
struct bl_solve_inputs bl_live_inputs(const struct bl_live *l, int unit, const struct bl_choice *c);
bool bl_live_streamed(const struct bl_live *l, int unit, const struct bl_choice *c); /* not to be solved from stored Hessians */
void bl_live_chain(char chain[65], const struct bl_live *l, const struct bl_live_plan *p, int block);
/* What the data are; direct: no Hessians are stored, units that ask for the base's inputs are solved from its stream too. */
struct bl_live_source { const int32_t *ids; int64_t windows, len; const char *key; bool direct; };
enum bl_status bl_live_stream(struct bl_live *l, struct bl_job *j, const struct bl_live_plan *p, const uint8_t *selected, const struct bl_live_source *source, struct bl_err *err);
/* What the codes of a unit depend on beside its own choice, by the plan as it was published last; false: nothing. */
bool bl_live_chain_of(struct bl_live *l, int unit, const struct bl_choice *c, char chain[65]);
/* Units that are trained together (tuning.c): all of a plan into the cache. */
bool bl_live_trained(const struct bl_live *l, const struct bl_choice *c);
enum bl_status bl_live_tune(struct bl_live *l, struct bl_job *j, const struct bl_live_plan *p, struct bl_live_calib *calib, struct bl_err *err);
/* All such units of a plan, [n_units], NULL where there is none. */
struct bl_solved **bl_live_solved_plan(struct bl_live *l, const struct bl_plan *p, struct bl_job *j, struct bl_err *err);
void bl_live_solved_plan_free(struct bl_solved **all, int n);
uint64_t bl_live_choice_hash(const struct bl_choice *c, bool zero); /* 0: full precision, without stages */

/* Layer errors of requests of one block that need the same (layer_error.c). Sets value, with_activations; state and why are the caller's on failure. */
enum bl_status bl_live_errors(struct bl_live_turn *t, struct bl_live_request **r, size_t n, struct bl_err *err);
void bl_live_hessians_free(struct bl_live *l);
/* tr(d H dT) / tr(w H wT) of every row d of the weights' difference, w of W, into rel [rows]; needs Hessians (layer_error.c). */
enum bl_status bl_live_row_errors(struct bl_live_turn *t, const struct bl_fold *f, int unit, const struct bl_unit_weights *w, float *rel, struct bl_err *err);

/* KL and agreement of a weight assignment on the kept windows (effect.c). BL_CANCELLED: the turn has to end or the plan changed; what was done is kept. */
enum bl_status bl_live_plan_effect(struct bl_live_turn *t, const struct bl_live_plan *p, double *kl, double *top1, struct bl_err *err);
enum bl_status bl_live_unit_effect(struct bl_live_turn *t, const struct bl_live_request *r, double *kl, double *top1, struct bl_err *err);
void bl_live_states_free(struct bl_live *l);

/* --- models after a plan's stages (fold.c) --- */
/* Of the stages of a choice, on the calibration in use; *out NULL: there are none. Counted. Any thread, but not from within work on the pool unless it was asked
 * for before: the first time takes seconds. */
enum bl_status bl_live_fold(struct bl_live *l, const struct bl_choice *c, struct bl_fold **out, struct bl_err *err);
void bl_live_folds_free(struct bl_live *l);
/* What flows into a unit after the plan's stages, once they are made; histograms, which nobody knows then, are empty. NULL: not known (turned heads). Screen's thread. */
const struct bl_input_stats *bl_live_staged_input(struct bl_live *l, int unit, const struct bl_input_stats *base);
static inline const struct bl_unit *bl_live_unit(const struct bl_live *l, const struct bl_fold *f, int unit)
{
	return f ? &bl_fold_model(f)->units[unit] : &l->s->model->units[unit];
}
uint64_t bl_live_fold_id(const struct bl_fold *f); /* 0: none */
/* A unit in full precision after the stages; *out NULL: nothing changes it. */
enum bl_status bl_live_folded_weights(const struct bl_fold *f, int unit, struct bl_unit_weights **out, struct bl_err *err);
/* All units of a block (-1: of all) in full precision after the stages: what the model computes with before anything is quantized. f NULL: an empty set.
 * Freed with bl_measure_weights_free. */
enum bl_status bl_live_stage_set(struct bl_weight_set *out, struct bl_fold *f, const struct bl_model *m, int block, struct bl_err *err);
/* Largest |input| of a unit after the stages of a choice; NaN: unknown. Without waiting the checkpoint's stands in as long as the stages are not made. */
float bl_live_absmax(struct bl_live *l, int unit, const struct bl_choice *c, bool wait);

/* --- data (data.c) --- */
void bl_live_data_key(char key[65], const struct bl_calib_request *r);
enum bl_status bl_live_data_load(struct bl_live_data **out, const struct bl_model *m, const struct bl_calib_request *r, const atomic_int *cancel, struct bl_err *err);
struct bl_live_data *bl_live_data_ref(struct bl_live_data *d);
void bl_live_data_unref(struct bl_live_data *d);

struct bl_input_stats *bl_live_input_copy(const struct bl_input_stats *s);
void bl_live_input_free(struct bl_input_stats *s);
void bl_live_input_store(struct bl_live *l, int unit, const struct bl_input_stats *s); /* NULL: unknown again */
void bl_live_use_calib(struct bl_live *l, struct bl_live_calib *c); /* taken over */

#endif
