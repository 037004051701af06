/* SPDX-License-Identifier: Apache-2.0
 * plugins, themes, targets, schemes: the tables. */
#include <string.h>

#include "core/base/mem.h"
#include "core/transform/stages.h"
#include "tui/cli.h"
#include "tui/theme.h"

static void params_json(cJSON *o, const struct bl_param *rows, int n)
{
	cJSON *list = cJSON_AddArrayToObject(o, "params");

	for (int i = 0; i < n; i++) {
		cJSON *e = cJSON_CreateObject();
		cJSON_AddStringToObject(e, "name", rows[i].name);
		cJSON_AddStringToObject(e, "default", rows[i].fallback);
		if (rows[i].type == BL_PARAM_CHOICE) {
			cJSON_AddStringToObject(e, "choices", rows[i].choices);
		} else if (rows[i].type != BL_PARAM_BOOL) {
			cJSON_AddNumberToObject(e, "min", rows[i].min);
			cJSON_AddNumberToObject(e, "max", rows[i].max);
		}
		cJSON_AddStringToObject(e, "sentence", rows[i].sentence);
		cJSON_AddItemToArray(list, e);
	}
}

#define CHOICES_SHOWN 48

static void params_text(struct bl_cli *c, const struct bl_param *rows, int n)
{
	for (int i = 0; i < n; i++) {
		const struct bl_param *p = &rows[i];
		if (p->type == BL_PARAM_CHOICE && strlen(p->choices) > CHOICES_SHOWN) {
			struct bl_str list = {0}; /* with room to break */
			for (const char *at = p->choices; *at; at += strcspn(at, "|"), at += *at == '|')
				bl_str_addf(&list, "%s%.*s", list.len ? ", " : "", (int)strcspn(at, "|"), at);
			bl_cli_wrapped(c, 29, "          %s=%s  %s One of: %s.", p->name, p->fallback, p->sentence, bl_str_c(&list));
			bl_str_free(&list);
		} else if (p->type == BL_PARAM_CHOICE) {
			bl_cli_wrapped(c, 29, "          %s=%s  %s", p->name, p->choices, p->sentence);
		} else if (p->type == BL_PARAM_BOOL) {
			bl_cli_wrapped(c, 29, "          %s=%s  %s", p->name, p->fallback, p->sentence);
		} else {
			bl_cli_wrapped(c, 29, "          %s=%s  (%g .. %g) %s", p->name, p->fallback, p->min, p->max, p->sentence);
		}
	}
}

static void method(struct bl_cli *c, cJSON *list, const struct bl_method *m)
{
	if (list) {
		cJSON *e = cJSON_CreateObject();
		cJSON_AddStringToObject(e, "kind", "method");
		cJSON_AddStringToObject(e, "name", m->name);
		cJSON_AddStringToObject(e, "sentence", m->sentence);
		params_json(e, m->params, m->n_params);
		cJSON_AddItemToArray(list, e);
		return;
	}
	bl_cli_wrapped(c, 29, "method  %-20s %s", m->name, m->sentence);
	params_text(c, m->params, m->n_params);
}

static void transform(struct bl_cli *c, cJSON *list, const struct bl_transform *t)
{
	if (list) {
		cJSON *e = cJSON_CreateObject();
		cJSON_AddStringToObject(e, "kind", "transform");
		cJSON_AddStringToObject(e, "name", t->name);
		cJSON_AddStringToObject(e, "sentence", t->sentence);
		params_json(e, t->params, t->n_params);
		cJSON_AddItemToArray(list, e);
		return;
	}
	bl_cli_wrapped(c, 29, "stage   %-20s %s", t->name, t->sentence);
	params_text(c, t->params, t->n_params);
}

enum bl_status bl_cmd_plugins(struct bl_cli *c, struct bl_err *err)
{
	struct bl_registry r;
	cJSON *list = c->json ? cJSON_AddArrayToObject(c->json, "plugins") : NULL;

	(void)err;
	bl_registry_open(&r, c->program_dir);
	for (int i = 0; i < bl_registry_n_methods(&r); i++)
		method(c, list, bl_registry_method_at(&r, i));
	for (int i = 0; bl_transform_at(i); i++)
		transform(c, list, bl_transform_at(i));
	for (int i = 0; i < bl_registry_n_exporters(&r); i++) {
		const struct bl_exporter *x = bl_registry_exporter_at(&r, i);
		if (list) {
			cJSON *e = cJSON_CreateObject();
			cJSON_AddStringToObject(e, "kind", "exporter");
			cJSON_AddStringToObject(e, "name", x->name);
			cJSON_AddStringToObject(e, "sentence", x->sentence);
			cJSON_AddItemToArray(list, e);
		} else {
			bl_cli_wrapped(c, 29, "format  %-20s %s", x->name, x->sentence);
		}
	}
	for (int i = 0; i < r.n; i++)
		if (r.entries[i].problem) {
			if (list) {
				cJSON *e = cJSON_CreateObject();
				cJSON_AddStringToObject(e, "kind", "broken");
				cJSON_AddStringToObject(e, "path", r.entries[i].path);
				cJSON_AddStringToObject(e, "sentence", r.entries[i].problem);
				cJSON_AddItemToArray(list, e);
			} else {
				bl_cli_wrapped(c, 8, "!       %s: %s", r.entries[i].path, r.entries[i].problem);
			}
		} else if (c->verbose && !list) {
			bl_cli_wrapped(c, 8, "file    %s: %s %s", r.entries[i].path, r.entries[i].plugin->name, r.entries[i].plugin->version);
		}
	bl_registry_close(&r);
	return BL_OK;
}

