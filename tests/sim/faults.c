/* SPDX-License-Identifier: GPL-2.0-or-later */
/* faults.c - what goes wrong, drawn from the seed; and the moment when everything heals. */
#include "tests/sim/sim.h"

/* The side of a cut on which that node is alone. */
#define ALONE(n) (16 + (n)->id)

/*
 * Each fault draws from a generator of its own, so that one can be left out (--drop) and the others stay what they
 * are.
 */
static uint64_t fdraw(struct sim *s, uint64_t n)
{
	return prng_below(&s->frng, n);
}

static bool fchance(struct sim *s, uint32_t percent)
{
	return prng_below(&s->frng, 100) < percent;
}

static uint64_t fdelay(struct sim *s, uint64_t lo, uint64_t hi)
{
	struct prng keep = s->rng;
	uint64_t d;

	s->rng = s->frng;
	d = sim_delay(s, lo, hi);
	s->frng = s->rng;
	s->rng = keep;
	return d;
}

static struct snode *any(struct sim *s)
{
	return &s->n[1 + fdraw(s, s->plan.nodes)];
}

static uint32_t up_count(struct sim *s)
{
	uint32_t c = 0;

	for (uint32_t i = 1; i <= s->plan.nodes; i++)
		c += s->n[i].up;
	return c;
}

static void restart(struct sim *s, void *arg)
{
	struct snode *n = arg;

	/* When everything heals it is started there; after that it has been unmounted. */
	if (!n->up && !s->healing)
		node_start(s, n);
}

static void restore_path(struct sim *s, void *arg)
{
	struct snode *n = arg;

	if (n->path_cut)
		sim_log(s, "node %u: path RESTORED", n->id);
	lun_restore(s, n);
}

/* Of a cut of the network; of corosync and of our connections, which need not be the same one. */
static void set_side(struct snode *n, uint32_t side)
{
	n->side = n->net_side = side;
}

static void join_sides(struct sim *s, void *arg)
{
	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		/* Whose machine stands still comes back when it goes on. */
		if (!s->n[i].frozen || s->n[i].paused_until <= s->now_ns)
			set_side(&s->n[i], 0);
	}
	sim_log(s, "partition HEALS");
	cluster_change(s);
}

static void token_lost(struct sim *s, void *arg)
{
	cluster_change(s);
}

static bool part(struct sim *s)
{
	bool split = false;

	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		struct snode *n = &s->n[i];
		uint32_t side = (uint32_t)fdraw(s, 2);

		if (!n->frozen || n->paused_until <= s->now_ns)
			set_side(n, side);
		split |= n->side != s->n[1].side;
	}
	return split;
}

static void split(struct sim *s)
{
	if (!part(s))
		return;
	s->partitions++;
	sim_log(s, "PARTITION");
	/* Whoever is on the smaller side is given up, with what it had not synced. */
	for (uint32_t i = 1; i <= s->plan.nodes; i++)
		load_node_evicted(s, &s->n[i]);
	/* Corosync learns of it when the token does not come back. */
	sim_at(s, s->now_ns + fdraw(s, 1500) * MS, token_lost, NULL);
	sim_at(s, s->now_ns + 500 * MS + fdraw(s, 12000) * MS, join_sides, NULL);
}

static void pause_node(struct sim *s, struct snode *n)
{
	uint64_t t = 100 * MS + fdelay(s, 0, 25 * SEC);

	s->pauses++;
	sim_log(s, "node %u PAUSED for %lu ms", n->id, t / MS);
	n->paused_until = n->woke_ns = s->now_ns + t;
	n->frozen = true;
	/* Longer than the token: the others go on without it, and it learns of that when it wakes. */
	if (t > 1500 * MS) {
		set_side(n, ALONE(n));
		load_node_evicted(s, n);
		sim_at(s, s->now_ns + 1 * SEC, token_lost, NULL);
		sim_at(s, n->paused_until, join_sides, NULL);
	}
}

