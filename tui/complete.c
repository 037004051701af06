/* SPDX-License-Identifier: Apache-2.0
 * Completion: one source function per kind of argument; composed kinds (PATTERN=SCHEME:METHOD,key=value) are taken
 * apart here. */
#include "tui/complete.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/transform/stages.h"
#include "tui/app_private.h"
#include "tui/form.h"
#include "tui/screens/layers_columns.h"

struct call {
	struct bl_app *app;
	struct bl_completion *c;
	const char *word;
};

static void offer(struct call *k, const char *text)
{
	if (k->c->n >= BL_COMPLETIONS_MAX || strncasecmp(text, k->word, strlen(k->word)) != 0)
		return;
	for (int i = 0; i < k->c->n; i++)
		if (!strcmp(k->c->items[i], text))
			return;
	k->c->items[k->c->n++] = bl_xstrdup(text);
}

static void note(struct call *k, bool bad, const char *text)
{
	k->c->bad = bad;
	bl_printable(k->c->note, sizeof k->c->note, text);
}

/* ---- sources ---- */

static void from_commands(struct call *k)
{
	for (int a = 0; a < BL_ACTION_COUNT; a++)
		if (bl_action_on_screen((enum bl_action)a, bl_app_top(k->app)->name))
			offer(k, bl_action_row((enum bl_action)a)->name);
	if (k->c->n == 1)
		note(k, false, bl_action_row((enum bl_action)bl_action_find(k->c->items[0]))->sentence);
}

static void from_patterns(struct call *k)
{
	const struct bl_session *s = k->app->session;
	static const char *const words[] = { "all",       "first", "last", "re:", "re:.*down_proj", "re:.*self_attn.*",
					     "re:.*mlp.*" };
	uint8_t *selected;
	struct bl_err err = BL_ERR_INIT;
	char text[64];
	int n = 0;

	if (!s)
		return;
	for (int kind = 0; kind < BL_UNIT_KIND_COUNT; kind++)
		offer(k, bl_unit_kind_name((enum bl_unit_kind)kind));
	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
		offer(k, words[i]);
	for (int u = 0; u < s->model->n_units && isdigit((unsigned char)*k->word); u++) {
		snprintf(text, sizeof text, "%d.%s", s->model->units[u].block,
			 bl_unit_kind_name(s->model->units[u].kind));
		offer(k, text);
	}
	for (int u = 0; u < s->model->n_units && *k->word; u++)
		offer(k, s->model->units[u].name);
	if (!*k->word)
		return;
	selected = bl_xalloc((size_t)s->model->n_units + 1, 1);
	if (bl_pattern_match(s->model, k->word, selected, &n, &err)) {
		note(k, true, k->c->n ? "matches nothing yet" : err.text);
	} else {
		snprintf(text, sizeof text, "%d unit%s", n, n == 1 ? "" : "s");
		note(k, false, text);
	}
	bl_free(selected);
}

static void from_schemes(struct call *k)
{
	int n;
	const struct bl_scheme_row *rows = bl_scheme_rows(&n);
	const char *sentence = NULL;

	for (int i = 0; i < n; i++) {
		char name[BL_SCHEME_NAME_MAX];

		offer(k, bl_scheme_name(name, &rows[i].scheme));
		if (!strcasecmp(name, k->word))
			sentence = rows[i].sentence;
	}
	if (sentence)
		note(k, false, sentence);
}

static void from_methods(struct call *k)
{
	const struct bl_session *s = k->app->session;

	for (int i = 0; s && i < bl_registry_n_methods(&s->registry); i++) {
		const struct bl_method *m = bl_registry_method_at(&s->registry, i);

		offer(k, m->name);
		if (!strcmp(m->name, k->word))
			note(k, false, m->sentence);
	}
}

/* key=value of one method or transform; the range stands in the note */
static void from_params(struct call *k, const struct bl_param *params, int n)
{
	char text[256];

	for (int i = 0; i < n; i++) {
		const struct bl_param *p = &params[i];
		size_t len = strlen(p->name);

		if (strncmp(k->word, p->name, len) != 0 || k->word[len] != '=') {
			snprintf(text, sizeof text, "%s=", p->name);
			offer(k, text);
			continue;
		}
		if (p->type == BL_PARAM_CHOICE || p->type == BL_PARAM_BOOL) {
			char choices[160];

			snprintf(choices, sizeof choices, "%s", p->type == BL_PARAM_BOOL ? "true|false" : p->choices);
			for (char *save = NULL, *c = strtok_r(choices, "|", &save); c; c = strtok_r(NULL, "|", &save)) {
				snprintf(text, sizeof text, "%s=%s", p->name, c);
				offer(k, text);
			}
			note(k, false, p->sentence);
		} else {
			snprintf(text, sizeof text, "%g to %g, usually %s: %s", p->min, p->max, p->fallback,
				 p->sentence);
			note(k, false, text);
		}
	}
}

