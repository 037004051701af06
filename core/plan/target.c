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

/* Marlin and Machete: N % 64, K % 128, K % group, groups of 32, 64, 128 or per channel. */
static bool group_is_served(const struct bl_scheme *s)
{
	return s->strategy == BL_STRATEGY_CHANNEL || s->group == 32 || s->group == 64 || s->group == 128;
}

static void check_weight_only(struct bl_verdict *v, const struct question *q)
{
	static const char no_kernel[] = "Failed to find a kernel that can implement the WNA16 linear layer";
	const struct bl_scheme *s = q->s;
	long long n = q->u->rows, k = q->u->cols;
	int cc = q->t->gpu.cc;

	if (s->bits != 4 && s->bits != 8) {
		refuse(v, "R3", "No compressed-tensors compatible scheme was found: %d-bit weights have no kernel (4 and 8 have)", s->bits);
	} else if (cc < 75) {
		refuse(v, "R3", "%s: compute capability %d.%d is below 7.5", no_kernel, cc / 10, cc % 10);
	} else if (s->bits == 8 && !s->symmetric && cc != 90) {
		refuse(v, "R3", "%s: 8-bit weights with zero points", no_kernel);
	} else if (!group_is_served(s)) {
		refuse(v, "R3", "%s: group size %d (32, 64, 128 or per channel)", no_kernel, s->group);
	} else if (s->bits == 8 && s->symmetric && s->strategy == BL_STRATEGY_CHANNEL && cc >= 80 && cc < 90 && n % 16 == 0 && k % 16 == 0) {
		v->kernel = "AllSpark";
	} else if (n % 64) {
		refuse(v, "R3", "%s: N = %lld is not a multiple of 64", no_kernel, n);
	} else if (k % 128) {
		refuse(v, "R3", "%s: K = %lld is not a multiple of 128", no_kernel, k);
	} else if (s->group && k % s->group) {
		refuse(v, "R3", "%s: K = %lld is not a multiple of the group size %d", no_kernel, k, s->group);
	} else {
		v->kernel = cc == 90 && n % 128 == 0 && k % 64 == 0 && s->group != 32 ? "Machete" : "Marlin";
	}
}

static void check_w8a8(struct bl_verdict *v, const struct question *q)
{
	const struct bl_scheme *s = q->s;
	long long n = q->u->rows, k = q->u->cols;

	if (!s->symmetric || s->strategy != BL_STRATEGY_CHANNEL) {
		refuse(v, "R3", "No compressed-tensors compatible scheme was found: W8A8 needs symmetric weights with one scale per channel");
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
	} else if (cc < 89) {
		v->kernel = "Marlin FP8";
		v->rule = "R3";
		snprintf(v->sentence, sizeof v->sentence, "runs as weight-only FP8 (Marlin): this GPU has no FP8 units");
		if (n % 64 || k % 128)
			refuse(v, "R3", "Failed to find a kernel: Marlin FP8 needs N %% 64 == 0 and K %% 128 == 0, they are %lld and %lld", n, k);
	} else if (n % 16 || k % 16) {
		v->kernel = "Triton FP8";
		v->rule = "R3";
		snprintf(v->sentence, sizeof v->sentence, "works through the slower Triton kernel: N = %lld and K = %lld should be multiples of 16", n, k);
	} else {
		v->kernel = "Cutlass FP8";
	}
}

void bl_target_check_unit(struct bl_verdict *v, const struct bl_target *t, const struct bl_model *m, int unit, const struct bl_scheme *s)
{
	struct question q = {t, &m->units[unit], s, m->units[unit].dtype == BL_F16};

	*v = (struct bl_verdict){.legal = true, .kernel = "", .rule = NULL};
	if (s->number == BL_NUM_FULL)
		v->kernel = q.f16 ? "cuBLAS FP16" : "cuBLAS BF16";
	else if (s->group && q.u->cols % s->group)
		refuse(v, "R3", "K = %lld is not a multiple of the group size %d", (long long)q.u->cols, s->group);
	else if (s->number == BL_NUM_FLOAT)
		check_fp8(v, &q);
	else if (s->act == BL_ACT_INT8_TOKEN)
		check_w8a8(v, &q);
	else
		check_weight_only(v, &q);
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
		char *end;
		edited = true;
		value = strtod(e->value, &end);
		if (end == e->value || *end || value < 1 || value > 1e9 || value != (double)(long long)value) {
			add(l, -1, "config", true, "max_position_embeddings: %.100s is not a whole number", *e->value ? e->value : "(removed)");
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
		if (s->number == BL_NUM_FULL)
			continue;
		const char *f = s->number == BL_NUM_FLOAT ? "float-quantized" : s->act == BL_ACT_INT8_TOKEN ? "int-quantized" : "pack-quantized";
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
