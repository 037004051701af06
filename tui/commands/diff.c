/* SPDX-License-Identifier: Apache-2.0
 * diff: two plans, snapshots or checkpoints, unit by unit. Each side is loaded into the same form: a scheme and, where it is known, a method per unit.
 * A checkpoint does not say how its codes were found, so methods count only between two sides that know them. --preset, --set, --recipe and --config
 * make a plan of a side that is a model; a side that is a plan file or a snapshot stays what it is. */
#include <stdio.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/model/locate.h"
#include "tui/cli.h"

struct side {
	const char *what;
	struct bl_session *session;     /* of a plan; owns the model then */
	struct bl_model *own;           /* of a checkpoint in a folder */
	const struct bl_model *m;       /* names and shapes; NULL: a zip, which has the other side's */
	bool made;                      /* by the options of the line */
	bool document;                  /* a plan as it stands: config edits, format and target are known */
	char **scheme, **method; int n; /* method NULL: not known */
};

static void side_free(struct side *s)
{
	for (int i = 0; i < s->n; i++) {
		bl_free(s->scheme[i]);
		bl_free(s->method[i]);
	}
	bl_free(s->scheme);
	bl_free(s->method);
	bl_session_close(s->session);
	bl_model_close(s->own);
}

static void side_size(struct side *s, int n)
{
	s->n = n;
	s->scheme = bl_xalloc((size_t)n + 1, sizeof *s->scheme);
	s->method = bl_xalloc((size_t)n + 1, sizeof *s->method);
}

/* Takes the session. */
static void from_plan(struct side *s, struct bl_session *session, const struct bl_snapshot *snapshot)
{
	s->session = session;
	s->m = session->model;
	s->document = !snapshot;
	side_size(s, s->m->n_units);
	for (int i = 0; i < s->n; i++) {
		const struct bl_choice *c = snapshot ? bl_snapshot_choice(snapshot, i) : bl_plan_choice(session->plan, i);
		struct bl_str method = {0};
		char name[BL_SCHEME_NAME_MAX];
		if (c->method[0])
			bl_str_addf(&method, " %s%s%s", c->method, *c->params ? "," : "", c->params);
		s->scheme[i] = bl_xstrdup(bl_scheme_name(name, &c->scheme));
		s->method[i] = method.len ? bl_str_take(&method) : bl_xstrdup("");
	}
}

struct reading { struct bl_verify_result result; struct bl_verify_request rq; };

static enum bl_status read_checkpoint(void *ctx, struct bl_err *err)
{
	struct reading *r = ctx;

	return bl_verify_run(&r->result, &r->rq, err);
}

/* What the proof's reader finds in it. */
static enum bl_status from_checkpoint(struct bl_cli *c, struct side *s, const char *path, struct bl_err *err)
{
	struct bl_progress progress = {0};
	struct reading r = {.rq = {.path = path, .progress = &progress}};
	struct bl_place place;
	bool model = !bl_is_file(path) || bl_ends_with(path, ".safetensors");

	if (model && bl_model_open(&s->own, path, err))
		return err->status;
	s->m = s->own;
	if (model && bl_locate(&place, path, err))
		return err->status;
	if (model)
		r.rq.path = place.dir;
	r.rq.pool = bl_pool_new(c->session.threads);
	if (bl_cli_work(c, "read", read_checkpoint, &r, &progress, err) == BL_OK) {
		if (!r.result.n_units)
			bl_fail(err, BL_INVALID, "%s: its units could not be read: %s", path, r.result.n_findings ? r.result.findings[0].sentence : "nothing was understood");
		side_size(s, r.result.n_units);
		for (int i = 0; i < s->n; i++)
			s->scheme[i] = bl_xstrdup(r.result.unit_schemes[i]);
		bl_verify_result_free(&r.result);
	}
	bl_pool_free(r.rq.pool);
	if (model)
		bl_place_free(&place);
	return err->status;
}

