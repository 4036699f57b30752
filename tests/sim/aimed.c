/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * aimed.c - faults that meet one moment, which all the others together meet too rarely. No seed draws them: --set NAME=1.
 *
 *   reboots	the coordinator's machine is lost, and back in the ring just when another one has begun to take over: some
 *		have both callbacks of the new ring by then, others only the first. No other faults. (With --well.)
 *   next_term	who is given up comes back when another term has begun that somebody was served in, and ends. (With
 *		--given-up.)
 *   unheard	a node without a path has one again, and tells it; nobody but itself gets that, since its network is cut at this
 *		moment, of which it learns late. What it writes then hangs in the target. No other faults.
 *   moves	the coordinator moves every four seconds, in the midst of what the scribes do with its edge ranges (edge.c). No
 *		other faults.
 *   dies_asking	a node hangs as it is asked for what it has, and while others wait for that one of them is lost; that is fenced, and
 *		then the first one wakes. There is one file, of which much is taken away. No other faults.
 *
 *   oversleeps	a node that has space in a file, and has not written there, hangs; the others write there, for which it is fenced. The
 *		first thing that happens as it wakes is that somebody reads that. No other faults.
 *
 *   silent	a node's daemon is stopped at the moment in which the coordinator's is killed, and what it has just written hangs in the target: it
 *		is heard of, so its registration stays, and does not answer in the new view. It goes on while the others reclaim. No
 *		other faults.
 *
 *   heirs	one node alone has a file, and dies while it writes there; what it has sent hangs in the target, which takes seconds to take
 *		its rights away. The others write there as soon as they know of it, and its next life with them. Or one process of each
 *		other node has read along, and more open the file then. No other faults.
 *
 *   dies_held	a node hangs as it is asked to forget what it knows of a file, and the daemon that wants to change the file is killed
 *		while it waits for that. No other faults.
 *
 *   lost_asks	a connection breaks when the coordinator is about to hear that somebody wants a layout to write.
 *		Of the scribes (edge.c) one writes, and opens its files again and again. No other faults.
 *
 *   drain_looks	the coordinator moves every second. Of the scribes (edge.c) one writes, and the others look names up. No other faults.
 *
 *   times	the same; of the seeds, a third each: the one that writes sets the times, it truncates in vain, the others exchange the names.
 *
 *   power	one node has no path from the beginning, and the SAN loses power when it was just told that something is durable. No other
 *		faults.
 *
 *   slow_release	the coordinator moves, its connections break, and the target is slow to take what it says in its claim. (With
 *		--well, or --cut-off.)
 *
 *   lone	one of two nodes goes and does not come back; the other one loses its path now and then, and no call takes longer than
 *		LONE_STALL_NS. Some targets replace its key as it logs in (one_nexus). No other faults.
 *
 *   long_cut	the coordinator is cut off for much longer than a fence takes, and has its path; the target refuses resets. No call on the
 *		others takes longer than LONG_CUT_STALL_NS. No other faults.
 *
 *   long_split	of two nodes the coordinator's daemon is killed, and they are parted at that moment, for much longer than a fence takes: both
 *		halves are quorate, and stand. The target refuses resets. One of them serves after LONG_SPLIT_STALL_NS. No other faults.
 *
 *   releases	of two nodes, or three, the coordinator moves, and is cut off when its claim is about to say so: nobody hears it. Its own
 *		corosync notices late. No other faults.
 *
 *   second_life	a node's daemon is killed, and back. Later all nodes are parted for a moment, of which this one learns late: in the ring
 *		that is whole again it is silent, and nobody hears it. No other faults.
 *
 *   carries	a node has no path, and the target holds what another one writes for it; then connections break, the carrier hangs (some
 *		with their path lost just before), or the coordinator moves or is lost; or the node itself is out of the ring for a
 *		moment, is told VOID, and its connection breaks then. Or what it is to write is late, and its connection ends meanwhile.
 *		No other faults.
 *   writes_on	one that is cut off, and has not learnt of it, does nothing but read and write, and wants that to be durable. (With
 *		--cut-off.)
 *
 * All is drawn from a generator of its own.
 */
#include <string.h>

#include "redirect/wire.h"
#include "tests/sim/sim.h"

#define HANGS_S 16u /* a carrier without a path */

static uint64_t adraw(struct sim *s, uint64_t n)
{
	return prng_below(&s->aimed.rng, n);
}

static struct snode *coordinator(struct sim *s)
{
	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		if (s->n[i].up && node_coordinates(s->n[i].core) && s->n[i].paused_until <= s->now_ns)
			return &s->n[i];
	}
	return NULL;
}

static bool all_up(const struct sim *s)
{
	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		if (!s->n[i].up)
			return false;
	}
	return true;
}

