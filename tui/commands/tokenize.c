/* SPDX-License-Identifier: Apache-2.0
 * tokenize: what a model sees of texts, conversations and data files: ids and pieces of each row, how many rows were used and why others were not. */
#include <stdio.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/model/locate.h"
#include "core/text/dataset.h"
#include "tui/cli.h"

#define SHOWN_ROWS   4  /* of data files, unless --verbose */
#define SHOWN_TOKENS 64
#define SHOWN_DROPS  20
#define PIECE_COLUMNS 40

struct tokenize {
	struct bl_cli *c;
	const char *files[BL_MANY_MAX]; size_t n_files;
	struct bl_tokenizer *t;
	struct bl_chat *chat;
	struct bl_err why_no_chat;
	struct bl_dataset_options o;
	struct bl_dataset *d;
	struct bl_progress progress;
	long long window;
	bool preview; /* data files: the beginning of a few rows */
};

static enum bl_status load(void *ctx, struct bl_err *err)
{
	struct tokenize *w = ctx;

	w->o.cancel = &w->progress.cancel;
	return bl_dataset_load(&w->d, w->files, w->n_files, w->t, w->chat, w->why_no_chat.status ? w->why_no_chat.text : NULL, &w->o, err);
}

/* ---- as text ---- */

static size_t columns(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

static void cut(struct bl_str *piece)
{
	size_t n = 0, at = 0;

	for (; at < piece->len; at++) {
		n += ((unsigned char)piece->s[at] & 0xc0) != 0x80;
		if (n > PIECE_COLUMNS)
			break;
	}
	if (at == piece->len)
		return;
	piece->len = at;
	bl_str_add(piece, "\xe2\x80\xa6");
}

static void show_tokens(struct tokenize *w, const int32_t *ids, size_t n, size_t most)
{
	struct bl_str line = {0}, token = {0}, piece = {0};
	size_t used = 0, shown = most && n > most ? most : n;

	for (size_t i = 0; i < shown; i++) {
		bool special = bl_tokenizer_is_special(w->t, ids[i]);
		bl_str_clear(&piece);
		bl_str_clear(&token);
		bl_tokenizer_piece(w->t, ids[i], &piece);
		cut(&piece);
		bl_str_addf(&token, special ? "%d *%s*" : "%d \"%s\"", ids[i], bl_str_c(&piece));
		size_t wide = columns(token.s);
		if (line.len && used + 2 + wide > BL_CLI_COLUMNS - 2) {
			bl_cli_line(w->c, "  %s", line.s);
			bl_str_clear(&line);
			used = 0;
		}
		bl_str_addf(&line, "%s%s", line.len ? "  " : "", token.s);
		used += wide + (used ? 2 : 0);
	}
	if (shown)
		bl_cli_line(w->c, "  %s", bl_str_c(&line));
	if (shown < n)
		bl_cli_line(w->c, "  ... and %zu more", n - shown);
	bl_str_free(&line);
	bl_str_free(&token);
	bl_str_free(&piece);
}

static const char *file_of(const struct tokenize *w, const struct bl_dataset_row *r)
{
	const char *from_stdin = w->c->from_stdin;

	return from_stdin && !strcmp(r->file, bl_path_base(from_stdin)) ? "-" : r->file;
}

static void as_text(struct tokenize *w)
{
	const struct bl_dataset *d = w->d;
	size_t rows = w->preview && !w->c->verbose && d->n_rows > SHOWN_ROWS ? SHOWN_ROWS : d->n_rows, drops = d->n_drops;

	for (size_t i = 0; i < rows; i++) {
		const struct bl_dataset_row *r = &d->rows[i];
		bl_cli_wrapped(w->c, 2, "%s:%lld: %s, %zu tokens", file_of(w, r), (long long)r->line, r->layout, r->n);
		show_tokens(w, d->ids.ids + r->first, r->n, w->preview && !w->c->verbose ? SHOWN_TOKENS : 0);
	}
	if (rows < d->n_rows)
		bl_cli_line(w->c, "... and %zu more rows (--verbose shows them)", d->n_rows - rows);
	if (w->preview || d->dropped || d->cut || w->window) {
		bl_cli_line(w->c, "rows: %lld read, %lld used, %lld dropped, %lld cut; %zu tokens", (long long)d->read, (long long)d->used, (long long)d->dropped,
			    (long long)d->cut, d->ids.n);
		if (w->window)
			bl_cli_line(w->c, "windows of %lld tokens: %lld", w->window, (long long)((long long)d->ids.n / w->window));
	}
	if (!w->c->verbose && drops > SHOWN_DROPS)
		drops = SHOWN_DROPS;
	for (size_t i = 0; i < drops; i++)
		bl_cli_wrapped(w->c, 4, "  ! %s:%lld: %s", d->drops[i].file, (long long)d->drops[i].line, d->drops[i].why);
	if (drops < (size_t)d->dropped)
		bl_cli_line(w->c, "  ! ... and %lld more", (long long)d->dropped - (long long)drops);
}

/* ---- as JSON ---- */

static void add_text(cJSON *o, const char *key, const char *s, size_t n)
{
	char *copy = bl_xstrndup(s, n); /* NUL ends it */

	if (bl_utf8_valid(copy, strlen(copy)))
		cJSON_AddStringToObject(o, key, copy);
	else
		cJSON_AddNullToObject(o, key);
	bl_free(copy);
}

/* What stands between the brackets; it is let go. */
static void add_list(cJSON *o, const char *key, struct bl_str *inside)
{
	struct bl_str all = {0};

	bl_str_addc(&all, '[');
	bl_str_addn(&all, inside->s, inside->len);
	bl_str_addc(&all, ']');
	bl_str_free(inside);
	cJSON_AddRawToObject(o, key, all.s);
	bl_str_free(&all);
}

static void row_json(struct tokenize *w, cJSON *list, const struct bl_dataset_row *r, size_t n)
{
	cJSON *e = cJSON_CreateObject();
	const int32_t *id = w->d->ids.ids + r->first;
	struct bl_str b = {0}, ids = {0}, pieces = {0};
	struct bl_err ignored = BL_ERR_INIT;

	cJSON_AddItemToArray(list, e);
	cJSON_AddStringToObject(e, "file", file_of(w, r));
	bl_json_add_int(e, "line", r->line);
	cJSON_AddStringToObject(e, "layout", r->layout);
	if (!r->text && bl_tokenizer_decode(w->t, id, r->n, false, &b, &ignored) == BL_OK)
		add_text(e, "text", bl_str_c(&b), b.len);
	else if (r->text)
		add_text(e, "text", r->text, r->text_n);
	bl_json_add_int(e, "tokens", (int64_t)r->n);
	for (size_t i = 0; i < n; i++) { /* as text: as values each would take a hundred bytes and more */
		bl_str_addf(&ids, i ? ", %d" : "%d", id[i]);
		bl_str_clear(&b);
		bl_tokenizer_piece(w->t, id[i], &b);
		bl_str_add(&pieces, i ? ", " : "");
		bl_str_add_json(&pieces, bl_str_c(&b));
	}
	add_list(e, "ids", &ids);
	add_list(e, "pieces", &pieces);
	bl_str_free(&b);
}

static void as_json(struct tokenize *w)
{
	const struct bl_dataset *d = w->d;
	cJSON *j = w->c->json, *list = cJSON_AddArrayToObject(j, "rows"), *samples, *drops;
	size_t rows = w->preview && !w->c->verbose && d->n_rows > SHOWN_ROWS ? SHOWN_ROWS : d->n_rows;

	for (size_t i = 0; i < rows; i++) {
		size_t n = d->rows[i].n;
		row_json(w, list, &d->rows[i], w->preview && !w->c->verbose && n > SHOWN_TOKENS ? SHOWN_TOKENS : n);
	}
	samples = cJSON_AddObjectToObject(j, "samples");
	bl_json_add_int(samples, "read", d->read);
	bl_json_add_int(samples, "used", d->used);
	bl_json_add_int(samples, "dropped", d->dropped);
	bl_json_add_int(samples, "truncated", d->cut);
	bl_json_add_int(j, "tokens", (int64_t)d->ids.n);
	if (w->window)
		bl_json_add_int(j, "windows", (int64_t)d->ids.n / w->window);
	drops = cJSON_AddArrayToObject(j, "drops");
	for (size_t i = 0; i < d->n_drops; i++) {
		cJSON *e = cJSON_CreateObject();
		cJSON_AddItemToArray(drops, e);
		cJSON_AddStringToObject(e, "file", d->drops[i].file);
		bl_json_add_int(e, "line", d->drops[i].line);
		cJSON_AddStringToObject(e, "why", d->drops[i].why);
	}
	cJSON_AddStringToObject(j, "digest", d->digest);
	cJSON_AddStringToObject(j, "tokenizer", bl_tokenizer_digest(w->t));
	if (w->chat)
		cJSON_AddStringToObject(j, "template", bl_chat_name(w->chat));
}

enum bl_status bl_cmd_tokenize(struct bl_cli *c, struct bl_err *err)
{
	struct tokenize w = {.c = c, .o = {.special = bl_given(&c->o, BL_OPT_SPECIAL), .generation = bl_given(&c->o, BL_OPT_GENERATION),
			.keep_text = c->json != NULL}};
	struct bl_place place = {0};
	bool chat = bl_given(&c->o, BL_OPT_CHAT);

	for (int i = 0; i < c->o.n_many; i++)
		if (c->o.many_of[i] == BL_OPT_TEXT || c->o.many_of[i] == BL_OPT_CHAT || c->o.many_of[i] == BL_OPT_DATA)
			w.files[w.n_files++] = c->o.many[i];
	w.preview = bl_given(&c->o, BL_OPT_DATA);
	if (!w.n_files)
		return bl_fail(err, BL_USAGE, "tokenize: --text FILE, --chat FILE.jsonl or --data FILE says of what");
	if (bl_option_int(&c->o, BL_OPT_SEQLEN, 1, 1 << 24, 0, &w.window, err) || bl_locate(&place, c->o.args[0], err))
		return err->status;
	if (bl_tokenizer_open(&w.t, place.dir, err) == BL_OK && bl_chat_open(&w.chat, place.dir, &w.why_no_chat) && chat)
		*err = w.why_no_chat;
	if (!err->status && bl_cli_work(c, "tokenize", load, &w, &w.progress, err) == BL_OK) {
		if (c->json)
			as_json(&w);
		else
			as_text(&w);
	}
	bl_dataset_free(w.d);
	bl_chat_free(w.chat);
	bl_tokenizer_free(w.t);
	bl_place_free(&place);
	return err->status;
}
