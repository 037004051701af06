/* SPDX-License-Identifier: Apache-2.0
 * The safetensors container, read: 8-byte length, JSON header, tensors back to back (https://github.com/huggingface/safetensors).
 * Everything is checked against the file before a tensor is handed out: header length, JSON shape, dtype, shape product, offsets
 * contiguous from 0 to the end without gap or overlap, no duplicate names, metadata a flat map of strings. At most 1,000,000
 * tensors per file; names at most 1024 bytes. */
#ifndef BL_MODEL_SAFETENSORS_H
#define BL_MODEL_SAFETENSORS_H

#include <stdint.h>

#include "core/base/err.h"
#include "core/base/file.h"
#include "core/model/tensor.h"

struct bl_st { /* owns the map and the names */
	struct bl_map map;
	struct bl_tensor *tensors; /* sorted by offset in the file */
	int64_t n_tensors;
	uint64_t header_bytes;     /* H, without the 8-byte length */
	char *format;              /* __metadata__.format or NULL */
	int64_t n_metadata;
	void *names;               /* lookup table */
};

enum bl_status bl_st_open(struct bl_st *st, const char *path, struct bl_err *err);
/* The same checks on bytes in memory (fuzzing, zip entries): data must stay alive; st->map is not owned. */
enum bl_status bl_st_parse(struct bl_st *st, const void *data, uint64_t bytes, const char *label, struct bl_err *err);
void bl_st_close(struct bl_st *st);
const struct bl_tensor *bl_st_find(const struct bl_st *st, const char *name); /* NULL: none */

/* Header for the given tensors in the official order (dtype rank descending, then name bytewise): sorts `t` in place, fills
 * t[i].offset (from the start of the file), appends 8-byte length + JSON + padding to out. metadata is {"format":"pt"}. */
struct bl_str;
uint64_t bl_st_layout(struct bl_tensor *t, int64_t n, struct bl_str *out); /* returns total file bytes */

#endif
