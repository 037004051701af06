/* SPDX-License-Identifier: Apache-2.0
 * A number with its spread and where it comes from. Screens print: measured 0.41, modelled ~0.41, unknown a dot. */
#ifndef BL_ESTIMATE_QUANTITY_H
#define BL_ESTIMATE_QUANTITY_H
enum bl_origin { BL_UNKNOWN, BL_MODELLED, BL_MEASURED };
struct bl_quantity { double value, spread; enum bl_origin origin; const char *unit; const char *from; }; /* from: static sentence, "" */
#define BL_QUANTITY_UNKNOWN(u) ((struct bl_quantity){.origin = BL_UNKNOWN, .unit = (u), .from = ""})
const char *bl_origin_name(enum bl_origin o); /* "modelled" */
#endif