static void from_files(struct call *k)
{
	const char *slash = strrchr(k->word, '/');
	char *dir = slash == k->word ? bl_xstrdup("/")
		    : slash          ? bl_xstrndup(k->word, (size_t)(slash - k->word))
				     : bl_xstrdup(".");
	char **names = NULL;
	size_t n = 0;
	struct bl_err err = BL_ERR_INIT;

	if (bl_list_dir(&names, &n, dir, &err) == BL_OK) {
		for (size_t i = 0; i < n && k->c->n < BL_COMPLETIONS_MAX; i++) {
			struct bl_str full = { 0 };
			char *path;

			if (names[i][0] == '.' && (slash ? slash[1] : k->word[0]) != '.')
				continue;
			if (slash)
				bl_str_addn(&full, k->word, (size_t)(slash - k->word) + 1);
			bl_str_add(&full, names[i]);
			path = bl_str_take(&full);
			if (bl_is_dir(path)) {
				bl_str_add(&full, path);
				bl_str_addc(&full, '/');
				offer(k, bl_str_c(&full));
				bl_str_free(&full);
			} else {
				offer(k, path);
			}
			bl_free(path);
		}
		bl_list_free(names);
	}
	bl_free(dir);
}

static void from_snapshots(struct call *k)
{
	for (int i = 0; k->app->session && i < bl_plan_n_snapshots(k->app->session->plan); i++)
		offer(k, bl_plan_snapshot(k->app->session->plan, i)->name);
}

