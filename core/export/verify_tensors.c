/* SPDX-License-Identifier: Apache-2.0
 * Completeness: for every linear exactly the tensors its scheme promises, with the right types and shapes, and nothing else anywhere. Servers do
 * not check this: a missing tensor is uninitialised memory there. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/half.h"
#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/base/str.h"
#include "core/export/verify_private.h"

#define EXPECT_MAX 8

struct expect { char suffix[40]; char dtypes[32]; int rank; int64_t shape[2]; };
struct expect_list { struct expect e[EXPECT_MAX]; int n; };

static void want(struct expect_list *l, const char *suffix, const char *dtypes, int rank, int64_t a, int64_t b)
{
	struct expect *e = &l->e[l->n++];

	snprintf(e->suffix, sizeof e->suffix, "%s", suffix);
	snprintf(e->dtypes, sizeof e->dtypes, "%s", dtypes);
	e->rank = rank;
	e->shape[0] = a;
	e->shape[1] = b;
}

static const char floats[] = "BF16 F16 F32";

/* What a compressed-tensors group promises for a linear of n x k; NULL, or why it is not known. */
static const char *promise(struct expect_list *l, const struct bl_ct_scheme *s, int64_t n, int64_t k)
{
	int64_t cols = s->group > 0 ? k / s->group : 1;
	int64_t scale[2] = {n, s->strategy == BL_CT_GROUP || s->strategy == BL_CT_TENSOR_GROUP ? cols : 1};

	if (s->strategy == BL_CT_BLOCK) {
		scale[0] = (n + s->block[0] - 1) / s->block[0];
		scale[1] = (k + s->block[1] - 1) / s->block[1];
	}
	const char *scale_type = !strcmp(s->format, "nvfp4-pack-quantized") ? "F8_E4M3" : !strcmp(s->format, "mxfp4-pack-quantized") ? "U8" : floats;
	if (s->strategy == BL_CT_TENSOR)
		want(l, "weight_scale", scale_type, 1, 1, 0);
	else
		want(l, "weight_scale", scale_type, 2, scale[0], scale[1]);
	if (!strcmp(s->format, "pack-quantized")) {
		want(l, "weight_packed", "I32", 2, n, (k * s->bits + 31) / 32);
		want(l, "weight_shape", "I64 I32", 1, 2, 0);
		if (!s->symmetric)
			want(l, "weight_zero_point", "I32", 2, (n * s->bits + 31) / 32, cols);
		if (s->actorder_group)
			want(l, "weight_g_idx", "I32", 1, k, 0);
	} else if (!strcmp(s->format, "int-quantized") || !strcmp(s->format, "float-quantized") || !strcmp(s->format, "naive-quantized")) {
		want(l, "weight", s->is_float ? "F8_E4M3" : "I8", 2, n, k);
	} else if (!strcmp(s->format, "nvfp4-pack-quantized")) {
		want(l, "weight_packed", "U8", 2, n, k / 2);
		want(l, "weight_global_scale", "F32", 1, 1, 0);
		if (s->has_act)
			want(l, "input_global_scale", "F32", 1, 1, 0);
	} else if (!strcmp(s->format, "mxfp4-pack-quantized")) {
		want(l, "weight_packed", "U8", 2, n, k / 2);
	} else {
		return "its format is not known here";
	}
	if (s->has_act && !s->act_dynamic) {
		want(l, "input_scale", floats, 1, 1, 0);
		if (!s->act_symmetric)
			want(l, "input_zero_point", "I8", 1, 1, 0);
	}
	return NULL;
}

static bool type_fits(const char *dtypes, const char *dtype)
{
	const char *at = strstr(dtypes, dtype);
	size_t len = strlen(dtype);

	return at && (at == dtypes || at[-1] == ' ') && (!at[len] || at[len] == ' ');
}

/* weight_shape says what the packed words unpack to. */
static void check_shape(struct bl_verifier *v, const struct bl_stored *s)
{
	char name[512];
	int64_t shape[2] = {0, 0};

	snprintf(name, sizeof name, "%s.weight_shape", s->member->name);
	const struct bl_tensor *t = bl_model_tensor(v->model, name);
	size_t size = (size_t)bl_dtype_bytes(t->dtype);
	for (size_t i = 0; i < 2; i++)
		memcpy(&shape[i], (const uint8_t *)t->data + i * size, size); /* little-endian, and never negative */
	if (shape[0] != s->member->rows || shape[1] != s->member->cols)
		bl_finding_add(v->r, true, name, "says [%" PRId64 ",%" PRId64 "], the linear is [%" PRId64 ",%" PRId64 "]", shape[0], shape[1], s->member->rows,
			       s->member->cols);
}

