/* SPDX-License-Identifier: Apache-2.0
 * Checkpoints within reach: the current folder, the Hugging Face cache, recent ones. A glance at config.json and file sizes, nothing else. */
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/model/locate.h"
#include "core/model/model.h"

#define FOUND_MAX 500

struct finder { struct bl_found *f; size_t n, cap; };

static void consider(struct finder *fd, const char *id, const char *dir, const char *title)
{
	char *path = bl_path_join(dir, "config.json"), *text = NULL, **names = NULL;
	struct bl_config c;
	struct bl_err err = BL_ERR_INIT;
	uint64_t bytes = 0;
	size_t n = 0, n_names = 0;

	for (size_t i = 0; i < fd->n; i++)
		if (!strcmp(fd->f[i].id, id))
			goto done;
	if (fd->n >= FOUND_MAX || !bl_is_file(path) || bl_read_file(&text, &n, path, 16u << 20, true, &err) ||
	    bl_list_dir(&names, &n_names, dir, &err) || bl_config_parse(&c, text, n, path, &err))
		goto done;
	for (size_t i = 0; i < n_names; i++)
		if (bl_ends_with(names[i], ".safetensors")) {
			char *file = bl_path_join(dir, names[i]);
			int64_t b = bl_file_bytes(file);
			bytes += b > 0 ? (uint64_t)b : 0;
			bl_free(file);
		}
	if (bytes) {
		bl_xgrow(&fd->f, &fd->cap, fd->n + 1);
		fd->f[fd->n++] = (struct bl_found){bl_xstrdup(id), bl_xstrdup(title), bl_xstrdup(c.model_type), bytes, c.quantized, c.layers};
	}
	bl_config_fini(&c);
done:
	bl_list_free(names);
	bl_free(text);
	bl_free(path);
}

static void search_cache(struct finder *fd)
{
	char *hub = bl_hub_dir(), **names = NULL;
	size_t n = 0;
	struct bl_err err = BL_ERR_INIT;

	if (bl_is_dir(hub) && bl_list_dir(&names, &n, hub, &err) == BL_OK)
		for (size_t i = 0; i < n; i++) {
			const char *sep = bl_starts_with(names[i], "models--") ? strstr(names[i] + 8, "--") : NULL;
			struct bl_str id = {0};
			struct bl_place place;
			struct bl_err ignored = BL_ERR_INIT;

			if (!sep)
				continue;
			bl_str_addf(&id, "%.*s/%s", (int)(sep - names[i] - 8), names[i] + 8, sep + 2);
			if (bl_locate(&place, bl_str_c(&id), &ignored) == BL_OK) {
				consider(fd, bl_str_c(&id), place.dir, place.title);
				bl_place_free(&place);
			}
			bl_str_free(&id);
		}
	bl_list_free(names);
	bl_free(hub);
}

void bl_model_discover(struct bl_found **out, size_t *n, const char *const *recent, size_t n_recent)
{
	struct finder fd = {0};
	char **names = NULL;
	size_t n_names = 0;
	struct bl_err err = BL_ERR_INIT;

	for (size_t i = 0; i < n_recent; i++) {
		struct bl_place place;
		struct bl_err ignored = BL_ERR_INIT;
		if (bl_locate(&place, recent[i], &ignored) == BL_OK) {
			consider(&fd, recent[i], place.dir, place.title);
			bl_place_free(&place);
		}
	}
	consider(&fd, ".", ".", "this folder");
	if (bl_list_dir(&names, &n_names, ".", &err) == BL_OK)
		for (size_t i = 0; i < n_names; i++)
			if (bl_is_dir(names[i]))
				consider(&fd, names[i], names[i], names[i]);
	bl_list_free(names);
	search_cache(&fd);
	*out = fd.f;
	*n = fd.n;
}

void bl_found_free(struct bl_found *f, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		bl_free(f[i].id);
		bl_free(f[i].title);
		bl_free(f[i].family);
	}
	bl_free(f);
}
