/* SPDX-License-Identifier: Apache-2.0
 * bench: check nothing, measure whole jobs, print each with its baseline. frame and keys run the program itself in a pseudo-terminal, as a person
 * would see it. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/bench/bench.h"
#include "core/session/machine.h"
#include "tui/cli.h"

#define KEYS_MAX 400

static const char *const names[] = {"read", "stats", "export-folder", "export-zip", "frame", "keys"};

/* ---- rows ---- */

static void report(struct bl_cli *c, cJSON *list, const struct bl_bench_row *r)
{
	double job = bl_bench_median(&r->job), base = bl_bench_median(&r->baseline), ratio = base > 0 ? job / base : 0;
	char bytes[32], anon[32] = "";

	if (list) {
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
		cJSON_AddItemToArray(list, e);
		return;
	}
	if (r->anon_bytes)
		bl_human_bytes(anon, sizeof anon, (double)r->anon_bytes);
	bl_cli_line(c, "%-14s %9s  %8.4f s (%.4f .. %.4f)  %6.2f GB/s", r->name, bl_human_bytes(bytes, sizeof bytes, (double)r->bytes), job, bl_bench_min(&r->job),
		    bl_bench_max(&r->job), (double)r->bytes / job / 1e9);
	if (base > 0)
		bl_cli_line(c, "%14s baseline %8.4f s (%s)  ratio %.2f, aim %.2f%s%s", "", base, r->baseline_name, ratio, r->goal, *anon ? ", resident beyond maps " : "", anon);
}

/* ---- the program in a pseudo-terminal ---- */

struct tty { int fd; pid_t pid; };

static enum bl_status start(struct bl_cli *c, struct tty *t, const char *model, struct bl_err *err)
{
	struct winsize size = {.ws_row = 24, .ws_col = 80};
	char *program = bl_path_join(c->program_dir ? c->program_dir : ".", "bitlathe");
	int devnull;

	t->pid = forkpty(&t->fd, NULL, NULL, &size);
	if (t->pid == 0) {
		setenv("TERM", "xterm-256color", 1);
		setenv("LC_ALL", "C.UTF-8", 1);
		setenv("XDG_STATE_HOME", "/tmp/bitlathe-bench-state", 1);
		devnull = open("/dev/null", O_WRONLY);
		if (devnull >= 0)
			dup2(devnull, 2);
		execl(program, "bitlathe", model, (char *)NULL);
		_exit(127);
	}
	bl_free(program);
	return t->pid < 0 ? bl_fail_sys(err, BL_FAILED, "no pseudo-terminal could be opened") : BL_OK;
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

static enum bl_status frame(struct bl_cli *c, struct bl_bench_row *r, const char *model, int runs, struct bl_err *err)
{
	memset(r, 0, sizeof *r);
	snprintf(r->name, sizeof r->name, "frame");
	for (int i = 0; i < runs; i++) {
		struct tty t;
		uint64_t at = bl_now_ns();
		if (start(c, &t, model, err))
			return err->status;
		double s = until(&t, "scheme", 20000, at);
		finish(&t);
		if (s < 0)
			return bl_fail(err, BL_FAILED, "frame: the first screen did not come");
		r->job.s[r->job.n++] = s;
	}
	return BL_OK;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

struct latencies { double s[KEYS_MAX]; int n, lost; };

/* Moves the cursor and waits for the answer: output that begins after the key. Jobs draw too, so what was on its way before is drained first. */
static void press(struct tty *t, struct latencies *l, int n)
{
	for (int i = 0; i < n && l->n < KEYS_MAX; i++) {
		drain(t, 0);
		uint64_t at = bl_now_ns();
		if (write(t->fd, i % 24 < 12 ? "j" : "k", 1) != 1)
			return;
		double s = until(t, NULL, 2000, at);
		if (s < 0)
			l->lost++;
		else
			l->s[l->n++] = s;
		usleep(3000);
	}
}

static void keys_report(struct bl_cli *c, cJSON *list, const char *when, struct latencies *l)
{
	qsort(l->s, (size_t)l->n, sizeof *l->s, by_value);
	double p50 = l->n ? l->s[l->n / 2] : 0, p99 = l->n ? l->s[l->n * 99 / 100] : 0, top = l->n ? l->s[l->n - 1] : 0;

	if (list) {
		cJSON *e = cJSON_CreateObject();
		cJSON_AddStringToObject(e, "name", when);
		bl_json_add_int(e, "keys", l->n);
		bl_json_add_int(e, "lost", l->lost);
		cJSON_AddNumberToObject(e, "p50", p50);
		cJSON_AddNumberToObject(e, "p99", p99);
		cJSON_AddNumberToObject(e, "max", top);
		cJSON_AddItemToArray(list, e);
	} else {
		bl_cli_line(c, "%-14s key to frame: p50 %.2f ms, p99 %.2f ms, max %.2f ms (%d keys, %d lost), aim p99 16 ms", when, 1e3 * p50, 1e3 * p99, 1e3 * top, l->n,
			    l->lost);
	}
}

static enum bl_status keys(struct bl_cli *c, cJSON *list, const char *model, const char *folder, struct bl_err *err)
{
	struct latencies stats = {.n = 0}, export = {.n = 0};
	struct tty t;
	char command[4200];

