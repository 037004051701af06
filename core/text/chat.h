/* SPDX-License-Identifier: Apache-2.0
 * The checkpoint's chat template (chat_template.jinja, or chat_template in tokenizer_config.json), rendered exactly as transformers does.
 * A template that uses what is not understood is refused with the construct and its line and what to do instead (give rows of "text" or
 * "input_ids"), never guessed. Rendering is bounded in time and memory. */
#ifndef BL_TEXT_CHAT_H
#define BL_TEXT_CHAT_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/err.h"
#include "core/base/str.h"

struct bl_message { const char *role, *content; }; /* role: "system", "user", "assistant" … */

struct bl_chat;
/* BL_MISSING-like BL_INVALID sentence when the checkpoint has no template. */
enum bl_status bl_chat_open(struct bl_chat **out, const char *folder, struct bl_err *err);
/* From text in memory; where: for messages. bl_chat_special gives it bos_token and the like. */
enum bl_status bl_chat_parse(struct bl_chat **out, const char *text, size_t n, const char *where, struct bl_err *err);
void bl_chat_special(struct bl_chat *c, const char *name, const char *token);
void bl_chat_free(struct bl_chat *c);
const char *bl_chat_name(const struct bl_chat *c);   /* what the screen calls it: "exaone4", "chatml", "custom" … */
const char *bl_chat_digest(const struct bl_chat *c); /* SHA-256 of the template, 64 hex */
/* Appends the rendered conversation. generation: with the prompt for the assistant's turn. */
enum bl_status bl_chat_render(const struct bl_chat *c, const struct bl_message *messages, size_t n, bool generation, struct bl_str *out,
			      struct bl_err *err);

#endif
