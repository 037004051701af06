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
	int64_t i = bl_names_find(&p->interned, params);

	if (i < 0)
		i = bl_names_add(&p->interned, bl_xstrdup(params));
	return (char *)(uintptr_t)p->interned.names[i];
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
		s->choice[i] = (struct bl_choice){.scheme = BL_SCHEME_FULL, .params = empty, .stages = empty};
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

	for (int i = 0; i < c->n; i++) {
		c->choice[i].params = bl_plan_intern(to, c->choice[i].params);
		c->choice[i].stages = bl_plan_intern(to, bl_choice_stages(&c->choice[i]));
	}
	c->snapshots = bl_xalloc((size_t)s->n_snapshots + 1, sizeof *c->snapshots);
	for (int i = 0; i < s->n_snapshots; i++) {
		const struct bl_snapshot *from = &s->snapshots[i]->s;
		struct bl_shared_snapshot *n = bl_xalloc(1, sizeof *n);
		*n = (struct bl_shared_snapshot){1, {bl_xstrdup(from->name), bl_xstrdup(from->note), from->wall_s, deep(to, from->state),
						   bl_snapshot_results_copy(from->results)}};
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
		bl_state_free(steps[i].rest);
		bl_free(steps[i].changes);
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
	for (size_t i = 0; i < p->interned.n; i++)
		bl_free((char *)(uintptr_t)p->interned.names[i]);
	bl_names_free(&p->interned);
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
const char *bl_choice_stages(const struct bl_choice *c) { return c->stages ? c->stages : ""; }
const char *bl_plan_stages(const struct bl_plan *p) { return p->now->n ? bl_choice_stages(&p->now->choice[0]) : ""; }
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
	if (*bl_plan_stages(p))
		bl_str_addf(&b, "stages %s\n", bl_plan_stages(p));
	bl_sha256_of(b.s, b.len, out);
	bl_str_free(&b);
}

/* ---- steps ---- */

static void push(struct bl_step **steps, size_t *n, size_t *cap, struct bl_step s)
{
	bl_xgrow(steps, cap, *n + 1);
	(*steps)[(*n)++] = s;
}

/* The way back from `now` to `before`, which is used up. */
static struct bl_step make_step(struct bl_state *before, const struct bl_state *now, char *label)
{
	struct bl_step step = {.label = label};

	for (int i = 0; i < now->n; i++)
		step.n += !bl_choice_equal(&before->choice[i], &now->choice[i]);
	step.changes = bl_xalloc((size_t)step.n + 1, sizeof *step.changes);
	step.n = 0;
	for (int i = 0; i < now->n; i++)
		if (!bl_choice_equal(&before->choice[i], &now->choice[i]))
			step.changes[step.n++] = (struct bl_change){i, before->choice[i]};
	if (bl_state_rest_equal(before, now)) {
		bl_state_free(before);
		return step;
	}
	bl_free(before->choice);
	before->choice = NULL;
	before->n = 0;
	step.rest = before;
	return step;
}

