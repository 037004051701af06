/* SPDX-License-Identifier: Apache-2.0
 * The way back: gradients of the divergence with respect to weights of every unit against differences of the forward, for every family; what is rounded passes
 * straight through; the taped block is the block. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/half.h"
#include "core/base/rng.h"
#include "core/forward/tape.h"

#define WINDOWS 2
#define LENGTH 13
#define TOKENS (WINDOWS * LENGTH)
#define BLOCKS_MOST 3
#define EPS 5e-4

static struct machine machine;

struct net { /* the first blocks of a model with weights of its own, in float32 */
	struct bl_model *m;
	struct bl_forward *f;
	struct bl_tape *t;
	int blocks;
	struct bl_tape_weight w[BLOCKS_MOST * BL_UNIT_KIND_COUNT];
	float *host[BLOCKS_MOST * BL_UNIT_KIND_COUNT], *grad[BLOCKS_MOST * BL_UNIT_KIND_COUNT];
	struct bk_mat x[BLOCKS_MOST + 1], base, d, again;
	int32_t ids[TOKENS];
};

static struct bk_mat device(int64_t rows, int64_t cols)
{
	struct bk_mat m = { NULL, rows, cols, cols, BK_F32 };
	struct bl_err err = BL_ERR_INIT;

	if (bl_engine_alloc(&machine.engine, &m.p, (size_t)(rows * cols) * 4, "a matrix", &err))
		fail_msg("%s", err.text);
	return m;
}

static void put(const struct bk_mat *m, const float *v) { assert_int_equal(machine.engine.ops->put(machine.engine.run, m->p, v, (size_t)(m->rows * m->cols) * 4), 0); }

static float weight_at(const struct bl_tensor *t, int64_t i)
{
	uint16_t h;
	float v;

	if (t->dtype == BL_F32) {
		memcpy(&v, (const char *)t->data + 4 * i, 4);
		return v;
	}
	memcpy(&h, (const char *)t->data + 2 * i, 2);
	return bl_bf16_f32(h);
}

/* Weights are the model's, each moved by a part of it, so that there is a divergence. */
static void net_open(struct net *n, struct bl_model *m, enum bl_weights_act act)
{
	struct bl_forward_options o = { .fp32 = true };
	struct bl_err err = BL_ERR_INIT;
	struct bl_rng rng;

	bl_rng_seed(&rng, 7);
	*n = (struct net){ .m = m, .blocks = m->config.layers < BLOCKS_MOST ? (int)m->config.layers : BLOCKS_MOST };
	if (bl_forward_new(&n->f, m, &machine.engine, &o, &err) || bl_tape_new(&n->t, n->f, WINDOWS, LENGTH, &err))
		fail_msg("%s", err.text);
	assert_int_equal(bl_tape_tokens(n->t), TOKENS);
	for (int i = 0; i < TOKENS; i++)
		n->ids[i] = (int32_t)(bl_rng_u64(&rng) % (uint64_t)m->config.vocab);
	for (int i = 0; i < n->blocks * BL_UNIT_KIND_COUNT; i++) {
		const struct bl_unit *u = &m->units[i];
		int64_t at = 0;

		n->host[i] = bl_xalloc((size_t)(u->rows * u->cols), sizeof(float));
		n->grad[i] = bl_xalloc((size_t)(u->rows * u->cols), sizeof(float));
		for (int j = 0; j < u->n_members; j++)
			for (int64_t k = 0; k < u->members[j].rows * u->cols; k++, at++) {
				float v = weight_at(u->members[j].weight, k);
				n->host[i][at] = v * (1 + 0.1f * bl_rng_normal(&rng));
			}
		n->w[i] = (struct bl_tape_weight){ .w = device(u->rows, u->cols), .act = act, .input_scale = 0.05f };
		put(&n->w[i].w, n->host[i]);
	}
	for (int i = 0; i <= n->blocks; i++)
		n->x[i] = device(TOKENS, m->config.hidden);
	n->base = device(TOKENS, m->config.hidden);
	n->d = device(TOKENS, m->config.hidden);
	n->again = device(TOKENS, m->config.hidden);
}

