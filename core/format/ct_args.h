/* SPDX-License-Identifier: Apache-2.0
 * QuantizationArgs: how the weights, the inputs or the outputs of a config group are quantized, checked as compressed-tensors checks them. */
#ifndef BL_FORMAT_CT_ARGS_H
#define BL_FORMAT_CT_ARGS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/json.h"

enum bl_ct_strategy { BL_CT_TENSOR, BL_CT_CHANNEL, BL_CT_GROUP, BL_CT_BLOCK, BL_CT_TENSOR_GROUP, BL_CT_TOKEN, BL_CT_ATTN_HEAD };

struct bl_ct_args {
	int bits;
	bool is_float, symmetric, dynamic, local, ordered, by_index; /* ordered: any actorder; by_index: one that needs an index of columns */
	enum bl_ct_strategy strategy;                                /* inferred where it is not said */
	int64_t group, block[2];
};

/* where: what sentences begin with, "config.json: quantization_config: group_0: weights". */
enum bl_status bl_ct_args_parse(struct bl_ct_args *a, const cJSON *o, const char *where, struct bl_err *err);
/* Keys other than these (ended by NULL) are refused. */
enum bl_status bl_ct_known_keys(const cJSON *o, const char *const *keys, const char *where, struct bl_err *err);
const char *bl_ct_strategy_name(enum bl_ct_strategy s);

#endif
