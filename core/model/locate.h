/* SPDX-License-Identifier: Apache-2.0
 * From what the user typed to a folder: a path, a file, or an id in the local Hugging Face cache. */
#ifndef BL_MODEL_LOCATE_H
#define BL_MODEL_LOCATE_H

#include "core/base/err.h"

struct bl_place { char *dir, *only_file, *title; }; /* only_file: name of the one weight file the user pointed at, or NULL */
enum bl_status bl_locate(struct bl_place *out, const char *id, struct bl_err *err);
void bl_place_free(struct bl_place *p);
char *bl_hub_dir(void); /* the cache's hub folder; bl_free */

#endif
