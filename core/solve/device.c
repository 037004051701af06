/* SPDX-License-Identifier: Apache-2.0
 * What a method that solves whole units can call: the engine's operations with the plugin's words for them. The first error is kept; every later call hands it
 * back, so that a plugin which overlooks it cannot go on with garbage. */
#include "core/solve/device.h"

#include <stdio.h>
#include <string.h>

#include "core/plugin/host.h"

static struct bl_solve_device *of(const struct bl_device *d) { return d->host; }

static const char *told(struct bl_solve_device *d, int error)
{
	if (error && !d->error) {
		d->error = error;
		snprintf(d->why, sizeof d->why, "%s", d->engine->ops->error_text(error));
	}
	return d->error ? d->why : NULL;
}

static struct bk_mat mat(const struct bl_dm *m)
{
	return (struct bk_mat){ m->p, m->rows, m->cols, m->ld, m->type == BL_DM_F32 ? BK_F32 : m->type == BL_DM_BF16 ? BK_BF16 : BK_I8 };
}

/* With what the plugin need not know: the number that scales are in units of, and that there is nothing to seek. */
static struct bk_grid grid_of(const struct bl_solve_device *d, const struct bl_grid *g)
{
	struct bk_grid k = bl_grid_of_plugin(g);

	k.unit = d->global;
	if (d->given)
		k.scale = BK_SCALE_GIVEN;
	return k;
}

static const char *dev_alloc(const struct bl_device *dev, void **out, size_t bytes)
{
	struct bl_solve_device *d = of(dev);
	int slot = 0;

	*out = NULL;
	while (slot < BL_DEVICE_BLOCKS && d->blocks[slot])
		slot++;
	if (slot == BL_DEVICE_BLOCKS)
		return "too many allocations are held at once";
	if (d->error)
		return d->why;
	const int error = d->engine->ops->alloc(d->engine->run, &d->blocks[slot], bytes);
	if (error)
		d->blocks[slot] = NULL;
	*out = d->blocks[slot];
	return told(d, error);
}

static void dev_release(const struct bl_device *dev, void *p)
{
	struct bl_solve_device *d = of(dev);

	for (int i = 0; p && i < BL_DEVICE_BLOCKS; i++)
		if (d->blocks[i] == p) {
			d->engine->ops->release(d->engine->run, p);
			d->blocks[i] = NULL;
			return;
		}
}

static const char *dev_put(const struct bl_device *dev, void *to, const void *from, size_t bytes)
{
	struct bl_solve_device *d = of(dev);

	return d->error ? d->why : told(d, d->engine->ops->put(d->engine->run, to, from, bytes));
}

static const char *dev_get(const struct bl_device *dev, void *to, const void *from, size_t bytes)
{
	struct bl_solve_device *d = of(dev);

	return d->error ? d->why : told(d, d->engine->ops->get(d->engine->run, to, from, bytes));
}

static const char *dev_copy(const struct bl_device *dev, void *to, const void *from, size_t bytes)
{
	struct bl_solve_device *d = of(dev);

	return d->error ? d->why : told(d, d->engine->ops->copy(d->engine->run, to, from, bytes));
}

static const char *dev_gemm(const struct bl_device *dev, const struct bl_dm *c, const struct bl_dm *a, int ta, const struct bl_dm *b, int tb, float alpha, float beta)
{
	struct bl_solve_device *d = of(dev);
	const struct bk_mat mc = mat(c), ma = mat(a), mb = mat(b);

	return d->error ? d->why : told(d, d->engine->ops->gemm(d->engine->run, &mc, &ma, ta, &mb, tb, alpha, beta, NULL));
}

static const char *dev_permute_sym(const struct bl_device *dev, const struct bl_dm *to, const struct bl_dm *h, const int32_t *order, double damp, double dead)
{
	struct bl_solve_device *d = of(dev);
	const struct bk_mat a = mat(to), b = mat(h);

	return d->error ? d->why : told(d, d->ops->permute_sym(&d->solve, &a, &b, order, damp, dead));
}

static const char *dev_factor(const struct bl_device *dev, const struct bl_dm *h, int *failed)
{
	struct bl_solve_device *d = of(dev);
	const struct bk_mat a = mat(h);

	*failed = 1;
	return d->error ? d->why : told(d, d->ops->factor(&d->solve, &a, failed));
}

static const char *dev_permute_cols(const struct bl_device *dev, const struct bl_dm *to, const struct bl_dm *from, const int32_t *order, int back)
{
	struct bl_solve_device *d = of(dev);
	const struct bk_mat a = mat(to), b = mat(from);

	return d->error ? d->why : told(d, d->ops->permute_cols(&d->solve, &a, &b, order, back));
}

