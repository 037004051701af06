/* SPDX-License-Identifier: Apache-2.0
 * Size is exact (what the exporter stores); time and memory are a model: bytes over bandwidth or operations over peak, whichever is
 * longer, plus launches. What a card reaches of its bandwidth stands in its row of the target table, with where that is from. */
#include "core/estimate/estimate.h"

#include <math.h>
#include <string.h>

#include "core/scheme/pack.h"

#define LAUNCH_US 3.0            /* one kernel inside a captured graph */
#define DECODE_BATCH 8
#define CHUNK 8192               /* tokens of a prompt that go through at once */
#define SPREAD 0.15
#define PREFILL_SPREAD 0.25

/* bitsandbytes: pairs of codes, a scale per block, tables and a description. */
static uint64_t nf4_bytes(const struct bl_member *m, const struct bl_scheme *s)
{
	const uint64_t n = (uint64_t)(m->rows * m->cols), blocks = (n + s->group - 1) / s->group;

	return (n + 1) / 2 + 64 + 84 + (s->nested ? blocks + 4 * ((blocks + 255) / 256) + 1024 + 90 : 4 * blocks);
}

/* compressed-tensors: codes, bf16 scales, packed zero points, an int64 pair for the shape of packed weights. */
static uint64_t member_bytes(const struct bl_member *m, const struct bl_scheme *s, enum bl_dtype dtype)
{
	uint64_t bias = m->bias ? m->bias->bytes : 0;
	int64_t groups = s->group ? m->cols / s->group : 1, scales = m->rows * groups;

	if (bl_scheme_is_full(s))
		return (m->weight ? m->weight->bytes : (uint64_t)(m->rows * m->cols * bl_dtype_bytes(dtype))) + bias;
	if (bl_scheme_is_bnb4(s))
		return nf4_bytes(m, s) + bias;
	if (s->number == BL_NUM_SCB)
		return (uint64_t)(m->rows * m->cols + 4 * m->rows + 1) + bias;
	if (s->number == BL_NUM_E2M1)
		return (uint64_t)(m->rows * m->cols / 2 + scales + (s->strategy == BL_STRATEGY_TENSOR_GROUP ? 4 : 0) + (bl_act_is_static(s->act) ? 4 : 0)) + bias;
	if (bl_scheme_is_mx8(s))
		return (uint64_t)(m->rows * m->cols + scales) + bias;
	if (s->strategy == BL_STRATEGY_BLOCK)
		return (uint64_t)(m->rows * m->cols + 2 * ((m->rows + s->group - 1) / s->group) * groups) + bias;
	if (s->number == BL_NUM_FLOAT || bl_act_is_int8(s->act))
		return (uint64_t)(m->rows * m->cols + (s->strategy == BL_STRATEGY_TENSOR ? 2 : 2 * scales) + (bl_act_is_static(s->act) ? 4 : 0)) + bias;
	int64_t zeros = s->symmetric ? 0 : 4 * groups * bl_pack_words(m->rows, s->bits);
	return (uint64_t)(4 * m->rows * bl_pack_words(m->cols, s->bits) + 2 * scales + zeros + 16 + (s->order ? 4 * m->cols : 0)) + bias;
}

uint64_t bl_unit_bytes(const struct bl_unit *u, const struct bl_scheme *s)
{
	uint64_t bytes = 0;

	for (int i = 0; i < u->n_members; i++)
		bytes += member_bytes(&u->members[i], s, u->dtype);
	return bytes;
}

/* tflop_s: what is reached */
static double linear_us(double bytes, double flop, double tflop_s, const struct bl_gpu *g)
{
	double move = bytes / (g->bw_gb_s * g->bw_share * 1e9), compute = tflop_s > 0 ? flop / (tflop_s * 1e12) : 0;

	return 1e6 * fmax(move, compute) + LAUNCH_US;
}

/* Trillions of operations a second that products of this scheme reach on the card. */
static double reached(const struct bl_scheme *s, const struct bl_gpu *g)
{
	if (bl_act_is_int8(s->act) && g->int8_tflop_s > 0)
		return g->int8_tflop_s * g->int8_share;
	if (bl_act_is_fp8(s->act) && g->fp8_tflop_s > 0)
		return g->fp8_tflop_s * g->fp8_share;
	return g->bf16_tflop_s * g->bf16_share;
}

