/* SPDX-License-Identifier: Apache-2.0
 * Attention's backward over tiles on the tensor cores (bf16 in, float32 sums; weights and their gradients rounded to bf16 before they meet the other
 * side). One kernel, twice: a block owns 64 keys of a key/value head and walks over the queries that see them, for all heads that read it; or it
 * owns 64 queries and walks over their keys. Each of 4 warps has 16 of its rows, the other side comes in tiles of BO, loaded one ahead. No result is
 * shared between blocks: sums have one order. */
#include "kernels/grad/grad_cuda.cuh"
#include "kernels/run/flash.cuh"

#define OWN 64 /* rows of a block */

struct flash_back {
	const uint16_t *q, *k, *v, *dout;
	uint16_t *dq, *dk, *dv;
	int64_t ldq, ldk, ldv, ldo, ldq_out, ldk_out, ldv_out;
	const float *lse, *delta;
	int group, heads, dim, window;
	float scale, scale2;    /* scale2: log2(e) times what turns a product (after the cap: a score) into an exponent */
	float cap, cap_inverse; /* cap 0: none; cap_inverse: scale / cap */
	const int32_t *q_start, *kv_start;
};

template <int HDP, int BO> struct back_shape {
	enum { THREADS = 128, MINE = OWN * HDP * 2, TILE = BO * HDP * 2, SMEM = 2 * MINE + 4 * TILE + 4 * BO * 4 };
};

#if __CUDA_ARCH__ >= 800
/* c [16, N * 8] += rows of a from shared memory, tile b likewise: sums over channels */
template <int HDP, int BO>
static __device__ __forceinline__ void rows_by_rows(float (&c)[BO / 8][4], uint32_t a_tile, int a_row, uint32_t b_tile, int lane)
{
#pragma unroll
	for (int kk = 0; kk < HDP / 16; kk++) {
		uint32_t a[4];

		matrices(a, a_tile + spot<HDP>(a_row + (lane & 15), 2 * kk + (lane >> 4)));
#pragma unroll
		for (int n = 0; n < BO / 16; n++) {
			uint32_t b[4];

			matrices(b, b_tile + spot<HDP>(n * 16 + (lane & 7) + (lane >> 4) * 8, 2 * kk + (lane >> 3 & 1)));
			mma(c[2 * n], a, b[0], b[1]);
			mma(c[2 * n + 1], a, b[2], b[3]);
		}
	}
}

/* o [16, HDP] += c [16, BO] (rounded) times the tile's rows */
template <int HDP, int BO>
static __device__ __forceinline__ void weights_by_rows(float (&o)[HDP / 8][4], const float (&c)[BO / 8][4], uint32_t tile, int lane)
{
#pragma unroll
	for (int kk = 0; kk < BO / 16; kk++) {
		const uint32_t a[4] = { pair16(c[2 * kk][0], c[2 * kk][1]), pair16(c[2 * kk][2], c[2 * kk][3]),
					pair16(c[2 * kk + 1][0], c[2 * kk + 1][1]), pair16(c[2 * kk + 1][2], c[2 * kk + 1][3]) };

#pragma unroll
		for (int d = 0; d < HDP / 16; d++) {
			uint32_t b[4];

			matrices_turned(b, tile + spot<HDP>(kk * 16 + (lane & 15), 2 * d + (lane >> 4)));
			mma(o[2 * d], a, b[0], b[1]);
			mma(o[2 * d + 1], a, b[2], b[3]);
		}
	}
}

/* The warp's 16 rows, times f, over its own rows of a tile that nobody reads any more, then out in pieces of 16 bytes. */
template <int HDP>
static __device__ __forceinline__ void leave(unsigned char *tile, uint16_t *to, int64_t ld, int row0, int n_rows, int dim,
					     const float (&o)[HDP / 8][4], float f, int warp, int lane)
{
#pragma unroll
	for (int h = 0; h < 2; h++)
#pragma unroll
		for (int d = 0; d < HDP / 8; d++)
			*(uint32_t *)(tile + spot<HDP>(warp * 16 + lane / 4 + h * 8, d) + (lane & 3) * 4) =
				pair16(o[d][2 * h] * f, o[d][2 * h + 1] * f);
	__syncwarp();
#pragma unroll
	for (int at = 0; at < 16 * HDP / 8; at += 32) {
		const int n = at + lane, row = warp * 16 + n / (HDP / 8), c = n % (HDP / 8);

		if (row0 + row < n_rows && c * 8 < dim)
			*(uint4 *)(to + (int64_t)(row0 + row) * ld + c * 8) = *(const uint4 *)(tile + spot<HDP>(row, c));
	}
}
#endif

