/* SPDX-License-Identifier: Apache-2.0
 * What the tests of core/text share: the demo model's tokenizer, changed, and files in a folder of their own. */
#ifndef TEXT_SUPPORT_H
#define TEXT_SUPPORT_H

#include "core/base/json.h"
#include "core/text/tokenizer.h"

#define DEMO BL_SOURCE_DIR "/tests/models/tiny-exaone4"

cJSON *load_json(const char *path); /* fails the test */
/* The demo tokenizer as text with the members of `changed` in place of its own ("model": member by member). bl_free. */
char *changed_tokenizer(const cJSON *changed);
/* changed as text; *t NULL and the error kept when it is refused. */
enum bl_status open_changed(struct bl_tokenizer **t, const char *changed, struct bl_err *err);
const char *write_text(const char *name, const char *text, size_t n); /* in a temporary folder; the path, until the next call */
void remove_texts(void);

#endif
