/* SPDX-License-Identifier: Apache-2.0
 * Size is exact (what the exporter stores); time and memory are a model: bytes over bandwidth or operations over peak, whichever is
 * longer, plus launches. What a card reaches of its bandwidth stands in its row of the target table, with where that is from. */
#include "core/estimate/estimate.h"

#include <math.h>
#include <string.h>

#include "core/scheme/pack.h"

#define EFFICIENCY_COMPUTE 0.60  /* of the vendor's peak: power-capped cards sustain half to two thirds */
#define LAUNCH_US 3.0            /* one kernel inside a captured graph */
#define DECODE_BATCH 8
#define SPREAD 0.15

/* compressed-tensors: codes, bf16 scales, packed zero points, an int64 pair for the shape of packed weights. */
static uint64_t member_bytes(const struct bl_member *m, const struct bl_scheme *s, enum bl_dtype dtype)
{
	uint64_t bias = m->bias ? m->bias->bytes : 0;
	int64_t groups = s->group ? m->cols / s->group : 1, scales = m->rows * groups;

	if (s->number == BL_NUM_FULL)
		return (m->weight ? m->weight->bytes : (uint64_t)(m->rows * m->cols * bl_dtype_bytes(dtype))) + bias;
	if (s->number == BL_NUM_FLOAT || bl_act_is_int8(s->act))
		return (uint64_t)(m->rows * m->cols + (s->strategy == BL_STRATEGY_TENSOR ? 2 : 2 * scales) + (bl_act_is_static(s->act) ? 4 : 0)) + bias;
	int64_t zeros = s->symmetric ? 0 : 4 * groups * bl_pack_words(m->rows, s->bits);
	return (uint64_t)(4 * m->rows * bl_pack_words(m->cols, s->bits) + 2 * scales + zeros + 16) + bias;
}

uint64_t bl_unit_bytes(const struct bl_unit *u, const struct bl_scheme *s)
{
	uint64_t bytes = 0;

	for (int i = 0; i < u->n_members; i++)
		bytes += member_bytes(&u->members[i], s, u->dtype);
	return bytes;
}

static double linear_us(double bytes, double flop, double tflop_s, const struct bl_gpu *g)
{
	double move = bytes / (g->bw_gb_s * g->bw_share * 1e9), compute = tflop_s > 0 ? flop / (tflop_s * EFFICIENCY_COMPUTE * 1e12) : 0;

	return 1e6 * fmax(move, compute) + LAUNCH_US;
}

struct bl_quantity bl_unit_time(const struct bl_unit *u, const struct bl_scheme *s, const struct bl_target *t, int m_tokens)
{
	double n = (double)u->rows, k = (double)u->cols, act = s->act == BL_ACT_NONE ? 2 : 1;
	double bytes = (double)bl_unit_bytes(u, s) + m_tokens * (k * act + n * 2);
	double peak = s->act == BL_ACT_INT8_TOKEN ? t->gpu.int8_tflop_s : s->act == BL_ACT_FP8_TOKEN && t->gpu.fp8_tflop_s > 0 ? t->gpu.fp8_tflop_s : t->gpu.bf16_tflop_s;
	double us = linear_us(bytes, 2.0 * m_tokens * n * k, peak, &t->gpu) + (s->act == BL_ACT_NONE ? 0 : t->gpu.quant_us);

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
	return us + linear_us(head * head_bytes, 2.0 * DECODE_BATCH * head, t->gpu.bf16_tflop_s, &t->gpu);
}

static struct bl_quantity server_gib(const struct bl_model *m, const struct bl_target *t, uint64_t bytes)
{
	const struct bl_config *c = &m->config;
	double len = t->max_model_len ? (double)t->max_model_len : (double)c->max_positions, kv = 0;

	for (int64_t i = 0; i < c->layers; i++)
		kv += 2.0 * (double)(c->kv_heads * c->head_dim) * 2.0 * (c->sliding[i] ? fmin(len, (double)c->sliding_window) : len);
	double act = 8192.0 * (double)(c->ffn * 2 + c->hidden * 4) * 2.0; /* one prefill chunk */
	double gib = ((double)bytes + kv + act) / 1073741824.0 + 0.6;     /* context and graphs */

	return (struct bl_quantity){gib, 0.1 * gib, BL_MODELLED, "GiB", "weights + KV cache of one request at full length + one prefill chunk + 0.6 GiB"};
}

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
	e->server_gib = server_gib(m, t, e->bytes);
	e->perf_ratio = BL_QUANTITY_UNKNOWN("ratio");
	e->score = BL_QUANTITY_UNKNOWN("score");
}
