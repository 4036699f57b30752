/* SPDX-License-Identifier: GPL-2.0-or-later */
/* cpg.c and member.c against three real corosyncs. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "coordinator/cpg.h"
#include "coordinator/member.h"
#include "tests/shell/corosync.h"

/* ------------------------------------------------------------------ the process on each node */

static struct member member;
static struct cpg *cpg;
static struct effects fx;
static bool was_agreed;
static uint64_t was_number;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

static void say_list(const char *what, const struct cpg_conf *conf, const char *more)
{
	char line[512];
	int at = snprintf(line, sizeof(line), "%s%s", what, more);

	for (uint32_t i = 0; i < conf->member_count; i++)
		at += snprintf(line + at, sizeof(line) - (size_t)at, " %u", conf->members[i]);
	printf("%s @%u.%llx\n", line, conf->ring_node, (unsigned long long)conf->ring_seq);
}

static void say_view(void)
{
	const struct member_view *v = member_view(&member);
	struct cpg_conf conf = {
		.ring_seq = v->ring.seq, .ring_node = v->ring.node, .member_count = v->count};

	memcpy(conf.members, v->nodes, sizeof(conf.members));
	if (v->number != was_number || v->agreed != was_agreed)
		say_list(!v->quorate ? "view off"
			 : v->agreed ? "view agreed"
				     : "view forming",
			&conf, "");
	was_number = v->number;
	was_agreed = v->agreed;
}

static void on_event(void *ctx, const struct event *got)
{
	struct event ev = *got;

	ev.now_ns = now_ns();
	switch (ev.type) {
	case EV_CPG_CONF:
		say_list("conf", &ev.conf, "");
		break;
	case EV_QUORUM:
		say_list("quorum", &ev.conf, ev.conf.quorate ? " yes" : " no");
		break;
	case EV_CPG_DOWN:
		printf("down\n");
		break;
	case EV_CPG_MSG:
		if (ev.msg.len < 100 && !memcmp(ev.msg.bytes, "text", 4)) {
			printf("msg %u %.*s\n", ev.msg.node, (int)ev.msg.len,
				(const char *)ev.msg.bytes);
			return;
		}
		break;
	default:
		break;
	}
	member_event(&member, &ev);
	member_check(&member);
	effects_reset(&fx);
	member_publish(&member, ev.now_ns, &fx);
	for (uint32_t i = 0; i < fx.count; i++)
		if (fx.fx[i].type == FX_CPG_SEND && cpg)
			(void)cpg_send(cpg, fx.fx[i].net.bytes, fx.fx[i].net.len);
	say_view();
}

static void agent(uint32_t node)
{
	static const uint8_t uuid[16] = {1, 2, 3};
	struct member_config cfg = {.uuid = {1, 2, 3}};
	struct cpg_info info;
	char line[128], err[160];
	uint8_t *arena = malloc(EFFECTS_ARENA);

	setvbuf(stdout, NULL, _IOLBF, 0);
	fx.arena = arena;
	if (cpg_probe(&info, err, sizeof(err))) {
		printf("probe: %s\n", err);
		return;
	}
	printf("probe %u %s %s %s %u\n", info.node, info.name, info.addr, info.cluster,
		info.expected_nodes);
	cfg.self = (struct member_state){.node = info.node, .life = now_ns(), .port = 7660};
	snprintf(cfg.self.name, sizeof(cfg.self.name), "%s", info.name);
	member_init(&member, &cfg);
	if (cpg_open(&cpg, uuid, on_event, NULL, err, sizeof(err))) {
		printf("open: %s\n", err);
		return;
	}
	printf("open\n");
	/* The first STATE may have been asked for before cpg was set: the same view asks again. */
	while (fgets(line, sizeof(line), stdin)) {
		if (!strcmp(line, "rejoin\n"))
			cpg_rejoin(cpg);
		if (!strcmp(line, "send\n"))
			for (int i = 0; i < 300; i++) {
				char text[32];
				int n = snprintf(text, sizeof(text), "text%d", i);

				(void)cpg_send(cpg, text, (uint32_t)n);
			}
		if (!strcmp(line, "close\n"))
			break;
	}
	cpg_close(cpg);
	printf("closed\n");
}

