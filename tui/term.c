/* SPDX-License-Identifier: Apache-2.0
 * Terminal modes and signals. The few variables here must be reachable from signal handlers; nothing else in the
 * program has such. */
#include "tui/term.h"

#include <errno.h>
#include <fcntl.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "core/base/mem.h"
#include "core/base/str.h"

#define RESTORE_MAX 512

static struct termios before;
static volatile sig_atomic_t is_open;
static char restore[RESTORE_MAX];
static volatile sig_atomic_t n_restore;
static int pipe_fds[2] = { -1, -1 };

static const int watched[] = { SIGWINCH, SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGCONT };
static const int fatal[] = { SIGSEGV, SIGABRT, SIGFPE, SIGILL, SIGQUIT, SIGBUS };
static struct sigaction old_watched[sizeof watched / sizeof watched[0]], old_fatal[sizeof fatal / sizeof fatal[0]],
	old_pipe;

bool bl_term_wants_ascii(const char *glyphs)
{
	const char *set;

	setlocale(LC_CTYPE, "");
	set = nl_langinfo(CODESET);
	if (!strcmp(glyphs, "ascii"))
		return true;
	if (!strcasecmp(set, "UTF-8") || !strcasecmp(set, "UTF8"))
		return false;
	if (!strcmp(glyphs, "utf8")) /* the user knows better; curses still needs a locale that can */
		return !setlocale(LC_CTYPE, "C.UTF-8");
	return true;
}

static int env_number(const char *name)
{
	const char *s = getenv(name);
	long v = s ? strtol(s, NULL, 10) : 0;

	return v > 0 && v < 10000 ? (int)v : 0;
}

void bl_term_size(int *rows, int *cols)
{
	struct winsize w = { 0 };

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) != 0)
		memset(&w, 0, sizeof w);
	*rows = w.ws_row > 0 ? w.ws_row : env_number("LINES") ? env_number("LINES") : 24;
	*cols = w.ws_col > 0 ? w.ws_col : env_number("COLUMNS") ? env_number("COLUMNS") : 80;
	*rows = *rows > 1000 ? 1000 : *rows;
	*cols = *cols > 2000 ? 2000 : *cols;
}

/* ---- putting it back: only write and tcsetattr ---- */

static void put_back(void)
{
	const char *p = restore;
	size_t left = (size_t)n_restore;

	if (!is_open)
		return;
	while (left) {
		ssize_t n = write(STDOUT_FILENO, p, left);

		if (n <= 0)
			break;
		p += n;
		left -= (size_t)n;
	}
	tcsetattr(STDOUT_FILENO, TCSANOW, &before);
}

void bl_term_set_restore(const char *bytes)
{
	n_restore = 0;
	if (bytes) {
		snprintf(restore, sizeof restore, "%s", bytes);
		n_restore = (sig_atomic_t)strlen(restore);
	}
}

/* ---- signals ---- */

static void on_signal(int sig)
{
	int keep = errno;
	unsigned char c = (unsigned char)sig;
	ssize_t n = write(pipe_fds[1], &c, 1); /* a full pipe has enough of them */

	(void)n;
	errno = keep;
}

static void on_fatal(int sig, siginfo_t *info, void *context)
{
	if (sig == SIGBUS) {
		const struct sigaction *old = &old_fatal[sizeof fatal / sizeof fatal[0] - 1];

		/* a mapped file that shrank: the guard jumps away and nothing has happened */
		if ((old->sa_flags & SA_SIGINFO) && old->sa_sigaction)
			old->sa_sigaction(sig, info, context);
	}
	put_back();
	is_open = 0;
	signal(sig, SIG_DFL);
	raise(sig);
}

static void on_fatal_hook(void)
{
	put_back();
	is_open = 0;
}

static void install(void)
{
	struct sigaction a = { 0 };

	sigemptyset(&a.sa_mask);
	a.sa_handler = on_signal;
	a.sa_flags = SA_RESTART;
	for (size_t i = 0; i < sizeof watched / sizeof watched[0]; i++)
		sigaction(watched[i], &a, &old_watched[i]);
	a.sa_handler = SIG_IGN;
	sigaction(SIGPIPE, &a, &old_pipe);
	a.sa_sigaction = on_fatal;
	a.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
	for (size_t i = 0; i < sizeof fatal / sizeof fatal[0]; i++)
		sigaction(fatal[i], &a, &old_fatal[i]);
}

