/* SPDX-License-Identifier: GPL-2.0-or-later */
/* iscsi_nexus.c - see iscsi_nexus.h. */
#include "csvfs/iscsi_nexus.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "csvfs/base/assert.h"

struct entry {
	struct scsi_nexus x;
	bool ours; /* this process has logged in so */
	bool here;
	bool ended;
};

struct iscsi_nexus_table {
	struct iscsi_nexus_table *next;
	char lun[640];
	struct entry *e;
	uint32_t count, room;
	uint16_t port; /* of the target, by which we are logged in; 0: not known yet */
	bool full; /* rule 3 */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct iscsi_nexus_table *tables;

struct iscsi_nexus_table *iscsi_nexus_table(const char *portal, const char *target, int lun)
{
	struct iscsi_nexus_table *t;
	char name[sizeof(t->lun)];

	snprintf(name, sizeof(name), "%s %s %d", portal, target, lun);
	pthread_mutex_lock(&lock);
	for (t = tables; t && strcmp(t->lun, name) != 0;)
		t = t->next;
	if (!t) {
		t = calloc(1, sizeof(*t));
		if (t) {
			memcpy(t->lun, name, sizeof(name));
			t->next = tables;
			tables = t;
		}
	}
	pthread_mutex_unlock(&lock);
	return t;
}

/* One without a name is known by its key alone. Of names that differ in case there is one (RFC 7143, 4.2.7.1), which LIO shows in lower case. */
static bool same(const struct scsi_nexus *a, const struct scsi_nexus *b)
{
	if (!a->iscsi || !b->iscsi)
		return a->iscsi == b->iscsi && a->key == b->key && a->port == b->port;
	return !memcmp(a->isid, b->isid, sizeof(a->isid)) && !strcasecmp(a->name, b->name);
}

static struct entry *find(struct iscsi_nexus_table *t, const struct scsi_nexus *x)
{
	for (uint32_t i = 0; i < t->count; i++)
		if (same(&t->e[i].x, x))
			return &t->e[i];
	return NULL;
}

/* Whose place can be taken: nothing needs to be known of it. */
static struct entry *spare(struct iscsi_nexus_table *t)
{
	for (uint32_t i = 0; i < t->count; i++)
		if (!t->e[i].here && t->e[i].ended && !t->e[i].ours)
			return &t->e[i];
	return NULL;
}

/* A new one; NULL: there is no room. */
static struct entry *add(struct iscsi_nexus_table *t, const struct scsi_nexus *x)
{
	struct entry *e = NULL;

	if (t->count == ISCSI_NEXUS_MAX) {
		e = spare(t);
		if (!e)
			t->full = true;
	} else {
		if (t->count == t->room) {
			t->room = t->room ? 2 * t->room : 16;
			t->e = realloc(t->e, t->room * sizeof(*t->e));
			csv_assert(t->e != NULL); /* half a megabyte at most */
		}
		e = &t->e[t->count++];
	}
	if (e)
		*e = (struct entry){.x = *x};
	return e;
}

void iscsi_nexus_ours(struct iscsi_nexus_table *t, const char *name, const uint8_t *isid)
{
	struct scsi_nexus x = {.iscsi = true};
	struct entry *e;

	snprintf(x.name, sizeof(x.name), "%s", name);
	memcpy(x.isid, isid, sizeof(x.isid));
	pthread_mutex_lock(&lock);
	e = find(t, &x);
	if (!e) {
		e = add(t, &x);
		if (e)
			e->ended = true; /* never seen registered: it has sent nothing */
	}
	if (e)
		e->ours = true;
	pthread_mutex_unlock(&lock);
}

struct seen {
	struct iscsi_nexus_table *t;
	const char *self;
	bool first;
};

static void see(void *ctx, const struct scsi_nexus *x)
{
	struct seen *s = ctx;
	struct entry *e;

	/* (Now it is known that the whole answer makes sense.) */
	if (s->first)
		for (uint32_t i = 0; i < s->t->count; i++)
			s->t->e[i].here = false;
	s->first = false;
	e = find(s->t, x);
	if (!e)
		e = add(s->t, x);
	if (!e)
		return;
	e->x = *x;
	e->here = true;
	e->ended = false;
	/* If the login has not told it. (We may be listed by another portal, too, as an earlier life with another URL.) */
	if (e->ours && !s->t->port && !strcasecmp(x->name, s->self))
		s->t->port = x->port;
}

void iscsi_nexus_port(struct iscsi_nexus_table *t, uint16_t port)
{
	pthread_mutex_lock(&lock);
	if (port)
		t->port = port;
	pthread_mutex_unlock(&lock);
}

void iscsi_nexus_full(struct iscsi_nexus_table *t)
{
	pthread_mutex_lock(&lock);
	t->full = true;
	pthread_mutex_unlock(&lock);
}

bool iscsi_nexus_seen(struct iscsi_nexus_table *t, const char *self, const uint8_t *full, size_t n)
{
	struct seen s = {.t = t, .self = self, .first = true};
	bool ok;

	pthread_mutex_lock(&lock);
	ok = scsi_pr_full(full, n, see, &s);
	for (uint32_t i = 0; ok && s.first && i < t->count; i++)
		t->e[i].here = false; /* nobody is registered */
	pthread_mutex_unlock(&lock);
	return ok;
}

static enum iscsi_nexus_next next_of(struct iscsi_nexus_table *t, const char *self, struct scsi_nexus *out, const char **why)
{
	if (t->full) {
		*why = "more sessions were registered than csvfs can remember";
		return ISCSI_NEXUS_NEVER;
	}
	for (uint32_t i = 0; i < t->count; i++) {
		const struct entry *e = &t->e[i];

		if (e->here || e->ended || (e->ours && !strcasecmp(e->x.name, self)))
			continue;
		*out = e->x;
		if (!e->x.iscsi) {
			*why = "a registration was of no iSCSI session";
			return ISCSI_NEXUS_NEVER;
		}
		/* A session belongs to a portal group; what a login ends is of the same one (RFC 7143, 6.3.5). */
		if (e->x.port && t->port != e->x.port) {
			*why = "it came by another port of the target than ours";
			return ISCSI_NEXUS_NEVER;
		}
		return ISCSI_NEXUS_NEXT;
	}
	return ISCSI_NEXUS_NONE;
}

enum iscsi_nexus_next iscsi_nexus_next(struct iscsi_nexus_table *t, const char *self, struct scsi_nexus *out, const char **why)
{
	enum iscsi_nexus_next n;

	memset(out, 0, sizeof(*out));
	*why = "";
	pthread_mutex_lock(&lock);
	n = next_of(t, self, out, why);
	pthread_mutex_unlock(&lock);
	return n;
}

void iscsi_nexus_ended(struct iscsi_nexus_table *t, const struct scsi_nexus *x)
{
	struct entry *e;

	pthread_mutex_lock(&lock);
	e = find(t, x);
	if (e && !e->here && e->x.key == x->key)
		e->ended = true; /* (with another key it has come and gone once more meanwhile) */
	pthread_mutex_unlock(&lock);
}
