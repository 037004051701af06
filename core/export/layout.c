/* SPDX-License-Identifier: Apache-2.0
 * The layout of an export: modules and solvers from the plan, tensors from the exporter, files from the tensors. */
#include "core/export/layout.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/half.h"
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/export/config_out.h"
#include "core/plan/recipe.h"

#define PART_BYTES 5000000000ull
#define SMALL_FILE_MAX (256u << 20)

/* Copied byte for byte when the source has them. */
static const char *const companions[] = {
	"added_tokens.json", "chat_template.jinja", "chat_template.json", "generation_config.json", "merges.txt", "special_tokens_map.json",
	"tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", NULL,
};

static const char *const keep[] = {"lm_head"};

/* ---- modules ---- */

static int solver_for(struct bl_layout *l, const struct bl_export_request *rq, const struct bl_choice *c, struct bl_err *err)
{
	for (int i = 0; i < l->n_solvers; i++) {
		struct bl_solver *s = &l->solvers[i];
		char *text = bl_params_text(s->method->params, s->method->n_params, s->params);
		bool same = bl_scheme_equal(&s->scheme, &c->scheme) && !strcmp(s->method->name, c->method) && !strcmp(text, c->params);
		bl_free(text);
		if (same)
			return i;
	}
	l->solvers = bl_xrealloc(l->solvers, (size_t)l->n_solvers + 1, sizeof *l->solvers);
	memset(&l->solvers[l->n_solvers], 0, sizeof *l->solvers);
	if (bl_solver_init(&l->solvers[l->n_solvers], rq->registry, &c->scheme, c->method, c->params, bl_plan_zero_nonfinite(rq->plan), err))
		return -1;
	return l->n_solvers++;
}

static const char *observer_of(const struct bl_choice *c)
{
	return strstr(c->params, "observer=mse") ? "mse" : "minmax";
}

static void find_solved(struct bl_layout *l, const struct bl_export_request *rq, struct bl_out_module *m, int unit, int j)
{
	const struct bl_unit *u = &rq->model->units[unit];

	m->solved = rq->solved ? rq->solved[unit] : NULL;
	if (bl_plan_choice(rq->plan, unit)->scheme.order)
		m->x.flags |= BL_X_ORDERED;
	for (int k = 0; k < j; k++)
		m->row0 += u->members[k].rows;
	l->n_unsolved += !m->solved && j == 0;
}

/* A static input scale comes from a calibration: without one there is nothing to write. */
static enum bl_status input_scale(struct bl_out_module *m, const struct bl_export_request *rq, const struct bl_exporter *x, int unit, struct bl_err *err)
{
	const struct bl_choice *c = bl_plan_choice(rq->plan, unit);
	float absmax = rq->input_absmax ? rq->input_absmax[unit] : NAN;
	char name[BL_SCHEME_NAME_MAX];

	if (!bl_act_is_static(c->scheme.act))
		return BL_OK;
	if (bl_registry_exporter_version(rq->registry, x) < 2)
		return bl_fail(err, BL_RULE, "%s: format %s: made before static activations were known", m->member->name, x->name);
	bl_scheme_name(name, &c->scheme);
	if (!rq->input_absmax)
		return bl_fail(err, BL_RULE, "%s: %s stores the range of its inputs and there is no calibration: run one first (calibrate --data FILE), or choose %s",
			       m->unit->name, name, c->scheme.act == BL_ACT_FP4_GROUP ? "NVFP4A16" : bl_act_is_fp8(c->scheme.act) ? "FP8_DYNAMIC" : "W8A8");
	if (!isfinite(absmax) || absmax < 0)
		return bl_fail(err, BL_INVALID, "%s: %s stores the range of its inputs, and the calibration found none that is finite", m->unit->name, name);
	m->input_scale = bl_act_input_scale(c->scheme.act, absmax);
	return BL_OK;
}

/* What older plugins cannot know is not given to them. */
static bool knows(uint32_t version, const struct bl_x_module *m)
{
	return version >= 3 || (m->grid.number <= BL_GRID_E4M3 && m->grid.act <= BL_GRID_ACT_FP8_TENSOR && !m->flags && !(m->grid.number == BL_GRID_E4M3 && m->grid.group > 0));
}

typedef int list_v2(const struct bl_x_module *m, struct bl_x_tensor_v2 *out, int cap);

