/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * minimise.c - from a failing seed to the smallest run that fails in the same way.
 *
 * What can be taken away: a kind of fault, a single fault (each draws from a generator of its own, so that the rest
 * stays what it is), a part of the workload, a node, time. After each cut the run is tried in a child; it
 * stays if the run fails with the same words, numbers apart. What is left is said as the command that
 * replays it.
 */
#include <ctype.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/sim/load_int.h"

#define TRIAL_SECONDS 60
#define ROUNDS 4

enum field_kind { FLAG, COUNT, TIME };

struct plan_field {
	const char *name;
	size_t at;
	enum field_kind kind;
	uint64_t least, most;
};

#define F(f, kind, least) {#f, offsetof(struct sim_plan, f), kind, least, (kind) == FLAG ? 1 : UINT64_MAX}
#define C(f, least, most) {#f, offsetof(struct sim_plan, f), COUNT, least, most}
static const struct plan_field fields[] = {
	F(write_cache, FLAG, 0),
	F(abort_supported, FLAG, 0),
	F(crash, FLAG, 0),
	F(daemon_kill, FLAG, 0),
	F(pause, FLAG, 0),
	F(path_loss, FLAG, 0),
	F(partition, FLAG, 0),
	F(move, FLAG, 0),
	F(late_writes, FLAG, 0),
	F(san_loss, FLAG, 0),
	F(net_break, FLAG, 0),
	F(hang, FLAG, 0),
	F(port_cut, FLAG, 0),
	F(slow_lun, FLAG, 0),
	F(flap, FLAG, 0),
	F(coro_restart, FLAG, 0),
	F(forgets, FLAG, 0),
	F(one_nexus, FLAG, 0),
	F(no_reset, FLAG, 0),
	F(reset_tells_all, FLAG, 0),
	F(hostile, FLAG, 0),
	F(slow_net, FLAG, 0),
	F(ctl, FLAG, 0),
	F(media, FLAG, 0),
	F(ring_cut, FLAG, 0),
	F(busy, FLAG, 0),
	F(fabric, FLAG, 0),
	F(bulk, FLAG, 0),
	F(crowd, FLAG, 0),
	F(alone, FLAG, 0),
	F(image, FLAG, 0),
	F(bare, FLAG, 0),
	F(silent_aborts, FLAG, 0),
	F(kills, FLAG, 0),
	F(tight, FLAG, 0),
	F(porters, FLAG, 0),
	F(scribes, FLAG, 0),
	F(one_hole, FLAG, 0),
	F(reboots, FLAG, 0),
	F(next_term, FLAG, 0),
	F(unheard, FLAG, 0),
	F(moves, FLAG, 0),
	F(dies_asking, FLAG, 0),
	F(dies_held, FLAG, 0),
	F(lost_asks, FLAG, 0),
	F(drain_looks, FLAG, 0),
	F(times, FLAG, 0),
	F(power, FLAG, 0),
	F(oversleeps, FLAG, 0),
	F(silent, FLAG, 0),
	F(heirs, FLAG, 0),
	F(lone, FLAG, 0),
	F(long_cut, FLAG, 0),
	F(long_split, FLAG, 0),
	F(releases, FLAG, 0),
	F(second_life, FLAG, 0),
	F(slow_release, FLAG, 0),
	F(carries, FLAG, 0),
	F(elsewhere, FLAG, 0),
	F(writes_on, FLAG, 0),
	F(neighbours, FLAG, 0),
	F(slow_fence, FLAG, 0),
	F(crawl, FLAG, 0),
	F(follow, FLAG, 0),
	F(hosts_off, FLAG, 0),
	F(lost_grants, FLAG, 0),
	F(zeroing, FLAG, 0),
	F(only_harmless, FLAG, 0),
	F(only_hangs, FLAG, 0),
	F(hold_ns, TIME, 0),
	C(lockers, 0, 2),
	C(watchers, 0, 2),
	C(clients, 1, CLIENTS_MAX),
	C(files, 1, FILES_MAX),
	C(names, 1, NAMES_MAX),
	C(nodes, 2, SIM_NODES_MAX),
	F(safety_ns, TIME, SEC),
};
#define FIELDS (sizeof(fields) / sizeof(fields[0]))

