/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is the simulator's corosync (tests/sim/cluster.c) like the real one? One script, step by step, on the model and
 * on three real corosyncs. Each step says what every daemon has been told when it is over: the group, the quorum,
 * whether the ring is a new one, and the messages. What must hold always is checked in both: see told_alike().
 */
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
#include "tests/shell/corosync.h"
#include "tests/sim/sim.h"

#define NODES COROSYNC_NODES

/* What a daemon has been told since the script began; texts of this step only. */
struct told {
	bool runs, down;
	uint32_t group, quorum; /* a bit for each node */
	bool quorate;
	uint64_t group_ring, quorum_ring; /* sequence << 8 | node */
	char texts[256];
};
static struct told told[NODES + 1];

static uint32_t mask_of(const struct cpg_conf *c)
{
	uint32_t mask = 0;

	for (uint32_t i = 0; i < c->member_count; i++)
		mask |= 1u << c->members[i];
	return mask;
}

static void tell_conf(uint32_t node, bool quorum, uint64_t ring, uint32_t mask, bool quorate)
{
	struct told *t = &told[node];

	t->down = false;
	if (quorum) {
		t->quorum = mask;
		t->quorum_ring = ring;
		t->quorate = quorate;
	} else {
		t->group = mask;
		t->group_ring = ring;
	}
}

static void tell_text(uint32_t node, uint32_t from, const char *text)
{
	size_t at = strlen(told[node].texts);

	snprintf(told[node].texts + at, sizeof(told[node].texts) - at, "%u%s ", from, text);
}

static void tell_down(uint32_t node)
{
	told[node].down = true;
	told[node].group = told[node].quorum = 0;
	told[node].quorate = false;
}

/* ------------------------------------------------------------------ the model, with nobody around it */

static struct sim S;

void sim_log(struct sim *s, const char *fmt, ...)
{
	(void)s;
	(void)fmt;
}

bool aimed_unheard(struct sim *s, struct snode *n, const void *bytes, uint32_t len)
{
	(void)s;
	(void)n;
	(void)bytes;
	(void)len;
	return false;
}

void *sim_alloc(struct sim *s, size_t bytes)
{
	(void)s;
	return calloc(1, bytes);
}

void sim_free(void *p)
{
	free(p);
}

void node_feed(struct sim *s, struct snode *n, struct event *ev)
{
	(void)s;
	if (ev->type == EV_CPG_CONF || ev->type == EV_QUORUM) {
		tell_conf(n->id, ev->type == EV_QUORUM, ev->conf.ring_seq << 8 | ev->conf.ring_node,
			mask_of(&ev->conf), ev->conf.quorate);
	} else if (ev->type == EV_CPG_MSG) {
		char text[32];

		snprintf(text, sizeof(text), "%.*s", (int)ev->msg.len, (const char *)ev->msg.bytes);
		tell_text(n->id, ev->msg.node, text);
	} else if (ev->type == EV_CPG_DOWN) {
		tell_down(n->id);
	}
}

/* ------------------------------------------------------------------ the steps */

enum what { START, KILL, LEAVE, SEND, CUT, HEAL, CORO_DIES, CORO_BACK };

static void model_step(enum what what, uint32_t node)
{
	struct snode *n = &S.n[node];
	char text[8];

	switch (what) {
	case START:
		n->up = true;
		n->life_nr++;
		cluster_start(&S, n, false);
		cluster_join(&S, n);
		break;
	case KILL:
	case LEAVE:
		cluster_leave(&S, n, n->life_nr);
		n->up = false;
		n->life_nr++;
		break;
	case SEND:
		for (int i = 0; i < 3; i++)
			cluster_send(
				&S, n, text, (uint32_t)snprintf(text, sizeof(text), "%c", 'a' + i));
		break;
	case CUT:
		n->side = node;
		cluster_change(&S);
		break;
	case HEAL:
		n->side = 0;
		cluster_change(&S);
		break;
	case CORO_DIES:
		cluster_stop(&S, n);
		cluster_change(&S);
		break;
	case CORO_BACK:
		cluster_start(&S, n, true);
		cluster_join(&S, n);
		break;
	}
	while (sim_run_one(&S))
		;
}

