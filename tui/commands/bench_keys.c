/* SPDX-License-Identifier: Apache-2.0
 * bench: the program as a person would see it, in a pseudo-terminal, with settings, state and cache of its own. Seconds until the first frame, and between a
 * key and its frame while the program works. */
#include "tui/commands/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include "core/calib/calib.h"
#include "core/text/tokenizer.h"

#define KEYS_WANT  200
#define KEYS_ZIP   "bench-keys.zip"
#define KEYS_TRIES 40  /* starts of the work that the keys must answer beside */
#define IDLE       10  /* keys in a row */
#define BUSY       0.5 /* of one processor: what the program uses while it computes, and never while it waits for a key */
#define ROWS       512 /* of data to calibrate with */
#define ROW_IDS    1024

/* ---- the program in a pseudo-terminal ---- */

extern char **environ;

struct tty { int fd; pid_t pid; clockid_t clock; };

/* This environment with some variables replaced; made before the fork, where memory may still be asked for. */
static char **environment(const struct bench *b)
{
	static const char *const ours[] = {"TERM=", "LC_ALL=", "NO_COLOR=", "XDG_STATE_HOME=", "XDG_CONFIG_HOME=", "XDG_CACHE_HOME="};
	size_t n = 0, used = 0, n_ours = sizeof ours / sizeof ours[0];

	while (environ[n])
		n++;
	char **out = bl_xalloc(n + n_ours + 1, sizeof *out);
	for (size_t i = 0; i < n; i++) {
		bool keep = true;
		for (size_t k = 0; k < n_ours; k++)
			keep &= !bl_starts_with(environ[i], ours[k]);
		if (keep)
			out[used++] = bl_xstrdup(environ[i]);
	}
	for (size_t k = 0; k < n_ours; k++) {
		struct bl_str v = {0};
		bl_str_addf(&v, "%s%s", ours[k], k == 0 ? "xterm-256color" : k == 1 ? "C.UTF-8" : k == 2 ? "" : b->home);
		out[used++] = bl_str_take(&v);
	}
	return out;
}

static enum bl_status start(const struct bench *b, struct tty *t, struct bl_err *err)
{
	struct winsize size = {.ws_row = 24, .ws_col = 80};
	char *program = bl_path_join(b->c->program_dir ? b->c->program_dir : ".", "bitlathe"), **env = environment(b);

	t->pid = forkpty(&t->fd, NULL, NULL, &size);
	if (t->pid == 0) {
		int devnull = open("/dev/null", O_WRONLY);
		if (devnull >= 0)
			dup2(devnull, 2);
		execle(program, "bitlathe", b->model, (char *)NULL, env);
		_exit(127);
	}
	bl_free(program);
	for (char **v = env; *v; v++)
		bl_free(*v);
	bl_free(env);
	if (t->pid < 0)
		return bl_fail_sys(err, BL_FAILED, "no pseudo-terminal could be opened");
	if (clock_getcpuclockid(t->pid, &t->clock))
		t->clock = CLOCK_MONOTONIC; /* then everything counts as busy */
	return BL_OK;
}

