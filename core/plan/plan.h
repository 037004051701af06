/* SPDX-License-Identifier: Apache-2.0
 * The user's document: per unit a scheme, a method and its parameters, and a lock; config edits; named snapshots; unlimited undo.
 * One readable JSON file. The plan belongs to one model (by digest); units are named, never numbered, in the file. Edited by one
 * thread only; jobs get copies (bl_plan_copy). An edit that changes nothing leaves no undo step. */
#ifndef BL_PLAN_PLAN_H
#define BL_PLAN_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "core/model/model.h"
#include "core/plan/snapshot_results.h"
#include "core/scheme/scheme.h"

#define BL_METHOD_NAME_MAX 32

struct bl_choice {
	struct bl_scheme scheme;
	char method[BL_METHOD_NAME_MAX]; /* "rtn"; "" for BF16 */
	char *params;                    /* canonical text, "" = defaults; interned in the plan: compare and borrow, never free */
	bool locked;                     /* edits skip it (and say so) */
	char *stages;                    /* of the whole plan, the same in every unit: what is done to the model's weights before (below); interned; NULL: "" */
};

struct bl_config_edit { char *key, *value; }; /* value: JSON text, as it will stand in config.json; "" = key removed */

struct bl_snapshot { char *name, *note; int64_t wall_s; struct bl_state *state; struct bl_snapshot_results *results; /* NULL: none were known */ };

struct bl_plan; /* opaque */

struct bl_plan *bl_plan_new(const struct bl_model *m, const char *target); /* everything BF16 */
struct bl_plan *bl_plan_copy(const struct bl_plan *p);                     /* document + snapshots, without undo history */
void bl_plan_free(struct bl_plan *p);

/* --- reading --- */
int bl_plan_n_units(const struct bl_plan *p);
const struct bl_choice *bl_plan_choice(const struct bl_plan *p, int unit);
const char *bl_plan_target(const struct bl_plan *p);
const char *bl_plan_model_id(const struct bl_plan *p);
const char *bl_plan_format(const struct bl_plan *p);        /* exporter name, default "compressed-tensors" */
bool bl_plan_zero_nonfinite(const struct bl_plan *p);
/* Model-level stages in order, "TRANSFORM[:key=value,…][;…]", canonical; "": none. They change weights (not what the model computes) before any unit is solved;
 * names, parameters and legality are core/transform's. Every choice carries them, so that whoever sees a choice knows what weights it is about. */
const char *bl_plan_stages(const struct bl_plan *p);
const char *bl_choice_stages(const struct bl_choice *c);
#define BL_STAGES_TEXT_MAX 4096
int bl_plan_n_edits(const struct bl_plan *p);
const struct bl_config_edit *bl_plan_edit(const struct bl_plan *p, int i);
uint64_t bl_plan_revision(const struct bl_plan *p);         /* grows with every change incl. undo */
bool bl_plan_dirty(const struct bl_plan *p);                /* differs from what was last saved or loaded */
/* "W8A8" when all units agree, else "mixed"; dst >= BL_SCHEME_NAME_MAX */
char *bl_plan_summary(char *dst, const struct bl_plan *p);
/* Digest of the document (64 hex): schemes, methods, params, edits, target, model digest; not snapshots, not locks. */
void bl_plan_digest(const struct bl_plan *p, char out[65]);

