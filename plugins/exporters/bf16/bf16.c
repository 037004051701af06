/* SPDX-License-Identifier: Apache-2.0
 * Plain export: everything as it is on disk, in one proved package. Refuses plans that quantize anything. */
#include "core/plugin/plugin_api.h"

static const char *refuses(const struct bl_x_module *m)
{
	return m->quantized ? "plain export keeps every unit in full precision" : NULL;
}

static int tensors(const struct bl_x_module *m, struct bl_x_tensor *out, int cap)
{
	(void)m, (void)out, (void)cap;
	return 0;
}

static const char *pack(const struct bl_x_module *m, int t, const struct bl_x_rows *rows, void *dst)
{
	(void)m, (void)t, (void)rows, (void)dst;
	return "plain export packs nothing";
}

static const char *config(const struct bl_x_plan *plan, const struct bl_host *host, void *out)
{
	(void)plan, (void)host, (void)out;
	return NULL;
}

static const char *format(const struct bl_x_plan *plan)
{
	(void)plan;
	return "";
}

static const struct bl_exporter exporter = {
	.name = "bf16",
	.sentence = "Nothing quantized: weights as they are on disk.",
	.refuses = refuses,
	.tensors = tensors,
	.pack = pack,
	.config = config,
	.format = format,
};
static const struct bl_exporter *const exporters[] = {&exporter, 0};
static const struct bl_plugin_v1 plugin = {
	.api_version = BL_PLUGIN_API_VERSION,
	.name = "bf16",
	.version = "1.0",
	.sentence = "Exports without quantization.",
	.exporters = exporters,
};

BL_PLUGIN_EXPORT const struct bl_plugin_v1 *bl_plugin_v1(void)
{
	return &plugin;
}
