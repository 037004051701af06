/* SPDX-License-Identifier: Apache-2.0
 * snapshot: named states inside a plan file. */
#include <math.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/session/run.h"
#include "tui/cli.h"

static void add_known(cJSON *o, const char *name, double v)
{
	if (isfinite(v))
		cJSON_AddNumberToObject(o, name, v);
}

/* Numbers that were known when it was taken. */
static void results_json(cJSON *e, const struct bl_snapshot_results *r)
{
	int n = 0;

	for (int i = 0; r && i < r->n; i++)
		n += isfinite(r->error[i]);
	if (!r)
		return;
	cJSON *o = cJSON_AddObjectToObject(e, "results");
	add_known(o, "bytes", r->bytes);
	add_known(o, "kl", r->kl);
	add_known(o, "top1", r->top1);
	add_known(o, "ppl", r->ppl);
	add_known(o, "mcq", r->mcq);
	add_known(o, "score", r->score);
	bl_json_add_int(o, "errors", n);
	cJSON_AddStringToObject(o, "calibration", r->calib);
}

static void list(struct bl_cli *c, const struct bl_session *s)
{
	cJSON *out = c->json ? cJSON_AddArrayToObject(c->json, "snapshots") : NULL;

	for (int i = 0; i < bl_plan_n_snapshots(s->plan); i++) {
		const struct bl_snapshot *sn = bl_plan_snapshot(s->plan, i);
		uint64_t bytes = 0;
		char when[21], name[80];
		for (int u = 0; u < s->model->n_units; u++)
			bytes += bl_unit_bytes(&s->model->units[u], &bl_snapshot_choice(sn, u)->scheme);
		bl_wall_iso(sn->wall_s, when);
		if (out) {
			cJSON *e = cJSON_CreateObject();
			cJSON_AddStringToObject(e, "name", sn->name);
			cJSON_AddStringToObject(e, "note", sn->note);
			bl_json_add_int(e, "time", sn->wall_s);
			bl_json_add_int(e, "bytes_linears", (int64_t)bytes);
			results_json(e, sn->results);
			cJSON_AddItemToArray(out, e);
		} else {
			bl_cli_line(c, "%-24s %s %10.2f MB  %s", bl_printable(name, sizeof name, sn->name), when, (double)bytes / 1e6, sn->note);
		}
	}
	if (!out && !bl_plan_n_snapshots(s->plan))
		bl_cli_line(c, "no snapshots");
}

static enum bl_status find(const struct bl_session *s, const char *name, int *i, struct bl_err *err)
{
	*i = bl_plan_find_snapshot(s->plan, name);
	return *i >= 0 ? BL_OK : bl_fail(err, BL_NOT_FOUND, "no snapshot is called \"%s\" (bitlathe snapshot list PLAN)", name);
}

/* Of the units that match alone: schemes, methods and parameters; locked ones stay. */
static enum bl_status restore_units(struct bl_cli *c, struct bl_session *s, int snapshot, struct bl_err *err)
{
	const struct bl_snapshot *sn = bl_plan_snapshot(s->plan, snapshot);
	uint8_t *selected = bl_xalloc((size_t)s->model->n_units + 1, 1);
	int locked = 0;

	if (bl_pattern_match(s->model, c->o.value[BL_OPT_UNIT], selected, NULL, err) == BL_OK) {
		bl_plan_begin(s->plan, c->o.value[BL_OPT_UNIT]);
		for (int i = 0; i < s->model->n_units; i++)
			locked += selected[i] && !bl_plan_set_choice(s->plan, i, bl_snapshot_choice(sn, i));
		bl_plan_end(s->plan);
	}
	if (locked)
		bl_str_addf(&c->remarks, "%d locked unit%s kept\n", locked, locked == 1 ? "" : "s");
	bl_free(selected);
	return err->status;
}

