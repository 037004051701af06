/* SPDX-License-Identifier: Apache-2.0
 * What is sequential over columns on the GPU, rounding with feedback and coordinate descent: a row per thread, 32 columns in registers at a time, the rest of
 * the block of 128 in shared memory. */
#include "kernels/solve/solve_cuda.cuh"

#define BLOCK   BK_SOLVE_BLOCK
#define COLUMNS 32 /* in registers; where two matrices are in shared memory, half of them */

enum mode { ROUND, DESCEND, FED };

struct walk_args {
	int8_t *codes;
	int64_t ldc;
	struct view d, w, m; /* m: R (ROUND, FED) or h (DESCEND); w: not DESCEND */
	const float *t;      /* [n_rows, BLOCK]: feedback of the columns before, times R (ROUND; FED: and S); gradient d h (DESCEND, ld ldt) */
	int64_t ldt;
	float *delta;        /* DESCEND: out [n_rows, BLOCK], what moved */
	const float *scales;
	const int8_t *zeros;
	const int32_t *group_of;
	struct bk_grid g;
	int64_t n_rows, spr, width, c0;
	int n;               /* columns of this block */
	const int8_t *mask;  /* ROUND: where it is not 0 the weight becomes 0; NULL: nowhere */
	int64_t ldm;
	struct view s, v;    /* FED: bk_feed's, or NULL */
	const float *first;
};

template <int MODE> static __global__ void __launch_bounds__(ROWS) walk_kernel(struct walk_args a)
{
	enum { SUB = MODE == FED ? COLUMNS / 2 : COLUMNS };
	__shared__ float t[BLOCK][ROWS], m[COLUMNS][BLOCK]; /* FED: S below R */
	const int tid = (int)threadIdx.x;
	const int64_t row = (int64_t)blockIdx.x * ROWS + tid;
	const bool live = row < a.n_rows;
	const float lo = bk_grid_lo(&a.g), hi = bk_grid_hi(&a.g);

	for (int e = tid; e < ROWS * BLOCK; e += ROWS) {
		const int r = e / BLOCK, c = e % BLOCK;
		const int64_t at = (int64_t)blockIdx.x * ROWS + r;

		t[c][r] = at < a.n_rows && c < a.n ? a.t[at * a.ldt + c] : 0;
	}
	for (int j0 = 0; j0 < a.n; j0 += SUB) {
		float x[SUB], e[SUB], v[SUB];

		__syncthreads();
		for (int i = tid; i < SUB * BLOCK; i += ROWS) {
			const int r = j0 + i / BLOCK, c = i % BLOCK;

			m[i / BLOCK][c] = r < a.n && c < a.n ? a.m.p[(a.c0 + r) * a.m.ld + a.c0 + c] : (r == c);
			if (MODE == FED)
				m[(SUB + i / BLOCK) % COLUMNS][c] = a.s.p && r < a.n && c < a.n ? a.s.p[(a.c0 + r) * a.s.ld + a.c0 + c] : 0;
		}
		__syncthreads();
#pragma unroll
		for (int j = 0; j < SUB; j++)
			x[j] = t[j0 + j][tid];
#pragma unroll
		for (int j = 0; j < SUB; j++) {
			const int64_t k = a.c0 + j0 + j;
			const float diagonal = m[j][j0 + j];

			e[j] = v[j] = 0;
			if (live && j0 + j < a.n) {
				const int64_t group = MODE == DESCEND ? k / a.width : a.group_of[k];
				const bool full = MODE == ROUND && a.g.number == BK_FULL;
				const float scale = full ? 1 : a.scales[row * a.spr + group], zero = a.zeros ? (float)a.zeros[row * a.spr + group] : 0;

				if (MODE != DESCEND) {
					const float w = a.w.p[row * a.w.ld + k];

					v[j] = MODE == FED && k == 0 && a.first ? a.first[row] : w + x[j] / diagonal;
					const struct bk_code q = MODE == ROUND && a.mask && a.mask[row * a.ldm + k] ? bk_grid_zero(zero, a.g.number)
														     : bk_grid_round(v[j], scale, zero, a.g.number, lo, hi);

					if (full)
						((uint16_t *)(void *)a.codes)[row * a.ldc + k] = (uint16_t)q.code;
					else
						a.codes[row * a.ldc + k] = (int8_t)q.code;
					a.d.p[row * a.d.ld + k] = e[j] = w - q.value;
					if (MODE == FED && a.v.p)
						a.v.p[row * a.v.ld + k] = v[j];
				} else {
					const int code = a.codes[row * a.ldc + k];
					const float now = bk_grid_value(code, scale, zero, a.g.number);
					const struct bk_code q = bk_grid_round(now + x[j] / diagonal, scale, zero, a.g.number, lo, hi);

					if (q.code != code) {
						const float step = q.value - now;

						a.codes[row * a.ldc + k] = (int8_t)q.code;
						a.d.p[row * a.d.ld + k] -= step;
						e[j] = -step;
					}
				}
			}
			if (MODE == DESCEND && live && j0 + j < a.n)
				a.delta[row * BLOCK + j0 + j] = -e[j];
#pragma unroll
			for (int l = j + 1; l < SUB; l++)
				x[l] += e[j] * m[j][j0 + l];
			if (MODE == FED) {
#pragma unroll
				for (int l = j + 1; l < SUB; l++)
					x[l] += v[j] * m[(SUB + j) % COLUMNS][j0 + l];
			}
		}
		for (int l = j0 + SUB; l < a.n; l++) {
			float sum = t[l][tid];

#pragma unroll
			for (int j = 0; j < SUB; j++)
				sum += e[j] * m[j][l];
			if (MODE == FED) {
#pragma unroll
				for (int j = 0; j < SUB; j++)
					sum += v[j] * m[(SUB + j) % COLUMNS][l];
			}
			t[l][tid] = sum;
		}
	}
}