enum bl_status bl_term_open(struct bl_err *err)
{
	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO) || tcgetattr(STDOUT_FILENO, &before))
		return bl_fail(err, BL_USAGE,
			       "the workbench needs a terminal on stdin and stdout; `bitlathe --help` lists the "
			       "commands that do not");
	if (pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK))
		return bl_fail_sys(err, BL_FAILED, "pipe for signals");
	is_open = 1;
	bl_fatal_hook(on_fatal_hook);
	return BL_OK;
}

void bl_term_take_signals(void)
{
	install();
}

void bl_term_close(void)
{
	if (!is_open)
		return;
	for (size_t i = 0; i < sizeof watched / sizeof watched[0]; i++)
		sigaction(watched[i], &old_watched[i], NULL);
	for (size_t i = 0; i < sizeof fatal / sizeof fatal[0]; i++)
		sigaction(fatal[i], &old_fatal[i], NULL);
	sigaction(SIGPIPE, &old_pipe, NULL);
	bl_fatal_hook(NULL);
	tcsetattr(STDOUT_FILENO, TCSADRAIN, &before);
	is_open = 0;
	n_restore = 0;
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	pipe_fds[0] = pipe_fds[1] = -1;
}

int bl_term_signal_fd(void)
{
	return pipe_fds[0];
}

int bl_term_next_signal(void)
{
	unsigned char c;

	return read(pipe_fds[0], &c, 1) == 1 ? c : 0;
}

void bl_term_stop_here(void)
{
	struct sigaction dfl = { 0 }, ours;

	sigemptyset(&dfl.sa_mask);
	dfl.sa_handler = SIG_DFL;
	sigaction(SIGTSTP, &dfl, &ours);
	kill(0, SIGTSTP); /* the whole job, as the terminal itself would */
	/* here again after SIGCONT (at once when nobody could wake us) */
	sigaction(SIGTSTP, &ours, NULL);
}

/* ---- what the terminal can ---- */

bool bl_term_is_modern(void)
{
	static const char *const kinds[] = { "xterm",   "tmux", "screen", "rxvt",    "alacritty", "foot",  "kitty",
					     "konsole", "vte",  "putty",  "wezterm", "st-",       "gnome", "contour" };
	const char *term = getenv("TERM");

	for (size_t i = 0; term && i < sizeof kinds / sizeof kinds[0]; i++)
		if (bl_starts_with(term, kinds[i]))
			return true;
	return term && !strcmp(term, "st");
}

static void add_base64(struct bl_str *out, const char *text)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t n = strlen(text);

	for (size_t i = 0; i < n; i += 3) {
		unsigned v = (unsigned)(unsigned char)text[i] << 16;

		v |= i + 1 < n ? (unsigned)(unsigned char)text[i + 1] << 8 : 0;
		v |= i + 2 < n ? (unsigned char)text[i + 2] : 0;
		bl_str_addc(out, digits[v >> 18 & 63]);
		bl_str_addc(out, digits[v >> 12 & 63]);
		bl_str_addc(out, i + 1 < n ? digits[v >> 6 & 63] : '=');
		bl_str_addc(out, i + 2 < n ? digits[v & 63] : '=');
	}
}

static void write_all(const char *p, size_t n)
{
	while (n) {
		ssize_t w = write(STDOUT_FILENO, p, n);

		if (w < 0 && errno == EAGAIN) {
			struct pollfd wait = { STDOUT_FILENO, POLLOUT, 0 };

			if (poll(&wait, 1, 1000) <= 0)
				return;
			continue;
		}
		if (w < 0 && errno != EINTR)
			return;
		p += w > 0 ? w : 0;
		n -= w > 0 ? (size_t)w : 0;
	}
}

bool bl_term_copy(const char *text)
{
	const char *tmux = getenv("TMUX"), *term = getenv("TERM");
	struct bl_str osc = { 0 }, all = { 0 };

	if (!bl_term_is_modern() || strlen(text) > 70000)
		return false;
	bl_str_add(&osc, "\x1b]52;c;");
	add_base64(&osc, text);
	bl_str_add(&osc, "\a");
	if (tmux && *tmux) {
		bl_str_add(&all, osc.s); /* taken with set-clipboard on ... */
		bl_str_add(&all, "\x1bPtmux;\x1b");
		bl_str_add(&all, osc.s); /* ... or passed through with allow-passthrough on */
		bl_str_add(&all, "\x1b\\");
	} else if (term && bl_starts_with(term, "screen")) {
		bl_str_addf(&all, "\x1bP%s\x1b\\", osc.s);
	} else {
		bl_str_add(&all, osc.s);
	}
	write_all(all.s, all.len);
	bl_str_free(&osc);
	bl_str_free(&all);
	return true;
}
