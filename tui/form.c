/* SPDX-License-Identifier: Apache-2.0
 * Forms as tables. */
#include "tui/form.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"

#define COUNT_MAX 100000000 /* windows, tokens: far beyond what anybody has */
#define WORD_MAX  4096

#define C(field) offsetof(struct bl_calib_request, field)
#define E(field) offsetof(struct bl_eval_request, field)

/* clang-format off */
const struct bl_form_field bl_calib_fields[BL_CALIB_FIELDS] = {
	{"samples",   BL_FORM_COUNT, C(samples),      1, COUNT_MAX, NULL,         "windows to run, as far as the data give them"},
	{"seqlen",    BL_FORM_COUNT, C(seqlen),       2, COUNT_MAX, NULL,         "tokens each, packed without padding"},
	{"hessians",  BL_FORM_FLAG,  C(hessians),     0, 1,         NULL,         "for true layer errors and GPTQ; ranges are always kept"},
	{"inputs",    BL_FORM_FLAG,  C(block_inputs), 0, 1,         NULL,         "block inputs of the windows below: live KL"},
	{"keep",      BL_FORM_COUNT, C(keep_windows), 0, COUNT_MAX, "none",       "windows that edits are measured on"},
	{"seed",      BL_FORM_COUNT, C(seed),         0, INT64_MAX, "file order", "which windows, when there are more than samples"},
	{"memory",    BL_FORM_BYTES, C(memory_limit), 0, INT64_MAX, "no limit",   "of the GPU; what does not fit is streamed"},
	{"ram",       BL_FORM_BYTES, C(ram_limit),    0, INT64_MAX, "no limit",   "for hidden states; the rest goes to disk"},
};
const struct bl_form_field bl_eval_fields[BL_EVAL_FIELDS] = {
	{"ppl",       BL_FORM_FILE,  E(ppl),          0, 0,         "not asked",  "perplexity, on rows of text"},
	{"kl",        BL_FORM_FILE,  E(kl),           0, 0,         "not asked",  "distance to the base, rows of text"},
	{"mcq",       BL_FORM_FILE,  E(mcq),          0, 0,         "not asked",  "questions with choices and answer"},
	{"windows",   BL_FORM_COUNT, E(windows),      0, COUNT_MAX, "all",        "windows of ppl and kl"},
	{"seqlen",    BL_FORM_COUNT, E(seqlen),       2, COUNT_MAX, NULL,         "tokens each, not overlapping"},
	{"items",     BL_FORM_COUNT, E(items),        0, COUNT_MAX, "all",        "questions of mcq"},
	{"memory",    BL_FORM_BYTES, E(memory_limit), 0, INT64_MAX, "no limit",   "of the GPU; what does not fit is streamed"},
};
/* clang-format on */

/* ---- one value ---- */

static int64_t get_count(const struct bl_form_field *f, const void *request)
{
	int64_t v;

	memcpy(&v, (const char *)request + f->at, sizeof v);
	return v;
}

static void put_count(const struct bl_form_field *f, void *request, int64_t v)
{
	memcpy((char *)request + f->at, &v, sizeof v);
}

static bool *flag(const struct bl_form_field *f, void *request)
{
	return (bool *)(void *)((char *)request + f->at);
}

static char **file(const struct bl_form_field *f, void *request)
{
	return (char **)(void *)((char *)request + f->at);
}

char *bl_form_text(const struct bl_form_field *f, const void *request, char *dst, size_t cap)
{
	static const struct {
		const char *unit;
		int shift;
	} units[] = { { "G", 30 }, { "M", 20 }, { "K", 10 } };
	int64_t v;

	switch (f->kind) {
	case BL_FORM_FLAG:
		snprintf(dst, cap, "%s", *(const bool *)((const char *)request + f->at) ? "on" : "off");
		break;
	case BL_FORM_FILE: {
		const char *name;

		memcpy(&name, (const char *)request + f->at, sizeof name);
		snprintf(dst, cap, "%s", name ? name : "");
		break;
	}
	case BL_FORM_BYTES:
		v = get_count(f, request);
		for (size_t i = 0; i < sizeof units / sizeof units[0] && v; i++)
			if (v % ((int64_t)1 << units[i].shift) == 0) {
				snprintf(dst, cap, "%lld%s", (long long)(v >> units[i].shift), units[i].unit);
				return dst;
			}
		/* fall through */
	case BL_FORM_COUNT:
		snprintf(dst, cap, "%lld", (long long)get_count(f, request));
		break;
	}
	return dst;
}

