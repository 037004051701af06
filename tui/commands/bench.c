/* SPDX-License-Identifier: Apache-2.0
 * bench: check what can be checked, then measure, and print each with its baseline. frame and keys run the program itself in a pseudo-terminal, as a
 * person would see it, with settings and state of its own. */
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
#include "core/bench/bench.h"
#include "core/bench/device.h"
#include "core/session/machine.h"
#include "tui/cli.h"

#define KEYS_WANT  200
#define KEYS_ZIP   "bench-keys.zip"
#define KEYS_TRIES 40  /* starts of the work that the keys must answer beside */
#define IDLE       10  /* keys in a row */
#define BUSY       0.5 /* of one processor: what the program uses while it computes, and never while it waits for a key */

static const char *const names[] = {"read", "stats", "export-folder", "export-zip", "frame", "keys", "kernels", "tokenizer", "cuda"};

struct bench {
	struct bl_cli *c;
	struct bl_session *s;
	const char *model, *folder;
	char home[64];                  /* of the programs that are started: their settings and state */
	int runs;
	struct bl_progress progress;
	cJSON *list;
};

static bool stop(const struct bench *b)
{
	return atomic_load(&b->progress.cancel) != 0;
}

/* ---- rows ---- */

static enum bl_status report(struct bench *b, const struct bl_bench_row *r, struct bl_err *err)
{
	double job = bl_bench_median(&r->job), base = bl_bench_median(&r->baseline), ratio = base > 0 ? job / base : 0;
	char bytes[32];

	if (b->list) {
		cJSON *e = cJSON_CreateObject();
		cJSON_AddStringToObject(e, "name", r->name);
		bl_json_add_int(e, "bytes", (int64_t)r->bytes);
		cJSON_AddNumberToObject(e, "seconds", job);
		cJSON_AddNumberToObject(e, "seconds_min", bl_bench_min(&r->job));
		cJSON_AddNumberToObject(e, "seconds_max", bl_bench_max(&r->job));
		cJSON_AddStringToObject(e, "baseline", r->baseline_name);
		cJSON_AddNumberToObject(e, "baseline_seconds", base);
		cJSON_AddNumberToObject(e, "ratio", ratio);
		cJSON_AddNumberToObject(e, "goal", r->goal);
		bl_json_add_int(e, "anon_bytes", (int64_t)r->anon_bytes);
		cJSON_AddItemToArray(b->list, e);
		return BL_OK;
	}
	double speed = job > 0 ? (double)r->bytes / job : 0;
	bl_cli_line(b->c, "%-24s %8s  %8.4f s (%.4f .. %.4f)  %6.2f %s", r->name, bl_human_bytes(bytes, sizeof bytes, (double)r->bytes), job,
		    bl_bench_min(&r->job), bl_bench_max(&r->job), speed / (speed < 1e8 ? 1e6 : 1e9), speed < 1e8 ? "MB/s" : "GB/s");
	if (base > 0 && r->goal > 0)
		bl_cli_wrapped(b->c, 4, "    ratio %.2f, aim %.2f, to %.4f s: %s", ratio, r->goal, base, r->baseline_name);
	else if (base > 0)
		bl_cli_wrapped(b->c, 4, "    ratio %.2f to %.4f s: %s", ratio, base, r->baseline_name);
	if (r->anon_bytes)
		bl_cli_line(b->c, "    %s resident beyond mapped files at most", bl_human_bytes(bytes, sizeof bytes, (double)r->anon_bytes));
	return bl_cli_flush(b->c, err);
}

/* ---- the program in a pseudo-terminal ---- */

extern char **environ;

struct tty { int fd; pid_t pid; clockid_t clock; };