static void rings_form(struct sim *s, void *arg)
{
	(void)arg;
	cluster_change(s);
}

static void cut_ends(struct sim *s, void *arg)
{
	struct snode *n = arg;

	if (s->healing)
		return;
	sim_log(s, "node %u: its network is BACK", n->id);
	n->side = n->net_side = 0;
	cluster_change(s);
}

/* ------------------------------------------------------------------ reboots */

static void machine_back(struct sim *s, void *arg)
{
	struct snode *n = arg;

	if (n->coro.up || s->healing)
		return;
	sim_log(s, "node %u: its machine is BACK", n->id);
	cluster_start(s, n, false);
}

static void daemon_back(struct sim *s, void *arg)
{
	struct snode *n = arg;

	if (!n->up && !s->healing)
		node_start(s, n);
}

static void when_others_stand(struct sim *s, void *arg)
{
	struct snode *n = arg;

	if (n->coro.up || s->healing)
		return;
	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		if (!s->n[i].up || !node_is_candidate(s->n[i].core))
			continue;
		sim_at(s, s->now_ns + adraw(s, 12 * 1000) * 1000, machine_back, n);
		return;
	}
	sim_at(s, s->now_ns + 500 * 1000, when_others_stand, n);
}

static void reboots(struct sim *s, void *arg)
{
	struct snode *c = coordinator(s);

	(void)arg;
	if (s->healing)
		return;
	if (c && all_up(s)) {
		s->crashes++;
		node_crash(s, c);
		sim_at(s, s->now_ns + 500 * MS, rings_form, NULL);
		sim_at(s, s->now_ns + 500 * MS, when_others_stand, c);
		sim_at(s, s->now_ns + 4 * SEC + adraw(s, 2000) * MS, daemon_back, c);
	}
	sim_at(s, s->now_ns + 9 * SEC + adraw(s, 3000) * MS, reboots, NULL);
}

/* ------------------------------------------------------------------ next_term */

static void hands_over(struct sim *s, void *arg)
{
	struct snode *gone = arg, *c = coordinator(s), *to;
	struct ctl_request rq = {.op = CTL_MOVE};

	if (!c || s->healing)
		return;
	to = &s->n[1 + adraw(s, s->plan.nodes)];
	while (to == c || to == gone)
		to = &s->n[1 + to->id % s->plan.nodes];
	s->moves++;
	trace_format(rq.name, sizeof(rq.name), "%s", to->name);
	admin_ask(s, c, &rq);
}

static void connections_break(struct sim *s, void *arg)
{
	struct snode *c = arg;

	if (c->up && !s->healing)
		net_break_all(s, c);
}

static void moves_slowly(struct sim *s, void *arg)
{
	struct snode *c = coordinator(s);

	if (s->healing)
		return;
	if (c) {
		s->aimed.holds = c->id;
		s->aimed.holds_until = s->now_ns + 1500 * MS;
		if (s->plan.well)
			sim_at(s, s->now_ns + adraw(s, 500) * MS, connections_break, c);
		hands_over(s, arg);
	}
	if (s->plan.well)
		sim_at(s, s->now_ns + 3 * SEC + adraw(s, 3000) * MS, moves_slowly, arg);
}

uint64_t aimed_before_cut(struct sim *s, struct snode *n)
{
	if (!s->plan.slow_release || s->plan.nodes < 3)
		return 0;
	moves_slowly(s, n);
	sim_at(s, s->now_ns + 2 * SEC + adraw(s, 2000) * MS, moves_slowly, n);
	return 10 * MS + adraw(s, 200) * MS;
}

uint64_t aimed_cut_off(struct sim *s, struct snode *n, uint64_t back_ns)
{
	if (!s->plan.next_term || s->plan.nodes < 3)
		return back_ns;
	sim_at(s, s->now_ns + 3 * SEC + adraw(s, 2000) * MS, hands_over, n);
	return back_ns + 5 * SEC;
}

/* Not to the second node: what that one has, others are to be told. */
static void moves(struct sim *s, void *arg)
{
	if (s->healing)
		return;
	hands_over(s, arg);
	sim_at(s, s->now_ns + (s->plan.drain_looks || s->plan.times ? 1 : 4) * SEC + (s->plan.drain_looks || s->plan.times ? adraw(s, 200) * MS : 0), moves, arg);
}

/* ------------------------------------------------------------------ unheard */

static uint64_t holds_claim(struct sim *s, uint32_t node, uint64_t off)
{
	if (s->aimed.holds != node || s->now_ns >= s->aimed.holds_until || s->healing || off < BLOCK_SIZE || off >= 3 * BLOCK_SIZE)
		return 0;
	return 300 * MS + adraw(s, 1500) * MS;
}