static void from_themes(struct call *k)
{
	struct bl_str lines = { 0 };

	bl_theme_list(&lines, k->app->options.program_dir);
	bl_str_c(&lines);
	for (char *save = NULL, *l = strtok_r(lines.s, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		char *tab = strchr(l, '\t'), *end;

		if (tab)
			*tab = '\0';
		offer(k, l);
		if (tab && !strcmp(l, k->word)) {
			if ((end = strchr(tab + 1, '\t')))
				*end = '\0';
			note(k, false, tab + 1);
		}
	}
	bl_str_free(&lines);
}

static void from_targets(struct call *k)
{
	int n;
	const struct bl_target *rows = bl_target_rows(&n);

	for (int i = 0; i < n; i++) {
		offer(k, rows[i].name);
		if (!strcmp(rows[i].name, k->word))
			note(k, false, rows[i].title);
	}
}

static void from_columns(struct call *k)
{
	for (int i = 0; bl_layer_column(i); i++) {
		offer(k, bl_layer_column(i)->name);
		if (!strcmp(bl_layer_column(i)->name, k->word))
			note(k, false, bl_layer_column(i)->help);
	}
}

static void from_settings(struct call *k)
{
	char text[160];

	for (int i = 0; i < BL_SETTING_COUNT; i++) {
		const struct bl_setting_row *r = bl_setting_row((enum bl_setting_id)i);
		size_t len = strlen(r->name);

		if (strncmp(k->word, r->name, len) != 0 || k->word[len] != '=') {
			snprintf(text, sizeof text, "%s=", r->name);
			offer(k, text);
			continue;
		}
		note(k, false, r->sentence);
		if (i == BL_SET_THEME || i == BL_SET_TARGET) { /* names that other tables know */
			k->word += len + 1;
			(i == BL_SET_THEME ? from_themes : from_targets)(k);
			return;
		}
		snprintf(text, sizeof text, "%s",
			 r->type == BL_SETTING_BOOL     ? "true|false"
			 : r->type == BL_SETTING_CHOICE ? r->choices
							: "");
		for (char *save = NULL, *c = strtok_r(text, "|", &save); c; c = strtok_r(NULL, "|", &save)) {
			char full[200];

			snprintf(full, sizeof full, "%s=%s", r->name, c);
			offer(k, full);
		}
	}
}

static void from_config(struct call *k)
{
	char text[160];

	if (!k->app->session)
		return;
	for (const cJSON *i = k->app->session->model->config.json ? k->app->session->model->config.json->child : NULL;
	     i; i = i->next)
		if (i->string && strlen(i->string) < 120) {
			snprintf(text, sizeof text, "%s=", i->string);
			offer(k, text);
		}
}

/* ---- taking apart ---- */

static const struct {
	const char *kind;
	void (*from)(struct call *k);
} sources[] = {
	{ "PATTERN", from_patterns },    { "UNIT", from_patterns },      { "SCHEME", from_schemes },
	{ "FILE", from_files },          { "SNAPSHOT", from_snapshots }, { "THEME", from_themes },
	{ "TARGET", from_targets },      { "COLUMN", from_columns },     { "NAMES", from_columns },
	{ "NAME=VALUE", from_settings }, { "KEY=VALUE", from_config },
};

/* "METHOD,key=value,...": the part after the last comma */
static size_t method_part(struct call *k, const char *text)
{
	const char *comma = strrchr(text, ',');
	char method[BL_METHOD_NAME_MAX];

	if (!comma) {
		k->word = text;
		from_methods(k);
		return 0;
	}
	snprintf(method, sizeof method, "%.*s", (int)strcspn(text, ","), text);
	k->word = comma + 1;
	const struct bl_method *m = k->app->session ? bl_registry_method(&k->app->session->registry, method) : NULL;
	if (m)
		from_params(k, m->params, m->n_params);
	return (size_t)(comma + 1 - text);
}

/* "TRANSFORM:key=value,...;TRANSFORM..." */
static size_t stages_part(struct call *k, const char *text)
{
	const char *stage = strrchr(text, ';'), *colon, *comma;
	char name[64];
	int n = 0;

	stage = stage ? stage + 1 : text;
	k->word = stage;
	if (!(colon = strchr(stage, ':'))) {
		for (int i = 0; bl_transform_at(i); i++) {
			offer(k, bl_transform_at(i)->name);
			if (!strcmp(bl_transform_at(i)->name, stage))
				note(k, false, bl_transform_at(i)->sentence);
		}
		return (size_t)(stage - text);
	}
	comma = strrchr(colon, ',');
	k->word = (comma ? comma : colon) + 1;
	snprintf(name, sizeof name, "%.*s", (int)(colon - stage), stage);
	const struct bl_param *params = bl_transform_params(name, &n);
	if (params)
		from_params(k, params, n);
	return (size_t)(k->word - text);
}

static size_t budget_part(struct call *k, const char *text)
{
	static const struct {
		const char *word, *note;
	} words[] = {
		{ "bytes=", "of all tensors: 60%, 6.5MB or plan (what it is now)" }, { "time=", "of a decode step on the target: 0.8x, 2.9ms or plan" },
		{ "score=", "at least: 0.6, or best" },                               { "options=", "what units may become: W4A16;W8A16;BF16" },
		{ "trials=", "whole plans measured to beat the sums" },
	};
	const char *word = strrchr(text, ' ');

	k->word = word ? word + 1 : text;
	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
		if (bl_starts_with(k->word, words[i].word))
			note(k, false, words[i].note);
		else
			offer(k, words[i].word);
	return (size_t)(k->word - text);
}

/* Puts "30 units: " before what completion has to say about the rest. */
static void note_pattern(struct call *k, const char *text, size_t n)
{
	struct bl_completion pattern = { .items = bl_xalloc(BL_COMPLETIONS_MAX, sizeof *pattern.items) };
	char *word = bl_xstrndup(text, n), both[200];
	struct call count = { k->app, &pattern, word };

	from_patterns(&count);
	snprintf(both, sizeof both, "%s%s%s", pattern.note, pattern.note[0] && k->c->note[0] ? ": " : "", k->c->note);
	note(k, k->c->bad || pattern.bad, both);
	bl_free(word);
	bl_completion_free(&pattern);
}

static size_t set_part(struct call *k, const char *text)
{
	const char *equals = strchr(text, '='), *colon;
	size_t at;

	if (!equals) {
		k->word = text;
		from_patterns(k);
		return 0;
	}
	colon = strchr(equals, ':');
	at = (size_t)((colon ? colon : equals) + 1 - text);
	if (colon) {
		at += method_part(k, colon + 1);
	} else {
		k->word = equals + 1;
		from_schemes(k);
	}
	note_pattern(k, text, (size_t)(equals - text));
	return at;
}

/* Names of files as they stand in a line of words. */
static void escape_blanks(struct bl_completion *c)
{
	for (int i = 0; i < c->n; i++) {
		struct bl_str text = { 0 };

		for (const char *s = c->items[i]; *s; s++) {
			if (*s == ' ' || *s == '\\')
				bl_str_addc(&text, '\\');
			bl_str_addc(&text, *s);
		}
		bl_str_c(&text);
		bl_free(c->items[i]);
		c->items[i] = bl_str_take(&text);
	}
}

/* Words of a form: what stands before '=' from its table, files as values of some, and by themselves where `files`. */
static size_t form_part(struct call *k, const struct bl_form_field *fields, int n, bool files, const char *text)
{
	const char *word = text, *equals;
	const struct bl_form_field *f = NULL;
	char name[32];

	for (const char *s = text; *s; s++) {
		if (*s == '\\' && s[1])
			s++;
		else if (*s == ' ')
			word = s + 1;
	}
	k->word = word;
	equals = strchr(word, '=');
	for (int i = 0; i < n; i++) {
		snprintf(name, sizeof name, "%s=", fields[i].name);
		if (bl_starts_with(word, name))
			f = &fields[i];
		else if (!equals)
			offer(k, name);
	}
	if (f)
		note(k, false, f->help);
	if (f && f->kind == BL_FORM_FILE) {
		k->word = equals + 1;
		from_files(k);
		escape_blanks(k->c);
	} else if (f && f->kind == BL_FORM_FLAG) {
		k->word = equals + 1;
		offer(k, "on");
		offer(k, "off");
	} else if (!f && files && !equals) {
		from_files(k);
		escape_blanks(k->c);
	}
	return (size_t)(k->word - text);
}

static size_t argument(struct call *k, const char *kind, const char *text)
{
	char plain[64];
	size_t len;

	kind += *kind == '[';
	snprintf(plain, sizeof plain, "%s", kind);
	if (bl_starts_with(plain, "PATTERN=SCHEME"))
		return set_part(k, text);
	if (bl_starts_with(plain, "TRANSFORM"))
		return stages_part(k, text);
	if (bl_starts_with(plain, "bytes=SIZE"))
		return budget_part(k, text);
	if (bl_starts_with(plain, "METHOD"))
		return method_part(k, text);
	if (bl_starts_with(plain, "FILE... samples="))
		return form_part(k, bl_calib_fields, BL_CALIB_FIELDS, true, text);
	if (bl_starts_with(plain, "ppl=FILE"))
		return form_part(k, bl_eval_fields, BL_EVAL_FIELDS, false, text);
	len = strlen(plain);
	if (len && plain[len - 1] == ']')
		plain[len - 1] = '\0';
	k->word = text;
	if (!strcmp(plain, "NAMES") && strrchr(text, ','))
		k->word = strrchr(text, ',') + 1;
	for (size_t i = 0; i < sizeof sources / sizeof sources[0]; i++)
		if (!strcmp(sources[i].kind, plain))
			sources[i].from(k);
	return (size_t)(k->word - text);
}

void bl_complete(struct bl_app *app, struct bl_completion *c, const char *kind, const char *text, size_t cursor)
{
	struct call k = { app, c, "" };
	char *head = bl_xstrndup(text, cursor);
	size_t skip = strcspn(head, " ");

	bl_completion_free(c);
	c->items = bl_xalloc(BL_COMPLETIONS_MAX, sizeof *c->items);
	if (strcmp(kind, "COMMAND") != 0) {
		c->from = argument(&k, kind, head);
	} else if (!head[skip]) {
		k.word = head;
		from_commands(&k);
	} else {
		char name[32];
		int a;

		snprintf(name, sizeof name, "%.*s", (int)skip, head);
		skip += strspn(head + skip, " ");
		a = bl_action_find(name);
		c->from = skip + (a >= 0 ? argument(&k, bl_action_row((enum bl_action)a)->args, head + skip) : 0);
		if (a >= 0 && !c->note[0] && !c->n)
			snprintf(c->note, sizeof c->note, "%s %s", bl_action_row((enum bl_action)a)->args,
				 bl_action_row((enum bl_action)a)->sentence);
	}
	if (c->n == 1 && !strcmp(c->items[0], k.word)) { /* complete already */
		bl_free(c->items[0]);
		c->n = 0;
	}
	bl_free(head);
}

void bl_completion_free(struct bl_completion *c)
{
	for (int i = 0; i < c->n; i++)
		bl_free(c->items[i]);
	bl_free(c->items);
	*c = (struct bl_completion){ 0 };
}