/* --- editing: begin, any number of changes, end = one undo step --- */
void bl_plan_begin(struct bl_plan *p, const char *label);   /* "down of blocks 0-29: W8A8"; nests, outermost label wins */
bool bl_plan_end(struct bl_plan *p);                        /* true when something changed */
/* Each returns false when the unit is locked (nothing changed). Setting a quantized scheme on a unit without a method gives it "rtn". */
/* "rtn"; "" in full precision, "sparsegpt" where that is pruned */
const char *bl_plan_usual_method(const struct bl_scheme *s);
/* Whether the unit keeps its method under another scheme; otherwise setting that scheme gives it the usual one. */
bool bl_plan_keeps_method(const struct bl_choice *c, const struct bl_scheme *s);
bool bl_plan_set_scheme(struct bl_plan *p, int unit, const struct bl_scheme *s);
bool bl_plan_set_method(struct bl_plan *p, int unit, const char *method, const char *params);
bool bl_plan_set_choice(struct bl_plan *p, int unit, const struct bl_choice *c); /* both, as another plan has them; locks stay */
void bl_plan_set_lock(struct bl_plan *p, int unit, bool locked);
void bl_plan_set_target(struct bl_plan *p, const char *target);
void bl_plan_set_format(struct bl_plan *p, const char *exporter);
void bl_plan_set_zero_nonfinite(struct bl_plan *p, bool on);
void bl_plan_set_stages(struct bl_plan *p, const char *stages); /* canonical; locks do not matter: a lock keeps a choice, not the weights */
/* value NULL: drop the edit. Refuses keys that must not be edited (quantization_config, model_type, architectures, sizes) and what is not JSON. */
enum bl_status bl_plan_set_edit(struct bl_plan *p, const char *key, const char *value, struct bl_err *err);
bool bl_plan_undo(struct bl_plan *p); /* false: nothing to undo */
bool bl_plan_redo(struct bl_plan *p);
const char *bl_plan_undo_label(const struct bl_plan *p);    /* NULL: none */
const char *bl_plan_redo_label(const struct bl_plan *p);

/* --- snapshots (part of the file; saving, renaming, dropping and restoring are undoable steps too) --- */
int bl_plan_n_snapshots(const struct bl_plan *p);
const struct bl_snapshot *bl_plan_snapshot(const struct bl_plan *p, int i);   /* newest first */
int bl_plan_find_snapshot(const struct bl_plan *p, const char *name);        /* -1: none */
enum bl_status bl_plan_snapshot_save(struct bl_plan *p, const char *name, const char *note, struct bl_err *err); /* name 1..64 bytes, printable; replaces none: BL_USAGE when taken */
/* The same with the numbers that are known of it; results is taken over (may be NULL). */
enum bl_status bl_plan_snapshot_save_with(struct bl_plan *p, const char *name, const char *note, struct bl_snapshot_results *results, struct bl_err *err);
enum bl_status bl_plan_snapshot_restore(struct bl_plan *p, int i, struct bl_err *err); /* locked units are restored too */
enum bl_status bl_plan_snapshot_rename(struct bl_plan *p, int i, const char *name, struct bl_err *err);
void bl_plan_snapshot_drop(struct bl_plan *p, int i);
const struct bl_choice *bl_snapshot_choice(const struct bl_snapshot *s, int unit);
bool bl_snapshot_zero_nonfinite(const struct bl_snapshot *s);

/* --- patterns: exact unit or member name; re:PATTERN (PCRE2, matched at the start like Python's re.match, tried on unit and member names);
 * "all"; a kind ("down"); blocks "11", "4-11"; both "4-11.down"; "first", "last" block. Marks units in selected[n_units]; none = BL_USAGE naming the pattern. --- */
enum bl_status bl_pattern_match(const struct bl_model *m, const char *pattern, uint8_t *selected, int *n_selected, struct bl_err *err);
/* "PATTERN=SCHEME[:METHOD[,key=value…]]" applied as one undo step; *n_changed, *n_locked may be NULL. */
enum bl_status bl_plan_set_text(struct bl_plan *p, const struct bl_model *m, const char *text, int *n_changed, int *n_locked, struct bl_err *err);
/* The same for "PATTERN=METHOD[,key=value]": schemes stay; units in full precision have no method and are passed over. */
enum bl_status bl_plan_method_text(struct bl_plan *p, const struct bl_model *m, const char *text, int *n_changed, int *n_locked, struct bl_err *err);
/* Presets: any scheme name for every unit ("W8A8"), method rtn. */
enum bl_status bl_plan_preset(struct bl_plan *p, const struct bl_model *m, const char *name, struct bl_err *err);

#endif