static const char *dev_scale_search_norm(const struct bl_device *dev, float *scales, int8_t *zeros, const struct bl_dm *w, const float *weight,
					 const struct bl_grid *g, const struct bl_scale_search *how, double norm)
{
	struct bl_solve_device *d = of(dev);
	const struct bk_mat a = mat(w);
	const struct bk_grid k = grid_of(d, g);
	const struct bk_search s = { how->least, how->steps, norm, how->full_range };

	if (d->error || d->given)
		return d->error ? d->why : told(d, d->engine->ops->copy(d->engine->run, scales, d->given, d->given_bytes));
	return told(d, d->ops->scale_search(&d->solve, scales, zeros, &a, weight, &k, &s));
}

static const char *dev_scale_search(const struct bl_device *dev, float *scales, int8_t *zeros, const struct bl_dm *w, const float *weight, const struct bl_grid *g,
				    const struct bl_scale_search *how)
{
	return dev_scale_search_norm(dev, scales, zeros, w, weight, g, how, 2);
}

static const char *round_on(const struct bl_device *dev, const struct bl_dm *codes, const struct bl_dm *e, const struct bl_dm *w, const struct bl_dm *r,
			    const float *scales, const int8_t *zeros, const int32_t *group_of, const struct bl_grid *g, const struct bk_feed *f, const struct bk_mat *mask)
{
	struct bl_solve_device *d = of(dev);
	const struct bk_mat mc = mat(codes), me = mat(e), mw = mat(w), mr = mat(r);
	const struct bk_grid k = grid_of(d, g);

	return d->error ? d->why : told(d, d->ops->round(&d->solve, &mc, &me, &mw, &mr, scales, zeros, group_of, &k, f, mask));
}

static const char *dev_round(const struct bl_device *dev, const struct bl_dm *codes, const struct bl_dm *e, const struct bl_dm *w, const struct bl_dm *r,
			     const float *scales, const int8_t *zeros, const int32_t *group_of, const struct bl_grid *g)
{
	return round_on(dev, codes, e, w, r, scales, zeros, group_of, g, NULL, NULL);
}

static const char *dev_round_masked(const struct bl_device *dev, const struct bl_dm *codes, const struct bl_dm *e, const struct bl_dm *w, const struct bl_dm *r,
				    const float *scales, const int8_t *zeros, const int32_t *group_of, const struct bl_grid *g, const struct bl_dm *mask)
{
	const struct bk_mat mm = mat(mask);

	return round_on(dev, codes, e, w, r, scales, zeros, group_of, g, NULL, &mm);
}

static const char *dev_prune(const struct bl_device *dev, const struct bl_dm *mask, const struct bl_dm *e, const struct bl_dm *w, const struct bl_dm *r,
			     const struct bl_prune *how)
{
	struct bl_solve_device *d = of(dev);
	const struct bk_mat mm = mat(mask), me = mat(e), mw = mat(w), mr = mat(r);
	const struct bk_prune k = { how->ratio, how->n, how->m };

	return d->error ? d->why : told(d, d->ops->prune(&d->solve, &mm, &me, &mw, &mr, &k));
}

static const char *dev_select(const struct bl_device *dev, const struct bl_dm *mask, const struct bl_dm *w, const float *weight, const struct bl_prune *how)
{
	struct bl_solve_device *d = of(dev);
	const struct bk_mat mm = mat(mask), mw = mat(w);
	const struct bk_prune k = { how->ratio, how->n, how->m };

	return d->error ? d->why : told(d, d->ops->select(&d->solve, &mm, &mw, weight, &k));
}

static const char *dev_descend(const struct bl_device *dev, const struct bl_dm *codes, const struct bl_dm *e, const struct bl_dm *h, const float *scales,
			       const int8_t *zeros, const struct bl_grid *g, int sweeps)
{
	struct bl_solve_device *d = of(dev);
	const struct bk_mat mc = mat(codes), me = mat(e), mh = mat(h);
	const struct bk_grid k = grid_of(d, g);

	return d->error ? d->why : told(d, d->ops->descend(&d->solve, &mc, &me, &mh, scales, zeros, &k, sweeps));
}

static const char *dev_refit(const struct bl_device *dev, float *scales, const struct bl_dm *e, const struct bl_dm *codes, const struct bl_dm *w, const struct bl_dm *h,
			     const int8_t *zeros, const struct bl_grid *g)
{
	struct bl_solve_device *d = of(dev);
	const struct bk_mat me = mat(e), mc = mat(codes), mw = mat(w), mh = mat(h);
	const struct bk_grid k = grid_of(d, g);

	d->refit_asked |= d->given != NULL;
	if (d->error || d->given)
		return d->error ? d->why : NULL;
	return told(d, d->ops->refit(&d->solve, scales, &me, &mc, &mw, &mh, zeros, &k));
}

