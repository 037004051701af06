/* SPDX-License-Identifier: Apache-2.0
 * Shared by the tests of this part. */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/hash.h"

static char root[64];

void fix_open(struct fix *f, const char *model, int threads)
{
	unsetenv("BITLATHE_PLUGINS");
	setenv("XDG_DATA_HOME", "/nonexistent", 1);
	memset(f, 0, sizeof *f);
	bl_registry_open(&f->registry, BL_BUILD_DIR);
	assert_non_null(bl_registry_exporter(&f->registry, "compressed-tensors"));
	OK(bl_model_open(&f->model, model, &err));
	OK(bl_target_find(&f->target, "l4-vllm-0.14.1", &err));
	f->plan = bl_plan_new(f->model, f->target->name);
	f->pool = bl_pool_new(threads);
	bl_guard_install();
}

void fix_close(struct fix *f)
{
	bl_pool_free(f->pool);
	bl_plan_free(f->plan);
	bl_model_close(f->model);
	bl_registry_close(&f->registry);
}

void fix_plan(struct fix *f, const char *text)
{
	char *copy = bl_xstrdup(text), *save = NULL;

	for (char *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		if (strchr(word, '='))
			OK(bl_plan_set_text(f->plan, f->model, word, NULL, NULL, &err));
		else
			OK(bl_plan_preset(f->plan, f->model, word, &err));
	}
	bl_free(copy);
}

struct bl_export_request fix_request(struct fix *f, const char *out)
{
	static float absmax[256]; /* as a calibration would find it */

	for (int i = 0; i < 256; i++)
		absmax[i] = 1.5f + (float)i;
	return (struct bl_export_request){.model = f->model, .plan = f->plan, .registry = &f->registry, .target = f->target, .out = out, .overwrite = true,
					  .ignore_rules = true, .pool = f->pool, .seed = 42, .input_absmax = absmax};
}

void fix_export(struct fix *f, const char *out, struct bl_export_result *r)
{
	struct bl_export_request rq = fix_request(f, out);

	OK(bl_export_run(r, &rq, &err));
}

void fix_verify(struct fix *f, const char *path, bool base, struct bl_verify_result *r)
{
	struct bl_verify_request rq = {.path = path, .base = base ? f->model : NULL, .pool = f->pool, .want_sha256 = true};

	OK(bl_verify_run(r, &rq, &err));
}

const char *first_fatal(const struct bl_verify_result *r)
{
	for (int i = 0; i < r->n_findings; i++)
		if (r->findings[i].fatal)
			return r->findings[i].sentence;
	return "";
}

int scratch_make(void **state)
{
	(void)state;
	snprintf(root, sizeof root, "/tmp/bl-test-XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

int scratch_drop(void **state)
{
	(void)state;
	bl_file_fail_at(0);
	bl_remove_tree(root);
	return 0;
}

const char *scratch(const char *name)
{
	static char ring[8][512];
	static unsigned at;
	char *s = ring[at++ % 8];

	snprintf(s, sizeof ring[0], "%s/%s", root, name);
	return s;
}

bool scratch_is_clean(void)
{
	char **names = NULL;
	size_t n = 0;
	bool clean = true;

	OK(bl_list_dir(&names, &n, root, &err));
	for (size_t i = 0; i < n; i++)
		clean &= !bl_ends_with(names[i], ".tmp");
	bl_list_free(names);
	return clean;
}

const char *shared_path(const char *rest)
{
	static char path[4096];
	const char *top = getenv("BL_SHARED");

	if (top && *top)
		snprintf(path, sizeof path, "%s/%s", top, rest);
	else
		snprintf(path, sizeof path, "%s/../shared/%s", BL_SOURCE_DIR, rest);
	return bl_is_dir(path) || bl_is_file(path) ? path : NULL;
}

static void digest_file(struct bl_sha256 *h, const char *path)
{
	struct bl_map m;

	OK(bl_map_open(&m, path, &err));
	bl_sha256_add(h, m.data, m.bytes);
	bl_map_close(&m);
}

void digest_of(const char *path, char out[65])
{
	struct bl_sha256 h;
	char **names = NULL;
	size_t n = 0;

	bl_sha256_init(&h);
	if (!bl_is_dir(path)) {
		digest_file(&h, path);
	} else {
		OK(bl_list_dir(&names, &n, path, &err));
		for (size_t i = 0; i < n; i++) {
			char *file = bl_path_join(path, names[i]);
			bl_sha256_add(&h, names[i], strlen(names[i]) + 1);
			digest_file(&h, file);
			bl_free(file);
		}
		bl_list_free(names);
	}
	bl_sha256_hex(&h, out);
}

void put_file(const char *path, const void *data, size_t n)
{
	FILE *f = fopen(path, "wb"); /* not the core's own way: no fsync, and never made to fail */

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, n, f), n);
	assert_int_equal(fclose(f), 0);
}

void copy_tree(const char *from, const char *to)
{
	char **names = NULL;
	size_t n = 0;

	bl_remove_tree(to);
	OK(bl_mkdirs(to, 0755, &err));
	OK(bl_list_dir(&names, &n, from, &err));
	for (size_t i = 0; i < n; i++) {
		char *a = bl_path_join(from, names[i]), *b = bl_path_join(to, names[i]);
		struct bl_map m;
		OK(bl_map_open(&m, a, &err));
		put_file(b, m.data, m.bytes);
		bl_map_close(&m);
		bl_free(a);
		bl_free(b);
	}
	bl_list_free(names);
}
