/* SPDX-License-Identifier: Apache-2.0
 * Choosing where work runs. The order of questions (is the module there, is a driver there, does it load, does it see a device) is
 * the order in which a person would look for the fault, and the first "no" becomes the sentence. */
#include "core/backend/backend.h"

#include <dlfcn.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/base/str.h"

#define MODULE      "bitlathe_cuda.so"
#define DRIVER      "libcuda.so.1"
#define DEVICES_MAX 64

static const struct bk_ops *instead;

const struct bk_ops *bl_cpu_ops(void) { return instead ? instead : bk_ops_cpu(); }
void bl_cpu_ops_use(const struct bk_ops *ops) { instead = ops; }

char *bl_backend_module(const char *program_dir)
{
	static const char *const places[] = { MODULE, "../lib/bitlathe/" MODULE, "../lib64/bitlathe/" MODULE };

	for (size_t i = 0; program_dir && i < sizeof(places) / sizeof(*places); i++) {
		char *path = bl_path_join(program_dir, places[i]);

		if (bl_is_file(path))
			return path;
		bl_free(path);
	}
	return NULL;
}

/* Opens the module into *b; fills why otherwise. */
static void open_cuda(struct bl_backend *b, const char *path, struct bl_str *why)
{
	bk_cuda_module_fn module;
	const struct bk_cuda_ops *ops;
	void *driver = dlopen(DRIVER, RTLD_LAZY | RTLD_LOCAL), *symbol;
	int n = 0, error;

	if (!driver) {
		bl_str_add(why, "no NVIDIA driver is installed (" DRIVER " cannot be loaded)");
		return;
	}
	dlclose(driver);
	b->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	symbol = b->handle ? dlsym(b->handle, "bk_cuda_module") : NULL;
	if (!symbol) {
		const char *text = dlerror();

		bl_str_addf(why, "the CUDA module cannot be loaded: %s", text ? text : path);
		return;
	}
	memcpy(&module, &symbol, sizeof(module)); /* ISO C has no cast from object to function pointers */
	ops = module();
	if (!ops || ops->version != BK_CUDA_VERSION || ops->size != sizeof(*ops)) {
		bl_str_addf(why, "%s belongs to another build of bitlathe", path);
		return;
	}
	error = ops->device_count(&n);
	if (error || n < 1) {
		bl_str_addf(why, "no CUDA device can be used: %s", error ? ops->error_text(error) : "the driver lists none");
		return;
	}
	n = n > DEVICES_MAX ? DEVICES_MAX : n;
	b->devices = bl_xalloc((size_t)n, sizeof(*b->devices));
	for (int i = 0; i < n; i++) {
		error = ops->device(i, &b->devices[b->n_devices]);
		if (!error)
			b->n_devices++;
	}
	if (b->n_devices)
		b->cuda = ops;
	else
		bl_str_addf(why, "no CUDA device can be used: %s", ops->error_text(error));
}

void bl_backend_open(struct bl_backend *b, const char *program_dir)
{
	struct bl_str why = { 0 };
	char *path = bl_backend_module(program_dir);

	*b = (struct bl_backend){ .cpu = bl_cpu_ops() };
	if (path)
		open_cuda(b, path, &why);
	else
		bl_str_add(&why, "this build has no CUDA module (" MODULE " is not beside the program)");
	b->note = bl_xstrdup(bl_str_c(&why));
	bl_str_free(&why);
	bl_free(path);
}

void bl_backend_close(struct bl_backend *b)
{
	if (b->handle)
		dlclose(b->handle);
	bl_free(b->devices);
	bl_free(b->note);
	*b = (struct bl_backend){ 0 };
}
