/* SPDX-License-Identifier: Apache-2.0
 * What commands share. Signals only set a flag; the thread that shows progress looks at it. */
#include "tui/cli.h"

#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/session/run.h"

static atomic_int interrupted;

static void on_signal(int sig)
{
	atomic_store(&interrupted, sig);
}

void bl_cli_signals(void)
{
	struct sigaction sa = {.sa_handler = on_signal}, was;

	sigemptyset(&sa.sa_mask);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	/* A lost terminal is told of more than once (by the kernel and by the shell): this stands while the workbench, whose own handlers are gone by
	 * then, still clears away. Whoever started us with nohup meant it. */
	if (sigaction(SIGHUP, NULL, &was) == 0 && was.sa_handler != SIG_IGN)
		sigaction(SIGHUP, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
}

enum bl_status bl_cli_interruption(struct bl_err *err)
{
	int sig = atomic_load(&interrupted);

	if (!sig)
		return BL_OK;
	bl_err_clear(err);
	return bl_fail(err, sig == SIGINT ? BL_CANCELLED : BL_TERMINATED, "%s: nothing was left half-written", sig == SIGINT ? "interrupted" : "terminated");
}

enum bl_status bl_cli_time_limit(struct bl_cli *c, struct bl_err *err)
{
	const char *text = c->o.value[BL_OPT_TIME_LIMIT];
	char *end;

	if (!text)
		return BL_OK;
	double v = strtod(text, &end);
	if (end == text || *end || !(v >= 0.001 && v <= 1e9))
		return bl_fail(err, BL_USAGE, "--time-limit: must be seconds, 0.001 .. 1000000000, is %s", text);
	c->deadline = bl_now_ns() + (uint64_t)(v * 1e9);
	return BL_OK;
}

static bool overdue(const struct bl_cli *c)
{
	return c->deadline && bl_now_ns() > c->deadline;
}

static enum bl_status fail_overdue(const struct bl_cli *c, struct bl_err *err)
{
	bl_err_clear(err);
	return bl_fail(err, BL_TIMEOUT, "the time limit of %s s was reached; nothing was left half-written", c->o.value[BL_OPT_TIME_LIMIT]);
}

enum bl_status bl_cli_stopped(const struct bl_cli *c, struct bl_err *err)
{
	return bl_cli_interruption(err) ? err->status : overdue(c) ? fail_overdue(c, err) : BL_OK;
}

/* ---- opening ---- */

static enum bl_status apply_config(struct bl_plan *p, const char *text, struct bl_err *err)
{
	const char *eq = strchr(text, '=');

	if (!eq)
		return bl_fail(err, BL_USAGE, "--config %s: must be KEY=VALUE", text);
	char *key = bl_xstrndup(text, (size_t)(eq - text));
	enum bl_status s = bl_plan_set_edit(p, key, eq + 1, err);
	bl_free(key);
	return s;
}

/* --stage A --stage B are the plan's stages from now on, in this order. They need what flows: a stored calibration is taken up. */
static enum bl_status apply_stages(const struct bl_options *o, struct bl_session *s, struct bl_err *err)
{
	struct bl_err none = BL_ERR_INIT;
	struct bl_str text = {0};
	bool given = false;

	for (int i = 0; i < o->n_many; i++)
		if (o->many_of[i] == BL_OPT_STAGE) {
			given = true;
			if (strcmp(o->many[i], "none"))
				bl_str_addf(&text, "%s%s", text.len ? ";" : "", o->many[i]);
		}
	if (given)
		bl_session_set_stages(s, bl_str_c(&text), err);
	bl_str_free(&text);
	if (!err->status && *bl_plan_stages(s->plan))
		(void)bl_session_adopt_calib(s, NULL, &none); /* whether one is needed is seen when they are made */
	return err->status;
}

static enum bl_status apply_lock(struct bl_session *s, const char *pattern, bool lock, struct bl_err *err)
{
	uint8_t *selected = bl_xalloc((size_t)s->model->n_units + 1, 1);

	if (bl_pattern_match(s->model, pattern, selected, NULL, err) == BL_OK) {
		bl_plan_begin(s->plan, pattern);
		for (int i = 0; i < s->model->n_units; i++)
			if (selected[i])
				bl_plan_set_lock(s->plan, i, lock);
		bl_plan_end(s->plan);
	}
	bl_free(selected);
	return err->status;
}

static enum bl_status apply_edit(struct bl_cli *c, struct bl_session *s, enum bl_option which, const char *text, struct bl_err *err)
{
	int changed = 0, locked = 0;

	switch (which) {
	case BL_OPT_CONFIG:
		return apply_config(s->plan, text, err);
	case BL_OPT_SET:
		bl_plan_set_text(s->plan, s->model, text, &changed, &locked, err);
		break;
	case BL_OPT_METHOD:
		if (!bl_plan_method_text(s->plan, s->model, text, &changed, &locked, err) && !changed && !locked)
			bl_fail(err, BL_USAGE, "--method %s: every unit that matches is in full precision and has no method (--set gives both)", text);
		break;
	case BL_OPT_LOCK:
	case BL_OPT_UNLOCK:
		return apply_lock(s, text, which == BL_OPT_LOCK, err);
	default:
		return BL_OK; /* stages and data have their own places */
	}
	if (!err->status && locked)
		bl_str_addf(&c->remarks, "%s: %d locked unit%s kept\n", text, locked, locked == 1 ? "" : "s");
	return err->status;
}

enum bl_status bl_cli_calib_key(const struct bl_cli *c, char key[65], struct bl_err *err)
{
	const char *prefix = c->o.value[BL_OPT_CALIBRATION];
	struct bl_cache_entry *e;
	char *dir = bl_cli_cache(c);
	size_t n;
	int found = 0;

	bl_cache_list(&e, &n, dir);
	for (size_t i = 0; i < n; i++)
		if (*prefix && bl_starts_with(e[i].key, prefix) && !strcmp(e[i].kind, "calib")) {
			snprintf(key, 65, "%s", e[i].key);
			found++;
		}
	if (found != 1)
		bl_fail(err, found ? BL_USAGE : BL_NOT_FOUND, "--calibration %s: %s in %s (bitlathe cache lists them)", prefix, found ? "more than one key begins so" : "no key begins so", dir);
	bl_cache_free(e, n);
	bl_free(dir);
	return err->status;
}

static enum bl_status apply(struct bl_cli *c, struct bl_session *s, struct bl_err *err)
{
	const struct bl_options *o = &c->o;
	char key[65];

	if (bl_given(o, BL_OPT_PRESET) && bl_plan_preset(s->plan, s->model, o->value[BL_OPT_PRESET], err))
		return err->status;
	if (bl_given(o, BL_OPT_RECIPE) && bl_session_recipe(s, o->value[BL_OPT_RECIPE], &c->remarks, err))
		return err->status;
	for (int i = 0; i < o->n_many; i++)
		if (apply_edit(c, s, o->many_of[i], o->many[i], err))
			return err->status;
	if (bl_given(o, BL_OPT_RECOMMENDED) && bl_session_recommend(s, err))
		return err->status;
	if (bl_given(o, BL_OPT_CALIBRATION) && (bl_cli_calib_key(c, key, err) || bl_session_adopt_calib(s, key, err)))
		return err->status;
	if (apply_stages(o, s, err))
		return err->status;
	if (bl_given(o, BL_OPT_FORMAT))
		bl_plan_set_format(s->plan, o->value[BL_OPT_FORMAT]);
	if (bl_given(o, BL_OPT_NONFINITE))
		bl_plan_set_zero_nonfinite(s->plan, true);
	if (bl_given(o, BL_OPT_REFUSE_NONFINITE))
		bl_plan_set_zero_nonfinite(s->plan, false);
	for (int i = 0; i < s->model->n_units; i++) {
		const struct bl_choice *ch = bl_plan_choice(s->plan, i);
		struct bl_solver solver;
		if (ch->scheme.number == BL_NUM_FULL)
			continue;
		if (bl_solver_init(&solver, &s->registry, &ch->scheme, ch->method, ch->params, false, err)) {
			if (err->status == BL_USAGE && !o->n_many)
				err->status = BL_INVALID; /* a parameter that there is not, in a plan file */
			return bl_err_prefix(err, "%s", s->model->units[i].name);
		}
		bl_solver_fini(&solver);
	}
	return BL_OK;
}

enum bl_status bl_cli_open(struct bl_cli *c, struct bl_session **out, const char *argument, struct bl_err *err)
{
	struct bl_session *s;

	if (bl_session_open(&s, argument, &c->session, err))
		return err->status;
	if (s->notice)
		bl_str_addf(&c->remarks, "%s\n", s->notice);
	if (apply(c, s, err)) {
		bl_session_close(s);
		return err->status;
	}
	bl_session_edited(s);
	*out = s;
	return BL_OK;
}

/* ---- work with progress ---- */

struct work {
	enum bl_status (*fn)(void *ctx, struct bl_err *err);
	void *ctx;
	struct bl_err err;
	enum bl_status status;
	atomic_int done;
};

static void *work_main(void *arg)
{
	struct work *w = arg;

	w->status = w->fn(w->ctx, &w->err);
	atomic_store(&w->done, 1);
	return NULL;
}

static void show(const struct bl_cli *c, const char *name, const struct bl_progress *p, double seconds)
{
	static const char *const phases[] = {" write", " prove"};
	bool two = !strcmp(name, "export"); /* the only work in two phases */
	bool tokens = !strcmp(name, "evaluate") || !strcmp(name, "calibrate") || !strcmp(name, "compare");
	double done = (double)atomic_load(&p->done_bytes), total = (double)atomic_load(&p->total_bytes);
	double share = total > 0 ? done / total : 0, rate = seconds > 0 ? done / seconds : 0;
	char left[24] = "", bar[33];
	bool tty = isatty(2);

	if (c->quiet || total <= 0)
		return;
	for (int i = 0; i < 32; i++)
		bar[i] = i < (int)(32 * share) ? '#' : '.';
	bar[32] = '\0';
	if (rate > 0)
		bl_human_secs(left, sizeof left, (total - done) / rate);
	if (!strcmp(name, "search") || !strcmp(name, "quantize") || !strcmp(name, "methods") || !strcmp(name, "measure")) { /* counts, not bytes */
		fprintf(stderr, "%s%s [%s] %3.0f %%  %s left%s", tty ? "\r" : "", name, bar, 100 * (share < 1 ? share : 1), left, tty ? "   " : "\n");
		return;
	}
	fprintf(stderr, "%s%s%s [%s] %3.0f %%  %.2f %s  %s left%s", tty ? "\r" : "", name, two ? phases[atomic_load(&p->phase) & 1] : "", bar,
		100 * (share < 1 ? share : 1), rate / (tokens ? 1e3 : 1e9), tokens ? "k tokens/s" : "GB/s", left, tty ? "" : "\n");
}

enum bl_status bl_cli_work(struct bl_cli *c, const char *name, enum bl_status (*fn)(void *ctx, struct bl_err *err), void *ctx, struct bl_progress *progress,
			   struct bl_err *err)
{
	struct work w = {.fn = fn, .ctx = ctx};
	pthread_t thread;
	uint64_t start = bl_now_ns(), shown = start, phase_start = start;
	int phase = 0;
	bool timed_out = false, drew = false;

	if (overdue(c))
		return fail_overdue(c, err);
	if (pthread_create(&thread, NULL, work_main, &w))
		return bl_fail(err, BL_NO_MEMORY, "no thread could be started");
	while (!atomic_load(&w.done)) {
		struct timespec pause = {0, 5000000};
		uint64_t now = bl_now_ns();
		timed_out |= overdue(c);
		if (atomic_load(&interrupted) || timed_out)
			atomic_store(&progress->cancel, 1);
		if (atomic_load(&progress->phase) != phase) {
			phase = atomic_load(&progress->phase);
			phase_start = now;
		}
		if (now - shown > (isatty(2) ? 100000000u : 3000000000u)) {
			show(c, name, progress, (double)(now - phase_start) / 1e9);
			shown = now;
			drew = true;
		}
		nanosleep(&pause, NULL);
	}
	pthread_join(thread, NULL);
	if (drew && isatty(2) && !c->quiet)
		fprintf(stderr, "\r%78s\r", "");
	if (w.status == BL_CANCELLED && timed_out)
		return fail_overdue(c, err);
	if (w.status == BL_CANCELLED && atomic_load(&interrupted))
		return bl_cli_interruption(err);
	if (w.status && !err->status)
		*err = w.err;
	return w.status;
}

/* ---- output ---- */

void bl_cli_line(struct bl_cli *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	bl_str_vaddf(&c->text, fmt, ap);
	va_end(ap);
	bl_str_addc(&c->text, '\n');
}

void bl_cli_wrap(struct bl_str *out, int indent, const char *text)
{
	int column = 0, margin = 0;

	while (*text) {
		size_t space = strspn(text, " "), word = strcspn(text + space, " ");
		int width = 0;
		for (size_t i = 0; i < word; i++)
			width += ((unsigned char)text[space + i] & 0xc0) != 0x80; /* characters, not bytes */
		if (column > margin && column + (int)space + width > BL_CLI_COLUMNS) {
			bl_str_addf(out, "\n%*s", indent, "");
			column = margin = indent;
		} else {
			bl_str_addn(out, text, space);
			column += (int)space;
		}
		bl_str_addn(out, text + space, word);
		column += width;
		text += space + word;
	}
	bl_str_addc(out, '\n');
}

void bl_cli_wrapped(struct bl_cli *c, int indent, const char *fmt, ...)
{
	struct bl_str line = {0};
	va_list ap;

	va_start(ap, fmt);
	bl_str_vaddf(&line, fmt, ap);
	va_end(ap);
	bl_cli_wrap(&c->text, indent, bl_str_c(&line));
	bl_str_free(&line);
}

void bl_cli_printable(struct bl_str *dst, const struct bl_str *src)
{
	const char *at = src->s, *end = src->s + src->len;

	while (src->len && at < end) {
		const char *stop = at;
		while (stop < end && *stop && *stop != '\n' && *stop != '\t')
			stop++;
		size_t n = (size_t)(stop - at), cap = 4 * n + 1;
		char *piece = bl_xstrndup(at, n), *safe = bl_xalloc(cap, 1);
		bl_str_add(dst, bl_printable(safe, cap, piece));
		bl_free(piece);
		bl_free(safe);
		if (stop < end && *stop)
			bl_str_addc(dst, *stop);
		at = stop + 1;
	}
}

enum bl_status bl_cli_flush(struct bl_cli *c, struct bl_err *err)
{
	struct bl_str out = {0};

	if (c->json)
		return BL_OK;
	bl_cli_printable(&out, &c->text);
	bl_str_clear(&c->text);
	if (out.len && (fwrite(out.s, 1, out.len, stdout) != out.len || fflush(stdout)))
		bl_fail_sys(err, BL_IO, "standard output cannot be written");
	bl_str_free(&out);
	return err->status;
}

enum bl_status bl_cli_size(const struct bl_options *o, enum bl_option option, uint64_t least, uint64_t *out, struct bl_err *err)
{
	const char *text = o->value[option];
	double v;

	*out = 0;
	if (!text)
		return BL_OK;
	if (!bl_parse_bytes(text, &v) || v < (double)least || v > 1e15)
		return bl_fail(err, BL_USAGE, "--%s: must be a size like 512MiB, 10GiB or 5GB%s, is %s", bl_option_row(option)->name, least == BL_PART_LEAST ? " from 64KiB on" : "", text);
	*out = (uint64_t)v;
	return BL_OK;
}

enum bl_status bl_cli_arithmetic(const struct bl_cli *c, bool *transformers, struct bl_err *err)
{
	const char *v = c->o.value[BL_OPT_ARITHMETIC];

	*transformers = v && !strcmp(v, "transformers");
	if (v && !*transformers && strcmp(v, "server"))
		return bl_fail(err, BL_USAGE, "--arithmetic: must be server or transformers, is %s", v);
	return BL_OK;
}

char *bl_cli_cache(const struct bl_cli *c)
{
	return bl_given(&c->o, BL_OPT_CACHE) ? bl_xstrdup(c->o.value[BL_OPT_CACHE]) : bl_xdg_dir("CACHE");
}

bool bl_cli_may_replace(const struct bl_cli *c, const char *path)
{
	struct bl_str question = {0}, safe = {0};
	char answer[16] = "";

	if (bl_given(&c->o, BL_OPT_FORCE) || bl_given(&c->o, BL_OPT_YES))
		return true;
	if (!isatty(0) || !isatty(2))
		return false;
	bl_str_addf(&question, "%s exists. Replace it? [y/N] ", path);
	bl_cli_printable(&safe, &question);
	fputs(bl_str_c(&safe), stderr);
	if (!fgets(answer, sizeof answer, stdin))
		answer[0] = '\0';
	bl_str_free(&question);
	bl_str_free(&safe);
	return answer[0] == 'y' || answer[0] == 'Y';
}

cJSON *bl_cli_quantity(cJSON *o, const char *key, const struct bl_quantity *q)
{
	cJSON *j = cJSON_AddObjectToObject(o, key);

	if (q->origin == BL_UNKNOWN) {
		cJSON_AddNullToObject(j, "value");
		cJSON_AddStringToObject(j, "unit", q->unit);
		cJSON_AddNullToObject(j, "spread");
	} else {
		cJSON_AddNumberToObject(j, "value", q->value);
		cJSON_AddStringToObject(j, "unit", q->unit);
		cJSON_AddNumberToObject(j, "spread", q->spread);
	}
	cJSON_AddStringToObject(j, "origin", bl_origin_name(q->origin));
	cJSON_AddStringToObject(j, "from", q->from ? q->from : "");
	return j;
}

void bl_cli_problems(cJSON *o, const char *key, const struct bl_model *m, const struct bl_problem *p, int n)
{
	cJSON *list = cJSON_AddArrayToObject(o, key);

	for (int i = 0; i < n; i++) {
		cJSON *j = cJSON_CreateObject();
		if (p[i].unit >= 0)
			cJSON_AddStringToObject(j, "unit", m->units[p[i].unit].name);
		else
			cJSON_AddNullToObject(j, "unit");
		cJSON_AddStringToObject(j, "rule", p[i].rule ? p[i].rule : "");
		cJSON_AddStringToObject(j, "sentence", p[i].sentence);
		cJSON_AddBoolToObject(j, "fatal", p[i].fatal);
		cJSON_AddItemToArray(list, j);
	}
}
