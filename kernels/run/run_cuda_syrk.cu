/* SPDX-License-Identifier: Apache-2.0
 * h += xᵀ x, lower triangle, for Hopper (sm_90a): bf16 tiles of 128 x 256 by two warpgroups, fed by the copy engine four chunks of 64 tokens ahead.
 * The work (tiles of the triangle times chunks) is cut into equal runs, one per multiprocessor, whatever the tiles' number; whoever begins a tile adds what
 * its successors computed of it, in order, so that the sum has one order. Tokens come in slabs that stay in the L2 cache while all tiles read them. */
#include <cuda.h>

#include "kernels/run/run_cuda.cuh"

#define BM     128
#define BN     256
#define BK     64
#define STAGES 4
#define BOX    (64 * BK * 2)              /* bytes of one box: 64 channels of BK tokens */
#define STAGE  ((BM + BN) / 64 * BOX)
#define SMEM   (STAGES * STAGE + 1024 + 256)
#define PART   (BM * BN)                  /* floats of a tile */

struct syrk {
	float *h;
	int64_t ld;
	int n, chunks, tiles, pairs;      /* pairs: h's rows start at multiples of 8 bytes */
	float *parts;                     /* [grid][PART] */
	unsigned *flags, epoch;
};

static __device__ __forceinline__ uint32_t smem_of(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }

static __device__ __forceinline__ void bar_init(uint32_t bar, int count) { asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(count)); }

static __device__ __forceinline__ void bar_expect(uint32_t bar, uint32_t bytes)
{
	asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes) : "memory");
}

static __device__ __forceinline__ void bar_arrive(uint32_t bar) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar) : "memory"); }

static __device__ __forceinline__ void bar_wait(uint32_t bar, uint32_t phase)
{
	uint32_t done;

	do
		asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
			     : "=r"(done)
			     : "r"(bar), "r"(phase)
			     : "memory");
	while (!done);
}

static __device__ __forceinline__ void box_load(uint32_t to, const CUtensorMap *map, uint32_t bar, int channel, int token)
{
	asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(to), "l"(map), "r"(bar),
		     "r"(channel), "r"(token)
		     : "memory");
}

/* Operands lie with channels in rows of 128 swizzled bytes, a token per row: 64 channels apart is one box, 8 tokens apart 1024 bytes. */
static __device__ __forceinline__ uint64_t operand(uint32_t at)
{
	return (uint64_t)((at & 0x3ffff) >> 4) | (uint64_t)(BOX >> 4) << 16 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}

#define R8(n)  "%" #n "0, %" #n "1, %" #n "2, %" #n "3, %" #n "4, %" #n "5, %" #n "6, %" #n "7, %" #n "8, %" #n "9, "
#define D4(i)  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define D16(i) D4(i), D4(i + 4), D4(i + 8), D4(i + 12)

/* d (64 x 256 of the warpgroup) = a b + more * d, 16 tokens */
static __device__ __forceinline__ void product(float (&d)[128], uint64_t a, uint64_t b, int more)
{
	asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\nwgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {"
		     "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, " R8(1) R8(2) R8(3) R8(4) R8(5) R8(6) R8(7) R8(8) R8(9) R8(10) R8(11)
		     "%120, %121, %122, %123, %124, %125, %126, %127}, %128, %129, p, 1, 1, 1, 1;\n}"
		     : D16(0), D16(16), D16(32), D16(48), D16(64), D16(80), D16(96), D16(112)
		     : "l"(a), "l"(b), "r"(more));
}

static __device__ __forceinline__ void tile_of(int t, int *bi, int *bj)
{
	int p = (int)((sqrtf(4.0f * (float)t + 1) - 1) / 2), rest;

	while (p * (p + 1) > t)
		p--;
	while ((p + 1) * (p + 2) <= t)
		p++;
	rest = t - p * (p + 1);
	*bi = 2 * p + rest / (p + 1);
	*bj = rest % (p + 1);
}

static __device__ __forceinline__ int64_t begin_of(const struct syrk &s, int cta) { return (int64_t)s.tiles * s.chunks * cta / gridDim.x; }

static __device__ __forceinline__ void consumers_meet(void) { asm volatile("bar.sync 1, 256;" ::: "memory"); }

