/* SPDX-License-Identifier: Apache-2.0
 * Plans as JSON. The writer is deterministic; the reader takes every field from a stranger. */
#include "core/plan/plan_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/plan/state.h"

#define PLAN_MAX_BYTES (64u << 20)
#define PLAN_VALUES_MAX 4000000
#define UNKNOWN_SHOWN 3 /* keys named in the note; the others are counted */

/* ---- writing ---- */

static void print_units(struct bl_str *out, const struct bl_state *s, const struct bl_model *m, const char *indent)
{
	char name[BL_SCHEME_NAME_MAX];

	for (int i = 0; i < s->n; i++) {
		const struct bl_choice *c = &s->choice[i];
		bl_str_addf(out, "%s{\"name\": ", indent);
		bl_str_add_json(out, m->units[i].name);
		bl_str_addf(out, ", \"scheme\": \"%s\"", bl_scheme_name(name, &c->scheme));
		if (c->method[0]) {
			bl_str_add(out, ", \"method\": ");
			bl_str_add_json(out, c->method);
		}
		if (*c->params) {
			bl_str_add(out, ", \"params\": ");
			bl_str_add_json(out, c->params);
		}
		bl_str_addf(out, "%s}%s\n", c->locked ? ", \"locked\": true" : "", i + 1 < s->n ? "," : "");
	}
}

/* "smooth:alpha=0.5;permute" as [{"transform": "smooth", "params": "alpha=0.5"}, {"transform": "permute"}] */
static void print_stages(struct bl_str *out, const char *stages)
{
	for (const char *at = stages; *at;) {
		size_t n = strcspn(at, ";"), name = strcspn(at, ":;");
		char *transform = bl_xstrndup(at, name), *params = bl_xstrndup(at + name + (name < n), n - name - (name < n));

		bl_str_addf(out, "%s{\"transform\": ", at > stages ? ", " : "");
		bl_str_add_json(out, transform);
		if (*params) {
			bl_str_add(out, ", \"params\": ");
			bl_str_add_json(out, params);
		}
		bl_str_add(out, "}");
		bl_free(transform);
		bl_free(params);
		at += n + (at[n] == ';');
	}
}

static void print_document(struct bl_str *out, const struct bl_state *s, const struct bl_model *m, const char *indent)
{
	char deeper[32];

	snprintf(deeper, sizeof deeper, "%s  ", indent);
	bl_str_addf(out, "%s\"target\": ", indent);
	bl_str_add_json(out, s->target);
	bl_str_addf(out, ",\n%s\"format\": ", indent);
	bl_str_add_json(out, s->format);
	bl_str_addf(out, ",\n%s\"zero_nonfinite\": %s,\n%s\"config_edits\": {", indent, s->zero_nonfinite ? "true" : "false", indent);
	for (int i = 0; i < s->n_edits; i++) {
		bl_str_add(out, i ? ", " : "");
		bl_str_add_json(out, s->edits[i].key);
		bl_str_add(out, ": ");
		bl_str_add_json(out, s->edits[i].value);
	}
	bl_str_add(out, "},\n");
	if (s->n && *bl_choice_stages(&s->choice[0])) {
		bl_str_addf(out, "%s\"stages\": [", indent);
		print_stages(out, bl_choice_stages(&s->choice[0]));
		bl_str_add(out, "],\n");
	}
	bl_str_addf(out, "%s\"units\": [\n", indent);
	print_units(out, s, m, deeper);
	bl_str_addf(out, "%s]", indent);
}

/* Units are named in the file; the plan itself only knows indices, so it keeps its model's names. */
static void print_all(struct bl_str *out, const struct bl_plan *p)
{
	const struct bl_model *m = p->model;

	bl_str_add(out, "{\n  \"bitlathe_plan\": 1,\n  \"model\": {\"id\": ");
	bl_str_add_json(out, p->model_id);
	bl_str_addf(out, ", \"digest\": \"%s\"},\n", p->model_digest);
	print_document(out, p->now, m, "  ");
	bl_str_add(out, ",\n  \"snapshots\": [");
	for (int i = 0; i < p->now->n_snapshots; i++) {
		const struct bl_snapshot *s = &p->now->snapshots[i]->s;
		bl_str_addf(out, "%s\n    {\n      \"name\": ", i ? "," : "");
		bl_str_add_json(out, s->name);
		bl_str_add(out, ",\n      \"note\": ");
		bl_str_add_json(out, s->note);
		bl_str_addf(out, ",\n      \"time\": %lld,\n", (long long)s->wall_s);
		if (s->results) {
			bl_str_add(out, "      \"results\": ");
			bl_snapshot_results_print(out, s->results, m, "      ");
			bl_str_add(out, ",\n");
		}
		print_document(out, s->state, m, "      ");
		bl_str_add(out, "\n    }");
	}
	bl_str_add(out, p->now->n_snapshots ? "\n  ]\n}\n" : "]\n}\n");
}

