/* SPDX-License-Identifier: Apache-2.0
 * Theme files: parsing (hostile), finding, and reducing colours to what a terminal has. */
#include "tui/theme.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/file.h"
#include "core/base/mem.h"

#define FILE_MAX     (64 * 1024)
#define WARNINGS_MAX 10

static const struct {
	const char *name;
	int fallback;
	uint8_t mono;
} roles[BL_ROLE_COUNT] = {
#define X(id, text, fall, attr) { text, BL_ROLE_##fall, attr },
	BL_ROLES(X)
#undef X
};

/* The usual values of the sixteen; terminals choose their own, so these only serve for reducing. */
static const struct {
	const char *name;
	int32_t rgb;
} colours[] = {
	{ "black", 0x000000 },       { "red", 0xcd0000 },           { "green", 0x00cd00 },
	{ "yellow", 0xcdcd00 },      { "blue", 0x0000ee },          { "magenta", 0xcd00cd },
	{ "cyan", 0x00cdcd },        { "white", 0xe5e5e5 },         { "brightblack", 0x7f7f7f },
	{ "brightred", 0xff0000 },   { "brightgreen", 0x00ff00 },   { "brightyellow", 0xffff00 },
	{ "brightblue", 0x5c5cff },  { "brightmagenta", 0xff00ff }, { "brightcyan", 0x00ffff },
	{ "brightwhite", 0xffffff },
};

static const struct {
	const char *name;
	uint8_t attr;
} attributes[] = {
	{ "bold", BL_ATTR_BOLD },
	{ "dim", BL_ATTR_DIM },
	{ "underline", BL_ATTR_UNDERLINE },
	{ "reverse", BL_ATTR_REVERSE },
};

static const struct bl_look plain = { BL_COLOR_DEFAULT, BL_COLOR_DEFAULT, -1, -1, 0 };

/* ---- colours ---- */

static const int cube[] = { 0, 0x5f, 0x87, 0xaf, 0xd7, 0xff };

static int32_t palette_rgb(int i)
{
	if (i < 16)
		return colours[i].rgb;
	if (i < 232) {
		i -= 16;
		return cube[i / 36] << 16 | cube[i / 6 % 6] << 8 | cube[i % 6];
	}
	return (8 + 10 * (i - 232)) * 0x010101;
}

static int distance(int32_t a, int32_t b)
{
	int r = (a >> 16 & 255) - (b >> 16 & 255), g = (a >> 8 & 255) - (b >> 8 & 255), bl = (a & 255) - (b & 255);

	return r * r * 3 + g * g * 4 + bl * bl * 2; /* the eye sees green best */
}

static int nearest(int32_t rgb, int from, int to)
{
	int best = from;

	for (int i = from; i < to; i++)
		if (distance(rgb, palette_rgb(i)) < distance(rgb, palette_rgb(best)))
			best = i;
	return best;
}

static int16_t reduce(int32_t rgb, int16_t index, int n_colors)
{
	if (rgb == BL_COLOR_DEFAULT || n_colors < 8)
		return -1;
	if (index >= 0 && index < n_colors && index < 256)
		return index; /* named: the terminal's own */
	if (n_colors >= 256)
		return (int16_t)nearest(rgb, 16, 256);
	return (int16_t)nearest(rgb, 0, n_colors >= 16 ? 16 : 8);
}

void bl_theme_reduce(struct bl_theme *t, int n_colors)
{
	for (int r = 0; r < BL_ROLE_COUNT; r++) {
		struct bl_look *l = &t->look[r];

		if (n_colors < 8) {
			*l = plain;
			l->attr = roles[r].mono;
			continue;
		}
		l->fg_index = reduce(l->fg, l->fg_index, n_colors);
		l->bg_index = reduce(l->bg, l->bg_index, n_colors);
		if (l->bg_index >= 0 && l->bg_index == l->fg_index) /* too few colours for this pair */
			*l = (struct bl_look){ BL_COLOR_DEFAULT, BL_COLOR_DEFAULT, -1, -1,
					       (uint8_t)(l->attr | BL_ATTR_REVERSE) };
	}
}

/* ---- parsing ---- */

