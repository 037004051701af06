/* SPDX-License-Identifier: Apache-2.0
 * The action list as a table, and the way from a name or a key to what happens: the screen first, then the program
 * (program.c). */
#include "tui/action.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "core/base/str.h"
#include "tui/app_private.h"

static const struct bl_action_row rows[BL_ACTION_COUNT] = {
#define BL_ACTION(id, command, arguments, in_group, on_screens, help)                                                  \
	[BL_ACT_##id] = {                                                                                              \
		.name = command, .args = arguments, .group = in_group, .screens = on_screens, .sentence = help         \
	},
#include "tui/action_list.h"
#undef BL_ACTION
};

/* What hands that know vi and friends type after the colon. */
static const struct {
	const char *alias, *name;
} aliases[] = {
	{ "q", "quit" }, { "q!", "quit!" }, { "w", "save" }, { "h", "help" }, { "x", "export" },
};

const struct bl_action_row *bl_action_row(enum bl_action a)
{
	return &rows[a];
}

int bl_action_find(const char *name)
{
	for (int a = 0; a < BL_ACTION_COUNT; a++)
		if (!strcmp(rows[a].name, name))
			return a;
	return -1;
}

bool bl_action_on_screen(enum bl_action a, const char *screen)
{
	size_t len = strlen(screen);

	if (!strcmp(rows[a].screens, "*"))
		return true;
	for (const char *s = rows[a].screens; (s = strstr(s, screen)); s += len)
		if ((s == rows[a].screens || s[-1] == ' ') && (s[len] == ' ' || !s[len]))
			return true;
	return false;
}

bool bl_action_needs_argument(enum bl_action a)
{
	return rows[a].args[0] && rows[a].args[0] != '[';
}

void bl_action_ask_argument(struct bl_app *app, enum bl_action a)
{
	char label[64];

	snprintf(label, sizeof label, "%s ", rows[a].name);
	if (a == BL_ACT_SEARCH)
		snprintf(label, sizeof label, "/");
	bl_app_prompt(app, label, NULL, rows[a].args, a);
}

unsigned bl_action_run(struct bl_app *app, enum bl_action a, const char *arg)
{
	const struct bl_screen *screen = bl_app_top(app);
	unsigned react = BL_REACT_UNKNOWN;

	if (!arg)
		arg = "";
	if (!bl_action_on_screen(a, screen->name)) {
		bl_app_message(app, BL_MSG_WARN, "%s works on: %s (here is %s)", rows[a].name, rows[a].screens,
			       screen->name);
		return BL_REACT_REDRAW;
	}
	bl_hints_done(app, a);
	if (screen->act)
		react = screen->act(app, bl_app_state(app), a, arg);
	if (react != BL_REACT_UNKNOWN)
		return react;
	if (bl_action_needs_argument(a) && !*arg) {
		bl_action_ask_argument(app, a);
		return BL_REACT_REDRAW;
	}
	react = bl_program_act(app, a, arg);
	return react == BL_REACT_UNKNOWN ? BL_REACT_NONE : react;
}

/* The action a typed name means: exact, alias, or the one it abbreviates. -1: none, -2: several (their names in
 * `which`). */
static int resolve(const char *name, char *which, size_t cap)
{
	int found = bl_action_find(name), n = 0, shortest = -1;
	size_t used = 0;

	if (found >= 0)
		return found;
	for (size_t i = 0; i < sizeof aliases / sizeof aliases[0]; i++)
		if (!strcmp(aliases[i].alias, name))
			return bl_action_find(aliases[i].name);
	for (int a = 0; a < BL_ACTION_COUNT; a++) {
		if (!bl_starts_with(rows[a].name, name))
			continue;
		n++;
		if (shortest < 0 || strlen(rows[a].name) < strlen(rows[shortest].name))
			shortest = a;
		if (used < cap)
			used += (size_t)snprintf(which + used, cap - used, "%s%s", n > 1 ? ", " : "", rows[a].name);
	}
	for (int a = 0; a < BL_ACTION_COUNT && n > 1; a++) /* quit and quit!: the one all others extend */
		if (bl_starts_with(rows[a].name, name) && !bl_starts_with(rows[a].name, rows[shortest].name))
			return -2;
	return shortest;
}

unsigned bl_action_run_text(struct bl_app *app, const char *text)
{
	char name[32], shown[64], which[200] = "";
	const char *arg;
	size_t len;
	int a;

	while (*text == ' ' || *text == ':')
		text++;
	len = strcspn(text, " \t");
	arg = text + len + strspn(text + len, " \t");
	if (!len)
		return BL_REACT_REDRAW;
	snprintf(name, sizeof name, "%.*s", (int)(len < sizeof name ? len : sizeof name - 1), text);
	if (isdigit((unsigned char)name[0]) && bl_action_find(name) < 0) { /* :11 and :11.down go there */
		a = BL_ACT_GOTO;
		arg = text;
	} else {
		a = len < sizeof name ? resolve(name, which, sizeof which) : -1;
	}
	bl_printable(shown, sizeof shown, name);
	if (a == -2)
		bl_app_message(app, BL_MSG_ERROR, ":%s could be %s", shown, which);
	else if (a < 0)
		bl_app_message(app, BL_MSG_ERROR,
			       "there is no command :%s · ? lists what there is, Tab after : completes", shown);
	else
		return bl_action_run(app, (enum bl_action)a, arg) | BL_REACT_REDRAW;
	return BL_REACT_REDRAW;
}