/* ------------------------------------------------------------------ the test's side */

static struct seen {
	pid_t pid;
	int in, out;
	char buf[65536];
	size_t used;
} node[COROSYNC_NODES + 1];
static char history[1 << 20];
static size_t history_used;

static void spawn(struct seen *s, uint32_t n)
{
	s->used = 0;
	s->pid = corosync_spawn(n, agent, &s->in, &s->out);
}

static void reap(struct seen *s, int sig)
{
	/* 0 would be this whole group of processes, ctest with it. */
	assert_true(s->pid > 0);
	if (sig)
		kill(s->pid, sig);
	waitpid(s->pid, NULL, 0);
	close(s->in);
	close(s->out);
	s->pid = 0;
}

static bool next_line(struct seen *s, char *line, size_t line_bytes, uint64_t until)
{
	for (;;) {
		char *nl = memchr(s->buf, '\n', s->used);
		struct pollfd p = {.fd = s->out, .events = POLLIN};
		ssize_t n;

		if (nl) {
			size_t len = (size_t)(nl - s->buf);

			snprintf(line, line_bytes, "%.*s", (int)len, s->buf);
			s->used -= len + 1;
			memmove(s->buf, nl + 1, s->used);
			history_used += (size_t)snprintf(history + history_used,
				sizeof(history) - history_used, "%8llu node %d: %s\n",
				(unsigned long long)(now_ns() / NS_PER_MS % 10000000),
				(int)(s - node), line);
			return true;
		}
		if (now_ns() >= until || poll(&p, 1, 20) < 0)
			return false;
		if (!p.revents)
			continue;
		n = read(s->out, s->buf + s->used, sizeof(s->buf) - s->used);
		if (n <= 0)
			return false;
		s->used += (size_t)n;
	}
}

/* corosync takes a second or two; on a machine that is busy with builds more than 20 were seen. */
#define STEP_S 60

/*
 * The next line that begins so; those before it are passed over, but `never` must not be among
 * them.
 */
static void expect_before(uint32_t n, const char *begin, const char *never)
{
	uint64_t until = now_ns() + STEP_S * NS_PER_SEC;
	char line[512];

	while (next_line(&node[n], line, sizeof(line), until)) {
		if (!strncmp(line, begin, strlen(begin)))
			return;
		if (never && !strncmp(line, never, strlen(never))) {
			fprintf(stderr, "%snode %u: said \"%s\"\n", history, n, line);
			fail();
		}
	}
	fprintf(stderr, "%snode %u: never said \"%s\"\n", history, n, begin);
	fail();
}

static void expect(uint32_t n, const char *begin)
{
	expect_before(n, begin, NULL);
}

static void say(uint32_t n, const char *line)
{
	assert_int_equal(write(node[n].in, line, strlen(line)), (ssize_t)strlen(line));
}

static void without_corosync_the_probe_says_so(void **state)
{
	spawn(&node[1], 1);
	expect(1, "probe: corosync does not run on this node");
	reap(&node[1], 0);
}

static void three_daemons_agree_on_one_view(void **state)
{
	for (uint32_t i = 1; i <= COROSYNC_NODES; i++)
		corosync_start(i);
	usleep(1500000);
	for (uint32_t i = 1; i <= COROSYNC_NODES; i++) {
		char want[64];

		for (int again = 0; again < 100; again++) {
			char line[512];

			spawn(&node[i], i);
			if (next_line(&node[i], line, sizeof(line), now_ns() + 5 * NS_PER_SEC) &&
				!strncmp(line, "probe ", 6)) {
				snprintf(want, sizeof(want), "probe %u n%u 10.77.0.%u lab 3", i, i,
					i);
				assert_string_equal(line, want);
				break;
			}
			reap(&node[i], SIGKILL);
			usleep(100000);
		}
	}
	for (uint32_t i = 1; i <= COROSYNC_NODES; i++)
		expect(i, "view agreed 1 2 3");
}

