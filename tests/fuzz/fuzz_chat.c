/* SPDX-License-Identifier: Apache-2.0
 * Any text as a chat template, rendered over a conversation; a refused conversation leaves the output as it was. link: bl_text */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/text/chat.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const struct bl_message talk[] = {{"system", " s\n"}, {"user", "h\xc3\xa9 \xea\xb0\x80"}, {"assistant", "<think>x</think>a,b"}, {"user", ""}};
	struct bl_chat *c;
	struct bl_err err = BL_ERR_INIT;
	struct bl_str out = {0};

	if (bl_chat_parse(&c, (const char *)data, n, "fuzz", &err))
		return 0;
	bl_chat_special(c, "bos_token", "<s>");
	bl_str_add(&out, "before");
	if (bl_chat_render(c, talk, n % 5, n % 2, &out, &err) && strcmp(out.s, "before"))
		abort();
	if (strncmp(out.s, "before", 6) || !bl_utf8_valid(out.s, out.len))
		abort();
	bl_str_free(&out);
	bl_chat_free(c);
	return 0;
}
