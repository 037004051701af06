/* SPDX-License-Identifier: Apache-2.0
 * Data files row by row: what a row holds, the ids it becomes, and why it was left out. */
#include "core/text/dataset.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/text/private.h"

#define ROW_BYTES    (64u << 20)
#define ROW_VALUES   4000000
#define TEXT_BYTES   (1u << 30)
#define DROPS_KEPT   1000
#define MESSAGES_MAX 10000
#define CHUNK        (1u << 18)

struct loader {
	struct bl_dataset *d;
	const struct bl_tokenizer *t;
	const struct bl_chat *chat;
	const char *chat_why;
	const struct bl_dataset_options *o;
	size_t cap_rows, cap_drops;
	char *file;             /* base name of the current one */
	int64_t line, used_here, read_here;
	int nul;                /* which character stands for NUL in the current row; 0: none */
	struct bl_str rendered;
	struct bl_str kept;     /* what was tokenized of the current row */
	struct bl_err why;      /* of the current row */
};

void bl_dataset_free(struct bl_dataset *d)
{
	if (!d)
		return;
	bl_ids_free(&d->ids);
	for (size_t i = 0; i < d->n_rows; i++)
		bl_free(d->rows[i].text);
	for (size_t i = 0; i < d->n_files; i++)
		bl_free(d->files[i]);
	bl_free(d->files);
	bl_free(d->rows);
	bl_free(d->drops);
	bl_free(d);
}

/* ---- one row ---- */

static enum bl_status drop(struct loader *l, enum bl_status s, const char *text)
{
	return bl_fail(&l->why, s, "%s", text);
}

static enum bl_status encode(struct loader *l, const char *text, size_t n, bool special)
{
	if (!l->t)
		return drop(l, BL_UNSUPPORTED, "text needs the checkpoint's tokenizer.json");
	if (l->o->keep_text) {
		bl_str_clear(&l->kept);
		bl_utf8_repair(&l->kept, text, n);
	}
	return bl_tokenizer_encode(l->t, text, n, special, &l->d->ids, &l->why);
}

static enum bl_status render(struct loader *l, const struct bl_message *m, size_t n, bool generation)
{
	if (!l->chat)
		return drop(l, BL_UNSUPPORTED, l->chat_why ? l->chat_why : "a conversation needs the checkpoint's chat template");
	bl_str_clear(&l->rendered);
	if (bl_chat_render(l->chat, m, n, generation, &l->rendered, &l->why))
		return l->why.status;
	return encode(l, bl_str_c(&l->rendered), l->rendered.len, false); /* the template writes the special tokens itself */
}

static const char *string_of(const cJSON *o, const char *key)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

	return cJSON_IsString(v) ? v->valuestring : NULL;
}

static const char *role_of(const char *from)
{
	static const struct { const char *from, *role; } names[] = {{"human", "user"}, {"gpt", "assistant"}, {"bot", "assistant"},
						    {"chatgpt", "assistant"}, {"model", "assistant"}};

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (!strcmp(names[i].from, from))
			return names[i].role;
	return from;
}

/* {role, content} or {from, value}; one more message may follow (a response). */
static enum bl_status conversation(struct loader *l, const cJSON *list, const char *response, bool generation)
{
	const cJSON *e;
	size_t n = 0;
	char text[80];
	enum bl_status s = BL_OK;

	if (!cJSON_IsArray(list) || !list->child)
		return drop(l, BL_INVALID, "the conversation is not a list of messages");
	cJSON_ArrayForEach(e, list)
		n++;
	if (n > MESSAGES_MAX)
		return drop(l, BL_INVALID, "the conversation has more than 10000 messages");
	struct bl_message *m = bl_xalloc(n + 1, sizeof *m);
	n = 0;
	cJSON_ArrayForEach(e, list) {
		const char *role = string_of(e, "role"), *content = string_of(e, "content"), *from = string_of(e, "from"), *value = string_of(e, "value");
		m[n].role = role ? role : from ? role_of(from) : NULL;
		m[n].content = content ? content : value;
		if (!m[n].role || !m[n].content) {
			snprintf(text, sizeof text, "message %zu has no %s that is a text", n + 1, m[n].role ? "content" : "role");
			s = drop(l, BL_INVALID, text);
			break;
		}
		n++;
	}
	if (response)
		m[n++] = (struct bl_message){"assistant", response};
	if (!s)
		s = render(l, m, n, generation);
	bl_free(m);
	return s;
}

