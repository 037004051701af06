/* SPDX-License-Identifier: Apache-2.0
 * Zip of stored entries (APPNOTE 6.3.x: local header, central directory, zip64 records). */
#include "core/export/zip_write.h"

#include <string.h>
#include <time.h>

#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/str.h"

#define MAX32 0xFFFFFFFFull
#define UTF8_FLAG 0x0800
#define REGULAR_0644 (0100644u << 16)

static void put(struct bl_str *b, uint64_t v, int bytes)
{
	for (int i = 0; i < bytes; i++)
		bl_str_addc(b, (char)(uint8_t)(v >> 8 * i));
}

static bool big(const struct bl_zip_entry *e)
{
	return e->bytes >= MAX32;
}

uint64_t bl_zip_layout(struct bl_zip_entry *e, int n)
{
	uint64_t at = 0;

	for (int i = 0; i < n; i++) {
		e[i].header_at = at;
		e[i].data_at = at + 30 + strlen(e[i].name) + (big(&e[i]) ? 20 : 0);
		at = e[i].data_at + e[i].bytes;
	}
	return at;
}

/* Date and time of the format: two-second steps since 1980. */
static void put_time(struct bl_str *b)
{
	time_t t = (time_t)bl_package_s();
	struct tm tm;

	gmtime_r(&t, &tm);
	if (tm.tm_year < 80)
		tm = (struct tm){.tm_year = 80, .tm_mon = 0, .tm_mday = 1};
	put(b, (uint64_t)(tm.tm_hour << 11 | tm.tm_min << 5 | tm.tm_sec / 2), 2);
	put(b, (uint64_t)((tm.tm_year - 80) << 9 | (tm.tm_mon + 1) << 5 | tm.tm_mday), 2);
}

static void local_header(struct bl_str *b, const struct bl_zip_entry *e)
{
	put(b, 0x04034b50, 4);
	put(b, big(e) ? 45 : 20, 2);
	put(b, UTF8_FLAG, 2);
	put(b, 0, 2); /* stored */
	put_time(b);
	put(b, e->crc, 4);
	put(b, big(e) ? MAX32 : e->bytes, 4);
	put(b, big(e) ? MAX32 : e->bytes, 4);
	put(b, strlen(e->name), 2);
	put(b, big(e) ? 20 : 0, 2);
	bl_str_add(b, e->name);
	if (big(e)) {
		put(b, 1, 2);
		put(b, 16, 2);
		put(b, e->bytes, 8);
		put(b, e->bytes, 8);
	}
}

static void directory_entry(struct bl_str *b, const struct bl_zip_entry *e)
{
	bool far = e->header_at >= MAX32;
	int extra = (big(e) ? 16 : 0) + (far ? 8 : 0);

	put(b, 0x02014b50, 4);
	put(b, 3 << 8 | (extra ? 45 : 20), 2); /* made on Unix, so that the permissions below count */
	put(b, extra ? 45 : 20, 2);
	put(b, UTF8_FLAG, 2);
	put(b, 0, 2);
	put_time(b);
	put(b, e->crc, 4);
	put(b, big(e) ? MAX32 : e->bytes, 4);
	put(b, big(e) ? MAX32 : e->bytes, 4);
	put(b, strlen(e->name), 2);
	put(b, extra ? (uint64_t)extra + 4 : 0, 2);
	put(b, 0, 2);
	put(b, 0, 2);
	put(b, 0, 2);
	put(b, REGULAR_0644, 4);
	put(b, far ? MAX32 : e->header_at, 4);
	bl_str_add(b, e->name);
	if (!extra)
		return;
	put(b, 1, 2);
	put(b, (uint64_t)extra, 2);
	if (big(e)) {
		put(b, e->bytes, 8);
		put(b, e->bytes, 8);
	}
	if (far)
		put(b, e->header_at, 8);
}

static void tail(struct bl_str *b, const struct bl_zip_entry *e, int n, uint64_t directory_at)
{
	for (int i = 0; i < n; i++)
		directory_entry(b, &e[i]);
	uint64_t size = b->len;
	bool wide = n >= 0xFFFF || size >= MAX32 || directory_at >= MAX32;
	if (wide) {
		put(b, 0x06064b50, 4);
		put(b, 44, 8);
		put(b, 3 << 8 | 45, 2);
		put(b, 45, 2);
		put(b, 0, 8); /* both disk numbers */
		put(b, (uint64_t)n, 8);
		put(b, (uint64_t)n, 8);
		put(b, size, 8);
		put(b, directory_at, 8);
		put(b, 0x07064b50, 4);
		put(b, 0, 4);
		put(b, directory_at + size, 8);
		put(b, 1, 4);
	}
	put(b, 0x06054b50, 4);
	put(b, 0, 4);
	put(b, n >= 0xFFFF ? 0xFFFF : (uint64_t)n, 2);
	put(b, n >= 0xFFFF ? 0xFFFF : (uint64_t)n, 2);
	put(b, size >= MAX32 ? MAX32 : size, 4);
	put(b, directory_at >= MAX32 ? MAX32 : directory_at, 4);
	put(b, 0, 2);
}

uint64_t bl_zip_tail_bytes(const struct bl_zip_entry *e, int n, uint64_t directory_at)
{
	struct bl_str b = {0};

	tail(&b, e, n, directory_at);
	uint64_t bytes = b.len;
	bl_str_free(&b);
	return bytes;
}

enum bl_status bl_zip_finish(int fd, const char *path, const struct bl_zip_entry *e, int n, uint64_t directory_at, struct bl_err *err)
{
	struct bl_str b = {0};

	for (int i = 0; i < n && !err->status; i++) {
		bl_str_clear(&b);
		local_header(&b, &e[i]);
		bl_pwrite_all(fd, b.s, b.len, e[i].header_at, path, err);
	}
	bl_str_clear(&b);
	tail(&b, e, n, directory_at);
	if (!err->status)
		bl_pwrite_all(fd, b.s, b.len, directory_at, path, err);
	bl_str_free(&b);
	return err->status;
}
