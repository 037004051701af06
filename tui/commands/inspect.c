/* SPDX-License-Identifier: Apache-2.0
 * inspect: what a checkpoint is, from its headers alone. */
#include <inttypes.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/format/format.h"
#include "tui/cli.h"

static void shape_json(cJSON *o, int64_t rows, int64_t cols)
{
	cJSON *s = cJSON_AddArrayToObject(o, "shape");

	cJSON_AddItemToArray(s, cJSON_CreateNumber((double)rows));
	cJSON_AddItemToArray(s, cJSON_CreateNumber((double)cols));
}

/* As what a unit is stored: a scheme, "?" when it is not understood; NULL: in full precision. dst >= BL_SCHEME_NAME_MAX */
static const char *stored_as(char *dst, const struct bl_source *s, int unit)
{
	struct bl_scheme scheme;

	if (!s)
		return NULL;
	if (!bl_source_scheme(s, unit, &scheme))
		return "?";
	return scheme.number == BL_NUM_FULL ? NULL : bl_scheme_name(dst, &scheme);
}

static void to_json(cJSON *j, const struct bl_model *m, const struct bl_source *s)
{
	const struct bl_config *c = &m->config;
	cJSON *o = cJSON_AddObjectToObject(j, "model"), *units = cJSON_AddArrayToObject(j, "units"), *problems = cJSON_AddArrayToObject(j, "problems");

	cJSON_AddStringToObject(o, "id", m->id);
	cJSON_AddStringToObject(o, "title", m->title);
	cJSON_AddStringToObject(o, "architecture", c->architecture[0] ? c->architecture : m->arch->architecture);
	cJSON_AddStringToObject(o, "model_type", c->model_type);
	const struct { const char *key; int64_t v; } numbers[] = {
		{"layers", c->layers}, {"hidden", c->hidden}, {"ffn", c->ffn}, {"heads", c->heads}, {"kv_heads", c->kv_heads}, {"head_dim", c->head_dim},
		{"vocab", c->vocab}, {"max_positions", c->max_positions}, {"sliding_window", c->sliding_window}, {"parameters", (int64_t)m->parameters},
		{"bytes", (int64_t)m->bytes}, {"tensors", m->n_tensors}, {"files", m->n_files},
	};
	for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
		bl_json_add_int(o, numbers[i].key, numbers[i].v);
	cJSON_AddBoolToObject(o, "tied", c->tied);
	cJSON_AddBoolToObject(o, "quantized", c->quantized);
	if (c->quantized)
		cJSON_AddStringToObject(o, "quant_method", c->quant_method);
	cJSON_AddStringToObject(o, "digest", m->digest);
	for (int i = 0; i < m->n_units; i++) {
		const struct bl_unit *u = &m->units[i];
		cJSON *e = cJSON_CreateObject(), *members;
		cJSON_AddStringToObject(e, "name", u->name);
		members = cJSON_AddArrayToObject(e, "members");
		for (int k = 0; k < u->n_members; k++)
			cJSON_AddItemToArray(members, cJSON_CreateString(u->members[k].name));
		shape_json(e, u->rows, u->cols);
		char name[BL_SCHEME_NAME_MAX];
		const char *scheme = stored_as(name, s, i);
		if (c->quantized)
			cJSON_AddStringToObject(e, "scheme", scheme ? scheme : "BF16");
		cJSON_AddStringToObject(e, "dtype", u->members[0].weight ? bl_dtype_name(u->dtype) : "quantized");
		bl_json_add_int(e, "bytes", (int64_t)u->bytes);
		bl_json_add_int(e, "block", u->block);
		cJSON_AddStringToObject(e, "kind", bl_unit_kind_name(u->kind));
		cJSON_AddItemToArray(units, e);
	}
	for (int i = 0; i < m->n_problems; i++)
		cJSON_AddItemToArray(problems, cJSON_CreateString(m->problems[i]));
}

