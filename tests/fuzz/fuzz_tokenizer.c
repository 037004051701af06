/* SPDX-License-Identifier: Apache-2.0
 * Any text as tokenizer.json, and what stands behind a NUL as the text to encode (else a text with something of everything). Ids must be of the
 * vocabulary, the same twice, and decode again. link: bl_text */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "%s\n", what);
	abort();
}

static void use(const struct bl_tokenizer *t, const char *text, size_t n, bool special)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_ids a = {0}, b = {0};
	struct bl_str out = {0};

	if (bl_tokenizer_encode(t, text, n, special, &a, &err) == BL_OK) {
		must(bl_tokenizer_encode(t, text, n, special, &b, &err) == BL_OK && a.n == b.n && (!a.n || !memcmp(a.ids, b.ids, a.n * sizeof *a.ids)), "other ids");
		must(bl_tokenizer_decode(t, a.ids, a.n, false, &out, &err) == BL_OK, "not decoded");
		for (size_t i = 0; i < a.n && i < 100; i++) {
			must(a.ids[i] >= 0 && a.ids[i] < bl_tokenizer_size(t), "an id out of range");
			bl_tokenizer_piece(t, a.ids[i], &out);
			bl_tokenizer_is_special(t, a.ids[i]);
		}
	}
	bl_str_free(&out);
	bl_ids_free(&a);
	bl_ids_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const char all[] = "Hello aa\xcc\x81\xcc\xa3 12 it's\n\n  \xea\xb0\x80\xe1\x86\xa8 \xf0\x9f\x91\x8d\xff<x> <x>b\x01\xe2\x84\xab";
	const uint8_t *nul = memchr(data, 0, n);
	size_t head = nul ? (size_t)(nul - data) : n;
	struct bl_tokenizer *t;
	struct bl_err err = BL_ERR_INIT;

	if (bl_tokenizer_parse(&t, (const char *)data, head, "fuzz", &err))
		return 0;
	if (nul)
		use(t, (const char *)nul + 1, n - head - 1 < 4096 ? n - head - 1 : 4096, n % 2);
	use(t, all, sizeof all - 1, true);
	bl_tokenizer_free(t);
	return 0;
}
