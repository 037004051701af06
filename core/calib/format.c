/* SPDX-License-Identifier: Apache-2.0
 * The bytes of the store's files: which sections a file has, how they are summed, what is refused. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/calib/private.h"

_Static_assert(sizeof(struct calib_section) == 56, "sections have no holes");

bool calib_shape_ok(const struct calib_shape *s, struct bl_err *err)
{
	const struct bl_model *m = s->m;
	int64_t blocks = m->config.layers;

	if (s->windows < 1 || s->len < 1 || s->windows > (int64_t)1 << 32 || s->len > (int64_t)1 << 32 || s->windows > ((int64_t)1 << 40) / s->len) {
		bl_fail(err, BL_INVALID, "calibration: %" PRId64 " windows of %" PRId64 " tokens cannot be run; give data with at least one window", s->windows,
			s->len);
		return false;
	}
	if (s->keep < 0 || s->keep > s->windows) {
		bl_fail(err, BL_INVALID, "calibration: %" PRId64 " windows to keep, of %" PRId64, s->keep, s->windows);
		return false;
	}
	if (s->keep && s->fp32) {
		bl_fail(err, BL_INVALID, "calibration: block inputs are kept as bf16 only; run without fp32 or keep none");
		return false;
	}
	if (blocks < 1 || blocks > BL_LAYERS_MAX || m->n_units != blocks * CALIB_UNITS) {
		bl_fail(err, BL_UNSUPPORTED, "calibration: %s has %d units in %" PRId64 " blocks, not four in each", m->title, m->n_units, blocks);
		return false;
	}
	for (int u = 0; u < m->n_units; u++)
		if (m->units[u].block != u / CALIB_UNITS || m->units[u].cols < 1 || m->units[u].cols > 1 << 24) {
			bl_fail(err, BL_UNSUPPORTED, "calibration: unit %s stands in block %d with %" PRId64 " inputs", m->units[u].name, m->units[u].block,
				m->units[u].cols);
			return false;
		}
	return true;
}

struct calib_acc calib_acc_of(int64_t cols)
{
	struct calib_acc a;

	a.sum = (uint64_t)(4 * cols + 7) / 8 * 8;
	a.sum2 = a.sum + 8 * (uint64_t)cols;
	a.bins = a.sum2 + 8 * (uint64_t)cols;
	a.token_bins = a.bins + 8 * BK_INPUT_BINS;
	a.nonfinite = a.token_bins + 8 * BK_INPUT_BINS;
	a.bytes = (a.nonfinite + 8 + 255) / 256 * 256;
	return a;
}

static void add_section(struct calib_head *h, enum calib_section_kind kind, int unit, int64_t rows, int64_t row_bytes)
{
	struct calib_section *s = &h->section[h->n_sections++];

	*s = (struct calib_section){ .kind = kind, .unit = (uint32_t)unit, .rows = rows, .row_bytes = row_bytes, .offset = h->bytes };
	h->bytes += ((uint64_t)rows * (uint64_t)row_bytes + CALIB_PAGE - 1) / CALIB_PAGE * CALIB_PAGE;
}

void calib_head_make(struct calib_head *h, const struct calib_shape *s, enum calib_file_kind kind, int index)
{
	const struct bl_model *m = s->m;
	int64_t hidden = m->config.hidden;

	*h = (struct calib_head){ .magic = "BLCALIB", .producer = CALIB_PRODUCER, .kind = kind, .index = (uint32_t)index, .bytes = CALIB_PAGE,
				  .tokens = s->windows * s->len };
	memcpy(h->key, s->key, sizeof h->key);
	if (kind == CALIB_BLOCK) {
		for (int u = index * CALIB_UNITS; u < (index + 1) * CALIB_UNITS; u++)
			add_section(h, CALIB_STATS, u, 1, (int64_t)calib_acc_of(m->units[u].cols).bytes);
		for (int u = index * CALIB_UNITS; s->hessians && u < (index + 1) * CALIB_UNITS; u++)
			add_section(h, CALIB_HESSIAN, u, m->units[u].cols, 4 * m->units[u].cols);
	} else if (kind == CALIB_INPUTS) {
		add_section(h, CALIB_ROWS, 0, s->keep * s->len, 2 * hidden);
	} else if (kind == CALIB_IDS) {
		add_section(h, CALIB_ROWS, 0, s->windows, 4 * s->len);
	} else {
		add_section(h, CALIB_ROWS, 0, s->windows * s->len, (s->fp32 ? 4 : 2) * hidden);
	}
}

void calib_file_name(char name[32], enum calib_file_kind kind, int index)
{
	if (kind == CALIB_IDS)
		snprintf(name, 32, "ids.bin");
	else
		snprintf(name, 32, "%s_%04d.bin", kind == CALIB_BLOCK ? "block" : kind == CALIB_INPUTS ? "inputs" : "hidden", index);
}

int64_t calib_piece_rows(const struct calib_section *s)
{
	int64_t n = (int64_t)CALIB_PIECE / s->row_bytes;

	return n < 1 ? 1 : n < s->rows ? n : s->rows;
}

int64_t calib_pieces(const struct calib_section *s)
{
	int64_t n = calib_piece_rows(s);

	return (s->rows + n - 1) / n;
}

bool calib_next_run(const struct calib_section *s, int64_t first, int64_t n, struct calib_run *r)
{
	int64_t row = r->row, stored;

	if (row >= n)
		return false;
	r->at = row * s->row_bytes;
	if (s->kind != CALIB_HESSIAN) {
		r->bytes = n * s->row_bytes;
		r->row = n;
		return true;
	}
	r->bytes = 0;
	do {
		stored = calib_hessian_row(first + row, s->row_bytes);
		r->bytes += stored;
		row++;
	} while (row < n && stored == s->row_bytes);
	r->row = row;
	return true;
}

struct bl_sum calib_piece_sum(const struct calib_section *s, const uint8_t *data, int64_t first, int64_t n)
{
	struct bl_sum sum = { 0, 0 };

	for (struct calib_run r = { 0 }; calib_next_run(s, first, n, &r);)
		sum = bl_sum_add(sum, data + r.at, (size_t)r.bytes);
	return sum;
}

uint64_t calib_head_stored(const struct calib_head *h)
{
	uint64_t bytes = CALIB_PAGE;

	for (uint32_t i = 0; i < h->n_sections; i++)
		for (struct calib_run r = { 0 }; calib_next_run(&h->section[i], 0, h->section[i].rows, &r);)
			bytes += (uint64_t)(r.bytes + CALIB_PAGE - 1) / CALIB_PAGE * CALIB_PAGE;
	return bytes;
}

void calib_head_seal(struct calib_head *h)
{
	h->sum = bl_sum_add((struct bl_sum){ 0, 0 }, h, offsetof(struct calib_head, sum));
}

enum bl_status calib_head_check(const uint8_t *data, uint64_t bytes, const struct calib_head *want, const char *name, struct bl_err *err)
{
	struct calib_head h, w = *want;

	if (bytes < sizeof h)
		return bl_fail(err, BL_MISMATCH, "%s: has %" PRIu64 " bytes, less than its head; calibrate again", name, bytes);
	memcpy(&h, data, sizeof h);
	if (memcmp(h.magic, w.magic, sizeof h.magic) || h.producer != w.producer)
		return bl_fail(err, BL_MISMATCH, "%s: is not a file of this version's calibrations; calibrate again", name);
	w.batch = h.batch;
	for (int i = 0; i < CALIB_SECTIONS; i++)
		w.section[i].sum = i < (int)w.n_sections ? h.section[i].sum : (struct bl_sum){ 0, 0 };
	calib_head_seal(&w);
	if (memcmp(&h.sum, &w.sum, sizeof h.sum) || memcmp(&h, &w, sizeof h) || h.batch < 0)
		return bl_fail(err, BL_MISMATCH, "%s: its head is damaged or of another calibration; calibrate again", name);
	if (bytes != h.bytes)
		return bl_fail(err, BL_MISMATCH, "%s: has %" PRIu64 " bytes, not %" PRIu64 "; calibrate again", name, bytes, h.bytes);
	return BL_OK;
}

enum bl_status calib_section_check(const uint8_t *data, int section, const char *name, struct bl_err *err)
{
	struct calib_head h;
	const struct calib_section *s = &h.section[section];
	struct bl_sum all = { 0, 0 }, one;
	int64_t step;

	memcpy(&h, data, sizeof h);
	step = calib_piece_rows(s);
	for (int64_t row = 0; row < s->rows; row += step) {
		one = calib_piece_sum(s, data + s->offset + row * s->row_bytes, row, s->rows - row < step ? s->rows - row : step);
		all = bl_sum_add(all, &one, sizeof one);
	}
	if (memcmp(&all, &s->sum, sizeof all))
		return bl_fail(err, BL_MISMATCH, "%s: what it holds of unit %u is damaged; calibrate again (only this block is run anew)", name, s->unit);
	return BL_OK;
}

/* --- statistics --- */

