/* SPDX-License-Identifier: Apache-2.0
 * Each item merges the front before it, moved by each of the item's options. Of a merged front only where a point came from is kept. */
#include "core/plan/knapsack.h"

#include <math.h>
#include <string.h>

#include "core/base/mem.h"

struct point { uint64_t cost; double loss; uint32_t from; uint8_t option; };
struct origin { uint32_t from; uint8_t option; };

struct bl_knapsack {
	struct point *front; int n;           /* of all items */
	struct origin **origin; int n_items;  /* [n_items] of the front behind that item */
	uint64_t grain;
};

void bl_knapsack_free(struct bl_knapsack *k)
{
	if (!k)
		return;
	for (int i = 0; i < k->n_items; i++)
		bl_free(k->origin[i]);
	bl_free(k->origin);
	bl_free(k->front);
	bl_free(k);
}

/* The options' copies of the front are sorted each; the next point is the cheapest of their heads, and the better one of equal costs. Returns how many are kept. */
static int merge(struct point *to, const struct point *front, int n, const struct bl_knapsack_option *o, int n_options, int *head)
{
	int made = 0;

	memset(head, 0, (size_t)n_options * sizeof *head);
	for (;;) {
		struct point best = {UINT64_MAX, INFINITY, 0, 0};
		int of = -1;
		for (int i = 0; i < n_options; i++) {
			if (head[i] == n)
				continue;
			uint64_t cost = front[head[i]].cost + o[i].cost;
			double loss = front[head[i]].loss + o[i].loss;
			if (of < 0 || cost < best.cost || (cost == best.cost && loss < best.loss)) {
				best = (struct point){cost, loss, (uint32_t)head[i], (uint8_t)i};
				of = i;
			}
		}
		if (of < 0)
			return made;
		head[of]++;
		if (!made || best.loss < to[made - 1].loss)
			to[made++] = best;
	}
}

/* The best point of each stretch of `grain`: the last one, for losses fall. The cheapest of all stays. */
static int thin(struct point *p, int n, int points, uint64_t *grain)
{
	uint64_t step = (p[n - 1].cost - p[0].cost) / (uint64_t)(points - 1) + 1;
	int made = 1;

	for (int i = 1; i < n; i++)
		if (i == n - 1 || (p[i].cost - p[0].cost) / step != (p[i + 1].cost - p[0].cost) / step)
			p[made++] = p[i];
	*grain = step > *grain ? step : *grain;
	return made;
}

static enum bl_status check(const struct bl_knapsack_option *option, const int *n_options, int n_items, struct bl_err *err)
{
	uint64_t most = 0;

	for (int i = 0; i < n_items; option += n_options[i++]) {
		uint64_t dearest = 0;
		if (n_options[i] < 1 || n_options[i] > 255)
			return bl_fail(err, BL_INVALID, "item %d has %d options: must be 1 to 255", i, n_options[i]);
		for (int j = 0; j < n_options[i]; j++) {
			if (!isfinite(option[j].loss))
				return bl_fail(err, BL_INVALID, "item %d, option %d: its loss is not finite", i, j);
			dearest = option[j].cost > dearest ? option[j].cost : dearest;
		}
		if (dearest > UINT64_MAX / 2 - most)
			return bl_fail(err, BL_INVALID, "the costs do not fit 63 bits");
		most += dearest;
	}
	return BL_OK;
}

static enum bl_status step(struct bl_knapsack *k, int item, const struct bl_knapsack_option *o, int n_options, int points, struct bl_err *err)
{
	struct point *to = NULL;
	int head[255];

	if (bl_try_alloc(&to, (size_t)k->n * (size_t)n_options, sizeof *to, "the front of a search", err))
		return err->status;
	int n = merge(to, k->front, k->n, o, n_options, head);
	if (n > points)
		n = thin(to, n, points, &k->grain);
	bl_free(k->front);
	k->front = to;
	k->n = n;
	if (bl_try_alloc(&k->origin[item], (size_t)n, sizeof *k->origin[item], "the front of a search", err))
		return err->status;
	for (int i = 0; i < n; i++)
		k->origin[item][i] = (struct origin){to[i].from, to[i].option};
	return BL_OK;
}

enum bl_status bl_knapsack_solve(struct bl_knapsack **out, const struct bl_knapsack_option *option, const int *n_options, int n_items, int points, struct bl_err *err)
{
	struct bl_knapsack *k;

	if (check(option, n_options, n_items, err))
		return err->status;
	k = bl_xalloc(1, sizeof *k);
	k->front = bl_xalloc(1, sizeof *k->front);
	k->n = 1;
	k->n_items = n_items;
	k->origin = bl_xalloc((size_t)n_items + 1, sizeof *k->origin);
	points = points > 1 ? points : BL_KNAPSACK_POINTS;
	for (int i = 0; i < n_items && !err->status; option += n_options[i++])
		step(k, i, option, n_options[i], points, err);
	if (err->status)
		bl_knapsack_free(k);
	else
		*out = k;
	return err->status;
}

int bl_knapsack_n(const struct bl_knapsack *k) { return k->n; }
bool bl_knapsack_exact(const struct bl_knapsack *k) { return !k->grain; }
uint64_t bl_knapsack_grain(const struct bl_knapsack *k) { return k->grain; }

struct bl_knapsack_option bl_knapsack_at(const struct bl_knapsack *k, int point)
{
	return (struct bl_knapsack_option){k->front[point].cost, k->front[point].loss};
}

int bl_knapsack_within(const struct bl_knapsack *k, uint64_t budget)
{
	int lo = 0, hi = k->n; /* first point that costs more */

	while (lo < hi) {
		int mid = lo + (hi - lo) / 2;
		if (k->front[mid].cost <= budget)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo - 1;
}

void bl_knapsack_choice(const struct bl_knapsack *k, int point, int *choice)
{
	uint32_t at = (uint32_t)point;

	for (int i = k->n_items; i-- > 0; at = k->origin[i][at].from)
		choice[i] = k->origin[i][at].option;
}