static int list_tensors(const struct bl_exporter *x, uint32_t version, const struct bl_x_module *m, struct bl_x_tensor out[8])
{
	struct bl_x_tensor_v2 old[8];

	if (version >= 3)
		return x->tensors(m, out, 8);
	const int n = ((list_v2 *)(void (*)(void))x->tensors)(m, old, 8);
	for (int i = 0; i < n && i < 8; i++) {
		out[i] = (struct bl_x_tensor){.rank = old[i].rank, .rows_per_step = old[i].rows_per_step, .bytes_per_step = old[i].bytes_per_step};
		memcpy(out[i].suffix, old[i].suffix, sizeof old[i].suffix);
		memcpy(out[i].dtype, old[i].dtype, sizeof old[i].dtype);
		memcpy(out[i].shape, old[i].shape, sizeof old[i].shape);
	}
	return n;
}

/* Asks the exporter. */
static enum bl_status lay_out_module(struct bl_out_module *m, const struct bl_export_request *rq, const struct bl_exporter *x, struct bl_err *err)
{
	const uint32_t version = bl_registry_exporter_version(rq->registry, x);
	const char *why = !knows(version, &m->x) ? "it was made before this scheme was known" : x->refuses ? x->refuses(&m->x) : NULL;

	if (why)
		return bl_fail(err, BL_RULE, "%s [%lld,%lld]: format %s: %s: another scheme, another format or BF16 for it", m->member->name, (long long)m->x.rows,
			       (long long)m->x.cols, x->name, why);
	m->n_tensors = list_tensors(x, version, &m->x, m->tensors);
	if (m->n_tensors < 1 || m->n_tensors > 8)
		return bl_fail(err, BL_FAILED, "%s: exporter %s lists no tensors for it", m->member->name, x->name);
	for (int k = 0; k < m->n_tensors; k++)
		m->whole |= m->tensors[k].rows_per_step == BL_X_WHOLE;
	return BL_OK;
}

static enum bl_status make_solver(struct bl_layout *l, struct bl_out_module *m, const struct bl_export_request *rq, int unit, int j, struct bl_err *err)
{
	const struct bl_choice *c = bl_plan_choice(rq->plan, unit);
	const struct bl_method *method = bl_registry_method(rq->registry, c->method);
	const char *why = NULL;

	if (method && bl_method_whole(rq->registry, method)) {
		struct bl_grid g = m->x.grid;

		if (bl_scheme_is_shared(&c->scheme) && bl_method_trains(rq->registry, method))
			return bl_fail(err, BL_RULE, "%s: method %s: scales over more than a row are not trained", m->member->name, method->name);
		g.group = g.group > 0 ? g.group : 0;
		find_solved(l, rq, m, unit, j);
		why = method->refuses ? method->refuses(&g, m->x.rows, m->x.cols) : NULL;
	} else {
		if ((m->solver = solver_for(l, rq, c, err)) < 0)
			return err->status;
		method = l->solvers[m->solver].method;
	}
	if (m->solver >= 0 && !bl_scheme_is_shared(&c->scheme) && method->refuses)
		why = method->refuses(&m->x.grid, m->x.rows, m->x.cols);
	if (why)
		return bl_fail(err, BL_RULE, "%s [%lld,%lld]: method %s: %s: another scheme or BF16 for it", m->member->name, (long long)m->x.rows, (long long)m->x.cols,
			       method->name, why);
	return BL_OK;
}

/* Which type holds all scales of a linear as they are. */
static uint32_t scale_flags(const struct bl_linear *l, float *scales, int8_t *codes, int8_t *zeros, bool *finite)
{
	const int64_t spr = bl_scheme_scales_per_row(&l->scheme, l->member->cols);
	bool bf16 = true, f16 = true;

	*finite = true;
	for (int64_t row = 0; row < l->member->rows; row++) {
		bl_linear_rows(l, row, 1, codes, scales, zeros);
		for (int64_t g = 0; g < spr; g++) {
			*finite &= isfinite(scales[g]) != 0;
			bf16 &= bl_round_bf16(scales[g]) == scales[g];
			f16 &= bl_f16_f32(bl_f32_f16(scales[g])) == scales[g];
		}
	}
	return BL_X_EXACT | (bf16 ? 0 : f16 ? BL_X_SCALE_F16 : BL_X_SCALE_F32) | (f16 ? 0 : BL_X_SCALE_NOT_F16);
}

