/* SPDX-License-Identifier: Apache-2.0
 * Ids as the `tokenizers` library gives them (cases.json, made by tests/tools/tokenizer_cases.py), the long way and the short way of merging, and files
 * that are wrong or hostile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <utf8proc.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include "core/text/private.h"
#include "tests/unit/text/support.h"

static void same_ids(const char *what, const struct bl_ids *got, const cJSON *want)
{
	const cJSON *w;
	size_t i = 0;

	cJSON_ArrayForEach(w, want) {
		if (i >= got->n || got->ids[i] != (int32_t)w->valuedouble)
			fail_msg("%s: id %zu is %d, not %d", what, i, i < got->n ? got->ids[i] : -1, (int)w->valuedouble);
		i++;
	}
	if (i != got->n)
		fail_msg("%s: %zu ids, not %zu", what, got->n, i);
}

static void as_the_library(void **state)
{
	cJSON *all = load_json(BL_SOURCE_DIR "/tests/unit/text/cases.json");
	const cJSON *c, *r;
	int checked = 0;

	(void)state;
	cJSON_ArrayForEach(c, cJSON_GetObjectItem(all, "cases")) {
		struct bl_err err = BL_ERR_INIT;
		struct bl_tokenizer *t;
		const char *name = cJSON_GetObjectItem(c, "name")->valuestring;
		char *text = changed_tokenizer(cJSON_GetObjectItem(c, "changed"));
		if (bl_tokenizer_parse(&t, text, strlen(text), name, &err))
			fail_msg("%s", err.text);
		cJSON_ArrayForEach(r, cJSON_GetObjectItem(c, "rows")) {
			const char *s = cJSON_GetObjectItem(r, "text")->valuestring;
			struct bl_ids ids = {0};
			assert_int_equal(bl_tokenizer_encode(t, s, strlen(s), cJSON_IsTrue(cJSON_GetObjectItem(c, "special")), &ids, &err), BL_OK);
			same_ids(name, &ids, cJSON_GetObjectItem(r, "ids"));
			bl_ids_free(&ids);
			checked++;
		}
		bl_tokenizer_free(t);
		bl_free(text);
	}
	assert_true(checked >= 90);
	cJSON_Delete(all);
}

static void shared_goldens(void **state)
{
	static const char *const names[] = {"tiny-exaone4", "hybrid-exaone4"};
	const char *shared = getenv("BL_SHARED") ? getenv("BL_SHARED") : BL_SOURCE_DIR "/../shared";

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct bl_err err = BL_ERR_INIT;
		struct bl_str golden = {0}, folder = {0};
		struct bl_tokenizer *t;
		char *text = NULL;
		bl_str_addf(&golden, "%s/golden/%s/tokenizer.json", shared, names[i]);
		bl_str_addf(&folder, "%s/models/%s", shared, names[i]);
		if (!bl_is_file(golden.s)) {
			bl_str_free(&golden);
			bl_str_free(&folder);
			print_message("skipped: %s is not there\n", shared);
			skip();
		}
		assert_int_equal(bl_tokenizer_open(&t, folder.s, &err), BL_OK);
		assert_int_equal(bl_read_file(&text, NULL, golden.s, 1u << 20, true, &err), BL_OK);
		for (char *nul = text; (nul = strstr(nul, "\\u0000"));) /* cJSON ends there: a character that no golden has stands in */
			memcpy(nul, "\\ue000", 6);
		cJSON *list = cJSON_Parse(text);
		const cJSON *r;
		assert_true(cJSON_GetArraySize(list) > 5);
		cJSON_ArrayForEach(r, list) {
			char *s = cJSON_GetObjectItem(r, "text")->valuestring, *nul;
			size_t n = strlen(s);
			struct bl_ids ids = {0};
			while ((nul = memmem(s, n, "\xee\x80\x80", 3))) {
				*nul = '\0';
				memmove(nul + 1, nul + 3, n - (size_t)(nul - s) - 3);
				n -= 2;
			}
			assert_int_equal(bl_tokenizer_encode(t, s, n, false, &ids, &err), BL_OK);
			same_ids(s, &ids, cJSON_GetObjectItem(r, "ids"));
			bl_ids_free(&ids);
		}
		cJSON_Delete(list);
		bl_free(text);
		bl_tokenizer_free(t);
		bl_str_free(&golden);
		bl_str_free(&folder);
	}
}

