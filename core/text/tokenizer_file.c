/* SPDX-License-Identifier: Apache-2.0
 * tokenizer.json. model.vocab and model.merges are most of it: they are read straight from the (checked) text, and only what is left becomes a
 * tree. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/hash.h"
#include "core/base/json.h"
#include "core/base/json_scan.h"
#include "core/base/mem.h"
#include "core/text/private.h"

#define VALUES_MAX 30000000
#define REST_VALUES_MAX 4000000
#define ADDED_MAX  1000000

/* ---- walking over text that json_scan found good ---- */

static const char *skip_space(const char *p)
{
	while (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r')
		p++;
	return p;
}

static const char *skip_string(const char *p)
{
	for (p++; *p != '"'; p++)
		p += *p == '\\';
	return p + 1;
}

static const char *skip_value(const char *p)
{
	int depth = 0;

	do {
		if (*p == '"') {
			p = skip_string(p);
			continue;
		}
		depth += (*p == '{' || *p == '[') - (*p == '}' || *p == ']');
		if (!strchr("{}[],: \n\t\r", *p)) {
			while (!strchr(",]} \n\t\r", *p))
				p++;
			continue;
		}
		p++;
	} while (depth > 0);
	return p;
}

static unsigned hex4(const char *p)
{
	char text[5] = {p[0], p[1], p[2], p[3], 0};

	return (unsigned)strtoul(text, NULL, 16);
}

/* The string at p, decoded into b; returns what is behind it. */
static const char *read_string(const char *p, struct bl_str *b)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";

	bl_str_clear(b);
	for (p++; *p != '"';) {
		const char *run = p;
		while (*p != '"' && *p != '\\')
			p++;
		bl_str_addn(b, run, (size_t)(p - run));
		if (*p == '"')
			break;
		if (p[1] != 'u') {
			bl_str_addc(b, to[strchr(from, p[1]) - from]);
			p += 2;
			continue;
		}
		uint32_t cp = hex4(p + 2);
		p += 6;
		if (cp >= 0xd800 && cp <= 0xdbff) {
			cp = 0x10000 + ((cp - 0xd800) << 10) + (hex4(p + 2) - 0xdc00);
			p += 6;
		}
		bl_utf8_add(b, cp);
	}
	return p + 1;
}

/* The value of `key` in the object at p, NULL when there is none. */
static const char *member(const char *p, const char *key)
{
	struct bl_str name = {0};
	const char *found = NULL;

	if (*p != '{')
		return NULL;
	for (p = skip_space(p + 1); *p == '"' && !found;) {
		p = skip_space(read_string(p, &name));
		p = skip_space(p + 1);
		if (!strcmp(bl_str_c(&name), key))
			found = p;
		p = skip_space(skip_value(p));
		p = skip_space(p + (*p == ','));
	}
	bl_str_free(&name);
	return found;
}

/* ---- the big ones ---- */

static enum bl_status read_vocab(struct bl_vocab *v, const char *p, struct bl_err *err)
{
	struct bl_str name = {0};

	if (!p || *p != '{')
		return bl_fail(err, BL_INVALID, "model.vocab: must be an object of tokens and ids");
	for (p = skip_space(p + 1); *p == '"' && !err->status;) {
		char *end;
		p = skip_space(read_string(p, &name));
		p = skip_space(p + 1);
		long id = strtol(p, &end, 10);
		if (end == p || !strchr(",} \n\t\r", *end) || id < 0 || id >= BL_TOKENS_MAX) {
			bl_fail(err, BL_INVALID, "model.vocab: \"%.60s\": its id must be an integer in 0 .. %d, is %.*s", bl_str_c(&name), BL_TOKENS_MAX - 1,
				(int)(skip_value(p) - p < 30 ? skip_value(p) - p : 30), p);
			break;
		}
		if (bl_vocab_add(v, bl_str_c(&name), name.len, (int32_t)id, err)) {
			bl_err_prefix(err, "model.vocab");
			break;
		}
		v->t[id].model = true;
		v->n_model++;
		p = skip_space(end);
		p = skip_space(p + (*p == ','));
	}
	bl_str_free(&name);
	if (!err->status && !v->n_model)
		bl_fail(err, BL_INVALID, "model.vocab: is empty");
	if (!err->status && bl_vocab_index(v, err))
		bl_err_prefix(err, "model.vocab");
	return err->status;
}