struct flags_call { struct bl_out_module *m; };

static enum bl_status find_flags(void *ctx, struct bl_err *err)
{
	struct bl_out_module *m = ((struct flags_call *)ctx)->m;
	const struct bl_linear *l = m->coded;
	const size_t spr = (size_t)bl_scheme_scales_per_row(&l->scheme, l->member->cols);
	float *scales = NULL;
	int8_t *codes = NULL, *zeros = NULL;
	bool finite = true;

	if (bl_try_alloc(&scales, spr, sizeof *scales, "a row", err) == BL_OK && bl_try_alloc(&codes, (size_t)l->member->cols, 1, "a row", err) == BL_OK &&
	    bl_try_alloc(&zeros, spr, 1, "a row", err) == BL_OK)
		m->x.flags = scale_flags(l, scales, codes, zeros, &finite) | (l->scheme.order ? BL_X_ORDERED : 0);
	bl_free(scales);
	bl_free(codes);
	bl_free(zeros);
	if (!err->status && !finite)
		bl_fail(err, BL_INVALID, "%s: has a scale that is not finite", l->member->name);
	return err->status;
}

/* A linear of a quantized checkpoint on its way into another format: nothing is rounded. */
static enum bl_status convert_module(struct bl_layout *l, struct bl_out_module *m, const struct bl_export_request *rq, const struct bl_exporter *x, int unit, int j,
				     struct bl_err *err)
{
	struct flags_call call = {m};

	if (bl_plan_choice(rq->plan, unit)->scheme.number != BL_NUM_FULL)
		return bl_fail(err, BL_UNSUPPORTED, "%s: the checkpoint is already quantized; quantize the original", m->member->name);
	const struct bl_linear *from = bl_source_linear(l->source, unit, j);
	if (!from->format)
		return BL_OK;
	if (from->scheme.nested) /* what a client makes of its scales is all that is left of them */
		return bl_fail(err, BL_RULE, "%s: its scales are quantized again, which only its own format holds: the conversion would not be lossless", m->member->name);
	m->coded = from;
	m->x.quantized = 1;
	m->x.method = "stored";
	m->x.observer = NULL;
	m->x.grid = bl_grid_of(&from->scheme);
	m->input_scale = bl_linear_input(from);
	if (bl_guard_run(find_flags, &call, err))
		return err->status;
	return lay_out_module(m, rq, x, err);
}

/* It stays in full precision; its values are the method's. */
static enum bl_status prune_module(struct bl_layout *l, struct bl_out_module *m, const struct bl_export_request *rq, int unit, int j, struct bl_err *err)
{
	const struct bl_choice *c = bl_plan_choice(rq->plan, unit);
	const struct bl_method *method = bl_registry_method(rq->registry, c->method);
	const struct bl_grid g = bl_grid_of(&c->scheme);
	const char *why = !method || !bl_method_whole(rq->registry, method) ? "does not prune (sparsegpt and wanda do)" : method->refuses(&g, m->x.rows, m->x.cols);
	const struct bl_tensor *t = m->member->weight;

	if (why)
		return bl_fail(err, BL_RULE, "%s: method %s: %s", m->member->name, c->method, why);
	if (!t || t->dtype != BL_BF16)
		return bl_fail(err, BL_UNSUPPORTED, "%s: only bfloat16 weights are pruned without quantizing them", m->member->name);
	find_solved(l, rq, m, unit, j);
	if (!m->solved)
		return BL_OK;
	m->pruned = *t;
	m->pruned.data = (void *)(m->solved->codes + m->row0 * m->solved->cols * m->solved->code_bytes);
	return BL_OK;
}

static enum bl_status make_module(struct bl_layout *l, const struct bl_export_request *rq, const struct bl_exporter *x, int unit, int j, struct bl_err *err)
{
	const struct bl_unit *u = &rq->model->units[unit];
	const struct bl_choice *c = bl_plan_choice(rq->plan, unit);
	struct bl_out_module *m = &l->modules[l->n_modules];