static void messages_come_to_all_in_order(void **state)
{
	say(2, "send\n");
	for (uint32_t i = 1; i <= COROSYNC_NODES; i++)
		for (int k = 0; k < 300; k++) {
			char want[32], line[512];

			snprintf(want, sizeof(want), "msg 2 text%d", k);
			assert_true(next_line(
				&node[i], line, sizeof(line), now_ns() + 10 * NS_PER_SEC));
			assert_string_equal(line, want);
		}
}

static void a_second_daemon_of_the_node_is_refused(void **state)
{
	struct seen second;
	char line[512] = "";

	memset(&second, 0, sizeof(second));
	spawn(&second, 1);
	while (next_line(&second, line, sizeof(line), now_ns() + 10 * NS_PER_SEC))
		if (!strncmp(line, "open", 4))
			break;
	assert_string_equal(line, "open: another csvfs of this node has the volume mounted");
	reap(&second, 0);
}

static void a_killed_daemon_leaves_the_view_at_once(void **state)
{
	uint64_t at = now_ns();

	reap(&node[3], SIGKILL);
	expect(1, "view agreed 1 2");
	expect(2, "view agreed 1 2");
	assert_true(now_ns() - at < NS_PER_SEC);
	spawn(&node[3], 3);
	for (uint32_t i = 1; i <= COROSYNC_NODES; i++)
		expect(i, "view agreed 1 2 3");
}

static void a_cut_off_node_never_has_a_view_of_its_own(void **state)
{
	corosync_cut(3, true);
	expect(1, "view agreed 1 2 @");
	expect(2, "view agreed 1 2 @");
	/* Not even for a moment, under the name of the old ring. */
	expect_before(3, "view off 3 @3.", "view forming 3 @");
	corosync_cut(3, false);
	for (uint32_t i = 1; i <= COROSYNC_NODES; i++)
		expect(i, "view agreed 1 2 3 @");
}

static void a_corosync_that_dies_is_told_and_joined_again(void **state)
{
	corosync_kill(2);
	expect(2, "down");
	expect(1, "view agreed 1 3 @");
	say(2, "rejoin\n");
	expect(2, "down");
	corosync_start(2);
	for (int i = 0; i < 100; i++) {
		char line[512];
		bool in = false;

		say(2, "rejoin\n");
		while (next_line(&node[2], line, sizeof(line), now_ns() + NS_PER_SEC / 5))
			in |= !strncmp(line, "view agreed 1 2 3 @", 19);
		if (in)
			break;
		assert_true(i < 99);
	}
	expect(1, "view agreed 1 2 3 @");
	expect(3, "view agreed 1 2 3 @");
}

static void closing_leaves_the_group(void **state)
{
	say(1, "close\n");
	expect(1, "closed");
	reap(&node[1], 0);
	expect(2, "view agreed 2 3");
	for (uint32_t i = 2; i <= COROSYNC_NODES; i++)
		reap(&node[i], SIGKILL);
	if (getenv("CPG_HISTORY"))
		fputs(history, stderr);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_corosync_the_probe_says_so),
		cmocka_unit_test(three_daemons_agree_on_one_view),
		cmocka_unit_test(messages_come_to_all_in_order),
		cmocka_unit_test(a_second_daemon_of_the_node_is_refused),
		cmocka_unit_test(a_killed_daemon_leaves_the_view_at_once),
		cmocka_unit_test(a_cut_off_node_never_has_a_view_of_its_own),
		cmocka_unit_test(a_corosync_that_dies_is_told_and_joined_again),
		cmocka_unit_test(closing_leaves_the_group),
	};
	int failed;

	signal(SIGPIPE, SIG_IGN);
	if (!corosync_net_up()) {
		fprintf(stderr, "skipped: needs root, ip and corosync\n");
		corosync_net_down();
		return 77;
	}
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	corosync_net_down();
	return failed;
}
