/* SPDX-License-Identifier: Apache-2.0
 * The tokenizer on one thread: rows of a data file, or of a text that is made up here (English, Korean, code, numbers, signs), so that everybody
 * times
 * the same. */
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/rng.h"
#include "core/base/str.h"
#include "core/base/clock.h"
#include "core/bench/bench.h"
#include "core/text/dataset.h"

#define ROWS      1024
#define ROW_BYTES 2048

struct rows { struct { const char *s; size_t n; } *r; size_t n; struct bl_str text; struct bl_dataset *d; uint64_t bytes; };

/* Words with an ending that varies, so that not all of them are seen before. */
static void make_row(struct bl_str *b, struct bl_rng *rng, size_t until)
{
	static const char *const words[] = {"the", "of", "and", "measure", "layer", "weight", "Paris", "said", "quietly", "it's", "we'll", "however,",
			"return", "if (x > 0)", "{\n\t",
					    "}\n", "int i = 0;", "for", "3.14159", "2026-11-22", "$1,234.56", "하루가", "또", "가네요.", "안녕하세요,", "모델은", "가중치를", "양자화한다.",
					    "숫자", "…", "“quoted”", "naïve", "(see below)", "\n\n", "[link]", "a_b_c", "HTTP/1.1", "\xf0\x9f\x91\x8d", "漢字"};
	static const char *const ends[] = {"", "", "", "s", "ing", "ed", ".", ",", "은", "에서", "42", "!"};

	while (b->len < until) {
		bl_str_add(b, words[bl_rng_u64(rng) % (sizeof words / sizeof words[0])]);
		bl_str_add(b, ends[bl_rng_u64(rng) % (sizeof ends / sizeof ends[0])]);
		bl_str_addc(b, ' ');
	}
}

static void make_rows(struct rows *w)
{
	struct bl_rng rng;
	size_t *from = bl_xalloc(ROWS + 1, sizeof *from);

	bl_rng_seed(&rng, 42);
	w->r = bl_xalloc(ROWS, sizeof *w->r);
	w->n = ROWS;
	for (size_t i = 0; i < ROWS; i++) {
		make_row(&w->text, &rng, w->text.len + ROW_BYTES);
		from[i + 1] = w->text.len;
	}
	for (size_t i = 0; i < ROWS; i++) {
		w->r[i].s = w->text.s + from[i];
		w->r[i].n = from[i + 1] - from[i];
	}
	bl_free(from);
}

static enum bl_status load_rows(struct rows *w, const char *file, const struct bl_tokenizer *t, const struct bl_progress *progress,
			struct bl_err *err)
{
	struct bl_dataset_options o = {.cancel = &progress->cancel, .keep_text = true};

	if (bl_dataset_load(&w->d, &file, 1, t, NULL, NULL, &o, err))
		return err->status;
	w->r = bl_xalloc(w->d->n_rows, sizeof *w->r);
	for (size_t i = 0; i < w->d->n_rows; i++)
		if (w->d->rows[i].text) {
			w->r[w->n].s = w->d->rows[i].text;
			w->r[w->n++].n = w->d->rows[i].text_n;
		}
	return w->n ? BL_OK : bl_fail(err, BL_INVALID, "%s: holds no text", file);
}

enum bl_status bl_bench_tokenizer(struct bl_bench_row *r, const char *folder, const char *file, int runs, struct bl_progress *progress,
			struct bl_err *err)
{
	struct bl_tokenizer *t = NULL;
	struct rows w = {0};
	struct bl_ids ids = {0};

	bl_bench_row_init(r, "tokenizer", "");
	if (bl_tokenizer_open(&t, folder, err))
		return err->status;
	if (file)
		load_rows(&w, file, t, progress, err);
	else
		make_rows(&w);
	for (size_t i = 0; i < w.n; i++)
		r->bytes += w.r[i].n;
	for (int run = -1; run < runs && !err->status; run++) {
		uint64_t start = bl_now_ns();
		for (size_t i = 0; i < w.n && !err->status; i++) {
			ids.n = 0;
			if (bl_tokenizer_encode(t, w.r[i].s, w.r[i].n, false, &ids, err) == BL_OK && atomic_load(&progress->cancel))
				bl_fail(err, BL_CANCELLED, "%s", bl_status_text(BL_CANCELLED));
		}
		if (run >= 0 && !err->status)
			bl_bench_add(&r->job, start);
	}
	bl_ids_free(&ids);
	bl_dataset_free(w.d);
	bl_str_free(&w.text);
	bl_free(w.r);
	bl_tokenizer_free(t);
	return err->status;
}