template <int HDP, int BO, bool KEYS> static __global__ void __launch_bounds__(128) back_tiles(const struct flash_back f)
{
#if __CUDA_ARCH__ >= 800
	typedef back_shape<HDP, BO> shape;
	extern __shared__ __align__(128) unsigned char shared[];
	const uint32_t sx = smem_of(shared), sy = sx + shape::MINE, su = sy + shape::MINE, sw = su + 2 * shape::TILE;
	float *const of_tile = (float *)(shared + 2 * shape::MINE + 4 * shape::TILE); /* KEYS: lse and delta of the tile's queries, twice */
	const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
	const int64_t q_at = f.q_start[blockIdx.z], kv_at = f.kv_start[blockIdx.z];
	const int n_q = (int)(f.q_start[blockIdx.z + 1] - q_at), n_kv = (int)(f.kv_start[blockIdx.z + 1] - kv_at), off = n_kv - n_q;
	const int n_own = KEYS ? n_kv : n_q, n_other = KEYS ? n_q : n_kv;
	const int tile = KEYS ? (int)blockIdx.x : (n_own + OWN - 1) / OWN - 1 - (int)blockIdx.x; /* the long ones first */
	const int own0 = tile * OWN, own_end = own0 + OWN < n_own ? own0 + OWN : n_own;
	const int w_first = own0 + warp * 16, w_last = w_first + 15;
	const int head0 = KEYS ? (int)blockIdx.y * f.group : (int)blockIdx.y, n_heads = KEYS ? f.group : 1;
	const int kv_head = head0 / f.group;
	const int64_t ldx = KEYS ? f.ldk : f.ldq, ldy = KEYS ? f.ldv : f.ldo, ldu = KEYS ? f.ldq : f.ldk, ldw = KEYS ? f.ldo : f.ldv;
	const uint16_t *x = KEYS ? f.k + kv_at * ldx + (int64_t)kv_head * f.dim : f.q + q_at * ldx + (int64_t)head0 * f.dim;
	const uint16_t *y = KEYS ? f.v + kv_at * ldy + (int64_t)kv_head * f.dim : f.dout + q_at * ldy + (int64_t)head0 * f.dim;
	const uint16_t *u = KEYS ? f.q + q_at * ldu + (int64_t)head0 * f.dim : f.k + kv_at * ldu + (int64_t)kv_head * f.dim;
	const uint16_t *w = KEYS ? f.dout + q_at * ldw + (int64_t)head0 * f.dim : f.v + kv_at * ldw + (int64_t)kv_head * f.dim;
	float o[HDP / 8][4] = {}, o2[KEYS ? HDP / 8 : 1][4] = {}, row_lse[2] = { 0, 0 }, row_delta[2] = { 0, 0 };
	int t_first, t_n, n_tiles;

	if (tile < 0 || own0 >= n_own)
		return;
	if (KEYS) { /* queries from the first that is not before the tile's first key, to the last that has its last key in the window */
		const int64_t end = f.window ? (int64_t)own_end - 1 - off + f.window : n_other;
		const int first = own0 - off > 0 ? own0 - off : 0, last = (int)(end < n_other ? end : n_other);

		t_first = first / BO;
		t_n = (last + BO - 1) / BO - t_first;
	} else {
		t_first = f.window && own0 + off - f.window + 1 > 0 ? (own0 + off - f.window + 1) / BO : 0;
		t_n = (own_end + off + BO - 1) / BO - t_first;
#pragma unroll
		for (int h = 0; h < 2; h++) {
			const int row = w_first + lane / 4 + h * 8;

			if (row < n_q) {
				row_lse[h] = f.lse[(q_at + row) * f.heads + head0] * 1.4426950408889634f;
				row_delta[h] = f.delta[(q_at + row) * f.heads + head0];
			}
		}
	}
	t_n = t_n > 0 ? t_n : 0;
	n_tiles = t_n * n_heads;
	fetch_tile<HDP, OWN, 128>(sx, x, ldx, own0, n_own, f.dim);
	fetch_tile<HDP, OWN, 128>(sy, y, ldy, own0, n_own, f.dim);
	fetch_end();
	for (int it = -1; it < n_tiles; it++) {
		const int stage = it & 1, next = it + 1, head = it / (t_n > 0 ? t_n : 1), other0 = (t_first + it - head * t_n) * BO;
		const uint32_t u_tile = su + stage * shape::TILE, w_tile = sw + stage * shape::TILE;
		const float *tile_lse = of_tile + stage * 2 * BO, *tile_delta = tile_lse + BO;
		float s[BO / 8][4] = {}, g[BO / 8][4] = {};

		if (it >= 0) {
			fetch_wait();
			__syncthreads(); /* this tile is there for all, and all are done with the one before */
		}
		if (next < n_tiles) {
			const int next_head = next / t_n, next0 = (t_first + next - next_head * t_n) * BO, to = next & 1;

			fetch_tile<HDP, BO, 128>(su + to * shape::TILE, u + (KEYS ? (int64_t)next_head * f.dim : 0), ldu, next0, n_other, f.dim);
			fetch_tile<HDP, BO, 128>(sw + to * shape::TILE, w + (KEYS ? (int64_t)next_head * f.dim : 0), ldw, next0, n_other, f.dim);
			fetch_end();
			if (KEYS && threadIdx.x < BO) {
				const int row = next0 + (int)threadIdx.x;
				const int64_t at = (q_at + row) * f.heads + head0 + next_head;

				of_tile[to * 2 * BO + threadIdx.x] =
					row < n_q ? f.lse[at] * 1.4426950408889634f : INFINITY; /* none there: weight 0 */
				of_tile[to * 2 * BO + BO + threadIdx.x] = row < n_q ? f.delta[at] : 0;
			}
		}
		if (it < 0)
			continue;
		/* empty for this warp's rows: after them, or out of their window */
		if (KEYS ? other0 + BO - 1 + off < w_first || (f.window && other0 + off - w_last >= f.window)
			 : other0 > w_last + off || (f.window && w_first + off - (other0 + BO - 1) >= f.window))
			continue;
		rows_by_rows<HDP, BO>(s, sx, warp * 16, u_tile, lane);
		rows_by_rows<HDP, BO>(g, sy, warp * 16, w_tile, lane);
#pragma unroll
		for (int n = 0; n < BO / 8; n++)
#pragma unroll
			for (int e = 0; e < 4; e++) {
				const int mine = w_first + lane / 4 + (e >> 1) * 8, col = n * 8 + (lane & 3) * 2 + (e & 1), its = other0 + col;
				const int i = (KEYS ? its : mine) + off, j = KEYS ? mine : its; /* positions of query and key */
				const float base = KEYS ? tile_lse[col] : row_lse[e >> 1], delta = KEYS ? tile_delta[col] : row_delta[e >> 1];
				float score = s[n][e], slope = 1, weight;

				if (f.cap > 0) {
					const float t = tanhf(score * f.cap_inverse);

					score = f.cap * t;
					slope = 1 - t * t;
				}
				weight = exp2_fast(fmaf(score, f.scale2, -base));
				if (j > i || (f.window && i - j >= f.window))
					weight = 0;
				s[n][e] = weight;
				g[n][e] = weight * (g[n][e] - delta) * slope;
			}
		if (KEYS)
			weights_by_rows<HDP, BO>(*(float(*)[HDP / 8][4]) & o2, s, w_tile, lane);
		weights_by_rows<HDP, BO>(o, g, u_tile, lane);
	}
	fetch_wait();
	__syncthreads(); /* own rows may not have been waited for, when there was no tile */
	if (KEYS) {
		leave<HDP>(shared, f.dk + kv_at * f.ldk_out + (int64_t)kv_head * f.dim, f.ldk_out, own0, n_own, f.dim, o, f.scale, warp, lane);
		leave<HDP>(shared + shape::MINE, f.dv + kv_at * f.ldv_out + (int64_t)kv_head * f.dim, f.ldv_out, own0, n_own, f.dim,
			   *(float(*)[HDP / 8][4]) & o2, 1, warp, lane);
	} else {
		leave<HDP>(shared, f.dq + q_at * f.ldq_out + (int64_t)head0 * f.dim, f.ldq_out, own0, n_own, f.dim, o, f.scale, warp, lane);
	}
#endif
}