/* A tile whose beginning is someone else's: what was summed up here is laid down for them. */
static __device__ __forceinline__ void lay_down(const struct syrk &s, const float (&d)[128], int thread)
{
	float *to = s.parts + (int64_t)blockIdx.x * PART + thread;

#pragma unroll
	for (int e = 0; e < 128; e++)
		__stcg(to + e * 256, d[e]);
	__threadfence();
	consumers_meet();
	if (thread == 0)
		asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(s.flags + blockIdx.x), "r"(s.epoch) : "memory");
}

static __device__ __forceinline__ void pick_up(const struct syrk &s, float (&d)[128], int thread, int from)
{
	const float *at = s.parts + (int64_t)from * PART + thread;

	if (thread == 0) {
		unsigned seen;

		do
			asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(s.flags + from) : "memory");
		while (seen != s.epoch);
	}
	consumers_meet();
#pragma unroll
	for (int e = 0; e < 128; e++)
		d[e] += __ldcg(at + e * 256);
}

static __device__ __forceinline__ void add_to_h(const struct syrk &s, const float (&d)[128], int row, int col)
{
#pragma unroll
	for (int e = 0; e < 128; e += 2) {
		const int i = row + (e >> 1 & 1) * 8, j = col + e / 4 * 8;
		float *p = s.h + i * s.ld + j;

		if (i >= s.n || j >= s.n || j > i + 1) /* above the diagonal nothing counts */
			continue;
		if (s.pairs && j + 1 < s.n) {
			float2 v = *(float2 *)p;

			v.x += d[e];
			v.y += d[e + 1];
			*(float2 *)p = v;
			continue;
		}
		p[0] += d[e];
		if (j + 1 < s.n)
			p[1] += d[e + 1];
	}
}

static __device__ void feed(const CUtensorMap *map, const struct syrk &s, uint32_t tiles, uint32_t full, uint32_t empty)
{
	const int64_t end = begin_of(s, (int)blockIdx.x + 1);
	int stage = 0, bi = 0, bj = 0;
	uint32_t phase = 1;

	for (int64_t at = begin_of(s, (int)blockIdx.x); at < end; at++) {
		const int chunk = (int)(at % s.chunks);
		const uint32_t to = tiles + stage * STAGE, bar = full + stage * 8;

		tile_of((int)(at / s.chunks), &bi, &bj);
		bar_wait(empty + stage * 8, phase);
		bar_expect(bar, STAGE);
		for (int k = 0; k < BM / 64; k++)
			box_load(to + k * BOX, map, bar, bi * BM + k * 64, chunk * BK);
		for (int k = 0; k < BN / 64; k++)
			box_load(to + (BM / 64 + k) * BOX, map, bar, bj * BN + k * 64, chunk * BK);
		if (++stage == STAGES)
			stage = 0, phase ^= 1;
	}
}

static __device__ void multiply(const struct syrk &s, uint32_t tiles, uint32_t full, uint32_t empty)
{
	const int thread = (int)threadIdx.x - 128, group = thread / 128, lane = thread & 31, warp = thread / 32 & 3;
	const int64_t end = begin_of(s, (int)blockIdx.x + 1);
	int stage = 0;
	uint32_t phase = 0;
	float d[128];

	for (int64_t at = begin_of(s, (int)blockIdx.x); at < end;) {
		const int tile = (int)(at / s.chunks), first = (int)(at % s.chunks);
		const int64_t tile_end = (int64_t)(tile + 1) * s.chunks;
		const int n = (int)((tile_end < end ? tile_end : end) - at);
		int bi, bj;

		for (int c = 0; c < n; c++) {
			const uint32_t a = tiles + stage * STAGE + group * BOX, b = tiles + stage * STAGE + BM / 64 * BOX;

			bar_wait(full + stage * 8, phase);
			asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
			for (int k = 0; k < BK / 16; k++)
				product(d, operand(a + k * 2048), operand(b + k * 2048), c > 0 || k > 0);
			asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
			asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
			if (c > 0 && lane == 0 && warp == 0) /* the chunk before this one is done with its place */
				bar_arrive(empty + (stage ? stage - 1 : STAGES - 1) * 8);
			if (++stage == STAGES)
				stage = 0, phase ^= 1;
		}
		asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
		if (lane == 0 && warp == 0)
			bar_arrive(empty + (stage ? stage - 1 : STAGES - 1) * 8);
		at += n;
		if (first > 0) {
			lay_down(s, d, thread);
			continue;
		}
		for (int other = (int)blockIdx.x + 1; other < (int)gridDim.x && begin_of(s, other) < tile_end; other++)
			pick_up(s, d, thread, other);
		tile_of(tile, &bi, &bj);
		add_to_h(s, d, bi * BM + group * 64 + warp * 16 + lane / 4, bj * BN + (lane & 3) * 2);
	}
}

