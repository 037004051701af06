/* SPDX-License-Identifier: Apache-2.0
 * Bytes from a terminal into keys, pasted text and mouse events. A pure state machine: bytes and the time go in, events
 * come out. A torn or unknown sequence never becomes keys; replies to queries and resize reports are swallowed. */
#ifndef BL_TUI_INPUT_H
#define BL_TUI_INPUT_H

#include <stddef.h>
#include <stdint.h>

#include "tui/app.h"
#include "tui/key.h"

enum bl_input_kind { BL_INPUT_KEY, BL_INPUT_PASTE, BL_INPUT_MOUSE };
struct bl_input_event {
	enum bl_input_kind kind;
	const char *text; /* KEY: its name; PASTE: the text */
	enum bl_mouse mouse;
	int row, col; /* MOUSE, from 0 */
};
typedef void bl_input_fn(void *ctx, const struct bl_input_event *e);

enum bl_input_state {
	BL_IN_GROUND,
	BL_IN_UTF8,
	BL_IN_ESC,
	BL_IN_CSI,
	BL_IN_SS3,
	BL_IN_STRING,
	BL_IN_STRING_ESC,
	BL_IN_PASTE,
	BL_IN_SKIP
};

struct bl_input {
	enum bl_input_state state;
	int esc_ms;       /* a lone ESC is the key after that long */
	uint64_t since;   /* ms: when the unfinished sequence last grew */
	uint64_t escaped; /* ms: when a lone ESC was taken for the key; 0: not lately */
	char seq[40];
	size_t n_seq, need; /* need: bytes of the UTF-8 character; of the rest to skip */
	char *paste;
	size_t n_paste, cap_paste;
};

void bl_input_init(struct bl_input *in, int esc_ms);
void bl_input_free(struct bl_input *in);
void bl_input_feed(struct bl_input *in, const void *bytes, size_t n, uint64_t now_ms, bl_input_fn *fn, void *ctx);
/* Milliseconds until bl_input_expire has something to do, -1: never. */
int bl_input_timeout_ms(const struct bl_input *in, uint64_t now_ms);
void bl_input_expire(struct bl_input *in, uint64_t now_ms, bl_input_fn *fn, void *ctx);

#endif