static void loses_its_writes(struct sim *s, void *arg)
{
	struct snode *n = arg;

	load_node_evicted(s, n);
	edges_node_evicted(s, n);
	if (n->side == AIMED_SIDE)
		sim_at(s, s->now_ns + 100 * MS, loses_its_writes, n);
}

static void rejoins(struct sim *s, void *arg)
{
	struct snode *n = arg;

	n->side = n->net_side = 0;
	sim_log(s, "node %u is no longer cut off", n->id);
	cluster_change(s);
}

/* STATE, path coming: coordinator/PROTOCOL.md, "Messages". */
static bool tells_new_path(const uint8_t *bytes, uint32_t len)
{
	return len > 44 && bytes[5] == 1 && bytes[44] == 1;
}

bool aimed_unheard(struct sim *s, struct snode *n, const void *bytes, uint32_t len)
{
	if (s->aimed.node != n->id || !tells_new_path(bytes, len) || s->healing)
		return false;
	s->aimed.node = 0;
	s->partitions++;
	n->side = n->net_side = AIMED_SIDE;
	n->late_until = s->now_ns + 5 * SEC + adraw(s, 4000) * MS;
	s->aimed.holds = n->id;
	s->aimed.holds_until = s->now_ns + 3 * SEC;
	sim_log(s, "node %u tells of its path, is CUT OFF, and learns of it after %lu ms", n->id, n->late_until / MS);
	loses_its_writes(s, n);
	sim_at(s, s->now_ns + 50 * MS + adraw(s, 300) * MS, rings_form, NULL);
	sim_at(s, n->late_until + adraw(s, 3000) * MS, rejoins, n);
	return true;
}

/* ------------------------------------------------------------------ releases */

static void moves_away(struct sim *s, void *arg)
{
	(void)arg;
	if (s->healing)
		return;
	if (coordinator(s) && all_up(s)) {
		s->aimed.holds = coordinator(s)->id;
		hands_over(s, coordinator(s));
	}
	sim_at(s, s->now_ns + 20 * SEC + adraw(s, 3000) * MS, moves_away, NULL);
}

static void releases_unheard(struct sim *s, uint32_t node, uint64_t off)
{
	struct snode *n = &s->n[node];
	uint64_t formed_ns = s->now_ns + 2 * SEC + adraw(s, 2500) * MS;

	if (s->aimed.holds != node || s->healing || off < BLOCK_SIZE || off >= 3 * BLOCK_SIZE || node_office(n->core) != OFFICE_DRAINS)
		return;
	s->aimed.holds = 0;
	s->partitions++;
	sim_log(s, "node %u releases its claim, and is CUT OFF", n->id);
	n->side = n->net_side = 16 + n->id;
	n->late_until = formed_ns + adraw(s, 3000) * MS;
	load_node_evicted(s, n);
	edges_node_evicted(s, n);
	sim_at(s, formed_ns, rings_form, NULL);
	sim_at(s, n->late_until + 4 * SEC, cut_ends, n);
}

/* ------------------------------------------------------------------ second_life */

static void whole_again(struct sim *s, void *arg)
{
	struct snode *n = arg;

	if (s->healing)
		return;
	sim_log(s, "the ring is WHOLE, node %u learns of nothing until %lu ms", n->id, n->late_until / MS);
	for (uint32_t i = 1; i <= s->plan.nodes; i++)
		s->n[i].side = 0;
	cluster_change(s);
}

static void all_parted(struct sim *s, void *arg)
{
	struct snode *n = arg;
	uint64_t whole_ns = s->now_ns + 300 * MS + adraw(s, 400) * MS;

	if (s->healing || !coordinator(s) || coordinator(s) == n || !all_up(s))
		return;
	s->partitions++;
	sim_log(s, "all nodes are PARTED");
	for (uint32_t i = 1; i <= s->plan.nodes; i++)
		s->n[i].side = 16 + i;
	n->net_side = n->side;
	n->late_until = whole_ns + 4 * SEC + adraw(s, 3000) * MS;
	load_node_evicted(s, n);
	edges_node_evicted(s, n);
	cluster_change(s);
	sim_at(s, whole_ns, whole_again, n);
	sim_at(s, n->late_until, cut_ends, n);
}

static void second_life(struct sim *s, void *arg)
{
	struct snode *n = &s->n[1 + adraw(s, s->plan.nodes)];

	(void)arg;
	if (s->healing)
		return;
	sim_at(s, s->now_ns + 16 * SEC + adraw(s, 2000) * MS, second_life, NULL);
	if (!coordinator(s) || n == coordinator(s) || !all_up(s))
		return;
	s->crashes++;
	node_kill(s, n);
	sim_at(s, s->now_ns + SEC, daemon_back, n);
	sim_at(s, s->now_ns + 6 * SEC + adraw(s, 2000) * MS, all_parted, n);
}

