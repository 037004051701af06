/* SPDX-License-Identifier: Apache-2.0
 * The keymap: a list in the order of its text; a later line for the same screen and keys replaces an earlier one. */
#include "tui/keymap.h"

#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "generated_keymap.h"
#include "tui/screen.h"

#define TEXT_MAX     (256 * 1024)
#define ROWS_MAX     4096
#define WARNINGS_MAX 20
#define TOKENS_MAX   16

struct parser {
	struct bl_keymap *map;
	const char *label;
	int line, n_warnings;
	struct bl_str *warnings;
	char contexts[TOKENS_MAX][24];
	int n_contexts;
};

static void warn(struct parser *p, const char *what, const char *text)
{
	char shown[80];

	if (!p->warnings || ++p->n_warnings > WARNINGS_MAX)
		return;
	bl_str_addf(p->warnings, "%s, line %d: %s%s%s\n", p->label, p->line, what, *text ? ": " : "",
		    bl_printable(shown, sizeof shown, text));
}

static bool is_screen(const char *name)
{
	if (!strcmp(name, "*"))
		return true;
	for (int i = 0; bl_screens[i]; i++)
		if (!strcmp(bl_screens[i]->name, name))
			return true;
	return false;
}

static int split(char *line, char **token, int cap)
{
	int n = 0;
	char *save = NULL;

	for (char *t = strtok_r(line, " \t", &save); t && n < cap; t = strtok_r(NULL, " \t", &save))
		token[n++] = t;
	return n;
}

static void header(struct parser *p, char *inside)
{
	char *token[TOKENS_MAX];
	int n = split(inside, token, TOKENS_MAX);

	p->n_contexts = 0;
	for (int i = 0; i < n; i++) {
		if (!is_screen(token[i])) {
			warn(p, "there is no such screen", token[i]);
			continue;
		}
		snprintf(p->contexts[p->n_contexts++], sizeof p->contexts[0], "%s", token[i]);
	}
}

static bool same_keys(const struct bl_binding *a, const struct bl_binding *b)
{
	if (a->n_keys != b->n_keys || strcmp(a->context, b->context) != 0)
		return false;
	for (int i = 0; i < a->n_keys; i++)
		if (strcmp(a->keys[i], b->keys[i]) != 0)
			return false;
	return true;
}

static void add(struct parser *p, const struct bl_binding *b)
{
	struct bl_keymap *k = p->map;

	for (size_t i = 0; i < k->n; i++)
		if (same_keys(&k->rows[i], b)) {
			k->rows[i] = *b;
			return;
		}
	if (k->n >= ROWS_MAX) {
		warn(p, "too many keys", "");
		return;
	}
	bl_xgrow(&k->rows, &k->cap, k->n + 1);
	k->rows[k->n++] = *b;
}

static void bind_line(struct parser *p, char *line)
{
	struct bl_binding b = { .action = BL_ACT_UNBOUND };
	char *equals = NULL, *token[TOKENS_MAX], *command, *arg;
	int n;

	/* " = " after at least one key; the key '=' itself may stand first */
	for (char *s = line + 1; *s && !equals; s++)
		if (*s == '=' && (s[-1] == ' ' || s[-1] == '\t') && (s[1] == ' ' || s[1] == '\t' || !s[1]))
			equals = s;
	if (!equals) {
		warn(p, "expected KEY = COMMAND", line);
		return;
	}
	*equals = '\0';
	n = split(line, token, TOKENS_MAX);
	if (n < 1 || n > BL_SEQUENCE_MAX) {
		warn(p, "expected one to four keys before '='", "");
		return;
	}
	for (int i = 0; i < n; i++)
		if (!bl_key_parse(b.keys[b.n_keys++], token[i])) {
			warn(p, "this is not a key", token[i]);
			return;
		}
	command = equals + 1 + strspn(equals + 1, " \t");
	arg = command + strcspn(command, " \t");
	if (*arg)
		*arg++ = '\0';
	arg += strspn(arg, " \t");
	if (strcmp(command, "none") != 0 && (b.action = bl_action_find(command)) < 0) {
		warn(p, "there is no such command", command);
		return;
	}
	if (strlen(arg) >= sizeof b.arg) {
		warn(p, "the argument is too long", "");
		return;
	}
	snprintf(b.arg, sizeof b.arg, "%s", arg);
	for (int i = 0; i < p->n_contexts; i++) {
		snprintf(b.context, sizeof b.context, "%s", p->contexts[i]);
		add(p, &b);
	}
	if (!p->n_contexts)
		warn(p, "no [screen] line stands before this key", "");
}