static bool counts_ok(const uint8_t *p, uint64_t out[BK_INPUT_BINS], uint64_t limit)
{
	uint64_t left = limit;

	memcpy(out, p, 8 * BK_INPUT_BINS);
	for (int i = 0; i < BK_INPUT_BINS; i++) {
		if (out[i] > left)
			return false;
		left -= out[i];
	}
	return true;
}

static void outliers(struct bl_input_stats *s)
{
	int n = 0;

	for (int64_t c = 0; c < s->cols; c++) {
		float a = s->channel_absmax[c];
		int at;

		if (!((double)a > 8 * s->rms))
			continue;
		s->n_outlier_channels++;
		for (at = n; at > 0 && s->outlier[at - 1].absmax < a; at--)
			if (at < 16)
				s->outlier[at] = s->outlier[at - 1];
		if (at < 16) {
			s->outlier[at].channel = (int)c;
			s->outlier[at].absmax = a;
			n += n < 16;
		}
	}
}

enum bl_status calib_stats_make(struct bl_input_stats *s, const uint8_t *section, int64_t cols, int64_t tokens, const char *name, struct bl_err *err)
{
	struct calib_acc a = calib_acc_of(cols);
	struct bl_input_stats t = { .cols = cols, .tokens = tokens };
	uint64_t elements = (uint64_t)cols * (uint64_t)tokens;
	double sum = 0, sum2 = 0;
	bool ok;