/* ------------------------------------------------------------------ carries */

static void loses_path(struct sim *s, void *arg)
{
	struct snode *c = coordinator(s), *n = c ? &s->n[1 + c->id % s->plan.nodes] : NULL;

	if (s->healing)
		return;
	if (!n || !n->up) {
		sim_at(s, s->now_ns + SEC, loses_path, arg);
		return;
	}
	s->path_losses++;
	s->aimed.node = n->id;
	sim_log(s, "node %u: path CUT, for good", n->id);
	lun_cut(s, n);
}

/* The ring loses the node for a moment: its coordinator sees that, the carrier learns of it late, and it does not see itself alone. */
static void ring_back(struct sim *s, void *arg)
{
	struct snode *n = arg;

	n->side = 0;
	cluster_change(s);
}

static void void_breaks(struct sim *s, void *arg)
{
	net_break_between(s, s->aimed.node, ((struct snode *)arg)->id);
}

static void void_watch(struct sim *s, void *arg)
{
	struct snode *carrier = arg, *n = &s->n[s->aimed.node], *c = coordinator(s);

	if (s->healing || !n->up || !c || s->now_ns >= s->aimed.next_ns)
		return;
	if (node_evictions(n->core) == s->aimed.evictions) {
		sim_at(s, s->now_ns + 5 * MS, void_watch, carrier);
		return;
	}
	sim_log(s, "node %u has been told VOID, and its connection to node %u BREAKS", n->id, carrier->id);
	s->aimed.lags_to = c->id;
	s->aimed.lags_until = s->now_ns + 6 * SEC;
	sim_at(s, s->now_ns + 20 * MS, void_breaks, carrier);
}

static void leaves_for_a_moment(struct sim *s, struct snode *carrier)
{
	struct snode *n = &s->n[s->aimed.node];

	if (!n->up || n->side)
		return;
	s->ring_cuts++;
	s->aimed.evictions = node_evictions(n->core);
	sim_log(s, "node %u: corosync's network is CUT for a moment", n->id);
	n->side = 20;
	n->late_until = s->now_ns + 400 * MS;
	carrier->late_until = s->now_ns + 700 * MS;
	cluster_change(s);
	sim_at(s, s->now_ns + 300 * MS, ring_back, n);
	void_watch(s, carrier);
}

/* The connection over which it goes breaks, or the one that says so, or the coordinator moves or is lost as well. */
static void carrier_trouble(struct sim *s, void *arg)
{
	struct snode *carrier = arg, *c = coordinator(s);
	uint64_t kind = adraw(s, 7);

	if (s->healing || !c)
		return;
	if (kind && kind != 6)
		net_break_between(s, s->aimed.node, carrier->id);
	if (kind == 2 || !kind)
		net_break_between(s, c->id, carrier->id);
	if (kind == 3)
		hands_over(s, &s->n[s->aimed.node]);
	/* For longer than it is waited for. */
	if (kind == 5 && carrier->paused_until < s->now_ns) {
		s->hangs++;
		carrier->frozen = false;
		carrier->paused_until = carrier->woke_ns = s->now_ns + 12 * SEC + adraw(s, 3000) * MS;
		s->aimed.next_ns += 8 * SEC;
		sim_log(s, "node %u HANGS until %lu ms", carrier->id, carrier->paused_until / MS);
	}
	if (kind == 6)
		leaves_for_a_moment(s, carrier);
	if (kind == 4 && c != carrier && all_up(s)) {
		s->crashes++;
		node_crash(s, c);
		sim_at(s, s->now_ns + 500 * MS + adraw(s, 500) * MS, rings_form, NULL);
		sim_at(s, s->now_ns + 5 * SEC, machine_back, c);
		sim_at(s, s->now_ns + 5 * SEC + adraw(s, 1000) * MS, daemon_back, c);
	}
}

/* Its node is served without it. (What it holds itself waits for a recall's time.) */
static void goes_on(struct sim *s, void *arg)
{
	const struct snode *n = &s->n[s->aimed.node];

	(void)arg;
	if (!s->healing && n->up && !node_stands(n->core))
		sim_fail(s, "%s still waits for a carrier that hangs", n->name);
}

/* It has told that its path is gone, which is fenced then; and it says nothing more for long. */
static void stops(struct sim *s, void *arg)
{
	struct snode *carrier = arg;

	if (s->healing || !carrier->up)
		return;
	s->hangs++;
	carrier->frozen = false;
	carrier->paused_until = carrier->woke_ns = s->now_ns + HANGS_S * SEC;
	sim_log(s, "node %u HANGS until %lu ms", carrier->id, carrier->paused_until / MS);
	net_break_between(s, s->aimed.node, carrier->id);
	sim_at(s, carrier->paused_until - SEC, goes_on, NULL);
}

