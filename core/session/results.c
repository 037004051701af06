/* SPDX-License-Identifier: Apache-2.0
 * Numbers that took work, by the digest of what they were made from, so that a plan that was seen before shows them at once. One file per calibration:
 * {"bitlathe_results": 1, "calibration": KEY, "title": ..., "entries": [[KEY, a, b, c, seconds since 1970], ...]}. A file that cannot be read, or
 * that belongs to another calibration, counts as empty and is replaced; nothing but speed is lost. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/base/json.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/export/leftovers.h"
#include "core/session/live.h"

#define ENTRIES_MAX  50000
#define FILE_MAX     (16u << 20)
#define KEY_HEX      64
#define VERSION_TEXT "1 " BL_VERSION " " /* numbers of another version may come from other code */

struct entry { char key[KEY_HEX + 1]; double v[3]; int64_t wall_s; bool lent; struct entry *next; }; /* lent: another document's, not written here */

#define BUCKETS 4096

struct bl_results {
	pthread_mutex_t lock;
	char *path, calib[65], title[160];
	struct entry *bucket[BUCKETS];
	size_t n;
	bool swept; /* what killed runs left there is gone */
	bool dirty;
};

/* Keys are digests: their first characters spread well. */
static size_t bucket_of(const char *key)
{
	char head[5];

	memcpy(head, key, 4);
	head[4] = '\0';
	return strtoul(head, NULL, 16) % BUCKETS;
}

static bool is_key(const char *s)
{
	return s && strlen(s) == KEY_HEX && strspn(s, "0123456789abcdef") == KEY_HEX;
}

static struct entry *find(const struct bl_results *r, const char *key)
{
	struct entry *e = r->bucket[bucket_of(key)];

	while (e && strcmp(e->key, key) != 0)
		e = e->next;
	return e;
}

