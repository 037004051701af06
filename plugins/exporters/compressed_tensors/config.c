/* SPDX-License-Identifier: Apache-2.0
 * The quantization_config object. One scheme: targets "Linear" and exact names in ignore, the shape of the real exports. Several: exact
 * names only, each in one group, no classes and no regular expressions, because servers and transformers rank those differently. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugins/exporters/compressed_tensors/ct.h"

static int same(const struct bl_x_module *x, const struct bl_x_module *y)
{
	const struct bl_grid *a = &x->grid, *b = &y->grid;

	return a->number == b->number && a->bits == b->bits && a->symmetric == b->symmetric && a->act == b->act && a->group == b->group &&
	       (x->flags & BL_X_ORDERED) == (y->flags & BL_X_ORDERED);
}

/* Whether module i is the first of its scheme. */
static int leads(const struct bl_x_plan *p, int64_t i)
{
	for (int64_t k = 0; k < i; k++)
		if (p->modules[k].quantized && same(&p->modules[k], &p->modules[i]))
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

/* How weights and inputs are described: the twelve keys that both libraries know, and no other. */
struct args {
	const char *key, *actorder, *block, *dynamic, *observer, *scale_dtype, *strategy, *type, *zp_dtype;
	int64_t group;
	unsigned bits;
	int symmetric;
};

static void args(const struct pen *p, const struct args *a)
{
	char line[500], group[24] = "null";

	if (a->group > 0)
		snprintf(group, sizeof group, "%lld", (long long)a->group);
	snprintf(line, sizeof line,
		 "\"%s\":{\"actorder\":%s,\"block_structure\":%s,\"dynamic\":%s,\"group_size\":%s,\"num_bits\":%u,\"observer\":%s,"
		 "\"observer_kwargs\":{},\"scale_dtype\":%s,\"strategy\":\"%s\",\"symmetric\":%s,\"type\":\"%s\",\"zp_dtype\":%s}",
		 a->key, a->actorder, a->block, a->dynamic, group, a->bits, a->observer, a->scale_dtype, a->strategy, a->symmetric ? "true" : "false", a->type, a->zp_dtype);
	text(p, line);
}

static void weights(const struct pen *p, const struct bl_x_module *m)
{
	const struct bl_grid *g = &m->grid;
	const int block = ct_is_block(g), nv = g->number == BL_GRID_E2M1 && g->group == 16;
	char observer[64];

	snprintf(observer, sizeof observer, "\"%.40s\"", m->observer && *m->observer ? m->observer : "minmax");
	args(p, &(struct args){
		.key = "weights",
		.actorder = m->flags & BL_X_ORDERED ? "\"group\"" : "null",
		.block = block ? "[128,128]" : "null",
		.dynamic = "false",
		.observer = observer,
		.scale_dtype = nv ? "\"torch.float8_e4m3fn\"" : g->number == BL_GRID_E2M1 || g->number == BL_GRID_MX_E4M3 ? "\"torch.uint8\"" : "null",
		.strategy = block ? "block" : nv ? "tensor_group" : g->group > 0 ? "group" : g->group < 0 ? "tensor" : "channel",
		.type = g->number == BL_GRID_INT ? "int" : "float",
		.zp_dtype = g->symmetric ? "null" : "\"torch.int8\"",
		.group = block ? 0 : g->group,
		.bits = g->bits,
		.symmetric = g->symmetric != 0,
	});
}

static void activations(const struct pen *p, const struct bl_grid *g)
{
	struct args a = {.key = "input_activations", .actorder = "null", .block = "null", .dynamic = "true", .observer = "null", .scale_dtype = "null",
			 .strategy = "token", .type = ct_is_int8(g) ? "int" : "float", .zp_dtype = "null", .bits = 8, .symmetric = 1};

	if (g->act == BL_GRID_ACT_NONE) {
		text(p, "\"input_activations\":null");
		return;
	}
	if (ct_is_static(g)) {
		a.dynamic = "false";
		a.observer = "\"minmax\"";
		a.strategy = "tensor";
	} else if (g->act == BL_GRID_ACT_FP8_GROUP) {
		a.strategy = "group";
		a.group = 128;
	} else if (g->act == BL_GRID_ACT_FP4_GROUP) {
		a.dynamic = "\"local\"";
		a.observer = "\"minmax\"";
		a.scale_dtype = "\"torch.float8_e4m3fn\"";
		a.strategy = "tensor_group";
		a.group = 16;
		a.bits = 4;
	}
	args(p, &a);
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
		if (plan->modules[i].quantized && same(&plan->modules[i], &plan->modules[lead]))
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
	weights(p, m);
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
