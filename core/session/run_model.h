/* SPDX-License-Identifier: Apache-2.0
 * Running a session's model or plan once, for the command line: all hidden states and logits of given ids into a file, or text from a prompt. Blocking;
 * from any thread, while nothing edits the session. */
#ifndef BL_SESSION_RUN_MODEL_H
#define BL_SESSION_RUN_MODEL_H

#include "core/export/export.h"
#include "core/forward/weights.h"
#include "core/session/session.h"

struct bl_run_place { /* where it runs */
	const char *device, *program_dir;
	uint64_t memory_limit;
	enum bl_arithmetic arithmetic;
	struct bl_progress *progress; /* cancel is looked at; may be NULL */
};

struct bl_forward_request {
	struct bl_run_place at;
	const char *ids, *out;   /* safetensors files; ids: input_ids [B, T] */
	bool fp32;
	int64_t last;            /* logits of so many last tokens of each sequence; 0: all */
};
struct bl_forward_report { int64_t sequences, tokens, tensors; uint64_t bytes; double seconds; char device[160]; };
enum bl_status bl_session_forward(struct bl_session *s, const struct bl_forward_request *r, struct bl_forward_report *out, struct bl_err *err);

struct bl_text_request {
	struct bl_run_place at;
	const char *prompt;      /* text, or NULL: */
	const char *ids;         /* a safetensors file with input_ids [1, T] */
	bool fp32, past_end;     /* past_end: goes on behind the model's end-of-text tokens */
	int64_t tokens;          /* at most so many new ones */
	double temperature, top_p;
	uint64_t seed;
	void (*piece)(void *ctx, const char *text, size_t n); /* new text as it comes (never a part of a character); may be NULL */
	void *ctx;
};
struct bl_text_report { int32_t *ids; int64_t n_prompt, n; char *text; double seconds; char device[160]; }; /* ids, text: bl_free; text NULL without a tokenizer */
enum bl_status bl_session_generate(struct bl_session *s, const struct bl_text_request *r, struct bl_text_report *out, struct bl_err *err);

#endif