static int by_age(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

/* Forgets the older half. */
static void halve(struct bl_results *r)
{
	int64_t *age = bl_xalloc(r->n + 1, sizeof *age);
	size_t n = 0, left = r->n / 2;

	for (size_t b = 0; b < BUCKETS; b++)
		for (struct entry *e = r->bucket[b]; e; e = e->next)
			age[n++] = e->wall_s;
	qsort(age, n, sizeof *age, by_age);
	int64_t limit = age[n / 2];
	bl_free(age);
	for (size_t b = 0; b < BUCKETS; b++)
		for (struct entry **at = &r->bucket[b]; *at && r->n > left;) {
			struct entry *e = *at;
			if (e->wall_s > limit) {
				at = &e->next;
				continue;
			}
			*at = e->next;
			bl_free(e);
			r->n--;
		}
}

static struct entry *put(struct bl_results *r, const char *key, const double v[3], int64_t wall_s)
{
	struct entry *e = find(r, key);

	if (!e) {
		if (r->n >= ENTRIES_MAX)
			halve(r);
		e = bl_xalloc(1, sizeof *e);
		memcpy(e->key, key, KEY_HEX);
		e->next = r->bucket[bucket_of(key)];
		r->bucket[bucket_of(key)] = e;
		r->n++;
	}
	memcpy(e->v, v, sizeof e->v);
	e->wall_s = wall_s;
	e->lent = false;
	return e;
}

static void read_entry(struct bl_results *r, const cJSON *row)
{
	const cJSON *part[5];
	double v[3];

	if (!cJSON_IsArray(row) || cJSON_GetArraySize(row) != 5)
		return;
	for (int i = 0; i < 5; i++)
		part[i] = cJSON_GetArrayItem(row, i);
	if (!cJSON_IsString(part[0]) || !is_key(part[0]->valuestring))
		return;
	for (int i = 1; i < 5; i++)
		if (!cJSON_IsNumber(part[i]) || !isfinite(part[i]->valuedouble))
			return;
	for (int i = 0; i < 3; i++)
		v[i] = part[i + 1]->valuedouble;
	double wall = part[4]->valuedouble;
	if (wall >= 0 && wall < 1e12 && r->n < ENTRIES_MAX)
		put(r, part[0]->valuestring, v, (int64_t)wall);
}

static void load(struct bl_results *r)
{
	struct bl_err err = BL_ERR_INIT;
	const char *calib, *title = NULL;
	cJSON *root = NULL;
	int64_t version;

	if (!bl_is_file(r->path))
		return;
	if (bl_json_load(&root, r->path, FILE_MAX, 6 * ENTRIES_MAX + 100, &err) ||
	    bl_json_int(root, "bitlathe_results", 1, 1, true, &version, r->path, &err) || bl_json_str(root, "calibration", 64, true, &calib, r->path, &err) ||
	    bl_json_str(root, "title", sizeof r->title - 1, false, &title, r->path, &err)) {
		bl_log(BL_LOG_WARN, "numbers of earlier runs are left out: %s", err.text);
	} else if (!strcmp(calib, r->calib)) {
		const cJSON *row;
		if (title)
			bl_printable(r->title, sizeof r->title, title);
		cJSON_ArrayForEach(row, cJSON_GetObjectItemCaseSensitive(root, "entries"))
			read_entry(r, row);
	}
	cJSON_Delete(root);
}

struct bl_results *bl_results_open(const char *path, const char *calib_key)
{
	struct bl_results *r = bl_xalloc(1, sizeof *r);

	pthread_mutex_init(&r->lock, NULL);
	snprintf(r->calib, sizeof r->calib, "%s", calib_key);
	if (path) {
		r->path = bl_xstrdup(path);
		load(r);
	}
	return r;
}

void bl_results_free(struct bl_results *r)
{
	if (!r)
		return;
	bl_results_save(r);
	for (size_t b = 0; b < BUCKETS; b++)
		while (r->bucket[b]) {
			struct entry *e = r->bucket[b];
			r->bucket[b] = e->next;
			bl_free(e);
		}
	pthread_mutex_destroy(&r->lock);
	bl_free(r->path);
	bl_free(r);
}

bool bl_results_get(struct bl_results *r, const char *key, double v[3], int64_t *wall_s)
{
	pthread_mutex_lock(&r->lock);
	const struct entry *e = find(r, key);
	if (e) {
		memcpy(v, e->v, sizeof e->v);
		if (wall_s)
			*wall_s = e->wall_s;
	}
	pthread_mutex_unlock(&r->lock);
	return e != NULL;
}

void bl_results_put(struct bl_results *r, const char *key, const double v[3], int64_t wall_s)
{
	if (!is_key(key) || !isfinite(v[0]) || !isfinite(v[1]) || !isfinite(v[2]))
		return;
	pthread_mutex_lock(&r->lock);
	put(r, key, v, wall_s);
	r->dirty = true;
	pthread_mutex_unlock(&r->lock);
}

void bl_results_lend(struct bl_results *r, const char *key, const double v[3], int64_t wall_s)
{
	pthread_mutex_lock(&r->lock);
	if (is_key(key) && isfinite(v[0]) && isfinite(v[1]) && !find(r, key))
		put(r, key, v, wall_s)->lent = true;
	pthread_mutex_unlock(&r->lock);
}

void bl_results_title(struct bl_results *r, char *title, size_t cap)
{
	pthread_mutex_lock(&r->lock);
	snprintf(title, cap, "%s", r->title);
	pthread_mutex_unlock(&r->lock);
}

void bl_results_set_title(struct bl_results *r, const char *title)
{
	pthread_mutex_lock(&r->lock);
	bl_printable(r->title, sizeof r->title, title);
	r->dirty = true;
	pthread_mutex_unlock(&r->lock);
}

void bl_calib_name(char title[160], const char *const *files, size_t n_files, int64_t windows, int64_t length)
{
	char shown[100];

	bl_printable(shown, sizeof shown, n_files ? bl_path_base(files[0]) : "");
	snprintf(title, 160, "%lld×%lld %s", (long long)windows, (long long)length, shown);
	if (n_files > 1)
		snprintf(title + strlen(title), 160 - strlen(title), " +%zu", n_files - 1);
}

char *bl_results_path(const char *cache_dir, const char *calib_key)
{
	struct bl_str path = {0};

	bl_str_addf(&path, "%s/results/%s.json", cache_dir, calib_key);
	return bl_str_take(&path);
}

/* A copy of the entries: printing them takes longer than others may wait. */
static struct entry *flat(const struct bl_results *r, size_t *count)
{
	struct entry *all = bl_xalloc(r->n + 1, sizeof *all);
	size_t n = 0;

	for (size_t b = 0; b < BUCKETS; b++)
		for (const struct entry *e = r->bucket[b]; e; e = e->next)
			if (!e->lent)
				all[n++] = *e;
	*count = n;
	return all;
}

void bl_results_save(struct bl_results *r)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_str text = {0};
	struct entry *all = NULL;
	size_t n = 0;

	pthread_mutex_lock(&r->lock);
	bool dirty = r->dirty && r->path;
	if (dirty) {
		all = flat(r, &n);
		bl_str_addf(&text, "{\"bitlathe_results\": 1, \"calibration\": \"%s\", \"title\": ", r->calib);
		bl_str_add_json(&text, r->title);
	}
	r->dirty = false;
	pthread_mutex_unlock(&r->lock);
	if (!dirty)
		return;
	bl_str_add(&text, ", \"entries\": [");
	for (size_t i = 0; i < n; i++)
		bl_str_addf(&text, "%s\n[\"%s\", %.17g, %.17g, %.17g, %lld]", i ? "," : "", all[i].key, all[i].v[0], all[i].v[1], all[i].v[2],
			    (long long)all[i].wall_s);
	bl_str_add(&text, "\n]}\n");
	char *dir = bl_path_dir(r->path);
	if (!r->swept) {
		char *cache = bl_path_dir(dir), *solved = bl_path_join(cache, "solved");

		r->swept = true;
		bl_leftovers_remove_in(dir);
		bl_leftovers_remove_in(solved);
		bl_free(solved);
		bl_free(cache);
	}
	if (bl_mkdirs(dir, 0700, &err) || bl_write_file(r->path, bl_str_c(&text), text.len, 0600, &err))
		bl_log(BL_LOG_WARN, "numbers for the next run could not be kept: %s", err.text);
	bl_free(dir);
	bl_free(all);
	bl_str_free(&text);
}

