/* SPDX-License-Identifier: Apache-2.0
 * The workbench: its life, the stack of screens, and where a key goes (question, prompt, keymap, action). */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "tui/app_private.h"

/* ---- life ---- */

static void load_user_keys(struct bl_app *app)
{
	char *dir = bl_xdg_dir("CONFIG"), *path = bl_path_join(dir, "keys"), *text = NULL;
	size_t n = 0;
	struct bl_err err = BL_ERR_INIT;
	struct bl_str warnings = { 0 };

	if (bl_is_file(path)) {
		if (bl_read_file(&text, &n, path, 256 * 1024, true, &err))
			bl_app_message_err(app, &err);
		else
			bl_keymap_parse(&app->priv->keymap, text, n, path, &warnings);
		bl_free(text);
	}
	if (warnings.len) {
		char *end = strchr(warnings.s, '\n');

		*end = '\0';
		bl_app_message(app, BL_MSG_WARN, "%s · L shows all messages", warnings.s);
		for (char *save = NULL, *l = strtok_r(end + 1, "\n", &save); l; l = strtok_r(NULL, "\n", &save))
			bl_log(BL_LOG_WARN, "%s", l);
	}
	bl_str_free(&warnings);
	bl_free(path);
	bl_free(dir);
}

struct bl_app *bl_app_new(struct bl_settings *settings, const struct bl_session_options *o, int rows, int cols,
			  bool ascii)
{
	struct bl_app *app = bl_xalloc(1, sizeof *app);
	struct bl_err err = BL_ERR_INIT;

	app->settings = settings;
	app->options = *o;
	app->priv = bl_xalloc(1, sizeof *app->priv);
	app->priv->redraw = true;
	bl_grid_init(&app->grid, rows, cols, ascii);
	bl_theme_builtin(&app->theme);
	bl_keymap_default(&app->priv->keymap);
	load_user_keys(app);
	if (bl_app_set_theme(app, bl_settings_text(settings, BL_SET_THEME), &err))
		bl_app_message(app, BL_MSG_WARN, "%s", err.text);
	bl_app_push(app, "welcome", NULL);
	return app;
}

static void bury(struct bl_app *app, struct bl_frame f)
{
	if (f.screen->leave)
		f.screen->leave(app, f.state);
	bl_free(f.state);
}

static void bury_dead(struct bl_app *app)
{
	while (app->priv->n_dead > 0)
		bury(app, app->priv->dead[--app->priv->n_dead]);
}

/* A frame may be left by its own action: it is freed when no action runs any more. */
static void drop_frame(struct bl_app *app, struct bl_frame f)
{
	struct bl_app_private *p = app->priv;

	if (!p->depth_of_act || p->n_dead >= BL_STACK_MAX)
		bury(app, f);
	else
		p->dead[p->n_dead++] = f;
}

static void clear_stack(struct bl_app *app)
{
	while (app->priv->depth > 0)
		drop_frame(app, app->priv->stack[--app->priv->depth]);
}

struct bl_session *bl_app_detach(struct bl_app *app)
{
	struct bl_session *s = app->session;

	if (!s)
		return NULL;
	clear_stack(app);
	bury_dead(app);
	bl_verify_free(app);
	app->session = NULL;
	return s;
}

void bl_app_close_session(struct bl_app *app)
{
	struct bl_session *s = bl_app_detach(app);

	if (s)
		bl_session_close(s);
}

void bl_app_free(struct bl_app *app)
{
	if (!app)
		return;
	app->priv->depth_of_act = 0;
	bl_app_close_session(app);
	clear_stack(app);
	bury_dead(app);
	bl_app_state_save(app);
	bl_app_state_free(app);
	bl_prompt_close(app);
	bl_keymap_free(&app->priv->keymap);
	bl_free(app->priv->clipboard);
	bl_grid_free(&app->grid);
	bl_calib_request_free(&app->priv->calibrate);
	bl_eval_form_free(&app->priv->evaluate);
	bl_free(app->priv);
	bl_free(app);
}

void bl_app_keep_state(struct bl_app *app)
{
	app->priv->persistent = true;
	bl_app_state_load(app);
}

