/* SPDX-License-Identifier: Apache-2.0
 * Loading: a plugin that a stranger builds outside the tree with nothing but the public header, broken and hostile files
 * beside it, search order; and the text of parameters both ways. */
#include "support.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/mem.h"

/* One source, many plugins: -D picks what is wrong with it. */
static const char source[] =
	"#include \"plugin_api.h\"\n"
	"#ifndef VERSION\n#define VERSION BL_PLUGIN_API_VERSION\n#endif\n"
	"#ifndef NAME\n#define NAME \"halves\"\n#endif\n"
	"#ifndef FALLBACK\n#define FALLBACK \"1\"\n#endif\n"
	"#ifndef SOLVE\n#define SOLVE solve\n#endif\n"
	"#ifdef TRAINS\nstatic const char *train(struct bl_tuning *t, bl_param_values v) { (void)t; (void)v; return NULL; }\n#else\n#define TRAINS\n#endif\n"
	"static const struct bl_param rows[] = {\n"
	"  { .name = \"shrink\", .type = BL_PARAM_REAL, .fallback = FALLBACK, .min = 0.1, .max = 1, .sentence = \"part of the range\" },\n"
	"#ifdef TWICE\n"
	"  { .name = \"shrink\", .type = BL_PARAM_BOOL, .fallback = \"true\", .sentence = \"the same name\" },\n"
	"#endif\n"
	"};\n"
	"static const char *refuses(const struct bl_grid *g, int64_t r, int64_t c)\n"
	"{ (void)r; (void)c; return g->bits == 3 ? \"three bits are one too few\" : NULL; }\n"
	"static size_t scratch(const struct bl_grid *g, int64_t r, int64_t c)\n"
	"{ return 2 * sizeof(float) * (size_t)(r * (g->group ? c / g->group : 1)); }\n"
	"static const char *solve(const struct bl_method_rows *k)\n"
	"{ int64_t n = k->n_rows * (k->grid.group ? k->cols / k->grid.group : 1); float *lo = k->scratch, *hi = lo + n;\n"
	"  k->host->range(lo, hi, k->w, k->n_rows, k->cols, &k->grid);\n"
	"  k->host->scales(k->scales, k->zeros, lo, hi, n, k->params[0], &k->grid);\n"
	"  k->host->encode(k->codes, k->w, k->scales, k->zeros, k->n_rows, k->cols, &k->grid, BL_QUOTIENT_BF16);\n"
	"  return k->cols == 7 ? \"seven columns bring bad luck\" : NULL; }\n"
	"static const struct bl_method m = { .name = NAME, .sentence = \"a stranger's method\", .params = rows,\n"
	"  .n_params = sizeof(rows) / sizeof(*rows), .refuses = refuses, .scratch_bytes = scratch, .solve_rows = SOLVE, TRAINS };\n"
	"static const struct bl_method *const methods[] = { &m,\n"
	"#ifdef TWO\n  &m,\n#endif\n"
	"  NULL };\n"
	"static const struct bl_plugin_v1 p = { .api_version = VERSION, .name = \"stranger\", .version = \"0.1\", .sentence = \"s\",\n"
	"#ifndef EMPTY\n  .methods = methods,\n#endif\n"
	"};\n"
	"#ifdef UNRESOLVED\nvoid there_is_no_such_function(void);\n"
	"__attribute__((constructor)) static void init(void) { there_is_no_such_function(); }\n#endif\n"
	"#ifdef NOTHING\n#define p (*(const struct bl_plugin_v1 *)0)\n#endif\n"
	"#ifndef NO_SYMBOL\nBL_PLUGIN_EXPORT const struct bl_plugin_v1 *bl_plugin_v1(void) { return &p; }\n#endif\n";

static char dir[64];

static void build(const char *folder, const char *name, const char *flags)
{
	char command[1024];
	const char *cc = getenv("CC");

	snprintf(command, sizeof(command), "mkdir -p '%s/%s' && %s -std=c11 -w -shared -fPIC -I'%s/core/plugin' %s '%s/stranger.c' -o '%s/%s/%s.so'",
		 dir, folder, cc && *cc ? cc : "cc", BL_SOURCE_DIR, flags, dir, dir, folder, name);
	if (system(command) != 0)
		fail_msg("cannot build the test's plugin: %s", command);
}

