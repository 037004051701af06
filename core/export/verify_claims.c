/* SPDX-License-Identifier: Apache-2.0
 * Zeros that were promised. An export of pruned weights says so in config.json, under a key of its own that servers pass over:
 *     "bitlathe": { "sparsity": [ { "mask_structure": "2:4", "sparsity": 0.5, "modules": ["model.layers.0.mlp.down_proj", ...] } ] }
 * They are stored like any other value, so that only counting tells. */
#include <stdio.h>
#include <string.h>

#include "core/base/json.h"
#include "core/export/verify_private.h"

static void claim(struct bl_verifier *v, const cJSON *o)
{
	const cJSON *structure = cJSON_GetObjectItemCaseSensitive(o, "mask_structure"), *part = cJSON_GetObjectItemCaseSensitive(o, "sparsity"),
		    *modules = cJSON_GetObjectItemCaseSensitive(o, "modules");
	int n = 0, m = 0;

	if (!cJSON_IsString(structure) || !cJSON_IsNumber(part) || !cJSON_IsArray(modules) || sscanf(structure->valuestring, "%d:%d", &n, &m) != 2 || n < 0 || m < n || m > 16 ||
	    (m && 4096 % m) || !(part->valuedouble > 0 && part->valuedouble <= 1)) {
		bl_finding_add(v->r, true, "config.json", "bitlathe.sparsity: an entry is not understood, so that its zeros cannot be counted");
		return;
	}
	for (const cJSON *e = modules->child; e; e = e->next) {
		int k = 0;

		while (cJSON_IsString(e) && k < v->n_stored && strcmp(v->stored[k].member->name, e->valuestring))
			k++;
		if (!cJSON_IsString(e) || k == v->n_stored || (m && v->stored[k].member->cols % m)) {
			bl_finding_add(v->r, true, "config.json", "bitlathe.sparsity: %.200s: no linear that this can be said of", cJSON_IsString(e) ? e->valuestring : "not a name");
			continue;
		}
		v->stored[k].claim = part->valuedouble;
		v->stored[k].claim_n = n;
		v->stored[k].claim_m = m;
	}
}

void bl_claims_read(struct bl_verifier *v)
{
	const cJSON *own = cJSON_GetObjectItemCaseSensitive(v->model->config.json, "bitlathe"),
		    *list = own ? cJSON_GetObjectItemCaseSensitive(own, "sparsity") : NULL;

	for (const cJSON *e = cJSON_IsArray(list) ? list->child : NULL; e; e = e->next)
		claim(v, e);
}

void bl_claims_count(const struct bl_stored *s, const bool *zero, int64_t n, int64_t *zeros, int64_t *astray)
{
	const int64_t m = s->claim_m ? s->claim_m : n;

	for (int64_t at = 0; at < n; at += m) {
		int64_t here = 0;

		for (int64_t i = at; i < at + m && i < n; i++)
			here += zero[i];
		*zeros += here;
		*astray += s->claim_m && here < s->claim_n;
	}
}

void bl_claims_check(struct bl_verifier *v)
{
	for (int k = 0; k < v->n_stored; k++) {
		const struct bl_stored *s = &v->stored[k];
		const int64_t all = s->member->rows * s->member->cols;
		/* shares are whole numbers of weights, row by row or block by block of columns */
		const double least = s->claim * (double)all - (double)(s->member->rows + s->member->cols / 128 + 1);

		if (!(s->claim > 0) || (s->l.format && !s->understood))
			continue;
		v->r->pruned_elems += all;
		v->r->zeros += s->zeros;
		if (s->astray)
			bl_finding_add(v->r, true, s->member->name, "not %d:%d sparse as config.json says: %lld groups of %d have fewer zeros", s->claim_n, s->claim_m,
				       (long long)s->astray, s->claim_m);
		else if ((double)s->zeros < least)
			bl_finding_add(v->r, true, s->member->name, "%lld of %lld weights are 0, config.json says %.1f %%", (long long)s->zeros, (long long)all, 100 * s->claim);
	}
}