/* What the command line, or the minimiser, says instead of the seed. */
struct cut {
	bool set[FIELDS];
	uint64_t value[FIELDS];
	bool drop[FAULTS_MAX];
};

static struct cut cut;

/* What a child has seen. */
struct trial {
	char why[256];
	uint64_t value[FIELDS];
	uint64_t now_ns;
	uint32_t faults;
	bool failed;
};

static struct trial *result;

static uint64_t get(const struct sim_plan *p, const struct plan_field *f)
{
	const uint8_t *at = (const uint8_t *)p + f->at;

	switch (f->kind) {
	case FLAG:
		return *(const bool *)at;
	case COUNT:
		return *(const uint32_t *)(const void *)at;
	case TIME:
		break;
	}
	return *(const uint64_t *)(const void *)at;
}

static void put(struct sim_plan *p, const struct plan_field *f, uint64_t v)
{
	uint8_t *at = (uint8_t *)p + f->at;

	switch (f->kind) {
	case FLAG:
		*(bool *)at = v;
		return;
	case COUNT:
		*(uint32_t *)(void *)at = (uint32_t)v;
		return;
	case TIME:
		*(uint64_t *)(void *)at = v;
		return;
	}
}

void plan_cut(struct sim *s)
{
	for (uint32_t i = 0; i < FIELDS; i++) {
		if (cut.set[i])
			put(&s->plan, &fields[i], cut.value[i]);
		if (result)
			result->value[i] = get(&s->plan, &fields[i]);
	}
	aimed_plan(&s->plan);
	s->plan.two_node = s->plan.nodes == 2;
	s->plan.image &= s->plan.alone;
	s->plan.bare &= s->plan.alone && !s->plan.image;
	/* Nobody waits longer than for a takeover then. */
	s->plan.slow_fence &= !s->plan.only_hangs;
	s->plan.no_reset &= !s->plan.only_hangs && !s->plan.lone;
}

bool fault_dropped(uint32_t nr)
{
	return nr < FAULTS_MAX && cut.drop[nr];
}

bool plan_set(const char *text)
{
	char copy[1024], *save, *end;

	snprintf(copy, sizeof(copy), "%s", text);
	for (char *w = strtok_r(copy, ",", &save); w; w = strtok_r(NULL, ",", &save)) {
		char *eq = strchr(w, '=');
		uint32_t i;

		for (i = 0; eq && i < FIELDS; i++) {
			if (strlen(fields[i].name) == (size_t)(eq - w) &&
				!strncmp(fields[i].name, w, (size_t)(eq - w)))
				break;
		}
		if (!eq || i == FIELDS)
			return false;
		cut.set[i] = true;
		cut.value[i] = strtoull(eq + 1, &end, 0);
		if (*end || cut.value[i] < fields[i].least || cut.value[i] > fields[i].most)
			return false;
	}
	return true;
}

bool plan_drop(const char *text)
{
	while (*text) {
		char *end;
		unsigned long a = strtoul(text, &end, 10), b = a;

		if (end == text)
			return false;
		if (*end == '-')
			b = strtoul(end + 1, &end, 10);
		for (; a <= b && a < FAULTS_MAX; a++)
			cut.drop[a] = true;
		text = *end == ',' ? end + 1 : end;
		if (*end && *end != ',')
			return false;
	}
	return true;
}

/* Also of an assertion. */
void trial_failed(const struct sim *s, const char *why)
{
	if (!result)
		return;
	result->failed = true;
	snprintf(result->why, sizeof(result->why), "%s", why);
	if (s) {
		result->faults = s->faults;
		result->now_ns = s->now_ns;
	}
}

/* ------------------------------------------------------------------ trials */

static uint64_t seed;
static uint32_t trials;

static bool run(struct trial *t)
{
	pid_t child;
	int status;

	memset(result, 0, sizeof(*result));
	fflush(NULL);
	child = fork();
	if (child == 0) {
		alarm(TRIAL_SECONDS);
		if (!freopen("/dev/null", "w", stderr))
			_exit(3);
		sim_trial(seed);
		_exit(0);
	}
	trials++;
	if (child < 0 || waitpid(child, &status, 0) != child)
		return false;
	*t = *result;
	return t->failed;
}

