/* SPDX-License-Identifier: Apache-2.0
 * The processor's time that this process has used: what bounds in tests are measured with, since other work on the machine does not count. */
#ifndef BL_TESTS_PROCESSOR_NS_H
#define BL_TESTS_PROCESSOR_NS_H

#include <stdint.h>
#include <time.h>

/* How much longer a bound may be where every access is checked. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SLOWER 10u
#else
#define SLOWER 1u
#endif

static inline uint64_t processor_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#endif