static enum bl_status prompt(struct loader *l, const cJSON *row, const cJSON *p)
{
	const char *response = string_of(row, "response") ? string_of(row, "response") : string_of(row, "completion");
	struct bl_message m[2] = {{"user", p->valuestring}, {"assistant", response}};

	if (cJSON_IsArray(p))
		return conversation(l, p, response, !response);
	if (!cJSON_IsString(p))
		return drop(l, BL_INVALID, "prompt is neither a text nor a list of messages");
	if (l->chat)
		return render(l, m, response ? 2 : 1, !response);
	bl_str_clear(&l->rendered);
	bl_str_add(&l->rendered, p->valuestring);
	bl_str_add(&l->rendered, response ? response : "");
	return encode(l, bl_str_c(&l->rendered), l->rendered.len, l->o->special);
}

static enum bl_status input_ids(struct loader *l, const cJSON *list)
{
	int32_t size = l->t ? bl_tokenizer_size(l->t) : INT32_MAX;
	const cJSON *v;
	size_t at = 0;
	char text[100];

	if (!cJSON_IsArray(list))
		return drop(l, BL_INVALID, "input_ids is not a list");
	cJSON_ArrayForEach(v, list) {
		if (!cJSON_IsNumber(v) || !(v->valuedouble >= 0 && v->valuedouble < size) || v->valuedouble != (int32_t)v->valuedouble) {
			snprintf(text, sizeof text, "input_ids[%zu] is not an id of the tokenizer (0 .. %d)", at, size - 1);
			return drop(l, BL_INVALID, text);
		}
		bl_xgrow(&l->d->ids.ids, &l->d->ids.cap, l->d->ids.n + 1);
		l->d->ids.ids[l->d->ids.n++] = (int32_t)v->valuedouble;
		at++;
	}
	return BL_OK;
}

/* Strings end at NUL here, yet a text may hold one: in the row a character that it does not have stood in for it. */
static enum bl_status text_with_nuls(struct loader *l, char *s)
{
	size_t n = strlen(s);
	char mark[4] = {'\xef', '\xb7', (char)(0x90 + l->nul), 0};

	for (char *at = s; l->nul && (at = strstr(at, mark)); n -= 2, at++) {
		*at = '\0';
		memmove(at + 1, at + 3, n - (size_t)(at - s) - 2);
	}
	return encode(l, s, n, l->o->special);
}

/* Puts U+FDD0 + l->nul, which stands nowhere in the line, for each \\u0000 of it. */
static void hide_nuls(struct loader *l, char *line, size_t n)
{
	char *end = line + n;

	l->nul = 0;
	if (!memmem(line, n, "\\u0000", 6))
		return;
	for (int k = 1; k < 16 && !l->nul; k++) {
		char raw[4] = {'\xef', '\xb7', (char)(0x90 + k), 0}, low[8], high[8];
		snprintf(low, sizeof low, "\\ufdd%x", (unsigned)k);
		snprintf(high, sizeof high, "\\uFDD%X", (unsigned)k);
		if (!memmem(line, n, raw, 3) && !memmem(line, n, low, 6) && !memmem(line, n, high, 6))
			l->nul = k;
	}
	for (char *p = line; l->nul && p < end; p += *p == '\\' ? 2 : 1) {
		char mark[8];
		snprintf(mark, sizeof mark, "\\ufdd%x", (unsigned)l->nul);
		if (end - p >= 6 && !memcmp(p, "\\u0000", 6))
			memcpy(p, mark, 6);
	}
}

static enum bl_status row_ids(struct loader *l, const cJSON *row, const char **layout)
{
	static const char *const names[] = {"text", "messages", "conversations", "prompt", "input_ids"};
	const cJSON *v = NULL;
	int i = 0;

