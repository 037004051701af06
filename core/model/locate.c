/* SPDX-License-Identifier: Apache-2.0
 * From what the user typed to a folder. The cache's layout is models--ORG--NAME/{refs/main, snapshots/<hash>/…}; what refs/main says is
 * a stranger's text, so only a plain name is followed. */
#include "core/model/locate.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/base/str.h"

char *bl_hub_dir(void)
{
	const char *hub = getenv("HF_HUB_CACHE"), *home = getenv("HF_HOME"), *user = getenv("HOME");

	if (hub && *hub)
		return bl_xstrdup(hub);
	if (home && *home)
		return bl_path_join(home, "hub");
	return bl_path_join(user && *user ? user : ".", ".cache/huggingface/hub");
}

void bl_place_free(struct bl_place *p)
{
	bl_free(p->dir);
	bl_free(p->only_file);
	bl_free(p->title);
	memset(p, 0, sizeof *p);
}

static bool is_repo_id(const char *id)
{
	const char *slash = strchr(id, '/');

	if (!slash || slash == id || !slash[1] || strchr(slash + 1, '/'))
		return false;
	for (const char *c = id; *c; c++)
		if (!isalnum((unsigned char)*c) && !strchr("/-_.", *c))
			return false;
	return id[0] != '.' && slash[1] != '.';
}

/* The snapshot that refs/main names, else the newest-named only one. */
static char *snapshot_of(const char *repo, const char *id, struct bl_err *err)
{
	char *refs = bl_path_join(repo, "refs/main"), *snapshots = bl_path_join(repo, "snapshots"), *text = NULL, *out = NULL;
	char **names = NULL;
	size_t n = 0;
	struct bl_err ignored = BL_ERR_INIT;

	if (bl_is_file(refs) && bl_read_file(&text, NULL, refs, 4096, true, err) == BL_OK) {
		text[strcspn(text, "\r\n \t")] = '\0';
		if (!bl_path_is_inside(text) || strchr(text, '/'))
			bl_fail(err, BL_INVALID, "%s: must hold the name of a snapshot, holds %s", refs, text);
		else
			out = bl_path_join(snapshots, text);
	} else if (!err->status && bl_list_dir(&names, &n, snapshots, &ignored) == BL_OK && n == 1) {
		out = bl_path_join(snapshots, names[0]);
	} else if (!err->status) {
		bl_fail(err, BL_NOT_FOUND, "%s: the cache has no refs/main and not exactly one snapshot for it", id);
	}
	if (out && !bl_is_dir(out)) {
		bl_fail(err, BL_NOT_FOUND, "%s: its snapshot %s is missing from the cache", id, out);
		bl_free(out);
		out = NULL;
	}
	bl_list_free(names);
	bl_free(text);
	bl_free(refs);
	bl_free(snapshots);
	return out;
}

static enum bl_status in_cache(struct bl_place *p, const char *id, struct bl_err *err)
{
	char *hub = bl_hub_dir(), *repo;
	struct bl_str name = {0};
	const char *slash = strchr(id, '/');

	bl_str_addf(&name, "models--%.*s--%s", (int)(slash - id), id, slash + 1);
	repo = bl_path_join(hub, bl_str_c(&name));
	if (!bl_is_dir(repo))
		bl_fail(err, BL_NOT_FOUND, "%s: neither a folder or file here nor in the Hugging Face cache %s", id, hub);
	else
		p->dir = snapshot_of(repo, id, err);
	if (p->dir)
		p->title = bl_xstrdup(slash + 1);
	bl_free(repo);
	bl_free(hub);
	bl_str_free(&name);
	return err->status;
}

/* What the screen calls a folder: its name, or the repository's when it is a snapshot of the cache (…/models--ORG--NAME/snapshots/<hash>). */
static char *title_of(const char *dir)
{
	char *real = realpath(dir, NULL), *snapshots = bl_path_dir(real ? real : dir), *repo = bl_path_dir(snapshots);
	const char *name = bl_path_base(real ? real : dir);

	if (!strcmp(bl_path_base(snapshots), "snapshots") && bl_starts_with(bl_path_base(repo), "models--")) {
		const char *sep = strstr(bl_path_base(repo) + 8, "--");
		name = sep && sep[2] ? sep + 2 : name;
	}
	size_t cap = 4 * strlen(name) + 1;
	char *title = bl_xalloc(cap, 1);
	bl_printable(title, cap, name);
	bl_free(repo);
	bl_free(snapshots);
	free(real);
	return title;
}

enum bl_status bl_locate(struct bl_place *out, const char *id, struct bl_err *err)
{
	struct bl_place p = {0};

	if (bl_is_dir(id)) {
		p.dir = bl_xstrdup(id);
		p.title = title_of(id);
	} else if (bl_is_file(id)) {
		if (!bl_ends_with(id, ".safetensors") && !bl_ends_with(id, ".safetensors.index.json"))
			return bl_fail(err, BL_UNSUPPORTED, "%s: only safetensors checkpoints are read", id);
		p.dir = bl_path_dir(id);
		if (bl_ends_with(id, ".safetensors"))
			p.only_file = bl_xstrdup(bl_path_base(id));
		p.title = title_of(p.dir);
	} else if (is_repo_id(id)) {
		if (in_cache(&p, id, err)) {
			bl_place_free(&p);
			return err->status;
		}
	} else {
		return bl_fail(err, BL_NOT_FOUND, "%s: no such folder or file", id);
	}
	*out = p;
	return BL_OK;
}