static struct snode *coordinator(struct sim *s)
{
	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		if (s->n[i].up && node_coordinates(s->n[i].core) && s->n[i].paused_until <= s->now_ns)
			return &s->n[i];
	}
	return NULL;
}

/* The daemon is stopped, and its corosync is well: no view changes. */
static void hang_node(struct sim *s, struct snode *n)
{
	uint64_t t = 100 * MS + fdraw(s, 25 * SEC);

	if (s->plan.only_hangs) {
		for (uint32_t i = 1; i <= s->plan.nodes; i++) {
			if (s->n[i].hangs_until > s->now_ns)
				return;
		}
		t = 8 * SEC + fdraw(s, 17 * SEC);
		/* It comes back, with another incarnation, and what it held is settled. */
		n->hangs_until = s->now_ns + t + 30 * SEC;
	}
	s->hangs++;
	n->frozen = false;
	sim_log(s, "node %u HANGS for %lu ms", n->id, t / MS);
	n->paused_until = n->woke_ns = s->now_ns + t;
}

static void port_join(struct sim *s, void *arg)
{
	struct snode *n = arg;

	n->port_cut = false;
	sim_log(s, "node %u: redirect port is back", n->id);
}

/* Parted and joined within moments: not everybody sees every view. */
static void flap(struct sim *s)
{
	if (!part(s))
		return;
	s->flaps++;
	sim_log(s, "the network FLAPS");
	for (uint32_t i = 1; i <= s->plan.nodes; i++)
		load_node_evicted(s, &s->n[i]);
	cluster_change(s);
	sim_at(s, s->now_ns + fdraw(s, 300) * MS, join_sides, NULL);
}

static void corosync_back(struct sim *s, void *arg)
{
	struct snode *n = arg;

	if (n->coro.up)
		return;
	sim_log(s, "node %u: corosync is BACK", n->id);
	cluster_start(s, n, true);
}

/* Corosync dies under a daemon that lives, and is started again, before the others miss it or later. */
static void corosync_dies(struct sim *s, struct snode *n)
{
	if (!n->up || !n->coro.up)
		return;
	s->coro_restarts++;
	sim_log(s, "node %u: corosync DIES", n->id);
	load_node_evicted(s, n);
	cluster_stop(s, n);
	sim_at(s, s->now_ns + 1 * SEC + fdraw(s, 500) * MS, token_lost, NULL);
	sim_at(s, s->now_ns + 100 * MS + fdelay(s, 0, 15 * SEC), corosync_back, n);
}

/*
 * Corosync has a network of its own, and that is cut: who is alone there still reaches all others. It may be late to learn of it,
 * as in cut_off_unaware().
 */
static void ring_cut(struct sim *s, struct snode *n)
{
	if (!n->up || n->side || (n->frozen && n->paused_until > s->now_ns))
		return;
	s->ring_cuts++;
	sim_log(s, "node %u: corosync's network is CUT", n->id);
	n->side = ALONE(n);
	if (!node_coordinates(n->core) && fchance(s, 50))
		n->late_until = s->now_ns + fdraw(s, 6000) * MS;
	/* It, or, of two nodes or by a coordinator that is alone, the others are given up, with what they had not synced. */
	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		load_node_evicted(s, &s->n[i]);
		edges_node_evicted(s, &s->n[i]);
	}
	sim_at(s, s->now_ns + fdraw(s, 1500) * MS, token_lost, NULL);
	sim_at(s, s->now_ns + 500 * MS + fdraw(s, 9000) * MS, join_sides, NULL);
}