template <int HDP, int BO> static int flash_launch(struct bk_run *r, struct flash_back f, const struct bk_attention *a)
{
	typedef back_shape<HDP, BO> shape;
	int e = (int)cudaFuncSetAttribute(back_tiles<HDP, BO, true>, cudaFuncAttributeMaxDynamicSharedMemorySize, shape::SMEM);

	if (!e)
		e = (int)cudaFuncSetAttribute(back_tiles<HDP, BO, false>, cudaFuncAttributeMaxDynamicSharedMemorySize, shape::SMEM);
	if (e) {
		(void)cudaGetLastError();
		return e;
	}
	for (int at = 0; at < a->seq.n; at += 65535) { /* keys first: dq may lie where dout does */
		const unsigned n = (unsigned)(a->seq.n - at < 65535 ? a->seq.n - at : 65535);

		f.q_start = a->seq.q_start + at;
		f.kv_start = a->seq.kv_start + at;
		back_tiles<HDP, BO, true><<<dim3(bk_ceil(a->seq.max_kv, OWN), (unsigned)a->kv_heads, n), 128, shape::SMEM, r->stream>>>(f);
		if (a->seq.max_q)
			back_tiles<HDP, BO, false><<<dim3(bk_ceil(a->seq.max_q, OWN), (unsigned)a->heads, n), 128, shape::SMEM, r->stream>>>(f);
	}
	return bk_launched();
}

