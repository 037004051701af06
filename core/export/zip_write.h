/* SPDX-License-Identifier: Apache-2.0
 * The layout of a zip of stored entries whose sizes are known beforehand: where each entry's bytes go is fixed before any is written, so all
 * cores can write at once (libzip, which reads it back in the proof, can only stream). zip64 where a size, an offset or the count needs it. Times are
 * bl_package_s(), names UTF-8, nothing else: the same entries give the same bytes. */
#ifndef BL_EXPORT_ZIP_WRITE_H
#define BL_EXPORT_ZIP_WRITE_H

#include <stdint.h>

#include "core/base/err.h"

struct bl_zip_entry { char *name; uint64_t bytes; uint32_t crc; uint64_t header_at, data_at; };

/* Fills header_at and data_at; returns where the central directory begins. */
uint64_t bl_zip_layout(struct bl_zip_entry *e, int n);
/* Bytes of the central directory and the end records (exact). */
uint64_t bl_zip_tail_bytes(const struct bl_zip_entry *e, int n, uint64_t directory_at);
/* Writes local headers and the tail; the crc of every entry must be final. */
enum bl_status bl_zip_finish(int fd, const char *path, const struct bl_zip_entry *e, int n, uint64_t directory_at, struct bl_err *err);

#endif
