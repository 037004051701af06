/* SPDX-License-Identifier: Apache-2.0
 * Writing a layout: all cores, each piece at its final place. */
#ifndef BL_EXPORT_WRITE_H
#define BL_EXPORT_WRITE_H

#include "core/export/layout.h"

/* Where file number f of the layout goes: its own file (base 0), or a zip entry (base = the entry's data offset in the one file). */
struct bl_sink { int fd; uint64_t base; const char *path; bool want_crc; uint32_t crc; };

/* Writes every byte of every file of the layout. On success sink[f].crc holds the CRC-32 where it was wanted. */
enum bl_status bl_layout_write(const struct bl_layout *l, struct bl_sink *sinks, const struct bl_export_request *rq, struct bl_err *err);

#endif
