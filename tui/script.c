/* SPDX-License-Identifier: Apache-2.0
 * Playing keys into the workbench without a terminal. */
#include "tui/script.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/mem.h"
#include "tui/key.h"

#define SCRIPT_MAX   (1024 * 1024)
#define WAIT_SECONDS 600
#define ROWS_MAX     500
#define COLS_MAX     1000

struct player {
	struct bl_app *app;
	const struct bl_script *s;
	const char *p, *end;
	int line, frame;
	struct bl_str *out;
};

enum bl_status bl_script_size(const char *text, int *rows, int *cols, struct bl_err *err)
{
	char *end;
	long c = strtol(text, &end, 10), r = 0;

	if (*end == 'x' && end != text)
		r = strtol(end + 1, &end, 10);
	if (*end || c < 1 || r < 1 || c > COLS_MAX || r > ROWS_MAX)
		return bl_fail(err, BL_USAGE, "size \"%.40s\": expected COLSxROWS like 80x24, at most %dx%d", text,
			       COLS_MAX, ROWS_MAX);
	*rows = (int)r;
	*cols = (int)c;
	return BL_OK;
}

static enum bl_status show(struct player *pl, bool to_out, struct bl_err *err)
{
	struct bl_str text = { 0 };
	enum bl_status status = BL_OK;

	bl_app_draw(pl->app);
	if (to_out)
		bl_grid_dump(&pl->app->grid, pl->out, pl->s->with_roles);
	if (pl->s->frames_dir) {
		char name[32], *path;

		snprintf(name, sizeof name, "%04d.txt", ++pl->frame);
		path = bl_path_join(pl->s->frames_dir, name);
		bl_grid_dump(&pl->app->grid, &text, pl->s->with_roles);
		status = bl_write_file(path, bl_str_c(&text), text.len, 0644, err);
		bl_free(path);
	}
	bl_str_free(&text);
	return status;
}

static enum bl_status stopped(const struct player *pl, struct bl_err *err)
{
	return pl->s->stopped ? pl->s->stopped(pl->s->ctx, err) : BL_OK;
}

static bool busy(const struct bl_app *app, bool only_stats)
{
	if (!app->session)
		return false;
	return bl_session_stats_running(app->session) || (!only_stats && bl_jobs_busy(app->session->jobs));
}

/* Drawing asks for what the screen shows, so: wait, draw, and again until a drawing asked for nothing new. Nothing is drawn while
 * something runs: what is seen must not depend on how fast it is. */
static enum bl_status wait_idle(struct player *pl, bool only_stats, struct bl_err *err)
{
	uint64_t limit = bl_now_ns() + WAIT_SECONDS * 1000000000ull;

	for (int quiet = 0; quiet < 3; quiet++) {
		while (busy(pl->app, only_stats)) {
			struct pollfd wake = { bl_jobs_wake_fd(pl->app->session->jobs), POLLIN, 0 };

			poll(&wake, 1, 20);
			bl_app_tick(pl->app);
			quiet = 0;
			if (stopped(pl, err))
				return err->status;
			if (bl_now_ns() > limit)
				return bl_fail(err, BL_TIMEOUT, "%s, line %d: still busy after %d seconds", pl->s->keys_path,
					       pl->line, WAIT_SECONDS);
		}
		bl_app_tick(pl->app);
		bl_app_draw(pl->app);
	}
	return BL_OK;
}

static enum bl_status press(struct player *pl, const char *key, struct bl_err *err)
{
	if (bl_app_should_quit(pl->app))
		return BL_OK;
	bl_app_key(pl->app, key);
	bl_app_tick(pl->app);
	return pl->s->frames_dir ? show(pl, false, err) : BL_OK;
}

static enum bl_status type_text(struct player *pl, struct bl_err *err)
{
	enum bl_status status = BL_OK;

	for (pl->p++; pl->p < pl->end && *pl->p != '"' && status == BL_OK;) {
		char one[8];
		size_t n = 1;

		if (*pl->p == '\\' && pl->p + 1 < pl->end)
			pl->p++;
		while (pl->p + n < pl->end && n < 4 && ((unsigned char)pl->p[n] & 0xC0) == 0x80)
			n++;
		memcpy(one, pl->p, n);
		one[n] = '\0';
		pl->line += one[0] == '\n';
		pl->p += n;
		status = press(pl, one, err);
	}
	if (status == BL_OK && pl->p >= pl->end)
		return bl_fail(err, BL_INVALID, "%s, line %d: the quote is not closed", pl->s->keys_path, pl->line);
	pl->p++;
	return status;
}

