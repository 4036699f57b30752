/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * leave.c - the end: all nodes unmount. At one moment, within moments or seconds of each other (a shutdown of all
 * hosts), or at one moment while one more thing happens to one of them. With --set hosts_off=1 the hosts are shut down: within moments,
 * and the corosync of each goes when its daemon has ended, and with those of most hosts the quorum.
 *
 * What must be left is a volume that is marked clean, without a registration: who comes next has nothing to
 * watch, to fence or to replay, and fsck.csvfs has nothing to ask. But for one thing: as long as somebody was fenced and has not been
 * back, one registration stays, and with it the reservation. Less may be left only by the last one: the fault has hit
 * the node that coordinates, or nobody did just then, and when it can be known all others have let go of the claim, or had
 * never a part in it; or the target refuses resets, and one is refused at the end. Then only fsck's word counts.
 */
#include "csvfs/base/claim.h"
#include "tests/sim/sim.h"

/* Of who unmounts within moments of each other. */
#define MOMENTS (100 * MS)

enum leave_kind { LEAVE_AT_ONCE, LEAVE_MOMENTS, LEAVE_SECONDS, LEAVE_FAULT, LEAVE_KINDS };

static void leaves(struct sim *s, void *arg)
{
	struct snode *n = arg;
	struct event ev = {.type = EV_STOP};

	if (!n->up)
		return;
	sim_log(s, "node %u is UNMOUNTED", n->id);
	n->stopping = true;
	node_feed(s, n, &ev);
}

static void path_back(struct sim *s, void *arg)
{
	struct snode *n = arg;

	lun_restore(s, n);
}

static bool coordinated_by_another(const struct sim *s, const struct snode *n)
{
	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		if (&s->n[i] != n && s->n[i].up && node_coordinates(s->n[i].core))
			return !n->up || !node_coordinates(n->core);
	}
	return false;
}

/* The time in which it can be known is over: who is still there now ends in order. */
static void known(struct sim *s, void *arg)
{
	const struct snode *n = arg;

	for (uint32_t i = 1; i <= s->plan.nodes; i++)
		if (&s->n[i] != n && s->n[i].up && node_ready(s->n[i].core) && !node_has_let_go(s->n[i].core)) {
			sim_log(s, "node %u is well, and the volume is to be left clean", i);
			s->leave_clean = true;
		}
}

static void fault(struct sim *s, void *arg)
{
	static const uint64_t known_in[] = {SEC, 6 * SEC, 5 * SEC}; /* a daemon dies, hangs, loses its path */
	struct snode *n = arg;
	uint64_t which = prng_below(&s->leave_rng, 3), t = 50 * MS + prng_below(&s->leave_rng, 4000) * MS;

	if (!n->up)
		return;
	s->leave_clean &= coordinated_by_another(s, n);
	sim_at(s, s->now_ns + known_in[which], known, n);
	switch (which) {
	case 0:
		node_kill(s, n);
		return;
	case 1:
		sim_log(s, "node %u HANGS for %lu ms", n->id, t / MS);
		n->paused_until = n->woke_ns = s->now_ns + t;
		return;
	case 2:
		sim_log(s, "node %u: path CUT", n->id);
		lun_cut(s, n);
		sim_at(s, s->now_ns + t, path_back, n);
		return;
	}
}

static void ring_forms(struct sim *s, void *arg)
{
	(void)arg;
	cluster_change(s);
}

static void host_off(struct sim *s, void *arg)
{
	struct snode *n = arg;

	sim_log(s, "host %u is OFF", n->id);
	cluster_stop(s, n);
	sim_at(s, s->now_ns + 1 * SEC, ring_forms, NULL);
}

void leave_exited(struct sim *s, struct snode *n)
{
	if (s->leaving && s->plan.hosts_off && !s->plan.alone)
		sim_at(s, s->now_ns + MS + prng_below(&s->leave_rng, 50) * MS, host_off, n);
}

/*
 * Nobody is served while that fence waits, and the others go before it is over; or it is the second one in a row, and an unmount waits for
 * one (STOP_TAKEOVER_NS). What is left is for the next mount.
 */
void leave_reset_refused(struct sim *s, const struct snode *n)
{
	if (s->leaving && n->up)
		s->leave_late |= node_office(n->core) != OFFICE_SERVES || s->now_ns > s->leave_ns + 20 * SEC;
}

void leave_all(struct sim *s)
{
	static const uint64_t within[LEAVE_KINDS] = {
		[LEAVE_MOMENTS] = MOMENTS, [LEAVE_SECONDS] = 4 * SEC};
	enum leave_kind kind;

	s->leave_rng.s = s->seed * 0xd1342543de82ef95ull + 11;
	kind = (enum leave_kind)prng_below(&s->leave_rng, s->plan.hosts_off ? LEAVE_SECONDS : LEAVE_KINDS);
	s->leaving = true;
	s->leave_ns = s->now_ns;
	s->leave_clean = true;
	for (uint32_t i = 1; i <= s->plan.nodes; i++)
		sim_at(s, s->now_ns + (within[kind] ? prng_below(&s->leave_rng, within[kind]) : 0), leaves,
			&s->n[i]);
	s->leave_fault = kind == LEAVE_FAULT;
	if (kind == LEAVE_FAULT)
		sim_at(s, s->now_ns + prng_below(&s->leave_rng, 200) * MS, fault,
			&s->n[1 + prng_below(&s->leave_rng, s->plan.nodes)]);
}

/* A clean end with a fenced node at large: one registration is left, the one that the claim names, and it holds the reservation. */
static void check_kept(struct sim *s, const struct claim *c, uint32_t keys)
{
	uint64_t key = (uint64_t)c->node << 32 | c->incarnation;
	uint32_t at_large = 0;

	for (uint32_t i = 1; i <= s->plan.nodes; i++)
		at_large = s->n[i].fenced ? i : at_large;
	if (s->plan.image || s->plan.bare)
		return;
	if (at_large && !s->lun.reserved)
		sim_fail(s, "all have unmounted in order, node %u was fenced and has not been back, and the LUN has no reservation",
			at_large);
	if (c->kept && (keys != 1 || !s->lun.reserved || s->lun.holder_key != key))
		sim_fail(s, "the claim says that registration %lx was left: %u are, and the holder is %lx", key, keys,
			s->lun.reserved ? s->lun.holder_key : 0);
	s->left_kept += c->kept;
}

void leave_check(struct sim *s)
{
	uint8_t block[BLOCK_SIZE];
	struct claim c, best = {.state = CLAIM_HELD};
	uint32_t keys = lun_registrations(s);

	for (uint64_t i = 0; i < 2; i++) {
		lun_get_stable((CLAIM_BLOCK + i) * BLOCK_SIZE, block, BLOCK_SIZE);
		if (!claim_decode(&c, block, s->uuid) &&
			(c.epoch > best.epoch || (c.epoch == best.epoch && c.heartbeat > best.heartbeat)))
			best = c;
	}
	if (best.state == CLAIM_CLEAN)
		check_kept(s, &best, keys);
	if (best.kept)
		keys = 0;
	if (s->leave_clean && !s->leave_late && (best.state != CLAIM_CLEAN || keys))
		sim_fail(s, "all have unmounted, and the claim is %s with %u registrations",
			best.state == CLAIM_CLEAN  ? "clean"
			: best.state == CLAIM_HELD ? "held"
						   : "released",
			keys);
}
