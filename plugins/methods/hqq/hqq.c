/* SPDX-License-Identifier: Apache-2.0
 * HQQ, half-quadratic quantization (Badri and Shaji, 2023): zero points and scales that make the p-norm of the error small, p < 1, so that a few large errors
 * count little; needs no data. In turn, for each group: what is left of W - Q(W) after shrinking (sign(d) relu(|d| - |d|^(p-1) / beta)) is taken for outliers, and
 * zero point and scale are put where the rest loses least by squares; beta grows by kappa. The best iterate is kept, the first of which is round to nearest.
 *
 * The published code moves the zero point alone, which is not an integer there. The formats here store integers, on which a mean hardly ever moves anything, so
 * the scale is moved as well. Differences are in steps of the grid: beta then means the same for every layer. */
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "core/plugin/plugin_api.h"

enum { P_LP, P_BETA, P_KAPPA, P_ITERS, P_MOVES, P_STARTS, P_LEAST, P_COUNT };
enum { MOVES_BOTH, MOVES_ZERO, MOVES_SCALE };

static const struct bl_param params[P_COUNT] = {
	[P_LP] = { .name = "lp_norm", .type = BL_PARAM_REAL, .fallback = "0.7", .min = 0.1, .max = 2, .sentence = "Errors count with this power; below 1 large ones count little." },
	[P_BETA] = { .name = "beta", .type = BL_PARAM_REAL, .fallback = "10", .min = 0.01, .max = 100000,
		     .sentence = "How little is taken from errors before the rest counts as outliers, at first; errors are in steps of the grid." },
	[P_KAPPA] = { .name = "kappa", .type = BL_PARAM_REAL, .fallback = "1.01", .min = 1, .max = 10, .sentence = "By what beta grows in each iteration." },
	[P_ITERS] = { .name = "iters", .type = BL_PARAM_INT, .fallback = "20", .min = 0, .max = 1000, .sentence = "Iterations at most; a group ends when it gets no better." },
	[P_MOVES] = { .name = "moves", .type = BL_PARAM_CHOICE, .fallback = "both", .choices = "both|zero|scale",
		      .sentence = "What is moved: zero points (where the scheme has them), scales, or both." },
	[P_STARTS] = { .name = "starts", .type = BL_PARAM_INT, .fallback = "1", .min = 1, .max = 100, .sentence = "From so many ranges it starts, the best end is kept; 1: the whole range." },
	[P_LEAST] = { .name = "least", .type = BL_PARAM_REAL, .fallback = "0.5", .min = 0.05, .max = 0.99, .sentence = "starts > 1: the smallest part of the range that it starts from." },
};

static const char *refuses(const struct bl_grid *g, int64_t rows, int64_t cols)
{
	if (rows < 1 || cols < 1)
		return "the matrix is empty";
	if (g->number != BL_GRID_INT || g->bits < 2 || g->bits > 8)
		return "only integers of 2 to 8 bits are known";
	if (g->group < 0 || (g->group && cols % g->group))
		return "the number of columns is not a multiple of the group size";
	return NULL;
}

static int64_t groups_of(const struct bl_grid *g, int64_t n_rows, int64_t cols) { return n_rows * (g->group ? cols / g->group : 1); }

/* lo, hi of every group */
static size_t scratch_bytes(const struct bl_grid *g, int64_t n_rows, int64_t cols)
{
	return (size_t)groups_of(g, n_rows, cols) * 2 * sizeof(float);
}

static float to_bf16(float x)
{
	uint32_t u;

	memcpy(&u, &x, 4);
	u = (u + 0x7fff + (u >> 16 & 1)) & 0xffff0000u;
	memcpy(&x, &u, 4);
	return x;
}

struct point { float scale; int zero; };
struct group { const float *w; int64_t n; float lo, hi; double p, beta, kappa; int iters, zeros, scales; };

