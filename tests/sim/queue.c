/* SPDX-License-Identifier: GPL-2.0-or-later */
/* queue.c - the simulator's clock: a heap ordered by time, then by order of insertion. */
#include <stdlib.h>

#include "tests/sim/sim.h"

static bool before(const struct item *a, const struct item *b)
{
	return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static void push(struct sim *s, struct item it)
{
	uint32_t i;

	if (s->heap_count == s->heap_room) {
		s->heap_room = s->heap_room ? 2 * s->heap_room : 1024;
		s->heap = realloc(s->heap, s->heap_room * sizeof(*s->heap));
	}
	it.order = s->order++;
	for (i = s->heap_count++; i && before(&it, &s->heap[(i - 1) / 2]); i = (i - 1) / 2)
		s->heap[i] = s->heap[(i - 1) / 2];
	s->heap[i] = it;
}

void sim_at(struct sim *s, uint64_t at_ns, sim_fn fn, void *arg)
{
	push(s, (struct item){.at_ns = at_ns < s->now_ns ? s->now_ns : at_ns, .fn = fn, .arg = arg});
}

void sim_at_node(struct sim *s, struct snode *n, uint64_t at_ns, sim_fn fn, void *arg)
{
	push(s, (struct item){.at_ns = at_ns < s->now_ns ? s->now_ns : at_ns, .fn = fn, .arg = arg,
			.node = n->id, .life_nr = n->life_nr});
}

static struct item pop(struct sim *s)
{
	struct item top = s->heap[0], last = s->heap[--s->heap_count];
	uint32_t i = 0, c;

	while ((c = 2 * i + 1) < s->heap_count) {
		if (c + 1 < s->heap_count && before(&s->heap[c + 1], &s->heap[c]))
			c++;
		if (!before(&s->heap[c], &last))
			break;
		s->heap[i] = s->heap[c];
		i = c;
	}
	s->heap[i] = last;
	return top;
}

void sim_wake(struct sim *s, struct snode *n)
{
	struct item *old = s->heap;
	uint32_t count = s->heap_count, waits = 0;
	uint64_t until = n->paused_until;

	if (until <= s->now_ns)
		return;
	n->paused_until = n->woke_ns = s->now_ns;
	s->heap = NULL;
	s->heap_count = s->heap_room = 0;
	for (uint32_t i = 0; i < count; i++) {
		uint64_t order = s->order;

		if (old[i].node == n->id && old[i].at_ns == until) {
			old[i].at_ns = s->now_ns;
			waits++;
		}
		s->order = old[i].order;
		push(s, old[i]);
		s->order = order;
	}
	free(old);
	sim_log(s, "node %u WAKES, %u things wait for it", n->id, waits);
}

bool sim_run_one(struct sim *s)
{
	struct item it;
	struct snode *n;

	if (!s->heap_count)
		return false;
	it = pop(s);
	s->now_ns = it.at_ns;
	s->steps++;
	n = &s->n[it.node];
	s->hash = (s->hash ^ (it.at_ns + it.node)) * 0x100000001b3ull;
	/* What was on its way to a life that has ended is lost with it. */
	if (it.node && n->life_nr != it.life_nr)
		return true;
	/* A paused node does nothing: what happens to it happens when it wakes. */
	if (it.node && n->paused_until > s->now_ns) {
		it.at_ns = n->paused_until;
		push(s, it);
		return true;
	}
	it.fn(s, it.arg);
	return true;
}

uint64_t sim_delay(struct sim *s, uint64_t lo, uint64_t hi)
{
	uint64_t x = draw(s, 1024);

	x = x * x / 1024;
	x = x * x / 1024;
	return lo + (hi - lo) * x / 1024;
}
