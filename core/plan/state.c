/* SPDX-License-Identifier: Apache-2.0
 * One state of the document: copy, compare, free. */
#include "core/plan/state.h"

#include <string.h>

#include "core/base/mem.h"

struct bl_state *bl_state_copy_document(const struct bl_state *s)
{
	struct bl_state *c = bl_xalloc(1, sizeof *c);

	c->n = s->n;
	c->choice = bl_xalloc((size_t)s->n + 1, sizeof *c->choice);
	memcpy(c->choice, s->choice, (size_t)s->n * sizeof *c->choice);
	c->target = bl_xstrdup(s->target);
	c->format = bl_xstrdup(s->format);
	c->zero_nonfinite = s->zero_nonfinite;
	c->n_edits = s->n_edits;
	c->edits = bl_xalloc((size_t)s->n_edits + 1, sizeof *c->edits);
	for (int i = 0; i < s->n_edits; i++)
		c->edits[i] = (struct bl_config_edit){bl_xstrdup(s->edits[i].key), bl_xstrdup(s->edits[i].value)};
	return c;
}

struct bl_state *bl_state_copy(const struct bl_state *s)
{
	struct bl_state *c = bl_state_copy_document(s);

	c->n_snapshots = s->n_snapshots;
	c->snapshots = bl_xalloc((size_t)s->n_snapshots + 1, sizeof *c->snapshots);
	for (int i = 0; i < s->n_snapshots; i++) {
		c->snapshots[i] = s->snapshots[i];
		c->snapshots[i]->refs++;
	}
	return c;
}

void bl_snapshot_release(struct bl_shared_snapshot *s)
{
	if (--s->refs)
		return;
	bl_free(s->s.name);
	bl_free(s->s.note);
	bl_snapshot_results_free(s->s.results);
	bl_state_free(s->s.state); /* holds no snapshots itself: one level deep */
	bl_free(s);
}

void bl_state_free(struct bl_state *s)
{
	if (!s)
		return;
	for (int i = 0; i < s->n_snapshots; i++)
		bl_snapshot_release(s->snapshots[i]);
	for (int i = 0; i < s->n_edits; i++) {
		bl_free(s->edits[i].key);
		bl_free(s->edits[i].value);
	}
	bl_free(s->snapshots);
	bl_free(s->edits);
	bl_free(s->choice);
	bl_free(s->target);
	bl_free(s->format);
	bl_free(s);
}

bool bl_choice_equal(const struct bl_choice *a, const struct bl_choice *b)
{
	return bl_scheme_equal(&a->scheme, &b->scheme) && a->locked == b->locked && !strcmp(a->method, b->method) &&
	       (a->params == b->params || !strcmp(a->params, b->params)) && (a->stages == b->stages || !strcmp(bl_choice_stages(a), bl_choice_stages(b)));
}

bool bl_state_rest_equal(const struct bl_state *a, const struct bl_state *b)
{
	if (a->zero_nonfinite != b->zero_nonfinite || a->n_edits != b->n_edits || a->n_snapshots != b->n_snapshots ||
	    strcmp(a->target, b->target) || strcmp(a->format, b->format))
		return false;
	for (int i = 0; i < a->n_edits; i++)
		if (strcmp(a->edits[i].key, b->edits[i].key) || strcmp(a->edits[i].value, b->edits[i].value))
			return false;
	for (int i = 0; i < a->n_snapshots; i++)
		if (a->snapshots[i] != b->snapshots[i])
			return false;
	return true;
}

bool bl_state_equal(const struct bl_state *a, const struct bl_state *b)
{
	if (a->n != b->n || !bl_state_rest_equal(a, b))
		return false;
	for (int i = 0; i < a->n; i++)
		if (!bl_choice_equal(&a->choice[i], &b->choice[i]))
			return false;
	return true;
}

void bl_state_put_edit(struct bl_state *s, const char *key, const char *value)
{
	int at = 0;

	while (at < s->n_edits && strcmp(s->edits[at].key, key) < 0)
		at++;
	bool there = at < s->n_edits && !strcmp(s->edits[at].key, key);
	if (there) {
		bl_free(s->edits[at].value);
		if (value) {
			s->edits[at].value = bl_xstrdup(value);
			return;
		}
		bl_free(s->edits[at].key);
		memmove(&s->edits[at], &s->edits[at + 1], (size_t)(s->n_edits - at - 1) * sizeof *s->edits);
		s->n_edits--;
		return;
	}
	if (!value)
		return;
	s->edits = bl_xrealloc(s->edits, (size_t)s->n_edits + 2, sizeof *s->edits);
	memmove(&s->edits[at + 1], &s->edits[at], (size_t)(s->n_edits - at) * sizeof *s->edits);
	s->edits[at] = (struct bl_config_edit){bl_xstrdup(key), bl_xstrdup(value)};
	s->n_edits++;
}
