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

static const char floats[] = "BF16 F16 F32";

/* Every tensor that has to be there for a linear, biases and plain weights included. */
struct expect_list { struct bl_want e[BL_WANTS_MAX + 1]; int n; };

static void want(struct expect_list *l, const char *suffix, int rank, int64_t a, int64_t b)
{
	struct bl_want *e = &l->e[l->n++];

	*e = (struct bl_want){.rank = rank, .shape = {a, b}};
	snprintf(e->suffix, sizeof e->suffix, "%s", suffix);
	snprintf(e->dtypes, sizeof e->dtypes, "%s", floats);
}

/* What findings about values name. */
static void note_part(struct bl_stored *s, const struct bl_want *e, const struct bl_tensor *t)
{
	static const char *const codes[] = {"weight", "weight_packed", "qweight"}, *const scales[] = {"weight_scale", "scales", "SCB", "weight.absmax"};

	for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
		if (!strcmp(e->suffix, codes[i]))
			s->codes = t;
	for (size_t i = 0; i < sizeof scales / sizeof *scales; i++)
		if (!strcmp(e->suffix, scales[i]))
			s->scale = t;
	if ((!strcmp(e->suffix, "input_scale") || !strcmp(e->suffix, "input_global_scale")) && t->n_elems == 1)
		s->input = t;
}

static void check_member(struct bl_verifier *v, struct bl_stored *s, struct bl_names *known)
{
	struct expect_list l = {.n = 0};
	struct bl_err inner = BL_ERR_INIT;
	char name[512];

	if (s->l.format && !s->l.n_want) {
		bl_finding_add(v->r, true, s->member->name, "format %.60s: %s", s->l.name, s->l.why ? s->l.why : "it is not known here");
		s->bad = true;
		s->understood = false;
		return;
	}
	for (int i = 0; i < s->l.n_want; i++)
		l.e[l.n++] = s->l.want[i];
	if (!s->l.format)
		want(&l, "weight", 2, s->member->rows, s->member->cols);
	if (s->member->bias)
		want(&l, "bias", 1, s->member->rows, 0);
	for (int i = 0; i < l.n; i++) {
		const struct bl_want *e = &l.e[i];
		snprintf(name, sizeof name, "%s.%s", s->member->name, e->suffix);
		const struct bl_tensor *t = bl_model_tensor(v->model, name);
		if (!t && e->optional)
			continue;
		if (!t) {
			bl_finding_add(v->r, true, name, "missing: a server would use uninitialised memory");
			s->bad = true;
			continue;
		}
		bl_names_add(known, t->name);
		if (!bl_dtype_fits(e->dtypes, bl_dtype_name(t->dtype))) {
			bl_finding_add(v->r, true, name, "is %s, must be %s", bl_dtype_name(t->dtype), e->dtypes);
			s->bad = true;
		} else if (!bl_want_shape_fits(e, t)) {
			bl_finding_add(v->r, true, name, "has shape [%" PRId64 ",%" PRId64 "], must be [%" PRId64 ",%" PRId64 "]", t->rank > 0 ? t->shape[0] : 0,
				       t->rank > 1 ? t->shape[1] : 0, e->shape[0], e->shape[1]);
			s->bad = true;
		}
		note_part(s, e, t);
	}
	if (!s->bad && s->understood && (bl_linear_bind(&s->l, v->model, &inner) || bl_linear_check(&s->l, v->model, &inner))) {
		bl_finding_add(v->r, true, s->member->name, "%s", inner.text);
		s->bad = true;
	}
	if (s->bad)
		s->understood = false;
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
			bl_finding_add(v->r, s[j].l.scheme.act == BL_ACT_INT8_TENSOR, s[j].input->name,
				       "differs from its neighbour's (%g, %g): the server fuses them and %s", x, seen,
				       s[j].l.scheme.act == BL_ACT_INT8_TENSOR ? "keeps the last one it loads" : "takes the larger");
		seen = x;
	}
}