static void check_member(struct bl_verifier *v, struct bl_stored *s, struct bl_names *known)
{
	struct expect_list l = {.n = 0};
	const char *why = NULL;
	char name[512];

	if (s->ct && (why = promise(&l, s->ct, s->member->rows, s->member->cols))) {
		bl_finding_add(v->r, true, s->member->name, "format %.60s: %s", s->ct->format, why);
		s->bad = true;
		s->understood = false;
		return;
	}
	if (!s->ct)
		want(&l, "weight", floats, 2, s->member->rows, s->member->cols);
	if (s->member->bias)
		want(&l, "bias", floats, 1, s->member->rows, 0);
	for (int i = 0; i < l.n; i++) {
		const struct expect *e = &l.e[i];
		snprintf(name, sizeof name, "%s.%s", s->member->name, e->suffix);
		const struct bl_tensor *t = bl_model_tensor(v->model, name);
		if (!t) {
			bl_finding_add(v->r, true, name, "missing: a server would use uninitialised memory");
			s->bad = true;
			continue;
		}
		bl_names_add(known, t->name);
		if (!type_fits(e->dtypes, bl_dtype_name(t->dtype))) {
			bl_finding_add(v->r, true, name, "is %s, must be %s", bl_dtype_name(t->dtype), e->dtypes);
			s->bad = true;
		} else if (t->rank != e->rank || t->shape[0] != e->shape[0] || (e->rank == 2 && t->shape[1] != e->shape[1])) {
			bl_finding_add(v->r, true, name, "has shape [%" PRId64 ",%" PRId64 "], must be [%" PRId64 ",%" PRId64 "]", t->rank > 0 ? t->shape[0] : 0,
				       t->rank > 1 ? t->shape[1] : 0, e->shape[0], e->shape[1]);
			s->bad = true;
		}
		if (!strcmp(e->suffix, "weight") || !strcmp(e->suffix, "weight_packed"))
			s->codes = t;
		else if (!strcmp(e->suffix, "weight_scale"))
			s->scale = t;
		else if (!strcmp(e->suffix, "weight_zero_point"))
			s->zero = t;
		else if (!strcmp(e->suffix, "input_scale") && t->n_elems == 1)
			s->input = t;
	}
	if (s->bad)
		s->understood = false;
	else if (s->ct && !strcmp(s->ct->format, "pack-quantized"))
		check_shape(v, s);
}

static double number_at(const struct bl_tensor *t)
{
	uint32_t word = 0;

	memcpy(&word, t->data, t->dtype == BL_F32 ? 4 : 2);
	return (double)(t->dtype == BL_F32 ? bl_bits_f32(word) : t->dtype == BL_BF16 ? bl_bf16_f32((uint16_t)word) : bl_f16_f32((uint16_t)word));
}

/* Static input scales: numbers above zero, and one for all parts of a unit, because the server holds one. */
static void check_inputs(struct bl_verifier *v, int first, int n)
{
	const struct bl_stored *s = &v->stored[first];
	double seen = 0;

	for (int j = 0; j < n; j++) {
		if (!s[j].input || s[j].bad)
			continue;
		double x = number_at(s[j].input);
		if (!(isfinite(x) && x > 0))
			bl_finding_add(v->r, true, s[j].input->name, isfinite(x) ? "is %g, must be above zero" : "is %g: not finite", x);
		else if (seen > 0 && x != seen)
			bl_finding_add(v->r, s[j].scheme.act == BL_ACT_INT8_TENSOR, s[j].input->name,
				       "differs from its neighbour's (%g, %g): the server fuses them and %s", x, seen,
				       s[j].scheme.act == BL_ACT_INT8_TENSOR ? "keeps the last one it loads" : "takes the larger");
		seen = x;
	}
}