int bk_grad_flash(struct bk_run *r, const struct bk_back *b, bool *done)
{
	const struct bk_attention *a = b->a;
	struct flash_back f;

	*done = false;
	if (b->q.dtype != BK_BF16 || r->capability < 80 || a->head_dim % 8 || a->head_dim > 128 || !(a->scale > 0) || !bk_by8(&b->q) ||
	    !bk_by8(&b->k) || !bk_by8(&b->v) || !bk_by8(&b->dout) || !bk_by8(&b->dq) || !bk_by8(&b->dk) || !bk_by8(&b->dv))
		return 0;
	f = (struct flash_back){ (const uint16_t *)b->q.p,
				 (const uint16_t *)b->k.p,
				 (const uint16_t *)b->v.p,
				 (const uint16_t *)b->dout.p,
				 (uint16_t *)b->dq.p,
				 (uint16_t *)b->dk.p,
				 (uint16_t *)b->dv.p,
				 b->q.ld,
				 b->k.ld,
				 b->v.ld,
				 b->dout.ld,
				 b->dq.ld,
				 b->dk.ld,
				 b->dv.ld,
				 b->lse,
				 b->delta,
				 a->heads / a->kv_heads,
				 a->heads,
				 a->head_dim };
	f.window = a->window > 0x3fffffff ? 0 : (int)a->window;
	f.scale = (float)a->scale;
	f.scale2 = (float)(1.4426950408889634 * (a->softcap > 0 ? 1 : a->scale));
	f.cap = (float)a->softcap;
	f.cap_inverse = a->softcap > 0 ? (float)(a->scale / a->softcap) : 0;
	*done = true;
	if (a->head_dim <= 32)
		return flash_launch<32, 64>(r, f, a);
	if (a->head_dim <= 64)
		return flash_launch<64, 64>(r, f, a);
	return flash_launch<128, 32>(r, f, a);
}