	m->member = &u->members[j];
	m->unit = u;
	m->solver = -1;
	m->x = (struct bl_x_module){.name = m->member->name, .unit = u->name, .rows = m->member->rows, .cols = m->member->cols, .method = c->method,
				    .observer = observer_of(c), .quantized = !bl_scheme_is_full(&c->scheme)};
	if (l->source) {
		if (convert_module(l, m, rq, x, unit, j, err))
			return err->status;
	} else if (m->x.quantized) {
		if (!m->member->weight)
			return bl_fail(err, BL_UNSUPPORTED, "%s: the checkpoint is already quantized; quantize the original", m->member->name);
		m->x.grid = bl_grid_of(&c->scheme);
		if (input_scale(m, rq, x, unit, err) || make_solver(l, m, rq, unit, j, err) || lay_out_module(m, rq, x, err))
			return err->status;
	}
	if (!l->source && c->scheme.number == BL_NUM_PRUNED && prune_module(l, m, rq, unit, j, err))
		return err->status;
	l->n_modules++;
	return BL_OK;
}

/* Whether a format is the checkpoint's own: then it is copied as it is. */
static bool is_own_format(const struct bl_model *m, const char *format)
{
	const char *a = m->config.quant_method, *b = format;

	for (; *a && *b; a++, b++)
		if (*a != *b && !(*a == '-' && *b == '_'))
			return false;
	return *a == *b;
}

static enum bl_status make_modules(struct bl_layout *l, const struct bl_export_request *rq, const struct bl_exporter *x, struct bl_err *err)
{
	int64_t n = 0;

	for (int i = 0; i < rq->model->n_units; i++)
		n += rq->model->units[i].n_members;
	if (bl_try_alloc(&l->modules, (size_t)n + 1, sizeof *l->modules, "the list of linears", err) ||
	    bl_try_alloc(&l->plan_modules, (size_t)n + 1, sizeof *l->plan_modules, "the list of linears", err))
		return err->status;
	for (int i = 0; i < rq->model->n_units; i++)
		for (int j = 0; j < rq->model->units[i].n_members; j++)
			if (make_module(l, rq, x, i, j, err))
				return err->status;
	for (int64_t i = 0; i < l->n_modules; i++)
		l->plan_modules[i] = l->modules[i].x;
	snprintf(l->tool, sizeof l->tool, "bitlathe %s", BL_VERSION);
	l->plan = (struct bl_x_plan){.modules = l->plan_modules, .n_modules = l->n_modules, .keep = keep, .n_keep = 1, .tool = l->tool};
	snprintf(l->format, sizeof l->format, "%s", x->format(&l->plan));
	if (!l->format[0] && rq->model->config.quantized) /* copied as it is */
		snprintf(l->format, sizeof l->format, "%s", rq->model->config.quant_method);
	return BL_OK;
}

/* ---- tensors ---- */

static enum bl_status add_module_tensors(struct bl_layout *l, int64_t index, struct bl_err *err)
{
	struct bl_out_module *m = &l->modules[index];

	for (int k = 0; k < m->n_tensors; k++) {
		const struct bl_x_tensor *x = &m->tensors[k];
		struct bl_out_tensor *o = &l->tensors[l->n_tensors];
		struct bl_str name = {0};
		int dtype = bl_dtype_from(x->dtype);
		int64_t elems = 1;

		if (dtype < 0 || x->rank < 0 || x->rank > 4)
			return bl_fail(err, BL_FAILED, "%s.%s: the exporter gives it no valid type or shape", m->x.name, x->suffix);
		bl_str_addf(&name, "%s.%s", m->x.name, x->suffix);
		o->own_name = bl_str_take(&name);
		o->t = (struct bl_tensor){.name = o->own_name, .dtype = (enum bl_dtype)dtype, .rank = x->rank};
		for (int d = 0; d < x->rank; d++) {
			o->t.shape[d] = x->shape[d];
			elems *= x->shape[d];
		}
		o->t.n_elems = elems;
		o->t.bytes = (uint64_t)elems * (uint64_t)bl_dtype_bytes(o->t.dtype);
		o->module = index;
		o->which = k;
		l->n_tensors++;
		int64_t steps = x->rows_per_step > 0 ? (m->x.rows + x->rows_per_step - 1) / x->rows_per_step : 0;
		if (x->rows_per_step < BL_X_WHOLE || (x->rows_per_step > 0 && (64 % x->rows_per_step || (uint64_t)(steps * x->bytes_per_step) < o->t.bytes)))
			return bl_fail(err, BL_FAILED, "%s: the exporter's rows do not make up the tensor", o->own_name);
	}
	return BL_OK;
}

