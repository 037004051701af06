/* SPDX-License-Identifier: Apache-2.0
 * The plan: reading, editing in undoable steps, snapshots. */
#include "core/plan/state.h"

#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/hash.h"
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/base/str.h"

#define SNAPSHOT_NAME_MAX 64

/* ---- life ---- */

char *bl_plan_intern(struct bl_plan *p, const char *params)
{
	for (size_t i = 0; i < p->n_interned; i++)
		if (!strcmp(p->interned[i], params))
			return p->interned[i];
	bl_xgrow(&p->interned, &p->cap_interned, p->n_interned + 1);
	return p->interned[p->n_interned++] = bl_xstrdup(params);
}

struct bl_plan *bl_plan_new(const struct bl_model *m, const char *target)
{
	struct bl_plan *p = bl_xalloc(1, sizeof *p);
	struct bl_state *s = bl_xalloc(1, sizeof *s);
	char *empty = bl_plan_intern(p, "");

	p->model = m;
	p->model_id = bl_xstrdup(m->id);
	memcpy(p->model_digest, m->digest, sizeof p->model_digest);
	s->n = m->n_units;
	s->choice = bl_xalloc((size_t)s->n + 1, sizeof *s->choice);
	for (int i = 0; i < s->n; i++)
		s->choice[i] = (struct bl_choice){.scheme = BL_SCHEME_FULL, .params = empty};
	s->target = bl_xstrdup(target);
	s->format = bl_xstrdup("compressed-tensors");
	s->edits = bl_xalloc(1, sizeof *s->edits);
	s->snapshots = bl_xalloc(1, sizeof *s->snapshots);
	p->now = s;
	p->saved = bl_state_copy(s);
	return p;
}

/* The copy shares nothing with the original: it goes to another thread. */
static struct bl_state *deep(struct bl_plan *to, const struct bl_state *s)
{
	struct bl_state *c = bl_state_copy_document(s);

	for (int i = 0; i < c->n; i++)
		c->choice[i].params = bl_plan_intern(to, c->choice[i].params);
	c->snapshots = bl_xalloc((size_t)s->n_snapshots + 1, sizeof *c->snapshots);
	for (int i = 0; i < s->n_snapshots; i++) {
		const struct bl_snapshot *from = &s->snapshots[i]->s;
		struct bl_shared_snapshot *n = bl_xalloc(1, sizeof *n);
		*n = (struct bl_shared_snapshot){1, {bl_xstrdup(from->name), bl_xstrdup(from->note), from->wall_s, deep(to, from->state)}};
		c->snapshots[c->n_snapshots++] = n;
	}
	return c;
}

struct bl_plan *bl_plan_copy(const struct bl_plan *p)
{
	struct bl_plan *c = bl_xalloc(1, sizeof *c);

	c->model = p->model;
	c->model_id = bl_xstrdup(p->model_id);
	memcpy(c->model_digest, p->model_digest, sizeof c->model_digest);
	c->now = deep(c, p->now);
	c->saved = bl_state_copy(c->now);
	c->revision = p->revision;
	return c;
}

static void drop_steps(struct bl_step *steps, size_t *n)
{
	for (size_t i = 0; i < *n; i++) {
		bl_state_free(steps[i].state);
		bl_free(steps[i].label);
	}
	*n = 0;
}

void bl_plan_free(struct bl_plan *p)
{
	if (!p)
		return;
	drop_steps(p->undo, &p->n_undo);
	drop_steps(p->redo, &p->n_redo);
	bl_free(p->undo);
	bl_free(p->redo);
	bl_state_free(p->now);
	bl_state_free(p->before);
	bl_state_free(p->saved);
	bl_free(p->label);
	bl_free(p->model_id);
	for (size_t i = 0; i < p->n_interned; i++)
		bl_free(p->interned[i]);
	bl_free(p->interned);
	bl_free(p);
}

void bl_plan_mark_saved(struct bl_plan *p)
{
	bl_state_free(p->saved);
	p->saved = bl_state_copy(p->now);
}

void bl_plan_adopt(struct bl_plan *p, struct bl_state *s)
{
	bl_state_free(p->now);
	p->now = s;
	p->revision++;
}

/* ---- reading ---- */