static void put(const char *folder, const char *name, const void *data, size_t n)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, folder);
	OK(bl_mkdirs(path, 0755, &err));
	snprintf(path, sizeof(path), "%s/%s/%s", dir, folder, name);
	OK(bl_write_file(path, data, n, 0644, &err));
}

static int setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/bl-registry-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	put(".", "stranger.c", source, sizeof(source) - 1);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	bl_remove_tree(dir);
	return 0;
}

/* The registry over one folder below dir, and this build's plugins behind it. */
static void open_over(struct bl_registry *r, const char *folder)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, folder);
	setenv("BITLATHE_PLUGINS", path, 1);
	setenv("XDG_DATA_HOME", "/nonexistent", 1);
	bl_registry_open(r, BL_BUILD_DIR);
	unsetenv("BITLATHE_PLUGINS");
}

/* How many methods come with this build. */
static int own_methods(void)
{
	struct bl_registry r;
	int n;

	open_registry(&r);
	n = bl_registry_n_methods(&r);
	bl_registry_close(&r);
	return n;
}

static const struct bl_plugin_entry *entry(const struct bl_registry *r, const char *name)
{
	for (int i = 0; i < r->n; i++)
		if (strstr(r->entries[i].path, name))
			return &r->entries[i];
	fail_msg("%s is not listed", name);
	return NULL;
}

static void stranger_works(void **state)
{
	struct bl_registry r;
	struct bl_scheme sc;
	struct bl_solver ours, theirs;
	struct solved a, b;
	struct bl_st demo;
	struct bl_member m;
	struct bl_err refusal = BL_ERR_INIT;
	char name[128];

	(void)state;
	build("good/deep", "halves", "");
	open_over(&r, "good");
	assert_non_null(entry(&r, "halves.so")->plugin);
	assert_null(entry(&r, "halves.so")->problem);
	assert_int_equal(bl_registry_n_methods(&r), own_methods() + 1);
	assert_string_equal(bl_registry_method_at(&r, 0)->name, "halves");
	assert_null(bl_registry_method_at(&r, own_methods() + 1));
	assert_null(bl_registry_method(&r, "awq"));
	assert_null(bl_registry_exporter(&r, "halves"));
	OK(bl_scheme_parse(&sc, "W4A16_ASYM_g32", &err));
	OK(bl_solver_init(&ours, &r, &sc, "rtn", NULL, false, &err));
	OK(bl_solver_init(&theirs, &r, &sc, "halves", "", false, &err));
	open_demo(&demo);
	m = member_of(&demo, "self_attn.k_proj", name);
	solve_all(&a, &ours, &m, 64);
	solve_all(&b, &theirs, &m, 17);
	assert_memory_equal(a.codes, b.codes, (size_t)(a.rows * a.cols));
	assert_memory_equal(a.scales, b.scales, (size_t)(a.rows * a.spr) * 4);
	assert_memory_equal(a.zeros, b.zeros, (size_t)(a.rows * a.spr));
	solved_free(&b);
	bl_solver_fini(&theirs);
	OK(bl_solver_init(&theirs, &r, &sc, "halves", "shrink=0.5", false, &err));
	solve_all(&b, &theirs, &m, 64);
	assert_true(b.scales[0] < a.scales[0]);
	solved_free(&a);
	solved_free(&b);
	bl_solver_fini(&ours);
	bl_solver_fini(&theirs);
	OK(bl_scheme_parse(&sc, "W3A16", &err));
	OK(bl_solver_init(&theirs, &r, &sc, "halves", "", false, &err));
	{
		struct bl_rows_buf buf = { 0 };

		assert_int_equal(bl_solve_rows(&theirs, &m, 0, 4, &buf, &refusal), BL_UNSUPPORTED);
		assert_non_null(strstr(refusal.text, "one too few"));
		bl_rows_buf_free(&buf);
	}
	bl_solver_fini(&theirs);
	bl_st_close(&demo);
	bl_registry_close(&r);
	bl_registry_close(&r); /* closing twice is harmless */
}

