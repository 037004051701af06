/* SPDX-License-Identifier: Apache-2.0
 * Attention over tiles on the tensor cores (bf16 in, float32 sums, online softmax; weights rounded to bf16 before they meet the values). A block takes
 * BR query rows of one head; each of its warps owns 16 * MT of them and sees BC keys at a time, loaded one tile ahead. Tiles that the causal or window
 * mask empties are not loaded; a warp skips tiles that are empty for its rows. Rows in shared memory are swizzled in pieces of 16 bytes. */
#include "kernels/run/flash.cuh"

struct flash {
	const uint16_t *q, *k, *v;
	uint16_t *out;
	float *lse;             /* [rows, heads] or NULL */
	int64_t ldq, ldk, ldv, ldo;
	int group, dim, window;
	float scale2;           /* log2(e) times what turns a score into an exponent */
	float cap, cap_inverse; /* cap 0: none; cap_inverse: scale / cap */
	const int32_t *q_start, *kv_start;
};

template <int HDP, int WARPS, int MT, int BC> struct flash_shape {
	enum { BR = WARPS * MT * 16, THREADS = WARPS * 32, TILE = BC * HDP * 2, SMEM = BR * HDP * 2 + 4 * TILE };
};

template <int HDP, int WARPS, int MT, int BC, int MINB> static __global__ void __launch_bounds__(WARPS * 32, MINB) flash_tiles(const struct flash f)
{
#if __CUDA_ARCH__ >= 800
	typedef flash_shape<HDP, WARPS, MT, BC> shape;
	extern __shared__ __align__(128) unsigned char shared[];
	const uint32_t sq = smem_of(shared), sk = sq + shape::BR * HDP * 2, sv = sk + 2 * shape::TILE;
	const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, head = blockIdx.y;
	const int64_t q_at = f.q_start[blockIdx.z], kv_at = f.kv_start[blockIdx.z];
	const int n_q = (int)(f.q_start[blockIdx.z + 1] - q_at), n_kv = (int)(f.kv_start[blockIdx.z + 1] - kv_at), off = n_kv - n_q;
	const int tile_q = (n_q + shape::BR - 1) / shape::BR - 1 - (int)blockIdx.x; /* the long ones first */
	const int q0 = tile_q * shape::BR, q_end = q0 + shape::BR < n_q ? q0 + shape::BR : n_q;
	const int w_first = q0 + warp * MT * 16 + off, w_last = w_first + MT * 16 - 1; /* positions of this warp's rows among the keys */
	const uint16_t *q = f.q + q_at * f.ldq + (int64_t)head * f.dim, *k = f.k + kv_at * f.ldk + (int64_t)(head / f.group) * f.dim;
	const uint16_t *v = f.v + kv_at * f.ldv + (int64_t)(head / f.group) * f.dim;
	int t_first, t_end;
	float o[MT][HDP / 8][4] = {}, top[MT][2], sum[MT][2];

	if (tile_q < 0)
		return;
	t_first = f.window && q0 + off - f.window + 1 > 0 ? (q0 + off - f.window + 1) / BC : 0;
	t_end = (q_end + off + BC - 1) / BC;
	for (int m = 0; m < MT; m++)
		top[m][0] = top[m][1] = -INFINITY, sum[m][0] = sum[m][1] = 0;
	fetch_tile<HDP, shape::BR, shape::THREADS>(sq, q, f.ldq, q0, n_q, f.dim);
	if (t_first < t_end) {
		fetch_tile<HDP, BC, shape::THREADS>(sk, k, f.ldk, t_first * BC, n_kv, f.dim);
		fetch_tile<HDP, BC, shape::THREADS>(sv, v, f.ldv, t_first * BC, n_kv, f.dim);
	}
	fetch_end();
	for (int t = t_first; t < t_end; t++) {
		const int key0 = t * BC, stage = (t - t_first) & 1;
		const uint32_t k_tile = sk + stage * shape::TILE, v_tile = sv + stage * shape::TILE;
		float s[MT][BC / 8][4];

		fetch_wait();
		__syncthreads(); /* this tile is there for all, and all are done with the one before */
		if (t + 1 < t_end) {
			fetch_tile<HDP, BC, shape::THREADS>(sk + !stage * shape::TILE, k, f.ldk, key0 + BC, n_kv, f.dim);
			fetch_tile<HDP, BC, shape::THREADS>(sv + !stage * shape::TILE, v, f.ldv, key0 + BC, n_kv, f.dim);
			fetch_end();
		}
		if (key0 > w_last || (f.window && w_first - (key0 + BC - 1) >= f.window))
			continue;
#pragma unroll
		for (int m = 0; m < MT; m++)
#pragma unroll
			for (int n = 0; n < BC / 8; n++)
				s[m][n][0] = s[m][n][1] = s[m][n][2] = s[m][n][3] = 0;
#pragma unroll
		for (int kk = 0; kk < HDP / 16; kk++) {
			uint32_t a[MT][4];

#pragma unroll
			for (int m = 0; m < MT; m++)
				matrices(a[m], sq + spot<HDP>((warp * MT + m) * 16 + (lane & 15), 2 * kk + (lane >> 4)));
#pragma unroll
			for (int n = 0; n < BC / 16; n++) {
				uint32_t b[4];

				matrices(b, k_tile + spot<HDP>(n * 16 + (lane & 7) + (lane >> 4) * 8, 2 * kk + (lane >> 3 & 1)));
#pragma unroll
				for (int m = 0; m < MT; m++) {
					mma(s[m][2 * n], a[m], b[0], b[1]);
					mma(s[m][2 * n + 1], a[m], b[2], b[3]);
				}
			}
		}
		if (f.cap > 0) {
#pragma unroll
			for (int m = 0; m < MT; m++)
#pragma unroll
				for (int n = 0; n < BC / 8; n++)
#pragma unroll
					for (int e = 0; e < 4; e++)
						s[m][n][e] = f.cap * tanhf(s[m][n][e] * f.cap_inverse);
		}
		if (key0 + BC - 1 > w_first || (f.window && w_last - key0 >= f.window)) {
#pragma unroll
			for (int m = 0; m < MT; m++)
#pragma unroll
				for (int n = 0; n < BC / 8; n++)
#pragma unroll
					for (int e = 0; e < 4; e++) {
						const int i = w_first + m * 16 + lane / 4 + (e >> 1) * 8, j = key0 + n * 8 + (lane & 3) * 2 + (e & 1);

						if (j > i || (f.window && i - j >= f.window))
							s[m][n][e] = -INFINITY;
					}
		}
#pragma unroll
		for (int m = 0; m < MT; m++)
#pragma unroll
			for (int h = 0; h < 2; h++) {
				float most = top[m][h], base, fade, part = 0;

#pragma unroll
				for (int n = 0; n < BC / 8; n++)
					most = fmaxf(most, fmaxf(s[m][n][2 * h], s[m][n][2 * h + 1]));
				most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
				most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
				base = most == -INFINITY ? 0 : most * f.scale2;
				fade = exp2_fast(top[m][h] * f.scale2 - base);
				top[m][h] = most;
#pragma unroll
				for (int n = 0; n < BC / 8; n++) {
					s[m][n][2 * h] = exp2_fast(fmaf(s[m][n][2 * h], f.scale2, -base));
					s[m][n][2 * h + 1] = exp2_fast(fmaf(s[m][n][2 * h + 1], f.scale2, -base));
					part += s[m][n][2 * h] + s[m][n][2 * h + 1];
				}
				sum[m][h] = fmaf(sum[m][h], fade, part);
#pragma unroll
				for (int d = 0; d < HDP / 8; d++) {
					o[m][d][2 * h] *= fade;
					o[m][d][2 * h + 1] *= fade;
				}
			}
#pragma unroll
		for (int kk = 0; kk < BC / 16; kk++) {
			uint32_t a[MT][4];

#pragma unroll
			for (int m = 0; m < MT; m++) {
				a[m][0] = pair16(s[m][2 * kk][0], s[m][2 * kk][1]);
				a[m][1] = pair16(s[m][2 * kk][2], s[m][2 * kk][3]);
				a[m][2] = pair16(s[m][2 * kk + 1][0], s[m][2 * kk + 1][1]);
				a[m][3] = pair16(s[m][2 * kk + 1][2], s[m][2 * kk + 1][3]);
			}
#pragma unroll
			for (int d = 0; d < HDP / 16; d++) {
				uint32_t b[4];

				matrices_turned(b, v_tile + spot<HDP>(kk * 16 + (lane & 15), 2 * d + (lane >> 4)));
#pragma unroll
				for (int m = 0; m < MT; m++) {
					mma(o[m][2 * d], a[m], b[0], b[1]);
					mma(o[m][2 * d + 1], a[m], b[2], b[3]);
				}
			}
		}
	}
	fetch_wait();
	__syncthreads(); /* queries may not have been waited for, when there was no tile */
	/* the result takes the place of the warp's own queries, then leaves in pieces of 16 bytes */
#pragma unroll
	for (int m = 0; m < MT; m++)
#pragma unroll
		for (int h = 0; h < 2; h++) {
			const int row = (warp * MT + m) * 16 + lane / 4 + h * 8;
			float all = sum[m][h], inverse;

			all += __shfl_xor_sync(0xffffffffu, all, 1);
			all += __shfl_xor_sync(0xffffffffu, all, 2);
			inverse = all > 0 ? 1 / all : 0;
			if (f.lse && (lane & 3) == 0 && q0 + row < n_q)
				f.lse[(q_at + q0 + row) * gridDim.y + head] = all > 0 ? (top[m][h] * f.scale2 + log2f(all)) * 0.6931471805599453f : -INFINITY;
#pragma unroll
			for (int d = 0; d < HDP / 8; d++)
				*(uint32_t *)(shared + spot<HDP>(row, d) + (lane & 3) * 4) = pair16(o[m][d][2 * h] * inverse, o[m][d][2 * h + 1] * inverse);
		}
	__syncwarp();
#pragma unroll
	for (int at = 0; at < MT * 16 * HDP / 8; at += 32) {
		const int n = at + lane, row = warp * MT * 16 + n / (HDP / 8), c = n % (HDP / 8);

		if (q0 + row < n_q && c * 8 < f.dim)
			*(uint4 *)(f.out + (q_at + q0 + row) * f.ldo + (int64_t)head * f.dim + c * 8) = *(const uint4 *)(shared + spot<HDP>(row, c));
	}
#endif
}

