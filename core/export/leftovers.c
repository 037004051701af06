/* SPDX-License-Identifier: Apache-2.0
 * Temporaries of killed runs. */
#include "core/export/leftovers.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/base/str.h"

/* The process id in ".NAME.bl-PID-N.tmp", 0 when the name is not one of ours. target NULL: any NAME. */
static long process_of(const char *name, const char *target)
{
	const char *tag = target ? name + 1 + strlen(target) : NULL;
	char *end;

	if (name[0] != '.' || !bl_ends_with(name, ".tmp") || (target && strncmp(name + 1, target, strlen(target)) != 0))
		return 0;
	for (const char *p = target ? NULL : strstr(name, ".bl-"); p; p = strstr(p + 1, ".bl-"))
		tag = p;
	if (!tag || !bl_starts_with(tag, ".bl-"))
		return 0;
	long pid = strtol(tag + 4, &end, 10);
	return *end == '-' && pid > 0 ? pid : 0;
}

static void remove_those(const char *dir, const char *target)
{
	char **names = NULL;
	size_t n = 0;
	struct bl_err err = BL_ERR_INIT;

	if (bl_list_dir(&names, &n, dir, &err) == BL_OK)
		for (size_t i = 0; i < n; i++) {
			long pid = process_of(names[i], target);
			if (!pid || pid == (long)getpid() || kill((pid_t)pid, 0) == 0 || errno != ESRCH)
				continue;
			char *path = bl_path_join(dir, names[i]);
			bl_log(BL_LOG_INFO, "removing %s, left by a run that was killed", path);
			bl_remove_tree(path);
			bl_free(path);
		}
	bl_list_free(names);
}

void bl_leftovers_remove(const char *out)
{
	char *dir = bl_path_dir(out);

	remove_those(dir, bl_path_base(out));
	bl_free(dir);
}

void bl_leftovers_remove_in(const char *dir) { remove_those(dir, NULL); }

bool bl_is_checkpoint_dir(const char *path)
{
	char **names = NULL;
	size_t n = 0;
	bool config = false, folders = false;
	struct bl_err err = BL_ERR_INIT;

	if (bl_list_dir(&names, &n, path, &err))
		return false;
	for (size_t i = 0; i < n; i++) {
		char *p = bl_path_join(path, names[i]);
		config |= !strcmp(names[i], "config.json");
		folders |= bl_is_dir(p);
		bl_free(p);
	}
	bl_list_free(names);
	return !n || (config && !folders);
}