/* The rule itself: the pair of the least rank, the leftmost of equals, until there is none. */
static size_t slow_merge(const struct bl_vocab *v, const uint8_t *p, size_t n, int32_t *id)
{
	for (size_t i = 0; i < n; i++)
		id[i] = v->base[p[i]];
	for (;;) {
		uint32_t best = UINT32_MAX;
		size_t at = 0;
		int32_t made = -1;
		for (size_t i = 0; i + 1 < n; i++)
			for (size_t k = 0; k <= v->pair_mask; k++) {
				const struct bl_pair *q = &v->pairs[(bl_pair_hash(bl_pair_key(id[i], id[i + 1])) + k) & v->pair_mask];
				if (!q->key)
					break;
				if (q->key == bl_pair_key(id[i], id[i + 1]) && q->rank < best) {
					best = q->rank;
					at = i;
					made = q->id;
				}
			}
		if (made < 0)
			return n;
		id[at] = made;
		memmove(id + at + 1, id + at + 2, (n - at - 2) * sizeof *id);
		n--;
	}
}

static void merges_as_the_rule(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_tokenizer *t;
	struct bl_rng rng;

	(void)state;
	bl_rng_seed(&rng, 7);
	assert_int_equal(bl_tokenizer_open(&t, DEMO, &err), BL_OK);
	for (int run = 0; run < 3000; run++) {
		uint8_t word[200];
		int32_t want[200];
		size_t n = 1 + bl_rng_u64(&rng) % (run % 3 ? 40 : 200);
		struct bl_bpe_work w = {.cache = run % 2 ? bl_xalloc(BL_CACHE_SLOTS, sizeof *w.cache) : NULL};
		struct bl_ids ids = {0};
		for (size_t i = 0; i < n; i++)
			word[i] = run % 5 ? (uint8_t)"etaoin shrdlu"[bl_rng_u64(&rng) % 13] : (uint8_t)bl_rng_u64(&rng);
		size_t n_want = slow_merge(&t->vocab, word, n, want);
		for (int again = 0; again < 2; again++) { /* the second time out of the cache */
			ids.n = 0;
			bl_bpe_word(&t->vocab, &w, word, n, &ids);
			assert_int_equal(ids.n, n_want);
			assert_memory_equal(ids.ids, want, n_want * sizeof *want);
		}
		bl_ids_free(&ids);
		bl_bpe_work_free(&w);
	}
	bl_tokenizer_free(t);
}

static void back_to_text(void **state)
{
	static const char text[] = "Hello 안녕 👋\n\t\x01 caf\xc3\xa9[|user|]";
	struct bl_err err = BL_ERR_INIT;
	struct bl_tokenizer *t;
	struct bl_ids ids = {0};
	struct bl_str out = {0};

	(void)state;
	assert_int_equal(bl_tokenizer_open(&t, DEMO, &err), BL_OK);
	assert_int_equal(bl_tokenizer_size(t), 4096);
	assert_int_equal(strlen(bl_tokenizer_digest(t)), 64);
	assert_int_equal(bl_tokenizer_encode(t, text, sizeof text - 1, false, &ids, &err), BL_OK);
	assert_int_equal(bl_tokenizer_decode(t, ids.ids, ids.n, false, &out, &err), BL_OK);
	assert_string_equal(bl_str_c(&out), text);
	bl_str_clear(&out);
	assert_int_equal(bl_tokenizer_decode(t, ids.ids, ids.n, true, &out, &err), BL_OK);
	assert_int_equal(out.len, sizeof text - 1 - strlen("[|user|]"));
	assert_int_equal(bl_tokenizer_id(t, "[|user|]"), 5);
	assert_int_equal(bl_tokenizer_id(t, "no such token"), -1);
	assert_true(bl_tokenizer_is_special(t, 5));
	assert_false(bl_tokenizer_is_special(t, 50));
	assert_false(bl_tokenizer_is_special(t, -1));
	assert_false(bl_tokenizer_is_special(t, 4096));
	int32_t bad = 4096;
	assert_int_equal(bl_tokenizer_decode(t, &bad, 1, false, &out, &err), BL_INVALID);
	bl_str_clear(&out);
	bl_tokenizer_piece(t, 209, &out); /* a newline */
	bl_tokenizer_piece(t, 1673, &out);
	bl_tokenizer_piece(t, 182, &out); /* a byte */
	bl_tokenizer_piece(t, 5, &out);
	bl_tokenizer_piece(t, -7, &out);
	assert_string_equal(out.s, "⏎ world\\xef[|user|]<-7?>");
	bl_str_free(&out);
	bl_ids_free(&ids);
	bl_tokenizer_free(t);
}

