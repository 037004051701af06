/* SPDX-License-Identifier: Apache-2.0
 * Inside the calibration store. A file is a head of one page, then sections that start on pages. What sections a file has follows from the model and from
 * what is collected, so a head that says otherwise is refused before anything behind it is looked at. Every section has a sum, the head has the sums and
 * one of its own, the manifest has the heads'. Hessians are stored as the [K, K] they are used as, but of each row only the pages that hold its lower
 * triangle (the rest of the row is a hole and reads as zero): they are mapped as they are and take little more than half. */
#ifndef BL_CALIB_PRIVATE_H
#define BL_CALIB_PRIVATE_H

#include <pthread.h>

#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/calib/calib.h"

#define CALIB_PRODUCER 2          /* counts up when the numbers, or how they are stored, change: part of the key */
#define CALIB_PAGE 4096
#define CALIB_PIECE (16u << 20)   /* sums of sections are sums over the sums of pieces of whole rows, at most so long: pieces can be summed in any order */
#define CALIB_SECTIONS 16
#define CALIB_UNITS 4             /* distinct inputs of a block */

enum calib_file_kind { CALIB_BLOCK = 1, CALIB_INPUTS, CALIB_IDS, CALIB_HIDDEN };
enum calib_section_kind { CALIB_STATS = 1, CALIB_HESSIAN, CALIB_ROWS };

struct calib_section { uint32_t kind, unit; int64_t rows, row_bytes; uint64_t offset; struct bl_sum sum; uint64_t zero; };
struct calib_head {
	char magic[8]; /* "BLCALIB" */
	uint32_t producer, kind, index, n_sections;
	uint64_t bytes;        /* of the file */
	int64_t tokens, batch; /* batch: tokens that went through the block at once (a block's bits depend on it in their last places) */
	char key[64];
	struct calib_section section[CALIB_SECTIONS];
	char zero[CALIB_PAGE - 48 - 64 - CALIB_SECTIONS * sizeof(struct calib_section) - 16];
	struct bl_sum sum;     /* of everything above */
};
_Static_assert(sizeof(struct calib_head) == CALIB_PAGE, "a head is a page");

/* What a calibration is of: everything that the sizes of its files follow from. */
struct calib_shape {
	const struct bl_model *m;
	int64_t windows, len, keep;
	bool hessians, fp32;
	char key[65];
};
bool calib_shape_ok(const struct calib_shape *s, struct bl_err *err); /* bounds; four units in every block */
/* The head such a file has, sums and batch left zero. */
void calib_head_make(struct calib_head *h, const struct calib_shape *s, enum calib_file_kind kind, int index);
int64_t calib_piece_rows(const struct calib_section *s);
int64_t calib_pieces(const struct calib_section *s);
void calib_file_name(char name[32], enum calib_file_kind kind, int index);
/* Bytes that are written, holes not counted. */
uint64_t calib_head_stored(const struct calib_head *h);
/* Of row i of a Hessian: bytes from the row's start that are stored. */
static inline int64_t calib_hessian_row(int64_t i, int64_t row_bytes)
{
	int64_t n = ((i + 1) * 4 + CALIB_PAGE - 1) / CALIB_PAGE * CALIB_PAGE;

	return n < row_bytes ? n : row_bytes;
}
/* The sum of a piece in memory (rows first .. first+n-1 of the section); a Hessian's counts what is stored of it. */
struct bl_sum calib_piece_sum(const struct calib_section *s, const uint8_t *data, int64_t first, int64_t n);
/* Walks the runs of bytes that are stored of a piece, offsets from its start. Returns false after the last one. */
struct calib_run { int64_t row, at, bytes; };
bool calib_next_run(const struct calib_section *s, int64_t first, int64_t n, struct calib_run *r);
void calib_head_seal(struct calib_head *h);

/* A file's bytes against the head it must have: BL_MISMATCH naming the file. Sections are looked at by calib_section_check. */
enum bl_status calib_head_check(const uint8_t *data, uint64_t bytes, const struct calib_head *want, const char *name, struct bl_err *err);
enum bl_status calib_section_check(const uint8_t *data, int section, const char *name, struct bl_err *err);

/* Layout of a unit's accumulators, on the device and in the file. */
struct calib_acc { uint64_t sum, sum2, bins, token_bins, nonfinite, bytes; }; /* offsets; absmax at 0 */
struct calib_acc calib_acc_of(int64_t cols);
/* From a stats section; numbers that cannot be are BL_MISMATCH. Free with calib_stats_free. */
enum bl_status calib_stats_make(struct bl_input_stats *s, const uint8_t *section, int64_t cols, int64_t tokens, const char *name, struct bl_err *err);
void calib_stats_free(struct bl_input_stats *s);

