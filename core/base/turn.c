/* SPDX-License-Identifier: Apache-2.0
 * A nice value, a policy and the length of a turn belong to a thread on Linux. libc has no call for the last one, nor do all headers have the type. */
#include "core/base/turn.h"

#include <sched.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define COMPUTE_NICE  5
#define ANSWER_NS     300000 /* a key and its frame take about as long */
#define RESET_ON_FORK 1

struct attributes { /* struct sched_attr, first version */
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period; /* runtime: with SCHED_OTHER the length of a turn, 0: the usual one */
};

static int set(uint32_t policy, uint64_t flags, int nice, uint64_t turn_ns)
{
	struct attributes a = { .size = sizeof a, .policy = policy, .flags = flags, .nice = nice, .runtime = turn_ns };

	return (int)syscall(SYS_sched_setattr, 0, &a, 0);
}

static int own_nice(void)
{
	return getpriority(PRIO_PROCESS, (id_t)gettid());
}

void bl_thread_computes(void)
{
	int policy = sched_getscheduler(0), nice = own_nice() + COMPUTE_NICE;

	if (policy == SCHED_BATCH) /* started by a thread that computes */
		return;
	nice = nice > 19 ? 19 : nice;
	if (policy != SCHED_OTHER || set(SCHED_BATCH, 0, nice, 0)) /* somebody has chosen for the whole process, or it is not allowed */
		setpriority(PRIO_PROCESS, (id_t)gettid(), nice);
}

void bl_thread_answers(void)
{
	if (sched_getscheduler(0) == SCHED_OTHER)
		set(SCHED_OTHER, RESET_ON_FORK, own_nice(), ANSWER_NS);
}