static void broken_utf8(void **state)
{
	static const struct { const char *in, *out; } rows[] = { /* as Python's errors="replace" */
		{"a\xff" "b", "a\xef\xbf\xbd" "b"}, {"\xe0\x80", "\xef\xbf\xbd\xef\xbf\xbd"}, {"\xe2\x82", "\xef\xbf\xbd"}, {"\xe2\x82" "a", "\xef\xbf\xbd" "a"},
		{"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, {"\xf0\x9f\x91", "\xef\xbf\xbd"}, {"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
		{"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"}, {"\xf0\x9f\xc3\xa9", "\xef\xbf\xbd\xc3\xa9"}, {"ok \xc3\xa9", "ok \xc3\xa9"},
	};
	struct bl_str out = {0};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		bl_str_clear(&out);
		bl_utf8_repair(&out, rows[i].in, strlen(rows[i].in));
		assert_string_equal(bl_str_c(&out), rows[i].out);
	}
	bl_str_free(&out);
}

/* Characters that are copied without a look: nothing happens to them, and nothing to what stands before them. U+11A7 is left to cases.json. */
static void quick_characters_stand_for_themselves(void **state)
{
	static const char *const beside[] = {"e", "\xea\xb0\x80", "\xe1\x84\x80", "\xe1\x85\xa1", "\xe3\x82\xab"};
	struct bl_str one = {0};
	int checked = 0;

	(void)state;
	for (uint32_t c = 1; c < 0x110000; c += c == 0xd7ff ? 0x801 : 1) {
		if (!bl_normal_quick(BL_NFC, c) || c == 0x11a7 || bl_normal_quick(BL_NFD, c) || (c >= 0x4e10 && c < 0x9f00) || (c >= 0xac20 && c < 0xd780))
			continue;
		for (size_t i = 0; i < sizeof beside / sizeof beside[0]; i++) {
			bl_str_clear(&one);
			bl_str_add(&one, beside[i]);
			bl_utf8_add(&one, c);
			utf8proc_uint8_t *nfc = utf8proc_NFC((const utf8proc_uint8_t *)bl_str_c(&one));
			if (!nfc || strcmp((const char *)nfc, one.s))
				fail_msg("U+%04X behind %s changes", c, beside[i]);
			free(nfc);
			checked++;
		}
	}
	assert_true(checked > 10000);
	bl_str_free(&one);
}

/* Whatever the text, normalizing twice changes nothing, and it agrees with utf8proc where no newer character is in it. */
static void normal_forms(void **state)
{
	static const uint32_t some[] = {'a', 'e', 0x301, 0x323, 0x327, 0x345, 0xac00, 0x1100, 0x1161, 0x11a8, 0x212b, 0x2126, 0x30ab, 0x3099, 0x915, 0x93c, 0xf71, 0xf72, 0xf73, 0x1e69, 0x344, 0x958, ' '};
	struct bl_rng rng;
	struct bl_str text = {0}, out = {0}, again = {0};

	(void)state;
	bl_rng_seed(&rng, 3);
	for (int run = 0; run < 20000; run++) {
		bl_str_clear(&text);
		bl_str_clear(&out);
		bl_str_clear(&again);
		for (uint64_t n = bl_rng_u64(&rng) % (run % 10 ? 8 : 60); n; n--)
			bl_utf8_add(&text, some[bl_rng_u64(&rng) % (sizeof some / sizeof some[0])]);
		utf8proc_uint8_t *want = utf8proc_NFC((const utf8proc_uint8_t *)bl_str_c(&text));
		const char *got = bl_normalize(BL_NFC, &out, text.s, text.len) ? out.s : bl_str_c(&text);
		assert_string_equal(got, (const char *)want);
		size_t n = strlen(got);
		if (bl_normalize(BL_NFC, &again, got, n))
			assert_string_equal(again.s, got);
		free(want);
	}
	bl_str_free(&text);
	bl_str_free(&out);
	bl_str_free(&again);
}