	t.channel_absmax = bl_xalloc((size_t)cols, sizeof *t.channel_absmax);
	t.channel_mean = bl_xalloc((size_t)cols, sizeof *t.channel_mean);
	t.channel_rms = bl_xalloc((size_t)cols, sizeof *t.channel_rms);
	memcpy(t.channel_absmax, section, 4 * (size_t)cols);
	memcpy(t.channel_mean, section + a.sum, 8 * (size_t)cols);
	memcpy(t.channel_rms, section + a.sum2, 8 * (size_t)cols);
	memcpy(&t.nonfinite, section + a.nonfinite, 8);
	ok = t.nonfinite <= elements && counts_ok(section + a.bins, t.bins, elements) && counts_ok(section + a.token_bins, t.token_bins, (uint64_t)tokens);
	for (int64_t c = 0; c < cols && ok; c++) {
		ok = isfinite(t.channel_absmax[c]) && t.channel_absmax[c] >= 0 && isfinite(t.channel_mean[c]) && isfinite(t.channel_rms[c]) &&
		     t.channel_rms[c] >= 0;
		sum += t.channel_mean[c];
		sum2 += t.channel_rms[c];
		t.channel_mean[c] /= (double)tokens;
		t.channel_rms[c] = sqrt(t.channel_rms[c] / (double)tokens);
		if (t.channel_absmax[c] > t.absmax)
			t.absmax = t.channel_absmax[c];
	}
	if (!ok) {
		calib_stats_free(&t);
		return bl_fail(err, BL_MISMATCH, "%s: its statistics are not numbers that data can have; calibrate again", name);
	}
	if (elements > t.nonfinite) {
		t.mean = sum / (double)(elements - t.nonfinite);
		t.rms = sqrt(sum2 / (double)(elements - t.nonfinite));
	}
	outliers(&t);
	*s = t;
	return BL_OK;
}

void calib_stats_free(struct bl_input_stats *s)
{
	bl_free(s->channel_absmax);
	bl_free(s->channel_mean);
	bl_free(s->channel_rms);
	*s = (struct bl_input_stats){ 0 };
}