static void net_close(struct net *n)
{
	for (int i = 0; i < n->blocks * BL_UNIT_KIND_COUNT; i++) {
		bl_engine_release(&machine.engine, n->w[i].w.p);
		bl_free(n->host[i]);
		bl_free(n->grad[i]);
	}
	for (int i = 0; i <= n->blocks; i++)
		bl_engine_release(&machine.engine, n->x[i].p);
	bl_engine_release(&machine.engine, n->base.p);
	bl_engine_release(&machine.engine, n->d.p);
	bl_engine_release(&machine.engine, n->again.p);
	bl_tape_free(n->t);
	bl_forward_free(n->f);
	bl_model_close(n->m);
}

/* The base: the model's own blocks, through the pass that everything else uses. */
static void base(struct net *n)
{
	int64_t start[WINDOWS + 1];
	struct bl_sequences s = { n->ids, start, WINDOWS };
	struct bl_pass *p = NULL;
	struct bl_err err = BL_ERR_INIT;

	for (int i = 0; i <= WINDOWS; i++)
		start[i] = i * LENGTH;
	if (bl_pass_new(&p, n->f, &s, &err) || bl_pass_embed(p, &err))
		fail_msg("%s", err.text);
	for (int b = 0; b < n->blocks; b++)
		if (bl_pass_block(p, b, NULL, NULL, &err))
			fail_msg("%s", err.text);
	for (int i = 0; i < WINDOWS; i++)
		if (bl_tape_take(n->t, p, i, &n->base, i, &err))
			fail_msg("%s", err.text);
	bl_pass_free(p);
}

static double loss(struct net *n, bool gradient)
{
	struct bl_err err = BL_ERR_INIT;
	double kl = 0;

	if (bl_tape_embed(n->t, n->ids, &n->x[0], &err))
		fail_msg("%s", err.text);
	for (int b = 0; b < n->blocks; b++)
		if (bl_tape_block(n->t, b, n->w + b * BL_UNIT_KIND_COUNT, &n->x[b], &n->x[b + 1], &err))
			fail_msg("%s", err.text);
	if (bl_tape_kl(n->t, &n->x[n->blocks], &n->base, gradient ? &n->d : NULL, &kl, &err))
		fail_msg("%s", err.text);
	return kl / TOKENS;
}

static enum bl_status keep_gradient(void *ctx, int unit, const struct bk_mat *g, struct bl_err *err)
{
	struct net *n = ctx;

	return bl_engine_check(&machine.engine, machine.engine.ops->get(machine.engine.run, n->grad[unit], g->p, (size_t)(g->rows * g->cols) * 4), "a gradient", err);
}

static void gradients(struct net *n)
{
	const struct bl_tape_sink sink = { .ctx = n, .gradient = keep_gradient };
	struct bl_err err = BL_ERR_INIT;

	loss(n, true);
	for (int b = n->blocks - 1; b >= 0; b--) {
		const struct bl_tape_weight *w = n->w + b * BL_UNIT_KIND_COUNT;

		if ((b < n->blocks - 1 && bl_tape_block(n->t, b, w, &n->x[b], &n->again, &err)) || bl_tape_back(n->t, b, w, &n->x[b], &n->d, b > 0, &sink, &err))
			fail_msg("%s", err.text);
	}
}

static double moved(struct net *n, int unit, const float *r, float by)
{
	const int64_t count = n->w[unit].w.rows * n->w[unit].w.cols;
	float *w = bl_xalloc((size_t)count, sizeof *w);

	for (int64_t i = 0; i < count; i++)
		w[i] = n->host[unit][i] + by * r[i];
	put(&n->w[unit].w, w);
	double kl = loss(n, false);
	put(&n->w[unit].w, n->host[unit]);
	bl_free(w);
	return kl;
}