int bl_plan_n_units(const struct bl_plan *p) { return p->now->n; }
const struct bl_choice *bl_plan_choice(const struct bl_plan *p, int unit) { return &p->now->choice[unit]; }
const char *bl_plan_target(const struct bl_plan *p) { return p->now->target; }
const char *bl_plan_model_id(const struct bl_plan *p) { return p->model_id; }
const char *bl_plan_format(const struct bl_plan *p) { return p->now->format; }
bool bl_plan_zero_nonfinite(const struct bl_plan *p) { return p->now->zero_nonfinite; }
int bl_plan_n_edits(const struct bl_plan *p) { return p->now->n_edits; }
const struct bl_config_edit *bl_plan_edit(const struct bl_plan *p, int i) { return &p->now->edits[i]; }
uint64_t bl_plan_revision(const struct bl_plan *p) { return p->revision; }
bool bl_plan_dirty(const struct bl_plan *p) { return !bl_state_equal(p->now, p->saved); }

char *bl_plan_summary(char *dst, const struct bl_plan *p)
{
	for (int i = 1; i < p->now->n; i++)
		if (!bl_scheme_equal(&p->now->choice[i].scheme, &p->now->choice[0].scheme)) {
			snprintf(dst, BL_SCHEME_NAME_MAX, "mixed");
			return dst;
		}
	return bl_scheme_name(dst, p->now->n ? &p->now->choice[0].scheme : &BL_SCHEME_FULL);
}

void bl_plan_digest(const struct bl_plan *p, char out[65])
{
	const struct bl_state *s = p->now;
	struct bl_str b = {0};
	char name[BL_SCHEME_NAME_MAX];

	bl_str_addf(&b, "bitlathe plan 1\n%s\n%s\n%s\n%d\n", p->model_digest, s->target, s->format, s->zero_nonfinite);
	for (int i = 0; i < s->n; i++)
		bl_str_addf(&b, "%d %s %s %s\n", i, bl_scheme_name(name, &s->choice[i].scheme), s->choice[i].method, s->choice[i].params);
	for (int i = 0; i < s->n_edits; i++)
		bl_str_addf(&b, "%s=%s\n", s->edits[i].key, s->edits[i].value);
	bl_sha256_of(b.s, b.len, out);
	bl_str_free(&b);
}

/* ---- steps ---- */

static void push(struct bl_step **steps, size_t *n, size_t *cap, struct bl_state *s, char *label)
{
	bl_xgrow(steps, cap, *n + 1);
	(*steps)[(*n)++] = (struct bl_step){s, label};
}

void bl_plan_begin(struct bl_plan *p, const char *label)
{
	if (p->depth++)
		return;
	p->before = bl_state_copy(p->now);
	p->label = bl_xstrdup(label);
}

bool bl_plan_end(struct bl_plan *p)
{
	if (--p->depth)
		return !bl_state_equal(p->before, p->now);
	bool changed = !bl_state_equal(p->before, p->now);
	if (changed) {
		push(&p->undo, &p->n_undo, &p->cap_undo, p->before, p->label);
		drop_steps(p->redo, &p->n_redo);
		p->revision++;
	} else {
		bl_state_free(p->before);
		bl_free(p->label);
	}
	p->before = NULL;
	p->label = NULL;
	return changed;
}

static bool step_back(struct bl_plan *p, struct bl_step **from, size_t *n_from, struct bl_step **to, size_t *n_to, size_t *cap_to)
{
	if (!*n_from)
		return false;
	struct bl_step s = (*from)[--*n_from];
	push(to, n_to, cap_to, p->now, s.label);
	p->now = s.state;
	p->revision++;
	return true;
}

bool bl_plan_undo(struct bl_plan *p) { return step_back(p, &p->undo, &p->n_undo, &p->redo, &p->n_redo, &p->cap_redo); }
bool bl_plan_redo(struct bl_plan *p) { return step_back(p, &p->redo, &p->n_redo, &p->undo, &p->n_undo, &p->cap_undo); }
const char *bl_plan_undo_label(const struct bl_plan *p) { return p->n_undo ? p->undo[p->n_undo - 1].label : NULL; }
const char *bl_plan_redo_label(const struct bl_plan *p) { return p->n_redo ? p->redo[p->n_redo - 1].label : NULL; }

/* ---- editing ---- */