template <int HDP, int WARPS, int MT, int BC, int MINB = 1> static int flash_launch(struct bk_run *r, struct flash f, const struct bk_attention *a)
{
	typedef flash_shape<HDP, WARPS, MT, BC> shape;
	int e = (int)cudaFuncSetAttribute(flash_tiles<HDP, WARPS, MT, BC, MINB>, cudaFuncAttributeMaxDynamicSharedMemorySize, shape::SMEM);

	if (e) {
		(void)cudaGetLastError();
		return e;
	}
	for (int at = 0; at < a->seq.n; at += 65535) {
		f.q_start = a->seq.q_start + at;
		f.kv_start = a->seq.kv_start + at;
		flash_tiles<HDP, WARPS, MT, BC, MINB>
			<<<dim3(bk_ceil(a->seq.max_q, shape::BR), (unsigned)a->heads, (unsigned)(a->seq.n - at < 65535 ? a->seq.n - at : 65535)), shape::THREADS,
			   shape::SMEM, r->stream>>>(f);
	}
	return bk_launched();
}

int bk_flash(struct bk_run *r, const struct bk_mat *out, float *lse, const struct bk_mat *q, const struct bk_mat *k, const struct bk_mat *v,
	     const struct bk_attention *a, bool *done)
{
	struct flash f = { (const uint16_t *)q->p, (const uint16_t *)k->p, (const uint16_t *)v->p, (uint16_t *)out->p, lse, q->ld, k->ld, v->ld, out->ld,
			   a->heads / a->kv_heads, a->head_dim, 0, 0, 0, 0, NULL, NULL };

	*done = false;
	if (q->dtype != BK_BF16 || r->capability < 80 || a->head_dim % 8 || a->head_dim > 256 || !(a->scale > 0) || !bk_by8(q) || !bk_by8(k) || !bk_by8(v) ||
	    !bk_by8(out))
		return 0;
	f.window = a->window > 0x3fffffff ? 0 : (int)a->window;
	f.scale2 = (float)(1.4426950408889634 * (a->softcap > 0 ? 1 : a->scale));
	f.cap = (float)a->softcap;
	f.cap_inverse = a->softcap > 0 ? (float)(a->scale / a->softcap) : 0;
	*done = true;
	if (a->head_dim <= 32)
		return flash_launch<32, 4, 1, 64>(r, f, a);
	if (a->head_dim <= 64)
		return flash_launch<64, 4, 2, 64>(r, f, a);
	if (a->head_dim <= 128)
		return flash_launch<128, 4, 2, 32, 2>(r, f, a);
	return flash_launch<256, 4, 1, 32>(r, f, a);
}