/* Both halves of merge `at`, as "a b" or ["a", "b"]; returns what is behind it, NULL: neither. */
static const char *read_merge(const char *p, struct bl_str *left, struct bl_str *right)
{
	if (*p == '"') {
		p = read_string(p, left);
		char *space = strchr(bl_str_c(left), ' ');
		if (!space || strchr(space + 1, ' '))
			return NULL;
		bl_str_clear(right);
		bl_str_add(right, space + 1);
		left->len = (size_t)(space - left->s);
		*space = '\0';
		return p;
	}
	if (*p != '[' || *(p = skip_space(p + 1)) != '"')
		return NULL;
	p = skip_space(read_string(p, left));
	if (*p != ',' || *(p = skip_space(p + 1)) != '"')
		return NULL;
	p = skip_space(read_string(p, right));
	return *p == ']' ? p + 1 : NULL;
}

static enum bl_status add_merge(struct bl_vocab *v, size_t at, uint32_t rank, struct bl_str *left, const struct bl_str *right, struct bl_err *err)
{
	int32_t a = bl_vocab_raw(v, bl_str_c(left), left->len), b = bl_vocab_raw(v, right->s ? right->s : "", right->len), made;

	if (a < 0 || b < 0)
		return bl_fail(err, BL_INVALID, "model.merges[%zu]: \"%.60s\" is not in model.vocab", at, a < 0 ? left->s : right->s ? right->s : "");
	bl_str_addn(left, right->s, right->len);
	made = bl_vocab_raw(v, left->s, left->len);
	if (made < 0)
		return bl_fail(err, BL_INVALID, "model.merges[%zu]: what it makes, \"%.60s\", is not in model.vocab", at, left->s);
	bl_vocab_merge(v, a, b, rank, made);
	return BL_OK;
}

static enum bl_status read_merges(struct bl_vocab *v, const char *p, struct bl_err *err)
{
	struct bl_str left = {0}, right = {0};
	size_t n = 0, at = 0;
	uint32_t rank = 0;

	if (!p || *p != '[')
		return bl_fail(err, BL_INVALID, "model.merges: must be an array");
	for (const char *q = skip_space(p + 1); *q != ']'; n++) {
		q = skip_space(skip_value(q));
		q = skip_space(q + (*q == ','));
	}
	if (n > BL_MERGES_MAX)
		return bl_fail(err, BL_INVALID, "model.merges: has %zu entries, at most %d are allowed", n, BL_MERGES_MAX);
	bl_vocab_pairs(v, n);
	for (p = skip_space(p + 1); *p != ']' && !err->status; at++) {
		const char *end = read_merge(p, &left, &right);
		if (*p == '"' && bl_starts_with(bl_str_c(&left), "#version")) {
			end = skip_string(p); /* the head of a merges.txt */
		} else if (!end) {
			bl_fail(err, BL_INVALID, "model.merges[%zu]: must be \"a b\" or [\"a\", \"b\"]", at);
			break;
		} else {
			add_merge(v, at, rank++, &left, &right, err);
		}
		p = skip_space(end);
		p = skip_space(p + (*p == ','));
	}
	bl_str_free(&left);
	bl_str_free(&right);
	return err->status;
}

/* ---- the rest, as a tree ---- */

static enum bl_status read_model(struct bl_tokenizer *t, const cJSON *root, struct bl_err *err)
{
	static const char *const must_be_empty[] = {"continuing_subword_prefix", "end_of_word_suffix"};
	struct bl_vocab *v = &t->vocab;
	const cJSON *m = cJSON_GetObjectItemCaseSensitive(root, "model"), *unk = cJSON_GetObjectItemCaseSensitive(m, "unk_token");
	const char *type = "BPE";
	double dropout = 0;
	bool fallback = false;
	int missing = 0;

