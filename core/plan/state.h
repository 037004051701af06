/* SPDX-License-Identifier: Apache-2.0
 * Inside of the plan: one state of the document, and the steps between states. A step keeps only what it changed (the choices of some
 * units; the rest of the state when that changed too), so that unlimited undo stays small. Parameters are interned in the plan,
 * snapshots shared by reference count. */
#ifndef BL_PLAN_STATE_H
#define BL_PLAN_STATE_H

#include "core/base/hash.h"
#include "core/plan/plan.h"

#define BL_SNAPSHOTS_MAX 10000  /* of a plan */
#define BL_EDITS_MAX 1000       /* config edits of one state */
#define BL_PARAMS_TEXT_MAX 4096 /* bytes of a choice's parameters and of a snapshot's note, as the file bounds them */

struct bl_shared_snapshot { int refs; struct bl_snapshot s; };

struct bl_state {
	struct bl_choice *choice; int n;
	char *target, *format;
	bool zero_nonfinite;
	struct bl_config_edit *edits; int n_edits;        /* sorted by key */
	struct bl_shared_snapshot **snapshots; int n_snapshots; /* newest first; empty inside a snapshot */
};

struct bl_state *bl_state_copy(const struct bl_state *s);             /* snapshots shared */
struct bl_state *bl_state_copy_document(const struct bl_state *s);    /* without snapshots */
void bl_state_free(struct bl_state *s);
bool bl_state_equal(const struct bl_state *a, const struct bl_state *b);
void bl_state_put_edit(struct bl_state *s, const char *key, const char *value); /* value NULL: drop */

void bl_snapshot_release(struct bl_shared_snapshot *s);
bool bl_choice_equal(const struct bl_choice *a, const struct bl_choice *b);
bool bl_state_rest_equal(const struct bl_state *a, const struct bl_state *b); /* all but the choices */
/* Whether key = value may be a config edit (value NULL or "": only the key is judged); *canonical: the value without blanks between
 * its tokens, appended. BL_USAGE otherwise. */
enum bl_status bl_edit_check(const char *key, const char *value, struct bl_str *canonical, struct bl_err *err);
/* Text that a plan file can hold and a screen can show: UTF-8 without control characters. */
bool bl_text_is_plain(const char *s, size_t max_bytes);

struct bl_change { int unit; struct bl_choice choice; };
/* What the other side of a step looks like. Going over it swaps, so one record serves undo and redo. */
struct bl_step {
	char *label;
	struct bl_change *changes; int n;
	struct bl_state *rest;            /* NULL when only choices changed; has no choices itself */
};

struct bl_plan {
	struct bl_state *now;
	const struct bl_model *model;     /* outlives the plan: unit names for the file */
	char *model_id, model_digest[65];
	int depth;                        /* begin nesting */
	struct bl_state *before; char *label;
	struct bl_step *undo, *redo;
	size_t n_undo, cap_undo, n_redo, cap_redo;
	struct bl_names interned;         /* parameter texts, owned */
	uint64_t revision;
	struct bl_state *saved;           /* as last saved or loaded */
};

char *bl_plan_intern(struct bl_plan *p, const char *params);
void bl_plan_mark_saved(struct bl_plan *p);
/* Takes the state over as it is (loading). */
void bl_plan_adopt(struct bl_plan *p, struct bl_state *s);

#endif