bool bl_plan_set_scheme(struct bl_plan *p, int unit, const struct bl_scheme *s)
{
	struct bl_choice *c = &p->now->choice[unit];

	if (c->locked)
		return false;
	bl_plan_begin(p, "scheme");
	c->scheme = *s;
	if (s->number == BL_NUM_FULL) {
		c->method[0] = '\0';
		c->params = bl_plan_intern(p, "");
	} else if (!c->method[0]) {
		snprintf(c->method, sizeof c->method, "rtn");
	}
	bl_plan_end(p);
	return true;
}

bool bl_plan_set_method(struct bl_plan *p, int unit, const char *method, const char *params)
{
	struct bl_choice *c = &p->now->choice[unit];

	if (c->locked)
		return false;
	bl_plan_begin(p, "method");
	memset(c->method, 0, sizeof c->method);
	snprintf(c->method, sizeof c->method, "%s", method);
	c->params = bl_plan_intern(p, params ? params : "");
	bl_plan_end(p);
	return true;
}

void bl_plan_set_lock(struct bl_plan *p, int unit, bool locked)
{
	bl_plan_begin(p, locked ? "lock" : "unlock");
	p->now->choice[unit].locked = locked;
	bl_plan_end(p);
}

static void set_text(struct bl_plan *p, char **field, const char *label, const char *value)
{
	size_t at = (size_t)((char *)field - (char *)p->now);

	bl_plan_begin(p, label);
	field = (char **)((char *)p->now + at);
	char *copy = bl_xstrdup(value);
	bl_free(*field);
	*field = copy;
	bl_plan_end(p);
}

void bl_plan_set_target(struct bl_plan *p, const char *target) { set_text(p, &p->now->target, "target", target); }
void bl_plan_set_format(struct bl_plan *p, const char *exporter) { set_text(p, &p->now->format, "format", exporter); }

void bl_plan_set_zero_nonfinite(struct bl_plan *p, bool on)
{
	bl_plan_begin(p, on ? "store NaN and Inf as zero" : "refuse NaN and Inf");
	p->now->zero_nonfinite = on;
	bl_plan_end(p);
}

enum bl_status bl_plan_set_edit(struct bl_plan *p, const char *key, const char *value, struct bl_err *err)
{
	static const char *const refused[] = {"quantization_config", "model_type", "architectures", "num_hidden_layers", "hidden_size",
		"intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size", "tie_word_embeddings", "layer_types"};
	struct bl_str wrapped = {0};
	char label[128];
	cJSON *json = NULL;

	if (!*key || strlen(key) > 100)
		return bl_fail(err, BL_USAGE, "config key: must be 1 to 100 bytes long");
	for (const char *c = key; *c; c++)
		if ((unsigned char)*c <= ' ' || *c == 0x7f || *c == '"' || *c == '\\')
			return bl_fail(err, BL_USAGE, "config key %s: must be plain characters", key);
	for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
		if (!strcmp(key, refused[i]))
			return bl_fail(err, BL_USAGE, "config key %s: describes the weights and cannot be edited", key);
	if (value && *value) {
		bl_str_addf(&wrapped, "{\"v\":%s}", value);
		enum bl_status s = strlen(value) > 65536 ? bl_fail(err, BL_USAGE, "config key %s: its value is longer than 65536 bytes", key) :
			bl_json_parse(&json, bl_str_c(&wrapped), wrapped.len, 10000, key, err);
		if (!s && cJSON_GetArraySize(json) != 1)
			s = bl_fail(err, BL_USAGE, "config key %s: its value must be one JSON value", key);
		bl_str_free(&wrapped);
		cJSON_Delete(json);
		if (s) {
			err->status = BL_USAGE;
			return BL_USAGE;
		}
	}
	snprintf(label, sizeof label, "config %s", key);
	bl_plan_begin(p, label);
	bl_state_put_edit(p->now, key, value);
	bl_plan_end(p);
	return BL_OK;
}

/* ---- snapshots ---- */

int bl_plan_n_snapshots(const struct bl_plan *p) { return p->now->n_snapshots; }
const struct bl_snapshot *bl_plan_snapshot(const struct bl_plan *p, int i) { return &p->now->snapshots[i]->s; }
const struct bl_choice *bl_snapshot_choice(const struct bl_snapshot *s, int unit) { return &s->state->choice[unit]; }