static const char *dev_loss(const struct bl_device *dev, double *out, const struct bl_dm *e, const struct bl_dm *h)
{
	struct bl_solve_device *d = of(dev);
	const struct bk_mat me = mat(e), mh = mat(h);

	return d->error ? d->why : told(d, d->ops->loss(&d->solve, out, &me, &mh));
}

static const char *dev_solve_rows(const struct bl_device *dev, const struct bl_dm *y, const struct bl_dm *r)
{
	struct bl_solve_device *d = of(dev);
	const struct bk_mat my = mat(y), mr = mat(r);

	return d->error ? d->why : told(d, d->ops->solve_rows(&d->solve, &my, &mr));
}

static const char *dev_add_scaled(const struct bl_device *dev, const struct bl_dm *y, const struct bl_dm *x, float a)
{
	struct bl_solve_device *d = of(dev);
	const struct bk_mat my = mat(y), mx = mat(x);

	return d->error ? d->why : told(d, d->ops->add_scaled(&d->solve, &my, &mx, a));
}

static const char *dev_remainder(const struct bl_device *dev, const struct bl_dm *e, const struct bl_dm *w, const struct bl_dm *codes, const float *scales,
				 const int8_t *zeros, const struct bl_grid *g)
{
	struct bl_solve_device *d = of(dev);
	const struct bk_mat me = mat(e), mw = mat(w), mc = mat(codes);
	const struct bk_grid k = grid_of(d, g);

	return d->error ? d->why : told(d, d->ops->diff(&d->solve, &me, &mw, &mc, scales, zeros, NULL, &k));
}

static const char *dev_difference(const struct bl_device *dev, const struct bl_dm *to, const struct bl_dm *g, const struct bl_dm *h, const int32_t *order)
{
	struct bl_solve_device *d = of(dev);
	const struct bk_mat mt = mat(to), mg = mat(g), mh = mat(h);

	return d->error ? d->why : told(d, d->ops->difference(&d->solve, &mt, &mg, &mh, order));
}

static const char *dev_feed(const struct bl_device *dev, const struct bl_dm *s, const struct bl_dm *r, float a)
{
	struct bl_solve_device *d = of(dev);
	const struct bk_mat ms = mat(s), mr = mat(r);

	return d->error ? d->why : told(d, d->ops->feed(&d->solve, &ms, &mr, a));
}

static const char *dev_round_fed(const struct bl_device *dev, const struct bl_dm *codes, const struct bl_dm *e, const struct bl_dm *w, const struct bl_dm *r,
				 const float *scales, const int8_t *zeros, const int32_t *group_of, const struct bl_grid *g, const struct bl_dm *s, const struct bl_dm *v,
				 const float *first)
{
	const struct bk_mat ms = mat(s ? s : r), mv = mat(v ? v : r);
	const struct bk_feed f = { s ? &ms : NULL, v ? &mv : NULL, first };

	return round_on(dev, codes, e, w, r, scales, zeros, group_of, g, &f, NULL);
}

static int dev_cancelled(const struct bl_device *dev)
{
	const atomic_int *cancel = of(dev)->cancel;

	return cancel && atomic_load(cancel);
}

void bl_solve_device_init(struct bl_solve_device *d, struct bl_engine *e, const atomic_int *cancel)
{
	memset(d, 0, sizeof *d);
	d->engine = e;
	d->cancel = cancel;
	d->ops = e->solve;
	d->solve = (struct bk_solve){ .ops = e->ops, .run = e->run, .parallel = bl_engine_parallel, .parallel_ctx = e };
	d->device = (struct bl_device){
		.size = sizeof(struct bl_device), .host = d, .alloc = dev_alloc, .release = dev_release, .put = dev_put, .get = dev_get, .copy = dev_copy,
		.gemm = dev_gemm, .permute_sym = dev_permute_sym, .factor = dev_factor, .permute_cols = dev_permute_cols, .scale_search = dev_scale_search,
		.round = dev_round, .descend = dev_descend, .refit = dev_refit, .loss = dev_loss, .cancelled = dev_cancelled, .scale_search_norm = dev_scale_search_norm,
		.prune = dev_prune, .select = dev_select, .round_masked = dev_round_masked,
		.solve_rows = dev_solve_rows, .add_scaled = dev_add_scaled, .remainder = dev_remainder, .difference = dev_difference, .feed = dev_feed,
		.round_fed = dev_round_fed,
	};
}

void bl_solve_device_fini(struct bl_solve_device *d)
{
	for (int i = 0; i < BL_DEVICE_BLOCKS; i++)
		if (d->blocks[i])
			d->engine->ops->release(d->engine->run, d->blocks[i]);
	memset(d->blocks, 0, sizeof d->blocks);
}