static void rare_fault(struct sim *s, struct snode *n, uint64_t which)
{
	switch (which) {
	case 0:
		if (s->plan.hang && (s->plan.only_hangs || fchance(s, 50)))
			n = coordinator(s);
		if (s->plan.hang && n && n->up && n->paused_until < s->now_ns)
			hang_node(s, n);
		return;
	case 1:
		if (s->plan.port_cut && !n->port_cut) {
			s->port_cuts++;
			sim_log(s, "node %u: redirect port CUT", n->id);
			n->port_cut = true;
			sim_at(s, s->now_ns + 500 * MS + fdraw(s, 20000) * MS, port_join, n);
		}
		return;
	case 2:
		if (s->plan.slow_lun && s->slow_until_ns < s->now_ns) {
			s->slow_luns++;
			s->slow_until_ns = s->now_ns + SEC + fdraw(s, 15) * SEC;
			sim_log(s, "the LUN is SLOW until %lu us", s->slow_until_ns / 1000);
		}
		return;
	case 3:
		if (s->plan.flap)
			flap(s);
		return;
	}
}

static void slow_net(struct sim *s, struct snode *n)
{
	uint64_t t;

	if (!s->plan.slow_net || fdraw(s, 10))
		return;
	t = fdelay(s, 100 * MS, 20 * SEC);
	s->slow_net_node = n->id;
	s->slow_net_until = s->now_ns + t;
	sim_log(s, "node %u: connections are SLOW for %lu ms", n->id, t / MS);
}

static void common_fault(struct sim *s, struct snode *n, uint64_t which)
{
	switch (which) {
	case 0:
		if (s->plan.crash && n->up && (up_count(s) > 1 || s->plan.alone)) {
			s->crashes++;
			node_crash(s, n);
			sim_at(s, s->now_ns + 2 * SEC + fdraw(s, 8000) * MS, restart, n);
		}
		return;
	case 1:
		if (s->plan.daemon_kill && n->up) {
			s->crashes++;
			node_kill(s, n);
			sim_at(s, s->now_ns + 200 * MS + fdraw(s, 5000) * MS, restart, n);
		}
		return;
	case 2:
		if (s->plan.path_loss && n->up && !n->path_cut) {
			s->path_losses++;
			sim_log(s, "node %u: path CUT", n->id);
			lun_cut(s, n);
			sim_at(s, s->now_ns + 500 * MS + fdraw(s, 15000) * MS, restore_path, n);
		}
		return;
	case 3:
		if (s->plan.partition)
			split(s);
		return;
	case 4:
		if (s->plan.pause && n->up && n->paused_until < s->now_ns)
			pause_node(s, n);
		return;
	case 5:
		if (s->plan.move && n->up) {
			struct ctl_request rq = {.op = CTL_MOVE};

			s->moves++;
			trace_format(rq.name, sizeof(rq.name), "%s", any(s)->name);
			if (sim_grows(s) && (s->moves & 1)) {
				rq.op = CTL_GROW;
				rq.name[0] = 0;
				rq.bytes = SIM_VOLUME_BYTES / 64 * (48 + s->moves);
				if (rq.bytes > SIM_VOLUME_BYTES)
					rq.bytes = 0;
			}
			admin_ask(s, n, &rq);
		}
		return;
	case 6:
		if (s->plan.net_break && n->up) {
			sim_log(s, "node %u: connections BREAK", n->id);
			net_break_all(s, n);
		}
		return;
	case 7:
		if (s->plan.san_loss && fchance(s, 30)) {
			s->san_losses++;
			sim_log(s, "the SAN loses POWER");
			lun_power_loss(s);
		}
		return;
	}
}

static void coordinator_goes(struct sim *s, void *arg)
{
	struct snode *n = coordinator(s);

	if (!n || s->healing)
		return;
	if (chance(s, 60)) {
		s->hangs++;
		n->frozen = false;
		n->paused_until = n->woke_ns = s->now_ns + 7 * SEC + draw(s, 8000) * MS;
		sim_log(s, "node %u HANGS until %lu ms", n->id, n->paused_until / MS);
	} else if (up_count(s) > 1) {
		s->crashes++;
		node_crash(s, n);
		sim_at(s, s->now_ns + 2 * SEC + draw(s, 8000) * MS, restart, n);
	}
}