/* Whether a tensor of the source is the weight of a linear that is quantized, or a part of one that is converted. */
static bool replaced(const struct bl_layout *l, const struct bl_tensor *t)
{
	for (int64_t i = 0; i < l->n_modules; i++) {
		const struct bl_out_module *m = &l->modules[i];
		const size_t n = strlen(m->x.name);

		if (m->member->weight == t)
			return m->x.quantized;
		if (m->coded && t != m->member->bias && !strncmp(t->name, m->x.name, n) && t->name[n] == '.')
			return true;
	}
	return false;
}

const struct bl_tensor *bl_layout_values(const struct bl_layout *l, const struct bl_tensor *t)
{
	for (int64_t i = 0; i < l->n_modules; i++)
		if (l->modules[i].member->weight == t)
			return l->modules[i].pruned.data ? &l->modules[i].pruned : t;
	return t;
}

static enum bl_status make_tensors(struct bl_layout *l, const struct bl_export_request *rq, struct bl_err *err)
{
	const struct bl_model *m = rq->model;
	size_t n = (size_t)m->n_tensors + 1;

	for (int64_t i = 0; i < l->n_modules; i++)
		n += (size_t)l->modules[i].n_tensors;
	if (bl_try_alloc(&l->tensors, n, sizeof *l->tensors, "the list of tensors", err))
		return err->status;
	for (int64_t i = 0; i < m->n_tensors; i++) {
		if (replaced(l, m->tensors[i]) || (m->head_stored_and_tied && m->tensors[i] == m->head))
			continue;
		struct bl_out_tensor *o = &l->tensors[l->n_tensors++];
		o->t = *m->tensors[i];
		o->copy = bl_layout_values(l, m->tensors[i]);
		o->module = -1;
	}
	for (int64_t i = 0; i < l->n_modules; i++)
		if (add_module_tensors(l, i, err))
			return err->status;
	return BL_OK;
}

/* ---- files ---- */

static struct bl_out_file *add_file(struct bl_layout *l, const char *name)
{
	l->files = bl_xrealloc(l->files, (size_t)l->n_files + 1, sizeof *l->files);
	struct bl_out_file *f = &l->files[l->n_files++];
	memset(f, 0, sizeof *f);
	f->name = bl_xstrdup(name);
	return f;
}

/* In which part a tensor goes: modules stay whole. Fills o->file with the part number, returns how many parts. */
static int split(struct bl_layout *l, uint64_t part_bytes)
{
	uint64_t in_part = 0;
	int part = 0;
	int64_t last_module = -1;

	for (int64_t i = 0; i < l->n_tensors; i++) {
		struct bl_out_tensor *o = &l->tensors[i];
		uint64_t bytes = o->t.bytes;
		bool starts = o->module < 0 || o->module != last_module;
		if (o->module >= 0 && starts)
			for (int64_t k = i + 1; k < l->n_tensors && l->tensors[k].module == o->module; k++)
				bytes += l->tensors[k].t.bytes;
		if (starts && in_part && in_part + bytes > part_bytes) {
			part++;
			in_part = 0;
		}
		o->file = part;
		in_part += o->t.bytes;
		last_module = o->module;
	}
	return part + 1;
}

static void add_index(struct bl_layout *l)
{
	uint64_t bytes = 0, elems = 0;
	cJSON *root = cJSON_CreateObject(), *meta = cJSON_AddObjectToObject(root, "metadata"), *map = cJSON_CreateObject();

	for (int64_t i = 0; i < l->n_tensors; i++) {
		bytes += l->tensors[i].t.bytes;
		elems += (uint64_t)l->tensors[i].t.n_elems;
		cJSON_AddStringToObject(map, l->tensors[i].t.name, l->files[l->tensors[i].file].name);
	}
	bl_json_add_int(meta, "total_parameters", (int64_t)elems);
	bl_json_add_int(meta, "total_size", (int64_t)bytes);
	cJSON_AddItemToObject(root, "weight_map", map);
	struct bl_out_file *f = add_file(l, "model.safetensors.index.json");
	bl_json_print(&f->head, root, 2, true);
	bl_str_addc(&f->head, '\n');
	f->bytes = f->head.len;
	cJSON_Delete(root);
}