/* The checkpoint was opened, and a plan for it lies beside: that would be another start. */
static void say_saved_plan(struct bl_app *app, const struct bl_session *s)
{
	char *file = bl_session_plan_file(s);

	if (!s->plan_path && bl_is_file(file))
		bl_app_message(app, BL_MSG_INFO, "a saved plan is here, too: bitlathe %s opens it", file);
	bl_free(file);
}

enum bl_status bl_app_open(struct bl_app *app, const char *what, struct bl_err *err)
{
	struct bl_session *s = NULL;
	struct bl_err mine = BL_ERR_INIT;

	if (what && bl_session_open(&s, what, &app->options, &mine)) {
		bl_app_message_err(app, &mine);
		return bl_fail(err, mine.status, "%s", mine.text);
	}
	app->priv->depth_of_act++; /* the screen that asked for it may be on the stack */
	if (app->session) {
		app->priv->depth_of_act--;
		bl_app_close_session(app);
		app->priv->depth_of_act++;
	}
	clear_stack(app);
	app->session = s;
	app->priv->n_running = 0;
	app->priv->newest_job = 0;
	app->priv->export_job = 0;
	app->priv->export_out[0] = '\0';
	bl_app_push(app, s ? "layers" : "welcome", NULL);
	if (s) {
		bl_app_remember_model(app, what);
		bl_session_start_stats(s);
		if (s->notice)
			bl_app_message(app, BL_MSG_WARN, "%s", s->notice);
		else
			say_saved_plan(app, s);
	}
	app->priv->depth_of_act--;
	if (!app->priv->depth_of_act)
		bury_dead(app);
	return BL_OK;
}

void bl_app_resize(struct bl_app *app, int rows, int cols)
{
	bool ascii = app->grid.ascii;

	if (rows == app->grid.rows && cols == app->grid.cols)
		return;
	bl_grid_free(&app->grid);
	bl_grid_init(&app->grid, rows, cols, ascii);
	app->priv->redraw = true;
}

/* ---- the stack ---- */

static const struct bl_screen *find_screen(const char *name)
{
	for (int i = 0; bl_screens[i]; i++)
		if (!strcmp(bl_screens[i]->name, name))
			return bl_screens[i];
	return NULL;
}

/* Screens that make sense without a checkpoint. */
static bool needs_session(const char *name)
{
	return strcmp(name, "welcome") != 0 && strcmp(name, "help") != 0 && strcmp(name, "log") != 0;
}

void bl_app_push(struct bl_app *app, const char *screen, const char *arg)
{
	struct bl_app_private *p = app->priv;
	const struct bl_screen *s = find_screen(screen);
	struct bl_frame f;

	if (!s || (!app->session && needs_session(screen))) {
		bl_app_message(app, BL_MSG_WARN,
			       "open a checkpoint first: Enter on one of the list, or bitlathe FOLDER");
		return;
	}
	if (p->depth && p->stack[p->depth - 1].screen == s && !arg)
		return;
	if (p->depth == BL_STACK_MAX) { /* the home screen stays, the oldest way back is forgotten */
		drop_frame(app, p->stack[1]);
		memmove(&p->stack[1], &p->stack[2], (BL_STACK_MAX - 2) * sizeof p->stack[0]);
		p->depth--;
	}
	f = (struct bl_frame){ s, bl_xalloc(1, s->state_bytes ? s->state_bytes : 1) };
	p->stack[p->depth++] = f;
	if (s->enter)
		s->enter(app, f.state, arg);
}

void bl_app_pop(struct bl_app *app)
{
	struct bl_app_private *p = app->priv;

	if (p->depth > 1)
		drop_frame(app, p->stack[--p->depth]);
}

const struct bl_screen *bl_app_top(const struct bl_app *app)
{
	return app->priv->stack[app->priv->depth - 1].screen;
}

void *bl_app_state(const struct bl_app *app)
{
	return app->priv->stack[app->priv->depth - 1].state;
}

const struct bl_screen *bl_app_below(const struct bl_app *app)
{
	return app->priv->depth > 1 ? app->priv->stack[app->priv->depth - 2].screen : NULL;
}

/* ---- messages and questions ---- */

