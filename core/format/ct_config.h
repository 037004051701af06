/* SPDX-License-Identifier: Apache-2.0
 * quantization_config of a compressed-tensors checkpoint, read: which scheme each linear has, as transformers resolves it and as vLLM does. */
#ifndef BL_FORMAT_CT_CONFIG_H
#define BL_FORMAT_CT_CONFIG_H

#include <stdbool.h>

#include "core/base/json.h"
#include "core/format/ct_args.h"
#include "core/model/model.h"
#include "core/scheme/scheme.h"

struct bl_ct_scheme { /* one config group */
	char name[64], format[40];
	int bits;
	bool is_float, symmetric, actorder_group;
	enum bl_ct_strategy strategy;
	int64_t group, block[2];
	bool has_act, act_dynamic, act_float, act_symmetric, act_tensor; /* act_tensor: one scale for all tokens */
	int64_t act_group;       /* columns per scale of dynamic ones; 0: one per token */
	int act_bits;
	const cJSON *targets;    /* list of strings, borrowed */
};

struct bl_ct_config {
	struct bl_ct_scheme *groups; int n_groups;
	const cJSON *ignore;     /* list of strings or NULL, borrowed */
	char format[40];
	bool compressed;         /* quantization_status says so */
};

/* o: the object; it must outlive the result. */
enum bl_status bl_ct_config_parse(struct bl_ct_config *c, const cJSON *o, struct bl_err *err);
void bl_ct_config_fini(struct bl_ct_config *c);
/* Group of a linear as transformers + compressed-tensors resolve it: exact name, then regex, then class; -1: full precision. */
int bl_ct_resolve(const struct bl_ct_config *c, const char *module);
/* Group of a unit as vLLM resolves it on its fused names; -1: ignored; -2: error, with the server's sentence in why. */
int bl_ct_resolve_vllm(const struct bl_ct_config *c, const struct bl_unit *u, char why[300]);
/* As one of our schemes; false when it is none of them. */
bool bl_ct_as_scheme(const struct bl_ct_scheme *s, struct bl_scheme *out);

#endif