	if (bl_json_str(m, "type", 40, false, &type, "model", err))
		return err->status;
	if (strcmp(type, "BPE"))
		return bl_fail(err, BL_UNSUPPORTED, "model.type: %s is not supported, only byte-level BPE", type);
	if (bl_json_num(m, "dropout", 0, 1, false, &dropout, "model", err) || bl_json_bool(m, "byte_fallback", false, &fallback, "model", err) ||
	    bl_json_bool(m, "fuse_unk", false, &v->fuse_unk, "model", err) || bl_json_bool(m, "ignore_merges", false, &v->ignore_merges, "model", err))
		return err->status;
	if (dropout > 0)
		return bl_fail(err, BL_UNSUPPORTED, "model.dropout: is %g; tokens by chance are not supported", dropout);
	for (size_t i = 0; i < 2; i++) {
		const char *s = "";
		if (bl_json_str(m, must_be_empty[i], 100, false, &s, "model", err))
			return err->status;
		if (*s)
			return bl_fail(err, BL_UNSUPPORTED, "model.%s: \"%s\" is not supported, only byte-level BPE", must_be_empty[i], s);
	}
	v->unk = cJSON_IsString(unk) ? bl_vocab_raw(v, unk->valuestring, strlen(unk->valuestring)) : -1;
	bl_vocab_ready(v);
	for (int b = 0; b < 256; b++)
		missing += v->base[b] < 0;
	if (missing && fallback)
		return bl_fail(err, BL_UNSUPPORTED, "model.byte_fallback: is true and %d bytes have no token; only byte-level BPE is supported", missing);
	if (missing && cJSON_IsString(unk) && v->unk < 0)
		return bl_fail(err, BL_INVALID, "model.unk_token: \"%.60s\" is not in model.vocab", unk->valuestring);
	if (missing == 256)
		return bl_fail(err, BL_UNSUPPORTED, "model.vocab: has no token of a single byte; only byte-level BPE is supported");
	return BL_OK;
}

/* The parts of a Sequence, or the one part; each goes through fn with its field's name. */
typedef enum bl_status part_fn(struct bl_tokenizer *t, const cJSON *part, const char *type, const char *where, struct bl_err *err);

static enum bl_status each_part(struct bl_tokenizer *t, const cJSON *o, const char *list, const char *where, int depth, part_fn *fn,
			struct bl_err *err)
{
	const char *type = NULL;
	char inner[96];
	int i = 0;

	if (!o || cJSON_IsNull(o))
		return BL_OK;
	if (bl_json_str(o, "type", 40, true, &type, where, err))
		return err->status;
	if (strcmp(type, "Sequence"))
		return fn(t, o, type, where, err);
	const cJSON *parts = cJSON_GetObjectItemCaseSensitive(o, list), *p;
	if (!cJSON_IsArray(parts) || depth > 4)
		return bl_fail(err, BL_INVALID, "%s.%s: must be an array%s", where, list, depth > 4 ? ", and not in so many others" : "");
	cJSON_ArrayForEach(p, parts) {
		snprintf(inner, sizeof inner, "%.40s.%s[%d]", where, list, i++);
		if (each_part(t, p, list, inner, depth + 1, fn, err))
			break;
	}
	return err->status;
}

static enum bl_status one_normalizer(struct bl_tokenizer *t, const cJSON *part, const char *type, const char *where, struct bl_err *err)
{
	static const char *const names[] = {"NFC", "NFD", "NFKC", "NFKD"};

	(void)part;
	for (int i = 0; i < 4; i++)
		if (!strcmp(type, names[i])) {
			if (t->n_forms == BL_STEPS_MAX)
				return bl_fail(err, BL_INVALID, "%s: more than %d normalizers", where, BL_STEPS_MAX);
			t->forms[t->n_forms++] = (enum bl_form)i;
			return BL_OK;
		}
	return bl_fail(err, BL_UNSUPPORTED, "%s.type: %s is not supported, only NFC, NFD, NFKC and NFKD", where, type);
}

static enum bl_status split_pattern(struct bl_step *s, const cJSON *part, const char *where, struct bl_err *err)
{
	static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
	const cJSON *pattern = cJSON_GetObjectItemCaseSensitive(part, "pattern"), *regex = cJSON_GetObjectItemCaseSensitive(pattern, "Regex"),
		    *plain = cJSON_GetObjectItemCaseSensitive(pattern, "String");
	const char *behavior = NULL;
	struct bl_str escaped = {0};
	char field[96];
	int b = 0;

	if (bl_json_str(part, "behavior", 40, true, &behavior, where, err) || bl_json_bool(part, "invert", false, &s->invert, where, err))
		return err->status;
	while (b < 5 && strcmp(behavior, names[b]))
		b++;
	if (b == 5)
		return bl_fail(err, BL_UNSUPPORTED, "%s.behavior: %s is not known", where, behavior);
	s->behavior = (enum bl_behavior)b;
	snprintf(field, sizeof field, "%.70s.pattern", where);
	if (cJSON_IsString(regex))
		return bl_step_compile(s, regex->valuestring, strlen(regex->valuestring), field, err);
	if (!cJSON_IsString(plain) || !*plain->valuestring)
		return bl_fail(err, BL_INVALID, "%s: must be {\"Regex\": text} or {\"String\": text}", field);
	for (const char *p = plain->valuestring; *p; p++) {
		if ((uint8_t)*p > 0x20 && (uint8_t)*p < 0x7f && !strchr("0123456789", *p) && !((*p | 0x20) >= 'a' && (*p | 0x20) <= 'z'))
			bl_str_addc(&escaped, '\\');
		bl_str_addc(&escaped, *p);
	}
	bl_step_compile(s, escaped.s, escaped.len, field, err);
	bl_str_free(&escaped);
	return err->status;
}