static void cut_off(struct sim *s, void *arg)
{
	struct snode *n = arg;
	uint64_t back = s->now_ns + 1500 * MS + draw(s, 5000) * MS;

	if (!n->up || s->healing || node_coordinates(n->core))
		return;
	back = aimed_cut_off(s, n, back);
	s->partitions++;
	sim_log(s, "node %u is CUT OFF until %lu ms", n->id, back / MS);
	set_side(n, ALONE(n));
	load_node_evicted(s, n);
	cluster_change(s);
	sim_at(s, back, join_sides, NULL);
	sim_at(s, back - draw(s, 1000) * MS, coordinator_goes, NULL);
}

/*
 * A node has no path, so that nothing at the LUN tells it that it was given up; it is cut off; and who gives it up
 * is gone when it is back. Each alone is common, all three at once are too rare in a seed's other faults.
 */
static void without_path_cut_off(struct sim *s)
{
	struct snode *n = any(s);

	if (!n->up || n->path_cut || node_coordinates(n->core))
		return;
	s->path_losses++;
	sim_log(s, "node %u: path CUT", n->id);
	lun_cut(s, n);
	sim_at(s, s->now_ns + 7 * SEC + draw(s, 12000) * MS, restore_path, n);
	sim_at(s, s->now_ns + 5 * SEC + draw(s, 2000) * MS, cut_off, n);
}

/* What it is still told to be done, while it is fenced and its lease runs, is not committed any more. */
static void loses_its_writes(struct sim *s, void *arg)
{
	struct snode *n = arg;

	load_node_evicted(s, n);
	if (n->side == 7)
		sim_at(s, s->now_ns + 100 * MS, loses_its_writes, n);
}

static void goes_unaware(struct sim *s, struct snode *n)
{
	set_side(n, 7);
	if (fchance(s, 50))
		n->net_side = 0;
	/* A view is a hint: the two sides of a cut need not learn of it at the same moment. */
	n->late_until = s->now_ns + 2 * SEC + fdraw(s, 8000) * MS;
	sim_log(s, "node %u is CUT OFF, and learns of it after %lu ms", n->id, n->late_until / MS);
	loses_its_writes(s, n);
}

/*
 * All others go on without it, under another coordinator if it was that, and it believes for a while that nothing has
 * happened. Of five nodes the coordinator goes as well, and serves it.
 */
static void cut_off_now(struct sim *s, void *arg)
{
	struct snode *n = arg, *c = s->plan.nodes == 5 ? coordinator(s) : NULL;

	if (s->healing)
		return;
	s->partitions++;
	goes_unaware(s, n);
	if (c && c != n)
		goes_unaware(s, c);
	cluster_change(s);
	sim_at(s, s->now_ns + 3 * SEC + fdraw(s, 9000) * MS, join_sides, NULL);
}

static void cut_off_unaware(struct sim *s)
{
	struct snode *n = any(s);
	uint64_t wait_ns = aimed_before_cut(s, n);

	if (wait_ns)
		sim_at(s, s->now_ns + wait_ns, cut_off_now, n);
	else
		cut_off_now(s, n);
}

/* One fault, of a kind that this seed has. */
static void fault(struct sim *s)
{
	struct snode *n = any(s);
	uint64_t which = fdraw(s, 16);

	if (which == 15) {
		if (s->plan.coro_restart)
			corosync_dies(s, n);
	} else if (which == 14 && s->plan.ring_cut) {
		ring_cut(s, n);
	} else if (which >= 12)
		slow_net(s, n);
	else if (which >= 8)
		rare_fault(s, n, which - 8);
	else
		common_fault(s, n, which);
}

