/* SPDX-License-Identifier: Apache-2.0
 * Reading a finished package. */
#include "core/export/package.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zip.h>

#include "core/base/mem.h"
#include "core/base/str.h"

#define ENTRIES_MAX 10000
#define UNPACKED_MAX 200000000000ull
#define BOMB_BYTES (64u << 20)
#define BOMB_RATIO 100 /* weights and tokenizers shrink to a half or a tenth */

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct bl_package_entry *)a)->name, ((const struct bl_package_entry *)b)->name);
}

static struct bl_package_entry *add(struct bl_package *p, const char *name)
{
	p->entries = bl_xrealloc(p->entries, (size_t)p->n + 1, sizeof *p->entries);
	struct bl_package_entry *e = &p->entries[p->n++];
	*e = (struct bl_package_entry){.name = bl_xstrdup(name), .map = {.fd = -1}};
	return e;
}

/* ---- folders ---- */

static enum bl_status open_folder(struct bl_package *p, const char *path, struct bl_err *err)
{
	char **names = NULL;
	size_t n = 0;

	if (bl_list_dir(&names, &n, path, err))
		return err->status;
	if (n > ENTRIES_MAX)
		bl_fail(err, BL_INVALID, "%s: holds %zu files, more than %d", path, n, ENTRIES_MAX);
	for (size_t i = 0; i < n && !err->status; i++) {
		char *file = bl_path_join(path, names[i]);
		if (bl_is_file(file)) {
			struct bl_package_entry *e = add(p, names[i]);
			if (bl_map_open(&e->map, file, err) == BL_OK) {
				e->data = e->map.data;
				e->bytes = e->map.bytes;
				p->package_bytes += e->bytes;
			}
		}
		bl_free(file);
	}
	bl_list_free(names);
	return err->status;
}

/* ---- zips ---- */

static uint64_t get(const uint8_t *d, int bytes)
{
	uint64_t v = 0;

	for (int i = 0; i < bytes; i++)
		v |= (uint64_t)d[i] << 8 * i;
	return v;
}

/* Walks the local headers from the front; stored entries of known size only. Returns the data of entry `name`, NULL when the walk does not meet it. */
struct walk { const uint8_t *d; uint64_t bytes, at; };

static bool next_local(struct walk *w, char *name, size_t cap, const uint8_t **data, uint64_t *size, unsigned *method)
{
	if (w->at + 30 > w->bytes || get(w->d + w->at, 4) != 0x04034b50)
		return false;
	const uint8_t *h = w->d + w->at;
	uint64_t packed = get(h + 18, 4), unpacked = get(h + 22, 4), name_len = get(h + 26, 2), extra_len = get(h + 28, 2);
	uint64_t data_at = w->at + 30 + name_len + extra_len;
	if (data_at > w->bytes || name_len >= cap || (get(h + 6, 2) & 8)) /* bit 3: sizes follow the data: not walkable */
		return false;
	memcpy(name, h + 30, name_len);
	name[name_len] = '\0';
	for (uint64_t x = 30 + name_len; x + 4 <= 30 + name_len + extra_len;) {
		uint64_t id = get(h + x, 2), len = get(h + x + 2, 2);
		if (x + 4 + len > 30 + name_len + extra_len)
			return false;
		if (id == 1 && len >= 16 && packed == 0xFFFFFFFFu && unpacked == 0xFFFFFFFFu) {
			unpacked = get(h + x + 4, 8);
			packed = get(h + x + 12, 8);
		}
		x += 4 + len;
	}
	if (packed > w->bytes - data_at)
		return false;
	*method = (unsigned)get(h + 8, 2);
	*data = w->d + data_at;
	*size = packed;
	w->at = data_at + packed;
	return true;
}

static enum bl_status unpack(struct bl_package_entry *e, zip_t *z, zip_uint64_t index, uint64_t bytes, const char *path, struct bl_err *err)
{
	const char *tmp = getenv("TMPDIR");
	struct bl_str name = {0};
	uint8_t *buf = bl_xalloc(1 << 20, 1);
	zip_file_t *f = NULL;
	uint64_t at = 0;