static void refusals(void **state)
{
	static const struct { const char *changed, *says; enum bl_status status; } rows[] = {
		{"{\"model\":{\"type\":\"Unigram\"}}", "model.type: Unigram", BL_UNSUPPORTED},
		{"{\"model\":{\"dropout\":0.1}}", "model.dropout", BL_UNSUPPORTED},
		{"{\"model\":{\"end_of_word_suffix\":\"</w>\"}}", "model.end_of_word_suffix", BL_UNSUPPORTED},
		{"{\"model\":{\"vocab\":{}}}", "model.vocab: is empty", BL_INVALID},
		{"{\"model\":{\"vocab\":[]}}", "model.vocab: must be an object", BL_INVALID},
		{"{\"model\":{\"vocab\":{\"a\":0,\"b\":0}}}", "id 0 belongs to both", BL_INVALID},
		{"{\"model\":{\"vocab\":{\"a\":4194304}}}", "model.vocab: \"a\": its id", BL_INVALID},
		{"{\"model\":{\"vocab\":{\"a\":-1}}}", "model.vocab: \"a\": its id", BL_INVALID},
		{"{\"model\":{\"vocab\":{\"a\":1.5}}}", "model.vocab: \"a\": its id", BL_INVALID},
		{"{\"model\":{\"vocab\":{\"a\":\"1\"}}}", "model.vocab: \"a\": its id", BL_INVALID},
		{"{\"model\":{\"merges\":[[\"a\",\"nope\"]]}}", "model.merges[0]: \"nope\" is not in model.vocab", BL_INVALID},
		{"{\"model\":{\"merges\":[\"h e\",\"q zq\"]}}", "model.merges[1]: \"zq\" is not", BL_INVALID},
		{"{\"model\":{\"merges\":[\"h e\",[\"q\"]]}}", "model.merges[1]: must be", BL_INVALID},
		{"{\"model\":{\"merges\":[\"h e x\"]}}", "model.merges[0]: must be", BL_INVALID},
		{"{\"model\":{\"merges\":[\"q #\"]}}", "what it makes, \"q#\"", BL_INVALID},
		{"{\"model\":{\"merges\":null}}", "model.merges: must be an array", BL_INVALID},
		{"{\"normalizer\":{\"type\":\"Lowercase\"}}", "normalizer.type: Lowercase", BL_UNSUPPORTED},
		{"{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Strip\"}]}}", "normalizer.normalizers[1].type: Strip", BL_UNSUPPORTED},
		{"{\"pre_tokenizer\":null}", "pre_tokenizer: has no ByteLevel", BL_UNSUPPORTED},
		{"{\"pre_tokenizer\":{\"type\":\"Metaspace\"}}", "pre_tokenizer.type: Metaspace", BL_UNSUPPORTED},
		{"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"},\"behavior\":\"Isolated\",\"invert\":false}}", "pre_tokenizer.pattern: the pattern cannot", BL_INVALID},
		{"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\bx\"},\"behavior\":\"Isolated\",\"invert\":false}}", "\\b is not supported", BL_UNSUPPORTED},
		{"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a[b]]\"},\"behavior\":\"Isolated\",\"invert\":false}}", "a class in a class", BL_UNSUPPORTED},
		{"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"x\"},\"behavior\":\"Apart\",\"invert\":false}}", "behavior: Apart", BL_UNSUPPORTED},
		{"{\"post_processor\":{\"type\":\"Magic\"}}", "post_processor.type: Magic", BL_UNSUPPORTED},
		{"{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"A\"}},{\"SpecialToken\":{\"id\":\"x\"}}],\"special_tokens\":{\"x\":{\"ids\":[9999]}}}}",
		 "9999 is not the id of a token", BL_INVALID},
		{"{\"decoder\":{\"type\":\"WordPiece\"}}", "decoder.type: WordPiece", BL_UNSUPPORTED},
		{"{\"added_tokens\":[{\"id\":7777,\"content\":\"<x>\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":true}]}", "added_tokens[0].id: is 7777", BL_INVALID},
		{"{\"added_tokens\":[{\"id\":4096,\"content\":\"<x>\",\"single_word\":0,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":true}]}", "added_tokens[0]: single_word", BL_INVALID},
		{"{\"added_tokens\":{}}", "added_tokens: must be an array", BL_INVALID},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct bl_err err = BL_ERR_INIT;
		struct bl_tokenizer *t;
		enum bl_status s = open_changed(&t, rows[i].changed, &err);
		if (s != rows[i].status || !strstr(err.text, rows[i].says) || strncmp(err.text, "tokenizer.json: ", 16))
			fail_msg("%s: %d, \"%s\"", rows[i].changed, s, err.text);
		assert_null(t);
	}
}

