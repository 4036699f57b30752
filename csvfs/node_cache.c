/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * node_cache.c - cache leases, the node's side: attributes and names that it may answer from memory.
 *
 * Rules (coordinator/PROTOCOL.md, "Cache leases")
 *  1. Answered from memory only while a coordinator serves us over the session in which the lease was given, and
 *     not later than CACHE_LEASE_NS after the newest PING that it answered was sent.
 *  2. What a request of ours is about to change is forgotten before it is sent, and not learnt again before its
 *     answer is here: the coordinator does not ask us to forget it.
 *  3. A request names the inodes that we forget for it and that its other fields do not name (`given`).
 *  4. Nothing is learnt of an answer whose question is older than a change of ours.
 *  5. Who is asked to forget does it at once and says so; nothing of ours is waited for.
 *  6. The session's end is the end of all of it.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "coordinator/cache_lease.h"
#include "csvfs/base/assert.h"
#include "csvfs/node_int.h"

/* An inode of which we know the attributes, or names in it. */
struct node_cache_ino {
	struct list hash, age;
	struct list names;
	uint64_t ino;
	uint32_t life; /* of a directory, as the kernel named it when it asked for the names */
	bool has_attr;
	struct fs_attr attr;
};

struct node_cache_name {
	struct list hash, of_dir;
	struct node_cache_ino *dir;
	uint64_t child; /* 0: there is none of that name */
	uint32_t bytes;
	char text[];
};

/* What a request with names changes, besides its `ino`. */
struct cache_note {
	uint64_t ino2, given[2];
	uint64_t dir[2];
	uint32_t life; /* of dir[0] */
	char name[2][NAME_BYTES_MAX + 1];
};

static uint64_t hash_ino(uint64_t ino)
{
	ino *= 0x9e3779b97f4a7c15ull;
	return ino ^ ino >> 32;
}

static uint64_t hash_name(uint64_t dir, const char *name)
{
	uint64_t h = hash_ino(dir);

	for (; *name; name++)
		h = (h ^ (uint8_t)*name) * 0x100000001b3ull;
	return h ^ h >> 29;
}

int node_cache_init(struct node *n)
{
	struct node_cache *c = &n->cache;

	list_init(&c->age);
	c->inos = mem_alloc(n->mem, NODE_CACHE_BUCKETS * sizeof(struct list));
	c->names = mem_alloc(n->mem, NODE_CACHE_BUCKETS * sizeof(struct list));
	if (!c->inos || !c->names)
		return -ENOMEM;
	for (uint32_t i = 0; i < NODE_CACHE_BUCKETS; i++) {
		list_init(&c->inos[i]);
		list_init(&c->names[i]);
	}
	return 0;
}

/* ------------------------------------------------------------------ memory */

static struct node_cache_ino *find_ino(struct node_cache *c, uint64_t ino)
{
	list_for_each_entry (
		x, &c->inos[hash_ino(ino) % NODE_CACHE_BUCKETS], struct node_cache_ino, hash) {
		if (x->ino == ino)
			return x;
	}
	return NULL;
}

static struct node_cache_name *find_name(struct node_cache *c, uint64_t dir, const char *name)
{
	list_for_each_entry (x, &c->names[hash_name(dir, name) % NODE_CACHE_BUCKETS],
		struct node_cache_name, hash) {
		if (x->dir->ino == dir && !strcmp(x->text, name))
			return x;
	}
	return NULL;
}

static void free_name(struct node *n, struct node_cache_name *x)
{
	list_del(&x->hash);
	list_del(&x->of_dir);
	n->cache.name_count--;
	mem_free(n->mem, x, x->bytes);
}

static void free_if_empty(struct node *n, struct node_cache_ino *x)
{
	if (x->has_attr || !list_empty(&x->names))
		return;
	list_del(&x->hash);
	list_del(&x->age);
	n->cache.ino_count--;
	mem_free(n->mem, x, sizeof(*x));
}