static enum bl_status act(struct bl_cli *c, struct bl_session *s, const char *verb, struct bl_err *err)
{
	const char *name = c->o.n_args > 2 ? c->o.args[2] : NULL, *other = c->o.n_args > 3 ? c->o.args[3] : NULL;
	struct bl_err none = BL_ERR_INIT;
	int i = -1;

	if (!strcmp(verb, "list"))
		return BL_OK;
	if (!name || (!strcmp(verb, "rename") && !other))
		return bl_fail(err, BL_USAGE, "snapshot %s PLAN NAME%s: a name is missing", verb, !strcmp(verb, "rename") ? " NEW" : "");
	if (!strcmp(verb, "save")) {
		if (bl_given(&c->o, BL_OPT_FORCE) && (i = bl_plan_find_snapshot(s->plan, name)) >= 0)
			bl_plan_snapshot_drop(s->plan, i);
		else if (bl_plan_find_snapshot(s->plan, name) >= 0)
			return bl_fail(err, BL_USAGE, "a snapshot called \"%s\" exists: --force replaces it", name);
		(void)bl_session_adopt_calib(s, NULL, &none); /* numbers that are known go with it */
		return bl_session_snapshot(s, name, c->o.value[BL_OPT_NOTE], err);
	}
	if (find(s, name, &i, err))
		return err->status;
	if (!strcmp(verb, "restore") && bl_given(&c->o, BL_OPT_UNIT))
		return restore_units(c, s, i, err);
	if (!strcmp(verb, "restore"))
		return bl_plan_snapshot_restore(s->plan, i, err);
	if (!strcmp(verb, "rename"))
		return bl_plan_snapshot_rename(s->plan, i, other, err);
	bl_plan_snapshot_drop(s->plan, i);
	return BL_OK;
}

/* The verb is one, takes so many names and these options. */
static enum bl_status check_line(const struct bl_options *o, struct bl_err *err)
{
	static const struct { const char *verb; int most; } verbs[] = {{"save", 3}, {"list", 2}, {"restore", 3}, {"rename", 4}, {"drop", 3}};
	const char *verb = o->args[0];
	size_t i = 0;

	while (i < sizeof verbs / sizeof verbs[0] && strcmp(verbs[i].verb, verb))
		i++;
	if (i == sizeof verbs / sizeof verbs[0])
		return bl_fail(err, BL_USAGE, "snapshot %s: must be save, list, restore, rename or drop", verb);
	if (o->n_args < 2)
		return bl_fail(err, BL_USAGE, "snapshot %s: and which plan?", verb);
	if (o->n_args > verbs[i].most)
		return bl_fail(err, BL_USAGE, "snapshot %s: %s is one argument too many", verb, o->args[verbs[i].most]);
	if (bl_given(o, BL_OPT_NOTE) && strcmp(verb, "save"))
		return bl_fail(err, BL_USAGE, "--note goes with snapshot save, not with %s", verb);
	if (bl_given(o, BL_OPT_UNIT) && strcmp(verb, "restore"))
		return bl_fail(err, BL_USAGE, "--unit goes with snapshot restore, not with %s", verb);
	return BL_OK;
}

enum bl_status bl_cmd_snapshot(struct bl_cli *c, struct bl_err *err)
{
	struct bl_session *s;

	if (check_line(&c->o, err))
		return err->status;
	if (!bl_plan_is_file(c->o.args[1]))
		return bl_fail(err, BL_NOT_FOUND, "%s: is not a plan file (bitlathe plan MODEL -o FILE makes one)", c->o.args[1]);
	if (bl_cli_open(c, &s, c->o.args[1], err))
		return err->status;
	if (act(c, s, c->o.args[0], err) == BL_OK) {
		if (bl_plan_dirty(s->plan) && !bl_given(&c->o, BL_OPT_DRY_RUN))
			bl_session_save(s, NULL, err);
		if (!err->status)
			list(c, s);
	}
	bl_session_close(s);
	return err->status;
}