	bl_str_addf(&name, "%s/bitlathe-XXXXXX", tmp && *tmp ? tmp : "/tmp");
	int fd = -1;
	if (bl_free_bytes(tmp && *tmp ? tmp : "/tmp") < bytes) {
		bl_fail(err, BL_NO_SPACE, "%s: %s: not enough room to unpack it there", tmp && *tmp ? tmp : "/tmp", e->name);
		goto done;
	}
	fd = mkstemp(name.s);
	if (fd < 0) {
		bl_fail_sys(err, BL_IO, "%s: no temporary file could be made to unpack %s", bl_str_c(&name), e->name);
		goto done;
	}
	unlink(name.s);
	f = zip_fopen_index(z, index, 0);
	if (!f) {
		bl_fail(err, BL_INVALID, "%s: %s: cannot be unpacked: %s", path, e->name, zip_strerror(z));
		goto done;
	}
	for (zip_int64_t n; (n = zip_fread(f, buf, 1 << 20)) != 0;) {
		if (n < 0 || at + (uint64_t)n > bytes) {
			bl_fail(err, BL_INVALID, "%s: %s: its data is damaged or longer than it says", path, e->name);
			goto done;
		}
		if (bl_pwrite_all(fd, buf, (size_t)n, at, e->name, err))
			goto done;
		at += (uint64_t)n;
	}
	if (at != bytes) {
		bl_fail(err, BL_INVALID, "%s: %s: ends after %llu of %llu bytes", path, e->name, (unsigned long long)at, (unsigned long long)bytes);
		goto done;
	}
	e->bytes = bytes;
	e->data = (const uint8_t *)"";
	if (bytes) {
		void *m = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
		if (m == MAP_FAILED)
			bl_fail_sys(err, BL_IO, "%s: cannot be mapped", e->name);
		else {
			e->data = m;
			e->map = (struct bl_map){.data = m, .bytes = bytes, .path = bl_xstrdup(e->name), .fd = dup(fd)};
		}
	}
done:
	if (f)
		zip_fclose(f);
	if (fd >= 0)
		close(fd);
	bl_free(buf);
	bl_str_free(&name);
	return err->status;
}

static enum bl_status check_entry(const zip_stat_t *st, zip_t *z, zip_uint64_t i, const char *path, struct bl_err *err)
{
	zip_uint8_t system = 0;
	zip_uint32_t attributes = 0;

	if (!(st->valid & ZIP_STAT_NAME) || !(st->valid & ZIP_STAT_SIZE) || !(st->valid & ZIP_STAT_COMP_SIZE) || !(st->valid & ZIP_STAT_COMP_METHOD))
		return bl_fail(err, BL_INVALID, "%s: entry %llu: its directory record is not complete", path, (unsigned long long)i);
	size_t len = strlen(st->name);
	bool folder = len && st->name[len - 1] == '/';
	char *plain = bl_xstrndup(st->name, folder ? len - 1 : len);
	bool inside = bl_path_is_inside(plain) && !strchr(plain, '\\');
	bl_free(plain);
	if (!inside)
		return bl_fail(err, BL_INVALID, "%s: entry %llu: the name %s leads outside the package", path, (unsigned long long)i, st->name);
	if (zip_file_get_external_attributes(z, i, 0, &system, &attributes) == 0 && system == ZIP_OPSYS_UNIX && (attributes >> 16 & S_IFMT) == S_IFLNK)
		return bl_fail(err, BL_INVALID, "%s: entry %llu: %s is a link", path, (unsigned long long)i, st->name);
	if (st->comp_method != ZIP_CM_STORE && st->comp_method != ZIP_CM_DEFLATE)
		return bl_fail(err, BL_UNSUPPORTED, "%s: entry %llu: %s: compression method %u (stored and deflate are read)", path, (unsigned long long)i, st->name,
			       st->comp_method);
	if (st->size > BOMB_BYTES && st->size / BOMB_RATIO > st->comp_size)
		return bl_fail(err, BL_INVALID, "%s: entry %llu: %s: unpacks to %llu times its size", path, (unsigned long long)i, st->name,
			       (unsigned long long)(st->size / (st->comp_size ? st->comp_size : 1)));
	if (st->comp_method == ZIP_CM_STORE && st->size != st->comp_size)
		return bl_fail(err, BL_INVALID, "%s: entry %llu: %s: stored, but its two sizes differ", path, (unsigned long long)i, st->name);
	return BL_OK;
}

static enum bl_status take_entries(struct bl_package *p, zip_t *z, const char *path, struct bl_err *err)
{
	zip_int64_t n = zip_get_num_entries(z, 0);
	struct walk w = {p->zip.data, p->zip.bytes, 0};
	uint64_t total = 0, packed = 0;