	while (i < 5 && !((v = cJSON_GetObjectItemCaseSensitive(row, names[i])) && !cJSON_IsNull(v)))
		i++;
	if (i == 5)
		return drop(l, BL_INVALID, "has none of text, messages, conversations, prompt, input_ids");
	*layout = names[i];
	if (i == 0)
		return cJSON_IsString(v) ? text_with_nuls(l, v->valuestring) : drop(l, BL_INVALID, "text is not a text");
	if (l->nul)
		return drop(l, BL_UNSUPPORTED, "holds a NUL character outside of text");
	if (i == 1 || i == 2)
		return conversation(l, v, NULL, l->o->generation);
	return i == 3 ? prompt(l, row, v) : input_ids(l, v);
}

/* After the ids of a row were appended from `first` on, or it was refused (then they are taken back). */
static void finish_row(struct loader *l, size_t first, const char *layout)
{
	struct bl_dataset *d = l->d;

	d->read++;
	l->read_here++;
	if (l->why.status || d->ids.n == first)
		bl_str_clear(&l->kept);
	if (!l->why.status && d->ids.n == first)
		drop(l, BL_INVALID, "has no tokens");
	if (l->why.status) {
		d->ids.n = first;
		d->dropped++;
		if (d->n_drops < DROPS_KEPT) {
			bl_xgrow(&d->drops, &l->cap_drops, d->n_drops + 1);
			struct bl_dataset_drop *p = &d->drops[d->n_drops++];
			*p = (struct bl_dataset_drop){.file = l->file, .line = l->line};
			snprintf(p->why, sizeof p->why, "%s", l->why.text);
		}
		bl_err_clear(&l->why);
		return;
	}
	if (l->o->max_row_tokens && d->ids.n - first > (size_t)l->o->max_row_tokens) {
		d->ids.n = first + (size_t)l->o->max_row_tokens;
		d->cut++;
	}
	bl_xgrow(&d->rows, &l->cap_rows, d->n_rows + 1);
	d->rows[d->n_rows++] = (struct bl_dataset_row){.file = l->file, .line = l->line, .layout = layout, .first = first, .n = d->ids.n - first};
	if (l->kept.len) {
		d->rows[d->n_rows - 1].text_n = l->kept.len;
		d->rows[d->n_rows - 1].text = bl_str_take(&l->kept);
	}
	d->used++;
	l->used_here++;
}

static void json_row(struct loader *l, char *text, size_t n)
{
	size_t first = l->d->ids.n, space = 0;
	const char *layout = "";
	cJSON *row = NULL;

	while (space < n && strchr(" \t\r", text[space]) && text[space])
		space++;
	if (space == n)
		return; /* an empty line is no row */
	hide_nuls(l, text, n);
	if (bl_json_parse(&row, text, n, ROW_VALUES, "JSON", &l->why) == BL_OK)
		row_ids(l, row, &layout);
	cJSON_Delete(row);
	finish_row(l, first, layout);
}

/* ---- files ---- */

static bool enough(const struct loader *l)
{
	return l->o->max_tokens && l->d->ids.n >= (size_t)l->o->max_tokens;
}

static enum bl_status json_lines(struct loader *l, int fd, const char *path, struct bl_err *err)
{
	struct bl_str line = {0};
	char *chunk = bl_xalloc(CHUNK, 1);
	bool too_long = false;
	ssize_t got;

	l->line = 1;
	while (!enough(l) && !err->status && (got = read(fd, chunk, CHUNK)) != 0) {
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			bl_fail_sys(err, BL_IO, "%s: cannot be read", path);
			break;
		}
		for (const char *p = chunk, *end = chunk + got; p < end && !enough(l); l->line++) {
			if (l->o->cancel && atomic_load(l->o->cancel)) {
				bl_fail(err, BL_CANCELLED, "%s", bl_status_text(BL_CANCELLED));
				break;
			}
			const char *nl = memchr(p, '\n', (size_t)(end - p));
			size_t n = (size_t)((nl ? nl : end) - p);
			too_long |= line.len + n > ROW_BYTES;
			if (!too_long)
				bl_str_addn(&line, p, n);
			p += n;
			if (!nl)
				break;
			p++;
			if (too_long) {
				drop(l, BL_INVALID, "the row has more than 64 MiB");
				finish_row(l, l->d->ids.n, "");
			} else {
				json_row(l, line.len ? line.s : (char[]){0}, line.len);
			}
			bl_str_clear(&line);
			too_long = false;
		}
	}
	if (!err->status && !enough(l) && too_long) {
		drop(l, BL_INVALID, "the row has more than 64 MiB");
		finish_row(l, l->d->ids.n, "");
	} else if (!err->status && !enough(l)) {
		json_row(l, line.len ? line.s : (char[]){0}, line.len);
	}
	bl_str_free(&line);
	bl_free(chunk);
	return err->status;
}