static void ends_half(struct sim *s, void *arg)
{
	const struct snode *carrier = arg;

	net_end_half(s, s->aimed.node, carrier->id);
}

uint64_t aimed_lags(struct sim *s, uint32_t from, uint32_t to)
{
	if (from != s->aimed.node || to != s->aimed.lags_to || s->now_ns >= s->aimed.lags_until)
		return 0;
	return 300 * MS + adraw(s, 900) * MS;
}

static void restored(struct sim *s, void *arg)
{
	if (!s->healing)
		lun_restore(s, arg);
}

static uint64_t holds_carried(struct sim *s, uint32_t node)
{
	if (s->healing || !s->aimed.node || node == s->aimed.node || s->now_ns < s->aimed.next_ns)
		return 0;
	s->aimed.next_ns = s->now_ns + 7 * SEC + adraw(s, 2000) * MS;
	if (!adraw(s, 3)) {
		sim_log(s, "node %u: what it is to carry is LATE", node);
		s->aimed.lags_to = node;
		s->aimed.lags_until = s->now_ns + 40 * MS;
		sim_at(s, s->now_ns + 50 * MS, ends_half, &s->n[node]);
		return 0;
	}
	sim_log(s, "node %u: a write that it carries is HELD", node);
	if (!adraw(s, 8)) {
		s->aimed.next_ns += HANGS_S * SEC;
		s->path_losses++;
		sim_log(s, "node %u: path CUT", node);
		lun_cut(s, &s->n[node]);
		sim_at(s, s->now_ns + 11 * MS, stops, &s->n[node]);
		sim_at(s, s->now_ns + (HANGS_S + 1) * SEC, restored, &s->n[node]);
		return 30 * SEC;
	}
	sim_at(s, s->now_ns + 1 * MS, carrier_trouble, &s->n[node]);
	return 500 * MS + adraw(s, 3400) * MS;
}

/* What was written in the moments before it is stopped lands up to a second after it has gone on. */
static uint64_t holds_of_silent(struct sim *s, uint32_t node)
{
	uint64_t wakes_ns = s->aimed.wakes_ns;

	if (s->healing || node != s->aimed.holds || s->now_ns + 40 * MS < s->aimed.hangs_ns || s->now_ns > wakes_ns + 20 * MS)
		return 0;
	return (wakes_ns > s->now_ns ? wakes_ns - s->now_ns : 0) + 20 * MS + adraw(s, 1000) * MS;
}

uint64_t aimed_holds(struct sim *s, uint32_t node, uint64_t off, bool carried)
{
	if (s->plan.slow_release)
		return holds_claim(s, node, off);
	if (s->plan.releases) {
		releases_unheard(s, node, off);
		return 0;
	}
	if (s->plan.carries)
		return carried ? holds_carried(s, node) : 0;
	if (s->plan.silent)
		return holds_of_silent(s, node);
	if (s->aimed.holds != node || s->now_ns >= s->aimed.holds_until || s->healing || adraw(s, 2))
		return 0;
	return 2 * SEC + adraw(s, 5000) * MS;
}

static void path_back(struct sim *s, void *arg)
{
	struct snode *n = arg;

	if (!n->path_cut || s->healing)
		return;
	sim_log(s, "node %u: path RESTORED", n->id);
	s->aimed.node = n->id;
	lun_restore(s, n);
}

static void unheard(struct sim *s, void *arg)
{
	struct snode *n = &s->n[1 + adraw(s, s->plan.nodes)];

	(void)arg;
	/* Its corosync is late for longer than anybody can heal it: what is begun has to end before all leave. */
	if (s->healing || s->now_ns + 30 * SEC > s->plan.safety_ns)
		return;
	if (!node_coordinates(n->core) && !n->path_cut) {
		s->path_losses++;
		sim_log(s, "node %u: path CUT", n->id);
		lun_cut(s, n);
		sim_at(s, s->now_ns + 6 * SEC + adraw(s, 3000) * MS, path_back, n);
	}
	sim_at(s, s->now_ns + 25 * SEC, unheard, NULL);
}

/* ------------------------------------------------------------------ dies_asking */

static void dies(struct sim *s, void *arg)
{
	struct snode *n = arg;

	if (!n->up || s->healing || node_coordinates(n->core))
		return;
	s->crashes++;
	node_crash(s, n);
	sim_at(s, s->now_ns + 500 * MS + adraw(s, 800) * MS, rings_form, NULL);
	sim_at(s, s->now_ns + 6 * SEC, machine_back, n);
	sim_at(s, s->now_ns + 6 * SEC + adraw(s, 1000) * MS, daemon_back, n);
}