static void forget_ino(struct node *n, struct node_cache_ino *x)
{
	list_for_each_entry_safe (name, tmp, &x->names, struct node_cache_name, of_dir)
		free_name(n, name);
	x->has_attr = false;
	free_if_empty(n, x);
}

static void forget_attr(struct node *n, uint64_t ino)
{
	struct node_cache_ino *x = find_ino(&n->cache, ino);

	if (!x)
		return;
	x->has_attr = false;
	free_if_empty(n, x);
}

static void forget_name(struct node *n, uint64_t dir, const char *name)
{
	struct node_cache_name *x = find_name(&n->cache, dir, name);
	struct node_cache_ino *d;

	if (!x)
		return;
	d = x->dir;
	free_name(n, x);
	free_if_empty(n, d);
}

/* To forget needs nobody's leave. */
static void make_room(struct node *n)
{
	struct node_cache *c = &n->cache;

	while (c->ino_count >= NODE_CACHE_INOS_MAX || c->name_count >= NODE_CACHE_NAMES_MAX)
		forget_ino(n, list_first_entry(&c->age, struct node_cache_ino, age));
}

static struct node_cache_ino *get_ino(struct node *n, uint64_t ino)
{
	struct node_cache *c = &n->cache;
	struct node_cache_ino *x = find_ino(c, ino);

	if (x) {
		list_del(&x->age);
		list_add_tail(&x->age, &c->age);
		return x;
	}
	x = mem_alloc(n->mem, sizeof(*x));
	if (!x)
		return NULL;
	x->ino = ino;
	list_init(&x->names);
	list_add_tail(&x->age, &c->age);
	list_add(&x->hash, &c->inos[hash_ino(ino) % NODE_CACHE_BUCKETS]);
	c->ino_count++;
	return x;
}

static void learn_attr(struct node *n, const struct fs_attr *a)
{
	struct node_cache_ino *x = get_ino(n, a->ino);

	if (!x)
		return;
	x->attr = *a;
	x->has_attr = true;
}

static void learn_name(
	struct node *n, uint64_t dir, uint32_t life, const char *name, uint64_t child)
{
	uint32_t bytes = (uint32_t)(sizeof(struct node_cache_name) + strlen(name) + 1);
	struct node_cache_ino *d = find_ino(&n->cache, dir);
	struct node_cache_name *x;

	if (d && d->life != life)
		forget_ino(n, d);
	x = find_name(&n->cache, dir, name);
	if (x) {
		x->child = child;
		return;
	}
	d = get_ino(n, dir);
	x = d ? mem_alloc(n->mem, bytes) : NULL;
	if (!x) {
		if (d)
			free_if_empty(n, d);
		return;
	}
	d->life = life;
	x->dir = d;
	x->child = child;
	x->bytes = bytes;
	memcpy(x->text, name, strlen(name) + 1);
	list_add(&x->of_dir, &d->names);
	list_add(&x->hash, &n->cache.names[hash_name(dir, name) % NODE_CACHE_BUCKETS]);
	n->cache.name_count++;
}

void node_cache_clear(struct node *n)
{
	struct node_cache *c = &n->cache;

	while (!list_empty(&c->age))
		forget_ino(n, list_first_entry(&c->age, struct node_cache_ino, age));
}

/* ------------------------------------------------------------------ what our own requests change */

static struct node_cache_slot *slot(struct node *n, uint64_t hash)
{
	return &n->cache.slot[hash % NODE_CACHE_SLOTS];
}

static void touch(struct node *n, uint64_t hash, int32_t pending)
{
	struct node_cache_slot *s = slot(n, hash);

	s->pending += (uint32_t)pending;
	if (pending >= 0)
		s->changed = ++n->cache.changes;
}

static bool untouched(struct node *n, uint64_t hash, uint64_t since)
{
	const struct node_cache_slot *s = slot(n, hash);

	return !s->pending && s->changed <= since;
}