	if (n < 1 || n > ENTRIES_MAX)
		return bl_fail(err, BL_INVALID, "%s: has %lld entries (1 to %d are read)", path, (long long)n, ENTRIES_MAX);
	for (zip_int64_t i = 0; i < n; i++) {
		zip_stat_t st;
		if (zip_stat_index(z, (zip_uint64_t)i, 0, &st))
			return bl_fail(err, BL_INVALID, "%s: entry %lld: %s", path, (long long)i, zip_strerror(z));
		if (check_entry(&st, z, (zip_uint64_t)i, path, err))
			return err->status;
		if (__builtin_add_overflow(packed, st.comp_size, &packed) || packed > p->zip.bytes)
			return bl_fail(err, BL_INVALID, "%s: entry %lld: %s: its data overlaps that of others", path, (long long)i, st.name);
		if (__builtin_add_overflow(total, st.size, &total) || total > UNPACKED_MAX)
			return bl_fail(err, BL_INVALID, "%s: unpacks to more than %llu bytes", path, UNPACKED_MAX);
		bool folder = st.name[strlen(st.name) - 1] == '/';
		if (!bl_starts_with(st.name, "model/"))
			return bl_fail(err, BL_INVALID, "%s: entry %lld: %s: everything must lie in the one folder model/", path, (long long)i, st.name);
		if (folder && strcmp(st.name, "model/"))
			return bl_fail(err, BL_INVALID, "%s: entry %lld: %s: folders inside model/ are not allowed", path, (long long)i, st.name);
		char local[4096];
		const uint8_t *data = NULL;
		uint64_t size = 0;
		unsigned method = 0;
		bool walked = next_local(&w, local, sizeof local, &data, &size, &method);
		if (walked && (strcmp(local, st.name) || size != st.comp_size || method != st.comp_method))
			return bl_fail(err, BL_INVALID, "%s: entry %lld: the header at its data says %s, the directory says %s", path, (long long)i, local, st.name);
		if (folder)
			continue;
		if (strchr(st.name + 6, '/'))
			return bl_fail(err, BL_INVALID, "%s: entry %lld: %s: folders inside model/ are not allowed", path, (long long)i, st.name);
		struct bl_package_entry *e = add(p, st.name + 6);
		e->has_crc = (st.valid & ZIP_STAT_CRC) != 0;
		e->crc = st.crc;
		if (walked && method == ZIP_CM_STORE) {
			e->data = data;
			e->bytes = size;
		} else if (unpack(e, z, (zip_uint64_t)i, st.size, path, err)) {
			return err->status;
		}
	}
	return BL_OK;
}

static enum bl_status open_zip(struct bl_package *p, const char *path, struct bl_err *err)
{
	zip_error_t ze;
	int code = 0;

	p->is_zip = true;
	if (bl_map_open(&p->zip, path, err))
		return err->status;
	p->package_bytes = p->zip.bytes;
	zip_t *z = zip_open(path, ZIP_RDONLY | ZIP_CHECKCONS, &code);
	if (!z) {
		zip_error_init_with_code(&ze, code);
		bl_fail(err, BL_INVALID, "%s: not a consistent zip: %s", path, zip_error_strerror(&ze));
		zip_error_fini(&ze);
		return err->status;
	}
	take_entries(p, z, path, err);
	zip_discard(z);
	return err->status;
}

enum bl_status bl_package_open(struct bl_package *p, const char *path, bool as_zip, struct bl_err *err)
{
	memset(p, 0, sizeof *p);
	p->zip.fd = -1;
	if (bl_is_dir(path))
		open_folder(p, path, err);
	else if (as_zip || bl_is_file(path))
		open_zip(p, path, err);
	else
		bl_fail(err, BL_NOT_FOUND, "%s: no such folder or file", path);
	if (!err->status && p->n) {
		qsort(p->entries, (size_t)p->n, sizeof *p->entries, by_name);
		for (int i = 1; i < p->n; i++)
			if (!strcmp(p->entries[i].name, p->entries[i - 1].name)) {
				bl_fail(err, BL_INVALID, "%s: %s is there twice", path, p->entries[i].name);
				break;
			}
	}
	if (err->status)
		bl_package_close(p);
	return err->status;
}

void bl_package_close(struct bl_package *p)
{
	for (int i = 0; i < p->n; i++) {
		bl_free(p->entries[i].name);
		bl_map_close(&p->entries[i].map);
	}
	bl_free(p->entries);
	bl_map_close(&p->zip);
	memset(p, 0, sizeof *p);
	p->zip.fd = -1;
}

const struct bl_package_entry *bl_package_find(const struct bl_package *p, const char *name)
{
	for (int i = 0; i < p->n; i++)
		if (!strcmp(p->entries[i].name, name))
			return &p->entries[i];
	return NULL;
}