static void model_begin(void)
{
	memset(&S, 0, sizeof(S));
	S.plan.nodes = NODES;
	for (uint32_t i = 1; i <= NODES; i++) {
		S.n[i].id = i;
		cluster_start(&S, &S.n[i], false);
	}
}

/* ------------------------------------------------------------------ the real one */

static struct agent {
	pid_t pid;
	int in, out;
	char buf[4096];
	size_t used;
} agents[NODES + 1];

static void say_conf(char kind, const struct cpg_conf *c)
{
	printf("%c %llu %u %d\n", kind, (unsigned long long)(c->ring_seq << 8 | c->ring_node),
		mask_of(c), c->quorate);
}

static void on_event(void *ctx, const struct event *ev)
{
	(void)ctx;
	if (ev->type == EV_CPG_CONF)
		say_conf('g', &ev->conf);
	else if (ev->type == EV_QUORUM)
		say_conf('q', &ev->conf);
	else if (ev->type == EV_CPG_DOWN)
		printf("d\n");
	else if (ev->type == EV_CPG_MSG)
		printf("m %u %.*s\n", ev->msg.node, (int)ev->msg.len, (const char *)ev->msg.bytes);
}

/* On the node. It ends with its standard input. */
static void daemon_of(uint32_t node)
{
	static const uint8_t uuid[16] = {4, 5, 6};
	struct cpg *cpg;
	char line[16], err[160];
	int again = 100;

	(void)node;
	setvbuf(stdout, NULL, _IOLBF, 0);
	while (cpg_open(&cpg, uuid, on_event, NULL, err, sizeof(err))) {
		if (!again--) {
			printf("e %s\n", err);
			return;
		}
		usleep(100000);
	}
	while (fgets(line, sizeof(line), stdin)) {
		if (line[0] == 'j')
			cpg_rejoin(cpg);
		for (int i = 0; line[0] == 's' && i < 3; i++)
			(void)cpg_send(cpg, &"abc"[i], 1);
	}
	cpg_close(cpg);
}

static void hear(uint32_t node, const char *line)
{
	unsigned long long ring;
	unsigned mask, from;
	char text[16];
	int quorate;

	if (sscanf(line + 1, "%llu %u %d", &ring, &mask, &quorate) == 3 && strchr("gq", line[0]))
		tell_conf(node, line[0] == 'q', ring, mask, quorate);
	else if (sscanf(line, "m %u %15s", &from, text) == 2)
		tell_text(node, from, text);
	else if (line[0] == 'd')
		tell_down(node);
	else
		fail_msg("node %u says: %s", node, line);
}

static void hear_all(int wait_ms)
{
	struct pollfd p[NODES + 1];

	for (uint32_t i = 1; i <= NODES; i++)
		p[i] = (struct pollfd){.fd = agents[i].pid ? agents[i].out : -1, .events = POLLIN};
	if (poll(p + 1, NODES, wait_ms) <= 0)
		return;
	for (uint32_t i = 1; i <= NODES; i++) {
		struct agent *a = &agents[i];
		ssize_t n;
		char *nl;

		if (!(p[i].revents & POLLIN))
			continue;
		n = read(a->out, a->buf + a->used, sizeof(a->buf) - 1 - a->used);
		if (n <= 0)
			continue;
		a->used += (size_t)n;
		a->buf[a->used] = 0;
		while ((nl = strchr(a->buf, '\n'))) {
			*nl = 0;
			hear(i, a->buf);
			a->used -= (size_t)(nl + 1 - a->buf);
			memmove(a->buf, nl + 1, a->used + 1);
		}
	}
}

static void end_agent(struct agent *a, int sig)
{
	if (sig)
		kill(a->pid, sig);
	close(a->in);
	waitpid(a->pid, NULL, 0);
	close(a->out);
	memset(a, 0, sizeof(*a));
}

static void say(uint32_t node, const char *line)
{
	assert_int_equal(write(agents[node].in, line, strlen(line)), (ssize_t)strlen(line));
}