static enum bl_status make_weight_files(struct bl_layout *l, uint64_t part_bytes, struct bl_err *err)
{
	int parts = split(l, part_bytes ? part_bytes : PART_BYTES);
	struct bl_tensor *list = NULL;

	if (bl_try_alloc(&list, (size_t)l->n_tensors + 1, sizeof *list, "the list of tensors", err))
		return err->status;
	for (int p = 0; p < parts; p++) {
		char name[64];
		int64_t n = 0;

		if (parts == 1)
			snprintf(name, sizeof name, "model.safetensors");
		else
			snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", p + 1, parts);
		struct bl_out_file *f = add_file(l, name);
		f->weights = true;
		for (int64_t i = 0; i < l->n_tensors; i++)
			if (l->tensors[i].file == p) {
				list[n] = l->tensors[i].t;
				list[n++].file = (int)i; /* which one it is, through the sort */
			}
		f->bytes = bl_st_layout(list, n, &f->head);
		for (int64_t k = 0; k < n; k++)
			l->tensors[list[k].file].t.offset = list[k].offset;
	}
	for (int64_t i = 0; i < l->n_tensors; i++)
		if (l->tensors[i].module >= 0)
			l->modules[l->tensors[i].module].tensor_at[l->tensors[i].which] = i;
	if (parts > 1)
		add_index(l);
	bl_free(list);
	return BL_OK;
}

static enum bl_status add_companions(struct bl_layout *l, const struct bl_model *m, struct bl_err *err)
{
	for (int i = 0; companions[i]; i++) {
		char *path = bl_path_join(m->dir, companions[i]), *text = NULL;
		size_t n = 0;

		if (bl_is_file(path) && bl_read_file(&text, &n, path, SMALL_FILE_MAX, false, err) == BL_OK) {
			struct bl_out_file *f = add_file(l, companions[i]);
			bl_str_addn(&f->head, text, n);
			f->bytes = n;
		}
		bl_free(text);
		bl_free(path);
		if (err->status)
			return err->status;
	}
	return BL_OK;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct bl_out_file *)a)->name, ((const struct bl_out_file *)b)->name);
}

enum bl_status bl_layout_make(struct bl_layout *l, const struct bl_export_request *rq, struct bl_err *err)
{
	const char *format = rq->format ? rq->format : bl_plan_format(rq->plan);
	const struct bl_exporter *x = bl_registry_exporter(rq->registry, format);

	memset(l, 0, sizeof *l);
	if (!x)
		return bl_fail(err, BL_USAGE, "no export format is called \"%s\": `bitlathe plugins` lists them", format);
	if (rq->model->config.quantized && !is_own_format(rq->model, x->name) && bl_source_open(&l->source, rq->model, true, err))
		goto fail;
	if (make_modules(l, rq, x, err) || make_tensors(l, rq, err) || make_weight_files(l, rq->part_bytes, err))
		goto fail;
	int weights = l->n_files; /* tensors know their file by index: the weight files stay in front */
	struct bl_out_file *config = add_file(l, "config.json");
	if (bl_config_out(&config->head, &l->edits, rq, x, &l->plan, err))
		goto fail;
	config->bytes = config->head.len;
	if (add_companions(l, rq->model, err))
		goto fail;
	struct bl_out_file *recipe = add_file(l, "recipe.yaml");
	bl_recipe_print(&recipe->head, rq->plan, rq->model, l->tool);
	recipe->bytes = recipe->head.len;
	qsort(l->files + weights, (size_t)(l->n_files - weights), sizeof *l->files, by_name);
	for (int i = 0; i < l->n_files; i++)
		l->bytes_total += l->files[i].bytes;
	return BL_OK;
fail:
	bl_layout_free(l);
	return err->status;
}

void bl_layout_free(struct bl_layout *l)
{
	for (int64_t i = 0; i < l->n_tensors; i++)
		bl_free(l->tensors[i].own_name);
	for (int i = 0; i < l->n_files; i++) {
		bl_free(l->files[i].name);
		bl_str_free(&l->files[i].head);
	}
	for (int i = 0; i < l->n_solvers; i++)
		bl_solver_fini(&l->solvers[i]);
	bl_free(l->modules);
	bl_free(l->plan_modules);
	bl_free(l->tensors);
	bl_free(l->files);
	bl_free(l->solvers);
	bl_source_close(l->source);
	bl_str_free(&l->edits);
	memset(l, 0, sizeof *l);
}
