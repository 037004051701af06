/* SPDX-License-Identifier: Apache-2.0
 * The quantization_config object. One scheme: targets "Linear" and exact names in ignore, the shape of the real exports. Several: exact
 * names only, each in one group, no classes and no regular expressions, because servers and transformers rank those differently. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugins/exporters/compressed_tensors/ct.h"

static int same_grid(const struct bl_grid *a, const struct bl_grid *b)
{
	return a->number == b->number && a->bits == b->bits && a->symmetric == b->symmetric && a->act == b->act && a->group == b->group;
}

/* Whether module i is the first of its scheme. */
static int leads(const struct bl_x_plan *p, int64_t i)
{
	for (int64_t k = 0; k < i; k++)
		if (p->modules[k].quantized && same_grid(&p->modules[k].grid, &p->modules[i].grid))
			return 0;
	return p->modules[i].quantized;
}

const char *ct_plan_format(const struct bl_x_plan *p)
{
	const char *format = "";

	for (int64_t i = 0; i < p->n_modules; i++) {
		if (!p->modules[i].quantized)
			continue;
		const char *f = ct_format(&p->modules[i].grid);
		if (*format && strcmp(format, f))
			return "mixed-precision";
		format = f;
	}
	return format;
}

/* ---- text ---- */

struct pen { const struct bl_host *host; void *out; };

static void text(const struct pen *p, const char *s)
{
	p->host->text(p->out, s);
}

static void quoted(const struct pen *p, const char *s)
{
	char c[8];

	text(p, "\"");
	for (; *s; s++) {
		unsigned char u = (unsigned char)*s;
		if (u == '"' || u == '\\')
			snprintf(c, sizeof c, "\\%c", u);
		else if (u < 0x20)
			snprintf(c, sizeof c, "\\u%04x", u);
		else
			snprintf(c, sizeof c, "%c", u);
		text(p, c);
	}
	text(p, "\"");
}

static void args(const struct pen *p, const char *key, const struct bl_grid *g, const char *observer)
{
	char line[400], group[24] = "null";

	if (g->group > 0)
		snprintf(group, sizeof group, "%lld", (long long)g->group);
	snprintf(line, sizeof line,
		 "\"%s\":{\"actorder\":null,\"block_structure\":null,\"dynamic\":false,\"group_size\":%s,\"num_bits\":%u,\"observer\":\"%s\","
		 "\"observer_kwargs\":{},\"scale_dtype\":null,\"strategy\":\"%s\",\"symmetric\":%s,\"type\":\"%s\",\"zp_dtype\":%s}",
		 key, group, g->bits, observer && *observer ? observer : "minmax", g->group > 0 ? "group" : g->group < 0 ? "tensor" : "channel", g->symmetric ? "true" : "false",
		 g->number == BL_GRID_E4M3 ? "float" : "int", g->symmetric ? "null" : "\"torch.int8\"");
	text(p, line);
}

static void activations(const struct pen *p, const struct bl_grid *g)
{
	char line[400];

	if (g->act == BL_GRID_ACT_NONE) {
		text(p, "\"input_activations\":null");
		return;
	}
	snprintf(line, sizeof line,
		 "\"input_activations\":{\"actorder\":null,\"block_structure\":null,\"dynamic\":%s,\"group_size\":null,\"num_bits\":8,\"observer\":%s,"
		 "\"observer_kwargs\":{},\"scale_dtype\":null,\"strategy\":\"%s\",\"symmetric\":true,\"type\":\"%s\",\"zp_dtype\":null}",
		 ct_is_static(g) ? "false" : "true", ct_is_static(g) ? "\"minmax\"" : "null", ct_is_static(g) ? "tensor" : "token", ct_is_int8(g) ? "int" : "float");
	text(p, line);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static const char *targets(const struct pen *p, const struct bl_x_plan *plan, int64_t lead)
{
	const char **names = malloc(sizeof *names * (size_t)(plan->n_modules + 1));
	int64_t n = 0;

	if (!names)
		return "not enough memory for the list of targets";
	for (int64_t i = 0; i < plan->n_modules; i++)
		if (plan->modules[i].quantized && same_grid(&plan->modules[i].grid, &plan->modules[lead].grid))
			names[n++] = plan->modules[i].name;
	qsort(names, (size_t)n, sizeof *names, by_text);
	for (int64_t i = 0; i < n; i++) {
		text(p, i ? "," : "");
		quoted(p, names[i]);
	}
	free(names);
	return NULL;
}

static const char *group(const struct pen *p, const struct bl_x_plan *plan, int64_t lead, int number, int only)
{
	const struct bl_x_module *m = &plan->modules[lead];
	char head[96];

	snprintf(head, sizeof head, "%s\"group_%d\":{\"format\":\"%s\",", number ? "," : "", number, ct_format(&m->grid));
	text(p, head);
	activations(p, &m->grid);
	text(p, ",\"output_activations\":null,\"targets\":[");
	if (only)
		text(p, "\"Linear\"");
	else {
		const char *why = targets(p, plan, lead);
		if (why)
			return why;
	}
	text(p, "],");
	args(p, "weights", &m->grid, m->observer);
	text(p, "}");
	return NULL;
}

const char *ct_config(const struct bl_x_plan *plan, const struct bl_host *host, void *out)
{
	struct pen pen = {host, out}, *p = &pen;
	int groups = 0, number = 0;

	for (int64_t i = 0; i < plan->n_modules; i++)
		groups += leads(plan, i);
	if (!groups)
		return NULL;
	text(p, "{\"config_groups\":{");
	for (int64_t i = 0; i < plan->n_modules; i++)
		if (leads(plan, i)) {
			const char *why = group(p, plan, i, number++, groups == 1);
			if (why)
				return why;
		}
	text(p, "},\"format\":\"");
	text(p, ct_plan_format(plan));
	text(p, "\",\"global_compression_ratio\":null,\"ignore\":[");
	number = 0;
	for (int64_t i = 0; i < plan->n_modules; i++)
		if (!plan->modules[i].quantized) {
			text(p, number++ ? "," : "");
			quoted(p, plan->modules[i].name);
		}
	for (int i = 0; i < plan->n_keep; i++) {
		text(p, number++ ? "," : "");
		quoted(p, plan->keep[i]);
	}
	text(p, "],\"kv_cache_scheme\":null,\"quant_method\":\"compressed-tensors\",\"quantization_status\":\"compressed\",\"sparsity_config\":{},"
		"\"transform_config\":{},\"version\":\"0.13.0\"}");
	return NULL;
}