/* What flows into n columns from c0 on: [d, v] of the columns before, times [R; S]. */
static int feedback(const struct bk_solve *s, void *work, const struct bk_mat *d, const struct bk_mat *r, const struct bk_feed *f, int64_t c0, int64_t n)
{
	const struct bk_mat t = { work, d->rows, n, BLOCK, BK_F32 };
	int error;

	if (!c0)
		return s->ops->zero(s->run, work, (size_t)(d->rows * BLOCK) * sizeof(float));
	const struct bk_mat before = part(d, 0, 0, d->rows, c0), above = part(r, 0, c0, c0, n);

	error = s->ops->gemm(s->run, &t, &before, 0, &above, 0, 1, 0, NULL);
	if (error || !f->s)
		return error;
	const struct bk_mat rounded = part(f->v, 0, 0, d->rows, c0), over = part(f->s, 0, c0, c0, n);

	return s->ops->gemm(s->run, &t, &rounded, 0, &over, 0, 1, 1, NULL);
}

int bk_solve_round(const struct bk_solve *s, const struct bk_mat *codes, const struct bk_mat *d, const struct bk_mat *w, const struct bk_mat *r,
		     const float *scales, const int8_t *zeros, const int32_t *group_of, const struct bk_grid *g, const struct bk_feed *f,
		     const struct bk_mat *mask)
{
	const int64_t width = g->group ? g->group : w->cols, rows = w->rows, cols = w->cols;
	const struct view none = { NULL, 0 };
	static const struct bk_feed nothing = { NULL, NULL, NULL };
	void *work = NULL;
	int error;

	if (!f)
		f = &nothing;
	if (cols % width || (g->number == BK_FULL) != (codes->dtype == BK_BF16) || r->rows != cols || r->cols != cols || d->rows != rows || d->cols != cols || !group_of ||
	    !f->s != !f->v)
		return BK_RUN_REFUSED;
	if (f->s && (f->s->rows != cols || f->s->cols != cols || f->v->rows != rows || f->v->cols != cols))
		return BK_RUN_REFUSED;
	error = s->ops->alloc(s->run, &work, (size_t)(rows * BLOCK) * sizeof(float));
	for (int64_t c0 = 0; c0 < cols && !error; c0 += BLOCK) {
		const int64_t n = cols - c0 < BLOCK ? cols - c0 : BLOCK;
		struct walk_args a = { (int8_t *)codes->p, codes->ld, view_of(d), view_of(w), view_of(r), (const float *)work, BLOCK, NULL, scales,
				       g->number == BK_FULL ? NULL : zeros, group_of, *g, rows, cols / width, width, c0, (int)n,
				       mask ? (const int8_t *)mask->p : NULL, mask ? mask->ld : 0, f->s ? view_of(f->s) : none, f->s ? view_of(f->v) : none, f->first };

		error = feedback(s, work, d, r, f, c0, n);
		if (error)
			break;
		if (f->s || f->first)
			walk_kernel<FED><<<blocks_of(rows, ROWS), ROWS, 0, bk_run_stream(s->run)>>>(a);
		else
			walk_kernel<ROUND><<<blocks_of(rows, ROWS), ROWS, 0, bk_run_stream(s->run)>>>(a);
		error = bk_launched();
	}
	s->ops->release(s->run, work);
	return error;
}

int bk_solve_descend(const struct bk_solve *s, const struct bk_mat *codes, const struct bk_mat *d, const struct bk_mat *h, const float *scales,
		   const int8_t *zeros, const struct bk_grid *g, int sweeps)
{
	const int64_t width = g->group ? g->group : d->cols, rows = d->rows, cols = d->cols;
	void *work = NULL, *delta = NULL;
	int error;

	if (cols % width || h->rows != cols || h->cols != cols)
		return BK_RUN_REFUSED;
	error = s->ops->alloc(s->run, &work, (size_t)(rows * cols) * sizeof(float));
	if (!error)
		error = s->ops->alloc(s->run, &delta, (size_t)(rows * BLOCK) * sizeof(float));
	const struct bk_mat grad = { work, rows, cols, cols, BK_F32 };

	if (!error)
		error = s->ops->gemm(s->run, &grad, d, 0, h, 0, 1, 0, NULL);
	for (int sweep = 0; sweep < sweeps && !error; sweep++)
		for (int64_t c0 = 0; c0 < cols && !error; c0 += BLOCK) {
			const int64_t n = cols - c0 < BLOCK ? cols - c0 : BLOCK;
			const struct bk_mat moved = { delta, rows, n, BLOCK, BK_F32 }, strip = part(h, c0, 0, n, cols);
			struct walk_args a = { (int8_t *)codes->p, codes->ld, view_of(d), view_of(d), view_of(h), (const float *)work + c0, cols, (float *)delta, scales,
					       zeros, NULL, *g, rows, cols / width, width, c0, (int)n, NULL, 0, { NULL, 0 }, { NULL, 0 }, NULL };

			walk_kernel<DESCEND><<<blocks_of(rows, ROWS), ROWS, 0, bk_run_stream(s->run)>>>(a);
			error = bk_launched();
			if (!error)
				error = s->ops->gemm(s->run, &grad, &moved, 0, &strip, 0, -1, 1, NULL);
		}
	s->ops->release(s->run, work);
	s->ops->release(s->run, delta);
	return error;
}