void bl_keymap_parse(struct bl_keymap *k, const char *text, size_t n, const char *label, struct bl_str *warnings)
{
	struct parser p = { .map = k, .label = label, .warnings = warnings, .contexts = { "*" }, .n_contexts = 1 };
	size_t at = 0;

	if (n > TEXT_MAX) {
		warn(&p, "the file is too long; the rest is left out", "");
		n = TEXT_MAX;
	}
	while (at < n) {
		const char *end = memchr(text + at, '\n', n - at);
		size_t len = end ? (size_t)(end - text) - at : n - at;
		char line[512], *s = line;

		p.line++;
		if (len >= sizeof line || memchr(text + at, '\0', len)) {
			warn(&p, "the line is too long or has a NUL", "");
		} else {
			memcpy(line, text + at, len);
			while (len && strchr(" \t\r", line[len - 1]))
				len--;
			line[len] = '\0';
			s += strspn(s, " \t");
			len = strlen(s);
			if (*s == '[' && len > 2 && s[1] != ' ' && s[len - 1] == ']') {
				s[len - 1] = '\0';
				header(&p, s + 1);
			} else if (*s && !(*s == '#' && (s[1] == ' ' || !s[1] || s[1] == '#'))) {
				bind_line(&p, s);
			}
		}
		at += (end ? (size_t)(end - text) - at : n - at) + 1;
	}
}

void bl_keymap_default(struct bl_keymap *k)
{
	bl_keymap_parse(k, (const char *)bl_keymap_default_text, sizeof bl_keymap_default_text, "built-in keys", NULL);
}

void bl_keymap_free(struct bl_keymap *k)
{
	bl_free(k->rows);
	*k = (struct bl_keymap){ 0 };
}

static bool begins(const struct bl_binding *b, const char (*keys)[BL_KEY_MAX], int n)
{
	if (b->n_keys < n)
		return false;
	for (int i = 0; i < n; i++)
		if (strcmp(b->keys[i], keys[i]) != 0)
			return false;
	return true;
}

enum bl_key_found bl_keymap_find(const struct bl_keymap *k, const char *screen, const char (*keys)[BL_KEY_MAX], int n,
				 const struct bl_binding **out)
{
	bool prefix = false;

	for (int own = 1; own >= 0; own--) {
		const char *context = own ? screen : "*";
		bool taken = false;

		for (size_t i = 0; i < k->n; i++) {
			const struct bl_binding *b = &k->rows[i];

			if (strcmp(b->context, context) != 0 || !begins(b, keys, n))
				continue;
			if (b->n_keys > n) {
				prefix |= b->action != BL_ACT_UNBOUND;
			} else if (b->action == BL_ACT_UNBOUND) {
				taken = true;
			} else {
				*out = b;
				return BL_KEY_FOUND;
			}
		}
		if (taken)
			break;
	}
	return prefix ? BL_KEY_PREFIX : BL_KEY_NONE;
}

void bl_keymap_visit(const struct bl_keymap *k, const char *screen, int action, void (*fn)(void *ctx, const struct bl_binding *b),
		     void *ctx)
{
	for (size_t i = 0; i < k->n; i++) {
		const struct bl_binding *b = &k->rows[i], *wins;

		if (b->action != action || (strcmp(b->context, "*") != 0 && strcmp(b->context, screen) != 0))
			continue;
		if (bl_keymap_find(k, screen, (const char(*)[BL_KEY_MAX])b->keys, b->n_keys, &wins) == BL_KEY_FOUND &&
		    wins == b)
			fn(ctx, b);
	}
}

char *bl_binding_label(char *dst, const struct bl_binding *b)
{
	size_t used = 0;

	dst[0] = '\0';
	for (int i = 0; i < b->n_keys && used < 64; i++) {
		char label[BL_KEY_MAX];

		used += (size_t)snprintf(dst + used, 64 - used, "%s%s", i ? " " : "", bl_key_label(label, b->keys[i]));
	}
	return dst;
}