void bl_plan_print(struct bl_str *out, const struct bl_plan *p)
{
	print_all(out, p);
}

enum bl_status bl_plan_save(struct bl_plan *p, const char *path, struct bl_err *err)
{
	struct bl_str out = {0};

	print_all(&out, p);
	if (bl_write_file(path, bl_str_c(&out), out.len, 0644, err) == BL_OK)
		bl_plan_mark_saved(p);
	bl_str_free(&out);
	return err->status;
}

/* ---- reading ---- */

struct reader {
	struct bl_plan *p;
	const struct bl_model *m;
	struct bl_names units;           /* name -> index */
	struct bl_str unknown; int n_unknown;
	struct bl_err *err;
};

/* Keys of another version are left out, and said so: what they meant is lost when this plan is saved. */
static void note_unknown(struct reader *r, const cJSON *o, const char *where, const char *const *known)
{
	for (const cJSON *f = o->child; f; f = f->next) {
		int k = 0;
		while (known[k] && strcmp(known[k], f->string))
			k++;
		if (known[k])
			continue;
		char shown[64];
		if (r->n_unknown++ < UNKNOWN_SHOWN)
			bl_str_addf(&r->unknown, "%s%s: %s", r->n_unknown > 1 ? ", " : "", where, bl_printable(shown, sizeof shown, f->string));
	}
}

/* where: "FILE: units[3]", for every message about it. */
static enum bl_status read_unit(struct reader *r, struct bl_state *s, const cJSON *o, const char *where, uint8_t *seen)
{
	static const char *const known[] = {"name", "scheme", "method", "params", "locked", NULL};
	const char *name, *scheme, *method = NULL, *params = NULL;
	bool locked = false;

	if (!cJSON_IsObject(o))
		return bl_fail(r->err, BL_INVALID, "%s: must be an object", where);
	if (bl_json_str(o, "name", 512, true, &name, where, r->err) || bl_json_str(o, "scheme", BL_SCHEME_NAME_MAX, true, &scheme, where, r->err) ||
	    bl_json_str(o, "method", BL_METHOD_NAME_MAX - 1, false, &method, where, r->err) ||
	    bl_json_str(o, "params", BL_PARAMS_TEXT_MAX, false, &params, where, r->err) || bl_json_bool(o, "locked", false, &locked, where, r->err))
		return r->err->status;
	note_unknown(r, o, where, known);
	int64_t unit = bl_names_find(&r->units, name);
	if (unit < 0)
		return bl_fail(r->err, BL_INVALID, "%s: the model has no unit called %s", where, name);
	if (seen[unit])
		return bl_fail(r->err, BL_INVALID, "%s: %s is listed twice", where, name);
	seen[unit] = 1;
	struct bl_choice *c = &s->choice[unit];
	if (bl_scheme_parse(&c->scheme, scheme, r->err)) {
		r->err->status = BL_INVALID;
		return bl_err_prefix(r->err, "%s", where);
	}
	bool full = c->scheme.number == BL_NUM_FULL; /* takes no method, the others always have one */
	snprintf(c->method, sizeof c->method, "%s", !full && method && *method ? method : bl_plan_usual_method(&c->scheme));
	c->params = bl_plan_intern(r->p, params && !full ? params : "");
	c->locked = locked;
	return BL_OK;
}

static enum bl_status read_units(struct reader *r, struct bl_state *s, const cJSON *units, const char *label)
{
	struct bl_str where = {0};
	int index = 0;

	if (!cJSON_IsArray(units))
		return bl_fail(r->err, BL_INVALID, "%s: units: must be a list", label);
	uint8_t *seen = bl_xalloc((size_t)r->m->n_units + 1, 1);
	for (const cJSON *u = units->child; u && !r->err->status; u = u->next) {
		bl_str_clear(&where);
		bl_str_addf(&where, "%s: units[%d]", label, index++);
		read_unit(r, s, u, bl_str_c(&where), seen);
	}
	for (int i = 0; i < r->m->n_units && !r->err->status; i++)
		if (!seen[i])
			bl_fail(r->err, BL_INVALID, "%s: units: %s is missing", label, r->m->units[i].name);
	bl_free(seen);
	bl_str_free(&where);
	return r->err->status;
}

