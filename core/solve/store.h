/* SPDX-License-Identifier: Apache-2.0
 * Solved units on disk, so that what was solved once is not solved again: CACHE/solved/KEY.bin, one file per unit and choice, checked by its sum when it is
 * read. Not forced to the disk: after a power cut a damaged file is noticed and solved again. */
#ifndef BL_SOLVE_STORE_H
#define BL_SOLVE_STORE_H

#include "core/solve/solve.h"

/* What a result depends on. calib_key: of the calibration; device: "cpu" or "cuda" (the last bits of sums differ). */
void bl_solved_key(char key[65], const struct bl_solve_request *rq, const char *calib_key, const char *device);
/* BL_NOT_FOUND: not there; BL_MISMATCH: damaged, or of other sizes than the unit's (the caller solves again). trust: this process wrote it or has checked it
 * before, its sums need not be made again. */
enum bl_status bl_solved_load(struct bl_solved **out, const struct bl_solve_request *rq, const char *cache_dir, const char *key, bool trust, struct bl_err *err);
enum bl_status bl_solved_save(const struct bl_solved *s, const char *cache_dir, const char *key, struct bl_err *err);

#endif