static void broken_files_are_lines(void **state)
{
	static const struct { const char *name, *flags, *problem; } rows[] = {
		{ "version", "-DVERSION=99", "plugin interface 99" },
		{ "nosymbol", "-DNO_SYMBOL", "bl_plugin_v1" },
		{ "nothing", "-DNOTHING", "no description" },
		{ "unnamed", "-DNAME=NULL", "without a usable name" },
		{ "escape", "-DNAME='\"\\033[31m\"'", "without a usable name" },
		{ "nosolve", "-DSOLVE=NULL", "lacks its sentence or one of its functions" },
		{ "trains", "-DTRAINS='.tuning = train'", "or trains: one of them" },
		{ "taken", "-DNAME='\"dup\"' -DTWO", "method dup is there twice" },
		{ "twice", "-DTWICE", "parameter shrink is there twice" },
		{ "default", "-DFALLBACK='\"7\"'", "bad default" },
		{ "empty", "-DEMPTY", "neither a method nor an exporter" },
		{ "unresolved", "-DUNRESOLVED", "there_is_no_such_function" },
	};
	struct bl_registry r;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		build("bad", rows[i].name, rows[i].flags);
	put("bad", "text.so", "this is no shared object\n", 25);
	put("bad", "zero.so", "", 0);
	put("bad", "elf.so", "\177ELF\2\1\1\0\0\0\0\0\0\0\0\0\3\0", 18);
	put("bad", "notes.txt", "ignored", 7);
	open_over(&r, "bad");
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		char file[32];
		const struct bl_plugin_entry *e;

		snprintf(file, sizeof(file), "/%s.so", rows[i].name);
		e = entry(&r, file);
		assert_null(e->plugin);
		if (!strstr(e->problem, rows[i].problem))
			fail_msg("%s: %s", rows[i].name, e->problem);
	}
	assert_non_null(entry(&r, "text.so")->problem);
	assert_non_null(entry(&r, "zero.so")->problem);
	assert_non_null(entry(&r, "elf.so")->problem);
	assert_non_null(bl_registry_method(&r, "rtn")); /* and the program goes on */
	assert_int_equal(bl_registry_n_methods(&r), own_methods());
	bl_registry_close(&r);
}

static void first_name_wins(void **state)
{
	struct bl_registry r;
	char both[256];

	(void)state;
	build("mine", "rtn", "-DNAME='\"rtn\"'");
	open_over(&r, "mine");
	assert_string_equal(bl_registry_method(&r, "rtn")->sentence, "a stranger's method");
	assert_non_null(strstr(entry(&r, "methods/rtn.so")->problem, "found first"));
	bl_registry_close(&r);
	/* the same folder twice, once with a detour: one entry */
	snprintf(both, sizeof(both), "%s/mine::%s/../%s/mine/:/nonexistent", dir, dir, dir + 5);
	setenv("BITLATHE_PLUGINS", both, 1);
	bl_registry_open(&r, NULL);
	unsetenv("BITLATHE_PLUGINS");
	assert_int_equal(r.n, 1);
	bl_registry_close(&r);
}

static void data_folder(void **state)
{
	struct bl_registry r;

	(void)state;
	build("data/bitlathe/plugins/methods", "halves", "");
	setenv("XDG_DATA_HOME", "relative", 1); /* relative paths are ignored, as the XDG rules say */
	setenv("HOME", dir, 1);
	bl_registry_open(&r, NULL);
	assert_int_equal(r.n, 0);
	bl_registry_close(&r);
	{
		char path[128];

		snprintf(path, sizeof(path), "%s/data", dir);
		setenv("XDG_DATA_HOME", path, 1);
	}
	bl_registry_open(&r, NULL);
	assert_int_equal(r.n, 1);
	assert_non_null(bl_registry_method(&r, "halves"));
	bl_registry_close(&r);
	setenv("XDG_DATA_HOME", "/nonexistent", 1);
}