/* Along a direction that is partly the gradient's own (else the sum of many small terms would say little) and partly chance. */
static void check_unit(struct net *n, int unit, const char *name)
{
	const int64_t count = n->w[unit].w.rows * n->w[unit].w.cols;
	float *r = bl_xalloc((size_t)count, sizeof *r);
	double g2 = 0, w2 = 0, along = 0;
	struct bl_rng rng;

	bl_rng_seed(&rng, (uint64_t)unit + 1);
	for (int64_t i = 0; i < count; i++) {
		g2 += (double)n->grad[unit][i] * n->grad[unit][i];
		w2 += (double)n->host[unit][i] * n->host[unit][i];
	}
	assert_true(g2 > 0);
	for (int64_t i = 0; i < count; i++) {
		r[i] = (float)(sqrt(w2 / g2) * n->grad[unit][i] + 0.5 * sqrt(w2 / (double)count) * bl_rng_normal(&rng));
		along += (double)r[i] * n->grad[unit][i];
	}
	const double e = EPS, one = (moved(n, unit, r, (float)e) - moved(n, unit, r, (float)-e)) / (2 * e), two = (moved(n, unit, r, (float)(2 * e)) - moved(n, unit, r, (float)(-2 * e))) / (4 * e);
	const double there = (4 * one - two) / 3; /* without the third order */

	if (fabs(there - along) > 0.01 * fabs(along) + 1e-6)
		fail_msg("%s, unit %d: %.8g by differences, %.8g by the gradient", name, unit, there, along);
	bl_free(r);
}

static void family(const char *path, const char *name)
{
	struct net n;

	net_open(&n, open_model(path), BL_WEIGHTS_ACT_NONE);
	base(&n);
	gradients(&n);
	for (int i = 0; i < n.blocks * BL_UNIT_KIND_COUNT; i++)
		check_unit(&n, i, name);
	net_close(&n);
}

static void bundled(void **state)
{
	(void)state;
	family(BL_SOURCE_DIR "/tests/models/tiny-exaone4", "tiny-exaone4");
}

static void families(void **state)
{
	static const char *const all[] = { "exaone4_full", "exaone4_hybrid", "llama", "llama_linear", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "olmo2" };

	(void)state;
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
		char name[64];

		snprintf(name, sizeof name, "golden/arch/%s", all[i]);
		if (!has_shared(name))
			return;
		char *path = shared(name);
		family(path, all[i]);
		bl_free(path);
	}
}

/* With the model's own weights the taped blocks give what the pass gives, so the divergence is nothing. */
static void same_block(void **state)
{
	struct net n;

	(void)state;
	net_open(&n, open_model(BL_SOURCE_DIR "/tests/models/tiny-exaone4"), BL_WEIGHTS_ACT_NONE);
	base(&n);
	for (int i = 0; i < n.blocks * BL_UNIT_KIND_COUNT; i++) {
		const struct bl_unit *u = &n.m->units[i];
		int64_t at = 0;

		for (int j = 0; j < u->n_members; j++)
			for (int64_t k = 0; k < u->members[j].rows * u->cols; k++)
				n.host[i][at++] = weight_at(u->members[j].weight, k);
		put(&n.w[i].w, n.host[i]);
	}
	const double kl = loss(&n, false);
	assert_true(fabs(kl) < 1e-7);
	net_close(&n);
}

/* Rounded inputs: another loss, and the gradient with respect to weights is the one for the rounded inputs; twice the same bytes. */
static void rounded(void **state)
{
	struct net n;
	float *first;

	(void)state;
	net_open(&n, open_model(BL_SOURCE_DIR "/tests/models/tiny-exaone4"), BL_WEIGHTS_ACT_INT8_TOKEN);
	base(&n);
	gradients(&n);
	const int last = n.blocks * BL_UNIT_KIND_COUNT - 1; /* behind it nothing is rounded: differences can tell */
	check_unit(&n, last, "rounded inputs");
	const size_t bytes = (size_t)(n.w[0].w.rows * n.w[0].w.cols) * sizeof *first;
	first = bl_xalloc(1, bytes);
	memcpy(first, n.grad[0], bytes);
	const double with = loss(&n, false);
	gradients(&n);
	assert_memory_equal(first, n.grad[0], bytes);
	for (int i = 0; i <= last; i++)
		n.w[i].act = BL_WEIGHTS_ACT_NONE;
	assert_true(with != loss(&n, false));
	bl_free(first);
	net_close(&n);
}

static int open_all(void **state)
{
	(void)state;
	machine_open(&machine, 2, 0);
	return 0;
}

static int close_all(void **state)
{
	(void)state;
	machine_close(&machine);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(same_block), cmocka_unit_test(bundled), cmocka_unit_test(families), cmocka_unit_test(rounded) };

	return cmocka_run_group_tests(tests, open_all, close_all);
}
