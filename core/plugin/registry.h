/* SPDX-License-Identifier: Apache-2.0
 * Loading plugins and finding what they bring. Searched in this order, first name wins: $BITLATHE_PLUGINS (colon separated folders),
 * $XDG_DATA_HOME/bitlathe/plugins (~/.local/share), <dir of the program>/plugins, <prefix>/lib/bitlathe/plugins; two levels deep (plugins/methods/rtn.so). A broken
 * file is a problem line, never fatal. The host table points at the CPU kernels. */
#ifndef BL_PLUGIN_REGISTRY_H
#define BL_PLUGIN_REGISTRY_H

#include <stdbool.h>

#include "core/base/err.h"
#include "core/plugin/plugin_api.h"
#include "core/scheme/scheme.h"

struct bl_plugin_entry { char *path; const struct bl_plugin_v1 *plugin; void *handle; char *problem; };
struct bl_registry { struct bl_plugin_entry *entries; int n; struct bl_host host; };

/* program_dir: folder of the running program, or NULL. Never fails; problems are entries with plugin == NULL. */
void bl_registry_open(struct bl_registry *r, const char *program_dir);
void bl_registry_close(struct bl_registry *r);
const struct bl_method *bl_registry_method(const struct bl_registry *r, const char *name);     /* NULL: none */
const struct bl_exporter *bl_registry_exporter(const struct bl_registry *r, const char *name);
/* Solves whole units (needs a calibration), not rows: one by one, or all of a plan at once by training. */
bool bl_method_whole(const struct bl_registry *r, const struct bl_method *m);
bool bl_method_trains(const struct bl_registry *r, const struct bl_method *m);
bool bl_method_crosses(const struct bl_registry *r, const struct bl_method *m); /* needs the base's inputs beside those of the model as quantized so far */
const char *bl_registry_method_version(const struct bl_registry *r, const char *name); /* of its plugin; "" when there is none */
uint32_t bl_registry_exporter_version(const struct bl_registry *r, const struct bl_exporter *x); /* of the interface its plugin was made for; 0: unknown */
int bl_registry_n_methods(const struct bl_registry *r);
const struct bl_method *bl_registry_method_at(const struct bl_registry *r, int i);
int bl_registry_n_exporters(const struct bl_registry *r);
const struct bl_exporter *bl_registry_exporter_at(const struct bl_registry *r, int i);

/* Only for quantized schemes. */
struct bl_grid bl_grid_of(const struct bl_scheme *s);
/* "observer=mse,shrink=0.2" -> values in the order of the rows (free with bl_free); unknown names and values out of range are BL_USAGE
 * naming method, parameter and range. text may be NULL or "". */
enum bl_status bl_params_parse(double **out, const struct bl_param *rows, int n, const char *text, const char *owner, struct bl_err *err);
/* Canonical text of the values that differ from the defaults (bl_free); "" when none. */
char *bl_params_text(const struct bl_param *rows, int n, bl_param_values v);

#endif
