/* SPDX-License-Identifier: Apache-2.0
 * Added tokens: found in the text before anything else happens to it, the longest of those that begin first. */
#include <string.h>

#include "core/base/mem.h"
#include "core/text/private.h"

static size_t mix(uint64_t key)
{
	key *= 0x9e3779b97f4a7c15u;
	return (size_t)(key ^ key >> 32);
}

static int32_t step(const struct bl_trie *t, int32_t node, uint8_t c)
{
	uint64_t key = ((uint64_t)node << 8 | c) + 1;

	for (size_t at = mix(key) & t->mask; t->edge[at].key; at = (at + 1) & t->mask)
		if (t->edge[at].key == key)
			return t->edge[at].to;
	return -1;
}

static void put(struct bl_trie *t, uint64_t key, int32_t to)
{
	size_t at = mix(key) & t->mask;

	while (t->edge[at].key)
		at = (at + 1) & t->mask;
	t->edge[at] = (struct bl_trie_edge){key, to};
}

static void link_node(struct bl_trie *t, int32_t node, uint8_t c, int32_t to)
{
	if (2 * (t->n_edges + 1) > t->mask) {
		struct bl_trie_edge *old = t->edge;
		size_t slots = old ? t->mask + 1 : 0;
		t->mask = slots ? 2 * slots - 1 : 63;
		t->edge = bl_xalloc(t->mask + 1, sizeof *t->edge);
		for (size_t i = 0; i < slots; i++)
			if (old[i].key)
				put(t, old[i].key, old[i].to);
		bl_free(old);
	}
	put(t, ((uint64_t)node << 8 | c) + 1, to);
	t->n_edges++;
}

static int32_t new_node(struct bl_trie *t)
{
	bl_xgrow(&t->added, &t->cap_nodes, t->n_nodes + 1);
	t->added[t->n_nodes] = -1;
	return (int32_t)t->n_nodes++;
}

void bl_trie_add(struct bl_trie *t, const char *text, size_t n, int32_t added)
{
	if (!t->n_nodes)
		new_node(t);
	int32_t node = 0;
	for (size_t i = 0; i < n; i++) {
		int32_t next = t->edge ? step(t, node, (uint8_t)text[i]) : -1;
		if (next < 0) {
			next = new_node(t);
			link_node(t, node, (uint8_t)text[i], next);
		}
		node = next;
	}
	if (t->added[node] < 0) /* of two that became equal by normalization the first counts */
		t->added[node] = added;
	t->first[(uint8_t)text[0]] = true;
	t->any = true;
}

void bl_trie_free(struct bl_trie *t)
{
	bl_free(t->edge);
	bl_free(t->added);
	*t = (struct bl_trie){0};
}

static void found(struct bl_found_list *l, size_t start, size_t end, int32_t id)
{
	bl_xgrow(&l->f, &l->cap, l->n + 1);
	l->f[l->n++] = (struct bl_found){start, end, id};
}

/* Code point before `at`; 0 at the start. */
static uint32_t char_before(const uint8_t *p, size_t at, size_t *start)
{
	uint32_t cp = 0;
	size_t from = at;

	while (from && at - from < 4 && (p[from - 1] & 0xc0) == 0x80)
		from--;
	from -= from > 0;
	if (from < at)
		bl_utf8_next(p + from, at - from, &cp);
	*start = from;
	return cp;
}

static bool is_alone(const uint8_t *p, size_t n, size_t start, size_t end)
{
	uint32_t cp;
	size_t ignored;

	if (start && bl_is_word(char_before(p, start, &ignored)))
		return false;
	if (end == n)
		return true;
	bl_utf8_next(p + end, n - end, &cp);
	return !bl_is_word(cp);
}

/* How far a token that takes spaces with it reaches. */
static void take_spaces(const struct bl_added *a, const uint8_t *p, size_t n, size_t from, size_t *start, size_t *end)
{
	uint32_t cp;
	size_t before;

	while (a->lstrip && *start > from && bl_is_space(char_before(p, *start, &before)))
		*start = before;
	while (a->rstrip && *end < n) {
		int len = bl_utf8_next(p + *end, n - *end, &cp);
		if (!bl_is_space(cp))
			break;
		*end += (size_t)len;
	}
}

void bl_added_split(const struct bl_trie *t, const struct bl_added *added, const char *text, size_t n, struct bl_found_list *out)
{
	const uint8_t *p = (const uint8_t *)text;
	size_t from = 0; /* behind the last token */

	out->n = 0;
	for (size_t at = 0; t->any && at < n;) {
		if (!t->first[p[at]]) {
			at++;
			continue;
		}
		int32_t node = 0, best = -1;
		size_t best_end = 0;
		for (size_t i = at; i < n && (node = step(t, node, p[i])) >= 0; i++)
			if (t->added[node] >= 0) {
				best = t->added[node];
				best_end = i + 1;
			}
		if (best < 0) {
			at++;
			continue;
		}
		const struct bl_added *a = &added[best];
		size_t start = at, end = best_end;
		at = best_end; /* the search goes on here, whether the token is taken or not */
		if (a->single_word && !is_alone(p, n, start, end))
			continue;
		take_spaces(a, p, n, from, &start, &end);
		if (from < start)
			found(out, from, start, -1);
		found(out, start, end, a->id);
		from = end;
	}
	if (from < n)
		found(out, from, n, -1);
}