void aimed_recalled(struct sim *s, struct snode *has)
{
	uint64_t asks_ns = 150 * MS + adraw(s, 300) * MS;
	struct snode *c = coordinator(s), *asks;

	if (s->healing || !c || !all_up(s) || s->now_ns < s->aimed.next_ns)
		return;
	s->aimed.next_ns = s->now_ns + 9 * SEC + adraw(s, 2000) * MS;
	s->hangs++;
	has->frozen = false;
	has->paused_until = has->woke_ns = s->now_ns + asks_ns + 1300 * MS + adraw(s, 1200) * MS;
	sim_log(s, "node %u HANGS until %lu ms", has->id, has->paused_until / MS);
	s->aimed.hangs_ns = s->now_ns;
	s->aimed.wakes_ns = has->paused_until;
	asks = &s->n[1 + has->id % s->plan.nodes];
	if (asks == c)
		asks = &s->n[1 + c->id % s->plan.nodes];
	s->aimed.asks = asks->id;
	sim_at(s, s->now_ns + asks_ns, dies, asks);
}

/* ------------------------------------------------------------------ oversleeps */

static void falls_asleep(struct sim *s, void *arg)
{
	struct snode *n = arg;

	if (!n->up || s->healing || node_coordinates(n->core) || n->paused_until > s->now_ns) {
		s->aimed.wakes_ns = 0;
		return;
	}
	s->hangs++;
	n->frozen = false;
	n->paused_until = n->woke_ns = s->aimed.wakes_ns;
	sim_log(s, "node %u HANGS until %lu ms", n->id, n->paused_until / MS);
}

static void oversleeps(struct sim *s, void *arg)
{
	struct snode *n = &s->n[1 + adraw(s, s->plan.nodes)];

	(void)arg;
	if (s->healing)
		return;
	sim_at(s, s->now_ns + 18 * SEC + adraw(s, 2000) * MS, oversleeps, NULL);
	if (!coordinator(s) || n == coordinator(s) || !all_up(s))
		return;
	s->aimed.asks = n->id;
	s->aimed.owns = 0;
	s->aimed.hangs_ns = s->now_ns + 600 * MS;
	s->aimed.wakes_ns = s->aimed.hangs_ns + 11 * SEC + adraw(s, 3000) * MS;
	sim_at(s, s->aimed.hangs_ns, falls_asleep, n);
}

/* ------------------------------------------------------------------ silent */

static void is_stopped(struct sim *s, void *arg)
{
	struct snode *c = coordinator(s), *n = arg;

	if (s->healing || !c || c == n || !all_up(s) || n->paused_until > s->now_ns) {
		s->aimed.holds = 0;
		return;
	}
	s->hangs++;
	s->crashes++;
	n->frozen = false;
	n->paused_until = n->woke_ns = s->aimed.wakes_ns;
	load_node_evicted(s, n);
	sim_log(s, "node %u HANGS until %lu ms", n->id, n->paused_until / MS);
	node_kill(s, c);
	sim_at(s, s->now_ns + 8 * SEC, daemon_back, c);
}

static void silent(struct sim *s, void *arg)
{
	struct snode *n = &s->n[1 + adraw(s, s->plan.nodes)];

	(void)arg;
	if (s->healing)
		return;
	sim_at(s, s->now_ns + 14 * SEC + adraw(s, 2000) * MS, silent, NULL);
	if (!coordinator(s) || n == coordinator(s) || !all_up(s))
		return;
	s->aimed.holds = n->id;
	s->aimed.hangs_ns = s->now_ns + 60 * MS;
	s->aimed.wakes_ns = s->aimed.hangs_ns + 2150 * MS + adraw(s, 800) * MS;
	sim_at(s, s->aimed.hangs_ns, is_stopped, n);
}

/* ------------------------------------------------------------------ heirs */

static void leaves_heirs(struct sim *s, void *arg)
{
	struct snode *n = arg;

	if (!n->up || s->healing)
		return;
	s->crashes++;
	if (adraw(s, 2))
		node_kill(s, n);
	else
		node_crash(s, n);
	sim_at(s, s->now_ns + 200 * MS + adraw(s, 5000) * MS, daemon_back, n);
}

static void heirs(struct sim *s, void *arg)
{
	struct snode *n = &s->n[1 + adraw(s, s->plan.nodes)];

	(void)arg;
	if (s->healing)
		return;
	sim_at(s, s->now_ns + 12 * SEC + adraw(s, 2000) * MS, heirs, NULL);
	if (!coordinator(s) || !all_up(s))
		return;
	s->aimed.asks = n->id;
	s->aimed.hangs_ns = s->now_ns + 1 * SEC + adraw(s, 1000) * MS;
	s->aimed.watched = adraw(s, 2);
	sim_at(s, s->aimed.hangs_ns, leaves_heirs, n);
}

/* ------------------------------------------------------------------ lost_asks */

