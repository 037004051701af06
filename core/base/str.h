/* SPDX-License-Identifier: Apache-2.0
 * A growable byte string, and what must happen to text that comes from files before anyone sees it. */
#ifndef BL_BASE_STR_H
#define BL_BASE_STR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

struct bl_str { /* zero-initialised = empty; s is NUL-terminated whenever len > 0 or after bl_str_c */
	char *s;
	size_t len, cap;
};

void bl_str_add(struct bl_str *b, const char *s);
void bl_str_addn(struct bl_str *b, const void *s, size_t n);
void bl_str_addc(struct bl_str *b, char c);
void bl_str_addf(struct bl_str *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void bl_str_vaddf(struct bl_str *b, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
/* Appends s as a JSON string with quotes. */
void bl_str_add_json(struct bl_str *b, const char *s);
const char *bl_str_c(struct bl_str *b); /* never NULL */
char *bl_str_take(struct bl_str *b);    /* caller frees with bl_free; b is empty afterwards */
void bl_str_clear(struct bl_str *b);    /* len = 0, keeps memory */
void bl_str_free(struct bl_str *b);

/* Copies src into dst (cap bytes incl. NUL): control characters, DEL, C1 and invalid UTF-8 become \xNN. Returns dst. */
char *bl_printable(char *dst, size_t cap, const char *src);
bool bl_utf8_valid(const char *s, size_t n);
bool bl_starts_with(const char *s, const char *prefix);
bool bl_ends_with(const char *s, const char *suffix);
bool bl_ieq(const char *a, const char *b); /* ASCII case-insensitive */
/* "1.31 GB" (decimal), "12.3 MB"; dst >= 16 bytes. Returns dst. */
char *bl_human_bytes(char *dst, size_t cap, double bytes);
/* What people write: "1500", "6.5MB" (powers of 1000), "10GiB" or "10G" (powers of 1024), letters in either case but for that; false: it is no size. */
bool bl_parse_bytes(const char *text, double *out);
char *bl_human_secs(char *dst, size_t cap, double secs); /* "0:02", "1:03:20" */

#endif