static __global__ void __launch_bounds__(384, 1) syrk_runs(const __grid_constant__ CUtensorMap map, const struct syrk s)
{
	extern __shared__ unsigned char shared[];
	const uint32_t tiles = (smem_of(shared) + 1023) & ~1023u, full = tiles + STAGES * STAGE, empty = full + STAGES * 8;

	if (threadIdx.x == 0) {
		for (int i = 0; i < STAGES; i++) {
			bar_init(full + i * 8, 1);
			bar_init(empty + i * 8, 2);
		}
		asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
		asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
	}
	__syncthreads();
	if (threadIdx.x < 128) {
		asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
		if (threadIdx.x == 0)
			feed(&map, s, tiles, full, empty);
	} else {
		asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
		multiply(s, tiles, full, empty);
	}
}

typedef CUresult encode_fn(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *, const cuuint64_t *, const cuuint32_t *, const cuuint32_t *,
			   CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

static bool encode(CUtensorMap *map, const struct bk_mat *x)
{
	static encode_fn *fn;
	const cuuint64_t dims[2] = { (cuuint64_t)x->cols, (cuuint64_t)x->rows }, strides[1] = { (cuuint64_t)x->ld * 2 };
	const cuuint32_t box[2] = { 64, BK }, steps[2] = { 1, 1 };

	if (!fn) {
		enum cudaDriverEntryPointQueryResult found;
		void *p = NULL;

		if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &p, 12000, cudaEnableDefault, &found) != cudaSuccess || found != cudaDriverEntryPointSuccess) {
			(void)cudaGetLastError();
			return false;
		}
		fn = (encode_fn *)p;
	}
	return fn(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, x->p, dims, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
		  CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

/* *done false: not for this device or these addresses; nothing was issued. r->flags: [n_sm], zeros at first. */
int bk_syrk(struct bk_run *r, const struct bk_mat *h, const struct bk_mat *x, int64_t slab, bool *done)
{
	const int blocks = (int)((x->cols + BM - 1) / BM), tiles = blocks / 2 * (blocks / 2 + 1) + (blocks % 2 ? blocks / 2 + 1 : 0);
	int e;

	*done = false;
	if (r->capability != 90 || x->dtype != BK_BF16 || !bk_by8(x) || x->cols < 256 || x->rows < 256 || !r->parts)
		return 0;
	e = (int)cudaFuncSetAttribute(syrk_runs, cudaFuncAttributeMaxDynamicSharedMemorySize, SMEM);
	for (int64_t at = 0; at < x->rows && !e; at += slab) {
		struct bk_mat part = { (uint16_t *)x->p + at * x->ld, x->rows - at < slab ? x->rows - at : slab, x->cols, x->ld, BK_BF16 };
		const int chunks = (int)((part.rows + BK - 1) / BK);
		const int64_t work = (int64_t)tiles * chunks;
		struct syrk s = { (float *)h->p, h->ld, (int)x->cols, chunks, tiles, (uintptr_t)h->p % 8 == 0 && h->ld % 2 == 0, r->parts, r->flags, ++r->epoch };
		CUtensorMap map;
		void *args[] = { &map, &s };

		if (!encode(&map, &part))
			return 0; /* with the first slab only: the others have the same strides */
		e = (int)cudaLaunchCooperativeKernel((const void *)syrk_runs, dim3((unsigned)(work < r->n_sm ? work : r->n_sm)), dim3(384), args, SMEM, r->stream);
	}
	if (e)
		(void)cudaGetLastError();
	*done = true;
	return e;
}

size_t bk_syrk_part_bytes(const struct bk_run *r) { return (size_t)r->n_sm * PART * sizeof(float); }