static enum bl_status read_edits(struct reader *r, struct bl_state *s, const cJSON *edits, const char *label)
{
	struct bl_str value = {0};

	if (!edits || cJSON_IsNull(edits))
		return BL_OK;
	if (!cJSON_IsObject(edits))
		return bl_fail(r->err, BL_INVALID, "%s: config_edits: must be an object", label);
	for (const cJSON *e = edits->child; e && !r->err->status; e = e->next) {
		bl_str_clear(&value);
		if (!cJSON_IsString(e))
			bl_fail(r->err, BL_INVALID, "%s: config_edits.%.100s: must be JSON as text", label, e->string);
		else if (s->n_edits >= BL_EDITS_MAX)
			bl_fail(r->err, BL_INVALID, "%s: config_edits: more than %d", label, BL_EDITS_MAX);
		else if (bl_edit_check(e->string, e->valuestring, &value, r->err) == BL_OK)
			bl_state_put_edit(s, e->string, bl_str_c(&value));
		else
			bl_err_prefix(r->err, "%s: config_edits", label);
	}
	bl_str_free(&value);
	if (r->err->status)
		r->err->status = BL_INVALID; /* nobody's typing error: the file's */
	return r->err->status;
}

static enum bl_status read_stage(struct reader *r, const cJSON *o, struct bl_str *text, const char *where)
{
	static const char *const known[] = {"transform", "params", NULL};
	const char *transform, *params = NULL;

	if (!cJSON_IsObject(o))
		return bl_fail(r->err, BL_INVALID, "%s: must be an object", where);
	if (bl_json_str(o, "transform", BL_METHOD_NAME_MAX - 1, true, &transform, where, r->err) ||
	    bl_json_str(o, "params", BL_PARAMS_TEXT_MAX, false, &params, where, r->err))
		return r->err->status;
	note_unknown(r, o, where, known);
	if (!*transform || strpbrk(transform, ":;") || (params && strchr(params, ';')))
		return bl_fail(r->err, BL_INVALID, "%s: transform and params must be a name and key=value pairs", where);
	bl_str_addf(text, "%s%s%s%s", text->len ? ";" : "", transform, params && *params ? ":" : "", params ? params : "");
	return BL_OK;
}

/* What the names mean is judged when they are used: a plan made with more plugins can still be read. */
static enum bl_status read_stages(struct reader *r, struct bl_state *s, const cJSON *list, const char *label)
{
	struct bl_str text = {0}, where = {0};
	int index = 0;

	if (!list || cJSON_IsNull(list))
		return BL_OK;
	if (!cJSON_IsArray(list))
		return bl_fail(r->err, BL_INVALID, "%s: stages: must be a list", label);
	for (const cJSON *o = list->child; o && !r->err->status; o = o->next) {
		bl_str_clear(&where);
		bl_str_addf(&where, "%s: stages[%d]", label, index++);
		read_stage(r, o, &text, bl_str_c(&where));
		if (text.len > BL_STAGES_TEXT_MAX)
			bl_fail(r->err, BL_INVALID, "%s: stages: more than %d bytes", label, BL_STAGES_TEXT_MAX);
	}
	if (!r->err->status && !bl_text_is_plain(bl_str_c(&text), BL_STAGES_TEXT_MAX))
		bl_fail(r->err, BL_INVALID, "%s: stages: must be plain text", label);
	for (int i = 0; i < s->n && !r->err->status; i++)
		s->choice[i].stages = bl_plan_intern(r->p, bl_str_c(&text));
	bl_str_free(&text);
	bl_str_free(&where);
	return r->err->status;
}

static enum bl_status read_document(struct reader *r, struct bl_state *s, const cJSON *o, const char *label)
{
	const char *target = NULL, *format = NULL;

	if (read_stages(r, s, cJSON_GetObjectItemCaseSensitive(o, "stages"), label))
		return r->err->status;
	if (bl_json_str(o, "target", 64, true, &target, label, r->err) || bl_json_str(o, "format", 64, false, &format, label, r->err) ||
	    bl_json_bool(o, "zero_nonfinite", false, &s->zero_nonfinite, label, r->err))
		return r->err->status;
	s->target = bl_xstrdup(target);
	s->format = bl_xstrdup(format ? format : "compressed-tensors");
	if (read_edits(r, s, cJSON_GetObjectItemCaseSensitive(o, "config_edits"), label))
		return r->err->status;
	return read_units(r, s, cJSON_GetObjectItemCaseSensitive(o, "units"), label);
}

