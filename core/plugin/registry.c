/* SPDX-License-Identifier: Apache-2.0
 * Finding, opening and checking plugins. A shared object is somebody else's code: before anything of it is offered, its version, its
 * tables and the names in them are checked, and whatever is wrong becomes a line that the user can read; the program goes on. */
#include "core/plugin/registry.h"

#include <ctype.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/base/str.h"
#include "core/plugin/host.h"

#define NAMES_MAX  64  /* methods or exporters of one plugin: a missing terminator must not become a walk through memory */
#define PARAMS_MAX 64

static bool good_name(const char *s)
{
	size_t n = 0;

	for (; s && s[n]; n++)
		if (n >= 48 || !(isalnum((unsigned char)s[n]) || s[n] == '_' || s[n] == '-' || s[n] == '.'))
			return false;
	return n > 0;
}

static enum bl_status check_method(const struct bl_registry *r, const struct bl_method *m, uint32_t version, struct bl_err *err)
{
	const bool whole = version >= 2 && m->solve_unit, trains = version >= 3 && m->tuning;
	double *values;

	if (!good_name(m->name))
		return bl_fail(err, BL_INVALID, "a method without a usable name");
	if (!m->sentence || !m->refuses || (!whole && !trains && (!m->scratch_bytes || !m->solve_rows)))
		return bl_fail(err, BL_INVALID, "method %s lacks its sentence or one of its functions", m->name);
	if (whole + trains + (m->solve_rows != NULL) > 1)
		return bl_fail(err, BL_INVALID, "method %s solves rows, or whole units, or trains: one of them is possible", m->name);
	if (m->n_params < 0 || m->n_params > PARAMS_MAX || (m->n_params && !m->params))
		return bl_fail(err, BL_INVALID, "method %s: %d parameters, at most %d are possible", m->name, m->n_params, PARAMS_MAX);
	for (int i = 0; i < m->n_params; i++) {
		if (!good_name(m->params[i].name) || !m->params[i].fallback || !m->params[i].sentence)
			return bl_fail(err, BL_INVALID, "method %s: parameter %d lacks a name, a default or a sentence", m->name, i);
		for (int j = 0; j < i; j++)
			if (strcmp(m->params[i].name, m->params[j].name) == 0)
				return bl_fail(err, BL_INVALID, "method %s: parameter %s is there twice", m->name, m->params[i].name);
	}
	if (bl_params_parse(&values, m->params, m->n_params, NULL, m->name, err) != BL_OK)
		return bl_err_prefix(err, "bad default: ");
	bl_free(values);
	if (bl_registry_method(r, m->name))
		return bl_fail(err, BL_INVALID, "method %s is already there from another plugin, which was found first", m->name);
	return BL_OK;
}

static enum bl_status check_exporter(const struct bl_registry *r, const struct bl_exporter *x, struct bl_err *err)
{
	if (!good_name(x->name))
		return bl_fail(err, BL_INVALID, "an exporter without a usable name");
	if (!x->sentence || !x->refuses || !x->tensors || !x->pack || !x->config || !x->format)
		return bl_fail(err, BL_INVALID, "exporter %s lacks its sentence or one of its functions", x->name);
	if (bl_registry_exporter(r, x->name))
		return bl_fail(err, BL_INVALID, "exporter %s is already there from another plugin, which was found first", x->name);
	return BL_OK;
}

static enum bl_status check_plugin(const struct bl_registry *r, const struct bl_plugin_v1 *p, struct bl_err *err)
{
	enum bl_status st = BL_OK;

	if (!p)
		return bl_fail(err, BL_INVALID, "it returns no description of itself");
	if (p->api_version < 1 || p->api_version > BL_PLUGIN_API_VERSION)
		return bl_fail(err, BL_UNSUPPORTED, "made for plugin interface %u, this program has 1 to %d: build it again", p->api_version,
			       BL_PLUGIN_API_VERSION);
	if (!good_name(p->name) || !p->version || !p->sentence)
		return bl_fail(err, BL_INVALID, "its name, version or sentence is missing");
	for (int i = 0; p->methods && p->methods[i] && st == BL_OK; i++) {
		if (i == NAMES_MAX)
			return bl_fail(err, BL_INVALID, "more than %d methods, or their list has no end", NAMES_MAX);
		st = check_method(r, p->methods[i], p->api_version, err);
		for (int j = 0; j < i && st == BL_OK; j++)
			if (strcmp(p->methods[i]->name, p->methods[j]->name) == 0)
				st = bl_fail(err, BL_INVALID, "method %s is there twice", p->methods[i]->name);
	}
	for (int i = 0; p->exporters && p->exporters[i] && st == BL_OK; i++) {
		if (i == NAMES_MAX)
			return bl_fail(err, BL_INVALID, "more than %d exporters, or their list has no end", NAMES_MAX);
		st = check_exporter(r, p->exporters[i], err);
		for (int j = 0; j < i && st == BL_OK; j++)
			if (strcmp(p->exporters[i]->name, p->exporters[j]->name) == 0)
				st = bl_fail(err, BL_INVALID, "exporter %s is there twice", p->exporters[i]->name);
	}
	if (st == BL_OK && !(p->methods && *p->methods) && !(p->exporters && *p->exporters))
		st = bl_fail(err, BL_INVALID, "it brings neither a method nor an exporter");
	return st;
}