enum bl_status bl_cmd_themes(struct bl_cli *c, struct bl_err *err)
{
	struct bl_str lines = {0};
	cJSON *list = c->json ? cJSON_AddArrayToObject(c->json, "themes") : NULL;

	(void)err;
	bl_theme_list(&lines, c->program_dir);
	for (char *save = NULL, *line = lines.s ? strtok_r(lines.s, "\n", &save) : NULL; line; line = strtok_r(NULL, "\n", &save)) {
		char *sentence = strchr(line, '\t'), *path = sentence ? strchr(sentence + 1, '\t') : NULL;
		if (sentence)
			*sentence++ = '\0';
		if (path)
			*path++ = '\0';
		if (list) {
			cJSON *e = cJSON_CreateObject();
			cJSON_AddStringToObject(e, "name", line);
			cJSON_AddStringToObject(e, "sentence", sentence ? sentence : "");
			cJSON_AddStringToObject(e, "path", path ? path : "");
			cJSON_AddItemToArray(list, e);
		} else {
			bl_cli_wrapped(c, 17, "%-16s %s", line, sentence ? sentence : "");
		}
	}
	bl_str_free(&lines);
	return BL_OK;
}

enum bl_status bl_cmd_targets(struct bl_cli *c, struct bl_err *err)
{
	int n;
	const struct bl_target *t = bl_target_rows(&n);
	cJSON *list = c->json ? cJSON_AddArrayToObject(c->json, "targets") : NULL;

	(void)err;
	if (!list)
		bl_cli_line(c, "target                cc     memory  bandwidth  bf16  int8   fp8  max length");
	for (int i = 0; i < n; i++) {
		if (list) {
			cJSON *e = cJSON_CreateObject();
			cJSON_AddStringToObject(e, "name", t[i].name);
			cJSON_AddStringToObject(e, "title", t[i].title);
			cJSON_AddStringToObject(e, "gpu", t[i].gpu.title);
			cJSON_AddNumberToObject(e, "compute_capability", t[i].gpu.cc / 10.0);
			cJSON_AddNumberToObject(e, "memory_gib", t[i].gpu.mem_gib);
			cJSON_AddNumberToObject(e, "bandwidth_gb_s", t[i].gpu.bw_gb_s);
			cJSON_AddStringToObject(e, "server", t[i].server);
			cJSON_AddStringToObject(e, "server_version", t[i].server_version);
			bl_json_add_int(e, "max_model_len", t[i].max_model_len);
			cJSON_AddItemToArray(list, e);
		} else {
			bl_cli_line(c, "%-20s %2d.%d  %5.1f GiB  %4.0f GB/s %5.0f %5.0f %5.0f  %10lld%s", t[i].name, t[i].gpu.cc / 10, t[i].gpu.cc % 10, t[i].gpu.mem_gib,
				    t[i].gpu.bw_gb_s, t[i].gpu.bf16_tflop_s, t[i].gpu.int8_tflop_s, t[i].gpu.fp8_tflop_s, (long long)t[i].max_model_len,
				    i ? "" : " *");
		}
	}
	if (!list)
		bl_cli_line(c, "bf16, int8, fp8 in TFLOP/s, int8 in TOP/s; * what counts without --target");
	return BL_OK;
}

enum bl_status bl_cmd_schemes(struct bl_cli *c, struct bl_err *err)
{
	int n;
	const struct bl_scheme_row *rows = bl_scheme_rows(&n);
	cJSON *list = c->json ? cJSON_AddArrayToObject(c->json, "schemes") : NULL;

	(void)err;
	for (int i = 0; i < n; i++) {
		char name[BL_SCHEME_NAME_MAX];
		bl_scheme_name(name, &rows[i].scheme);
		if (list) {
			cJSON *e = cJSON_CreateObject();
			cJSON_AddStringToObject(e, "name", name);
			cJSON_AddStringToObject(e, "key", rows[i].key);
			cJSON_AddStringToObject(e, "sentence", rows[i].sentence);
			cJSON_AddItemToArray(list, e);
		} else {
			bl_cli_wrapped(c, 22, "%-2s %-18s %s", rows[i].key, name, rows[i].sentence);
		}
	}
	return BL_OK;
}
