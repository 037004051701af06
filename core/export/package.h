/* SPDX-License-Identifier: Apache-2.0
 * A finished package, read: a folder or a zip as a list of named byte ranges. Zips are taken apart by libzip (consistency checks on) and by an own
 * look at the local headers, and the two must agree; stored entries are looked at in place, deflated ones are unpacked into an unlinked
 * temporary file, bounded. */
#ifndef BL_EXPORT_PACKAGE_H
#define BL_EXPORT_PACKAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/err.h"
#include "core/base/file.h"

struct bl_package_entry { char *name; const uint8_t *data; uint64_t bytes; uint32_t crc; bool has_crc; struct bl_map map; };

struct bl_package {
	struct bl_package_entry *entries; int n; /* names relative to the checkpoint's folder ("config.json"), sorted */
	struct bl_map zip;                        /* when it is one */
	bool is_zip;
	uint64_t package_bytes;                   /* of the zip file, or the sum */
};

/* Structural violations (slip names, links, several top folders, duplicates) are errors of kind BL_INVALID. */
enum bl_status bl_package_open(struct bl_package *p, const char *path, bool as_zip, struct bl_err *err);
void bl_package_close(struct bl_package *p);
const struct bl_package_entry *bl_package_find(const struct bl_package *p, const char *name);

#endif
