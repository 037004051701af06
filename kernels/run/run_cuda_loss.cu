/* SPDX-License-Identifier: Apache-2.0
 * Losses of rows of logits, each row read once: running maxima and sums per thread, joined at the end in one fixed order.
 * With Zp = sum e^(p - mp) and A = sum e^(p - mp) (p - q): KL = A / Zp - log-sum-exp(p) + log-sum-exp(q). */
#include "kernels/run/loss.cuh"

template <int DTYPE, bool FULL>
static __global__ void __launch_bounds__(LOSS_THREADS) loss_rows(const struct bk_row_loss out, const struct bk_mat x, const int32_t *targets, bool by8)
{
	__shared__ struct part sh[LOSS_THREADS / 32];
	const int64_t i = blockIdx.x, cols = x.cols;
	const void *row = bk_row(x, i, (int)sizeof(typename bk_elem<DTYPE>::type));
	const float none[8] = {};
	struct part a = { -INFINITY, 0, 0, 0x7fffffff };

#pragma unroll 2
	for (int64_t j = threadIdx.x * 8; j < cols; j += LOSS_THREADS * 8) {
		float v[8];

		logits8<DTYPE, FULL>(v, row, j, cols, by8);
		part_add(a, v, none, j);
	}
	a = part_block(a, sh);
	if (threadIdx.x == 0) {
		const int32_t t = targets ? targets[i] : -1;

		if (out.nll)
			out.nll[i] = t < 0 || t >= cols ? 0 : (float)(lse(a) - (double)bk_load_any(row, t, DTYPE));
		if (out.argmax)
			out.argmax[i] = a.at == 0x7fffffff ? 0 : a.at;
	}
}

template <int DTYPE, bool FULL>
static __global__ void __launch_bounds__(LOSS_THREADS) kl_rows(const struct bk_row_kl out, const struct bk_mat p, const struct bk_mat q,
								const int32_t *targets, bool by8)
{
	__shared__ struct part sh[LOSS_THREADS / 32];
	const int size = (int)sizeof(typename bk_elem<DTYPE>::type);
	const int64_t i = blockIdx.x, cols = p.cols;
	const void *row_p = bk_row(p, i, size), *row_q = bk_row(q, i, size);
	const float none[8] = {};
	struct part a = { -INFINITY, 0, 0, 0x7fffffff }, b = a;

#pragma unroll 2
	for (int64_t j = threadIdx.x * 8; j < cols; j += LOSS_THREADS * 8) {
		float v[8], w[8], d[8];

		logits8<DTYPE, FULL>(v, row_p, j, cols, by8);
		logits8<DTYPE, FULL>(w, row_q, j, cols, by8);
#pragma unroll
		for (int e = 0; e < 8; e++)
			d[e] = FULL || j + e < cols ? v[e] - w[e] : 0;
		part_add(a, v, d, j);
		part_add(b, w, none, j);
	}
	a = part_block(a, sh);
	b = part_block(b, sh);
	if (threadIdx.x == 0) {
		const double lp = lse(a), lq = lse(b);
		const int32_t t = targets ? targets[i] : -1;

		out.kl[i] = (float)((double)a.with / (double)a.sum - lp + lq);
		if (out.nll_p)
			out.nll_p[i] = t < 0 || t >= cols ? 0 : (float)(lp - (double)bk_load_any(row_p, t, DTYPE));
		if (out.nll_q)
			out.nll_q[i] = t < 0 || t >= cols ? 0 : (float)(lq - (double)bk_load_any(row_q, t, DTYPE));
		if (out.same)
			out.same[i] = a.at == b.at;
	}
}

int bk_run_row_loss(struct bk_run *r, const struct bk_row_loss *out, const struct bk_mat *logits, const int32_t *targets)
{
	if (!bk_mat_ok(logits) || !bk_is_io(logits->dtype) || !out || (out->nll && !targets))
		return BK_RUN_REFUSED;
	if (!logits->rows || !logits->cols)
		return 0;
	if (logits->dtype == BK_BF16 && bk_by8(logits) && logits->cols % 8 == 0)
		loss_rows<BK_BF16, true><<<(unsigned)logits->rows, LOSS_THREADS, 0, r->stream>>>(*out, *logits, targets, true);
	else if (logits->dtype == BK_BF16)
		loss_rows<BK_BF16, false><<<(unsigned)logits->rows, LOSS_THREADS, 0, r->stream>>>(*out, *logits, targets, bk_by8(logits));
	else
		loss_rows<BK_F32, false><<<(unsigned)logits->rows, LOSS_THREADS, 0, r->stream>>>(*out, *logits, targets, bk_by8(logits));
	return bk_launched();
}

int bk_run_row_kl(struct bk_run *r, const struct bk_row_kl *out, const struct bk_mat *p, const struct bk_mat *q, const int32_t *targets)
{
	bool by8;

	if (!bk_mat_ok(p) || !bk_mat_ok(q) || !bk_is_io(p->dtype) || p->dtype != q->dtype || !bk_same_shape(p, q) || !out || !out->kl)
		return BK_RUN_REFUSED;
	if (!p->rows || !p->cols)
		return 0;
	by8 = bk_by8(p) && bk_by8(q);
	if (p->dtype == BK_BF16 && by8 && p->cols % 8 == 0)
		kl_rows<BK_BF16, true><<<(unsigned)p->rows, LOSS_THREADS, 0, r->stream>>>(*out, *p, *q, targets, true);
	else if (p->dtype == BK_BF16)
		kl_rows<BK_BF16, false><<<(unsigned)p->rows, LOSS_THREADS, 0, r->stream>>>(*out, *p, *q, targets, by8);
	else
		kl_rows<BK_F32, false><<<(unsigned)p->rows, LOSS_THREADS, 0, r->stream>>>(*out, *p, *q, targets, by8);
	return bk_launched();
}
