/* SPDX-License-Identifier: Apache-2.0
 * What calibration and evaluation are asked with: one table of fields each, which makes the rows of the form, the words of the `:` command with their
 * completion, and the line that the state folder keeps per model. A value that is not set keeps what it was. */
#ifndef BL_TUI_FORM_H
#define BL_TUI_FORM_H

#include "core/session/run.h"

enum bl_form_kind { BL_FORM_COUNT, BL_FORM_FLAG, BL_FORM_FILE, BL_FORM_BYTES };

struct bl_form_field {
	const char *name; /* "samples": in commands and files */
	enum bl_form_kind kind;
	size_t at;           /* offset in the request */
	int64_t least, most; /* of a count */
	const char *zero;    /* what 0 or nothing is called: "all", NULL: just 0 */
	const char *help;    /* stands beside the value */
};

#define BL_CALIB_FIELDS 8
#define BL_EVAL_FIELDS  7
extern const struct bl_form_field bl_calib_fields[BL_CALIB_FIELDS], bl_eval_fields[BL_EVAL_FIELDS];

/* A value as it is typed and shown: "512", "on", "16G", "" for no file. dst >= 32 bytes, for a file as long as its name. */
char *bl_form_text(const struct bl_form_field *f, const void *request, char *dst, size_t cap);
enum bl_status bl_form_set(const struct bl_form_field *f, void *request, const char *text, struct bl_err *err);
/* Smaller or larger by one step: a count is halved or doubled, a flag turned. */
void bl_form_step(const struct bl_form_field *f, void *request, int direction);

/* "FILE... samples=512 hessians=off"; blanks inside names as "\ ". Files replace those that were there; all or nothing is taken over. */
enum bl_status bl_calib_form_parse(struct bl_calib_request *r, const char *text, struct bl_err *err);
enum bl_status bl_eval_form_parse(struct bl_eval_request *r, const char *text, struct bl_err *err);
void bl_calib_form_print(const struct bl_calib_request *r, struct bl_str *out);
void bl_eval_form_print(const struct bl_eval_request *r, struct bl_str *out);
void bl_calib_form_add(struct bl_calib_request *r, const char *file);
void bl_calib_form_drop(struct bl_calib_request *r, int file);
void bl_eval_form_free(struct bl_eval_request *r);

struct bl_app;
/* The values for the model that is open: as last used with it, else usual ones. Read once, kept while the program runs. */
struct bl_calib_request *bl_app_calib_form(struct bl_app *app);
struct bl_eval_request *bl_app_eval_form(struct bl_app *app);
void bl_app_save_forms(struct bl_app *app); /* into the state folder (the workbench; not scripts) */

#endif