/* How many units are stored in which scheme, in the order of their first one. */
static void schemes_text(struct bl_cli *cli, const struct bl_model *m, const struct bl_source *s)
{
	struct bl_str line = {0};
	char a[BL_SCHEME_NAME_MAX], b[BL_SCHEME_NAME_MAX];

	for (int i = 0; i < m->n_units; i++) {
		const char *name = stored_as(a, s, i);
		int n = 0;
		bool seen = false;

		name = name ? name : "BF16";
		for (int k = 0; k < m->n_units; k++) {
			const char *other = stored_as(b, s, k);
			const bool equal = !strcmp(other ? other : "BF16", name);
			seen |= equal && k < i;
			n += equal;
		}
		if (!seen)
			bl_str_addf(&line, "%s%d x %s", line.len ? ", " : "", n, name);
	}
	bl_cli_wrapped(cli, 14, "  schemes     %s", bl_str_c(&line));
	bl_str_free(&line);
}

static void to_text(struct bl_cli *cli, const struct bl_model *m, const struct bl_source *s)
{
	const struct bl_config *c = &m->config;
	char size[32], stored[BL_SCHEME_NAME_MAX];
	int n_sliding = 0;

	for (int64_t i = 0; i < c->layers; i++)
		n_sliding += c->sliding[i];
	bl_cli_line(cli, "%s", m->title);
	bl_cli_line(cli, "  family      %s (%s)", c->model_type, c->architecture[0] ? c->architecture : m->arch->architecture);
	bl_cli_line(cli, "  blocks      %" PRId64 ", hidden %" PRId64 ", ffn %" PRId64, c->layers, c->hidden, c->ffn);
	bl_cli_line(cli, "  attention   %" PRId64 " heads, %" PRId64 " kv heads of %" PRId64 "%s", c->heads, c->kv_heads, c->head_dim,
		    m->arch->qk_norm ? ", q and k normalised" : "");
	if (n_sliding)
		bl_cli_line(cli, "  window      %" PRId64 " tokens in %d of %" PRId64 " blocks", c->sliding_window, n_sliding, c->layers);
	bl_cli_line(cli, "  vocabulary  %" PRId64 ", head %s", c->vocab, c->tied ? "tied to the embedding" : "of its own");
	bl_cli_line(cli, "  parameters  %" PRIu64 " in %" PRId64 " tensors, %d file%s, %s", m->parameters, m->n_tensors, m->n_files, m->n_files == 1 ? "" : "s",
		    bl_human_bytes(size, sizeof size, (double)m->bytes));
	bl_cli_line(cli, "  units       %d: what a server treats as one linear layer", m->n_units);
	if (s)
		schemes_text(cli, m, s);
	for (int k = 0; k < BL_UNIT_KIND_COUNT && k < m->n_units; k++) {
		const struct bl_unit *u = &m->units[k];
		const char *name = stored_as(stored, s, k);
		bl_cli_line(cli, "    %-8s  %6" PRId64 " x %-6" PRId64 " %-5s %-9s x %" PRId64 " blocks", bl_unit_kind_name(u->kind), u->rows, u->cols,
			    u->members[0].weight ? bl_dtype_name(u->dtype) : name && strcmp(name, "?") ? name : "codes", bl_human_bytes(size, sizeof size, (double)u->bytes), c->layers);
	}
	bl_cli_line(cli, "  embedding and head stay in full precision");
	for (int i = 0; i < m->n_problems; i++)
		bl_cli_wrapped(cli, 4, "  ! %s", m->problems[i]);
	for (int i = 0; cli->verbose && i < m->n_tensors; i++)
		bl_cli_line(cli, "  %-60s %-5s %12" PRIu64, m->tensors[i]->name, bl_dtype_name(m->tensors[i]->dtype), m->tensors[i]->bytes);
}

enum bl_status bl_cmd_inspect(struct bl_cli *c, struct bl_err *err)
{
	struct bl_model *m;
	struct bl_source *s = NULL;
	struct bl_err why = BL_ERR_INIT; /* of a method that is not read: the rest is worth showing */

	if (bl_model_open(&m, c->o.args[0], err))
		return err->status;
	if (m->config.quantized && bl_source_open(&s, m, false, &why))
		bl_str_addf(&c->remarks, "%s\n", why.text);
	if (c->json)
		to_json(c->json, m, s);
	else
		to_text(c, m, s);
	bl_source_close(s);
	bl_model_close(m);
	return BL_OK;
}