void bl_app_show(struct bl_app *app, enum bl_message_kind kind, const char *text)
{
	struct bl_app_private *p = app->priv;

	if (p->message.on && p->message.kind == BL_MSG_ERROR && kind == BL_MSG_INFO && !p->depth_of_act)
		return; /* an error stays until it is dismissed, or until what was done next has an answer */
	p->message.on = true;
	p->message.kind = kind;
	bl_printable(p->message.text, sizeof p->message.text, text);
}

static void set_message(struct bl_app *app, enum bl_message_kind kind, const char *text)
{
	static const enum bl_log_level levels[] = { BL_LOG_INFO, BL_LOG_WARN, BL_LOG_ERROR };

	bl_log(levels[kind], "%s", text);
	bl_app_show(app, kind, text);
}

void bl_app_message(struct bl_app *app, enum bl_message_kind kind, const char *fmt, ...)
{
	char text[900];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	set_message(app, kind, text);
}

void bl_app_message_err(struct bl_app *app, const struct bl_err *err)
{
	if (err->status != BL_OK)
		set_message(app, BL_MSG_ERROR, err->text[0] ? err->text : bl_status_text(err->status));
}

void bl_app_answered(struct bl_app *app)
{
	if (app->priv->message.kind != BL_MSG_INFO)
		app->priv->message.on = false;
}

void bl_app_ask(struct bl_app *app, const char *question, enum bl_action yes, const char *arg)
{
	struct bl_app_private *p = app->priv;

	p->ask.on = true;
	p->ask.yes = yes;
	bl_printable(p->ask.question, sizeof p->ask.question, question);
	snprintf(p->ask.arg, sizeof p->ask.arg, "%s", arg ? arg : "");
}

/* ---- keys ---- */

void bl_app_act_over(struct bl_app *app)
{
	if (--app->priv->depth_of_act == 0)
		bury_dead(app);
}

static unsigned finish(struct bl_app *app, unsigned react)
{
	bl_app_act_over(app);
	return react;
}

static unsigned ask_key(struct bl_app *app, const char *key)
{
	struct bl_app_private *p = app->priv;

	if (!strcmp(key, "y") || !strcmp(key, "Y")) {
		char arg[sizeof p->ask.arg];

		snprintf(arg, sizeof arg, "%s", p->ask.arg);
		p->ask.on = false;
		return bl_action_run(app, p->ask.yes, arg) | BL_REACT_REDRAW;
	}
	if (!strcmp(key, "n") || !strcmp(key, "N") || !strcmp(key, "<Esc>") || !strcmp(key, "q") ||
	    !strcmp(key, "C-c") || !strcmp(key, "C-g")) {
		p->ask.on = false;
		return BL_REACT_REDRAW;
	}
	return BL_REACT_NONE;
}

static unsigned run_binding(struct bl_app *app, const struct bl_binding *b)
{
	struct bl_binding copy = *b; /* the action may change the keymap */
	bool back = copy.action == BL_ACT_BACK;

	if (back && app->priv->message.on && app->priv->message.kind != BL_MSG_INFO) {
		app->priv->message.on = false; /* Esc first puts the message away */
		return BL_REACT_REDRAW;
	}
	if (app->priv->message.on && app->priv->message.kind == BL_MSG_INFO)
		app->priv->message.on = false;
	if (!strcmp(copy.arg, "?")) {
		if (!bl_action_on_screen((enum bl_action)copy.action, bl_app_top(app)->name))
			return BL_REACT_UNKNOWN;
		bl_action_ask_argument(app, (enum bl_action)copy.action);
		return BL_REACT_REDRAW;
	}
	return bl_action_run(app, (enum bl_action)copy.action, copy.arg) | BL_REACT_REDRAW;
}

/* Silence would look like a program that hangs. Not for the log. */
static void no_such_key(struct bl_app *app)
{
	struct bl_app_private *p = app->priv;
	struct bl_str text = { 0 };
	char label[64];

	if (p->message.on && p->message.kind != BL_MSG_INFO)
		return;

	for (int i = 0; i < p->n_pending; i++) {
		bl_key_label(label, p->pending[i]);
		bl_str_addf(&text, "%s%s", i ? " " : "", label);
	}
	bl_str_add(&text, " does nothing here · ? lists the keys");
	bl_app_show(app, BL_MSG_INFO, bl_str_c(&text));
	bl_str_free(&text);
}