static void real_step(enum what what, uint32_t node)
{
	struct agent *a = &agents[node];

	switch (what) {
	case START:
		a->pid = corosync_spawn(node, daemon_of, &a->in, &a->out);
		break;
	case KILL:
		end_agent(a, SIGKILL);
		break;
	case LEAVE:
		end_agent(a, 0);
		break;
	case SEND:
		say(node, "s\n");
		break;
	case CUT:
	case HEAL:
		corosync_cut(node, what == CUT);
		break;
	case CORO_DIES:
		corosync_kill(node);
		break;
	case CORO_BACK:
		corosync_start(node);
		break;
	}
}

/* ------------------------------------------------------------------ the script */

#define N(a) (1u << (a))
#define N12 (N(1) | N(2))
#define N13 (N(1) | N(3))
#define N23 (N(2) | N(3))
#define ALL (N(1) | N(2) | N(3))

static const struct step {
	const char *says;
	enum what what;
	uint32_t node;
	uint32_t group[NODES]; /* as each daemon knows it; 0: it does not run, or has no corosync */
	uint32_t quorum[NODES];
	uint32_t fresh; /* nodes whose ring is new */
	const char *texts; /* that every daemon of the sender's group was told */
} script[] = {
	{"a daemon alone in a cluster of three is quorate", START, 1, {N(1)}, {ALL}, ALL, ""},
	{"the second one changes the group, and no ring", START, 2, {N12, N12}, {ALL, ALL}, 0, ""},
	{"nor does the third", START, 3, {ALL, ALL, ALL}, {ALL, ALL, ALL}, 0, ""},
	{"messages come to all", SEND, 2, {ALL, ALL, ALL}, {ALL, ALL, ALL}, 0, "2a 2b 2c "},
	{"a killed daemon leaves the group, its node stays", KILL, 3, {N12, N12}, {ALL, ALL}, 0,
		""},
	{"so the last one is quorate alone", LEAVE, 2, {N(1)}, {ALL}, 0, ""},
	{"one comes back", START, 2, {N12, N12}, {ALL, ALL}, 0, ""},
	{"and the other", START, 3, {ALL, ALL, ALL}, {ALL, ALL, ALL}, 0, ""},
	{"who is cut off has a ring of its own, not quorate", CUT, 3, {N12, N12, N(3)},
		{N12, N12, N(3)}, ALL, ""},
	{"the others go on", SEND, 1, {N12, N12, N(3)}, {N12, N12, N(3)}, 0, "1a 1b 1c "},
	{"it speaks to itself", SEND, 3, {N12, N12, N(3)}, {N12, N12, N(3)}, 0, "3a 3b 3c "},
	{"joined again they have a new ring", HEAL, 3, {ALL, ALL, ALL}, {ALL, ALL, ALL}, ALL, ""},
	{"corosync dies under a daemon", CORO_DIES, 2, {N13, 0, N13}, {N13, 0, N13}, N13, ""},
	{"and comes back: the daemon joins again", CORO_BACK, 2, {ALL, ALL, ALL}, {ALL, ALL, ALL},
		ALL, ""},
	{"messages come to all", SEND, 2, {ALL, ALL, ALL}, {ALL, ALL, ALL}, 0, "2a 2b 2c "},
};
#define STEPS (sizeof(script) / sizeof(script[0]))

static bool quorate_with(uint32_t mask)
{
	return 2 * __builtin_popcount(mask) > NODES;
}

