/* SPDX-License-Identifier: Apache-2.0
 * Time. BL_TEST_CLOCK=seconds freezes the wall clock (golden screens, reproducible files); SOURCE_DATE_EPOCH is honoured
 * for what is written into packages. */
#ifndef BL_BASE_CLOCK_H
#define BL_BASE_CLOCK_H
#include <stddef.h>
#include <stdint.h>
uint64_t bl_now_ns(void);         /* monotonic */
uint64_t bl_thread_ns(void);      /* processor time of the calling thread: a limit on work that a busy machine does not shorten */
int64_t bl_wall_s(void);          /* seconds since 1970 */
int64_t bl_package_s(void);       /* the date of everything inside a package: SOURCE_DATE_EPOCH, else 1980-01-01 */
void bl_wall_hhmm(int64_t t, char out[6]); /* local "14:02" */
void bl_wall_iso(int64_t t, char out[21]); /* UTC "2026-01-31T14:02:11Z" */
#endif