int bl_plan_find_snapshot(const struct bl_plan *p, const char *name)
{
	for (int i = 0; i < p->now->n_snapshots; i++)
		if (!strcmp(p->now->snapshots[i]->s.name, name))
			return i;
	return -1;
}

static enum bl_status check_name(const struct bl_plan *p, const char *name, struct bl_err *err)
{
	size_t len = strlen(name);

	if (!len || len > SNAPSHOT_NAME_MAX || !bl_utf8_valid(name, len))
		return bl_fail(err, BL_USAGE, "snapshot name: must be 1 to %d bytes of text", SNAPSHOT_NAME_MAX);
	for (const char *c = name; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			return bl_fail(err, BL_USAGE, "snapshot name: must not hold control characters");
	if (bl_plan_find_snapshot(p, name) >= 0)
		return bl_fail(err, BL_USAGE, "a snapshot called \"%s\" exists: rename or drop it, or choose another name", name);
	return BL_OK;
}

enum bl_status bl_plan_snapshot_save(struct bl_plan *p, const char *name, const char *note, struct bl_err *err)
{
	char label[96];

	if (check_name(p, name, err))
		return err->status;
	snprintf(label, sizeof label, "snapshot %s", name);
	bl_plan_begin(p, label);
	struct bl_state *s = p->now;
	struct bl_shared_snapshot *n = bl_xalloc(1, sizeof *n);
	*n = (struct bl_shared_snapshot){1, {bl_xstrdup(name), bl_xstrdup(note ? note : ""), bl_wall_s(), bl_state_copy_document(s)}};
	s->snapshots = bl_xrealloc(s->snapshots, (size_t)s->n_snapshots + 2, sizeof *s->snapshots);
	memmove(s->snapshots + 1, s->snapshots, (size_t)s->n_snapshots * sizeof *s->snapshots);
	s->snapshots[0] = n;
	s->n_snapshots++;
	bl_plan_end(p);
	return BL_OK;
}

enum bl_status bl_plan_snapshot_restore(struct bl_plan *p, int i, struct bl_err *err)
{
	const struct bl_snapshot *snap = bl_plan_snapshot(p, i);
	char label[96];

	if (snap->state->n != p->now->n)
		return bl_fail(err, BL_INVALID, "snapshot %s: has %d units, the model has %d", snap->name, snap->state->n, p->now->n);
	snprintf(label, sizeof label, "restore %s", snap->name);
	bl_plan_begin(p, label);
	struct bl_state *s = bl_state_copy_document(snap->state), *old = p->now;
	bl_free(s->snapshots);
	s->snapshots = old->snapshots;
	s->n_snapshots = old->n_snapshots;
	old->snapshots = NULL;
	old->n_snapshots = 0;
	p->now = s;
	bl_state_free(old);
	bl_plan_end(p);
	return BL_OK;
}

enum bl_status bl_plan_snapshot_rename(struct bl_plan *p, int i, const char *name, struct bl_err *err)
{
	if (!strcmp(bl_plan_snapshot(p, i)->name, name))
		return BL_OK;
	if (check_name(p, name, err))
		return err->status;
	bl_plan_begin(p, "rename snapshot");
	const struct bl_snapshot *from = bl_plan_snapshot(p, i);
	struct bl_shared_snapshot *n = bl_xalloc(1, sizeof *n);
	*n = (struct bl_shared_snapshot){1, {bl_xstrdup(name), bl_xstrdup(from->note), from->wall_s, bl_state_copy_document(from->state)}};
	p->now->snapshots[i]->refs--; /* the state before this step holds it too */
	p->now->snapshots[i] = n;
	bl_plan_end(p);
	return BL_OK;
}

void bl_plan_snapshot_drop(struct bl_plan *p, int i)
{
	char label[96];

	snprintf(label, sizeof label, "drop snapshot %s", bl_plan_snapshot(p, i)->name);
	bl_plan_begin(p, label);
	struct bl_state *s = p->now;
	s->snapshots[i]->refs--; /* the state before this step holds it too */
	memmove(&s->snapshots[i], &s->snapshots[i + 1], (size_t)(s->n_snapshots - i - 1) * sizeof *s->snapshots);
	s->n_snapshots--;
	bl_plan_end(p);
}
