/* SPDX-License-Identifier: Apache-2.0
 * The table of formats, and what they share: finding promised tensors, whole checkpoints. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/half.h"
#include "core/base/mem.h"
#include "core/format/private.h"

static const struct bl_format *const formats[] = {&bl_format_ct, &bl_format_gptq, &bl_format_auto_round, &bl_format_auto_round_2, &bl_format_awq, &bl_format_bnb};

const char bl_floats[] = "BF16 F16 F32";

/* ---- the config ---- */

enum bl_status bl_quant_open(struct bl_quant *q, const struct bl_model *m, struct bl_err *err)
{
	*q = (struct bl_quant){.m = m, .config = cJSON_GetObjectItemCaseSensitive(m->config.json, "quantization_config")};
	for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
		if (!strcmp(formats[i]->method, m->config.quant_method))
			q->format = formats[i];
	if (!q->format)
		return bl_fail(err, BL_UNSUPPORTED, "%s: quantized by a method that is not read here (%s)", m->title, m->config.quant_method);
	return q->format->open ? q->format->open(q, err) : BL_OK;
}

void bl_quant_close(struct bl_quant *q)
{
	bl_ct_config_fini(&q->ct);
	q->format = NULL;
}

const char *bl_quant_method(const struct bl_quant *q)
{
	return q->format->method;
}

/* ---- a linear ---- */

void bl_want_add(struct bl_linear *l, const char *suffix, const char *dtypes, int rank, int64_t a, int64_t b)
{
	struct bl_want *w = &l->want[l->n_want++];

	*w = (struct bl_want){.rank = rank, .shape = {a, b}};
	snprintf(w->suffix, sizeof w->suffix, "%s", suffix);
	snprintf(w->dtypes, sizeof w->dtypes, "%s", dtypes);
}

void bl_linear_describe(struct bl_linear *l, const struct bl_quant *q, const struct bl_member *m)
{
	*l = (struct bl_linear){.member = m};
	q->format->describe(l, q);
	/* a group that does not divide the columns has no scales per row to speak of */
	if (l->understood && l->scheme.group && (m->cols % l->scheme.group || l->scheme.group > m->cols)) {
		l->understood = false;
		l->why = "its groups do not divide the columns";
	}
}

static const char *file_of(const struct bl_model *m, const struct bl_tensor *t)
{
	return t->file >= 0 && t->file < m->n_files ? m->files[t->file].name : "?";
}

enum bl_status bl_part_fail(struct bl_err *err, const struct bl_model *m, const struct bl_tensor *t, const char *fmt, ...)
{
	char text[300];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	return bl_fail(err, BL_INVALID, "%s: %s: %s", file_of(m, t), t->name, text);
}

bool bl_dtype_fits(const char *dtypes, const char *dtype)
{
	const size_t len = strlen(dtype);

	for (const char *at = dtypes; (at = strstr(at, dtype)) != NULL; at++) /* "F16" is in "BF16", too */
		if ((at == dtypes || at[-1] == ' ') && (!at[len] || at[len] == ' '))
			return true;
	return false;
}

bool bl_want_shape_fits(const struct bl_want *w, const struct bl_tensor *t)
{
	bool fits = t->rank == w->rank;

	for (int d = 0; fits && d < w->rank; d++)
		fits = w->shape[d] < 0 || t->shape[d] == w->shape[d];
	return fits;
}

enum bl_status bl_linear_bind(struct bl_linear *l, const struct bl_model *m, struct bl_err *err)
{
	char name[512];

	for (int i = 0; i < l->n_want; i++) {
		const struct bl_want *w = &l->want[i];

		snprintf(name, sizeof name, "%s.%s", l->member->name, w->suffix);
		const struct bl_tensor *t = bl_model_tensor(m, name);
		if (!t && w->optional)
			continue;
		if (!t)
			return bl_fail(err, BL_INVALID, "%s: missing from the checkpoint (%s needs it)", name, l->name);
		if (!bl_dtype_fits(w->dtypes, bl_dtype_name(t->dtype)))
			return bl_part_fail(err, m, t, "is %s, must be %s", bl_dtype_name(t->dtype), w->dtypes);
		if (!bl_want_shape_fits(w, t))
			return bl_part_fail(err, m, t, "has shape [%" PRId64 ",%" PRId64 "], must be [%" PRId64 ",%" PRId64 "]", t->rank > 0 ? t->shape[0] : 0,
					    t->rank > 1 ? t->shape[1] : 0, w->shape[0], w->shape[1]);
		l->part[i] = t;
	}
	return BL_OK;
}

enum bl_status bl_linear_check(struct bl_linear *l, const struct bl_model *m, struct bl_err *err)
{
	return l->format->check ? l->format->check(l, m, err) : BL_OK;
}

void bl_linear_rows(const struct bl_linear *l, int64_t row0, int64_t n, int8_t *codes, float *scales, int8_t *zeros)
{
	l->format->rows(l, row0, n, codes, scales, zeros);
}

/* ---- parts ---- */

const struct bl_tensor *bl_part(const struct bl_linear *l, const char *suffix)
{
	for (int i = 0; i < l->n_want; i++)
		if (!strcmp(l->want[i].suffix, suffix))
			return l->part[i];
	return NULL;
}