static bool parse_colour(const char *word, int32_t *rgb, int16_t *index)
{
	char *end;
	long v;

	if (!strcasecmp(word, "default")) {
		*rgb = BL_COLOR_DEFAULT;
		*index = -1;
		return true;
	}
	if (word[0] == '#') {
		if (strlen(word) != 7 || strspn(word + 1, "0123456789abcdefABCDEF") != 6)
			return false;
		*rgb = (int32_t)strtol(word + 1, NULL, 16);
		*index = -1;
		return true;
	}
	for (int i = 0; i < 16; i++)
		if (!strcasecmp(word, colours[i].name)) {
			*rgb = colours[i].rgb;
			*index = (int16_t)i;
			return true;
		}
	if (word[0] < '0' || word[0] > '9' || strlen(word) > 3)
		return false;
	v = strtol(word, &end, 10);
	if (*end || v > 255)
		return false;
	*rgb = palette_rgb((int)v);
	*index = (int16_t)v;
	return true;
}

static bool parse_look(struct bl_look *out, char *text)
{
	struct bl_look l = plain;
	bool back = false, have_fg = false;

	for (char *save = NULL, *w = strtok_r(text, " \t", &save); w; w = strtok_r(NULL, " \t", &save)) {
		bool attr = false;

		for (size_t i = 0; i < sizeof attributes / sizeof attributes[0] && !back; i++)
			if (!strcasecmp(w, attributes[i].name)) {
				l.attr |= attributes[i].attr;
				attr = true;
			}
		if (attr)
			continue;
		if (!back && !strcasecmp(w, "on")) {
			back = true;
			continue;
		}
		if (back ? !parse_colour(w, &l.bg, &l.bg_index) : have_fg || !parse_colour(w, &l.fg, &l.fg_index))
			return false;
		have_fg |= !back;
		back = false;
	}
	if (back)
		return false;
	*out = l;
	return true;
}

struct parser {
	const char *label;
	int line, n_warnings;
	struct bl_str *warnings;
};

static void warn(struct parser *p, const char *what, const char *text)
{
	char shown[64];

	if (p->warnings && ++p->n_warnings <= WARNINGS_MAX)
		bl_str_addf(p->warnings, "%s, line %d: %s: %s\n", p->label, p->line, what,
			    bl_printable(shown, sizeof shown, text));
}

static char *trim(char *s)
{
	size_t n;

	s += strspn(s, " \t\r");
	n = strlen(s);
	while (n && strchr(" \t\r", s[n - 1]))
		s[--n] = '\0';
	return s;
}

static void parse_line(struct parser *p, struct bl_theme *t, bool *set, char *line)
{
	char *equals = strchr(line, '='), *name, *value;

	line = trim(line);
	if (!*line || *line == '#')
		return;
	if (!equals) {
		warn(p, "expected ROLE = LOOK", line);
		return;
	}
	*equals = '\0';
	name = trim(line);
	value = trim(equals + 1);
	if (!strcmp(name, "sentence")) {
		bl_printable(t->sentence, sizeof t->sentence, value);
		return;
	}
	for (int r = 0; r < BL_ROLE_COUNT; r++)
		if (!strcmp(name, roles[r].name)) {
			if (parse_look(&t->look[r], value))
				set[r] = true;
			else
				warn(p, "not a look ([COLOUR] [on COLOUR] [bold|dim|underline|reverse])", name);
			return;
		}
	warn(p, "there is no such role", name);
}

/* The role whose look a role without one takes. The list has no loops except TEXT itself, but nobody should have to
 * trust that. */
static int source_of(int r, const bool *set)
{
	for (int steps = 0; !set[r] && roles[r].fallback != r && steps < BL_ROLE_COUNT; steps++)
		r = roles[r].fallback;
	return r;
}

enum bl_status bl_theme_parse(struct bl_theme *t, const char *text, size_t n, const char *label,
			      struct bl_str *warnings, struct bl_err *err)
{
	struct bl_theme mine = { 0 };
	bool set[BL_ROLE_COUNT] = { 0 };
	struct parser p = { .label = label, .warnings = warnings };

	if (n > FILE_MAX)
		return bl_fail(err, BL_INVALID, "%s: a theme has at most %d bytes", label, FILE_MAX);
	for (int r = 0; r < BL_ROLE_COUNT; r++)
		mine.look[r] = plain;
	for (size_t at = 0; at < n;) {
		const char *end = memchr(text + at, '\n', n - at);
		size_t len = end ? (size_t)(end - text) - at : n - at;
		char line[256];

		p.line++;
		if (len < sizeof line && !memchr(text + at, '\0', len)) {
			memcpy(line, text + at, len);
			line[len] = '\0';
			parse_line(&p, &mine, set, line);
		} else {
			warn(&p, "the line is too long or has a NUL", "");
		}
		at += len + 1;
	}
	for (int r = 0; r < BL_ROLE_COUNT; r++)
		if (!set[r]) {
			mine.look[r] = mine.look[source_of(r, set)];
			if (mine.look[r].fg == BL_COLOR_DEFAULT && mine.look[r].bg == BL_COLOR_DEFAULT &&
			    !mine.look[r].attr)
				mine.look[r].attr = roles[r].mono;
		}
	snprintf(mine.name, sizeof mine.name, "%s", t->name);
	*t = mine;
	return BL_OK;
}