static enum bl_status one_splitter(struct bl_tokenizer *t, const cJSON *part, const char *type, const char *where, struct bl_err *err)
{
	struct bl_step *s = &t->steps[t->n_steps];
	bool flag = false;

	if (t->n_steps >= BL_STEPS_MAX)
		return bl_fail(err, BL_INVALID, "%s: more than %d split steps", where, BL_STEPS_MAX);
	if (t->byte_level)
		return bl_fail(err, BL_UNSUPPORTED, "%s.type: %s after ByteLevel is not supported", where, type);
	t->n_steps++;
	if (!strcmp(type, "Split"))
		return split_pattern(s, part, where, err);
	if (!strcmp(type, "Digits")) {
		if (bl_json_bool(part, "individual_digits", false, &flag, where, err))
			return err->status;
		s->behavior = flag ? BL_ISOLATED : BL_CONTIGUOUS;
		return bl_step_compile(s, "\\p{N}", 5, where, err);
	}
	if (strcmp(type, "ByteLevel"))
		return bl_fail(err, BL_UNSUPPORTED, "%s.type: %s is not supported, only ByteLevel, Split and Digits", where, type);
	t->byte_level = true;
	s->behavior = BL_ISOLATED;
	s->prefix_space = true;
	flag = true;
	if (bl_json_bool(part, "add_prefix_space", true, &s->prefix_space, where, err) || bl_json_bool(part, "use_regex", false, &flag, where, err))
		return err->status;
	if (flag)
		return bl_step_compile(s, bl_pattern_gpt2, strlen(bl_pattern_gpt2), where, err);
	if (!s->prefix_space)
		t->n_steps--; /* then it splits nothing */
	return BL_OK;
}

static enum bl_status one_decoder(struct bl_tokenizer *t, const cJSON *part, const char *type, const char *where, struct bl_err *err)
{
	(void)t, (void)part;
	return strcmp(type, "ByteLevel") ? bl_fail(err, BL_UNSUPPORTED, "%s.type: %s is not supported, only ByteLevel", where, type) : BL_OK;
}

/* ---- what special adds around a text ---- */

static enum bl_status put_id(struct bl_tokenizer *t, bool after, double id, const char *where, struct bl_err *err)
{
	int32_t **list = after ? &t->after : &t->before;
	size_t *n = after ? &t->n_after : &t->n_before;

	if (!(id >= 0 && id < t->vocab.size) || id != (int32_t)id || !t->vocab.t[(int32_t)id].present)
		return bl_fail(err, BL_INVALID, "%s: %g is not the id of a token", where, id);
	if (*n == 64)
		return bl_fail(err, BL_INVALID, "%s: adds more than 64 tokens", where);
	*list = bl_xrealloc(*list, *n + 1, sizeof **list);
	(*list)[(*n)++] = (int32_t)id;
	return BL_OK;
}

/* A processor further on goes around what the ones before it made. */
static void wrap(struct bl_tokenizer *t, int32_t *before, size_t n_before)
{
	t->before = bl_xrealloc(t->before, t->n_before + n_before + 1, sizeof *t->before);
	for (size_t i = 0; i < n_before; i++)
		t->before[t->n_before + i] = before[i];
	t->n_before += n_before;
	bl_free(before);
}

static enum bl_status template_ids(struct bl_tokenizer *t, const cJSON *part, const char *name, bool after, const char *where, struct bl_err *err)
{
	const cJSON *map = cJSON_GetObjectItemCaseSensitive(part, "special_tokens"), *entry = cJSON_GetObjectItemCaseSensitive(map, name),
		    *ids = cJSON_GetObjectItemCaseSensitive(entry, "ids"), *id;

	if (!cJSON_IsArray(ids))
		return bl_fail(err, BL_INVALID, "%s.special_tokens: \"%.60s\" has no ids", where, name);
	cJSON_ArrayForEach(id, ids)
		if (put_id(t, after, cJSON_IsNumber(id) ? id->valuedouble : -1, where, err))
			break;
	return err->status;
}