/* Whether the server may fuse two parts. */
static bool same_scheme(const struct bl_stored *a, const struct bl_stored *b)
{
	if (!a->l.format || !b->l.format)
		return a->l.format == b->l.format;
	if (a->l.group_no == b->l.group_no && a->understood == b->understood && !strcmp(a->l.name, b->l.name) && bl_scheme_equal(&a->l.scheme, &b->l.scheme))
		return true;
	return a->understood && b->understood && bl_scheme_equal(&a->l.scheme, &b->l.scheme);
}

/* What vLLM would pick for the unit. */
static void check_server(struct bl_verifier *v, const struct bl_unit *u, const struct bl_stored *s)
{
	char why[300] = "";
	const int g = bl_ct_resolve_vllm(&v->q.ct, u, why), have = s->l.format ? s->l.group_no : -1;

	if (g == -2)
		bl_finding_add(v->r, true, u->name, "%s", why);
	else if (g != have)
		bl_finding_add(v->r, true, u->name, "vLLM would take %s for it, the file stores %s", g < 0 ? "full precision" : v->q.ct.groups[g].name,
			       have < 0 ? "full precision" : v->q.ct.groups[have].name);
}

/* The server chooses by the format, too: codes word by word are for weights alone, all others go with rounded inputs. */
static void check_format(struct bl_verifier *v, const struct bl_unit *u, const struct bl_stored *s)
{
	const bool packed = !strcmp(s->l.name, "pack-quantized");

	if (s->l.scheme.number == BL_NUM_INT && packed == (s->l.scheme.act != BL_ACT_NONE))
		bl_finding_add(v->r, true, u->name, "%s: No compressed-tensors compatible scheme was found: %s %s", v->rq->target->name, s->l.name,
			       packed ? "is for inputs that are not rounded" : "needs rounded inputs (pack-quantized does not)");
}

/* One unit: its members' schemes, whether they agree, what the server makes of them. */
static void check_unit(struct bl_verifier *v, int unit)
{
	const struct bl_unit *u = &v->model->units[unit];
	int at = v->n_stored;
	char name[BL_SCHEME_NAME_MAX] = "BF16";

	for (int j = 0; j < u->n_members; j++) {
		struct bl_stored *s = &v->stored[v->n_stored];
		s->member = &u->members[j];
		s->base = v->comparable ? &v->rq->base->units[unit].members[j] : NULL;
		if (v->base_source && bl_source_linear(v->base_source, unit, j)->format)
			s->base_coded = bl_source_linear(v->base_source, unit, j);
		if (v->q.format)
			bl_linear_describe(&s->l, &v->q, s->member);
		s->code_min = 255;
		s->code_max = -256;
		s->understood = s->l.understood;
		v->unit_of[v->n_stored++] = unit;
		v->r->quantized += s->l.format != NULL;
	}
	v->r->linears += u->n_members;
	for (int j = 1; j < u->n_members; j++)
		if (!same_scheme(&v->stored[at], &v->stored[at + j]))
			bl_finding_add(v->r, true, u->name, "its parts have different schemes: the server fuses them and needs one");
	if (v->is_ct && v->rq->target)
		check_server(v, u, &v->stored[at]);
	if (v->stored[at].understood)
		bl_scheme_name(name, &v->stored[at].l.scheme);
	else if (v->stored[at].l.format || (v->model->config.quantized && !v->q.format))
		snprintf(name, sizeof name, "?");
	v->r->unit_schemes[unit] = bl_xstrdup(name);
	if (v->rq->target && v->is_ct && v->stored[at].understood)
		check_format(v, u, &v->stored[at]);
	if (v->rq->target && v->stored[at].understood) {
		struct bl_verdict verdict;
		bl_target_check_unit(&verdict, v->rq->target, v->model, unit, &v->stored[at].l.scheme);
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
	if (!bl_dtype_fits(floats, bl_dtype_name(t->dtype)))
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
	if (m->config.quantized && !v->q.format) {
		if (bl_json_is_null_or_missing(cJSON_GetObjectItemCaseSensitive(m->config.json, "quantization_config"), "quant_method"))
			bl_finding_add(v->r, true, "config.json", "quantization_config.quant_method: missing: no client loads it");
		else
			bl_finding_add(v->r, false, "config.json", "quant_method %s: only the container was checked, its values are not proved yet", m->config.quant_method);
		v->r->undecoded = v->n_stored;
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
