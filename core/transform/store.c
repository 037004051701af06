/* SPDX-License-Identifier: Apache-2.0
 * A head, then per block the number of operations, then each: kind, pair, its numbers. The head carries the sum of everything behind it. */
#include "core/transform/store.h"

#include <math.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/base/log.h"
#include "core/base/mem.h"

#define FILE_MAX (1u << 30)
#define OPS_MAX  (BL_STAGES_MAX * BL_FOLD_LEGAL)

struct head { char magic[8]; uint32_t producer, layers; char key[64]; struct bl_sum body; };

static char *path_of(const char *cache_dir, const char *key)
{
	struct bl_str s = { 0 };

	bl_str_addf(&s, "%s/folds/%s.bin", cache_dir, key);
	return bl_str_take(&s);
}

static size_t number_bytes(const struct bl_model *m, enum bl_op_kind kind, enum bl_fold_pair pair)
{
	return kind == BL_OP_HADAMARD ? 0 : 4 * (size_t)bl_channels_of(m, pair).n;
}

void fold_save(const struct bl_ops *ops, const struct bl_model *m, const char *cache_dir, const char *key)
{
	struct head h = { .magic = "BLFOLD", .producer = FOLD_PRODUCER, .layers = (uint32_t)m->config.layers };
	char *path = path_of(cache_dir, key), *folder = bl_path_join(cache_dir, "folds");
	struct bl_err err = BL_ERR_INIT;
	struct bl_str out = { 0 };

	memcpy(h.key, key, sizeof h.key);
	bl_str_addn(&out, &h, sizeof h);
	for (int b = 0; b < m->config.layers; b++) {
		uint32_t n = (uint32_t)ops[b].n;

		bl_str_addn(&out, &n, 4);
		for (int i = 0; i < ops[b].n; i++) {
			const struct bl_op *op = &ops[b].at[i];
			uint32_t what[2] = { op->kind, op->pair };

			bl_str_addn(&out, what, sizeof what);
			if (op->kind != BL_OP_HADAMARD)
				bl_str_addn(&out, op->kind == BL_OP_SCALE ? (void *)op->mul : (void *)op->from, number_bytes(m, op->kind, op->pair));
		}
	}
	h.body = bl_sum_add(h.body, out.s + sizeof h, out.len - sizeof h);
	memcpy(out.s, &h, sizeof h);
	if (bl_mkdirs(folder, 0755, &err) || bl_write_file(path, out.s, out.len, 0644, &err))
		bl_log(BL_LOG_WARN, "the numbers of the plan's stages are not kept: %s", err.text);
	bl_str_free(&out);
	bl_free(folder);
	bl_free(path);
}

static bool numbers_ok(const struct bl_op *op, const struct bl_channels *c)
{
	uint8_t *seen = bl_xalloc((size_t)c->n + 1, 1);
	bool ok = true;

	for (int64_t i = 0; ok && i < c->n; i++) {
		if (op->kind == BL_OP_SCALE) {
			ok = isfinite(op->mul[i]) && op->mul[i] > 0;
			continue;
		}
		const int64_t from = op->from[i], span = c->head ? c->head : c->n;

		ok = from >= 0 && from < c->n && from / span == i / span && !seen[from];
		if (ok)
			seen[from] = 1;
	}
	bl_free(seen);
	return ok;
}

static bool take(const char **at, const char *end, void *to, size_t n)
{
	if ((size_t)(end - *at) < n)
		return false;
	memcpy(to, *at, n);
	*at += n;
	return true;
}

static bool read_block(struct bl_ops *ops, const struct bl_model *m, const char **at, const char *end)
{
	uint32_t n, what[2];

	if (!take(at, end, &n, 4) || n > OPS_MAX)
		return false;
	for (uint32_t i = 0; i < n; i++) {
		if (!take(at, end, what, sizeof what) || what[0] > BL_OP_HADAMARD || what[1] >= BL_FOLD_LEGAL)
			return false;
		const struct bl_channels c = bl_channels_of(m, (enum bl_fold_pair)what[1]);
		struct bl_op *op = bl_ops_add(ops, (enum bl_op_kind)what[0], (enum bl_fold_pair)what[1], c.n);
		if (op->kind == BL_OP_HADAMARD ? !c.head : !take(at, end, op->kind == BL_OP_SCALE ? (void *)op->mul : (void *)op->from, 4 * (size_t)c.n) || !numbers_ok(op, &c))
			return false;
	}
	return true;
}

enum bl_status fold_load(struct bl_ops *ops, const struct bl_model *m, const char *cache_dir, const char *key, struct bl_err *err)
{
	char *path = path_of(cache_dir, key), *text = NULL;
	struct bl_sum body = { 0, 0 };
	struct head h = { .layers = 0 };
	size_t n = 0;
	bool ok;

	if (!bl_is_file(path)) {
		bl_fail(err, BL_NOT_FOUND, "%s: is not there", path);
		goto done;
	}
	if (bl_read_file(&text, &n, path, FILE_MAX, false, err))
		goto done;
	const char *at = text, *end = text + n;
	ok = take(&at, end, &h, sizeof h) && !strncmp(h.magic, "BLFOLD", sizeof h.magic) && h.producer == FOLD_PRODUCER && h.layers == (uint32_t)m->config.layers &&
	     !memcmp(h.key, key, sizeof h.key);
	body = ok ? bl_sum_add(body, at, (size_t)(end - at)) : body;
	ok = ok && body.a == h.body.a && body.b == h.body.b;
	for (int b = 0; ok && b < m->config.layers; b++)
		ok = read_block(&ops[b], m, &at, end);
	if (!ok || at != end) {
		for (int b = 0; b < m->config.layers; b++)
			bl_ops_free(&ops[b]);
		bl_fail(err, BL_MISMATCH, "%s: is damaged", path);
	}
done:
	bl_free(text);
	bl_free(path);
	return err->status;
}