static bool plan_options(const struct bl_options *o)
{
	return bl_given(o, BL_OPT_PRESET) || bl_given(o, BL_OPT_RECIPE) || bl_given(o, BL_OPT_RECOMMENDED) || o->n_many;
}

static enum bl_status load(struct bl_cli *c, struct side *s, const char *what, struct bl_err *err)
{
	const char *at = bl_is_file(what) || bl_is_dir(what) ? NULL : strrchr(what, '@');
	char *path = at ? bl_xstrndup(what, (size_t)(at - what)) : bl_xstrdup(what);
	bool file = bl_plan_is_file(path), made = plan_options(&c->o);
	bool zip = bl_is_file(path) && !file && !bl_ends_with(path, ".safetensors");
	struct bl_session *session;

	s->what = what;
	if (!file && (zip || !made)) {
		from_checkpoint(c, s, what, err);
	} else if ((file ? bl_session_open(&session, path, &c->session, err) : bl_cli_open(c, &session, what, err)) == BL_OK) {
		int i = file && at ? bl_plan_find_snapshot(session->plan, at + 1) : -1;
		if (file && at && i < 0) {
			bl_fail(err, BL_NOT_FOUND, "%s: has no snapshot called \"%s\" (bitlathe snapshot list %s)", path, at + 1, path);
			bl_session_close(session);
		} else {
			s->made = !file;
			from_plan(s, session, i >= 0 ? bl_plan_snapshot(session->plan, i) : NULL);
		}
	}
	bl_free(path);
	return err->status;
}

/* ---- comparing ---- */

static uint64_t unit_bytes(const struct side *s, const struct bl_model *m, int i)
{
	struct bl_scheme scheme;
	struct bl_err ignored = BL_ERR_INIT;

	return m && bl_scheme_parse(&scheme, s->scheme[i], &ignored) == BL_OK ? bl_unit_bytes(&m->units[i], &scheme) : 0;
}

static enum bl_status same_model(const struct side *a, const struct side *b, struct bl_err *err)
{
	if (a->n != b->n)
		return bl_fail(err, BL_INVALID, "%s has %d units, %s has %d: not the same model", a->what, a->n, b->what, b->n);
	for (int i = 0; a->m && b->m && i < a->n; i++)
		if (strcmp(a->m->units[i].name, b->m->units[i].name))
			return bl_fail(err, BL_INVALID, "unit %d is %s on one side and %s on the other: not the same model", i, a->m->units[i].name, b->m->units[i].name);
	return BL_OK;
}

static int units(struct bl_cli *c, const struct side *a, const struct side *b, int64_t *delta)
{
	cJSON *list = c->json ? cJSON_AddArrayToObject(c->json, "units") : NULL;
	const struct bl_model *m = a->m ? a->m : b->m;
	int n = 0;

	for (int i = 0; i < a->n; i++) {
		bool methods = a->method[i] && b->method[i];
		if (!strcmp(a->scheme[i], b->scheme[i]) && (!methods || !strcmp(a->method[i], b->method[i])))
			continue;
		uint64_t bytes_a = unit_bytes(a, m, i), bytes_b = unit_bytes(b, m, i);
		struct bl_str ta = {0}, tb = {0};
		char number[24];
		const char *name = m ? m->units[i].name : (snprintf(number, sizeof number, "unit %d", i), number);
		bl_str_addf(&ta, "%s%s", a->scheme[i], a->method[i] ? a->method[i] : "");
		bl_str_addf(&tb, "%s%s", b->scheme[i], b->method[i] ? b->method[i] : "");
		n++;
		*delta += (int64_t)bytes_b - (int64_t)bytes_a;
		if (list) {
			cJSON *e = cJSON_CreateObject();
			cJSON_AddStringToObject(e, "name", name);
			cJSON_AddStringToObject(e, "a", ta.s);
			cJSON_AddStringToObject(e, "b", tb.s);
			bl_json_add_int(e, "bytes_a", (int64_t)bytes_a);
			bl_json_add_int(e, "bytes_b", (int64_t)bytes_b);
			cJSON_AddItemToArray(list, e);
		} else if (m) {
			bl_cli_wrapped(c, 14, "%4d %-8s %-19s -> %-19s %+9.2f MB", m->units[i].block, bl_unit_kind_name(m->units[i].kind), ta.s, tb.s,
				       ((double)bytes_b - (double)bytes_a) / 1e6);
		} else {
			bl_cli_wrapped(c, 14, "%-13s %-19s -> %s", name, ta.s, tb.s);
		}
		bl_str_free(&ta);
		bl_str_free(&tb);
	}
	return n;
}