/* One unit: its members' groups, whether they agree, what vLLM would pick. */
static void check_unit(struct bl_verifier *v, int unit)
{
	const struct bl_unit *u = &v->model->units[unit];
	int groups[BL_MEMBERS_MAX] = {-1, -1, -1}, at = v->n_stored;
	char why[300] = "", name[BL_SCHEME_NAME_MAX] = "BF16";

	for (int j = 0; j < u->n_members; j++) {
		struct bl_stored *s = &v->stored[v->n_stored];
		groups[j] = v->is_ct ? bl_ct_resolve(&v->ct, u->members[j].name) : -1;
		s->member = &u->members[j];
		s->base = v->comparable ? &v->rq->base->units[unit].members[j] : NULL;
		s->ct = groups[j] >= 0 ? &v->ct.groups[groups[j]] : NULL;
		s->code_min = 255;
		s->code_max = -256;
		s->understood = s->ct && bl_ct_as_scheme(s->ct, &s->scheme) && (!s->scheme.group || u->cols % s->scheme.group == 0);
		v->unit_of[v->n_stored++] = unit;
		v->r->quantized += s->ct != NULL;
	}
	v->r->linears += u->n_members;
	for (int j = 1; j < u->n_members; j++) {
		struct bl_scheme a = v->stored[at].scheme, b = v->stored[at + j].scheme;
		if (groups[j] != groups[0] && !(groups[j] >= 0 && groups[0] >= 0 && v->stored[at].understood && v->stored[at + j].understood && bl_scheme_equal(&a, &b)))
			bl_finding_add(v->r, true, u->name, "its parts have different schemes: the server fuses them and needs one");
	}
	if (v->is_ct && v->rq->target) {
		int g = bl_ct_resolve_vllm(&v->ct, u, why);
		if (g == -2)
			bl_finding_add(v->r, true, u->name, "%s", why);
		else if (g != groups[0])
			bl_finding_add(v->r, true, u->name, "vLLM would take %s for it, the file stores %s", g < 0 ? "full precision" : v->ct.groups[g].name,
				       groups[0] < 0 ? "full precision" : v->ct.groups[groups[0]].name);
	}
	if (groups[0] >= 0 && v->stored[at].understood)
		bl_scheme_name(name, &v->stored[at].scheme);
	else if (groups[0] >= 0 || (v->model->config.quantized && !v->is_ct))
		snprintf(name, sizeof name, "?");
	v->r->unit_schemes[unit] = bl_xstrdup(name);
	if (v->rq->target && groups[0] >= 0 && v->stored[at].understood) {
		struct bl_verdict verdict;
		bl_target_check_unit(&verdict, v->rq->target, v->model, unit, &v->stored[at].scheme);
		if (!verdict.legal || verdict.sentence[0])
			bl_finding_add(v->r, !verdict.legal, u->name, "%s: %s", v->rq->target->name, verdict.sentence);
	}
}

/* What vLLM skips or, for scales of the key-value cache, looks for at exactly this place (below k_proj they are an unknown name). */
static bool tolerated(const char *name)
{
	return strstr(name, "rotary_emb.inv_freq") || bl_ends_with(name, ".self_attn.k_scale") || bl_ends_with(name, ".self_attn.v_scale");
}

/* A tensor that is no linear's: known, and of a type that is a number. */
static void check_plain(struct bl_verifier *v, struct bl_names *known, const char *name)
{
	const struct bl_tensor *t = bl_model_tensor(v->model, name);

	if (!t)
		return; /* opening has seen to what must be there */
	bl_names_add(known, t->name);
	if (!type_fits(floats, bl_dtype_name(t->dtype)))
		bl_finding_add(v->r, true, name, "is %s, must be %s", bl_dtype_name(t->dtype), floats);
}

static void check_surplus(struct bl_verifier *v, struct bl_names *known)
{
	char name[256];
	const struct bl_arch *arch = v->model->arch;

	check_plain(v, known, "model.embed_tokens.weight");
	check_plain(v, known, "model.norm.weight");
	check_plain(v, known, "lm_head.weight");
	for (int b = 0; b < v->model->config.layers; b++)
		for (int k = 0; k < 8 && arch->block_tensors[k]; k++) {
			snprintf(name, sizeof name, "model.layers.%d.%s", b, arch->block_tensors[k]);
			check_plain(v, known, name);
		}
	for (int64_t i = 0; i < v->model->n_tensors; i++) {
		const char *t = v->model->tensors[i]->name;
		if (bl_names_find(known, t) < 0 && !tolerated(t))
			bl_finding_add(v->r, true, t, "surplus: a server refuses names it does not know");
	}
}

void bl_check_tensors(struct bl_verifier *v)
{
	const struct bl_model *m = v->model;
	struct bl_names known;
	int n = 0;

	for (int i = 0; i < m->n_units; i++)
		n += m->units[i].n_members;
	v->stored = bl_xalloc((size_t)n + 1, sizeof *v->stored);
	v->unit_of = bl_xalloc((size_t)n + 1, sizeof *v->unit_of);
	v->r->n_units = m->n_units;
	v->r->unit_schemes = bl_xalloc((size_t)m->n_units + 1, sizeof *v->r->unit_schemes);
	for (int i = 0; i < m->n_units; i++)
		check_unit(v, i);
	if (m->config.quantized && !v->is_ct) {
		bl_finding_add(v->r, false, "config.json", "quant_method %s: only the container was checked, its values are not proved yet", m->config.quant_method);
		return;
	}
	bl_names_init(&known, (size_t)m->n_tensors + 16);
	for (int i = 0; i < v->n_stored; i++)
		check_member(v, &v->stored[i], &known);
	for (int i = 0; i < v->n_stored; i += m->units[v->unit_of[i]].n_members)
		check_inputs(v, i, m->units[v->unit_of[i]].n_members);
	check_surplus(v, &known);
	bl_names_free(&known);
}
