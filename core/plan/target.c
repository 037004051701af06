/* SPDX-License-Identifier: Apache-2.0
 * The server's rules: which scheme has a kernel for which shape on which compute capability, and the rules on a whole plan. */
#include "core/plan/target.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"

/* What a rule needs to know: N of the fused unit, K, the smallest member's rows, the scheme. */
struct question { const struct bl_target *t; const struct bl_unit *u; const struct bl_scheme *s; bool f16; };

static void refuse(struct bl_verdict *v, const char *rule, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static void refuse(struct bl_verdict *v, const char *rule, const char *fmt, ...)
{
	va_list ap;

	v->legal = false;
	v->kernel = "none";
	v->rule = rule;
	va_start(ap, fmt);
	vsnprintf(v->sentence, sizeof v->sentence, fmt, ap);
	va_end(ap);
}

/* Weight-only integer kernels in the server's order of preference. The first that takes scheme and shape runs; none is an error. */
#define SYM 1
#define ASYM 2
struct wna16 { const char *name; int cc_from, cc_to, bits, zeros; int groups[5]; int n_step, k_step; }; /* groups: -1 per channel, 0 ends */

static const struct wna16 wna16[] = {
	{"Machete", 90, 90, 4, SYM | ASYM, {-1, 64, 128}, 128, 64},
	{"Machete", 90, 90, 8, SYM | ASYM, {-1, 64, 128}, 128, 64},
	{"AllSpark", 80, 89, 8, SYM, {-1}, 16, 16},
	{"Marlin", 75, 999, 4, SYM | ASYM, {-1, 32, 64, 128}, 64, 128},
	{"Marlin", 75, 999, 8, SYM, {-1, 32, 64, 128}, 64, 128},
};
#define N_WNA16 (sizeof wna16 / sizeof wna16[0])

static bool takes_scheme(const struct wna16 *k, const struct bl_scheme *s, int cc)
{
	const int *g = k->groups;

	while (*g && *g != (s->group ? s->group : -1))
		g++;
	return *g && cc >= k->cc_from && cc <= k->cc_to && k->bits == s->bits && k->zeros & (s->symmetric ? SYM : ASYM);
}

/* Why no kernel takes it: the first thing that is in the way, in numbers. */
static void refuse_weight_only(struct bl_verdict *v, const struct question *q)
{
	static const char no_kernel[] = "Failed to find a kernel that can implement the WNA16 linear layer";
	const struct bl_scheme *s = q->s;
	const struct wna16 *last = NULL;
	long long n = q->u->rows, k = q->u->cols;
	int cc = q->t->gpu.cc;

	for (size_t i = 0; i < N_WNA16; i++)
		if (takes_scheme(&wna16[i], s, cc) && (!last || wna16[i].n_step < last->n_step))
			last = &wna16[i]; /* the least demanding one */
	if (last && n % last->n_step)
		refuse(v, "R3", "%s: %s needs N to be a multiple of %d, it is %lld", no_kernel, last->name, last->n_step, n);
	else if (last)
		refuse(v, "R3", "%s: %s needs K to be a multiple of %d, it is %lld", no_kernel, last->name, last->k_step, k);
	else if (cc < 75)
		refuse(v, "R3", "%s: compute capability %d.%d is below 7.5", no_kernel, cc / 10, cc % 10);
	else if (s->group && s->group != 32 && s->group != 64 && s->group != 128)
		refuse(v, "R3", "%s: group size %d (32, 64, 128 or per channel)", no_kernel, s->group);
	else
		refuse(v, "R3", "%s: %d-bit weights with zero points%s", no_kernel, s->bits, cc == 90 ? " in groups of 32" : "");
}

static void check_weight_only(struct bl_verdict *v, const struct question *q)
{
	const struct bl_scheme *s = q->s;

	if (s->bits != 4 && s->bits != 8) {
		refuse(v, "R3", "No compressed-tensors compatible scheme was found: %d-bit weights have no kernel (4 and 8 have)", s->bits);
		return;
	}
	for (size_t i = 0; i < N_WNA16; i++)
		if (takes_scheme(&wna16[i], s, q->t->gpu.cc) && q->u->rows % wna16[i].n_step == 0 && q->u->cols % wna16[i].k_step == 0) {
			v->kernel = wna16[i].name;
			return;
		}
	refuse_weight_only(v, q);
}

static void check_w8a8(struct bl_verdict *v, const struct question *q)
{
	const struct bl_scheme *s = q->s;
	long long n = q->u->rows, k = q->u->cols;

	if (!s->symmetric || s->strategy == BL_STRATEGY_GROUP || s->bits != 8) {
		refuse(v, "R3", "No compressed-tensors compatible scheme was found: 8-bit inputs need 8-bit symmetric weights with one scale per channel");
	} else if (q->t->gpu.cc < 75) {
		refuse(v, "R3", "Quantization scheme is not supported for the current GPU: int8 needs compute capability 7.5");
	} else if (n % 16 || k % 16) {
		v->kernel = "Triton INT8";
		v->rule = "R3";
		snprintf(v->sentence, sizeof v->sentence, "works through the slower Triton kernel: N = %lld and K = %lld should be multiples of 16", n, k);
	} else {
		v->kernel = "Cutlass INT8";
	}
}

static void check_fp8(struct bl_verdict *v, const struct question *q)
{
	long long n = q->u->rows, k = q->u->cols;
	int cc = q->t->gpu.cc;

	if (cc < 80) {
		refuse(v, "R3", "Quantization scheme is not supported for the current GPU: FP8 needs compute capability 8.0");
	} else if (cc < 89 && (n % 64 || k % 128)) {
		refuse(v, "R3", "Marlin FP8, the only way on this GPU, needs N to be a multiple of 64 and K of 128, they are %lld and %lld", n, k);
	} else if (cc < 89) {
		v->kernel = "Marlin FP8";
		v->rule = "R3";
		snprintf(v->sentence, sizeof v->sentence, "runs as weight-only FP8 (Marlin): this GPU has no FP8 units");
	} else if (n % 16 || k % 16) {
		v->kernel = "Triton FP8";
		v->rule = "R3";
		snprintf(v->sentence, sizeof v->sentence, "works through the slower Triton kernel: N = %lld and K = %lld should be multiples of 16", n, k);
	} else {
		v->kernel = "Cutlass FP8";
	}
}

/* 4-bit floats: as weights alone (Marlin) on every card of the table; own units came later. */
static void check_fp4(struct bl_verdict *v, const struct question *q)
{
	long long n = q->u->rows, k = q->u->cols;

	if (q->t->gpu.cc < 80)
		refuse(v, "R3", "Quantization scheme is not supported for the current GPU: FP4 needs compute capability 8.0");
	else if (n % 64 || k % 128)
		refuse(v, "R3", "Marlin FP4 needs N to be a multiple of 64 and K of 128, they are %lld and %lld", n, k);
	else
		v->kernel = "Marlin FP4";
	if (v->legal && q->s->act != BL_ACT_NONE) {
		v->rule = "R3";
		snprintf(v->sentence, sizeof v->sentence, "runs as weight-only FP4 (Marlin): this GPU has no FP4 units");
	}
}

static void check_fp8_block(struct bl_verdict *v, const struct question *q)
{
	for (int j = 0; j + 1 < q->u->n_members; j++)
		if (q->u->members[j].rows % q->s->group) {
			refuse(v, "R3", "the server cuts the fused layer into blocks of %d rows: %s has %lld", q->s->group, q->u->members[j].name, (long long)q->u->members[j].rows);
			return;
		}
	if (q->t->gpu.cc < 89)
		refuse(v, "R3", "Quantization scheme is not supported for the current GPU: FP8 blocks need compute capability 8.9");
	else
		v->kernel = q->t->gpu.cc >= 90 ? "Cutlass FP8 blocks" : "Triton FP8 blocks";
	if (v->legal && q->t->gpu.cc < 90) {
		v->rule = "R3";
		snprintf(v->sentence, sizeof v->sentence, "runs through the slower Triton kernel: blocks have a fast one from compute capability 9.0 on");
	}
}

static void check_bitsandbytes(struct bl_verdict *v, const struct question *q)
{
	v->kernel = q->s->number == BL_NUM_NF4 ? "bitsandbytes NF4" : q->s->number == BL_NUM_BNB_FP4 ? "bitsandbytes FP4" : "bitsandbytes int8";
	if (q->t->gpu.cc < 70)
		refuse(v, "R3", "bitsandbytes needs compute capability 7.0");
}

void bl_target_check_unit(struct bl_verdict *v, const struct bl_target *t, const struct bl_model *m, int unit, const struct bl_scheme *s)
{
	struct question q = {t, &m->units[unit], s, m->units[unit].dtype == BL_F16};

	*v = (struct bl_verdict){.legal = true, .kernel = "", .rule = NULL};
	if (bl_scheme_is_full(s))
		v->kernel = q.f16 ? "cuBLAS FP16" : "cuBLAS BF16";
	else if (s->group && q.u->cols % s->group)
		refuse(v, "R3", "K = %lld is not a multiple of the group size %d", (long long)q.u->cols, s->group);
	else if (s->number == BL_NUM_E2M1)
		check_fp4(v, &q);
	else if (bl_scheme_is_bnb(s))
		check_bitsandbytes(v, &q);
	else if (bl_scheme_is_mx8(s))
		refuse(v, "R3", "%s %s loads no mxfp8-quantized weights: that came with compressed-tensors 0.19; FP8_BLOCK and FP8_DYNAMIC are near to it", t->server,
		       t->server_version);
	else if (s->strategy == BL_STRATEGY_BLOCK)
		check_fp8_block(v, &q);
	else if (s->number == BL_NUM_FLOAT)
		check_fp8(v, &q);
	else if (bl_act_is_int8(s->act))
		check_w8a8(v, &q);
	else
		check_weight_only(v, &q);
	if (v->legal && !v->sentence[0] && s->strategy == BL_STRATEGY_TENSOR && q.u->n_members > 1) {
		v->rule = "R4";
		snprintf(v->sentence, sizeof v->sentence, "the server rounds the %d parts again, to the largest of their scales: FP8_channel keeps them apart", q.u->n_members);
	}
}

/* ---- the whole plan ---- */

struct list { struct bl_problem *p; size_t n, cap; int n_fatal; };

static void add(struct list *l, int unit, const char *rule, bool fatal, const char *fmt, ...) __attribute__((format(printf, 5, 6)));

static void add(struct list *l, int unit, const char *rule, bool fatal, const char *fmt, ...)
{
	va_list ap;

	bl_xgrow(&l->p, &l->cap, l->n + 1);
	struct bl_problem *p = &l->p[l->n++];
	*p = (struct bl_problem){.unit = unit, .rule = rule, .fatal = fatal};
	va_start(ap, fmt);
	vsnprintf(p->sentence, sizeof p->sentence, fmt, ap);
	va_end(ap);
	l->n_fatal += fatal;
}

static void check_positions(struct list *l, const struct bl_target *t, const struct bl_model *m, const struct bl_plan *p)
{
	double value = (double)m->config.max_positions;
	bool edited = false;

	for (int i = 0; i < bl_plan_n_edits(p); i++) {
		const struct bl_config_edit *e = bl_plan_edit(p, i);
		if (strcmp(e->key, "max_position_embeddings"))
			continue;
		edited = true;
		value = strtod(e->value, NULL);
		if (!*e->value || strspn(e->value, "0123456789") != strlen(e->value) || value < 1 || value > 1e9) {
			add(l, -1, "config", true, "max_position_embeddings: must be a whole number from 1 to 1000000000, is %.100s", *e->value ? e->value : "removed");
			return;
		}
		if (value > (double)m->config.max_positions)
			add(l, -1, "config", false, "max_position_embeddings: %.0f is more than the model was made for (%lld)", value,
			    (long long)m->config.max_positions);
	}
	if (t->max_model_len && value < (double)t->max_model_len)
		add(l, -1, "config", edited, /* the model's own limit cannot be mended here */
		    "User-specified max_model_len (%lld) is greater than the derived max_model_len (max_position_embeddings=%.0f)",
		    (long long)t->max_model_len, value);
}

int bl_target_check_plan(struct bl_problem **out, int *n_fatal, const struct bl_target *t, const struct bl_model *m, const struct bl_plan *p)
{
	struct list l = {0};
	struct bl_verdict v;
	char name[BL_SCHEME_NAME_MAX];
	bool any = false;

	for (int i = 0; i < m->n_units; i++) {
		const struct bl_scheme *s = &bl_plan_choice(p, i)->scheme;
		any |= s->number != BL_NUM_FULL;
		bl_target_check_unit(&v, t, m, i, s);
		if (!v.legal || v.sentence[0])
			add(&l, i, v.rule, !v.legal, "%d %s %s: %s", m->units[i].block, bl_unit_kind_name(m->units[i].kind), bl_scheme_name(name, s), v.sentence);
	}
	if (any && m->config.quantized)
		add(&l, -1, "source", true, "the checkpoint is already quantized (%s): quantize the original instead", m->config.quant_method);
	check_positions(&l, t, m, p);
	for (int i = 0; i < bl_plan_n_edits(p); i++)
		if (!strcmp(bl_plan_edit(p, i)->key, "kv_cache_scheme") && *bl_plan_edit(p, i)->value)
			add(&l, -1, "config", false, "kv_cache_scheme: %s %s does not act on it: only a server started with --kv-cache-dtype fp8 keeps its cache in 8 bits, "
			    "with scale 1 because the file stores none", t->server, t->server_version);
	*out = l.p;
	if (n_fatal)
		*n_fatal = l.n_fatal;
	return (int)l.n;
}

bool bl_target_loads_in_transformers(const struct bl_model *m, const struct bl_plan *p, char sentence[240])
{
	const char *format = NULL;

	sentence[0] = '\0';
	for (int i = 0; i < m->n_units; i++) {
		const struct bl_scheme *s = &bl_plan_choice(p, i)->scheme;
		if (bl_scheme_is_full(s))
			continue;
		if (bl_scheme_is_mx8(s)) {
			snprintf(sentence, 240, "8-bit floats in groups: compressed-tensors 0.13 does not know mxfp8-quantized (0.19 does)");
			return false;
		}
		if (s->number == BL_NUM_E2M1) {
			snprintf(sentence, 240, "4-bit floats: compressed-tensors 0.13 does not decode them (newer ones do)");
			return false;
		}
		const char *f = bl_scheme_is_bnb(s) ? "bitsandbytes" : s->number == BL_NUM_FLOAT ? "float-quantized" : bl_act_is_int8(s->act) ? "int-quantized" : "pack-quantized";
		if (!s->symmetric) {
			snprintf(sentence, 240, "asymmetric weights: compressed-tensors 0.13 drops the zero points (newer ones load them)");
			return false;
		}
		if (!strcmp(f, "pack-quantized") && s->bits != 8 && s->bits != 4 && s->bits != 2) {
			snprintf(sentence, 240, "%d-bit packing: compressed-tensors 0.13 expects another layout (newer ones load it)", s->bits);
			return false;
		}
		if (format && strcmp(format, f)) {
			snprintf(sentence, 240, "%s and %s side by side: transformers 4.57 needs run_compressed=False for mixed-precision", format, f);
			return false;
		}
		format = f;
	}
	return true;
}
