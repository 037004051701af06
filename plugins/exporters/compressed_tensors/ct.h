/* SPDX-License-Identifier: Apache-2.0
 * Shared by the files of this plugin. */
#ifndef CT_H
#define CT_H

#include "core/plugin/plugin_api.h"

const char *ct_format(const struct bl_grid *g);             /* "int-quantized" */
int ct_is_int8(const struct bl_grid *g);                    /* activations */
int ct_is_static(const struct bl_grid *g);
int ct_is_block(const struct bl_grid *g);                  /* FP8 in squares */
const char *ct_e4m3_of(float x, uint8_t *code);            /* NULL, or why it is none */
uint16_t ct_f16_of(float x);
int64_t ct_gcd32(uint32_t bits);                            /* greatest common divisor of bits and 32 */
const char *ct_plan_format(const struct bl_x_plan *p);      /* the formats' common name, "mixed-precision", or "" */
const char *ct_config(const struct bl_x_plan *p, const struct bl_host *host, void *out);

#endif