/* The next word into dst; false at the end. */
static bool next_word(struct player *pl, char *dst, size_t cap)
{
	size_t n = 0;

	for (; pl->p < pl->end; pl->p++) {
		if (*pl->p == '#' && (pl->p + 1 == pl->end || pl->p[1] == ' ' || pl->p[1] == '\n' || pl->p[1] == '#'))
			while (pl->p < pl->end && *pl->p != '\n')
				pl->p++;
		if (pl->p >= pl->end)
			return false;
		pl->line += *pl->p == '\n';
		if (!strchr(" \t\r\n", *pl->p))
			break;
	}
	if (pl->p >= pl->end)
		return false;
	if (*pl->p == '"') {
		snprintf(dst, cap, "\"");
		return true;
	}
	while (pl->p < pl->end && !strchr(" \t\r\n", *pl->p)) {
		if (n + 1 < cap)
			dst[n++] = *pl->p;
		pl->p++;
	}
	dst[n] = '\0';
	return true;
}

static enum bl_status do_word(struct player *pl, const char *word, struct bl_err *err)
{
	char key[BL_KEY_MAX], size[32];
	int rows, cols;

	if (!strcmp(word, "\""))
		return type_text(pl, err);
	if (!strcmp(word, "wait") || !strcmp(word, "wait-stats"))
		return wait_idle(pl, word[4] != '\0', err);
	if (!strcmp(word, "dump"))
		return show(pl, true, err);
	if (!strcmp(word, "resize")) {
		if (!next_word(pl, size, sizeof size) || bl_script_size(size, &rows, &cols, err))
			return bl_fail(err, BL_INVALID, "%s, line %d: resize wants COLSxROWS", pl->s->keys_path,
				       pl->line);
		bl_app_resize(pl->app, rows, cols);
		return pl->s->frames_dir ? show(pl, false, err) : BL_OK;
	}
	if (!bl_key_parse(key, word))
		return bl_fail(err, BL_INVALID, "%s, line %d: \"%.60s\" is neither a key nor a word of scripts",
			       pl->s->keys_path, pl->line, word);
	return press(pl, key, err);
}

enum bl_status bl_script_play(struct bl_app *app, const struct bl_script *s, const char *text, size_t n,
			      struct bl_str *out, struct bl_err *err)
{
	struct player pl = { .app = app, .s = s, .p = text, .end = text + n, .line = 1, .out = out };
	enum bl_status status = show(&pl, false, err);
	char word[256];

	while (status == BL_OK && !bl_app_should_quit(app) && next_word(&pl, word, sizeof word))
		status = stopped(&pl, err) ? err->status : do_word(&pl, word, err);
	if (status == BL_OK && !bl_app_should_quit(app))
		status = show(&pl, true, err);
	return status;
}

static enum bl_status read_keys(char **text, size_t *n, const char *path, struct bl_err *err)
{
	struct bl_str all = { 0 };
	char part[4096];
	ssize_t got;

	if (strcmp(path, "-") != 0)
		return bl_read_file(text, n, path, SCRIPT_MAX, true, err);
	while ((got = read(STDIN_FILENO, part, sizeof part)) > 0 && all.len <= SCRIPT_MAX)
		bl_str_addn(&all, part, (size_t)got);
	if (got < 0) {
		bl_str_free(&all);
		return bl_fail_sys(err, BL_IO, "keys from stdin");
	}
	if (all.len > SCRIPT_MAX) {
		bl_str_free(&all);
		return bl_fail(err, BL_INVALID, "keys from stdin: more than %d bytes", SCRIPT_MAX);
	}
	*n = all.len;
	*text = bl_str_take(&all);
	return BL_OK;
}

enum bl_status bl_script_run(const struct bl_script *s, struct bl_settings *settings,
			     const struct bl_session_options *o, const char *what, struct bl_str *out,
			     struct bl_err *err)
{
	struct bl_app *app = NULL;
	char *text = NULL;
	size_t n = 0;
	enum bl_status status = read_keys(&text, &n, s->keys_path, err);

	if (status)
		return status;
	if (s->frames_dir && (status = bl_mkdirs(s->frames_dir, 0755, err)))
		goto done;
	app = bl_app_new(settings, o, s->rows, s->cols, s->ascii);
	if (what && (status = bl_app_open(app, what, err)))
		goto done;
	status = bl_script_play(app, s, text, n, out, err);
done:
	bl_app_free(app);
	bl_free(text);
	return status;
}