/* --- manifest --- */
struct calib_entry { char name[32], digest[33]; uint64_t bytes; };
struct calib_manifest {
	bool complete, hessians, fp32;
	char key[65], title[256], model_digest[65], ids_digest[65], device[128];
	int64_t blocks, hidden, windows, len, keep;
	struct calib_entry *files; size_t n_files;
};
void calib_manifest_print(struct bl_str *out, const struct calib_manifest *m);
enum bl_status calib_manifest_parse(struct calib_manifest *m, const char *text, size_t n, const char *label, struct bl_err *err);
void calib_manifest_free(struct calib_manifest *m);
void calib_digest_of(char digest[65], const struct calib_manifest *m);
char *calib_folder(const char *cache_dir, const char *key); /* CACHE/calib/KEY; bl_free */
bool calib_key_ok(const char *key);
/* An exclusive lock on the folder, held until the descriptor is closed; -1 with BL_FAILED when another process has it. */
int calib_lock(const char *folder, struct bl_err *err);

/* --- writing: threads that take pieces to their files while the run goes on --- */
struct calib_writer;
struct calib_out; /* a file on its way */
struct calib_chunk { void *data; struct calib_chunk *next; };
/* hidden: the block of the set of hidden states that is stored already, -1: none. */
struct calib_writer *calib_writer_new(const char *folder, int threads, struct calib_chunk *chunks, int n_chunks, int hidden);
/* Finishes what is queued (abandon: drops it), ends the threads, removes unfinished files. */
void calib_writer_free(struct calib_writer *w, bool abandon);
/* Head: as calib_head_make gave it, batch set. after: the file gets its name only when all files opened before it have theirs. */
enum bl_status calib_out_open(struct calib_out **out, struct calib_writer *w, const struct calib_head *h, bool after, struct bl_err *err);
/* Takes a piece over; the chunk comes back to the free ones when it is written. The last piece of the last section completes the file. */
void calib_out_piece(struct calib_out *o, int section, int64_t first_row, int64_t rows, struct calib_chunk *c);
/* The same from memory that stays until calib_writer_drain. */
void calib_out_borrowed(struct calib_out *o, int section, int64_t first_row, int64_t rows, const void *data);
struct calib_chunk *calib_chunk_take(struct calib_writer *w, bool wait); /* NULL: none free (or, when it waited, writing has failed) */
void calib_chunk_give(struct calib_writer *w, struct calib_chunk *c);
enum bl_status calib_writer_status(struct calib_writer *w, struct bl_err *err); /* the first error of the threads */
enum bl_status calib_writer_drain(struct calib_writer *w, struct bl_err *err);  /* everything queued is written, every file has its name */

/* --- before a run --- */
void calib_shape_of(struct calib_shape *s, const struct bl_model *m, const struct bl_calib_data *d, const struct bl_calib_options *o); /* without the key */
void calib_manifest_of(struct calib_manifest *out, const struct calib_shape *s, const struct bl_calib_data *d, const char *device);   /* nothing allocated */
void calib_key_of(char key[65], const struct calib_manifest *m);
uint64_t calib_set_bytes(const struct bl_model *m, bool hessians, uint64_t *stats); /* accumulators of the largest block */
/* Whether a second set leaves enough for batches of a good size. */
bool calib_second_set(const struct bl_model *m, int64_t tokens, bool fp32, uint64_t set, uint64_t available);
uint64_t calib_chunk_bytes(const struct bl_model *m, bool hessians, int *n_chunks);

/* --- a run --- */
struct calib_job {
	struct bl_forward *f;
	struct calib_shape shape;
	const struct bl_calib_data *data;
	const struct bl_calib_options *o;
	char *folder;
	bool *need, *need_input, need_ids; /* [blocks], [blocks + 1]: files that are to be made */
	int64_t *batch;                    /* [blocks]: of those that are there; 0: not */
	int hidden;                        /* block whose input is stored; -1: none */
	bl_calib_report *report;
	void (*unit_done)(void *ctx, int unit, const struct bl_input_stats *s);
	void *ctx;
};
bool calib_work_left(const struct calib_job *j);
/* Makes the missing files; they are written when it returns, on the disk when the kernel gets to it. */
enum bl_status calib_compute(const struct calib_job *j, struct bl_calib_seconds *seconds, struct bl_err *err);

/* --- the opened one --- */
struct calib_file { struct bl_map map; atomic_int checked[CALIB_SECTIONS]; };
struct bl_calib {
	struct calib_shape shape;
	struct calib_manifest manifest;
	char *folder, digest[65];
	struct bl_calib_seconds seconds;
	struct bl_input_stats *stats;   /* [n_units] */
	int *section;                   /* [n_units]: of its Hessian */
	struct calib_file *blocks, *inputs, ids;
	pthread_mutex_t lock;           /* maps and checks */
	pthread_t thread; bool settling; /* brings the files to the disk, then writes the manifest that says complete */
	struct bl_err settle_err;
};
/* From a manifest that is known to describe what is in the folder (heads and statistics are still checked). Takes the manifest over. */
enum bl_status calib_open_as(struct bl_calib **out, const struct calib_shape *s, struct calib_manifest *m, const char *folder, struct bl_err *err);
/* Reads and checks one file wholly (maps it for the while); head: filled when not NULL. */
enum bl_status calib_file_verify(const struct calib_shape *s, const char *folder, enum calib_file_kind kind, int index, struct calib_head *head, struct bl_err *err);
enum bl_status calib_map_file(struct bl_map *map, const struct calib_head *want, const char *folder, struct bl_err *err);
enum bl_status calib_manifest_load(struct calib_manifest *m, const char *folder, struct bl_err *err);

#endif
