/* SPDX-License-Identifier: Apache-2.0
 * Names of keys: checking and spelling them. */
#include "tui/key.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/base/str.h"

static const char *const names[] = {
	"Enter", "Esc",   "Tab",  "S-Tab", "Space",  "Backspace", "Delete", "Insert", "Up", "Down",
	"Left",  "Right", "Home", "End",   "PageUp", "PageDown",  "F1",     "F2",     "F3", "F4",
	"F5",    "F6",    "F7",   "F8",    "F9",     "F10",       "F11",    "F12",    NULL,
};

const char *bl_key_name(int i)
{
	return names[i];
}

/* Bytes of the one printable character that is all of `s`; 0 when it is anything else. */
static size_t one_char(const char *s)
{
	unsigned char c = (unsigned char)*s;
	size_t len = c < 0x80 ? 1 : c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
	char shown[BL_KEY_MAX];

	if (!c || strlen(s) != len || !bl_utf8_valid(s, len))
		return 0;
	return !strcmp(bl_printable(shown, sizeof shown, s), s) ? len : 0; /* control characters come back escaped */
}

bool bl_key_parse(char dst[BL_KEY_MAX], const char *text)
{
	char prefix[3] = "", rest[BL_KEY_MAX];

	if (!strcmp(text, " "))
		text = "<Space>";
	if ((bl_starts_with(text, "C-") || bl_starts_with(text, "M-")) && text[2]) {
		memcpy(prefix, text, 2);
		text += 2;
	}
	if (strlen(text) >= sizeof rest - 4)
		return false;
	if (text[0] == '<' && text[1]) {
		size_t len = strlen(text);

		if (text[len - 1] != '>')
			return false;
		for (int i = 0; names[i]; i++)
			if (strlen(names[i]) == len - 2 && !strncasecmp(names[i], text + 1, len - 2)) {
				snprintf(dst, BL_KEY_MAX, "%s<%s>", prefix, names[i]);
				return true;
			}
		return false;
	}
	snprintf(rest, sizeof rest, "%s", text);
	if (!one_char(rest))
		return false;
	if (prefix[0] == 'C') {
		if (rest[0] >= 'A' && rest[0] <= 'Z')
			rest[0] = (char)(rest[0] - 'A' + 'a');
		if (rest[1] || !((rest[0] >= 'a' && rest[0] <= 'z') || strchr("@\\]^_", rest[0])))
			return false;
		if (rest[0] == 'i' || rest[0] == 'm' ||
		    rest[0] == 'j') /* terminals cannot tell them from Tab and Enter */
			return false;
	}
	snprintf(dst, BL_KEY_MAX, "%s%s", prefix, rest);
	return true;
}

const char *bl_key_typed(const char *key)
{
	if (!strcmp(key, "<Space>"))
		return " ";
	return one_char(key) ? key : NULL;
}

char *bl_key_label(char *dst, const char *key)
{
	size_t len = strlen(key);

	if (key[0] == '<' && len > 2)
		snprintf(dst, BL_KEY_MAX, "%.*s", (int)(len - 2), key + 1);
	else
		snprintf(dst, BL_KEY_MAX, "%s", key);
	return dst;
}
