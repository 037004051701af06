/* SPDX-License-Identifier: Apache-2.0
 * What commands share: the parsed line, text and JSON output, opening models and plans, work with progress and interruption. */
#ifndef BL_TUI_CLI_H
#define BL_TUI_CLI_H

#include "core/base/json.h"
#include "core/session/session.h"
#include "core/settings/settings.h"
#include "tui/options.h"

struct bl_cli {
	struct bl_options o;
	struct bl_session_options session;
	struct bl_settings *settings;
	char *program_dir;
	cJSON *json;            /* filled by the command when --json was given, else NULL */
	struct bl_str text;     /* printed when it was not; names of files may be in it as they are: bl_cli_printable comes last */
	bool quiet, verbose;
	char *from_stdin;  /* what "-" stands for: bl_cli_stdio */
	uint64_t deadline; /* bl_now_ns: --time-limit counts from the start of the program, over all that a command does; 0: none */
	struct bl_str remarks;  /* to standard error, unless quiet */
};

#define BL_COMMAND(id, name, args, least, most, sentence) enum bl_status bl_cmd_##id(struct bl_cli *c, struct bl_err *err);
#include "tui/commands/command_list.h"
#undef BL_COMMAND

/* argument: plan file or model; with --preset, --recipe, --set, --config, --format, --allow-nonfinite, --target applied. */
enum bl_status bl_cli_open(struct bl_cli *c, struct bl_session **out, const char *argument, struct bl_err *err);
struct bl_calib_request;
/* Solves what the plan's methods need solved (selected [n_units] or NULL: all), with a stored calibration, or on data. */
enum bl_status bl_cli_solve(struct bl_cli *c, struct bl_session *s, const uint8_t *selected, const struct bl_calib_request *data, struct bl_err *err);
/* --dry-run: what that would solve, what of it is stored, and with which calibration; n_files: of data that one would be made of. */
void bl_cli_would_solve(struct bl_cli *c, struct bl_session *s, const uint8_t *selected, int n_files);
/* Writes the plan, whose units are solved, to --output. */
enum bl_status bl_cli_export(struct bl_cli *c, struct bl_session *s, struct bl_err *err);
/* Waits for a job of the session, with progress and interruption. */
enum bl_status bl_cli_job(struct bl_cli *c, struct bl_session *s, const char *name, uint64_t job, struct bl_err *err);
/* A calibration in use, when it is `needed`: made of --data (and arguments behind it) with --samples and --seqlen, or the newest stored one. */
enum bl_status bl_cli_calibration(struct bl_cli *c, struct bl_session *s, bool needed, long long seqlen, struct bl_err *err);
/* Runs fn(ctx) on a thread of its own while this one shows progress and watches for signals and the time limit (then progress->cancel is set
 * and the outcome becomes BL_CANCELLED, BL_TERMINATED or BL_TIMEOUT). */
enum bl_status bl_cli_work(struct bl_cli *c, const char *name, enum bl_status (*fn)(void *ctx, struct bl_err *err), void *ctx,
			   struct bl_progress *progress, struct bl_err *err);
/* Installs the handlers for SIGINT, SIGTERM and SIGHUP; the flag is set by them. */
void bl_cli_signals(void);
enum bl_status bl_cli_interruption(struct bl_err *err); /* BL_OK, BL_CANCELLED or BL_TERMINATED */
enum bl_status bl_cli_stdio(struct bl_cli *c, struct bl_err *err); /* reads what "-" stands for, refuses it where it stands for nothing */
enum bl_status bl_cli_time_limit(struct bl_cli *c, struct bl_err *err); /* reads it */
enum bl_status bl_cli_stopped(const struct bl_cli *c, struct bl_err *err); /* interrupted, or over time: BL_TIMEOUT */

/* May what is there be replaced? --force and --yes say so; else a person at a terminal is asked; else no. */
bool bl_cli_may_replace(const struct bl_cli *c, const char *path);

/* A plan file may go there: nothing is, or the plan that was opened, or it may be replaced. */
enum bl_status bl_cli_may_write(const struct bl_cli *c, const struct bl_session *s, const char *path, struct bl_err *err);

/* The folder of caches: --cache, else the user's. bl_free. */
char *bl_cli_cache(const struct bl_cli *c);
/* A size as bl_parse_bytes reads it, from `least` on; 0 when it was not given. */
#define BL_PART_LEAST 65536
enum bl_status bl_cli_size(const struct bl_options *o, enum bl_option option, uint64_t least, uint64_t *out, struct bl_err *err);

/* --arithmetic: false the server's, true that of transformers. */
enum bl_status bl_cli_arithmetic(const struct bl_cli *c, bool *transformers, struct bl_err *err);

/* The stored calibration that --calibration KEY names; the beginning of a key is enough. */
enum bl_status bl_cli_calib_key(const struct bl_cli *c, char key[65], struct bl_err *err);

/* JSON helpers */
cJSON *bl_cli_quantity(cJSON *o, const char *key, const struct bl_quantity *q);
struct bl_eval_result;
void bl_cli_eval_json(cJSON *o, const struct bl_eval_result *r); /* ppl, kl, top1, mcq, base, plan, seconds */
void bl_cli_problems(cJSON *o, const char *key, const struct bl_model *m, const struct bl_problem *p, int n);
/* Appends "  text" to the text output; printf-like. */
void bl_cli_line(struct bl_cli *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Same, broken at BL_CLI_COLUMNS; what follows the first line starts at column `indent`. */
#define BL_CLI_COLUMNS 80
void bl_cli_wrapped(struct bl_cli *c, int indent, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void bl_cli_wrap(struct bl_str *out, int indent, const char *text);
/* Appends src to dst so that a terminal can be trusted with it: of what is not printable, only tabs and ends of lines stay. */
void bl_cli_printable(struct bl_str *dst, const struct bl_str *src);
/* Prints the text collected so far, for commands that go on for long. */
enum bl_status bl_cli_flush(struct bl_cli *c, struct bl_err *err);

/* docs.c */
void bl_docs_help(struct bl_str *out, int command);       /* -1: the whole program */
void bl_docs_man(struct bl_str *out);
enum bl_status bl_docs_completion(struct bl_str *out, const char *shell, struct bl_err *err);

#endif
