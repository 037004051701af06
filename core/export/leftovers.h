/* SPDX-License-Identifier: Apache-2.0
 * Temporaries of runs that were killed, and what may be replaced. */
#ifndef BL_EXPORT_LEFTOVERS_H
#define BL_EXPORT_LEFTOVERS_H

#include <stdbool.h>

/* Removes ".NAME.bl-PID-N.tmp" beside `out` whose process is gone (same host: the file names a process id; a living one is left alone). */
void bl_leftovers_remove(const char *out);
/* Those of any name, in a folder that is ours alone. */
void bl_leftovers_remove_in(const char *dir);
/* A folder that only a checkpoint would be: empty, or with a config.json and no folders inside. */
bool bl_is_checkpoint_dir(const char *path);

#endif