static const struct bl_param form[] = {
	{ .name = "bits", .type = BL_PARAM_INT, .fallback = "4", .min = 2, .max = 8, .sentence = "s" },
	{ .name = "damping", .type = BL_PARAM_REAL, .fallback = "0.01", .min = 0, .max = 1, .sentence = "s" },
	{ .name = "static_order", .type = BL_PARAM_BOOL, .fallback = "true", .sentence = "s" },
	{ .name = "observer", .type = BL_PARAM_CHOICE, .fallback = "minmax", .choices = "minmax|mse", .sentence = "s" },
};

static void parameters_both_ways(void **state)
{
	static const struct { const char *text, *canonical; } rows[] = {
		{ NULL, "" },
		{ "", "" },
		{ "bits=4", "" },
		{ " damping = 0.1 , observer=mse ", "damping=0.1,observer=mse" },
		{ "observer=mse,bits=8", "bits=8,observer=mse" },
		{ "static_order=no", "static_order=false" },
		{ "damping=1e-3", "damping=0.001" },
		{ "damping=0.30000000000000004", "damping=0.30000000000000004" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		double *v, *again;
		char *text;

		OK(bl_params_parse(&v, form, 4, rows[i].text, "test", &err));
		text = bl_params_text(form, 4, v);
		assert_string_equal(text, rows[i].canonical);
		OK(bl_params_parse(&again, form, 4, text, "test", &err));
		assert_memory_equal(v, again, 4 * sizeof(*v));
		bl_free(text);
		bl_free(v);
		bl_free(again);
	}
}

static void parameters_refused(void **state)
{
	static const struct { const char *text, *problem; } rows[] = {
		{ "bits=9", "2 .. 8" },           { "bits=4.5", "integer" },        { "bits=", "integer" },
		{ "bits=0x4", "integer" },        { "damping=nan", "number" },      { "damping=inf", "number" },
		{ "damping=1e999", "number" },    { "damping=0,5", "name=value" },  { "static_order=maybe", "true or false" },
		{ "observer=ms", "minmax|mse" },  { "observer=minmax|mse", "one of" }, { "speed=9", "it has bits, damping" },
		{ "bits=4,bits=4", "twice" },     { "bits=4,", "comma" },           { ",", "name=value" },
		{ "bits 4", "name=value" },       { "=4", "no parameter" },
	};
	char huge[400];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		double *v = (double *)&rows;
		struct bl_err refusal = BL_ERR_INIT;

		if (bl_params_parse(&v, form, 4, rows[i].text, "gptq", &refusal) != BL_USAGE || !strstr(refusal.text, rows[i].problem) ||
		    !strstr(refusal.text, "gptq"))
			fail_msg("%s: %s", rows[i].text, refusal.text);
		assert_ptr_equal(v, &rows);
	}
	memset(huge, 'x', sizeof(huge));
	huge[sizeof(huge) - 1] = '\0';
	{
		double *v;
		struct bl_err refusal = BL_ERR_INIT;

		assert_int_equal(bl_params_parse(&v, form, 4, huge, "gptq", &refusal), BL_USAGE);
	}
}

/* A comma locale must not change what is read or written. */
static void parameters_in_any_locale(void **state)
{
	static const char *const names[] = { "de_DE.UTF-8", "fr_FR.UTF-8", "de_DE.utf8", "fr_FR.utf8" };
	size_t i = 0;
	double *v;
	char *text;

	(void)state;
	while (i < 4 && !setlocale(LC_NUMERIC, names[i]))
		i++;
	if (i == 4) {
		print_message("no locale with a decimal comma is installed\n");
		skip();
	}
	OK(bl_params_parse(&v, form, 4, "damping=0.25", "test", &err));
	text = bl_params_text(form, 4, v);
	setlocale(LC_NUMERIC, "C");
	assert_string_equal(text, "damping=0.25");
	bl_free(text);
	bl_free(v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stranger_works),
		cmocka_unit_test(broken_files_are_lines),
		cmocka_unit_test(first_name_wins),
		cmocka_unit_test(data_folder),
		cmocka_unit_test(parameters_both_ways),
		cmocka_unit_test(parameters_refused),
		cmocka_unit_test(parameters_in_any_locale),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