enum bl_status bl_form_set(const struct bl_form_field *f, void *request, const char *text, struct bl_err *err)
{
	long long v;
	double bytes;
	char *end, shown[64];

	bl_printable(shown, sizeof shown, text);
	switch (f->kind) {
	case BL_FORM_FLAG:
		if (strcmp(text, "on") != 0 && strcmp(text, "off") != 0)
			return bl_fail(err, BL_USAGE, "%s: on or off, not \"%s\"", f->name, shown);
		*flag(f, request) = !strcmp(text, "on");
		return BL_OK;
	case BL_FORM_FILE:
		bl_free(*file(f, request));
		*file(f, request) = *text ? bl_xstrdup(text) : NULL;
		return BL_OK;
	case BL_FORM_BYTES:
		if (f->zero && !strcmp(text, f->zero))
			text = "0";
		if (!bl_parse_bytes(text, &bytes))
			return bl_fail(err, BL_USAGE, "%s: a size as 16G or 500M, 0 for %s, not \"%s\"", f->name, f->zero, shown);
		put_count(f, request, (int64_t)bytes);
		return BL_OK;
	case BL_FORM_COUNT:
		if (f->zero && !strcmp(text, f->zero))
			text = "0";
		errno = 0;
		v = strtoll(text, &end, 10);
		if (end == text || *end || errno || v < f->least || v > f->most)
			return bl_fail(err, BL_USAGE, "%s: a whole number from %lld%s%s%s, not \"%s\"", f->name, (long long)f->least, f->zero ? " (" : "",
				       f->zero ? f->zero : "", f->zero ? ")" : "", shown);
		put_count(f, request, v);
		return BL_OK;
	}
	return BL_OK;
}

void bl_form_step(const struct bl_form_field *f, void *request, int direction)
{
	int64_t v, least = f->kind == BL_FORM_BYTES ? (int64_t)1 << 30 : 1;

	if (f->kind == BL_FORM_FILE)
		return;
	if (f->kind == BL_FORM_FLAG) {
		*flag(f, request) = direction > 0;
		return;
	}
	v = get_count(f, request);
	if (direction > 0)
		v = v < least ? least : v > f->most / 2 ? v : v * 2;
	else
		v = v <= least ? 0 : v / 2;
	put_count(f, request, v < f->least ? f->least : v);
}

/* ---- lines of text ---- */

/* The next word, with "\ " for a blank; false at the end or when it is too long. */
static bool next_word(const char **text, char *dst, size_t cap)
{
	const char *s = *text + strspn(*text, " \t");
	size_t n = 0;

	if (!*s)
		return false;
	for (; *s && *s != ' ' && *s != '\t'; s++) {
		if (*s == '\\' && s[1])
			s++;
		if (n + 1 >= cap)
			return false;
		dst[n++] = *s;
	}
	dst[n] = '\0';
	*text = s;
	return true;
}

static void add_word(struct bl_str *out, const char *name, const char *value)
{
	if (out->len)
		bl_str_addc(out, ' ');
	if (name)
		bl_str_addf(out, "%s=", name);
	for (; *value; value++) {
		if (*value == ' ' || *value == '\t' || *value == '\\')
			bl_str_addc(out, '\\');
		bl_str_addc(out, *value);
	}
}

static void print(const struct bl_form_field *fields, int n, const void *request, struct bl_str *out)
{
	char text[WORD_MAX];

	for (int i = 0; i < n; i++) {
		bl_form_text(&fields[i], request, text, sizeof text);
		if (*text)
			add_word(out, fields[i].name, text);
	}
}

/* One "name=value" of a table. */
static enum bl_status set_word(const struct bl_form_field *fields, int n, void *request, char *word, struct bl_err *err)
{
	char *equals = strchr(word, '='), names[160] = "", shown[64];
	size_t used = 0;

