/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as a file of the calibration store, or as its manifest: refused or understood, never out of bounds. The first byte says which file it is taken
 * for and whether its sums are put right first (else nothing would ever come past them). link: bl_calib */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "core/base/mem.h"
#include "core/calib/private.h"
#include "tests/fuzz/demo_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void manifest(const uint8_t *data, size_t n)
{
	struct bl_err err = BL_ERR_INIT;
	struct calib_manifest m, again;
	struct bl_str text = { 0 };
	char digest[65];

	if (calib_manifest_parse(&m, (const char *)data, n, "fuzz", &err))
		return;
	calib_digest_of(digest, &m);
	calib_manifest_print(&text, &m); /* what was understood is understood again */
	if (calib_manifest_parse(&again, text.s, text.len, "again", &err))
		abort();
	calib_manifest_free(&again);
	calib_manifest_free(&m);
	bl_str_free(&text);
}

/* The bytes become the sections' contents; with bit 6 the head comes from them, too. */
static void file(const struct calib_shape *shape, const uint8_t *data, size_t n, enum calib_file_kind kind, bool own_head, bool sealed)
{
	struct bl_err err = BL_ERR_INIT;
	struct calib_head want, h;
	uint8_t *bytes;
	size_t size;

	calib_head_make(&want, shape, kind, 1);
	size = own_head ? n : want.bytes;
	bytes = bl_xalloc(size + 1, 1);
	memcpy(bytes + (own_head ? 0 : CALIB_PAGE), data, own_head ? n : n < size - CALIB_PAGE ? n : size - CALIB_PAGE);
	h = want;
	for (uint32_t i = 0; i < h.n_sections && sealed; i++) {
		struct bl_sum none = { 0, 0 };

		for (int64_t row = 0, k; row < h.section[i].rows && want.bytes == size; row += k) {
			struct bl_sum one;

			k = h.section[i].rows - row < calib_piece_rows(&h.section[i]) ? h.section[i].rows - row : calib_piece_rows(&h.section[i]);
			one = calib_piece_sum(&h.section[i], bytes + h.section[i].offset + row * h.section[i].row_bytes, row, k);
			h.section[i].sum = bl_sum_add(row ? h.section[i].sum : none, &one, sizeof one);
		}
	}
	calib_head_seal(&h);
	if (!own_head)
		memcpy(bytes, &h, sizeof h);
	if (!calib_head_check(bytes, size, &want, "fuzz", &err))
		for (uint32_t i = 0; i < want.n_sections; i++) {
			struct bl_input_stats s;

			if (calib_section_check(bytes, (int)i, "fuzz", &err)) {
				if (sealed)
					abort();
				break;
			}
			if (want.section[i].kind == CALIB_STATS &&
			    !calib_stats_make(&s, bytes + want.section[i].offset, shape->m->units[want.section[i].unit].cols, want.tokens, "fuzz", &err))
				calib_stats_free(&s);
			bl_err_clear(&err);
		}
	bl_free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct calib_shape shape = { .m = fuzz_model(), .windows = 3, .len = 5, .keep = 2 };

	if (!n)
		return 0;
	memset(shape.key, 'a', 64);
	shape.hessians = data[0] & 0x10;
	if (data[0] & 4)
		manifest(data + 1, n - 1);
	else
		file(&shape, data + 1, n - 1, (enum calib_file_kind)(1 + (data[0] & 3)), data[0] & 0x40, data[0] & 0x20);
	return 0;
}