bool aimed_loses_ask(struct sim *s, const struct msg *m)
{
	return !s->healing && m->request.op == FS_LAYOUT_GET && (m->request.flags & FS_LAYOUT_WRITE) && !adraw(s, 3);
}

/* ------------------------------------------------------------------ dies_held */

static void is_killed(struct sim *s, void *arg)
{
	struct snode *n = arg;

	if (!n->up || s->healing || node_coordinates(n->core))
		return;
	s->crashes++;
	node_kill(s, n);
	sim_at(s, s->now_ns + 5 * SEC, daemon_back, n);
}

void aimed_forgets(struct sim *s, struct snode *has)
{
	struct snode *c = coordinator(s);
	uint32_t asks = c ? leases_changer(s, c->id, has->id) : 0;

	if (s->healing || !asks || !all_up(s) || s->now_ns < s->aimed.next_ns)
		return;
	s->aimed.next_ns = s->now_ns + 9 * SEC + adraw(s, 2000) * MS;
	s->hangs++;
	has->frozen = false;
	has->paused_until = has->woke_ns = s->now_ns + 2500 * MS;
	sim_log(s, "node %u HANGS until %lu ms", has->id, has->paused_until / MS);
	sim_at(s, s->now_ns + 20 * MS + adraw(s, 100) * MS, is_killed, &s->n[asks]);
}

/* ------------------------------------------------------------------ power */

void aimed_paths(struct sim *s)
{
	if (s->plan.power)
		s->n[s->plan.nodes].path_cut = true;
}

static void loses_power(struct sim *s, void *arg)
{
	(void)arg;
	if (s->healing)
		return;
	s->san_losses++;
	sim_log(s, "the SAN loses POWER");
	lun_power_loss(s);
}

void aimed_synced(struct sim *s, const struct snode *n)
{
	if (n->id != s->plan.nodes || !n->path_cut || s->now_ns < s->aimed.next_ns)
		return;
	s->aimed.next_ns = s->now_ns + 6 * SEC;
	sim_at(s, s->now_ns + 1, loses_power, NULL);
}

/* ------------------------------------------------------------------ lone */

static void lone_path_back(struct sim *s, void *arg)
{
	struct snode *n = arg;

	if (!s->healing)
		lun_restore(s, n);
}

static void path_blips(struct sim *s, void *arg)
{
	struct snode *n = arg;

	if (s->healing)
		return;
	s->aimed.alone_ns = s->now_ns;
	if (n->up && !n->path_cut) {
		s->path_losses++;
		sim_log(s, "node %u: path CUT", n->id);
		lun_cut(s, n);
		sim_at(s, s->now_ns + 100 * MS + adraw(s, 400) * MS, lone_path_back, n);
	}
	sim_at(s, s->now_ns + 20 * SEC + adraw(s, 5000) * MS, path_blips, n);
}

static void goes_for_good(struct sim *s, void *arg)
{
	struct snode *n = &s->n[1 + adraw(s, 2)];

	(void)arg;
	s->crashes++;
	node_crash(s, n);
	sim_at(s, s->now_ns + 15 * SEC, path_blips, &s->n[3 - n->id]);
}

/* ------------------------------------------------------------------ long_cut */

static void long_cut(struct sim *s, void *arg)
{
	struct snode *n = coordinator(s);

	(void)arg;
	if (!n) {
		sim_at(s, s->now_ns + 500 * MS, long_cut, NULL);
		return;
	}
	s->partitions++;
	s->aimed.cut = n->id;
	s->aimed.cut_ns = s->now_ns;
	sim_log(s, "node %u is CUT OFF", n->id);
	n->side = n->net_side = 16 + n->id;
	load_node_evicted(s, n);
	edges_node_evicted(s, n);
	sim_at(s, s->now_ns + SEC + adraw(s, 500) * MS, rings_form, NULL);
	sim_at(s, s->now_ns + 2 * LONG_CUT_STALL_NS + adraw(s, 10000) * MS, cut_ends, n);
}

/* ------------------------------------------------------------------ long_split */

static void one_serves(struct sim *s, void *arg)
{
	(void)arg;
	if (s->healing)
		return;
	for (uint32_t i = 1; i <= s->plan.nodes; i++)
		if (s->n[i].up && node_office(s->n[i].core) == OFFICE_SERVES)
			return;
	sim_fail(s, "two halves, and neither serves after %lu s", (s->now_ns - s->aimed.next_ns) / SEC);
}