/* The error sum |w - Q(w)|^p at `at`, and where the iteration goes from there. */
static double step(const struct group *g, const struct point *at, double beta, struct point *next)
{
	const float inv = 1 / at->scale, pm1 = (float)(g->p - 1), shrink = (float)(1 / beta), z = (float)at->zero;
	double error = 0, mean = 0, wq = 0, qq = 0, wsum = 0, qsum = 0;
	float zero;

	for (int64_t k = 0; k < g->n; k++) {
		const float x = g->w[k] / at->scale + z, q = rintf(x < g->lo ? g->lo : x > g->hi ? g->hi : x);
		const float w = g->w[k] * inv, d = w - (q - z), size = fabsf(d), power = size > 0 ? powf(size, pm1) : 0;
		const float left = size > 0 ? size - power * shrink : 0, e = left > 0 ? copysignf(left, d) : 0, rest = w - e;

		error += (double)(size * power);
		mean += (double)(q - rest);
		wq += (double)rest * q;
		qq += (double)q * q;
		wsum += rest;
		qsum += q;
	}
	*next = *at;
	if (!isfinite(error) || !isfinite(mean)) /* steps too small for float32 */
		return INFINITY;
	if (g->zeros) {
		zero = rintf((float)(mean / (double)g->n));
		next->zero = (int)(zero < g->lo ? g->lo : zero > g->hi ? g->hi : zero);
	}
	if (g->scales) { /* (sum rest (q - z)) / (sum (q - z)^2), in steps */
		const double zn = next->zero, up = wq - zn * wsum, down = qq - 2 * zn * qsum + zn * zn * (double)g->n;
		const float scale = down > 0 ? to_bf16((float)(at->scale * (up / down))) : 0;

		if (scale >= FLT_MIN && scale <= FLT_MAX)
			next->scale = scale;
	}
	return error * pow(at->scale, g->p);
}

static double descend(const struct group *g, struct point *at)
{
	double best = INFINITY, beta = g->beta;
	struct point now = *at, next;

	for (int i = 0; i <= g->iters; i++) {
		const double error = step(g, &now, beta, &next);

		if (!(error < best))
			break;
		best = error;
		*at = now;
		if (next.scale == now.scale && next.zero == now.zero)
			break;
		now = next;
		beta *= g->kappa;
	}
	return best;
}

static const char *solve_rows(const struct bl_method_rows *c)
{
	const struct bl_host *h = c->host;
	const int64_t n = groups_of(&c->grid, c->n_rows, c->cols), width = c->grid.group ? c->grid.group : c->cols;
	const int half = 1 << (c->grid.bits - 1), starts = (int)c->params[P_STARTS], moves = (int)c->params[P_MOVES];
	float *lo = c->scratch, *hi = lo + n;
	struct group g = { .n = width, .lo = (float)-half, .hi = (float)(half - 1), .p = c->params[P_LP], .beta = c->params[P_BETA], .kappa = c->params[P_KAPPA],
			   .iters = (int)c->params[P_ITERS], .zeros = c->zeros && moves != MOVES_SCALE, .scales = moves != MOVES_ZERO };

	h->range(lo, hi, c->w, c->n_rows, c->cols, &c->grid);
	h->scales(c->scales, c->zeros, lo, hi, n, 1, &c->grid);
	for (int64_t i = 0; i < n; i++) {
		struct point best = { c->scales[i], c->zeros ? c->zeros[i] : 0 };
		double least;

		g.w = c->w + i * width;
		least = descend(&g, &best);
		for (int s = 1; s < starts; s++) {
			const double part = 1 - (1 - c->params[P_LEAST]) * s / (starts - 1);
			struct point at = { 0, 0 };
			int8_t zero = 0;
			double error;

			h->scales(&at.scale, c->zeros ? &zero : NULL, lo + i, hi + i, 1, part, &c->grid);
			at.zero = zero;
			error = descend(&g, &at);
			if (error < least) {
				least = error;
				best = at;
			}
		}
		c->scales[i] = best.scale;
		if (c->zeros)
			c->zeros[i] = (int8_t)best.zero;
	}
	h->encode(c->codes, c->w, c->scales, c->zeros, c->n_rows, c->cols, &c->grid, BL_QUOTIENT_F32);
	return NULL;
}

static const struct bl_method hqq = {
	.name = "hqq",
	.sentence = "Half-quadratic: zero points and scales by a p-norm of the error that forgives outliers; needs no data.",
	.params = params,
	.n_params = P_COUNT,
	.refuses = refuses,
	.scratch_bytes = scratch_bytes,
	.solve_rows = solve_rows,
};
static const struct bl_method *const methods[] = { &hqq, NULL };
static const struct bl_plugin_v1 plugin = {
	.api_version = BL_PLUGIN_API_VERSION,
	.name = "hqq",
	.version = "1",
	.sentence = "Half-quadratic quantization of integer schemes.",
	.methods = methods,
};

BL_PLUGIN_EXPORT const struct bl_plugin_v1 *bl_plugin_v1(void) { return &plugin; }
