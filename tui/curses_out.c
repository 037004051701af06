/* SPDX-License-Identifier: Apache-2.0
 * Curses as a printer of grids: one colour pair per role, made anew when the theme changes. Rows that are the same as
 * last time are not even handed over. Input is read elsewhere; curses never sees stdin's bytes. */
#define NCURSES_WIDECHAR 1
#include "tui/curses_out.h"

#include <curses.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <term.h>
#include <unistd.h>
#include <wchar.h>

#include "core/base/mem.h"
#include "tui/term.h"

#define EXTRA_ON  "\x1b[?2004h"
#define EXTRA_OFF "\x1b[?2004l"
#define MOUSE_ON  "\x1b[?1000h\x1b[?1006h"
#define MOUSE_OFF "\x1b[?1006l\x1b[?1000l"

struct bl_curses {
	SCREEN *screen;
	bool mouse, modern, margin;   /* margin: the last column is not to be trusted */
	int n_colors;                 /* used; 0: attributes only */
	struct bl_theme theme, shown; /* as given; reduced to n_colors */
	bool have_theme;
	struct bl_cell *last;
	int rows, cols;
	char restore[256];
};

/* ---- start ---- */

static int want_colors(const char *color)
{
	const char *no = getenv("NO_COLOR");
	int have = has_colors() ? COLORS : 0;

	if (!strcmp(color, "never") || (!strcmp(color, "auto") && no && *no))
		return 0;
	if (!strcmp(color, "16") && have > 16)
		return 16;
	if (!strcmp(color, "256") && have > 256)
		return 256;
	return have;
}

int bl_curses_terminal_colors(void)
{
	int status, colors;

	if (setupterm(NULL, STDOUT_FILENO, &status) != OK)
		return -1;
	colors = tigetnum("colors");
	del_curterm(cur_term);
	return colors > 0 ? colors : 0;
}

static bool has(const char *cap)
{
	const char *s = tigetstr(cap);

	return s && s != (char *)-1;
}

/* What must be sent when there is no time for curses: attributes off, cursor on, ours cleared (a terminal that grew may keep the part beyond its
 * old size), the other screen left where there is one. */
static void collect_restore(struct bl_curses *c)
{
	const char *caps[] = { "sgr0", "cnorm", "clear", "rmcup" };
	size_t used = (size_t)snprintf(c->restore, sizeof c->restore, "%s%s", c->modern ? EXTRA_OFF : "",
				       c->modern && c->mouse ? MOUSE_OFF : "");

	for (size_t i = 0; i < sizeof caps / sizeof caps[0]; i++) {
		const char *s = tigetstr(caps[i]);
		char plain[64];
		size_t n = 0;

		if (!s || s == (char *)-1)
			continue;
		for (; *s && n + 1 < sizeof plain; s++) { /* without padding marks */
			if (s[0] == '$' && s[1] == '<') {
				while (*s && *s != '>')
					s++;
				if (!*s)
					break;
				continue;
			}
			plain[n++] = *s;
		}
		plain[n] = '\0';
		if (used < sizeof c->restore)
			used += (size_t)snprintf(c->restore + used, sizeof c->restore - used, "%s", plain);
	}
	if (used < sizeof c->restore)
		snprintf(c->restore + used, sizeof c->restore - used, "\r\n");
}

static bool usable(const char *term)
{
	int status = 0;

	return setupterm(term, STDOUT_FILENO, &status) == OK && has("cup");
}

static void extras(const struct bl_curses *c, bool on)
{
	char text[64];
	ssize_t n;

	if (!c->modern)
		return;
	snprintf(text, sizeof text, "%s%s", on ? EXTRA_ON : EXTRA_OFF, c->mouse ? (on ? MOUSE_ON : MOUSE_OFF) : "");
	n = write(STDOUT_FILENO, text, strlen(text));
	(void)n;
}

/* Back to the shell. A terminal without a second screen, or one that grew meanwhile, keeps what stands on it: nothing may be left under the prompt. */
static void end_screen(struct bl_curses *c)
{
	extras(c, false);
	curs_set(1);
	erase();
	refresh();
	endwin();
	bl_term_set_restore(NULL);
}

static const char *choose_term(struct bl_err *err)
{
	const char *term = getenv("TERM");
	int status = 0;

	if (term && *term && setupterm(term, STDOUT_FILENO, &status) == OK) {
		if (usable(term))
			return term;
		bl_fail(err, BL_USAGE,
			"the terminal \"%.40s\" cannot place its cursor: the commands work there (bitlathe --help), or "
			"set TERM",
			term);
		return NULL;
	}
	/* unset or unknown: what nearly everything understands */
	if (usable("vt100"))
		return "vt100";
	if (usable("ansi"))
		return "ansi";
	bl_fail(err, BL_USAGE,
		"the terminal type \"%.40s\" is not known here and neither is vt100: install ncurses-base or set TERM",
		term ? term : "");
	return NULL;
}

enum bl_status bl_curses_open(struct bl_curses **out, const char *color, bool mouse, struct bl_err *err)
{
	const char *term = choose_term(err);
	struct bl_curses *c;