static const char *edit_of(const struct bl_plan *p, const char *key)
{
	for (int i = 0; i < bl_plan_n_edits(p); i++)
		if (!strcmp(bl_plan_edit(p, i)->key, key))
			return *bl_plan_edit(p, i)->value ? bl_plan_edit(p, i)->value : "(removed)";
	return "-";
}

static int other(struct bl_cli *c, cJSON *list, const char *key, const char *a, const char *b)
{
	if (!strcmp(a, b))
		return 0;
	if (list) {
		cJSON *e = cJSON_CreateObject();
		cJSON_AddStringToObject(e, "key", key);
		cJSON_AddStringToObject(e, "a", a);
		cJSON_AddStringToObject(e, "b", b);
		cJSON_AddItemToArray(list, e);
	} else {
		bl_cli_wrapped(c, 14, "%-13s %s -> %s", key, a, b);
	}
	return 1;
}

/* What two plans may differ in besides their units. */
static int document(struct bl_cli *c, const struct bl_plan *a, const struct bl_plan *b)
{
	cJSON *list = c->json ? cJSON_AddArrayToObject(c->json, "document") : NULL;
	int n = other(c, list, "target", bl_plan_target(a), bl_plan_target(b)) + other(c, list, "format", bl_plan_format(a), bl_plan_format(b));

	n += other(c, list, "non-finite", bl_plan_zero_nonfinite(a) ? "stored as zero" : "refused", bl_plan_zero_nonfinite(b) ? "stored as zero" : "refused");
	n += other(c, list, "stages", *bl_plan_stages(a) ? bl_plan_stages(a) : "none", *bl_plan_stages(b) ? bl_plan_stages(b) : "none");
	for (int side = 0; side < 2; side++)
		for (int i = 0; i < bl_plan_n_edits(side ? b : a); i++) {
			const char *key = bl_plan_edit(side ? b : a, i)->key;
			struct bl_str label = {0};
			if (side && strcmp(edit_of(a, key), "-"))
				continue; /* was on the other side: told already */
			bl_str_addf(&label, "config.%s", key);
			n += other(c, list, label.s, edit_of(a, key), edit_of(b, key));
			bl_str_free(&label);
		}
	return n;
}

enum bl_status bl_cmd_diff(struct bl_cli *c, struct bl_err *err)
{
	struct side a = {0}, b = {0};
	int64_t delta = 0;
	int n, n_document = 0;

	if (load(c, &a, c->o.args[0], err) || load(c, &b, c->o.args[1], err) || same_model(&a, &b, err))
		goto done;
	if (plan_options(&c->o) && !a.made && !b.made) {
		bl_fail(err, BL_USAGE, "--preset, --set, --recipe, --recommended and --stage make a plan of a MODEL: neither %s nor %s is one", a.what, b.what);
		goto done;
	}
	n = units(c, &a, &b, &delta);
	if (a.document && b.document)
		n_document = document(c, a.session->plan, b.session->plan);
	if (c->json) {
		bl_json_add_int(c->json, "differ", n);
		bl_json_add_int(c->json, "units_total", a.n);
		bl_json_add_int(c->json, "bytes_delta", delta);
	} else {
		bl_cli_line(c, "%d of %d units differ, %+.2f MB", n, a.n, (double)delta / 1e6);
		if (n_document)
			bl_cli_line(c, "%d difference%s outside of the units", n_document, n_document == 1 ? "" : "s");
	}
done:
	side_free(&a);
	side_free(&b);
	return err->status;
}
