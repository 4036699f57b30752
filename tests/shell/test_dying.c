/* SPDX-License-Identifier: GPL-2.0-or-later */
/* dying.c: which signals end a process that waits for us, seen on real processes. */
#include <grp.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "csvfs/base/platform.h"
#include "csvfs/bdev.h"
#include "csvfs/dying.h"

struct world {
	struct dying *d;
	bool waiting;
	uint64_t cancelled;
	unsigned cancels, more;
};

static bool waits(void *ctx, uint64_t tag)
{
	struct world *w = ctx;

	(void)tag;
	return w->waiting;
}

static void cancel(void *ctx, uint64_t tag)
{
	struct world *w = ctx;

	w->cancelled = tag;
	w->cancels++;
}

static void more(void *ctx)
{
	struct world *w = ctx;

	w->more++;
}

/* As many as there can be, with long numbers. */
static bool join_groups(void)
{
	static gid_t g[NGROUPS_MAX];

	for (uint32_t i = 0; i < NGROUPS_MAX; i++)
		g[i] = 4000000000u + i;
	return !setgroups(NGROUPS_MAX, g);
}

/* A child that sleeps in the kernel, blocks `blocked` and ignores SIGUSR1. */
static pid_t child_in_groups(int blocked, bool many)
{
	int up[2];
	char c;
	pid_t pid;

	assert_int_equal(pipe(up), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		sigset_t s;

		sigemptyset(&s);
		if (blocked)
			sigaddset(&s, blocked);
		sigprocmask(SIG_SETMASK, &s, NULL);
		signal(SIGUSR1, SIG_IGN);
		if (many && !join_groups())
			_exit(1);
		(void)!write(up[1], "", 1);
		for (;;)
			pause();
	}
	assert_int_equal(read(up[0], &c, 1), 1);
	close(up[0]);
	close(up[1]);
	return pid;
}

static pid_t child(int blocked)
{
	return child_in_groups(blocked, false);
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void with(struct world *w)
{
	struct dying_config c = {.waits = waits, .cancel = cancel, .more = more, .ctx = w};

	memset(w, 0, sizeof(*w));
	w->waiting = true;
	w->d = dying_create(&c);
	assert_non_null(w->d);
	assert_true(dying_deadline(w->d) == NEVER);
}

static void a_signal_that_does_not_kill_is_looked_at_again_until_the_answer(void **state)
{
	struct world w;
	pid_t pid = child(0);

	(void)state;
	with(&w);
	dying_signalled(w.d, (uint32_t)pid, 7);
	assert_int_equal(w.cancels, 0);
	assert_int_equal(w.more, 1);
	assert_true(dying_deadline(w.d) != NEVER);
	dying_step(w.d, dying_deadline(w.d) - 1);
	dying_step(w.d, dying_deadline(w.d));
	assert_int_equal(w.cancels, 0);
	assert_true(dying_deadline(w.d) != NEVER);
	/* Killed now: the kernel tells of it no more. */
	end(pid);
	dying_step(w.d, dying_deadline(w.d));
	assert_int_equal(w.cancels, 1);
	assert_int_equal(w.cancelled, 7);
	/* Again while it waits: the I/O may have come to a state that can be left. */
	dying_step(w.d, dying_deadline(w.d));
	assert_int_equal(w.cancels, 2);
	w.waiting = false;
	dying_step(w.d, dying_deadline(w.d));
	assert_int_equal(w.cancels, 2);
	assert_true(dying_deadline(w.d) == NEVER);
	dying_destroy(w.d);
}

static void who_cannot_be_seen_counts_as_dying(void **state)
{
	struct world w;

	(void)state;
	with(&w);
	dying_signalled(w.d, 0, 9);
	assert_int_equal(w.cancels, 1);
	assert_int_equal(w.cancelled, 9);
	dying_destroy(w.d);
}

#define STATUS(pnd, shd, blk, ign, cgt)                                                            \
	"Name:\tx\nSigQ:\t1/2\nSigPnd:\t" pnd "\nShdPnd:\t" shd "\nSigBlk:\t" blk                  \
	"\nSigIgn:\t" ign "\nSigCgt:\t" cgt "\nCapInh:\t0000000000000100\n"
#define NO "0000000000000000"

static void what_ends_a_process(void **state)
{
	(void)state;
	assert_false(dying_status(STATUS(NO, NO, NO, NO, NO)));
	assert_true(dying_status(STATUS("0000000000000100", NO, NO, NO, NO))); /* SIGKILL */
	assert_true(dying_status(STATUS(NO, "0000000000000100", NO, NO, NO)));
	/* SIGALRM, SIGTERM, SIGCHLD that are caught, or blocked: it lives. */
	assert_false(dying_status(STATUS("0000000000002000", NO, NO, NO, "0000000000002000")));
	assert_false(dying_status(STATUS(NO, "0000000000014000", "0000000000004000", NO, NO)));
	/* SIGABRT and SIGSEGV dump core; not if they are caught or blocked. */
	assert_true(dying_status(STATUS(NO, "0000000000000020", NO, NO, NO)));
	assert_true(dying_status(STATUS("0000000000000400", NO, NO, NO, NO)));
	assert_false(dying_status(STATUS("0000000000000400", NO, NO, NO, "0000000000000400")));
	assert_false(dying_status(STATUS(NO, "0000000000000020", "0000000000000020", NO, NO)));
	/* A thread's name can hold anything but a newline. */
	assert_false(dying_status("Name:\tSigPnd:\t100\nSigPnd:\t0\nShdPnd:\t0\n"));
}

static void a_pending_term_of_a_real_process(void **state)
{
	struct world w;
	pid_t pid = child(SIGTERM);

	(void)state;
	with(&w);
	kill(pid, SIGTERM); /* blocked: it stays pending, and does not kill */
	kill(pid, SIGUSR1);
	dying_signalled(w.d, (uint32_t)pid, 3);
	assert_int_equal(w.cancels, 0);
	end(pid);
	dying_destroy(w.d);
}

/* The groups of its user come before its signals. Stopped it does not die of the signal, and that can be looked at. */
static void who_is_in_very_many_groups_is_seen_to_die(void **state)
{
	struct world w;
	pid_t pid;

	(void)state;
	if (geteuid() != 0)
		skip();
	pid = child_in_groups(0, true);
	kill(pid, SIGSTOP);
	assert_int_equal(waitpid(pid, NULL, WUNTRACED), pid);
	kill(pid, SIGABRT);
	with(&w);
	dying_signalled(w.d, (uint32_t)pid, 3);
	end(pid);
	assert_int_equal(w.cancels, 1);
	dying_destroy(w.d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_signal_that_does_not_kill_is_looked_at_again_until_the_answer),
		cmocka_unit_test(who_cannot_be_seen_counts_as_dying),
		cmocka_unit_test(what_ends_a_process),
		cmocka_unit_test(a_pending_term_of_a_real_process),
		cmocka_unit_test(who_is_in_very_many_groups_is_seen_to_die),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