float bl_float_at(const struct bl_tensor *t, int64_t i)
{
	uint16_t h;
	float f;

	if (t->dtype == BL_F32) {
		memcpy(&f, (const uint8_t *)t->data + 4 * i, 4);
		return f;
	}
	memcpy(&h, (const uint8_t *)t->data + 2 * i, 2);
	return t->dtype == BL_BF16 ? bl_bf16_f32(h) : bl_f16_f32(h);
}

uint32_t bl_word_at(const struct bl_tensor *t, int64_t i)
{
	uint32_t w;

	memcpy(&w, (const uint8_t *)t->data + 4 * i, 4);
	return w;
}

enum bl_status bl_check_order(const struct bl_model *m, const struct bl_tensor *t, int64_t n, struct bl_err *err)
{
	int64_t *in = bl_xalloc((size_t)n + 1, sizeof *in), g = 0;

	for (int64_t i = 0; i < t->n_elems && !err->status; i++)
		if (bl_word_at(t, i) >= (uint64_t)n)
			bl_part_fail(err, m, t, "element %" PRId64 " is %d, there are %" PRId64 " groups", i, (int32_t)bl_word_at(t, i), n);
		else
			in[bl_word_at(t, i)]++;
	while (g < n && in[g] == t->n_elems / n)
		g++;
	if (!err->status && g < n)
		bl_part_fail(err, m, t, "puts %" PRId64 " columns into group %" PRId64 ", each has %" PRId64, in[g], g, t->n_elems / n);
	bl_free(in);
	return err->status;
}

const struct bl_tensor *bl_linear_order(const struct bl_linear *l)
{
	if (!l->scheme.order)
		return NULL;
	const struct bl_tensor *t = bl_part(l, "g_idx");
	return t ? t : bl_part(l, "weight_g_idx");
}

float bl_linear_global(const struct bl_linear *l)
{
	const struct bl_tensor *t = l->scheme.strategy == BL_STRATEGY_TENSOR_GROUP ? bl_part(l, "weight_global_scale") : NULL;

	return t ? bl_float_at(t, 0) : 0;
}

float bl_linear_input(const struct bl_linear *l)
{
	const struct bl_tensor *t = bl_part(l, "input_scale");

	if (!t)
		t = bl_part(l, "input_global_scale");
	return t ? bl_float_at(t, 0) : 0;
}

/* ---- a whole checkpoint ---- */

static enum bl_status look_inside(void *ctx, struct bl_err *err)
{
	struct bl_source *s = ctx;

	for (int i = 0; i < s->n; i++) {
		struct bl_linear *l = &s->linears[i];
		const struct bl_member *m = l->member;

		if (!l->format) {
			if (!m->weight)
				return bl_fail(err, BL_INVALID, "%s.weight: missing from the checkpoint (it is not quantized)", m->name);
			continue;
		}
		if (!l->understood)
			return bl_fail(err, BL_UNSUPPORTED, "%s: stored as %s, whose numbers are not read here%s%s", m->name, l->name, l->why ? ": " : "", l->why ? l->why : "");
		if (bl_linear_bind(l, s->m, err) || bl_linear_check(l, s->m, err))
			return err->status;
	}
	return BL_OK;
}

enum bl_status bl_source_open(struct bl_source **out, const struct bl_model *m, bool strict, struct bl_err *err)
{
	struct bl_source *s = bl_xalloc(1, sizeof *s);
	int n = 0;

	s->m = m;
	for (int i = 0; i < m->n_units; i++)
		n += m->units[i].n_members;
	s->linears = bl_xalloc((size_t)n + 1, sizeof *s->linears);
	s->first = bl_xalloc((size_t)m->n_units + 1, sizeof *s->first);
	if (bl_quant_open(&s->q, m, err) == BL_OK)
		for (int i = 0; i < m->n_units; i++) {
			s->first[i] = s->n;
			for (int j = 0; j < m->units[i].n_members; j++)
				bl_linear_describe(&s->linears[s->n++], &s->q, &m->units[i].members[j]);
		}
	if (!err->status && strict)
		bl_guard_run(look_inside, s, err);
	if (err->status)
		bl_source_close(s);
	else
		*out = s;
	return err->status;
}

void bl_source_close(struct bl_source *s)
{
	if (!s)
		return;
	bl_quant_close(&s->q);
	bl_free(s->linears);
	bl_free(s->first);
	bl_free(s);
}

const struct bl_linear *bl_source_linear(const struct bl_source *s, int unit, int member)
{
	return &s->linears[s->first[unit] + member];
}

bool bl_source_scheme(const struct bl_source *s, int unit, struct bl_scheme *out)
{
	const struct bl_linear *l = bl_source_linear(s, unit, 0);
	const struct bl_scheme full = BL_SCHEME_FULL;

	for (int j = 0; j < s->m->units[unit].n_members; j++) {
		if (l[j].format && !l[j].understood)
			return false;
		if (j && !bl_scheme_equal(l[j].format ? &l[j].scheme : &full, out))
			return false;
		*out = l[j].format ? l[j].scheme : full;
	}
	return true;
}