/* NULL: all have been told what the step says. Else what is missing. */
static const char *not_yet(const struct step *st, const uint64_t *rings)
{
	static char why[128];

	for (uint32_t i = 1; i <= NODES; i++) {
		const struct told *t = &told[i];
		const char *is = NULL;

		if (!t->runs)
			continue;
		if (t->group != st->group[i - 1])
			is = "another group";
		else if (t->quorum != st->quorum[i - 1])
			is = "another quorum";
		else if (t->group && t->quorate != quorate_with(t->quorum))
			is = "wrong about being quorate";
		else if (t->group && t->group_ring != t->quorum_ring)
			is = "told of two rings";
		else if (t->group && (st->fresh & N(i)) && t->group_ring <= rings[i])
			is = "in no newer ring";
		else if (t->group && rings[i] && !(st->fresh & N(i)) && t->group_ring != rings[i])
			is = "in another ring";
		else if (strcmp(t->texts,
				 st->what == SEND && (t->group & N(st->node)) ? st->texts : ""))
			is = "told other messages";
		if (!is)
			continue;
		snprintf(why, sizeof(why),
			"node %u is %s (group %x, quorum %x%s, ring %llx, texts '%s')", i, is,
			t->group, t->quorum, t->quorate ? " yes" : "",
			(unsigned long long)t->group_ring, t->texts);
		return why;
	}
	return NULL;
}

/* Always: of one ring all daemons know one group, and the ring bears the name of its lowest node. */
static void told_alike(const char *says)
{
	for (uint32_t i = 1; i <= NODES; i++) {
		for (uint32_t j = 1; j < i; j++) {
			if (told[i].runs && told[j].runs && told[i].group && told[j].group &&
				told[i].group_ring == told[j].group_ring &&
				told[i].group != told[j].group)
				fail_msg("%s: nodes %u and %u know two groups in one ring", says, i,
					j);
		}
		if (told[i].runs && told[i].group &&
			(told[i].group_ring & 255) != (uint64_t)__builtin_ctz(told[i].quorum))
			fail_msg("%s: node %u: the ring is not named after its lowest node", says,
				i);
	}
}

static void run_script(void (*step)(enum what, uint32_t), bool real)
{
	uint64_t rings[NODES + 1];

	memset(told, 0, sizeof(told));
	for (uint32_t k = 0; k < STEPS; k++) {
		const struct step *st = &script[k];
		time_t end = time(NULL) + 60; /* corosync under load */
		const char *why;

		for (uint32_t i = 1; i <= NODES; i++) {
			rings[i] = told[i].runs ? told[i].group_ring : 0;
			told[i].texts[0] = 0;
		}
		if (st->what == START)
			memset(&told[st->node], 0, sizeof(told[0]));
		if (st->what == START || st->what == KILL || st->what == LEAVE)
			told[st->node].runs = st->what == START;
		step(st->what, st->node);
		while ((why = not_yet(st, rings)) && real && time(NULL) < end) {
			hear_all(100);
			/* As coordinator/member.c does when it is told that corosync is down. */
			if (st->what == CORO_BACK && told[st->node].down)
				say(st->node, "j\n");
		}
		/* And nothing that contradicts it comes later. */
		for (int i = 0; real && i < 3; i++)
			hear_all(50);
		why = not_yet(st, rings);
		if (why)
			fail_msg("%s, step %u, \"%s\": %s", real ? "corosync" : "model", k,
				st->says, why);
		told_alike(st->says);
	}
}

static void the_model_tells_so(void **state)
{
	(void)state;
	model_begin();
	run_script(model_step, false);
	free(S.heap);
}

static void real_corosyncs_tell_so(void **state)
{
	(void)state;
	for (uint32_t i = 1; i <= NODES; i++)
		corosync_start(i);
	usleep(3000000); /* they find each other before the first daemon starts */
	run_script(real_step, true);
	for (uint32_t i = 1; i <= NODES; i++)
		end_agent(&agents[i], SIGKILL);
}

int main(void)
{
	const struct CMUnitTest model[] = {cmocka_unit_test(the_model_tells_so)};
	const struct CMUnitTest real[] = {cmocka_unit_test(real_corosyncs_tell_so)};
	int failed = cmocka_run_group_tests(model, NULL, NULL);

	signal(SIGPIPE, SIG_IGN);
	if (!corosync_net_up()) {
		fprintf(stderr, "skipped: needs root, ip and corosync\n");
		corosync_net_down();
		return failed ? failed : 77;
	}
	failed += cmocka_run_group_tests(real, NULL, NULL);
	corosync_net_down();
	return failed;
}