	*equals = '\0';
	for (int i = 0; i < n; i++) {
		if (!strcmp(fields[i].name, word))
			return bl_form_set(&fields[i], request, equals + 1, err);
		used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", fields[i].name);
	}
	return bl_fail(err, BL_USAGE, "there is no \"%s\"; there are %s", bl_printable(shown, sizeof shown, word), names);
}

static bool is_setting(const char *word)
{
	size_t n = strspn(word, "abcdefghijklmnopqrstuvwxyz");

	return n > 0 && word[n] == '=';
}

enum bl_status bl_calib_form_parse(struct bl_calib_request *r, const char *text, struct bl_err *err)
{
	struct bl_calib_request mine;
	char word[WORD_MAX];
	bool files = false;
	enum bl_status status = BL_OK;

	bl_calib_request_copy(&mine, r);
	while (status == BL_OK && next_word(&text, word, sizeof word)) {
		if (is_setting(word)) {
			status = set_word(bl_calib_fields, BL_CALIB_FIELDS, &mine, word, err);
			continue;
		}
		while (!files && mine.n_files)
			bl_calib_form_drop(&mine, 0);
		files = true;
		bl_calib_form_add(&mine, word);
	}
	if (status == BL_OK && text[strspn(text, " \t")])
		status = bl_fail(err, BL_USAGE, "a word is longer than %d bytes", WORD_MAX - 1);
	if (status == BL_OK) {
		struct bl_calib_request old = *r;

		*r = mine;
		mine = old;
	}
	bl_calib_request_free(&mine);
	return status;
}

static void copy_eval(struct bl_eval_request *dst, const struct bl_eval_request *src)
{
	*dst = *src;
	dst->ppl = src->ppl ? bl_xstrdup(src->ppl) : NULL;
	dst->kl = src->kl ? bl_xstrdup(src->kl) : NULL;
	dst->mcq = src->mcq ? bl_xstrdup(src->mcq) : NULL;
}

enum bl_status bl_eval_form_parse(struct bl_eval_request *r, const char *text, struct bl_err *err)
{
	struct bl_eval_request mine;
	char word[WORD_MAX], shown[64];
	enum bl_status status = BL_OK;

	copy_eval(&mine, r);
	while (status == BL_OK && next_word(&text, word, sizeof word)) {
		if (is_setting(word))
			status = set_word(bl_eval_fields, BL_EVAL_FIELDS, &mine, word, err);
		else
			status = bl_fail(err, BL_USAGE, "\"%s\": say what to measure on it: ppl=FILE, kl=FILE or mcq=FILE",
					 bl_printable(shown, sizeof shown, word));
	}
	if (status == BL_OK && text[strspn(text, " \t")])
		status = bl_fail(err, BL_USAGE, "a word is longer than %d bytes", WORD_MAX - 1);
	if (status == BL_OK) {
		struct bl_eval_request old = *r;

		*r = mine;
		mine = old;
	}
	bl_eval_form_free(&mine);
	return status;
}

void bl_calib_form_print(const struct bl_calib_request *r, struct bl_str *out)
{
	for (int i = 0; i < r->n_files; i++)
		add_word(out, NULL, r->files[i]);
	print(bl_calib_fields, BL_CALIB_FIELDS, r, out);
}

void bl_eval_form_print(const struct bl_eval_request *r, struct bl_str *out)
{
	print(bl_eval_fields, BL_EVAL_FIELDS, r, out);
}

void bl_calib_form_add(struct bl_calib_request *r, const char *name)
{
	r->files = bl_xrealloc(r->files, (size_t)r->n_files + 2, sizeof *r->files);
	r->files[r->n_files++] = bl_xstrdup(name);
	r->files[r->n_files] = NULL;
}

void bl_calib_form_drop(struct bl_calib_request *r, int i)
{
	if (i < 0 || i >= r->n_files)
		return;
	bl_free(r->files[i]);
	memmove(&r->files[i], &r->files[i + 1], (size_t)(r->n_files - i - 1) * sizeof *r->files);
	r->n_files--;
}

void bl_eval_form_free(struct bl_eval_request *r)
{
	bl_free(r->ppl);
	bl_free(r->kl);
	bl_free(r->mcq);
	r->ppl = r->kl = r->mcq = NULL;
}
