/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as a .jsonl data file: every row is used or dropped, rows lie one behind the other, ids are of the tokenizer. link: bl_text */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/text/dataset.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static char path[] = "/tmp/bl-fuzz-XXXXXX.jsonl";

static void remove_file(void)
{
	unlink(path);
}

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "%s\n", what);
	abort();
}

static void check(const struct bl_dataset *d, int32_t size)
{
	size_t at = 0;

	must(d->read == d->used + d->dropped && (size_t)d->used == d->n_rows, "a row is missing");
	for (size_t i = 0; i < d->n_rows; i++) {
		must(d->rows[i].first == at && d->rows[i].n > 0, "rows do not follow each other");
		at += d->rows[i].n;
	}
	must(at == d->ids.n, "ids that belong to no row");
	for (size_t i = 0; i < d->ids.n; i++)
		must(d->ids.ids[i] >= 0 && d->ids.ids[i] < size, "an id out of range");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct bl_tokenizer *t;
	static struct bl_chat *c;
	static int fd = -1;
	struct bl_err err = BL_ERR_INIT;
	struct bl_dataset *d;
	const char *file = path;

	if (fd < 0) {
		fd = mkstemps(path, 6);
		atexit(remove_file);
		must(fd >= 0, "no temporary file");
		must(!bl_tokenizer_open(&t, BL_SOURCE_DIR "/tests/models/tiny-exaone4", &err) && !bl_chat_open(&c, BL_SOURCE_DIR "/tests/models/tiny-exaone4", &err), err.text);
	}
	must(!ftruncate(fd, 0) && pwrite(fd, data, n, 0) == (ssize_t)n, "the file cannot be written");
	struct bl_dataset_options o = {.special = true, .max_row_tokens = n % 3 ? 0 : 3, .max_tokens = n % 5 ? 0 : 7, .keep_text = n % 2, .generation = n % 7 == 1};
	if (bl_dataset_load(&d, &file, 1, n % 11 ? t : NULL, n % 4 ? c : NULL, NULL, &o, &err) == BL_OK) {
		check(d, n % 11 ? bl_tokenizer_size(t) : INT32_MAX);
		bl_dataset_free(d);
	}
	return 0;
}
