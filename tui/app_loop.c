/* SPDX-License-Identifier: Apache-2.0
 * poll(keys, jobs, signals) -> app -> grid -> curses. Keys are answered at once; news from jobs at most ten times a
 * second, which is enough to see and little over a slow line. Nothing here waits for a disk or a driver. */
#include "tui/app_loop.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/base/turn.h"
#include "tui/curses_out.h"
#include "tui/input.h"
#include "tui/term.h"

#define FRAME_MS 100 /* between frames that no key asked for */

struct loop {
	struct bl_app *app;
	struct bl_curses *curses;
	struct bl_input input;
	bool dirty, news;   /* a key was answered; a job has news */
	uint64_t last_news; /* ms of the last look at jobs */
	enum bl_status end; /* BL_OK: going on */
};

static uint64_t now_ms(void)
{
	return bl_now_ns() / 1000000u;
}

static void on_event(void *ctx, const struct bl_input_event *e)
{
	struct loop *l = ctx;

	if (bl_app_should_quit(l->app))
		return;
	switch (e->kind) {
	case BL_INPUT_KEY:
		bl_app_key(l->app, e->text);
		break;
	case BL_INPUT_PASTE:
		bl_app_paste(l->app, e->text);
		break;
	case BL_INPUT_MOUSE:
		bl_app_mouse(l->app, e->mouse, e->row, e->col);
		break;
	}
	l->dirty = true;
}

static void take_size(struct loop *l)
{
	int rows, cols;

	bl_term_size(&rows, &cols);
	bl_app_resize(l->app, rows, cols);
	bl_curses_resize(l->curses, rows, cols);
	l->dirty = true;
}

static void suspend(struct loop *l)
{
	bl_curses_leave(l->curses);
	bl_term_stop_here();
	bl_curses_enter(l->curses);
	take_size(l);
}

static void signals(struct loop *l)
{
	for (int sig; (sig = bl_term_next_signal());) {
		switch (sig) {
		case SIGWINCH:
			take_size(l);
			break;
		case SIGTSTP:
			suspend(l);
			break;
		case SIGCONT: /* stopped by somebody else: the shell has changed the modes */
			bl_curses_leave(l->curses);
			bl_curses_enter(l->curses);
			take_size(l);
			break;
		case SIGINT:
			l->end = BL_CANCELLED;
			break;
		default:
			l->end = BL_TERMINATED;
			break;
		}
	}
}

static void keys(struct loop *l)
{
	char bytes[4096];
	ssize_t n = read(STDIN_FILENO, bytes, sizeof bytes);

	if (n > 0)
		bl_input_feed(&l->input, bytes, (size_t)n, now_ms(), on_event, l);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		l->end = BL_TERMINATED; /* the terminal is gone */
}

static int shorter(int a, int b)
{
	return a < 0 ? b : b < 0 || a < b ? a : b;
}

static void wait_for_something(struct loop *l)
{
	uint64_t now = now_ms();
	bool resting = now - l->last_news < FRAME_MS; /* jobs were looked at just now: leave them for a moment */
	struct pollfd fds[3] = { { STDIN_FILENO, POLLIN, 0 }, { bl_term_signal_fd(), POLLIN, 0 }, { -1, POLLIN, 0 } };
	int timeout = shorter(bl_app_timeout_ms(l->app), bl_input_timeout_ms(&l->input, now));

	if (l->app->session && !resting)
		fds[2].fd = bl_jobs_wake_fd(l->app->session->jobs);
	if (l->app->session && resting)
		timeout = shorter(timeout, (int)(FRAME_MS - (now - l->last_news)));
	if (l->dirty)
		timeout = 0;
	if (poll(fds, 3, timeout) < 0 && errno != EINTR)
		return;
	if (fds[1].revents)
		signals(l);
	if (fds[0].revents & POLLIN)
		keys(l);
	else if (fds[0].revents & (POLLHUP | POLLERR | POLLNVAL))
		l->end = BL_TERMINATED;
	bl_input_expire(&l->input, now_ms(), on_event, l);
	if (!resting && (fds[2].revents || now_ms() - l->last_news >= 500)) {
		l->last_news = now_ms();
		l->news = true;
		bl_app_tick(l->app);
	}
}

static void after_keys(struct loop *l)
{
	char *copy = bl_app_take_clipboard(l->app);

	if (copy) {
		if (!bl_term_copy(copy))
			bl_app_message(l->app, BL_MSG_WARN,
				       "this terminal takes no copied text (TERM says so); :dump-screen FILE writes "
				       "the screen");
		bl_free(copy);
		l->dirty = true;
	}
	if (bl_app_wants_suspend(l->app))
		suspend(l);
	bl_curses_set_color(l->curses, bl_settings_text(l->app->settings, BL_SET_COLOR));
}

enum bl_status bl_app_loop(struct bl_app *app, struct bl_err *err)
{
	struct loop l = { .app = app };
	enum bl_status status = bl_term_open(err);

	if (status)
		return status;
	status = bl_curses_open(&l.curses, bl_settings_text(app->settings, BL_SET_COLOR),
				bl_settings_bool(app->settings, BL_SET_MOUSE), err);
	if (status) {
		bl_term_close();
		return status;
	}
	bl_term_take_signals();
	bl_thread_answers();
	bl_input_init(&l.input, (int)bl_settings_int(app->settings, BL_SET_ESC_MS));
	take_size(&l);
	while (!bl_app_should_quit(app) && l.end == BL_OK) {
		if (l.dirty || l.news) {
			l.dirty = l.news = false;
			bl_app_draw(app);
			bl_curses_print(l.curses, &app->grid, &app->theme, bl_app_wants_redraw(app));
		}
		wait_for_something(&l);
		after_keys(&l);
	}
	bl_curses_close(l.curses);
	bl_term_close();
	bl_input_free(&l.input);
	return l.end == BL_OK ? BL_OK : bl_fail(err, l.end, "%s", bl_status_text(l.end));
}

enum bl_status bl_workbench(struct bl_settings *settings, const struct bl_session_options *o, const char *what,
			    struct bl_err *err)
{
	struct bl_app *app;
	struct bl_err opening = BL_ERR_INIT;
	enum bl_status status;
	bool ascii = bl_term_wants_ascii(bl_settings_text(settings, BL_SET_GLYPHS));
	int rows, cols;

	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
		return bl_fail(err, BL_USAGE,
			       "the workbench needs a terminal on stdin and stdout; `bitlathe --help` lists the "
			       "commands that do not");
	bl_term_size(&rows, &cols);
	app = bl_app_new(settings, o, rows, cols, ascii);
	bl_app_keep_state(app);
	status = what ? bl_app_open(app, what, &opening) : BL_OK;
	if (status == BL_OK)
		status = bl_app_loop(app, err);
	else
		bl_fail(err, opening.status, "%s",
			opening.text); /* what was asked for by name is not there: say so and leave */
	bl_app_free(app);
	return status;
}