static unsigned mapped_key(struct bl_app *app, const char *key)
{
	struct bl_app_private *p = app->priv;
	const struct bl_binding *b = NULL;

	if (p->n_pending && (!strcmp(key, "<Esc>") || !strcmp(key, "C-g"))) {
		p->n_pending = 0;
		return BL_REACT_REDRAW;
	}
	snprintf(p->pending[p->n_pending++], BL_KEY_MAX, "%s", key);
	switch (bl_keymap_find(&p->keymap, bl_app_top(app)->name, (const char(*)[BL_KEY_MAX])p->pending, p->n_pending,
			       &b)) {
	case BL_KEY_FOUND:
		p->n_pending = 0;
		return run_binding(app, b);
	case BL_KEY_PREFIX:
		if (p->n_pending < BL_SEQUENCE_MAX)
			return BL_REACT_REDRAW;
		/* fall through */
	case BL_KEY_NONE:
		break;
	}
	no_such_key(app);
	p->n_pending = 0;
	return BL_REACT_REDRAW | BL_REACT_UNKNOWN;
}

unsigned bl_app_key(struct bl_app *app, const char *key)
{
	char name[BL_KEY_MAX];
	unsigned react;

	if (!bl_key_parse(name, key))
		return BL_REACT_UNKNOWN;
	app->priv->depth_of_act++;
	if (app->priv->ask.on)
		react = ask_key(app, name);
	else if (app->priv->prompt.on)
		react = bl_prompt_key(app, name);
	else
		react = mapped_key(app, name);
	return finish(app, react);
}

unsigned bl_app_paste(struct bl_app *app, const char *text)
{
	if (!app->priv->prompt.on || app->priv->ask.on) /* pasted text is never taken for keys */
		return BL_REACT_NONE;
	bl_prompt_paste(app, text);
	return BL_REACT_REDRAW;
}

unsigned bl_app_mouse(struct bl_app *app, enum bl_mouse what, int row, int col)
{
	struct bl_grid_view body = bl_app_body(app);
	const struct bl_grid_s *g = &app->grid;
	char count[16];
	int here = -1;
	unsigned react;

	if (app->priv->ask.on || app->priv->prompt.on)
		return BL_REACT_NONE;
	app->priv->depth_of_act++;
	if (what != BL_MOUSE_CLICK) {
		react = bl_action_run(app, what == BL_MOUSE_WHEEL_UP ? BL_ACT_UP : BL_ACT_DOWN, "3");
		return finish(app, react | BL_REACT_REDRAW);
	}
	/* the row under the cursor is the one painted so; the click moves by the difference */
	for (int r = body.row; r < body.row + body.rows && here < 0; r++)
		if (body.cols && g->cells[(size_t)r * (size_t)g->cols + (size_t)body.col].role == BL_ROLE_SELECTED)
			here = r;
	if (here < 0 || row < body.row || row >= body.row + body.rows || col < 0)
		return finish(app, BL_REACT_NONE);
	if (row == here)
		return finish(app, bl_action_run(app, BL_ACT_OPEN, "") | BL_REACT_REDRAW);
	snprintf(count, sizeof count, "%d", abs(row - here));
	return finish(app, bl_action_run(app, row > here ? BL_ACT_DOWN : BL_ACT_UP, count) | BL_REACT_REDRAW);
}

/* ---- the rest of the loop's view ---- */

bool bl_app_should_quit(const struct bl_app *app)
{
	return app->priv->quit;
}

bool bl_app_wants_suspend(struct bl_app *app)
{
	bool is = app->priv->suspend;

	app->priv->suspend = false;
	return is;
}

bool bl_app_wants_redraw(struct bl_app *app)
{
	bool is = app->priv->redraw;

	app->priv->redraw = false;
	return is;
}

char *bl_app_take_clipboard(struct bl_app *app)
{
	char *text = app->priv->clipboard;

	app->priv->clipboard = NULL;
	return text;
}

void bl_app_edited(struct bl_app *app)
{
	if (app->session)
		bl_session_edited(app->session);
}