void bl_theme_builtin(struct bl_theme *t)
{
	*t = (struct bl_theme){ .name = "mono", .sentence = "No colours: bold, dim, underline and reverse only" };
	for (int r = 0; r < BL_ROLE_COUNT; r++) {
		t->look[r] = plain;
		t->look[r].attr = roles[r].mono;
	}
}

/* ---- finding ---- */

#define PLACES 4

/* Folders that may hold themes, in the order of search; NULL-terminated, each to be freed. */
static void places(char *out[PLACES], const char *program_dir)
{
	int n = 0;
	char *config = bl_xdg_dir("CONFIG");

	out[n++] = bl_path_join(config, "themes");
	bl_free(config);
	if (program_dir) {
		out[n++] = bl_path_join(program_dir, "themes");
		out[n++] = bl_path_join(program_dir, "../share/bitlathe/themes");
	}
	out[n] = NULL;
}

enum bl_status bl_theme_load(struct bl_theme *t, const char *name, const char *program_dir, struct bl_str *warnings,
			     struct bl_err *err)
{
	char *dirs[PLACES], file[80], *text = NULL;
	size_t n = 0;
	bool found = false;
	enum bl_status status = BL_OK;
	struct bl_theme mine = { 0 };

	if (strlen(name) >= sizeof mine.name || !bl_path_is_inside(name) || strchr(name, '/'))
		return bl_fail(err, BL_NOT_FOUND, "there is no theme \"%.60s\" · :theme and Tab list them", name);
	snprintf(mine.name, sizeof mine.name, "%s", name);
	snprintf(file, sizeof file, "%s.theme", name);
	places(dirs, program_dir);
	for (int i = 0; dirs[i]; i++) {
		char *path = bl_path_join(dirs[i], file);

		if (!found && bl_is_file(path)) {
			found = true;
			status = bl_read_file(&text, &n, path, FILE_MAX, true, err);
			if (status == BL_OK)
				status = bl_theme_parse(&mine, text, n, path, warnings, err);
		}
		bl_free(path);
		bl_free(dirs[i]);
	}
	bl_free(text);
	if (!found && !strcmp(name, "mono"))
		bl_theme_builtin(&mine);
	else if (!found)
		return bl_fail(err, BL_NOT_FOUND, "there is no theme \"%s\" · :theme and Tab list them", name);
	if (status == BL_OK)
		*t = mine;
	return status;
}

void bl_theme_list(struct bl_str *out_lines, const char *program_dir)
{
	char *dirs[PLACES];
	struct bl_str seen = { 0 };

	bl_str_add(&seen, "\n");
	places(dirs, program_dir);
	for (int i = 0; dirs[i]; i++) {
		char **names = NULL;
		size_t n = 0;
		struct bl_err err = BL_ERR_INIT;

		if (bl_list_dir(&names, &n, dirs[i], &err) == BL_OK) {
			for (size_t k = 0; k < n; k++) {
				char name[64], mark[70];
				struct bl_theme t;
				size_t len = strlen(names[k]);
				struct bl_err bad = BL_ERR_INIT;

				if (!bl_ends_with(names[k], ".theme") || len - 6 >= sizeof name)
					continue;
				snprintf(name, sizeof name, "%.*s", (int)(len - 6), names[k]);
				snprintf(mark, sizeof mark, "\n%s\n", name);
				if (strstr(bl_str_c(&seen), mark) || bl_theme_load(&t, name, program_dir, NULL, &bad))
					continue;
				bl_str_addf(&seen, "%s\n", name);
				bl_str_addf(out_lines, "%s\t%s\t%s/%s\n", name, t.sentence, dirs[i], names[k]);
			}
			bl_list_free(names);
		}
		bl_free(dirs[i]);
	}
	if (!strstr(bl_str_c(&seen), "\nmono\n"))
		bl_str_addf(out_lines, "mono\tNo colours: bold, dim, underline and reverse only\tbuilt in\n");
	bl_str_free(&seen);
}