static enum bl_status plain_text(struct loader *l, const char *path, struct bl_err *err)
{
	size_t n, first = l->d->ids.n;
	char *text;

	if (bl_read_file(&text, &n, path, TEXT_BYTES, false, err))
		return err->status;
	l->line = 1;
	encode(l, text, n, l->o->special);
	finish_row(l, first, "text");
	bl_free(text);
	return BL_OK;
}

/* By the name. Whoever writes .json means rows, too: as text it would be a model's view of brackets. */
static bool is_json_lines(const char *path)
{
	static const char *const ends[] = {".jsonl", ".ndjson", ".json"};
	const size_t n = strlen(path);

	for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
		if (n > strlen(ends[i]) && bl_ieq(path + n - strlen(ends[i]), ends[i]))
			return true;
	return false;
}

static enum bl_status load_file(struct loader *l, const char *path, struct bl_err *err)
{
	struct bl_dataset *d = l->d;
	size_t drops = d->n_drops;
	struct stat st;

	l->file = d->files[d->n_files++] = bl_xstrdup(bl_path_base(path));
	l->used_here = l->read_here = 0;
	if (is_json_lines(path)) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return bl_fail_sys(err, errno == ENOENT ? BL_NOT_FOUND : BL_IO, "%s: cannot be opened", path);
		if (fstat(fd, &st) || !S_ISREG(st.st_mode))
			bl_fail(err, BL_INVALID, "%s: must be a regular file", path);
		else
			json_lines(l, fd, path, err);
		close(fd);
	} else {
		plain_text(l, path, err);
	}
	if (!err->status && !l->used_here && !enough(l)) {
		const struct bl_dataset_drop *first = d->n_drops > drops ? &d->drops[drops] : NULL;
		bl_fail(err, BL_INVALID, "%s: no row can be used (of %lld)%s%s", path, (long long)l->read_here, first ? "; the first one: " : "",
				first ? first->why : "");
	}
	return err->status;
}

static void digest(struct bl_dataset *d)
{
	struct bl_sha256 h;

	bl_sha256_init(&h);
	for (size_t i = 0; i < d->n_rows; i++) {
		uint64_t n = d->rows[i].n;
		bl_sha256_add(&h, &n, sizeof n);
		bl_sha256_add(&h, d->ids.ids + d->rows[i].first, d->rows[i].n * sizeof *d->ids.ids);
	}
	bl_sha256_hex(&h, d->digest);
}

enum bl_status bl_dataset_load(struct bl_dataset **out, const char *const *files, size_t n_files, const struct bl_tokenizer *t,
			       const struct bl_chat *chat, const char *chat_why, const struct bl_dataset_options *o, struct bl_err *err)
{
	struct loader l = {.d = bl_xalloc(1, sizeof *l.d), .t = t, .chat = chat, .chat_why = chat_why, .o = o};

	l.d->files = bl_xalloc(n_files + 1, sizeof *l.d->files);
	for (size_t i = 0; i < n_files && !err->status && !enough(&l); i++)
		load_file(&l, files[i], err);
	if (!n_files)
		bl_fail(err, BL_USAGE, "no data file is named");
	bl_str_free(&l.rendered);
	bl_str_free(&l.kept);
	if (err->status) {
		bl_dataset_free(l.d);
		return err->status;
	}
	digest(l.d);
	*out = l.d;
	return BL_OK;
}

void bl_dataset_windows(struct bl_windows *w, const struct bl_dataset *d, int64_t len, int64_t max_windows)
{
	int64_t n = len > 0 ? (int64_t)d->ids.n / len : 0;

	*w = (struct bl_windows){d->ids.ids, max_windows > 0 && n > max_windows ? max_windows : n, len};
}