static bool seen(const struct bl_registry *r, const char *path)
{
	struct stat a, b;

	if (stat(path, &a) != 0)
		return true; /* vanished or a dangling link: nothing to load */
	for (int i = 0; i < r->n; i++)
		if (stat(r->entries[i].path, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
			return true;
	return false;
}

static void add(struct bl_registry *r, const char *path)
{
	struct bl_plugin_entry e = { .path = bl_xstrdup(path) };
	struct bl_err err = BL_ERR_INIT;
	const struct bl_plugin_v1 *(*entry)(void) = NULL;

	e.handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!e.handle) {
		const char *why = dlerror();

		bl_fail(&err, BL_INVALID, "cannot be loaded: %s", why ? why : "no reason given");
	} else {
		void *symbol = dlsym(e.handle, "bl_plugin_v1");

		memcpy(&entry, &symbol, sizeof(entry)); /* ISO C has no cast from object to function pointers */
		if (!entry)
			bl_fail(&err, BL_INVALID, "is no bitlathe plugin: it has no symbol bl_plugin_v1");
		else if (check_plugin(r, entry(), &err) == BL_OK)
			e.plugin = entry();
	}
	if (!e.plugin) {
		e.problem = bl_xstrdup(err.text);
		if (e.handle)
			dlclose(e.handle);
		e.handle = NULL;
	}
	r->entries = bl_xrealloc(r->entries, (size_t)r->n + 1, sizeof(*r->entries));
	r->entries[r->n++] = e;
}

static void add_folder(struct bl_registry *r, const char *dir, int depth)
{
	struct bl_err ignored = BL_ERR_INIT; /* a folder that is not there or may not be read holds no plugins */
	char **names;
	size_t n;

	if (!bl_is_dir(dir) || bl_list_dir(&names, &n, dir, &ignored) != BL_OK)
		return;
	for (size_t i = 0; i < n; i++) {
		char *path = bl_path_join(dir, names[i]);

		if (bl_ends_with(names[i], ".so") && bl_is_file(path) && !seen(r, path))
			add(r, path);
		else if (depth > 1 && names[i][0] != '.' && bl_is_dir(path))
			add_folder(r, path, depth - 1);
		bl_free(path);
	}
	bl_list_free(names);
}

static void add_below(struct bl_registry *r, const char *dir, const char *rest)
{
	char *path = bl_path_join(dir, rest);

	add_folder(r, path, 2);
	bl_free(path);
}

void bl_registry_open(struct bl_registry *r, const char *program_dir)
{
	const char *list = getenv("BITLATHE_PLUGINS"), *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");

	*r = (struct bl_registry){ .host = bl_host_make() };
	while (list && *list) {
		size_t n = strcspn(list, ":");
		char *dir = bl_xstrndup(list, n);

		if (n)
			add_folder(r, dir, 2);
		bl_free(dir);
		list += n + (list[n] == ':');
	}
	if (data && *data == '/')
		add_below(r, data, "bitlathe/plugins");
	else if (home && *home == '/')
		add_below(r, home, ".local/share/bitlathe/plugins");
	if (program_dir) {
		add_below(r, program_dir, "plugins");
		add_below(r, program_dir, "../lib/bitlathe/plugins");
		add_below(r, program_dir, "../lib64/bitlathe/plugins");
	}
}

void bl_registry_close(struct bl_registry *r)
{
	for (int i = 0; i < r->n; i++) {
		if (r->entries[i].handle)
			dlclose(r->entries[i].handle);
		bl_free(r->entries[i].path);
		bl_free(r->entries[i].problem);
	}
	bl_free(r->entries);
	*r = (struct bl_registry){ 0 };
}

/* The i-th method (exporter) over all plugins; counts them into *n when i is -1. */
static const struct bl_method *method_at(const struct bl_registry *r, int i, int *n)
{
	*n = 0;
	for (int e = 0; e < r->n; e++)
		for (int j = 0; r->entries[e].plugin && r->entries[e].plugin->methods && r->entries[e].plugin->methods[j]; j++)
			if ((*n)++ == i)
				return r->entries[e].plugin->methods[j];
	return NULL;
}

static const struct bl_exporter *exporter_at(const struct bl_registry *r, int i, int *n)
{
	*n = 0;
	for (int e = 0; e < r->n; e++)
		for (int j = 0; r->entries[e].plugin && r->entries[e].plugin->exporters && r->entries[e].plugin->exporters[j]; j++)
			if ((*n)++ == i)
				return r->entries[e].plugin->exporters[j];
	return NULL;
}

int bl_registry_n_methods(const struct bl_registry *r)
{
	int n;

	(void)method_at(r, -1, &n);
	return n;
}

int bl_registry_n_exporters(const struct bl_registry *r)
{
	int n;

	(void)exporter_at(r, -1, &n);
	return n;
}

const struct bl_method *bl_registry_method_at(const struct bl_registry *r, int i)
{
	int n;

	return method_at(r, i, &n);
}

const struct bl_exporter *bl_registry_exporter_at(const struct bl_registry *r, int i)
{
	int n;

	return exporter_at(r, i, &n);
}

const struct bl_method *bl_registry_method(const struct bl_registry *r, const char *name)
{
	const struct bl_method *m;

	for (int i = 0; (m = bl_registry_method_at(r, i)) != NULL; i++)
		if (strcmp(m->name, name) == 0)
			return m;
	return NULL;
}

const struct bl_exporter *bl_registry_exporter(const struct bl_registry *r, const char *name)
{
	const struct bl_exporter *x;

	for (int i = 0; (x = bl_registry_exporter_at(r, i)) != NULL; i++)
		if (strcmp(x->name, name) == 0)
			return x;
	return NULL;
}

/* The plugin that brings a method or exporter; NULL: none. */
static const struct bl_plugin_v1 *plugin_of(const struct bl_registry *r, const struct bl_method *m, const struct bl_exporter *x)
{
	for (int e = 0; e < r->n; e++) {
		const struct bl_plugin_v1 *p = r->entries[e].plugin;

		for (int i = 0; m && p && p->methods && p->methods[i]; i++)
			if (p->methods[i] == m)
				return p;
		for (int i = 0; x && p && p->exporters && p->exporters[i]; i++)
			if (p->exporters[i] == x)
				return p;
	}
	return NULL;
}

const char *bl_registry_method_version(const struct bl_registry *r, const char *name)
{
	const struct bl_plugin_v1 *p = plugin_of(r, bl_registry_method(r, name), NULL);

	return p ? p->version : "";
}

bool bl_method_whole(const struct bl_registry *r, const struct bl_method *m)
{
	const struct bl_plugin_v1 *p = plugin_of(r, m, NULL);

	return (p && p->api_version >= 2 && m->solve_unit) || bl_method_trains(r, m);
}

bool bl_method_trains(const struct bl_registry *r, const struct bl_method *m)
{
	const struct bl_plugin_v1 *p = plugin_of(r, m, NULL);

	return p && p->api_version >= 3 && m->tuning;
}

bool bl_method_crosses(const struct bl_registry *r, const struct bl_method *m)
{
	const struct bl_plugin_v1 *p = plugin_of(r, m, NULL);

	return p && p->api_version >= 4 && (m->flags & BL_METHOD_CROSS);
}

uint32_t bl_registry_exporter_version(const struct bl_registry *r, const struct bl_exporter *x)
{
	const struct bl_plugin_v1 *p = plugin_of(r, NULL, x);

	return p ? p->api_version : 0;
}

struct bl_grid bl_grid_of(const struct bl_scheme *s)
{
	static const uint32_t act[] = { [BL_ACT_NONE] = BL_GRID_ACT_NONE,
					[BL_ACT_INT8_TOKEN] = BL_GRID_ACT_INT8_TOKEN,
					[BL_ACT_FP8_TOKEN] = BL_GRID_ACT_FP8_TOKEN,
					[BL_ACT_INT8_TENSOR] = BL_GRID_ACT_INT8_TENSOR,
					[BL_ACT_FP8_TENSOR] = BL_GRID_ACT_FP8_TENSOR,
					[BL_ACT_FP8_GROUP] = BL_GRID_ACT_FP8_GROUP,
					[BL_ACT_FP4_GROUP] = BL_GRID_ACT_FP4_GROUP };
	static const uint32_t number[] = { [BL_NUM_INT] = BL_GRID_INT, [BL_NUM_FLOAT] = BL_GRID_E4M3, [BL_NUM_E2M1] = BL_GRID_E2M1, [BL_NUM_NF4] = BL_GRID_NF4,
					   [BL_NUM_BNB_FP4] = BL_GRID_BNB_FP4, [BL_NUM_SCB] = BL_GRID_SCB, [BL_NUM_PRUNED] = BL_GRID_FULL };

	return (struct bl_grid){ .number = s->nested ? (s->number == BL_NUM_NF4 ? BL_GRID_NF4_NESTED : BL_GRID_BNB_FP4_NESTED) : bl_scheme_is_mx8(s) ? BL_GRID_MX_E4M3 : number[s->number],
				 .bits = s->bits,
				 .symmetric = s->symmetric,
				 .act = act[s->act],
				 .group = s->strategy == BL_STRATEGY_TENSOR ? -1 : s->group };
}