	if (start(c, &t, model, err))
		return err->status;
	if (until(&t, "scheme", 20000, bl_now_ns()) < 0) {
		finish(&t);
		return bl_fail(err, BL_FAILED, "keys: the first screen did not come");
	}
	press(&t, &stats, 200);
	snprintf(command, sizeof command, ":preset W8A8\r:export %s/bench-keys.zip\r", folder);
	if (write(t.fd, command, strlen(command)) > 0) {
		drain(&t, 300);
		if (write(t.fd, "\r", 1) == 1) {
			drain(&t, 30);
			if (write(t.fd, "\033", 1) == 1) /* back to the layers while it runs */
				drain(&t, 60);
			press(&t, &export, 200);
		}
	}
	finish(&t);
	snprintf(command, sizeof command, "%s/bench-keys.zip", folder);
	unlink(command);
	keys_report(c, list, "keys-stats", &stats);
	keys_report(c, list, "keys-export", &export);
	return BL_OK;
}

/* ---- the command ---- */

static bool wanted(const struct bl_cli *c, const char *name)
{
	for (int i = 0; i < c->o.n_args; i++)
		if (!strcmp(c->o.args[i], name))
			return true;
	return !c->o.n_args;
}

static enum bl_status run(struct bl_cli *c, struct bl_session *s, const char *model, const char *folder, int runs, struct bl_err *err)
{
	cJSON *list = c->json ? cJSON_AddArrayToObject(c->json, "rows") : NULL;
	struct bl_bench_row r;

	if (wanted(c, "read") && bl_bench_read(&r, s, runs, err) == BL_OK)
		report(c, list, &r);
	if (!err->status && wanted(c, "stats") && bl_bench_stats(&r, s, runs, err) == BL_OK)
		report(c, list, &r);
	for (int zip = 0; zip < 2 && !err->status; zip++)
		if (wanted(c, zip ? "export-zip" : "export-folder") && bl_bench_export(&r, s, folder, zip, runs, err) == BL_OK)
			report(c, list, &r);
	if (!err->status && wanted(c, "frame") && frame(c, &r, model, runs, err) == BL_OK) {
		if (list)
			report(c, list, &r);
		else
			bl_cli_line(c, "%-14s first frame %.1f ms (%.1f .. %.1f), aim 150 ms", r.name, 1e3 * bl_bench_median(&r.job), 1e3 * bl_bench_min(&r.job),
				    1e3 * bl_bench_max(&r.job));
	}
	if (!err->status && wanted(c, "keys"))
		keys(c, list, model, folder, err);
	return err->status;
}

enum bl_status bl_cmd_bench(struct bl_cli *c, struct bl_err *err)
{
	const char *model = c->o.value[BL_OPT_MODEL], *folder = c->o.value[BL_OPT_OUT];
	struct bl_session *s;
	struct bl_machine machine;
	long long runs;

	for (int i = 0; i < c->o.n_args; i++) {
		size_t k = 0;
		while (k < sizeof names / sizeof names[0] && strcmp(names[k], c->o.args[i]))
			k++;
		if (k == sizeof names / sizeof names[0])
			return bl_fail(err, BL_USAGE, "bench %s: must be read, stats, export-folder, export-zip, frame or keys", c->o.args[i]);
	}
	if (!model)
		return bl_fail(err, BL_USAGE, "bench: --model says on what");
	if (!folder)
		folder = ".";
	if (bl_option_int(&c->o, BL_OPT_RUNS, 1, BL_BENCH_RUNS_MAX, 3, &runs, err) || bl_session_open(&s, model, &c->session, err))
		return err->status;
	bl_machine_look(&machine, c->program_dir);
	if (c->json) {
		cJSON_AddStringToObject(c->json, "processor", machine.cpu);
		bl_json_add_int(c->json, "threads", bl_pool_threads(s->pool));
		cJSON_AddStringToObject(c->json, "gpu", machine.gpu);
		cJSON_AddStringToObject(c->json, "model", s->model->title);
	} else {
		bl_cli_line(c, "%s, %d threads; gpu: %s", machine.cpu, bl_pool_threads(s->pool), machine.gpu);
		bl_cli_line(c, "model %s, median of %lld runs (least .. most)", s->model->title, runs);
	}
	bl_machine_free(&machine);
	run(c, s, model, folder, (int)runs, err);
	bl_session_close(s);
	return err->status;
}
