/* SPDX-License-Identifier: Apache-2.0
 * Files of multiple-choice questions: one JSON object a line. A stranger's file: bounds on everything. */
#include <stdio.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/evaluate/evaluate.h"

#define LINE_MAX_BYTES (1u << 20)
#define LINE_MAX_VALUES 1000
#define ITEMS_MAX 10000000u

struct reader { const char *where; const cJSON *o; struct bl_mcq_item item; struct bl_err *err; };

static void item_free(struct bl_mcq_item *it)
{
	bl_free(it->question);
	for (int i = 0; i < it->n_choices; i++)
		bl_free(it->choices[i]);
}

static enum bl_status read_choices(struct reader *r)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(r->o, "choices");
	int n = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0;

	if (n < 2 || n > BL_MCQ_CHOICES_MAX)
		return bl_fail(r->err, BL_INVALID, "%s: choices: must be a list of 2 to %d texts", r->where, BL_MCQ_CHOICES_MAX);
	for (const cJSON *c = list->child; c; c = c->next) {
		if (!cJSON_IsString(c) || !*c->valuestring)
			return bl_fail(r->err, BL_INVALID, "%s: choices[%d]: must be a text that is not empty", r->where, r->item.n_choices);
		r->item.choices[r->item.n_choices++] = bl_xstrdup(c->valuestring);
	}
	return BL_OK;
}

static enum bl_status read_answer(struct reader *r)
{
	const cJSON *a = cJSON_GetObjectItemCaseSensitive(r->o, "answer");
	int n = r->item.n_choices, k = -1;

	if (cJSON_IsNumber(a) && a->valuedouble >= 0 && a->valuedouble < n && a->valuedouble == (double)(int)a->valuedouble)
		k = (int)a->valuedouble;
	if (cJSON_IsString(a)) { /* the text of a choice wins over a letter */
		for (int i = 0; i < n && k < 0; i++)
			if (!strcmp(a->valuestring, r->item.choices[i]))
				k = i;
		char c = a->valuestring[0];
		if (k < 0 && c && !a->valuestring[1] && ((c >= 'A' && c < 'A' + n) || (c >= 'a' && c < 'a' + n)))
			k = c >= 'a' ? c - 'a' : c - 'A';
	}
	if (k < 0)
		return bl_fail(r->err, BL_INVALID, "%s: answer: must be the number of a choice from 0 to %d, its letter or its text", r->where, n - 1);
	r->item.answer = k;
	return BL_OK;
}

static enum bl_status read_item(struct reader *r)
{
	const cJSON *q = cJSON_GetObjectItemCaseSensitive(r->o, "question");

	if (!cJSON_IsString(q) || !*q->valuestring)
		return bl_fail(r->err, BL_INVALID, "%s: question: must be a text that is not empty", r->where);
	r->item.question = bl_xstrdup(q->valuestring);
	if (read_choices(r) || read_answer(r))
		return r->err->status;
	return BL_OK;
}

struct items { struct bl_mcq_item *list; size_t n, cap; };

static enum bl_status read_line(struct items *l, const char *line, size_t len, const char *where, struct bl_err *err)
{
	struct reader r = {.where = where, .err = err};
	cJSON *o;

	if (len > LINE_MAX_BYTES)
		return bl_fail(err, BL_INVALID, "%s: %zu bytes are too many for one question", where, len);
	if (l->n >= ITEMS_MAX)
		return bl_fail(err, BL_INVALID, "%s: more than %u questions", where, ITEMS_MAX);
	if (bl_json_parse(&o, line, len, LINE_MAX_VALUES, where, err))
		return err->status;
	r.o = o;
	if (read_item(&r) == BL_OK) {
		bl_xgrow(&l->list, &l->cap, l->n + 1);
		l->list[l->n++] = r.item;
	} else {
		item_free(&r.item);
	}
	cJSON_Delete(o);
	return err->status;
}

struct file { struct bl_map map; struct items items; const char *name; };

static enum bl_status read_lines(void *ctx, struct bl_err *err)
{
	struct file *f = ctx;
	const char *at = (const char *)f->map.data, *end = at ? at + f->map.bytes : at;
	char where[300], name[256];

	bl_printable(name, sizeof name, bl_path_base(f->name));
	for (long line = 1; at < end && !err->status; line++) {
		const char *stop = memchr(at, '\n', (size_t)(end - at));
		size_t len = (size_t)((stop ? stop : end) - at), blank = 0;
		while (blank < len && strchr(" \t\r", at[blank]) && at[blank])
			blank++;
		snprintf(where, sizeof where, "%s:%ld", name, line);
		if (blank < len)
			read_line(&f->items, at, len, where, err);
		at = stop ? stop + 1 : end;
	}
	if (!err->status && !f->items.n)
		bl_fail(err, BL_INVALID, "%s: holds no question", f->name);
	return err->status;
}

enum bl_status bl_mcq_load(struct bl_mcq_item **out, size_t *n, const char *file, struct bl_err *err)
{
	struct file f = {.name = file};

	if (bl_map_open(&f.map, file, err))
		return err->status;
	bl_guard_run(read_lines, &f, err);
	bl_map_close(&f.map);
	if (err->status) {
		bl_mcq_free(f.items.list, f.items.n);
		return err->status;
	}
	*out = f.items.list;
	*n = f.items.n;
	return BL_OK;
}

void bl_mcq_free(struct bl_mcq_item *items, size_t n)
{
	for (size_t i = 0; i < n; i++)
		item_free(&items[i]);
	bl_free(items);
}
