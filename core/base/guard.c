/* SPDX-License-Identifier: Apache-2.0
 * A mapped file can shrink under us; the kernel then answers a read with SIGBUS. Code that reads maps runs inside
 * bl_guard_run, which turns that signal into an error. The jump buffers form a stack per thread; the signal is always
 * delivered to the thread that faulted. Without a guard the handler steps aside for whoever was installed before. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <ucontext.h>

#include "core/base/file.h"

struct guard {
	sigjmp_buf jump;
	struct guard *outer;
};

static _Thread_local struct guard *volatile innermost;
static struct sigaction before;

static void on_sigbus(int sig, siginfo_t *info, void *uctx)
{
	struct guard *g = innermost;

	if (g && info->si_code > 0) { /* > 0: the kernel's own, not a kill() */
		/* The mask as it was at the fault: NODEFER leaves it alone, ThreadSanitizer's wrapper does not. */
		pthread_sigmask(SIG_SETMASK, &((ucontext_t *)uctx)->uc_sigmask, NULL);
		siglongjmp(g->jump, 1);
	}
	if (before.sa_flags & SA_SIGINFO) {
		before.sa_sigaction(sig, info, uctx);
	} else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
		before.sa_handler(sig);
	} else {
		/* Returning repeats the faulting read, which now ends the process the ordinary way; a kill() is sent again. */
		signal(SIGBUS, SIG_DFL);
		if (info->si_code <= 0)
			raise(SIGBUS);
	}
}

void bl_guard_install(void)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct sigaction sa = { .sa_sigaction = on_sigbus }, now;

	/* NODEFER: the handler leaves by a jump, so no mask has to be saved and restored for every guarded call */
	sa.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
	sigemptyset(&sa.sa_mask);
	pthread_mutex_lock(&lock);
	sigaction(SIGBUS, NULL, &now);
	if (!(now.sa_flags & SA_SIGINFO) || now.sa_sigaction != on_sigbus) {
		before = now;
		sigaction(SIGBUS, &sa, NULL);
	}
	pthread_mutex_unlock(&lock);
}

enum bl_status bl_guard_run(enum bl_status (*fn)(void *ctx, struct bl_err *err), void *ctx, struct bl_err *err)
{
	struct guard g;
	enum bl_status status;

	g.outer = innermost;
	if (sigsetjmp(g.jump, 0)) {
		innermost = g.outer;
		bl_fail(err, BL_IO, "a mapped file became shorter, or its disk failed, while it was read; open the model again");
		return BL_IO;
	}
	innermost = &g;
	status = fn(ctx, err);
	innermost = g.outer;
	return status;
}