static enum bl_status template(struct bl_tokenizer *t, const cJSON *part, const char *where, struct bl_err *err)
{
	const cJSON *single = cJSON_GetObjectItemCaseSensitive(part, "single"), *e;
	bool after = false;

	if (!cJSON_IsArray(single))
		return bl_fail(err, BL_UNSUPPORTED, "%s.single: must be an array", where);
	cJSON_ArrayForEach(e, single) {
		const cJSON *special = cJSON_GetObjectItemCaseSensitive(e, "SpecialToken"), *sequence = cJSON_GetObjectItemCaseSensitive(e, "Sequence"),
			    *id = cJSON_GetObjectItemCaseSensitive(special ? special : sequence, "id");
		if (!cJSON_IsString(id) || (!special && (after || strcmp(id->valuestring, "A"))))
			return bl_fail(err, BL_INVALID, "%s.single: must hold special tokens and the sequence A once", where);
		if (!special)
			after = true;
		else if (template_ids(t, part, id->valuestring, after, where, err))
			return err->status;
	}
	return after ? BL_OK : bl_fail(err, BL_INVALID, "%s.single: does not hold the sequence A", where);
}

static enum bl_status one_processor(struct bl_tokenizer *t, const cJSON *part, const char *type, const char *where, struct bl_err *err)
{
	if (!strcmp(type, "ByteLevel"))
		return BL_OK; /* offsets only */
	int32_t *inner = t->before;
	size_t n_inner = t->n_before;
	t->before = NULL;
	t->n_before = 0;
	if (!strcmp(type, "TemplateProcessing")) {
		template(t, part, where, err);
	} else if (!strcmp(type, "RobertaProcessing") || !strcmp(type, "BertProcessing")) {
		const cJSON *cls = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(part, "cls"), 1),
			    *sep = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(part, "sep"), 1);
		if (put_id(t, false, cJSON_IsNumber(cls) ? cls->valuedouble : -1, where, err) == BL_OK)
			put_id(t, true, cJSON_IsNumber(sep) ? sep->valuedouble : -1, where, err);
	} else {
		bl_fail(err, BL_UNSUPPORTED, "%s.type: %s is not supported, only TemplateProcessing and ByteLevel", where, type);
	}
	wrap(t, inner, n_inner);
	return err->status;
}

/* ---- added tokens ---- */

/* The id that the library gives: the one of the vocabulary, else the next free one. The file must agree. */
static enum bl_status one_added(struct bl_tokenizer *t, const cJSON *o, size_t at, int32_t *next, struct bl_err *err)
{
	struct bl_vocab *v = &t->vocab;
	struct bl_added a = {0};
	const cJSON *content = cJSON_GetObjectItemCaseSensitive(o, "content");
	char where[40];
	int64_t id = 0;
	bool special = false;

	snprintf(where, sizeof where, "added_tokens[%zu]", at);
	if (bl_json_int(o, "id", 0, BL_TOKENS_MAX - 1, true, &id, where, err) || bl_json_bool(o, "single_word", true, &a.single_word, where, err) ||
	    bl_json_bool(o, "lstrip", true, &a.lstrip, where, err) || bl_json_bool(o, "rstrip", true, &a.rstrip, where, err) ||
	    bl_json_bool(o, "normalized", true, &a.normalized, where, err) || bl_json_bool(o, "special", true, &special, where, err))
		return err->status;
	if (!cJSON_IsString(content))
		return bl_fail(err, BL_INVALID, "%s.content: must be a string", where);
	size_t n = strlen(content->valuestring);
	if (!n)
		return BL_OK; /* the library passes over it as well */
	a.id = bl_vocab_raw(v, content->valuestring, n);
	if (a.id < 0) {
		a.id = *next;
		if (a.id == id && bl_vocab_add(v, content->valuestring, n, a.id, err))
			return bl_err_prefix(err, "%s", where);
	}
	if (a.id != id)
		return bl_fail(err, BL_INVALID, "%s.id: is %lld, but \"%.60s\" gets %d from the vocabulary and the order of the list", where, (long long)id,
			       content->valuestring, a.id);
	if (v->t[id].added)
		return bl_fail(err, BL_INVALID, "%s: \"%.60s\" stands twice", where, content->valuestring);
	v->t[id].added = true;
	v->t[id].special = special;
	*next = a.id >= *next ? a.id + 1 : *next;
	t->added[t->n_added++] = a;
	return BL_OK;
}

