/* SPDX-License-Identifier: Apache-2.0
 * quantization_config of GPTQ and AutoRound. The scheme of most linears is the default; others, and what stays in full precision, are named one by one: each
 * pattern covers the parts of a unit and the name under which a server fuses them, because clients look for either. */
#include <stdio.h>
#include <string.h>

#include "plugins/exporters/gptq/gptq.h"

struct pen { const struct bl_host *host; void *out; };

static void text(const struct pen *p, const char *s)
{
	p->host->text(p->out, s);
}

/* A name inside of a JSON string; pattern: as a pattern that matches it alone. */
static void name(const struct pen *p, const char *s, int pattern)
{
	char c[8];

	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			snprintf(c, sizeof c, "\\%c", *s);
		else if (pattern && *s == '.')
			snprintf(c, sizeof c, "\\\\.");
		else
			snprintf(c, sizeof c, "%c", *s);
		text(p, c);
	}
}

static int same(const struct bl_x_module *a, const struct bl_x_module *b)
{
	return a->quantized == b->quantized && a->grid.bits == b->grid.bits && a->grid.symmetric == b->grid.symmetric && a->grid.group == b->grid.group &&
	       (a->flags & BL_X_ORDERED) == (b->flags & BL_X_ORDERED);
}

/* The quantized module whose settings most others share; -1: none is quantized. */
static int64_t usual(const struct bl_x_plan *p)
{
	int64_t best = -1, most = 0;

	for (int64_t i = 0; i < p->n_modules; i++) {
		int64_t n = 0;
		int seen = !p->modules[i].quantized;

		for (int64_t k = 0; k < i && !seen; k++)
			seen = same(&p->modules[k], &p->modules[i]);
		for (int64_t k = i; k < p->n_modules && !seen; k++)
			n += same(&p->modules[k], &p->modules[i]);
		if (n > most) {
			most = n;
			best = i;
		}
	}
	return best;
}

static void settings(const struct pen *p, const struct bl_x_module *m, enum gptq_kind kind)
{
	char line[200];

	snprintf(line, sizeof line, "\"bits\":%u,\"group_size\":%lld,\"sym\":%s", m->grid.bits, m->grid.group ? (long long)m->grid.group : -1ll,
		 m->grid.symmetric ? "true" : "false");
	text(p, line);
	if (kind != GPTQ_AUTO_ROUND)
		text(p, m->flags & BL_X_ORDERED ? ",\"desc_act\":true" : ",\"desc_act\":false");
}

/* Modules that differ from `lead`, unit by unit. */
static void exceptions(const struct pen *p, const struct bl_x_plan *plan, const struct bl_x_module *lead)
{
	int n = 0;

	for (int64_t i = 0; i < plan->n_modules; i++) {
		const struct bl_x_module *m = &plan->modules[i];

		if (same(m, lead) || (i && !strcmp(plan->modules[i - 1].unit, m->unit) && same(&plan->modules[i - 1], m)))
			continue;
		text(p, n++ ? ",\"" : "\"");
		text(p, m->quantized ? "+:^(" : "-:^(");
		name(p, m->unit, 1);
		for (int64_t k = i; k < plan->n_modules && !strcmp(plan->modules[k].unit, m->unit); k++)
			if (same(&plan->modules[k], m) && strcmp(plan->modules[k].name, m->unit)) {
				text(p, "|");
				name(p, plan->modules[k].name, 1);
			}
		text(p, ")$\":{");
		if (m->quantized)
			settings(p, m, GPTQ_V1);
		text(p, "}");
	}
}

static void extra_config(const struct pen *p, const struct bl_x_plan *plan, const struct bl_x_module *lead)
{
	int n = 0;

	for (int64_t i = 0; i < plan->n_modules; i++) {
		const struct bl_x_module *m = &plan->modules[i];

		if (same(m, lead))
			continue;
		text(p, n++ ? ",\"" : "\"");
		name(p, m->name, 0);
		text(p, "\":{");
		if (m->quantized)
			settings(p, m, GPTQ_AUTO_ROUND);
		else
			text(p, "\"bits\":16,\"data_type\":\"fp\"");
		text(p, "}");
	}
}

const char *gptq_config(const struct bl_x_plan *plan, const struct bl_host *host, void *out, enum gptq_kind kind)
{
	struct pen pen = {host, out}, *p = &pen;
	const int64_t at = usual(plan);

	if (at < 0)
		return NULL;
	const struct bl_x_module *lead = &plan->modules[at];
	text(p, "{");
	settings(p, lead, kind);
	if (kind == GPTQ_AUTO_ROUND) {
		text(p, ",\"quant_method\":\"auto-round\",\"packing_format\":\"auto_round:auto_gptq\",\"data_type\":\"int\",\"block_name_to_quantize\":\"model.layers\","
			"\"autoround_version\":\"0.14.0\",\"extra_config\":{");
		extra_config(p, plan, lead);
		text(p, "}}");
		return NULL;
	}
	text(p, ",\"quant_method\":\"gptq\",\"lm_head\":false,\"pack_dtype\":\"int32\",\"true_sequential\":true,\"static_groups\":false,\"damp_percent\":0.01,");
	text(p, kind == GPTQ_V2 ? "\"checkpoint_format\":\"gptq_v2\",\"format\":\"gptq_v2\"," : "\"checkpoint_format\":\"gptq\",\"format\":\"gptq\",");
	text(p, "\"meta\":{\"quantizer\":[\"");
	for (const char *s = plan->tool; *s; s++) { /* "bitlathe 0.1.0" is "bitlathe:0.1.0" there */
		const char c[2] = {*s == ' ' ? ':' : *s, '\0'};
		name(p, c, 0);
	}
	text(p, "\"]},\"dynamic\":{");
	exceptions(p, plan, lead);
	text(p, "}}");
	return NULL;
}
