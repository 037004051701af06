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
		for (const char *c = value; *c; c++)
			if ((unsigned char)*c < 0x20 || *c == 0x7f)
				return bl_fail(err, BL_USAGE, "%s: must not hold control characters", r->name);
		return (long)strlen(value) <= r->max ? BL_OK : bl_fail(err, BL_USAGE, "%s: must be at most %ld bytes long", r->name, r->max);
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

void bl_settings_load(struct bl_settings *s, const char *path, struct bl_str *warnings)
{
	struct bl_err err = BL_ERR_INIT;
	char *text = NULL, *save = NULL;
	int number = 0;

	if (!bl_is_file(path))
		return;
	if (bl_read_file(&text, NULL, path, FILE_MAX_BYTES, true, &err)) {
		bl_str_addf(warnings, "%s\n", err.text);
		return;
	}
	for (char *next = text; next; next = save) {
		char *name, *value, *line = next, shown[64];
		save = strchr(line, '\n');
		if (save)
			*save++ = '\0';
		number++;
		bl_err_clear(&err);
		bl_printable(shown, sizeof shown, line);
		if (!split(line, &name, &value)) {
			while (isspace((unsigned char)*line))
				line++;
			if (*line && *line != '#')
				bl_str_addf(warnings, "%s: line %d is not NAME = VALUE: %s\n", path, number, shown);
		} else if (bl_settings_set(s, name, value, &err)) {
			bl_str_addf(warnings, "%s: line %d: %s\n", path, number, err.text);
		}
	}
	bl_free(text);
}

enum bl_status bl_settings_save(const struct bl_settings *s, const char *path, struct bl_err *err)
{
	bool written[BL_SETTING_COUNT] = {false};
	char *text = NULL, *save = NULL, *dir = bl_path_dir(path);
	struct bl_str out = {0};

	if (bl_is_file(path) && bl_read_file(&text, NULL, path, FILE_MAX_BYTES, true, err))
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
		bl_write_file(path, bl_str_c(&out), out.len, 0600, err);
done:
	bl_str_free(&out);
	bl_free(text);
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
