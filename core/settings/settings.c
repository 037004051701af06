/* SPDX-License-Identifier: Apache-2.0
 * Settings: the table, the file, the values. */
#include "core/settings/settings.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/mem.h"

#define FILE_MAX_BYTES (1u << 20)
#define LINE_MAX_BYTES 1024 /* longer than any value may be */
#define WARNINGS_MAX 20     /* a file of nonsense gives no more sentences than somebody reads */
#define BOOL BL_SETTING_BOOL
#define INT BL_SETTING_INT
#define TEXT BL_SETTING_TEXT
#define CHOICE BL_SETTING_CHOICE

static const struct bl_setting_row rows[BL_SETTING_COUNT] = {
#define BL_SETTING(id, name, type, fallback, min, max, choices, sentence) [BL_SET_##id] = {name, type, fallback, min, max, choices, sentence},
#include "core/settings/settings_list.h"
#undef BL_SETTING
};

struct bl_settings { char *value[BL_SETTING_COUNT]; };

const struct bl_setting_row *bl_setting_row(enum bl_setting_id id)
{
	return (unsigned)id < BL_SETTING_COUNT ? &rows[id] : NULL;
}

struct bl_settings *bl_settings_new(void)
{
	struct bl_settings *s = bl_xalloc(1, sizeof *s);

	for (int i = 0; i < BL_SETTING_COUNT; i++)
		s->value[i] = bl_xstrdup(rows[i].fallback);
	return s;
}

void bl_settings_free(struct bl_settings *s)
{
	if (!s)
		return;
	for (int i = 0; i < BL_SETTING_COUNT; i++)
		bl_free(s->value[i]);
	bl_free(s);
}

static bool is_choice(const char *choices, const char *value)
{
	size_t len = strlen(value);

	for (const char *c = choices; *c;) {
		size_t n = strcspn(c, "|");
		if (n == len && !strncmp(c, value, n))
			return true;
		c += n + (c[n] == '|');
	}
	return false;
}

/* What a screen may show as it is. */
static bool is_plain(const char *value)
{
	char shown[LINE_MAX_BYTES];

	return strlen(value) < sizeof shown && !strcmp(bl_printable(shown, sizeof shown, value), value);
}

static enum bl_status check(const struct bl_setting_row *r, const char *value, struct bl_err *err)
{
	char *end;
	long n;

	switch (r->type) {
	case BL_SETTING_BOOL:
		return !strcmp(value, "true") || !strcmp(value, "false") ? BL_OK :
			bl_fail(err, BL_USAGE, "%s: must be true or false, is %.60s", r->name, value);
	case BL_SETTING_INT:
		n = strtol(value, &end, 10);
		return *value && !*end && n >= r->min && n <= r->max ? BL_OK :
			bl_fail(err, BL_USAGE, "%s: must be a number in %ld .. %ld, is %.60s", r->name, r->min, r->max, value);
	case BL_SETTING_CHOICE:
		return is_choice(r->choices, value) ? BL_OK : bl_fail(err, BL_USAGE, "%s: must be one of %s, is %.60s", r->name, r->choices, value);
	case BL_SETTING_TEXT:
		if ((long)strlen(value) > r->max)
			return bl_fail(err, BL_USAGE, "%s: must be at most %ld bytes long", r->name, r->max);
		return is_plain(value) ? BL_OK : bl_fail(err, BL_USAGE, "%s: must be UTF-8 without control characters", r->name);
	}
	return BL_OK;
}

static int find(const char *name)
{
	for (int i = 0; i < BL_SETTING_COUNT; i++)
		if (!strcmp(rows[i].name, name))
			return i;
	return -1;
}

enum bl_status bl_settings_set(struct bl_settings *s, const char *name, const char *value, struct bl_err *err)
{
	int i = find(name);

	if (i < 0)
		return bl_fail(err, BL_USAGE, "no setting is called \"%.60s\"", name);
	if (check(&rows[i], value, err))
		return err->status;
	bl_free(s->value[i]);
	s->value[i] = bl_xstrdup(value);
	return BL_OK;
}

/* "name = value" out of a line; false for comments, blanks and nonsense. Cuts the line in place. */
static bool split(char *line, char **name, char **value)
{
	char *eq = strchr(line, '='), *end;

	while (isspace((unsigned char)*line))
		line++;
	if (!*line || *line == '#' || !eq)
		return false;
	*name = line;
	for (end = eq; end > line && isspace((unsigned char)end[-1]); end--)
		;
	*end = '\0';
	*value = eq + 1;
	while (isspace((unsigned char)**value))
		++*value;
	for (end = *value + strlen(*value); end > *value && isspace((unsigned char)end[-1]); end--)
		;
	*end = '\0';
	return **name != '\0';
}