static void long_split(struct sim *s, void *arg)
{
	struct snode *n = coordinator(s);

	(void)arg;
	if (!n) {
		sim_at(s, s->now_ns + 500 * MS, long_split, NULL);
		return;
	}
	s->partitions++;
	s->aimed.next_ns = s->now_ns;
	sim_log(s, "the nodes are PARTED");
	n->side = n->net_side = 16 + n->id;
	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		load_node_evicted(s, &s->n[i]);
		edges_node_evicted(s, &s->n[i]);
	}
	node_kill(s, n);
	cluster_change(s);
	sim_at(s, s->now_ns + adraw(s, 6000) * MS, daemon_back, n);
	for (uint32_t i = 0; i < 8; i++)
		sim_at(s, s->now_ns + LONG_SPLIT_STALL_NS + i * 5 * SEC, one_serves, NULL);
	sim_at(s, s->now_ns + LONG_SPLIT_STALL_NS + 60 * SEC, cut_ends, n);
}

/* ------------------------------------------------------------------ all */

void aimed_plan(struct sim_plan *p)
{
	if (!p->unheard && !p->reboots && !p->moves && !p->dies_asking && !p->lost_asks && !p->carries && !p->dies_held && !p->drain_looks && !p->times &&
		!p->power && !p->oversleeps && !p->lone && !p->silent && !p->heirs && !p->long_cut && !p->long_split && !p->releases && !p->second_life)
		return;
	p->crash = p->daemon_kill = p->pause = p->path_loss = p->partition = p->move = p->late_writes = p->san_loss = false;
	p->net_break = p->hang = p->port_cut = p->slow_lun = p->flap = p->coro_restart = p->ring_cut = false;
	p->hostile = p->slow_net = p->ctl = p->media = p->busy = p->fabric = p->bulk = p->crowd = p->alone = p->image = false;
	p->only_harmless = p->only_hangs = p->tight = false;
	p->nodes = p->nodes < 3 ? 3 : p->nodes;
	p->hold_ns = 0;
	p->scribes |= p->unheard || p->moves || p->lost_asks || p->drain_looks || p->times;
	p->safety_ns = 60 * SEC;
	if (p->carries) {
		p->elsewhere = true;
		p->nodes = 4;
		p->clients = 3;
		p->files = 1;
	}
	if (p->power)
		p->write_cache = p->san_loss = true;
	if (p->silent)
		p->nodes = 4;
	if (p->heirs) {
		p->late_writes = true;
		p->files = 2;
		p->clients = 3;
	}
	if (p->lone) {
		p->nodes = 2;
		p->safety_ns = 120 * SEC;
	}
	if (p->second_life)
		p->lockers = 2;
	if (p->releases)
		p->nodes = p->clients & 1 ? 2 : 3;
	if (p->long_cut) {
		p->no_reset = true;
		p->safety_ns = 130 * SEC;
	}
	if (p->long_split) {
		p->no_reset = true;
		p->nodes = 2;
		p->safety_ns = 180 * SEC;
	}
	if (p->dies_held) {
		p->nodes = 4;
		p->watchers = 2;
		p->porters = p->scribes = false;
	}
	if (!p->dies_asking && !p->oversleeps)
		return;
	p->nodes = 4;
	p->clients = 3;
	p->files = 1;
	p->zeroing = true;
	p->porters = p->scribes = false;
}

void aimed_start(struct sim *s)
{
	s->aimed.rng.s = s->seed * 0xe7037ed1a0b428dbull + 17;
	if (s->plan.reboots)
		sim_at(s, s->now_ns + 4 * SEC, reboots, NULL);
	if (s->plan.moves || s->plan.drain_looks || s->plan.times)
		sim_at(s, 6 * SEC, moves, &s->n[2]);
	s->aimed.next_ns = 4 * SEC;
	if (s->plan.slow_release && s->plan.well && s->plan.nodes > 2)
		sim_at(s, 4 * SEC, moves_slowly, &s->n[2]);
	if (s->plan.carries)
		sim_at(s, 3 * SEC, loses_path, NULL);
	if (s->plan.unheard)
		sim_at(s, s->now_ns + 3 * SEC, unheard, NULL);
	if (s->plan.oversleeps)
		sim_at(s, 3 * SEC, oversleeps, NULL);
	if (s->plan.silent)
		sim_at(s, 6 * SEC, silent, NULL);
	if (s->plan.heirs) {
		s->plan.slow_fence = true;
		sim_at(s, 4 * SEC, heirs, NULL);
	}
	if (s->plan.long_cut)
		sim_at(s, 4 * SEC + adraw(s, 4000) * MS, long_cut, NULL);
	if (s->plan.long_split)
		sim_at(s, 4 * SEC + adraw(s, 4000) * MS, long_split, NULL);
	if (s->plan.releases)
		sim_at(s, 8 * SEC, moves_away, NULL);
	if (s->plan.second_life)
		sim_at(s, 5 * SEC, second_life, NULL);
	if (s->plan.lone) {
		s->plan.one_nexus |= s->seed & 1;
		sim_at(s, 4 * SEC, goes_for_good, NULL);
	}
}