/* The same words; numbers, names of nodes and of places aside. */
static bool same(const char *a, const char *b)
{
	for (;;) {
		while (*a && !isalpha((unsigned char)*a))
			a++;
		while (*b && !isalpha((unsigned char)*b))
			b++;
		if (!*a || !*b)
			return !*a && !*b;
		/* A word with a digit in it is a number or a name. */
		size_t m = strcspn(a, " "), n = strcspn(b, " ");
		bool da = strcspn(a, "0123456789") < m, db = strcspn(b, "0123456789") < n;

		if (!da && !db && (m != n || strncmp(a, b, m) != 0))
			return false;
		a += m;
		b += n;
	}
}

static struct trial last; /* of the smallest run so far */

/* `cut` has been changed: true if it still fails so; else it is as it was. */
static bool keeps(const struct cut *old)
{
	struct trial t;

	if (run(&t) && same(t.why, last.why)) {
		last = t;
		return true;
	}
	cut = *old;
	return false;
}

static bool try_value(uint32_t i, uint64_t v)
{
	struct cut old = cut;

	if (v >= last.value[i])
		return false;
	cut.set[i] = true;
	cut.value[i] = v;
	return keeps(&old);
}

static bool shrink_plan(void)
{
	bool any = false;

	for (uint32_t i = 0; i < FIELDS; i++) {
		const struct plan_field *f = &fields[i];

		if (f->kind == FLAG) {
			any |= try_value(i, 0);
			continue;
		}
		if (f->kind == COUNT) {
			for (uint64_t v = f->least; v < last.value[i]; v++) {
				if (try_value(i, v))
					any = true;
			}
			continue;
		}
		if (f->least == SEC && last.now_ns + 10 * MS < last.value[i])
			any |= try_value(i, last.now_ns + 10 * MS);
		for (uint64_t v = last.value[i] / 2; v >= f->least + SEC / 4; v = last.value[i] / 2) {
			if (!try_value(i, v))
				break;
			any = true;
		}
	}
	return any;
}

/* Delta debugging: ever smaller groups of what still happens. */
static bool shrink_faults(void)
{
	bool any = false;

	for (uint32_t size = last.faults ? last.faults : 1; size; size /= 2) {
		for (uint32_t from = 0; from < last.faults && from < FAULTS_MAX; from += size) {
			struct cut old = cut;
			bool changes = false;

			for (uint32_t k = from; k < from + size && k < FAULTS_MAX && k < last.faults; k++) {
				changes |= !cut.drop[k];
				cut.drop[k] = true;
			}
			if (changes)
				any |= keeps(&old);
		}
	}
	return any;
}

static void say_command(void)
{
	const char *sep = " --set ";
	uint32_t left = 0;

	printf("csvsim --seed %lu", seed);
	for (uint32_t i = 0; i < FIELDS; i++) {
		if (!cut.set[i])
			continue;
		printf("%s%s=%lu", sep, fields[i].name, cut.value[i]);
		sep = ",";
	}
	sep = " --drop ";
	for (uint32_t k = 0; k < FAULTS_MAX && k < last.faults; k++) {
		uint32_t to = k;

		left += !cut.drop[k];
		if (!cut.drop[k])
			continue;
		while (to + 1 < last.faults && to + 1 < FAULTS_MAX && cut.drop[to + 1])
			to++;
		printf(to > k ? "%s%u-%u" : "%s%u", sep, k, to);
		sep = ",";
		k = to;
	}
	printf(" -v\n# %u trials; %u faults are left; at %lu us: %s\n", trials, left, last.now_ns / 1000,
		last.why);
}

int minimise(uint64_t of)
{
	seed = of;
	result = mmap(NULL, sizeof(*result), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!run(&last)) {
		printf("seed %lu does not fail\n", seed);
		return 1;
	}
	printf("# seed %lu: %s\n", seed, last.why);
	for (uint32_t k = 0; k < ROUNDS; k++) {
		bool any = shrink_faults();

		any |= shrink_plan();
		if (!any)
			break;
	}
	say_command();
	return 0;
}