/* One line of the file; false with a sentence when it says nothing we understand. Cuts the line in place. */
static bool take_line(struct bl_settings *s, char *line, struct bl_err *err)
{
	char *name, *value, shown[64];
	size_t blank = strspn(line, " \t\r\v\f");

	if (!line[blank] || line[blank] == '#')
		return true;
	bl_printable(shown, sizeof shown, line);
	if (strlen(line) > LINE_MAX_BYTES)
		bl_fail(err, BL_INVALID, "is longer than %d bytes: %.40s", LINE_MAX_BYTES, shown);
	else if (!split(line, &name, &value))
		bl_fail(err, BL_INVALID, "is not NAME = VALUE: %s", shown);
	else
		bl_settings_set(s, name, value, err);
	return err->status == BL_OK;
}

void bl_settings_load(struct bl_settings *s, const char *path, struct bl_str *warnings)
{
	struct bl_err err = BL_ERR_INIT;
	char *text = NULL, *save = NULL;
	int number = 0, bad = 0;

	if (bl_read_file(&text, NULL, path, FILE_MAX_BYTES, true, &err)) {
		if (err.status != BL_NOT_FOUND)
			bl_str_addf(warnings, "%s\n", err.text);
		return;
	}
	for (char *line = text; line; line = save) {
		save = strchr(line, '\n');
		if (save)
			*save++ = '\0';
		number++;
		bl_err_clear(&err);
		if (!take_line(s, line, &err) && ++bad <= WARNINGS_MAX)
			bl_str_addf(warnings, "%s: line %d%s %s\n", path, number, err.status == BL_USAGE ? ":" : "", err.text);
	}
	if (bad > WARNINGS_MAX)
		bl_str_addf(warnings, "%s: %d more lines like these\n", path, bad - WARNINGS_MAX);
	bl_free(text);
}

/* The file behind a symbolic link is the one to replace: settings that live elsewhere stay there. */
static char *real_name(const char *path)
{
	char *real = realpath(path, NULL), *name = bl_xstrdup(real ? real : path);

	free(real);
	return name;
}

enum bl_status bl_settings_save(const struct bl_settings *s, const char *path, struct bl_err *err)
{
	bool written[BL_SETTING_COUNT] = {false};
	char *text = NULL, *save = NULL, *file = real_name(path), *dir = bl_path_dir(file);
	struct bl_str out = {0};

	if (bl_is_file(file) && bl_read_file(&text, NULL, file, FILE_MAX_BYTES, true, err))
		goto done;
	for (char *line = text; line && *line; line = save) {
		char *copy, *name, *value;
		save = strchr(line, '\n');
		if (save)
			*save++ = '\0';
		copy = bl_xstrdup(line);
		int i = split(copy, &name, &value) ? find(name) : -1;
		if (i < 0) {
			bl_str_addf(&out, "%s\n", line); /* comments and what we do not know stay */
		} else if (!written[i]) {
			bl_str_addf(&out, "%s = %s\n", rows[i].name, s->value[i]);
			written[i] = true;
		}
		bl_free(copy);
	}
	for (int i = 0; i < BL_SETTING_COUNT; i++)
		if (!written[i] && strcmp(s->value[i], rows[i].fallback))
			bl_str_addf(&out, "%s = %s\n", rows[i].name, s->value[i]);
	if (bl_mkdirs(dir, 0700, err) == BL_OK)
		bl_write_file(file, bl_str_c(&out), out.len, 0600, err);
done:
	bl_str_free(&out);
	bl_free(text);
	bl_free(file);
	bl_free(dir);
	return err->status;
}

char *bl_settings_path(void)
{
	const char *env = getenv("BITLATHE_CONFIG");
	char *dir, *path;

	if (env && *env)
		return bl_xstrdup(env);
	dir = bl_xdg_dir("CONFIG");
	path = bl_path_join(dir, "config");
	bl_free(dir);
	return path;
}

bool bl_settings_bool(const struct bl_settings *s, enum bl_setting_id id)
{
	return !strcmp(s->value[id], "true");
}

long bl_settings_int(const struct bl_settings *s, enum bl_setting_id id)
{
	return strtol(s->value[id], NULL, 10);
}

const char *bl_settings_text(const struct bl_settings *s, enum bl_setting_id id)
{
	return s->value[id];
}