/* This environment with some variables replaced; made before the fork, where memory may still be asked for. */
static char **environment(const struct bench *b)
{
	static const char *const ours[] = {"TERM=", "LC_ALL=", "NO_COLOR=", "XDG_STATE_HOME=", "XDG_CONFIG_HOME="};
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

static enum bl_status frame(struct bench *b, struct bl_err *err)
{
	struct bl_bench_row r;

	bl_bench_row_init(&r, "frame", "");
	for (int i = 0; i < b->runs && !stop(b); i++) {
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
		return report(b, &r, err);
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
 * computed draws too. Keys at whose end no export was being written, or the program was idle where nothing is written, are not counted; it may only
 * have been without a processor, so it is over when it was idle many times in a row. */
static void press(const struct bench *b, struct tty *t, struct latencies *l, bool export)
{
	double cpu = cpu_seconds(t);
	uint64_t since = bl_now_ns();
	int idle = 0;

	for (int i = 0; l->n < KEYS_WANT && !stop(b); i++) {
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
		if (export ? !exporting(b) : idle == IDLE)
			return;
		if (!export && idle)
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

static enum bl_status keys_stats(struct bench *b, struct bl_err *err)
{
	struct latencies l = {.n = 0};

	for (int i = 0; i < KEYS_TRIES && l.n < KEYS_WANT && !stop(b); i++) {
		struct tty t;
		int before = l.n;
		if (ready(b, &t, err))
			return err->status;
		press(b, &t, &l, false);
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

static enum bl_status keys_export(struct bench *b, struct bl_err *err)
{
	struct latencies l = {.n = 0};
	char *zip = bl_path_join(b->folder, KEYS_ZIP);
	struct bl_str command = {0};

	bl_str_addf(&command, ":preset W8A8\r:export %s\r", zip);
	for (int i = 0; i < KEYS_TRIES && l.n < KEYS_WANT && !stop(b); i++) {
		struct tty t;
		int before = l.n;
		unlink(zip);
		if (ready(b, &t, err))
			break;
		say(&t, command.s, 300);
		say(&t, "\r", 10);
		say(&t, "\033", 60); /* back to the layers while it runs */
		press(b, &t, &l, true);
		finish(&t);
		if (l.n - before < 2 && i > 2)
			break;
	}
	unlink(zip);
	bl_free(zip);
	bl_str_free(&command);
	return err->status ? err->status : keys_report(b, "keys-export", &l, err);
}

/* ---- the command ---- */

static bool wanted(const struct bl_cli *c, const char *name)
{
	for (int i = 0; i < c->o.n_args; i++)
		if (!strcmp(c->o.args[i], name))
			return true;
	return !c->o.n_args;
}

static enum bl_status kernels(struct bench *b, struct bl_err *err)
{
	struct bl_bench_kernels *k;
	struct bl_bench_row r;

	if (bl_bench_kernels_new(&k, err))
		return err->status;
	if (!b->list)
		bl_cli_line(b->c, "kernels, one thread, %s; checked first", bl_bench_kernels_level());
	for (int i = 0; i < bl_bench_kernels_count() && !err->status; i++)
		if (bl_bench_kernel(&r, k, i, b->runs, &b->progress, err) == BL_OK)
			report(b, &r, err);
	bl_bench_kernels_free(k);
	return err->status;
}

/* One operation: its time, rates, and the share of what the device itself reached in the same run. */
static void device_row(void *ctx, const struct bl_bench_device_row *r)
{
	struct bench *b = ctx;
	double s = bl_bench_median(&r->times), share = s > 0 ? r->floor / s : 0;

	if (b->list) {
		cJSON *e = cJSON_CreateObject();
		cJSON_AddStringToObject(e, "name", r->name);
		cJSON_AddNumberToObject(e, "bytes", r->bytes);
		cJSON_AddNumberToObject(e, "flops", r->flops);
		cJSON_AddNumberToObject(e, "seconds", s);
		cJSON_AddNumberToObject(e, "seconds_min", bl_bench_min(&r->times));
		cJSON_AddNumberToObject(e, "seconds_max", bl_bench_max(&r->times));
		cJSON_AddNumberToObject(e, "floor_seconds", r->floor);
		cJSON_AddStringToObject(e, "floor", r->of_flops ? "flops" : "bytes");
		cJSON_AddNumberToObject(e, "share", share);
		cJSON_AddItemToArray(b->list, e);
		return;
	}
	bl_cli_line(b->c, "%-28s %9.1f us (%.1f .. %.1f)  %7.1f GB/s  %6.1f TFLOP/s  %5.1f %% of the %s floor", r->name, 1e6 * s, 1e6 * bl_bench_min(&r->times),
		    1e6 * bl_bench_max(&r->times), s > 0 ? r->bytes / s / 1e9 : 0, s > 0 ? r->flops / s / 1e12 : 0, 100 * share, r->of_flops ? "FLOP" : "byte");
}

static void device_name(void *ctx, const char *name)
{
	struct bench *b = ctx;

	if (b->list)
		cJSON_AddStringToObject(b->c->json, "device", name);
	else
		bl_cli_line(b->c, "cuda, %s; checked beside the CPU first", name);
}

/* Asked for by name it must be there; among all rows its absence is told. */
static enum bl_status cuda(struct bench *b, struct bl_err *err)
{
	struct bl_bench_device d = {.program_dir = b->c->program_dir, .runs = b->runs, .named = device_name, .row = device_row, .ctx = b};

	bl_bench_device(&d, &b->progress, err);
	if (err->status == BL_NO_DEVICE && !b->c->o.n_args) {
		if (!b->list)
			bl_cli_wrapped(b->c, 4, "cuda: skipped: %s", err->text);
		bl_err_clear(err);
	}
	return err->status;
}

static enum bl_status run(void *ctx, struct bl_err *err)
{
	struct bench *b = ctx;
	struct bl_cli *c = b->c;
	struct bl_bench_row r;

	if (wanted(c, "read") && bl_bench_read(&r, b->s, b->runs, &b->progress, err) == BL_OK)
		report(b, &r, err);
	if (!err->status && wanted(c, "stats") && bl_bench_stats(&r, b->s, b->runs, &b->progress, err) == BL_OK)
		report(b, &r, err);
	for (int zip = 0; zip < 2 && !err->status; zip++)
		if (wanted(c, zip ? "export-zip" : "export-folder") && bl_bench_export(&r, b->s, b->folder, zip, b->runs, &b->progress, err) == BL_OK)
			report(b, &r, err);
	atomic_store(&b->progress.total_bytes, 0); /* nothing below has a bar */
	if (!err->status && wanted(c, "frame"))
		frame(b, err);
	if (!err->status && wanted(c, "keys") && keys_stats(b, err) == BL_OK)
		keys_export(b, err);
	if (!err->status && wanted(c, "kernels"))
		kernels(b, err);
	if (!err->status && wanted(c, "cuda"))
		cuda(b, err);
	if (!err->status && wanted(c, "tokenizer") &&
	    bl_bench_tokenizer(&r, b->s->model->dir, bl_given(&c->o, BL_OPT_TEXT) ? c->o.value[BL_OPT_TEXT] : NULL, b->runs, &b->progress, err) == BL_OK)
		report(b, &r, err);
	if (!err->status && stop(b))
		bl_fail(err, BL_CANCELLED, "%s", bl_status_text(BL_CANCELLED));
	return err->status;
}

/* The one that comes with the source, when the program stands where it was built. */
static char *demo_model(const struct bl_cli *c)
{
	char *path = bl_path_join(c->program_dir ? c->program_dir : ".", "../tests/models/tiny-exaone4");

	if (bl_is_dir(path))
		return path;
	bl_free(path);
	return NULL;
}

static void heading(struct bench *b)
{
	struct bl_cli *c = b->c;
	struct bl_machine machine;

	bl_machine_look(&machine, c->program_dir);
	if (c->json) {
		cJSON_AddStringToObject(c->json, "processor", machine.cpu);
		bl_json_add_int(c->json, "threads", bl_pool_threads(b->s->pool));
		cJSON_AddStringToObject(c->json, "gpu", machine.gpu);
		cJSON_AddStringToObject(c->json, "model", b->s->model->title);
		b->list = cJSON_AddArrayToObject(c->json, "rows");
	} else {
		bl_cli_wrapped(c, 2, "%s, %d threads; gpu: %s", machine.cpu, bl_pool_threads(b->s->pool), machine.gpu);
		bl_cli_wrapped(c, 2, "model %s, median of %d runs (least .. most)", b->s->model->title, b->runs);
	}
	bl_machine_free(&machine);
}

static enum bl_status check_names(const struct bl_cli *c, struct bl_err *err)
{
	for (int i = 0; i < c->o.n_args; i++) {
		size_t k = 0;
		while (k < sizeof names / sizeof names[0] && strcmp(names[k], c->o.args[i]))
			k++;
		if (k == sizeof names / sizeof names[0])
			return bl_fail(err, BL_USAGE, "bench %s: must be read, stats, export-folder, export-zip, frame, keys, kernels, tokenizer or cuda (a checkpoint goes to --model)",
				       c->o.args[i]);
	}
	return BL_OK;
}

enum bl_status bl_cmd_bench(struct bl_cli *c, struct bl_err *err)
{
	char *demo = demo_model(c);
	struct bench b = {.c = c, .model = bl_given(&c->o, BL_OPT_MODEL) ? c->o.value[BL_OPT_MODEL] : demo,
			  .folder = bl_given(&c->o, BL_OPT_OUT) ? c->o.value[BL_OPT_OUT] : "."};
	const char *tmp = getenv("TMPDIR");
	long long runs;

	if (check_names(c, err) || bl_option_int(&c->o, BL_OPT_RUNS, 1, BL_BENCH_RUNS_MAX, 3, &runs, err))
		goto done;
	b.runs = (int)runs;
	if (!b.model) {
		bl_fail(err, BL_USAGE, "bench: --model says on what (the demo model is not beside this program)");
		goto done;
	}
	if (!bl_is_dir(b.folder)) {
		bl_fail(err, BL_NOT_FOUND, "--output %s: must be a folder to write in", b.folder);
		goto done;
	}
	if (bl_session_open(&b.s, b.model, &c->session, err))
		goto done;
	snprintf(b.home, sizeof b.home, "%s/bitlathe-bench-XXXXXX", tmp && *tmp && strlen(tmp) < 32 ? tmp : "/tmp");
	if (!mkdtemp(b.home)) {
		bl_fail_sys(err, BL_IO, "%s: cannot be made", b.home);
		goto done;
	}
	heading(&b);
	if (bl_cli_flush(c, err) == BL_OK)
		bl_cli_work(c, "bench", run, &b, &b.progress, err);
	bl_remove_tree(b.home);
done:
	bl_session_close(b.s);
	bl_free(demo);
	return err->status;
}
