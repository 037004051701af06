/* SPDX-License-Identifier: Apache-2.0
 * Opening a checkpoint: config, files, tensors, units. Only headers are read. */
#include "core/model/model.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/model/index.h"
#include "core/model/locate.h"

#define CONFIG_MAX_BYTES (16u << 20)
#define TENSORS_MAX 1000000

void bl_model_problem(struct bl_model *m, const char *fmt, ...)
{
	struct bl_str b = {0};
	va_list ap;

	va_start(ap, fmt);
	bl_str_vaddf(&b, fmt, ap);
	va_end(ap);
	m->problems = bl_xrealloc(m->problems, (size_t)m->n_problems + 1, sizeof *m->problems);
	size_t cap = 4 * b.len + 1;
	m->problems[m->n_problems] = bl_xalloc(cap, 1);
	bl_printable(m->problems[m->n_problems++], cap, bl_str_c(&b));
	bl_str_free(&b);
}

/* ---- tensors ---- */

static int by_name(const void *a, const void *b)
{
	const struct bl_tensor *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

static enum bl_status gather(struct bl_model *m, struct bl_err *err)
{
	int64_t n = 0;

	for (int f = 0; f < m->n_files; f++)
		n += m->files[f].st.n_tensors;
	if (n > TENSORS_MAX)
		return bl_fail(err, BL_INVALID, "%s: its files list %" PRId64 " tensors, more than %d", m->title, n, TENSORS_MAX);
	if (bl_try_alloc(&m->tensors, (size_t)n + 1, sizeof *m->tensors, "the tensor list", err))
		return err->status;
	for (int f = 0; f < m->n_files; f++)
		for (int64_t i = 0; i < m->files[f].st.n_tensors; i++) {
			struct bl_tensor *t = &m->files[f].st.tensors[i];
			t->file = f;
			m->tensors[m->n_tensors++] = t;
			m->bytes += t->bytes;
			m->parameters += (uint64_t)t->n_elems;
		}
	qsort(m->tensors, (size_t)n, sizeof *m->tensors, by_name);
	for (int64_t i = 1; i < n; i++)
		if (!strcmp(m->tensors[i]->name, m->tensors[i - 1]->name))
			return bl_fail(err, BL_INVALID, "%s: stored in %s and in %s", m->tensors[i]->name, m->files[m->tensors[i - 1]->file].name,
				       m->files[m->tensors[i]->file].name);
	return BL_OK;
}

const struct bl_tensor *bl_model_tensor(const struct bl_model *m, const char *name)
{
	int64_t lo = 0, hi = m->n_tensors;

	while (lo < hi) {
		int64_t mid = lo + (hi - lo) / 2;
		int c = strcmp(m->tensors[mid]->name, name);
		if (!c)
			return m->tensors[mid];
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

static bool plain_float(const struct bl_tensor *t)
{
	return t->dtype == BL_BF16 || t->dtype == BL_F16 || t->dtype == BL_F32;
}

static void shape_text(char *dst, size_t cap, const int64_t *shape, int rank)
{
	size_t at = 0;

	dst[0] = '\0';
	for (int d = 0; d < rank && at < cap; d++)
		at += (size_t)snprintf(dst + at, cap - at, "%s%" PRId64, d ? "," : "", shape[d]);
}

/* Finds a tensor and compares shape and dtype; *out NULL when it is absent and not required. cols 0: a vector. */
static enum bl_status expect(const struct bl_model *m, const struct bl_tensor **out, const char *name, int64_t rows, int64_t cols, bool required,
			     struct bl_err *err)
{
	const struct bl_tensor *t = bl_model_tensor(m, name);
	const int64_t want[2] = {rows, cols};
	const int rank = cols ? 2 : 1;
	char is[BL_RANK_MAX * 22], wanted[2 * 22];

	*out = NULL;
	if (!t)
		return required ? bl_fail(err, BL_INVALID, "%s: missing from the checkpoint", name) : BL_OK;
	if (t->rank != rank || t->shape[0] != rows || (cols && t->shape[1] != cols)) {
		shape_text(is, sizeof is, t->shape, t->rank);
		shape_text(wanted, sizeof wanted, want, rank);
		return bl_fail(err, BL_INVALID, "%s: has shape [%s], config.json says [%s]", name, is, wanted);
	}
	if (!plain_float(t))
		return bl_fail(err, BL_UNSUPPORTED, "%s: dtype %s is not supported (BF16, F16, F32 are)", name, bl_dtype_name(t->dtype));
	*out = t;
	return BL_OK;
}

/* ---- units ---- */

static void member_shape(const struct bl_config *c, enum bl_unit_kind kind, int j, bool alone, int64_t *rows, int64_t *cols)
{
	int64_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;

	*rows = kind == BL_UNIT_QKV ? (alone ? q + 2 * kv : j == 0 ? q : kv) : kind == BL_UNIT_GATE_UP ? (alone ? 2 : 1) * c->ffn : c->hidden;
	*cols = kind == BL_UNIT_O ? q : kind == BL_UNIT_DOWN ? c->ffn : c->hidden;
}

/* Of all tensors NAME.something: what a quantized checkpoint stores for a linear. */
static uint64_t bytes_below(const struct bl_model *m, const char *name)
{
	const size_t len = strlen(name);
	int64_t lo = 0, hi = m->n_tensors;
	uint64_t bytes = 0;

	while (lo < hi) {
		const int64_t mid = lo + (hi - lo) / 2;

		if (strcmp(m->tensors[mid]->name, name) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; lo < m->n_tensors && !strncmp(m->tensors[lo]->name, name, len); lo++)
		bytes += m->tensors[lo]->name[len] == '.' ? m->tensors[lo]->bytes : 0;
	return bytes;
}

static enum bl_status build_member(struct bl_model *m, struct bl_unit *u, const struct bl_arch_unit *row, int j, struct bl_err *err)
{
	struct bl_member *mem = &u->members[j];
	char name[256];

	member_shape(&m->config, u->kind, j, !row->member[1], &mem->rows, &mem->cols);
	snprintf(name, sizeof name, "model.layers.%d.%s", u->block, row->member[j]);
	mem->name = bl_xstrdup(name);
	mem->unit = u;
	snprintf(name, sizeof name, "%s.weight", mem->name);
	const struct bl_tensor *t = bl_model_tensor(m, name);
	if (t && !plain_float(t) && m->config.quantized)
		t = NULL; /* the codes of a quantized checkpoint */
	else if (expect(m, &t, name, mem->rows, mem->cols, !m->config.quantized, err))
		return err->status;
	mem->weight = t;
	snprintf(name, sizeof name, "%s.bias", mem->name);
	bool wanted = row->bias[j] || (m->config.attention_bias && u->kind <= BL_UNIT_O) || (m->config.mlp_bias && u->kind >= BL_UNIT_GATE_UP);
	if (wanted && expect(m, &mem->bias, name, mem->rows, 0, true, err)) /* one that is not wanted no server reads: surplus */
		return err->status;
	u->rows += mem->rows;
	u->cols = mem->cols;
	if (t) {
		if (j && u->members[0].weight && u->dtype != t->dtype)
			return bl_fail(err, BL_UNSUPPORTED, "%s.weight: is %s, %s.weight is %s: parts of one fused layer must have one dtype", mem->name,
				       bl_dtype_name(t->dtype), u->members[0].name, bl_dtype_name(u->dtype));
		u->dtype = t->dtype;
		u->bytes += t->bytes;
	}
	if (mem->bias && t)
		u->bytes += mem->bias->bytes;
	if (!t)
		u->bytes += bytes_below(m, mem->name);
	return BL_OK;
}

static enum bl_status build_units(struct bl_model *m, struct bl_err *err)
{
	if (bl_try_alloc(&m->units, (size_t)m->config.layers * BL_UNIT_KIND_COUNT, sizeof *m->units, "the unit list", err))
		return err->status;
	for (int b = 0; b < m->config.layers; b++)
		for (int k = 0; k < BL_UNIT_KIND_COUNT; k++) {
			const struct bl_arch_unit *row = &m->arch->units[k];
			struct bl_unit *u = &m->units[m->n_units++];
			char name[256];

			u->kind = row->kind;
			u->block = b;
			u->dtype = BL_BF16;
			snprintf(name, sizeof name, "model.layers.%d.%s", b, row->fused);
			u->name = bl_xstrdup(name);
			for (; u->n_members < BL_MEMBERS_MAX && row->member[u->n_members]; u->n_members++)
				if (build_member(m, u, row, u->n_members, err)) {
					u->n_members++;
					return err->status;
				}
		}
	return BL_OK;
}

static enum bl_status check_rest(struct bl_model *m, struct bl_err *err)
{
	const struct bl_config *c = &m->config;
	const struct bl_tensor *t;
	char name[256];

	if (expect(m, &m->embed, "model.embed_tokens.weight", c->vocab, c->hidden, true, err) ||
	    expect(m, &t, "model.norm.weight", c->hidden, 0, true, err) ||
	    expect(m, &m->head, "lm_head.weight", c->vocab, c->hidden, !c->tied, err))
		return err->status;
	m->head_stored_and_tied = c->tied && m->head;
	for (int b = 0; b < c->layers; b++)
		for (int i = 0; i < 8 && m->arch->block_tensors[i]; i++) {
			bool per_head = strstr(m->arch->block_tensors[i], "_norm.weight") && !strstr(m->arch->block_tensors[i], "layernorm");
			snprintf(name, sizeof name, "model.layers.%d.%s", b, m->arch->block_tensors[i]);
			int64_t heads = !m->arch->qk_norm_whole ? 1 : strstr(m->arch->block_tensors[i], "q_norm") ? c->heads : c->kv_heads;
			if (expect(m, &t, name, per_head ? heads * c->head_dim : c->hidden, 0, true, err))
				return err->status;
		}
	return BL_OK;
}

/* ---- what is not understood ---- */

static bool known_tensor(const struct bl_model *m, const char *name)
{
	char *end;

	if (!strcmp(name, "model.embed_tokens.weight") || !strcmp(name, "model.norm.weight") || !strcmp(name, "lm_head.weight"))
		return true;
	if (strstr(name, "rotary_emb.inv_freq"))
		return true;
	if (!bl_starts_with(name, "model.layers.") || !isdigit((unsigned char)name[13]))
		return false;
	long b = strtol(name + 13, &end, 10);
	if (b < 0 || b >= m->config.layers || *end != '.' || (name[13] == '0' && end > name + 14))
		return false;
	for (int i = 0; i < 8 && m->arch->block_tensors[i]; i++)
		if (!strcmp(end + 1, m->arch->block_tensors[i]))
			return true;
	for (int k = 0; k < BL_UNIT_KIND_COUNT; k++)
		for (int j = 0; j < m->units[b * BL_UNIT_KIND_COUNT + k].n_members; j++) {
			const struct bl_member *mem = &m->units[b * BL_UNIT_KIND_COUNT + k].members[j];
			size_t len = strlen(mem->name);
			if (strncmp(name, mem->name, len) || name[len] != '.')
				continue;
			if (!strcmp(name + len, ".weight") || (mem->bias && !strcmp(name + len, ".bias")) || m->config.quantized)
				return true;
		}
	return false;
}

static void note_surplus(struct bl_model *m)
{
	int64_t n = 0;
	struct bl_str names = {0};

	for (int64_t i = 0; i < m->n_tensors; i++)
		if (!known_tensor(m, m->tensors[i]->name) && ++n <= 3)
			bl_str_addf(&names, "%s%.120s", n > 1 ? ", " : "", m->tensors[i]->name);
	if (n)
		bl_model_problem(m, "%" PRId64 " tensor%s not understood (%s%s): an export copies %s unchanged, a server may refuse %s", n,
				 n == 1 ? "" : "s", bl_str_c(&names), n > 3 ? ", ..." : "", n == 1 ? "it" : "them", n == 1 ? "it" : "them");
	bl_str_free(&names);
}

static void note_config(struct bl_model *m)
{
	const struct bl_config *c = &m->config;
	bool any = false;

	if (c->quantized)
		bl_model_problem(m, "already quantized (%s): it can be inspected, verified, evaluated and converted to formats that hold the same numbers, not quantized again", c->quant_method);
	if (c->v5_spelling)
		bl_model_problem(m, "config.json is in the spelling of transformers 5: servers that pin 4.57 ignore its rope_parameters in silence; an export writes the "
				    "4.57 spelling");
	if (m->head_stored_and_tied)
		bl_model_problem(m, "lm_head.weight is stored although the embedding is tied: %" PRIu64 " bytes for nothing; an export leaves it out", m->head->bytes);
	for (int64_t i = 0; i < c->layers; i++)
		any |= c->sliding[i];
	if (c->sliding_window && m->arch->rope_only_sliding && !any)
		bl_model_problem(m, "sliding_window is set but no layer slides: transformers and vLLM disagree about RoPE there");
	if (!c->architecture[0])
		bl_model_problem(m, "config.json names no architectures: a server cannot choose the model class; add [\"%s\"]", m->arch->architecture);
	else if (strcmp(c->architecture, m->arch->architecture))
		bl_model_problem(m, "architectures is %s, model_type %s goes with %s: a server loads the former and may find other tensors than it expects",
				 c->architecture, c->model_type, m->arch->architecture);
}

/* Weight files beside the ones that were opened. */
static void note_files(struct bl_model *m)
{
	char **names = NULL;
	size_t n = 0;
	int stale = 0;
	const char *first = NULL;
	struct bl_err ignored = BL_ERR_INIT;

	if (bl_list_dir(&names, &n, m->dir, &ignored))
		return;
	for (size_t i = 0; i < n; i++) {
		bool opened = !bl_ends_with(names[i], ".safetensors");
		for (int f = 0; f < m->n_files && !opened; f++)
			opened = !strcmp(m->files[f].name, names[i]);
		if (!opened && !stale++)
			first = names[i];
	}
	if (stale)
		bl_model_problem(m, "%d weight file%s not part of the model (%.100s%s): %s not read here; a server may take %s for weights, move %s away", stale,
				 stale == 1 ? " is" : "s are", first, stale > 1 ? ", ..." : "", stale == 1 ? "it is" : "they are", stale == 1 ? "it" : "them",
				 stale == 1 ? "it" : "them");
	bl_list_free(names);
}

struct digest_call { struct bl_model *m; const char *config; size_t n; struct bl_sha256 h; };

/* Reads the mapped headers once more, so it runs guarded: the file may have shrunk since. */
static enum bl_status make_digest(void *ctx, struct bl_err *err)
{
	struct digest_call *call = ctx;
	struct bl_model *m = call->m;

	(void)err;
	bl_sha256_init(&call->h);
	bl_sha256_add(&call->h, call->config, call->n);
	for (int f = 0; f < m->n_files; f++) {
		int64_t numbers[2] = {(int64_t)m->files[f].st.map.bytes, m->files[f].st.map.mtime_ns};
		bl_sha256_add(&call->h, m->files[f].name, strlen(m->files[f].name) + 1);
		bl_sha256_add(&call->h, numbers, sizeof numbers);
		if (m->files[f].st.map.path)
			bl_sha256_add(&call->h, m->files[f].st.map.data, 8 + m->files[f].st.header_bytes);
	}
	bl_sha256_hex(&call->h, m->digest);
	return BL_OK;
}

/* ---- open and close ---- */

static enum bl_status open_files(struct bl_model *m, char **names, size_t n, struct bl_err *err)
{
	if (bl_try_alloc(&m->files, n + 1, sizeof *m->files, "the file list", err))
		return err->status;
	for (size_t i = 0; i < n; i++) {
		char *path = bl_path_join(m->dir, names[i]);
		enum bl_status s = bl_st_open(&m->files[i].st, path, err);
		bl_free(path);
		if (s)
			return s;
		m->files[i].name = bl_xstrdup(names[i]);
		m->n_files++;
	}
	return BL_OK;
}

/* Everything behind the files: what they hold, whether it fits the config, what is noteworthy. */
static enum bl_status understand(struct bl_model *m, const struct bl_file_list *list, const char *text, size_t n, const char *label, struct bl_err *err)
{
	if (bl_arch_find(&m->arch, &m->config, err))
		return bl_err_prefix(err, "%s", label);
	if (gather(m, err) || bl_weight_map_check(list, m, err) || build_units(m, err) || check_rest(m, err))
		return err->status;
	struct digest_call call = {.m = m, .config = text, .n = n};
	if (bl_guard_run(make_digest, &call, err)) {
		bl_sha256_drop(&call.h);
		return err->status;
	}
	note_surplus(m);
	note_config(m);
	return BL_OK;
}

static enum bl_status open_all(struct bl_model *m, const char *only_file, struct bl_err *err)
{
	char *path = bl_path_join(m->dir, "config.json"), *text = NULL;
	struct bl_file_list list = {0};
	size_t n = 0;

	if (!bl_is_file(path) && access(path, F_OK)) /* what is there but no file is named as such by the reader */
		bl_fail(err, BL_NOT_FOUND, "%s: no config.json there: not a checkpoint folder", m->dir);
	else if (!bl_read_file(&text, &n, path, CONFIG_MAX_BYTES, true, err) && !bl_config_parse(&m->config, text, n, path, err) &&
		 !bl_weight_files(&list, m->dir, only_file, err) && !open_files(m, list.names, list.n, err))
		understand(m, &list, text, n, path, err);
	if (!err->status && !only_file)
		note_files(m);
	bl_file_list_free(&list);
	bl_free(text);
	bl_free(path);
	return err->status;
}

enum bl_status bl_model_open_parts(struct bl_model **out, const char *title, const char *config, size_t config_bytes, const struct bl_model_part *parts, int n_parts,
				   struct bl_err *err)
{
	struct bl_model *m = bl_xalloc(1, sizeof *m);
	struct bl_file_list none = {0};

	m->id = bl_xstrdup(title);
	m->dir = bl_xstrdup("");
	m->title = bl_xstrdup(title);
	m->files = bl_xalloc((size_t)n_parts + 1, sizeof *m->files);
	bl_config_parse(&m->config, config, config_bytes, "config.json", err);
	for (int i = 0; i < n_parts && !err->status; i++) {
		if (bl_st_parse(&m->files[i].st, parts[i].data, parts[i].bytes, parts[i].name, err))
			break;
		m->files[i].name = bl_xstrdup(parts[i].name);
		m->n_files++;
	}
	if (err->status || understand(m, &none, config, config_bytes, "config.json", err)) {
		bl_model_close(m);
		return err->status;
	}
	*out = m;
	return BL_OK;
}

enum bl_status bl_model_open(struct bl_model **out, const char *id, struct bl_err *err)
{
	struct bl_place place;

	if (bl_locate(&place, id, err))
		return err->status;
	struct bl_model *m = bl_xalloc(1, sizeof *m);
	m->id = bl_xstrdup(id);
	m->dir = place.dir;
	m->title = place.title;
	place.dir = place.title = NULL;
	open_all(m, place.only_file, err);
	bl_place_free(&place);
	if (err->status) {
		bl_model_close(m);
		return err->status;
	}
	*out = m;
	return BL_OK;
}

void bl_model_close(struct bl_model *m)
{
	if (!m)
		return;
	for (int i = 0; i < m->n_units; i++) {
		for (int j = 0; j < m->units[i].n_members; j++)
			bl_free(m->units[i].members[j].name);
		bl_free(m->units[i].name);
	}
	for (int i = 0; i < m->n_problems; i++)
		bl_free(m->problems[i]);
	for (int f = 0; f < m->n_files; f++) {
		bl_st_close(&m->files[f].st);
		bl_free(m->files[f].name);
	}
	bl_config_fini(&m->config);
	bl_free(m->units);
	bl_free(m->problems);
	bl_free(m->files);
	bl_free(m->tensors);
	bl_free(m->id);
	bl_free(m->dir);
	bl_free(m->title);
	bl_free(m);
}

int bl_model_unit(const struct bl_model *m, const char *name)
{
	char *end;

	for (int i = 0; i < m->n_units; i++) {
		if (!strcmp(m->units[i].name, name))
			return i;
		for (int j = 0; j < m->units[i].n_members; j++)
			if (!strcmp(m->units[i].members[j].name, name))
				return i;
	}
	if (!isdigit((unsigned char)*name))
		return -1;
	long block = strtol(name, &end, 10);
	if (block < 0 || block >= m->config.layers || (*end != '.' && *end != ' '))
		return -1;
	for (int i = 0; i < m->n_units; i++)
		if (m->units[i].block == block && !strcmp(bl_unit_kind_name(m->units[i].kind), end + 1))
			return i;
	return -1;
}