struct bl_quantity bl_unit_time(const struct bl_unit *u, const struct bl_scheme *s, const struct bl_target *t, int m_tokens)
{
	double n = (double)u->rows, k = (double)u->cols, act = s->act == BL_ACT_NONE ? 2 : 1;
	double bytes = (double)bl_unit_bytes(u, s) + m_tokens * (k * act + n * 2);
	double us = linear_us(bytes, 2.0 * m_tokens * n * k, reached(s, &t->gpu), &t->gpu) + (s->act == BL_ACT_NONE ? 0 : t->gpu.quant_us);

	return (struct bl_quantity){us, us * SPREAD, BL_MODELLED, "us", t->gpu.fit};
}

static double step_us(const struct bl_model *m, const struct bl_plan *p, const struct bl_target *t)
{
	double us = t->gpu.step_us;
	double head = (double)m->config.vocab * (double)m->config.hidden;
	int head_bytes = m->head ? bl_dtype_bytes(m->head->dtype) : m->embed ? bl_dtype_bytes(m->embed->dtype) : 2;

	for (int i = 0; i < m->n_units; i++) {
		struct bl_scheme full = BL_SCHEME_FULL;
		us += bl_unit_time(&m->units[i], p ? &bl_plan_choice(p, i)->scheme : &full, t, DECODE_BATCH).value - LAUNCH_US;
	}
	return us + linear_us(head * head_bytes, 2.0 * DECODE_BATCH * head, t->gpu.bf16_tflop_s * t->gpu.bf16_share, &t->gpu);
}

/* The linears on all tokens in chunks, attention of each token to those before it, the head for the last one. */
struct bl_quantity bl_prefill_time(const struct bl_model *m, const struct bl_plan *p, const struct bl_target *t, int64_t length)
{
	const struct bl_config *c = &m->config;
	const struct bl_gpu *g = &t->gpu;
	struct bl_scheme full = BL_SCHEME_FULL;
	double us = 0, pairs = 0, n = (double)length;
	int head_bytes = m->head ? bl_dtype_bytes(m->head->dtype) : m->embed ? bl_dtype_bytes(m->embed->dtype) : 2;

	for (int64_t at = 0; at < length; at += CHUNK) {
		int tokens = (int)(length - at < CHUNK ? length - at : CHUNK);
		us += g->step_us;
		for (int i = 0; i < m->n_units; i++)
			us += bl_unit_time(&m->units[i], p ? &bl_plan_choice(p, i)->scheme : &full, t, tokens).value - LAUNCH_US;
	}
	for (int64_t i = 0; i < c->layers; i++) {
		double w = c->sliding[i] && c->sliding_window > 0 ? fmin(n, (double)c->sliding_window) : n;
		pairs += w * (w + 1) / 2 + (n - w) * w;
	}
	us += 1e6 * 4.0 * (double)(c->heads * c->head_dim) * pairs / (g->bf16_tflop_s * g->bf16_share * 1e12);
	us += linear_us((double)(c->vocab * c->hidden * head_bytes), 2.0 * (double)(c->vocab * c->hidden), g->bf16_tflop_s * g->bf16_share, g);
	return (struct bl_quantity){us / 1000, us / 1000 * PREFILL_SPREAD, BL_MODELLED, "ms", g->prefill_fit};
}

static struct bl_quantity gib(double bytes, double spread, const char *from)
{
	double v = bytes / 1073741824.0;

	return (struct bl_quantity){v, v * spread, BL_MODELLED, "GiB", from};
}

static void server_memory(struct bl_plan_estimate *e, const struct bl_model *m, const struct bl_target *t)
{
	const struct bl_config *c = &m->config;
	double len = t->max_model_len ? (double)t->max_model_len : (double)c->max_positions, kv = 0;

	for (int64_t i = 0; i < c->layers; i++)
		kv += 2.0 * (double)(c->kv_heads * c->head_dim) * 2.0 * (c->sliding[i] ? fmin(len, (double)c->sliding_window) : len);
	e->weights_gib = gib((double)e->bytes, 0.01, "the bytes of the export");
	e->kv_gib = gib(kv, 0, "keys and values of one request at full length, 16 bits");
	e->activations_gib = gib(CHUNK * (double)(c->ffn * 2 + c->hidden * 4) * 2.0, 0.5, "one prefill chunk of 8192 tokens");
	e->overhead_gib = gib(0.6 * 1073741824.0, 0.3, "context, libraries and captured graphs");
	e->server_gib = gib(1073741824.0 * (e->weights_gib.value + e->kv_gib.value + e->activations_gib.value + e->overhead_gib.value), 0,
			    "weights + KV cache of one request at full length + one prefill chunk + 0.6 GiB");
	e->server_gib.spread = hypot(hypot(e->weights_gib.spread, e->kv_gib.spread), hypot(e->activations_gib.spread, e->overhead_gib.spread));
}

