/* SPDX-License-Identifier: Apache-2.0
 * Regular expressions from strangers, as Python's re.match (tied to the start, not to the end), through PCRE2 with bounds: one name
 * may cost so many steps, and all names of one document so much time. A hostile expression ends, it does not hang. */
#ifndef BL_PLAN_REGEX_H
#define BL_PLAN_REGEX_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/err.h"

struct bl_regex; /* opaque */

/* where: what stands before the text in messages ("pattern ", "recipe.yaml: line 3: "); text: without "re:". status: of the errors. */
enum bl_status bl_regex_open(struct bl_regex **out, const char *text, const char *where, enum bl_status status, struct bl_err *err);
/* Whether it matches; false with err set when that takes too long. *budget_ns: time that is left, shared by all calls of one document. */
bool bl_regex_match(struct bl_regex *r, const char *name, int64_t *budget_ns, struct bl_err *err);
void bl_regex_free(struct bl_regex *r);

#define BL_REGEX_BUDGET_NS 3000000000 /* far beyond what any honest document needs */

#endif