/* Of everything that q changes: 1 before it is sent, -1 and then 0 when it has been answered. */
static void touch_all(struct node *n, const struct creq *q, int32_t pending)
{
	const struct cache_note *t = q->note;

	touch(n, hash_ino(q->ino), pending);
	for (int i = 0; t && i < 2; i++) {
		if (t->given[i])
			touch(n, hash_ino(t->given[i]), pending);
		if (t->dir[i])
			touch(n, hash_name(t->dir[i], t->name[i]), pending);
	}
	if (t && t->ino2)
		touch(n, hash_ino(t->ino2), pending);
}

bool node_cache_changes(const struct fs_request *rq)
{
	if (rq->op == FS_LAYOUT_GET)
		return rq->flags & FS_LAYOUT_WRITE;
	/* A CLOSE or READDIR seldom does: if it does, we are asked like anybody else. */
	return fs_op_needs_slot(rq->op) || rq->op == FS_LAYOUT_COMMIT;
}

static void note_name(struct cache_note *t, int i, uint64_t dir, const char *name)
{
	t->dir[i] = dir;
	memcpy(t->name[i], name, strlen(name) + 1);
}

/* Rule 3: whom a name leads to that goes. */
static uint64_t led_to(struct node *n, uint64_t dir, const char *name)
{
	const struct node_cache_name *x = find_name(&n->cache, dir, name);

	return x ? x->child : 0;
}

static void note_make(struct node *n, struct cache_note *t, const struct fs_request *rq)
{
	t->life = rq->op == FS_LINK ? rq->generation2 : rq->generation;
	switch (rq->op) {
	case FS_LINK:
		t->ino2 = rq->ino2;
		note_name(t, 0, rq->ino2, rq->name);
		return;
	case FS_RENAME:
		t->ino2 = rq->ino2;
		note_name(t, 0, rq->ino, rq->name);
		note_name(t, 1, rq->ino2, rq->name2);
		t->given[0] = led_to(n, rq->ino, rq->name);
		t->given[1] = led_to(n, rq->ino2, rq->name2);
		return;
	case FS_UNLINK:
	case FS_RMDIR:
		note_name(t, 0, rq->ino, rq->name);
		t->given[0] = led_to(n, rq->ino, rq->name);
		return;
	default:
		note_name(t, 0, rq->ino, rq->name);
		return;
	}
}

static bool has_names(const struct fs_request *rq)
{
	return (rq->op >= FS_MKNOD && rq->op <= FS_CREATE) || rq->op == FS_LOOKUP;
}

/* Rule 2. */
static void forget_all(struct node *n, const struct creq *q)
{
	const struct cache_note *t = q->note;

	forget_attr(n, q->ino);
	for (int i = 0; t && i < 2; i++) {
		if (t->dir[i])
			forget_name(n, t->dir[i], t->name[i]);
		forget_attr(n, t->given[i]);
	}
	if (t && t->ino2)
		forget_attr(n, t->ino2);
}

const struct fs_request *node_cache_asks(
	struct node *n, struct creq *q, const struct fs_request *rq)
{
	if (n->cfg.standalone)
		return rq;
	if (has_names(rq)) {
		q->note = mem_alloc(n->mem, sizeof(*q->note));
		if (!q->note)
			return NULL;
		note_make(n, q->note, rq);
	}
	q->changes = node_cache_changes(rq);
	if (q->changes) {
		forget_all(n, q);
		touch_all(n, q, 1);
	}
	q->seen = n->cache.changes;
	if (!q->note || (!q->note->given[0] && !q->note->given[1]))
		return rq;
	n->cache.rq = *rq;
	memcpy(n->cache.rq.given, q->note->given, sizeof(q->note->given));
	return &n->cache.rq;
}

void node_cache_unasked(struct node *n, struct creq *q)
{
	if (q->changes)
		touch_all(n, q, -1);
	q->changes = false;
	mem_free(n->mem, q->note, sizeof(*q->note));
	q->note = NULL;
}

/* ------------------------------------------------------------------ answers */

