/* SPDX-License-Identifier: Apache-2.0
 * Plans on disk: {"bitlathe_plan": 1, "model": {...}, "target": ..., "units": [{"name","scheme","method","params","locked"}], "config_edits": {...},
 * "snapshots": [...]}. Deterministic text, written atomically. Reading is bounded and names file, field and index. */
#ifndef BL_PLAN_PLAN_FILE_H
#define BL_PLAN_PLAN_FILE_H

#include "core/plan/plan.h"

/* True when the file looks like a plan (an object with the key bitlathe_plan in the first bytes). */
bool bl_plan_is_file(const char *path);
/* The model's id a plan file names (bl_free): relative paths are relative to the plan's folder. */
enum bl_status bl_plan_file_model(char **out, const char *path, struct bl_err *err);
/* Units are matched by name; unknown or missing unit names are errors. A different model digest is a warning sentence in *note (bl_free, may be NULL). */
enum bl_status bl_plan_load(struct bl_plan **out, const struct bl_model *m, const char *path, char **note, struct bl_err *err);
enum bl_status bl_plan_parse(struct bl_plan **out, const struct bl_model *m, const char *text, size_t n, const char *label, char **note, struct bl_err *err);
enum bl_status bl_plan_save(struct bl_plan *p, const char *path, struct bl_err *err); /* clears dirty */
void bl_plan_print(struct bl_str *out, const struct bl_plan *p);

/* Autosave: the same file under <XDG state>/autosave/<model digest>.plan.json, written by the session after edits and removed on a clean save or exit.
 * Found at the next start, it is offered as an undoable step. */
char *bl_plan_autosave_path(const struct bl_model *m); /* bl_free */

#endif