static struct bl_state *empty_state(struct reader *r)
{
	struct bl_state *s = bl_xalloc(1, sizeof *s);

	s->n = r->m->n_units;
	s->choice = bl_xalloc((size_t)s->n + 1, sizeof *s->choice);
	s->edits = bl_xalloc(1, sizeof *s->edits);
	s->snapshots = bl_xalloc(1, sizeof *s->snapshots);
	for (int i = 0; i < s->n; i++)
		s->choice[i] = (struct bl_choice){.scheme = BL_SCHEME_FULL, .params = bl_plan_intern(r->p, "")};
	return s;
}

static int64_t unit_by_name(void *names, const char *name)
{
	return bl_names_find(names, name);
}

static enum bl_status read_snapshot(struct reader *r, struct bl_state *s, const cJSON *o, struct bl_names *taken, const char *where)
{
	static const char *const known[] = {"name", "note", "time", "target", "format", "zero_nonfinite", "config_edits", "stages", "units", "results", NULL};
	const char *name, *note = NULL;
	const cJSON *results;
	int64_t when = 0;

	if (!cJSON_IsObject(o))
		return bl_fail(r->err, BL_INVALID, "%s: must be an object", where);
	if (bl_json_str(o, "name", 64, true, &name, where, r->err) || bl_json_str(o, "note", BL_PARAMS_TEXT_MAX, false, &note, where, r->err) ||
	    bl_json_int(o, "time", 0, (int64_t)1 << 48, false, &when, where, r->err))
		return r->err->status;
	if (!*name)
		return bl_fail(r->err, BL_INVALID, "%s: name: is empty", where);
	note_unknown(r, o, where, known);
	if (bl_names_add(taken, name) < 0)
		return bl_fail(r->err, BL_INVALID, "%s: name %s is used twice", where, name);
	struct bl_shared_snapshot *sn = bl_xalloc(1, sizeof *sn);
	*sn = (struct bl_shared_snapshot){1, {bl_xstrdup(name), bl_xstrdup(note ? note : ""), when, empty_state(r), NULL}};
	s->snapshots[s->n_snapshots++] = sn;
	results = cJSON_GetObjectItemCaseSensitive(o, "results");
	if (results && !cJSON_IsNull(results) && bl_snapshot_results_read(&sn->s.results, results, r->m, unit_by_name, &r->units, where, r->err))
		return r->err->status;
	return read_document(r, sn->s.state, o, where);
}

static enum bl_status read_snapshots(struct reader *r, struct bl_state *s, const cJSON *list, const char *label)
{
	int n = cJSON_GetArraySize(list), index = 0;
	struct bl_names taken = {0};
	struct bl_str where = {0};

	if (!list)
		return BL_OK;
	if (!cJSON_IsArray(list) || n > BL_SNAPSHOTS_MAX)
		return bl_fail(r->err, BL_INVALID, "%s: snapshots: must be a list of at most %d", label, BL_SNAPSHOTS_MAX);
	s->snapshots = bl_xrealloc(s->snapshots, (size_t)n + 1, sizeof *s->snapshots);
	for (const cJSON *o = list->child; o && !r->err->status; o = o->next) {
		bl_str_clear(&where);
		bl_str_addf(&where, "%s: snapshots[%d]", label, index++);
		read_snapshot(r, s, o, &taken, bl_str_c(&where));
	}
	bl_names_free(&taken);
	bl_str_free(&where);
	return r->err->status;
}

/* What the user should know although the plan could be read. */
static char *remarks(struct reader *r, const char *digest, const char *label)
{
	struct bl_str b = {0};

	if (digest && strcmp(digest, r->m->digest))
		bl_str_addf(&b, "%s was made for another state of %s: the checkpoint's files changed since", label, r->m->title);
	if (r->n_unknown) {
		bl_str_addf(&b, "%s%s", b.len ? "; " : "", bl_str_c(&r->unknown));
		if (r->n_unknown > UNKNOWN_SHOWN)
			bl_str_addf(&b, " and %d more", r->n_unknown - UNKNOWN_SHOWN);
		bl_str_add(&b, ": not known to this version, left out");
	}
	return b.len ? bl_str_take(&b) : NULL;
}

