/* SPDX-License-Identifier: Apache-2.0
 * Strict check of JSON text: grammar, UTF-8, nesting <= 64, at most max_values values, one object and nothing behind it.
 * *reals: how many numbers a double does not tell the spelling of (a point, an exponent, many digits).
 * Time is linear in the part before the first fault; no memory is allocated. For json.c. */
#ifndef BL_BASE_JSON_SCAN_H
#define BL_BASE_JSON_SCAN_H

#include <stddef.h>

#include "core/base/err.h"

enum bl_status bl_json_scan(const char *text, size_t n, size_t max_values, size_t *reals, const char *file,
			  struct bl_err *err);

#endif