static bool live(const struct node *n)
{
	uint64_t since = n->coord ? session_lease_ns(n->coord) : 0;

	/* Rule 1. */
	return since && n->now_ns < since + CACHE_LEASE_NS && n->reclaim == RECLAIM_SERVED &&
	       n->standing && !n->unsure;
}

static void learn_names(struct node *n, const struct creq *q, const struct fs_reply *rp)
{
	const struct cache_note *t = q->note;
	uint64_t child = rp->attr.ino;

	if (rp->err == -ENOENT || q->op == FS_UNLINK || q->op == FS_RMDIR)
		child = 0;
	if (untouched(n, hash_name(t->dir[0], t->name[0]), q->seen))
		learn_name(n, t->dir[0], t->life, t->name[0], child);
}

void node_cache_learns(struct node *n, struct creq *q, const struct fs_reply *rp)
{
	bool changes = q->changes;

	if (changes)
		touch_all(n, q, -1);
	if (n->coord && n->reclaim == RECLAIM_SERVED && rp->lease) {
		make_room(n);
		if ((rp->lease & FS_LEASE_ATTR) && !rp->err && rp->attr.ino &&
			untouched(n, hash_ino(rp->attr.ino), q->seen))
			learn_attr(n, &rp->attr);
		if ((rp->lease & FS_LEASE_NAME) && q->note)
			learn_names(n, q, rp);
	}
	if (changes)
		touch_all(n, q, 0);
	q->changes = false;
	mem_free(n->mem, q->note, sizeof(*q->note));
	q->note = NULL;
}

static const struct fs_attr *known_attr(struct node *n, uint64_t ino)
{
	const struct node_cache_ino *x = find_ino(&n->cache, ino);

	return x && x->has_attr ? &x->attr : NULL;
}

bool node_cache_answer(
	struct node *n, uint64_t tag, const struct fs_request *rq, struct effects *fx)
{
	const struct node_cache_name *name;
	const struct fs_attr *a = NULL;
	struct fs_reply *rp;

	if (!live(n))
		return false;
	if (rq->op == FS_GETATTR) {
		a = known_attr(n, rq->ino);
		if (a && !fs_is_life(rq->generation, a->generation))
			return false;
	} else {
		name = find_name(&n->cache, rq->ino, rq->name);
		/* Another life of that number: the coordinator says so. */
		if (name && name->dir->life != rq->generation)
			return false;
		if (name && !name->child) {
			n->cache.hits++;
			node_reply_err(n, tag, -ENOENT, fx);
			return true;
		}
		a = name ? known_attr(n, name->child) : NULL;
	}
	if (!a)
		return false;
	n->cache.hits++;
	rp = effects_alloc(fx, sizeof(*rp));
	memset(rp, 0, sizeof(*rp));
	rp->attr = *a;
	node_file_overlay(n, &rp->attr);
	effects_add(fx, FX_REPLY, tag)->reply = rp;
	return true;
}

/* Rule 5. */
static void recalled(struct node *n, const struct msg *m, struct effects *fx)
{
	struct msg out = {.type = MSG_CACHE_GONE, .tag = m->tag, .cache = m->cache};

	for (uint32_t i = 0; i < m->cache.count; i++) {
		struct node_cache_ino *x = find_ino(&n->cache, m->cache.inos[i]);

		if (x)
			forget_ino(n, x);
	}
	(void)session_send(n->coord, &out, 0, 0, fx);
}

void node_cache_message(struct node *n, struct session *s, const struct msg *m, struct effects *fx)
{
	if (m->type == MSG_CACHE_GONE)
		node_cache_gone(n, s, m);
	else if (s == n->coord)
		recalled(n, m, fx);
}

void node_cache_check(const struct node *n)
{
	uint32_t inos = 0;

	csv_assert(n->coord || list_empty(&n->cache.age)); /* rule 6 */
	list_for_each_entry (x, &n->cache.age, struct node_cache_ino, age)
		inos++;
	csv_assert(inos == n->cache.ino_count);
}
