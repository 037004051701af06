/* SPDX-License-Identifier: Apache-2.0
 * An opened checkpoint: config, family, mapped files, tensors, and the units of choice. Constant after open; opening reads headers
 * only. A unit is what the server treats as one linear layer; its index is the key everywhere else. */
#ifndef BL_MODEL_MODEL_H
#define BL_MODEL_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/str.h"
#include "core/model/arch.h"
#include "core/model/config.h"
#include "core/model/safetensors.h"

struct bl_member { /* one linear on disk */
	char *name;                     /* "model.layers.0.self_attn.q_proj" */
	const struct bl_tensor *weight; /* [rows, cols]; BF16, F16 or F32. NULL in a checkpoint that is already quantized */
	const struct bl_tensor *bias;   /* NULL: none */
	int64_t rows, cols;             /* out, in features */
	const struct bl_unit *unit;     /* that it is part of; NULL: it stands alone */
};

struct bl_unit {
	char *name;                     /* as the server names it: "model.layers.0.self_attn.qkv_proj" */
	enum bl_unit_kind kind;
	int block;
	int n_members;
	struct bl_member members[BL_MEMBERS_MAX];
	int64_t rows, cols;             /* fused: sum of rows; cols are equal */
	enum bl_dtype dtype;
	uint64_t bytes;                 /* of the members' weights (and biases) */
};

struct bl_model_file { char *name; struct bl_st st; }; /* name relative to the folder */

struct bl_model {
	char *id;                       /* how the user named it */
	char *dir;                      /* folder (resolved; of the snapshot for a cache id) */
	char *title;                    /* short name for the screen: last path component or the repository's name */
	struct bl_config config;
	const struct bl_arch *arch;
	struct bl_model_file *files; int n_files;
	const struct bl_tensor **tensors; int64_t n_tensors; /* all, sorted by name */
	struct bl_unit *units; int n_units;                  /* block by block: qkv, o, gate_up, down */
	const struct bl_tensor *embed, *head;                /* head NULL when tied and not stored */
	bool head_stored_and_tied;      /* redundant lm_head in a tied model: dropped on export */
	uint64_t bytes;                 /* of all tensors */
	uint64_t parameters;
	char **problems; int n_problems; /* sentences: tensors not understood, 5.x spelling, tied head stored, already quantized, … */
	char digest[65];                /* SHA-256 over config text, names, shapes and file sizes + mtimes: the identity used by caches */
};

/* id: a folder, a .safetensors file (its folder's config.json is used), a folder with an index, or ORG/NAME (or a
 * snapshot path) in the local Hugging Face cache: $HF_HUB_CACHE, $HF_HOME/hub, ~/.cache/huggingface/hub; refs/main, links into blobs. */
enum bl_status bl_model_open(struct bl_model **out, const char *id, struct bl_err *err);
void bl_model_close(struct bl_model *m);
/* The same from bytes in memory (the proof of a package): parts must outlive the model. No index is looked at. */
struct bl_model_part { const char *name; const void *data; uint64_t bytes; };
enum bl_status bl_model_open_parts(struct bl_model **out, const char *title, const char *config, size_t config_bytes, const struct bl_model_part *parts, int n_parts,
				   struct bl_err *err);

const struct bl_tensor *bl_model_tensor(const struct bl_model *m, const char *name); /* NULL: none */
/* Unit by its own name, by a member's name, or by "BLOCK.KIND" / "BLOCK KIND" ("11.down"); -1: none */
int bl_model_unit(const struct bl_model *m, const char *name);
/* Folders in the current folder, the Hugging Face cache and `recent` that look like checkpoints (config.json + safetensors). */
struct bl_found { char *id, *title, *family; uint64_t bytes; bool quantized; int64_t blocks; };
void bl_model_discover(struct bl_found **out, size_t *n, const char *const *recent, size_t n_recent);
void bl_found_free(struct bl_found *f, size_t n);

#endif