static double cpu_seconds(const struct tty *t)
{
	struct timespec now;

	return clock_gettime(t->clock, &now) ? 0 : (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void finish(struct tty *t)
{
	kill(t->pid, SIGTERM);
	for (int i = 0; i < 200; i++) {
		char sink[4096];
		struct pollfd p = {t->fd, POLLIN, 0};
		if (waitpid(t->pid, NULL, WNOHANG) == t->pid) {
			close(t->fd);
			return;
		}
		if (poll(&p, 1, 20) > 0 && read(t->fd, sink, sizeof sink) < 0)
			usleep(10000);
	}
	kill(t->pid, SIGKILL);
	waitpid(t->pid, NULL, 0);
	close(t->fd);
}

/* Reads until `text` arrived or ms went by. Seconds until then, negative when it did not come. */
static double until(struct tty *t, const char *text, int ms, uint64_t since)
{
	char buf[65536];
	size_t have = 0;
	uint64_t end = bl_now_ns() + (uint64_t)ms * 1000000;

	for (;;) {
		uint64_t now = bl_now_ns();
		struct pollfd p = {t->fd, POLLIN, 0};
		if (now >= end || poll(&p, 1, (int)((end - now) / 1000000) + 1) <= 0)
			return -1;
		ssize_t n = read(t->fd, buf + have, sizeof buf - 1 - have);
		if (n <= 0)
			return -1;
		have += (size_t)n;
		buf[have] = '\0';
		if (!text || memmem(buf, have, text, strlen(text)))
			return (double)(bl_now_ns() - since) / 1e9;
		if (have > sizeof buf / 2) {
			memmove(buf, buf + have - 256, 256);
			have = 256;
		}
	}
}

static void drain(struct tty *t, int quiet_ms)
{
	char sink[65536];
	struct pollfd p = {t->fd, POLLIN, 0};

	while (poll(&p, 1, quiet_ms) > 0 && read(t->fd, sink, sizeof sink) > 0)
		;
}

enum bl_status bl_bench_frame(struct bench *b, struct bl_err *err)
{
	struct bl_bench_row r;

	bl_bench_row_init(&r, "frame", "");
	for (int i = 0; i < b->runs && !bl_bench_stopped(b); i++) {
		struct tty t;
		uint64_t at = bl_now_ns();
		if (start(b, &t, err))
			return err->status;
		double s = until(&t, "scheme", 20000, at);
		finish(&t);
		if (s < 0)
			return bl_fail(err, BL_FAILED, "frame: the first screen did not come");
		r.job.s[r.job.n++] = s;
	}
	if (b->list)
		return bl_bench_report(b, &r, err);
	bl_cli_line(b->c, "%-24s first frame %.1f ms (%.1f .. %.1f), aim 150 ms", r.name, 1e3 * bl_bench_median(&r.job), 1e3 * bl_bench_min(&r.job),
		    1e3 * bl_bench_max(&r.job));
	return bl_cli_flush(b->c, err);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

struct latencies { double s[KEYS_WANT]; int n, lost; };

/* The export writes beside its final name until it is proved. */
static bool exporting(const struct bench *b)
{
	struct bl_err ignored = BL_ERR_INIT;
	char **found;
	size_t n;
	bool yes = false;

	if (bl_list_dir(&found, &n, b->folder, &ignored))
		return false;
	for (size_t i = 0; i < n; i++)
		yes |= bl_starts_with(found[i], "." KEYS_ZIP ".") && bl_ends_with(found[i], ".tmp");
	bl_list_free(found);
	return yes;
}

/* Moves the cursor as long as the program works, and waits until its mark comes in another row: bytes alone prove nothing, because what is being
 * computed draws too. Keys at whose end the work was over, or the program was idle where nothing tells of the work, are not counted; it may only
 * have been without a processor, so it is over when it was idle many times in a row. */
static void press(const struct bench *b, struct tty *t, struct latencies *l, bool (*working)(const struct bench *b))
{
	double cpu = cpu_seconds(t);
	uint64_t since = bl_now_ns();
	int idle = 0;

	for (int i = 0; l->n < KEYS_WANT && !bl_bench_stopped(b); i++) {
		drain(t, 0);
		uint64_t at = bl_now_ns();
		if (write(t->fd, i % 24 < 12 ? "j" : "k", 1) != 1)
			return;
		double s = until(t, "\xe2\x96\xb6", 2000, at);
		usleep(3000);
		double used = cpu_seconds(t) - cpu, wall = (double)(bl_now_ns() - since) / 1e9;
		cpu += used;
		since += (uint64_t)(wall * 1e9);
		idle = used < BUSY * wall ? idle + 1 : 0;
		if (working ? !working(b) : idle == IDLE)
			return;
		if (!working && idle)
			continue;
		if (s < 0)
			l->lost++;
		else
			l->s[l->n++] = s;
	}
}

static enum bl_status keys_report(struct bench *b, const char *when, struct latencies *l, struct bl_err *err)
{
	qsort(l->s, (size_t)l->n, sizeof *l->s, by_value);
	double p50 = l->n ? l->s[l->n / 2] : 0, p99 = l->n ? l->s[l->n * 99 / 100] : 0, top = l->n ? l->s[l->n - 1] : 0;

	if (b->list) {
		cJSON *e = cJSON_CreateObject();
		cJSON_AddStringToObject(e, "name", when);
		bl_json_add_int(e, "keys", l->n);
		bl_json_add_int(e, "lost", l->lost);
		cJSON_AddNumberToObject(e, "p50", p50);
		cJSON_AddNumberToObject(e, "p99", p99);
		cJSON_AddNumberToObject(e, "max", top);
		cJSON_AddItemToArray(b->list, e);
		return BL_OK;
	}
	if (l->n)
		bl_cli_wrapped(b->c, 4, "%-12s key to frame p50 %.2f ms, p99 %.2f ms, max %.2f ms, aim p99 16 ms (%d keys%s, %d lost)", when, 1e3 * p50, 1e3 * p99, 1e3 * top, l->n,
			       l->n < 100 ? ": too few for a p99" : "", l->lost);
	else
		bl_cli_wrapped(b->c, 4, "%-24s the work was over before a key could be pressed: take a larger --model", when);
	return bl_cli_flush(b->c, err);
}

/* A program with its first screen on; statistics begin with it. */
static enum bl_status ready(const struct bench *b, struct tty *t, struct bl_err *err)
{
	if (start(b, t, err))
		return err->status;
	if (until(t, "\xe2\x96\xb6", 20000, bl_now_ns()) >= 0)
		return BL_OK;
	finish(t);
	return bl_fail(err, BL_FAILED, "keys: the first screen did not come");
}

enum bl_status bl_bench_keys_stats(struct bench *b, struct bl_err *err)
{
	struct latencies l = {.n = 0};

	for (int i = 0; i < KEYS_TRIES && l.n < KEYS_WANT && !bl_bench_stopped(b); i++) {
		struct tty t;
		int before = l.n;
		if (ready(b, &t, err))
			return err->status;
		press(b, &t, &l, NULL);
		finish(&t);
		if (l.n - before < 2 && i > 2) /* the model is too small for this */
			break;
	}
	return keys_report(b, "keys-stats", &l, err);
}

static void say(struct tty *t, const char *text, int quiet_ms)
{
	if (write(t->fd, text, strlen(text)) > 0)
		drain(t, quiet_ms);
}

enum bl_status bl_bench_keys_export(struct bench *b, struct bl_err *err)
{
	struct latencies l = {.n = 0};
	char *zip = bl_path_join(b->folder, KEYS_ZIP);
	struct bl_str command = {0};

	bl_str_addf(&command, ":preset W8A8\r:export %s\r", zip);
	for (int i = 0; i < KEYS_TRIES && l.n < KEYS_WANT && !bl_bench_stopped(b); i++) {
		struct tty t;
		int before = l.n;
		unlink(zip);
		if (ready(b, &t, err))
			break;
		say(&t, command.s, 300);
		say(&t, "\r", 10);
		say(&t, "\033", 60); /* back to the layers while it runs */
		press(b, &t, &l, exporting);
		finish(&t);
		if (l.n - before < 2 && i > 2)
			break;
	}
	unlink(zip);
	bl_free(zip);
	bl_str_free(&command);
	return err->status ? err->status : keys_report(b, "keys-export", &l, err);
}

/* ---- a calibration ---- */

/* 1 running, 0 over, -1 not begun: what the program's cache says. */
static int calibration(const struct bench *b)
{
	char *cache = bl_path_join(b->home, "bitlathe");
	struct bl_cache_entry *e = NULL;
	size_t n = 0;
	int state = -1;

	bl_cache_list(&e, &n, cache);
	for (size_t i = 0; i < n; i++)
		if (!strcmp(e[i].kind, "calib"))
			state = state == 1 || !e[i].complete;
	bl_cache_free(e, n);
	bl_free(cache);
	return state;
}

static bool calibrating(const struct bench *b)
{
	return calibration(b) == 1;
}

/* Rows of random token numbers that model and tokenizer both know. */
static enum bl_status make_rows(const char *path, const struct bl_model *m, struct bl_err *err)
{
	struct bl_tokenizer *tokenizer = NULL;
	int64_t vocab = m->config.vocab;
	struct bl_str text = {0};
	struct bl_rng r;

	if (bl_tokenizer_open(&tokenizer, m->dir, err))
		return err->status;
	vocab = bl_tokenizer_size(tokenizer) < vocab ? bl_tokenizer_size(tokenizer) : vocab;
	bl_tokenizer_free(tokenizer);
	bl_rng_seed(&r, 3);
	for (int i = 0; i < ROWS; i++) {
		bl_str_add(&text, "{\"input_ids\": [");
		for (int k = 0; k < ROW_IDS; k++)
			bl_str_addf(&text, "%s%d", k ? "," : "", (int)(bl_rng_u64(&r) % (uint64_t)vocab));
		bl_str_add(&text, "]}\n");
	}
	bl_write_file(path, bl_str_c(&text), text.len, 0644, err);
	bl_str_free(&text);
	return err->status;
}

enum bl_status bl_bench_keys_calibrate(struct bench *b, struct bl_err *err)
{
	struct latencies l = {.n = 0};
	char *data = bl_path_join(b->home, "rows.jsonl");
	int64_t len = b->s->model->config.max_positions < ROW_IDS ? b->s->model->config.max_positions : ROW_IDS;
	struct bl_str command = {0};
	struct tty t;

	bl_str_addf(&command, ":calibrate %s samples=%d seqlen=%d\r", data, ROWS, (int)len);
	if (make_rows(data, b->s->model, err) == BL_OK && ready(b, &t, err) == BL_OK) {
		uint64_t start = bl_now_ns();
		say(&t, command.s, 300);
		while (calibration(b) < 0 && bl_now_ns() - start < 20000000000ull && !bl_bench_stopped(b))
			drain(&t, 50);
		if (calibration(b) < 0)
			bl_fail(err, BL_FAILED, "keys-calibrate: no calibration began within 20 seconds: can this model be run (`bitlathe forward`), has it a tokenizer?");
		else
			press(b, &t, &l, calibrating);
		finish(&t);
	}
	bl_free(data);
	bl_str_free(&command);
	return err->status ? err->status : keys_report(b, "keys-calibrate", &l, err);
}