/* ---- quality and score ---- */

#define KL_LOSS 0.4

static struct bl_quantity perf_of(const struct bl_quality *q)
{
	double n = (double)q->n;

	if (q->has_mcq && q->n > 0 && q->base_acc > 0) {
		/* Paired answers: the variance of a difference is the share that changed; one more change keeps it above zero. */
		double d = q->plan_acc - q->base_acc, var = (q->flips + 1 / n - d * d) / n;
		return (struct bl_quantity){q->plan_acc / q->base_acc, sqrt(fmax(var, 0)) / q->base_acc, BL_MEASURED, "ratio", "accuracy over the base's, multiple choice"};
	}
	if (q->kl.origin != BL_UNKNOWN && q->kl.value >= 0) {
		double kl = q->kl.value, perf = 1 / (1 + KL_LOSS * pow(kl, 1.5)), slope = 1.5 * KL_LOSS * sqrt(kl) * perf * perf;
		return (struct bl_quantity){perf, hypot((1 - perf) / 2, slope * q->kl.spread), BL_MODELLED, "ratio",
					    "from the divergence to the base, after measured pairs of two small models"};
	}
	return BL_QUANTITY_UNKNOWN("ratio");
}

void bl_estimate_quality(struct bl_plan_estimate *e, const struct bl_quality *q)
{
	e->perf_ratio = perf_of(q);
	e->score = BL_QUANTITY_UNKNOWN("score");
	if (e->perf_ratio.origin == BL_UNKNOWN || e->time_ratio.origin == BL_UNKNOWN)
		return;
	e->score = (struct bl_quantity){0.5 * e->perf_ratio.value + 0.5 * (1 - e->time_ratio.value), 0.5 * hypot(e->perf_ratio.spread, e->time_ratio.spread), BL_MODELLED,
					"score", "0.5 x performance ratio + 0.5 x (1 - time ratio)"};
	if (e->perf_ratio.origin == BL_MEASURED && e->time_ratio.origin == BL_MEASURED)
		e->score.origin = BL_MEASURED;
}

/* ---- all of it ---- */

void bl_plan_estimate(struct bl_plan_estimate *e, const struct bl_model *m, const struct bl_plan *p, const struct bl_target *t)
{
	struct bl_scheme full = BL_SCHEME_FULL;

	memset(e, 0, sizeof *e);
	e->base_bytes = m->bytes;
	e->bytes = m->bytes - (m->head_stored_and_tied ? m->head->bytes : 0);
	for (int i = 0; i < m->n_units; i++) {
		if (!m->units[i].members[0].weight)
			continue; /* already quantized: stays as it is */
		e->bytes += bl_unit_bytes(&m->units[i], &bl_plan_choice(p, i)->scheme);
		e->bytes -= bl_unit_bytes(&m->units[i], &full);
	}
	double base = step_us(m, NULL, t), now = step_us(m, p, t);
	e->step_ms = (struct bl_quantity){now / 1000, now / 1000 * SPREAD, BL_MODELLED, "ms", t->gpu.fit};
	e->time_ratio = (struct bl_quantity){now / base, fabs(1 - now / base) * SPREAD, BL_MODELLED, "ratio", t->gpu.fit};
	e->prefill_ms = bl_prefill_time(m, p, t, BL_PREFILL_TOKENS);
	double ratio = e->prefill_ms.value / bl_prefill_time(m, NULL, t, BL_PREFILL_TOKENS).value;
	e->prefill_ratio = (struct bl_quantity){ratio, fabs(1 - ratio) * PREFILL_SPREAD, BL_MODELLED, "ratio", t->gpu.prefill_fit};
	server_memory(e, m, t);
	e->perf_ratio = BL_QUANTITY_UNKNOWN("ratio");
	e->score = BL_QUANTITY_UNKNOWN("score");
}
