/* SPDX-License-Identifier: Apache-2.0
 * Inside of the plan: one state of the document. Undo keeps whole states; a state is a few kilobytes (choices by value, parameters
 * interned in the plan, snapshots shared by reference count). */
#ifndef BL_PLAN_STATE_H
#define BL_PLAN_STATE_H

#include "core/plan/plan.h"

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

struct bl_step { struct bl_state *state; char *label; };

struct bl_plan {
	struct bl_state *now;
	const struct bl_model *model;     /* outlives the plan: unit names for the file */
	char *model_id, model_digest[65];
	int depth;                        /* begin nesting */
	struct bl_state *before; char *label;
	struct bl_step *undo, *redo;
	size_t n_undo, cap_undo, n_redo, cap_redo;
	char **interned; size_t n_interned, cap_interned;
	uint64_t revision;
	struct bl_state *saved;           /* as last saved or loaded */
};

char *bl_plan_intern(struct bl_plan *p, const char *params);
void bl_plan_mark_saved(struct bl_plan *p);
/* Takes the state over as it is (loading). */
void bl_plan_adopt(struct bl_plan *p, struct bl_state *s);

#endif
