/* SPDX-License-Identifier: Apache-2.0
 * The base's hidden states behind its last block, by part of the sequences, in host memory. */
#include "core/base/mem.h"
#include "core/evaluate/run.h"

#define PARTS 1024

struct bl_eval_base {
	uint64_t cap, used;
	struct { char *data; size_t bytes; } part[PARTS];
};

struct bl_eval_base *bl_eval_base_new(uint64_t cap)
{
	struct bl_eval_base *b = bl_xalloc(1, sizeof *b);

	b->cap = cap;
	return b;
}

void bl_eval_base_free(struct bl_eval_base *b)
{
	for (int i = 0; b && i < PARTS; i++)
		bl_free(b->part[i].data);
	bl_free(b);
}

const void *bl_eval_base_of(const struct bl_eval_base *b, int part, size_t bytes)
{
	return part < PARTS && b->part[part].bytes == bytes ? b->part[part].data : NULL;
}

void *bl_eval_base_room(struct bl_eval_base *b, int part, size_t bytes)
{
	struct bl_err none = BL_ERR_INIT;
	char *data = NULL;

	if (part >= PARTS || b->used + bytes > b->cap || bl_try_alloc(&data, bytes, 1, "the base's hidden states", &none))
		return NULL;
	bl_eval_base_forget(b, part);
	b->part[part].data = data;
	b->part[part].bytes = bytes;
	b->used += bytes;
	return data;
}

void bl_eval_base_forget(struct bl_eval_base *b, int part)
{
	b->used -= b->part[part].bytes;
	bl_free(b->part[part].data);
	b->part[part].data = NULL;
	b->part[part].bytes = 0;
}
