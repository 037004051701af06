/* SPDX-License-Identifier: Apache-2.0
 * diff: two plans, snapshots or checkpoints, unit by unit. Each side is loaded into the same form: a scheme and method per unit name. */
#include <stdio.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "tui/cli.h"

struct side { char **unit, **text; uint64_t *bytes; int n; };

static void side_free(struct side *s)
{
	for (int i = 0; i < s->n; i++) {
		bl_free(s->unit[i]);
		bl_free(s->text[i]);
	}
	bl_free(s->unit);
	bl_free(s->text);
	bl_free(s->bytes);
}

static void side_size(struct side *s, int n)
{
	s->n = n;
	s->unit = bl_xalloc((size_t)n + 1, sizeof *s->unit);
	s->text = bl_xalloc((size_t)n + 1, sizeof *s->text);
	s->bytes = bl_xalloc((size_t)n + 1, sizeof *s->bytes);
}

static void from_choices(struct side *s, const struct bl_model *m, const struct bl_plan *p, const struct bl_snapshot *snap)
{
	side_size(s, m->n_units);
	for (int i = 0; i < m->n_units; i++) {
		const struct bl_choice *c = snap ? bl_snapshot_choice(snap, i) : bl_plan_choice(p, i);
		struct bl_str b = {0};
		char name[BL_SCHEME_NAME_MAX];
		bl_str_add(&b, bl_scheme_name(name, &c->scheme));
		if (c->method[0])
			bl_str_addf(&b, " %s%s%s", c->method, *c->params ? "," : "", c->params);
		s->unit[i] = bl_xstrdup(m->units[i].name);
		s->text[i] = bl_str_take(&b);
		s->bytes[i] = bl_unit_bytes(&m->units[i], &c->scheme);
	}
}

/* A checkpoint: what the proof's reader finds in it. */
static enum bl_status from_checkpoint(struct bl_cli *c, struct side *s, const char *path, struct bl_err *err)
{
	struct bl_model *m = NULL;
	struct bl_pool *pool = bl_pool_new(c->session.threads);
	struct bl_verify_request rq = {.path = path, .pool = pool};
	struct bl_verify_result r;

	if (bl_verify_run(&r, &rq, err) == BL_OK) {
		if (!r.n_units)
			bl_fail(err, BL_INVALID, "%s: its units could not be read: %s", path, r.n_findings ? r.findings[0].sentence : "nothing was understood");
		side_size(s, r.n_units);
		if (!err->status && bl_is_dir(path) && bl_model_open(&m, path, err) == BL_OK)
			for (int i = 0; i < m->n_units; i++) {
				struct bl_scheme scheme;
				struct bl_err ignored = BL_ERR_INIT;
				s->unit[i] = bl_xstrdup(m->units[i].name);
				s->text[i] = bl_xstrdup(r.unit_schemes[i]);
				if (bl_scheme_parse(&scheme, r.unit_schemes[i], &ignored) == BL_OK)
					s->bytes[i] = bl_unit_bytes(&m->units[i], &scheme);
			}
		else if (!err->status)
			bl_fail(err, BL_UNSUPPORTED, "%s: checkpoints are compared as folders, not inside a zip", path);
		bl_model_close(m);
		bl_verify_result_free(&r);
	}
	bl_pool_free(pool);
	return err->status;
}

static enum bl_status load(struct bl_cli *c, struct side *s, const char *what, struct bl_err *err)
{
	const char *at = strrchr(what, '@');
	char *path = at ? bl_xstrndup(what, (size_t)(at - what)) : bl_xstrdup(what);
	struct bl_session *session;

	if (!at && !bl_plan_is_file(what) && !bl_given(&c->o, BL_OPT_PRESET) && !c->o.n_many) {
		bl_free(path);
		return from_checkpoint(c, s, what, err);
	}
	if (bl_session_open(&session, path, &c->session, err) == BL_OK) {
		int i = at ? bl_plan_find_snapshot(session->plan, at + 1) : -1;
		if (at && i < 0)
			bl_fail(err, BL_NOT_FOUND, "%s: has no snapshot called \"%s\"", path, at + 1);
		else
			from_choices(s, session->model, session->plan, at ? bl_plan_snapshot(session->plan, i) : NULL);
		bl_session_close(session);
	}
	bl_free(path);
	return err->status;
}

enum bl_status bl_cmd_diff(struct bl_cli *c, struct bl_err *err)
{
	struct side a = {0}, b = {0};
	cJSON *list = NULL;
	int n = 0;
	int64_t delta = 0;

	if (load(c, &a, c->o.args[0], err) || load(c, &b, c->o.args[1], err))
		goto done;
	if (a.n != b.n) {
		bl_fail(err, BL_INVALID, "%s has %d units, %s has %d: not the same model", c->o.args[0], a.n, c->o.args[1], b.n);
		goto done;
	}
	if (c->json)
		list = cJSON_AddArrayToObject(c->json, "units");
	for (int i = 0; i < a.n; i++) {
		if (strcmp(a.unit[i], b.unit[i])) {
			bl_fail(err, BL_INVALID, "unit %d is %s on one side and %s on the other: not the same model", i, a.unit[i], b.unit[i]);
			goto done;
		}
		if (!strcmp(a.text[i], b.text[i]))
			continue;
		n++;
		delta += (int64_t)b.bytes[i] - (int64_t)a.bytes[i];
		if (c->json) {
			cJSON *e = cJSON_CreateObject();
			cJSON_AddStringToObject(e, "name", a.unit[i]);
			cJSON_AddStringToObject(e, "a", a.text[i]);
			cJSON_AddStringToObject(e, "b", b.text[i]);
			bl_json_add_int(e, "bytes_a", (int64_t)a.bytes[i]);
			bl_json_add_int(e, "bytes_b", (int64_t)b.bytes[i]);
			cJSON_AddItemToArray(list, e);
		} else {
			bl_cli_line(c, "%-40s %-16s -> %-16s %+9.2f MB", a.unit[i], a.text[i], b.text[i], ((double)b.bytes[i] - (double)a.bytes[i]) / 1e6);
		}
	}
	if (c->json) {
		bl_json_add_int(c->json, "differ", n);
		bl_json_add_int(c->json, "units_total", a.n);
		bl_json_add_int(c->json, "bytes_delta", delta);
	} else {
		bl_cli_line(c, "%d of %d units differ, %+.2f MB", n, a.n, (double)delta / 1e6);
	}
done:
	side_free(&a);
	side_free(&b);
	return err->status;
}