static void seed_fault(struct sim *s)
{
	s->frng.s = (s->seed << 20 ^ s->faults) * 0x9e3779b97f4a7c15ull + 7;
}

static void next_fault(struct sim *s, void *arg)
{
	(void)arg;
	if (s->healing)
		return;
	seed_fault(s);
	if (!fault_dropped(s->faults) && s->plan.given_up)
		without_path_cut_off(s);
	else if (!fault_dropped(s->faults) && s->plan.cut_off)
		cut_off_unaware(s);
	else if (!fault_dropped(s->faults))
		fault(s);
	s->faults++;
	seed_fault(s);
	sim_at(s, s->now_ns + (s->plan.given_up || s->plan.cut_off ? 15 * SEC : 80 * MS + fdelay(s, 0, 8 * SEC)),
		next_fault, NULL);
}

/* One that is stopped at any moment of its candidacy: that takes milliseconds, so it has to be waited for. */
static void candidate_hangs(struct sim *s, void *arg)
{
	uint64_t t = 7 * SEC + prng_below(&s->candidate_rng, 12) * SEC;

	(void)arg;
	if (s->healing)
		return;
	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		struct snode *n = &s->n[i];
		bool is = n->up && n->paused_until <= s->now_ns && node_is_candidate(n->core);

		if (!is || prng_below(&s->candidate_rng, 100) >= 8 || s->candidate_hangs >= 3)
			continue;
		s->candidate_hangs++;
		s->hangs++;
		n->frozen = false;
		sim_log(s, "node %u, a candidate, HANGS for %lu ms", n->id, t / MS);
		n->paused_until = n->woke_ns = s->now_ns + t;
	}
	sim_at(s, s->now_ns + 500 * 1000, candidate_hangs, NULL);
}

/* Who waits long ends the daemon, and starts it again at once: its request may still wait where it had been sent to. */
static void impatient(struct sim *s, void *arg)
{
	(void)arg;
	if (s->healing)
		return;
	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		struct snode *n = &s->n[i];

		if (!n->up || n->paused_until > s->now_ns || !leases_waits_long(s, n) || s->impatient >= 4 ||
			prng_below(&s->impatient_rng, 100) >= 30)
			continue;
		s->impatient++;
		s->crashes++;
		sim_log(s, "node %u: the daemon of who waits long is ended", n->id);
		node_kill(s, n);
		sim_at(s, s->now_ns + 50 * MS + prng_below(&s->impatient_rng, 300) * MS, restart, n);
	}
	sim_at(s, s->now_ns + 50 * MS, impatient, NULL);
}

void faults_start(struct sim *s)
{
	s->candidate_rng.s = s->seed * 0x9fb21c651e98df25ull + 3;
	if (s->plan.hang && s->seed % 3 == 1 && !s->plan.only_hangs)
		sim_at(s, s->now_ns + 3 * SEC, candidate_hangs, NULL);
	s->impatient_rng.s = s->seed * 0xd6e8feb86659fd93ull + 9;
	if (s->plan.daemon_kill && s->plan.watchers && s->seed % 3 == 2 && !s->plan.given_up && !s->plan.cut_off)
		sim_at(s, s->now_ns + 3 * SEC, impatient, NULL);
	sim_at(s, s->now_ns + 2 * SEC, next_fault, NULL);
}

void faults_heal(struct sim *s)
{
	s->healing = true;
	s->slow_until_ns = s->slow_net_until = 0;
	weather_heal(s);
	sim_log(s, "---- everything heals");
	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		struct snode *n = &s->n[i];

		lun_restore(s, n);
		set_side(n, 0);
		n->late_until = 0;
		n->port_cut = false;
		sim_wake(s, n);
		if (!s->plan.alone)
			corosync_back(s, n);
		if (!n->up)
			node_start(s, n);
		else if (s->plan.ctl)
			admin_ask(s, n, &(struct ctl_request){.op = CTL_RESUME});
	}
	cluster_change(s);
}