static void hostile(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_tokenizer *t = NULL;
	struct bl_str deep = {0};
	struct bl_ids ids = {0};

	(void)state;
	for (int i = 0; i < 1000000; i++)
		bl_str_addc(&deep, '[');
	assert_int_equal(bl_tokenizer_parse(&t, deep.s, deep.len, "f", &err), BL_INVALID);
	bl_err_clear(&err);
	assert_int_equal(bl_tokenizer_open(&t, "/nonexistent", &err), BL_NOT_FOUND);
	bl_err_clear(&err);
	/* an expression that never ends, and one that backtracks over much text */
	assert_int_equal(open_changed(&t, "{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?:a|a|aa)+[bc]\"},"
				      "\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]}}", &err), BL_OK);
	bl_str_clear(&deep);
	for (int i = 0; i < 10000; i++)
		bl_str_addc(&deep, 'a');
	time_t start = time(NULL);
	assert_int_equal(bl_tokenizer_encode(t, deep.s, deep.len, false, &ids, &err), BL_INVALID);
	assert_non_null(strstr(err.text, "split pattern"));
	assert_int_equal(ids.n, 0);
	assert_true(time(NULL) - start < 60);
	bl_tokenizer_free(t);
	bl_err_clear(&err);
	/* a word of a million letters and a pile of a million marks are no more than that */
	assert_int_equal(bl_tokenizer_open(&t, DEMO, &err), BL_OK);
	for (int i = 0; i < 1000000; i++)
		bl_str_addc(&deep, "etaoin"[i * 7 % 6]);
	for (int i = 0; i < 200000; i++)
		bl_str_add(&deep, i % 2 ? "\xcc\x81" : "\xcc\xa3");
	start = time(NULL);
	assert_int_equal(bl_tokenizer_encode(t, deep.s, deep.len, false, &ids, &err), BL_OK);
	assert_true(ids.n > 1000 && time(NULL) - start < 60);
	bl_tokenizer_free(t);
	bl_ids_free(&ids);
	bl_str_free(&deep);
}

struct shared_use { const struct bl_tokenizer *t; const struct bl_ids *want; const char *text; bool ok; };

static void *use(void *arg)
{
	struct shared_use *u = arg;
	struct bl_err err = BL_ERR_INIT;

	u->ok = true;
	for (int i = 0; i < 200; i++) {
		struct bl_ids ids = {0};
		u->ok &= bl_tokenizer_encode(u->t, u->text, strlen(u->text), false, &ids, &err) == BL_OK && ids.n == u->want->n && !memcmp(ids.ids, u->want->ids, ids.n * sizeof *ids.ids);
		bl_ids_free(&ids);
	}
	return NULL;
}

static void from_many_threads(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_tokenizer *t;
	struct bl_ids want = {0};
	struct shared_use u[4];
	pthread_t thread[4];
	const char *text = "Threads share one tokenizer; 하루가 또 가네요 — cafe\xcc\x81 [|user|] and unusualwordslikethisone.";

	(void)state;
	assert_int_equal(bl_tokenizer_open(&t, DEMO, &err), BL_OK);
	assert_int_equal(bl_tokenizer_encode(t, text, strlen(text), false, &want, &err), BL_OK);
	for (int i = 0; i < 4; i++) {
		u[i] = (struct shared_use){t, &want, text, false};
		assert_int_equal(pthread_create(&thread[i], NULL, use, &u[i]), 0);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(thread[i], NULL);
		assert_true(u[i].ok);
	}
	bl_ids_free(&want);
	bl_tokenizer_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_the_library), cmocka_unit_test(shared_goldens), cmocka_unit_test(merges_as_the_rule), cmocka_unit_test(back_to_text),
		cmocka_unit_test(broken_utf8), cmocka_unit_test(quick_characters_stand_for_themselves), cmocka_unit_test(normal_forms), cmocka_unit_test(refusals), cmocka_unit_test(hostile),
		cmocka_unit_test(from_many_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