/* Afterwards the step leads the other way. */
static void swap_step(struct bl_state *now, struct bl_step *step)
{
	for (int i = 0; i < step->n; i++) {
		struct bl_choice *c = &now->choice[step->changes[i].unit], old = *c;
		*c = step->changes[i].choice;
		step->changes[i].choice = old;
	}
	if (step->rest) {
		struct bl_state old = *now;
		*now = *step->rest;
		*step->rest = old;
		now->choice = old.choice;
		now->n = old.n;
		step->rest->choice = NULL;
		step->rest->n = 0;
	}
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
		push(&p->undo, &p->n_undo, &p->cap_undo, make_step(p->before, p->now, p->label));
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

/* Ends an edit of one thing: inside somebody's larger step nobody asks whether it changed anything. */
static void end_edit(struct bl_plan *p)
{
	if (p->depth > 1)
		p->depth--;
	else
		bl_plan_end(p);
}

/* Within an open step there is nothing to go back to yet. */
static bool step_over(struct bl_plan *p, struct bl_step **from, size_t *n_from, struct bl_step **to, size_t *n_to, size_t *cap_to)
{
	if (!*n_from || p->depth)
		return false;
	struct bl_step s = (*from)[--*n_from];
	swap_step(p->now, &s);
	push(to, n_to, cap_to, s);
	p->revision++;
	return true;
}

bool bl_plan_undo(struct bl_plan *p) { return step_over(p, &p->undo, &p->n_undo, &p->redo, &p->n_redo, &p->cap_redo); }
bool bl_plan_redo(struct bl_plan *p) { return step_over(p, &p->redo, &p->n_redo, &p->undo, &p->n_undo, &p->cap_undo); }
const char *bl_plan_undo_label(const struct bl_plan *p) { return p->n_undo ? p->undo[p->n_undo - 1].label : NULL; }
const char *bl_plan_redo_label(const struct bl_plan *p) { return p->n_redo ? p->redo[p->n_redo - 1].label : NULL; }

/* ---- editing ---- */

const char *bl_plan_usual_method(const struct bl_scheme *s) { return s->number == BL_NUM_FULL ? "" : s->number == BL_NUM_PRUNED ? "sparsegpt" : "rtn"; }

/* One that nobody chose goes with its scheme: rtn cannot prune, and what comes with pruning would prune under any other scheme, too. */
bool bl_plan_keeps_method(const struct bl_choice *c, const struct bl_scheme *s)
{
	bool own = (!c->params || !*c->params) && !strcmp(c->method, bl_plan_usual_method(&c->scheme));

	if (s->number == BL_NUM_FULL || !c->method[0])
		return false;
	return s->number == BL_NUM_PRUNED ? strcmp(c->method, "rtn") != 0 : c->scheme.number != BL_NUM_PRUNED || !own;
}

bool bl_plan_set_scheme(struct bl_plan *p, int unit, const struct bl_scheme *s)
{
	struct bl_choice *c = &p->now->choice[unit];

	if (c->locked)
		return false;
	bl_plan_begin(p, "scheme");
	if (!bl_plan_keeps_method(c, s)) {
		memset(c->method, 0, sizeof c->method);
		snprintf(c->method, sizeof c->method, "%s", bl_plan_usual_method(s));
		c->params = bl_plan_intern(p, "");
	}
	c->scheme = *s;
	end_edit(p);
	return true;
}

/* Full precision takes no method; everything else has one. */
bool bl_plan_set_method(struct bl_plan *p, int unit, const char *method, const char *params)
{
	struct bl_choice *c = &p->now->choice[unit];

	if (c->locked)
		return false;
	if (c->scheme.number == BL_NUM_FULL)
		return true;
	bl_plan_begin(p, "method");
	memset(c->method, 0, sizeof c->method);
	snprintf(c->method, sizeof c->method, "%s", *method ? method : bl_plan_usual_method(&c->scheme));
	c->params = bl_plan_intern(p, params ? params : "");
	end_edit(p);
	return true;
}

bool bl_plan_set_choice(struct bl_plan *p, int unit, const struct bl_choice *c)
{
	return bl_plan_set_scheme(p, unit, &c->scheme) && bl_plan_set_method(p, unit, c->method, c->params);
}

void bl_plan_set_lock(struct bl_plan *p, int unit, bool locked)
{
	bl_plan_begin(p, locked ? "lock" : "unlock");
	p->now->choice[unit].locked = locked;
	end_edit(p);
}

void bl_plan_set_stages(struct bl_plan *p, const char *stages)
{
	char label[96];

	snprintf(label, sizeof label, "stages %.80s", *stages ? stages : "none");
	bl_plan_begin(p, label);
	for (int i = 0; i < p->now->n; i++)
		p->now->choice[i].stages = bl_plan_intern(p, stages);
	end_edit(p);
}

static void set_text(struct bl_plan *p, char **field, const char *label, const char *value)
{
	char *copy = bl_xstrdup(value); /* value may be the field itself */

	bl_plan_begin(p, label);
	bl_free(*field);
	*field = copy;
	end_edit(p);
}

void bl_plan_set_target(struct bl_plan *p, const char *target) { set_text(p, &p->now->target, "target", target); }
void bl_plan_set_format(struct bl_plan *p, const char *exporter) { set_text(p, &p->now->format, "format", exporter); }

void bl_plan_set_zero_nonfinite(struct bl_plan *p, bool on)
{
	bl_plan_begin(p, on ? "store NaN and Inf as zero" : "refuse NaN and Inf");
	p->now->zero_nonfinite = on;
	end_edit(p);
}

/* ---- config edits ---- */

bool bl_text_is_plain(const char *s, size_t max_bytes)
{
	size_t n = strlen(s);

	if (n > max_bytes || !bl_utf8_valid(s, n))
		return false;
	for (const unsigned char *c = (const unsigned char *)s; *c; c++)
		if (*c < 0x20 || *c == 0x7f || (*c == 0xc2 && c[1] < 0xa0)) /* C0, DEL, C1 */
			return false;
	return true;
}

static enum bl_status check_key(const char *key, struct bl_err *err)
{
	static const char *const refused[] = {"quantization_config", "model_type", "architectures", "num_hidden_layers", "hidden_size",
		"intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size", "tie_word_embeddings", "layer_types"};

	if (!*key || !bl_text_is_plain(key, 100))
		return bl_fail(err, BL_USAGE, "config key: must be 1 to 100 bytes of text");
	if (strpbrk(key, " \"\\"))
		return bl_fail(err, BL_USAGE, "config key %s: must be plain characters", key);
	for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
		if (!strcmp(key, refused[i]))
			return bl_fail(err, BL_USAGE, "config key %s: describes the weights and cannot be edited", key);
	return BL_OK;
}

/* JSON text without blanks between tokens: one line, and equal values are equal texts. Numbers keep their spelling. */
static void squeeze(struct bl_str *out, const char *json)
{
	bool quoted = false;

	for (const char *c = json; *c; c++) {
		if (!quoted && strchr(" \t\r\n", *c))
			continue;
		bl_str_addc(out, *c);
		if (*c == '"')
			quoted = !quoted;
		else if (quoted && *c == '\\')
			bl_str_addc(out, *++c);
	}
}

enum bl_status bl_edit_check(const char *key, const char *value, struct bl_str *canonical, struct bl_err *err)
{
	struct bl_str wrapped = {0};
	cJSON *json = NULL;
	char where[128];

	if (check_key(key, err) || !value || !*value)
		return err->status;
	if (strlen(value) > 65536)
		return bl_fail(err, BL_USAGE, "config key %s: its value is longer than 65536 bytes", key);
	if (!strcmp(key, "kv_cache_scheme") && !strcmp(value, "fp8")) /* the one that is known, with or without quotes: they are hard to keep through a shell */
		value = "\"fp8\"";
	snprintf(where, sizeof where, "config key %s", key);
	bl_str_addf(&wrapped, "{\"v\":%s}", value);
	if (bl_json_parse(&json, bl_str_c(&wrapped), wrapped.len, 10000, where, err) == BL_OK && cJSON_GetArraySize(json) != 1)
		bl_fail(err, BL_USAGE, "config key %s: its value must be one JSON value", key);
	cJSON_Delete(json);
	bl_str_free(&wrapped);
	if (err->status)
		return err->status = BL_USAGE;
	squeeze(canonical, value);
	if (!strcmp(key, "kv_cache_scheme") && strcmp(bl_str_c(canonical), "\"fp8\"")) /* 8-bit floats, one scale per tensor */
		return bl_fail(err, BL_USAGE, "config key %s: must be \"fp8\" or removed", key);
	return BL_OK;
}

enum bl_status bl_plan_set_edit(struct bl_plan *p, const char *key, const char *value, struct bl_err *err)
{
	struct bl_str canonical = {0};
	char label[128];

	if (bl_edit_check(key, value, &canonical, err) == BL_OK) {
		snprintf(label, sizeof label, "config %s", key);
		bl_plan_begin(p, label);
		bl_state_put_edit(p->now, key, value ? bl_str_c(&canonical) : NULL);
		if (p->now->n_edits > BL_EDITS_MAX) {
			bl_state_put_edit(p->now, key, NULL);
			bl_fail(err, BL_USAGE, "config key %s: more than %d edits", key, BL_EDITS_MAX);
		}
		end_edit(p);
	}
	bl_str_free(&canonical);
	return err->status;
}

/* ---- snapshots ---- */

int bl_plan_n_snapshots(const struct bl_plan *p) { return p->now->n_snapshots; }
const struct bl_snapshot *bl_plan_snapshot(const struct bl_plan *p, int i) { return &p->now->snapshots[i]->s; }
const struct bl_choice *bl_snapshot_choice(const struct bl_snapshot *s, int unit) { return &s->state->choice[unit]; }
bool bl_snapshot_zero_nonfinite(const struct bl_snapshot *s) { return s->state->zero_nonfinite; }

int bl_plan_find_snapshot(const struct bl_plan *p, const char *name)
{
	for (int i = 0; i < p->now->n_snapshots; i++)
		if (!strcmp(p->now->snapshots[i]->s.name, name))
			return i;
	return -1;
}

static enum bl_status check_name(const struct bl_plan *p, const char *name, struct bl_err *err)
{
	if (!*name || !bl_text_is_plain(name, SNAPSHOT_NAME_MAX))
		return bl_fail(err, BL_USAGE, "snapshot name: must be 1 to %d bytes of text without control characters", SNAPSHOT_NAME_MAX);
	if (bl_plan_find_snapshot(p, name) >= 0)
		return bl_fail(err, BL_USAGE, "a snapshot called \"%s\" exists: rename or drop it, or choose another name", name);
	return BL_OK;
}

static enum bl_status check_snapshot(const struct bl_plan *p, const char *name, const char *note, struct bl_err *err)
{
	if (check_name(p, name, err))
		return err->status;
	if (note && !bl_text_is_plain(note, BL_PARAMS_TEXT_MAX))
		return bl_fail(err, BL_USAGE, "snapshot %s: its note must be at most %d bytes of text on one line", name, BL_PARAMS_TEXT_MAX);
	if (p->now->n_snapshots >= BL_SNAPSHOTS_MAX)
		return bl_fail(err, BL_USAGE, "snapshot %s: there are %d already: drop some", name, BL_SNAPSHOTS_MAX);
	return BL_OK;
}

enum bl_status bl_plan_snapshot_save_with(struct bl_plan *p, const char *name, const char *note, struct bl_snapshot_results *results, struct bl_err *err)
{
	char label[96];

	if (check_snapshot(p, name, note, err)) {
		bl_snapshot_results_free(results);
		return err->status;
	}
	snprintf(label, sizeof label, "snapshot %s", name);
	bl_plan_begin(p, label);
	struct bl_state *s = p->now;
	struct bl_shared_snapshot *n = bl_xalloc(1, sizeof *n);
	*n = (struct bl_shared_snapshot){1, {bl_xstrdup(name), bl_xstrdup(note ? note : ""), bl_wall_s(), bl_state_copy_document(s), results}};
	s->snapshots = bl_xrealloc(s->snapshots, (size_t)s->n_snapshots + 2, sizeof *s->snapshots);
	memmove(s->snapshots + 1, s->snapshots, (size_t)s->n_snapshots * sizeof *s->snapshots);
	s->snapshots[0] = n;
	s->n_snapshots++;
	end_edit(p);
	return BL_OK;
}

enum bl_status bl_plan_snapshot_save(struct bl_plan *p, const char *name, const char *note, struct bl_err *err)
{
	return bl_plan_snapshot_save_with(p, name, note, NULL, err);
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
	end_edit(p);
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
	*n = (struct bl_shared_snapshot){1, {bl_xstrdup(name), bl_xstrdup(from->note), from->wall_s, bl_state_copy_document(from->state),
					   bl_snapshot_results_copy(from->results)}};
	bl_snapshot_release(p->now->snapshots[i]);
	p->now->snapshots[i] = n;
	end_edit(p);
	return BL_OK;
}

void bl_plan_snapshot_drop(struct bl_plan *p, int i)
{
	char label[96];

	snprintf(label, sizeof label, "drop snapshot %s", bl_plan_snapshot(p, i)->name);
	bl_plan_begin(p, label);
	struct bl_state *s = p->now;
	bl_snapshot_release(s->snapshots[i]);
	memmove(&s->snapshots[i], &s->snapshots[i + 1], (size_t)(s->n_snapshots - i - 1) * sizeof *s->snapshots);
	s->n_snapshots--;
	end_edit(p);
}