	if (!term)
		return err->status;
	c = bl_xalloc(1, sizeof *c);
	c->mouse = mouse;
	c->modern = bl_term_is_modern();
	c->screen = newterm(term, stdout, stdin);
	if (!c->screen) {
		bl_free(c);
		return bl_fail(err, BL_USAGE, "the terminal \"%.40s\" could not be started: set TERM", term);
	}
	set_term(c->screen);
	raw();
	noecho();
	nonl();
	typeahead(-1); /* curses must not look at stdin */
	leaveok(stdscr, FALSE);
	if (has_colors()) {
		start_color();
		use_default_colors();
	}
	/* "ansi" promises to wrap at once after the last column, most of what calls itself so waits for the next character:
	 * curses would be wrong about the cursor, so that column stays empty. */
	c->margin = tigetflag("am") > 0 && tigetflag("xenl") <= 0;
	c->n_colors = want_colors(color);
	collect_restore(c);
	bl_term_set_restore(c->restore);
	extras(c, true);
	*out = c;
	return BL_OK;
}

void bl_curses_close(struct bl_curses *c)
{
	if (!c)
		return;
	end_screen(c);
	delscreen(c->screen);
	bl_free(c->last);
	bl_free(c);
}

void bl_curses_leave(struct bl_curses *c)
{
	end_screen(c);
}

void bl_curses_enter(struct bl_curses *c)
{
	bl_term_set_restore(c->restore);
	refresh();
	extras(c, true);
	c->rows = 0; /* everything anew */
}

void bl_curses_resize(struct bl_curses *c, int rows, int cols)
{
	resizeterm(rows, cols);
	c->rows = 0;
}

int bl_curses_colors(const struct bl_curses *c)
{
	return c->n_colors;
}

void bl_curses_set_color(struct bl_curses *c, const char *color)
{
	int n = want_colors(color);

	if (n != c->n_colors) {
		c->n_colors = n;
		c->have_theme = false;
	}
}

/* ---- printing ---- */

static int colour_of(const struct bl_curses *c, int32_t rgb, int16_t index)
{
	if (rgb == BL_COLOR_DEFAULT)
		return -1;
	if (c->n_colors >= 1 << 24) /* direct colour: the number is the colour; 0..7 are the palette */
		return rgb < 8 ? (rgb == 0 ? 0 : 8) : rgb;
	return index;
}

static void take_theme(struct bl_curses *c, const struct bl_theme *t)
{
	c->theme = *t;
	c->shown = *t;
	c->have_theme = true;
	bl_theme_reduce(&c->shown, c->n_colors);
	for (int r = 0; r < BL_ROLE_COUNT && c->n_colors >= 8; r++) {
		const struct bl_look *l = &c->shown.look[r];

		init_extended_pair(r + 1, colour_of(c, l->fg, l->fg_index), colour_of(c, l->bg, l->bg_index));
	}
}

static attr_t curses_attr(uint8_t a)
{
	return (a & BL_ATTR_BOLD ? A_BOLD : 0) | (a & BL_ATTR_REVERSE ? A_REVERSE : 0) |
	       (a & BL_ATTR_UNDERLINE ? A_UNDERLINE : 0) | (a & BL_ATTR_DIM ? A_DIM : 0);
}

static void print_row(struct bl_curses *c, const struct bl_cell *row, int y, int cols)
{
	cchar_t *line = bl_xalloc((size_t)cols + 1, sizeof *line);
	int n = 0;

	for (int x = 0; x < cols - c->margin; x++) {
		const struct bl_cell *cell = &row[x];
		int pair = c->n_colors >= 8 ? cell->role + 1 : 0;
		wchar_t text[2] = { (wchar_t)cell->ch, 0 };

		if (!cell->width)
			continue;
		if (x + cell->width > cols - c->margin)
			text[0] = L' ';
		else if (wcwidth(text[0]) != cell->width) /* libc and we disagree: keep the columns */
			text[0] = L'?';
		setcchar(&line[n++], text, curses_attr(cell->attr | c->shown.look[cell->role].attr), 0, &pair);
		if (cell->width == 2 && text[0] == L'?')
			setcchar(&line[n++], L"?", curses_attr(cell->attr), 0, &pair);
	}
	mvadd_wchnstr(y, 0, line, n);
	bl_free(line);
}

void bl_curses_print(struct bl_curses *c, const struct bl_grid_s *g, const struct bl_theme *t, bool all)
{
	size_t n = (size_t)g->rows * (size_t)g->cols;
	bool fresh = all || g->rows != c->rows || g->cols != c->cols || !c->last;

	if (!c->have_theme || memcmp(t, &c->theme, sizeof *t) != 0) {
		take_theme(c, t);
		fresh = true;
	}
	if (g->rows != c->rows || g->cols != c->cols || !c->last) {
		bl_free(c->last);
		c->last = bl_xalloc(n, sizeof *c->last);
		c->rows = g->rows;
		c->cols = g->cols;
	}
	for (int y = 0; y < g->rows; y++) {
		const struct bl_cell *row = &g->cells[(size_t)y * (size_t)g->cols];
		struct bl_cell *old = &c->last[(size_t)y * (size_t)g->cols];

		if (!fresh && !memcmp(row, old, (size_t)g->cols * sizeof *row))
			continue;
		print_row(c, row, y, g->cols);
		memcpy(old, row, (size_t)g->cols * sizeof *row);
	}
	if (all)
		clearok(curscr, TRUE);
	curs_set(g->cursor_row >= 0);
	if (g->cursor_row >= 0)
		move(g->cursor_row, g->cursor_col);
	refresh();
}