/* ---- keys ---- */

static void choice_text(struct bl_str *t, const struct bl_unit *u, const struct bl_choice *c, bool zero)
{
	char scheme[BL_SCHEME_NAME_MAX];

	bl_str_addf(t, "%s|%s|%s|%s|%d", u->name, bl_scheme_name(scheme, &c->scheme), c->method, c->params, zero);
	if (*bl_choice_stages(c))
		bl_str_addf(t, "|%s", bl_choice_stages(c));
}

static void key_of(char key[65], const char *what, const struct bl_unit *u, const struct bl_choice *c, bool zero)
{
	struct bl_str t = {0};

	bl_str_addf(&t, VERSION_TEXT "%s|", what);
	choice_text(&t, u, c, zero);
	bl_sha256_of(bl_str_c(&t), t.len, key);
	bl_str_free(&t);
}

void bl_results_error_key(char key[65], const struct bl_unit *u, const struct bl_choice *c, bool zero)
{
	key_of(key, "error", u, c, zero);
}

void bl_results_chain_key(char key[65], const char *chain)
{
	char both[129];

	memcpy(both, key, 64);
	memcpy(both + 64, chain, 65);
	bl_sha256_of(both, 128, key);
}

void bl_results_unit_kl_key(char key[65], const struct bl_unit *u, const struct bl_choice *c, bool zero)
{
	key_of(key, "unit kl", u, c, zero);
}

void bl_results_plan_key(char key[65], const struct bl_live_plan *p)
{
	struct bl_str t = {0};

	bl_str_addf(&t, VERSION_TEXT "plan kl|%s", p->digest);
	bl_sha256_of(bl_str_c(&t), t.len, key);
	bl_str_free(&t);
}
