/* SPDX-License-Identifier: Apache-2.0
 * What the parts of the workbench share and screens do not see: the stack, the prompt, messages, hints. */
#ifndef BL_TUI_APP_PRIVATE_H
#define BL_TUI_APP_PRIVATE_H

#include "tui/app.h"
#include "tui/form.h"
#include "tui/keymap.h"
#include "tui/prompt.h"

#define BL_STACK_MAX  16
#define BL_RECENT_MAX 20
#define BL_EXPORT_NAME_MAX 512

struct bl_frame {
	const struct bl_screen *screen;
	void *state;
};

struct bl_app_private {
	struct bl_frame stack[BL_STACK_MAX];
	int depth;
	struct bl_frame dead[BL_STACK_MAX]; /* left during an action; freed when it has returned */
	int n_dead;
	struct bl_keymap keymap;
	char pending[BL_SEQUENCE_MAX][BL_KEY_MAX];
	int n_pending;
	struct bl_prompt prompt;
	struct {
		bool on;
		char question[512], arg[512];
		enum bl_action yes;
	} ask;
	struct {
		bool on;
		enum bl_message_kind kind;
		char text[1024];
	} message;
	bool quit, suspend, redraw;
	char *clipboard;
	bool persistent; /* history, hints and recent models are kept in the state folder */
	struct bl_history history;
	bool hint_done[BL_ACTION_COUNT];
	char **recent;
	size_t n_recent;
	uint64_t running[64], newest_job; /* jobs seen running at the last turn: their end is reported */
	int n_running;
	struct bl_verify_job *verify; /* the running or last :verify */
	int depth_of_act;             /* actions running: frames die only at 0 */
	char forms_of[65];            /* digest of the model that the two below are for; "": none yet */
	struct bl_calib_request calibrate;
	struct bl_eval_request evaluate;
	char method_text[600];        /* METHOD[,key=value] that the parameter form ended with, until somebody takes it; "" none */
	uint64_t export_job;          /* the last export of this model, 0: none; the screen comes and goes */
	char export_out[BL_EXPORT_NAME_MAX];
	char budget_fields[4][160];   /* of the search form, while the program runs */
};

/* app.c: a message that is not news, so not for the log */
void bl_app_act_over(struct bl_app *app); /* after depth_of_act++: frees what was left meanwhile */
void bl_app_show(struct bl_app *app, enum bl_message_kind kind, const char *text);
/* program.c: actions that belong to no screen. BL_REACT_UNKNOWN: not one of them. */
unsigned bl_program_act(struct bl_app *app, enum bl_action a, const char *arg);
/* Asks whether that job is to be cancelled. */
void bl_ask_cancel(struct bl_app *app, const struct bl_job_view *job);
/* What "leave" and a terminated process still need: the plan autosaved, a running export cancelled. */
void bl_app_close_session(struct bl_app *app);
/* Its screens go, the session stays: the caller's now. NULL when there is none. */
struct bl_session *bl_app_detach(struct bl_app *app);
enum bl_status bl_app_set_theme(struct bl_app *app, const char *name, struct bl_err *err);

/* action.c */
bool bl_action_on_screen(enum bl_action a, const char *screen);
bool bl_action_needs_argument(enum bl_action a);
void bl_action_ask_argument(struct bl_app *app, enum bl_action a);

/* run_actions.c: calibrate, evaluate, pause */
unsigned bl_do_calibrate(struct bl_app *app, const char *arg);
unsigned bl_do_evaluate(struct bl_app *app, const char *arg);
unsigned bl_do_budget(struct bl_app *app, const char *arg); /* screens/budget.c */
unsigned bl_do_adopt(struct bl_app *app, const char *arg);
unsigned bl_do_pause(struct bl_app *app, const char *arg);
unsigned bl_do_resume(struct bl_app *app, const char *arg);
/* Start with the values of the form; what is in the way becomes a message. True: it is queued. */
bool bl_start_calibration(struct bl_app *app);
bool bl_start_evaluation(struct bl_app *app);
/* A job of that kind is there already, and the message says so. */
bool bl_job_in_the_way(struct bl_app *app, const char *kind);
/* The job of that kind ("calibrate") that is queued, runs or is paused. */
bool bl_app_find_job(const struct bl_app *app, const char *kind, struct bl_job_view *out);

/* verify_job.c: :verify as a job of the session */
unsigned bl_verify_start(struct bl_app *app, const char *path);
void bl_verify_report(struct bl_app *app, const struct bl_job_view *job);
void bl_verify_free(struct bl_app *app);

/* app_state.c: what lasts between runs; hints */
void bl_app_state_load(struct bl_app *app);
void bl_app_state_save(struct bl_app *app);
void bl_app_state_free(struct bl_app *app);
void bl_app_remember_model(struct bl_app *app, const char *what);
/* Models opened lately, newest first. */
const char *const *bl_app_recent(const struct bl_app *app, size_t *n);
void bl_hints_done(struct bl_app *app, enum bl_action a);
/* A sentence worth showing here and now, or NULL. dst >= 200 bytes. */
const char *bl_hint(const struct bl_app *app, char *dst);

/* app_text.c */
/* Of a refusal that does not fit: what stands behind the server's own words, which is why. */
const char *bl_app_reason(const char *sentence, int room);
char *bl_app_keys_on(const struct bl_app *app, const char *screen, enum bl_action a, char *dst, size_t cap);

/* app_status.c */
void bl_app_draw_title(struct bl_app *app, int row);
void bl_app_draw_totals(struct bl_app *app, int row);
void bl_app_draw_verdict(struct bl_app *app, int row);

/* app_draw.c */
/* "write 1.2 GB of 1.9 GB  118 MB/s  0:02 left", as far as room columns hold it */
void bl_job_line(const struct bl_job_view *j, int room, char *dst, size_t cap);
struct bl_grid_view bl_app_body(const struct bl_app *app);
int bl_app_jobs_running(const struct bl_app *app, struct bl_job_view *first);

#endif