static void find_later(struct bl_tokenizer *t)
{
	struct bl_str text = {0}, other = {0};

	for (size_t i = 0; i < t->n_added; i++) {
		const struct bl_added *a = &t->added[i];
		bl_str_clear(&text);
		bl_str_addn(&text, bl_token_raw(&t->vocab, a->id), t->vocab.t[a->id].raw_n);
		for (int f = 0; a->normalized && f < t->n_forms; f++) {
			bl_str_clear(&other);
			if (bl_normalize(t->forms[f], &other, text.s, text.len)) {
				struct bl_str swap = text;
				text = other;
				other = swap;
			}
		}
		bl_trie_add(a->normalized ? &t->normalized : &t->raw, text.s, text.len, (int32_t)i);
	}
	bl_str_free(&text);
	bl_str_free(&other);
}

static enum bl_status read_added(struct bl_tokenizer *t, const cJSON *root, struct bl_err *err)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(root, "added_tokens"), *o;
	int32_t next = t->vocab.n_model;
	size_t n = 0, at = 0;

	if (!list || cJSON_IsNull(list))
		return BL_OK;
	if (!cJSON_IsArray(list))
		return bl_fail(err, BL_INVALID, "added_tokens: must be an array");
	cJSON_ArrayForEach(o, list)
		n++;
	if (n > ADDED_MAX)
		return bl_fail(err, BL_INVALID, "added_tokens: has %zu entries, at most %d are allowed", n, ADDED_MAX);
	t->added = bl_xalloc(n + 1, sizeof *t->added);
	cJSON_ArrayForEach(o, list)
		if (one_added(t, o, at++, &next, err))
			return err->status;
	if (bl_vocab_index(&t->vocab, err))
		return bl_err_prefix(err, "added_tokens");
	find_later(t);
	return BL_OK;
}

static enum bl_status read_rest(struct bl_tokenizer *t, const cJSON *root, struct bl_err *err)
{
	if (read_model(t, root, err) ||
	    each_part(t, cJSON_GetObjectItemCaseSensitive(root, "normalizer"), "normalizers", "normalizer", 0, one_normalizer, err) ||
	    each_part(t, cJSON_GetObjectItemCaseSensitive(root, "pre_tokenizer"), "pretokenizers", "pre_tokenizer", 0, one_splitter, err))
		return err->status;
	if (!t->byte_level)
		return bl_fail(err, BL_UNSUPPORTED, "pre_tokenizer: has no ByteLevel; only byte-level BPE is supported");
	if (read_added(t, root, err) ||
	    each_part(t, cJSON_GetObjectItemCaseSensitive(root, "post_processor"), "processors", "post_processor", 0, one_processor, err))
		return err->status;
	return each_part(t, cJSON_GetObjectItemCaseSensitive(root, "decoder"), "decoders", "decoder", 0, one_decoder, err);
}

enum bl_status bl_tokenizer_read(struct bl_tokenizer *t, const char *text, size_t n, const char *file, struct bl_err *err)
{
	struct bl_str rest = {0};
	cJSON *root = NULL;
	size_t reals = 0;

	if (n >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) {
		text += 3;
		n -= 3;
	}
	if (bl_json_scan(text, n, VALUES_MAX, &reals, file, err))
		return err->status;
	const char *model = member(skip_space(text), "model");
	const char *vocab = model ? member(model, "vocab") : NULL, *merges = model ? member(model, "merges") : NULL;
	if (!model || *model != '{') {
		bl_fail(err, BL_INVALID, "model: must be an object");
	} else if (read_vocab(&t->vocab, vocab, err) == BL_OK && read_merges(&t->vocab, merges, err) == BL_OK) {
		const char *first = vocab < merges ? vocab : merges, *second = vocab < merges ? merges : vocab, *between = skip_value(first),
				*end = skip_value(second);
		bl_str_addn(&rest, text, (size_t)(first - text));
		bl_str_add(&rest, "null");
		bl_str_addn(&rest, between, (size_t)(second - between));
		bl_str_add(&rest, "null");
		bl_str_addn(&rest, end, n - (size_t)(end - text));
		if (bl_json_parse(&root, rest.s, rest.len, REST_VALUES_MAX, file, err)) {
			bl_str_free(&rest);
			return err->status;
		}
		read_rest(t, root, err);
	}
	cJSON_Delete(root);
	bl_str_free(&rest);
	return err->status ? bl_err_prefix(err, "%s", file) : BL_OK;
}