enum bl_status bl_plan_parse(struct bl_plan **out, const struct bl_model *m, const char *text, size_t n, const char *label, char **note,
			     struct bl_err *err)
{
	static const char *const known[] = {"bitlathe_plan", "model", "target", "format", "zero_nonfinite", "config_edits", "stages", "units", "snapshots", NULL};
	struct reader r = {.m = m, .err = err};
	struct bl_state *s = NULL;
	cJSON *root = NULL;
	int64_t version;
	const char *id = NULL, *digest = NULL;

	if (bl_json_parse(&root, text, n, PLAN_VALUES_MAX, label, err))
		return err->status;
	r.p = bl_plan_new(m, "");
	for (int i = 0; i < m->n_units; i++)
		bl_names_add(&r.units, m->units[i].name);
	s = empty_state(&r);
	const cJSON *model = cJSON_GetObjectItemCaseSensitive(root, "model");
	if (bl_json_int(root, "bitlathe_plan", 1, 1, true, &version, label, err))
		goto done;
	note_unknown(&r, root, label, known);
	if (!cJSON_IsObject(model)) {
		bl_fail(err, BL_INVALID, "%s: model: must be an object with id and digest", label);
		goto done;
	}
	if (bl_json_str(model, "id", 4096, true, &id, label, err) || bl_json_str(model, "digest", 64, false, &digest, label, err) ||
	    read_document(&r, s, root, label) || read_snapshots(&r, s, cJSON_GetObjectItemCaseSensitive(root, "snapshots"), label))
		goto done;
	if (note)
		*note = remarks(&r, digest, label);
	bl_plan_adopt(r.p, s);
	s = NULL;
	bl_plan_mark_saved(r.p);
	*out = r.p;
	r.p = NULL;
done:
	bl_state_free(s);
	bl_plan_free(r.p);
	bl_names_free(&r.units);
	bl_str_free(&r.unknown);
	cJSON_Delete(root);
	return err->status;
}

enum bl_status bl_plan_load(struct bl_plan **out, const struct bl_model *m, const char *path, char **note, struct bl_err *err)
{
	char *text = NULL;
	size_t n = 0;

	if (bl_read_file(&text, &n, path, PLAN_MAX_BYTES, true, err))
		return err->status;
	bl_plan_parse(out, m, text, n, path, note, err);
	bl_free(text);
	return err->status;
}

bool bl_plan_is_file(const char *path)
{
	char head[256];
	FILE *f = bl_is_file(path) ? fopen(path, "rbe") : NULL;

	if (!f)
		return false;
	head[fread(head, 1, sizeof head - 1, f)] = '\0';
	fclose(f);
	const char *c = head + strspn(head, " \t\r\n");
	if (*c++ != '{')
		return false;
	return bl_starts_with(c + strspn(c, " \t\r\n"), "\"bitlathe_plan\"");
}

enum bl_status bl_plan_file_model(char **out, const char *path, struct bl_err *err)
{
	cJSON *root = NULL;
	const char *id = NULL;

	if (bl_json_load(&root, path, PLAN_MAX_BYTES, PLAN_VALUES_MAX, err))
		return err->status;
	const cJSON *model = cJSON_GetObjectItemCaseSensitive(root, "model");
	if (!cJSON_IsObject(model))
		bl_fail(err, BL_INVALID, "%s: model: must be an object with id and digest", path);
	else if (bl_json_str(model, "id", 4096, true, &id, path, err) == BL_OK) {
		char *dir = bl_path_dir(path), *beside = bl_path_join(dir, id);
		/* relative to the current folder first, as it was typed; then to the plan's folder */
		*out = id[0] != '/' && !bl_is_dir(id) && !bl_is_file(id) && (bl_is_dir(beside) || bl_is_file(beside)) ? bl_xstrdup(beside) : bl_xstrdup(id);
		bl_free(beside);
		bl_free(dir);
	}
	cJSON_Delete(root);
	return err->status;
}

char *bl_plan_autosave_path(const struct bl_model *m)
{
	char *state = bl_xdg_dir("STATE"), *dir = bl_path_join(state, "autosave");
	struct bl_str name = {0};

	bl_str_addf(&name, "%.64s.plan.json", m->digest);
	char *path = bl_path_join(dir, bl_str_c(&name));
	bl_str_free(&name);
	bl_free(dir);
	bl_free(state);
	return path;
}
