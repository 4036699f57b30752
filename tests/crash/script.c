/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/crash/script.h"

#include <errno.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "csvfs/base/assert.h"
#include "metadata/ops.h"

#define ROOT 0u
#define SHARED 1u
#define LIFE 0x11fe0000u

/* ------------------------------------------------------------------ what was executed */

static struct script *noting; /* the script whose main volume runs now */

static int note_execute(struct txn *t, struct vol_req *r)
{
	int err = metadata_ops.execute(t, r);
	struct actor *a = r->owner;

	/* One that changed nothing may be answered before an earlier one of another actor is durable. */
	if (err || !a || !noting || txn_room(t) == TXN_OP_BLOCKS)
		return err;
	csv_assert(noting->states < STATES_MAX);
	noting->logged[noting->states - 1] = a->id;
	noting->states++;
	noting->state[noting->states - 1] = 0; /* filled in by script_collect() */
	a->executed = noting->states;
	return 0;
}

static int note_replied(struct txn *t, struct vol_req *r)
{
	return metadata_ops.replied(t, r);
}

static int note_make_root(struct txn *t)
{
	return metadata_ops.make_root(t);
}

static int note_background(struct txn *t, uint64_t *ino)
{
	return metadata_ops.background(t, ino);
}

const struct vol_ops script_ops = {note_execute, note_replied, note_make_root, note_background};

/* ------------------------------------------------------------------ requests */

static void name_of(const struct actor *a, uint32_t slot, char *out)
{
	/* Long ones, so that few entries make a tree of several blocks. */
	(void)sprintf(out, "a%u-%u-%0*u", a->id, slot, 40 + (int)slot * 30, slot);
}

static uint64_t ino(const struct script *s, uint32_t node, enum which w)
{
	return s->node[node].ino[w];
}

static uint32_t xattr_bytes(const struct action *n)
{
	static const uint32_t sizes[] = {5, 300, 3000, 9000};

	return sizes[n->value % 4];
}

static void request_write(const struct script *s, const struct actor *a, enum which w,
	struct fs_request *rq)
{
	const struct action *n = &a->now;

	rq->ino = ino(s, n->node, w);
	if (a->phase != ACTOR_COMMIT) {
		rq->op = FS_LAYOUT_GET;
		rq->flags = FS_LAYOUT_WRITE;
		rq->off = n->off;
		rq->len = n->len;
		return;
	}
	rq->op = FS_LAYOUT_COMMIT;
	rq->extents = a->wrote;
	rq->extent_count = a->wrote_count;
	rq->valid = FS_SET_SIZE | FS_SET_MTIME;
	rq->attr.size = n->off + n->len;
	rq->attr.mtime_ns = n->time_ns;
}

/* What names a new or an old entry. */
static void request_name(const struct script *s, const struct actor *a, enum which w,
	struct fs_request *rq)
{
	static const enum fs_op ops[] = {
		[ACT_MKNOD] = FS_MKNOD, [ACT_MKDIR] = FS_MKDIR, [ACT_SYMLINK] = FS_SYMLINK,
		[ACT_LINK] = FS_LINK, [ACT_UNLINK] = FS_UNLINK, [ACT_RMDIR] = FS_RMDIR,
		[ACT_RENAME] = FS_RENAME};
	const struct action *n = &a->now;

	rq->op = ops[n->act];
	name_of(a, n->slot, rq->name);
	if (n->act <= ACT_SYMLINK)
		rq->ino = ino(s, n->dir, w);
	else if (n->act == ACT_LINK)
		rq->ino = ino(s, n->node, w);
	else
		rq->ino = ino(s, a->entry[n->slot].dir, w);
	rq->ino2 = ino(s, n->dir, w);
	if (n->act == ACT_RENAME)
		name_of(a, n->slot2, rq->name2);
	if (n->act == ACT_SYMLINK)
		rq->data_len = n->value % 2 ? 30 : 3000;
	rq->mode = n->act == ACT_MKDIR ? S_IFDIR | 0755 : S_IFREG | 0644;
}

static void request_inode(const struct script *s, const struct actor *a, enum which w,
	struct fs_request *rq)
{
	static const enum fs_op ops[] = {
		[ACT_CHMOD] = FS_SETATTR, [ACT_TRUNCATE] = FS_SETATTR, [ACT_SETXATTR] = FS_SETXATTR,
		[ACT_REMOVEXATTR] = FS_REMOVEXATTR, [ACT_FALLOCATE] = FS_FALLOCATE,
		[ACT_PUNCH] = FS_FALLOCATE};
	const struct action *n = &a->now;

	rq->op = ops[n->act];
	rq->ino = ino(s, n->node, w);
	rq->off = n->off;
	rq->len = n->len;
	rq->valid = n->act == ACT_CHMOD ? FS_SET_MODE : n->act == ACT_TRUNCATE ? FS_SET_SIZE : 0;
	rq->attr.mode = 0600 | (n->value & 077);
	rq->attr.size = n->off;
	(void)strcpy(rq->name, "user.x");
	if (n->act == ACT_SETXATTR)
		rq->data_len = xattr_bytes(n);
	if (n->act == ACT_PUNCH)
		rq->flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
}

static void request(const struct script *s, struct actor *a, enum which w, struct fs_request *rq)
{
	memset(rq, 0, sizeof(*rq));
	rq->time_ns = a->now.time_ns;
	rq->cred = (struct fs_cred){1000, 100, 022};
	rq->id.node = 7;
	rq->data = a->room;
	if (a->now.act <= ACT_RENAME)
		request_name(s, a, w, rq);
	else if (a->now.act == ACT_WRITE)
		request_write(s, a, w, rq);
	else
		request_inode(s, a, w, rq);
	if (!fs_op_needs_slot(rq->op))
		return;
	rq->id.slot = a->id + 1;
	rq->id.life = LIFE;
	rq->id.seq = a->seq;
}

/* ------------------------------------------------------------------ what to do next */

static uint32_t pick_slot(struct actor *a, bool present)
{
	uint32_t from = (uint32_t)prng_below(&a->prng, SLOTS);

	for (uint32_t i = 0; i < SLOTS; i++)
		if (a->entry[(from + i) % SLOTS].present == present)
			return (from + i) % SLOTS;
	return SLOTS;
}

/* A directory for a new name: the root, the shared one, or one of the actor's own. */
static uint32_t pick_dir(const struct script *s, struct actor *a)
{
	uint32_t slot = pick_slot(a, true);

	if (slot < SLOTS && prng_below(&a->prng, 3) == 0 &&
		s->node[a->entry[slot].node].kind == S_IFDIR)
		return a->entry[slot].node;
	return prng_below(&a->prng, 2) ? ROOT : SHARED;
}

static bool is_kind(const struct script *s, const struct actor *a, uint32_t slot, uint32_t kind)
{
	return slot < SLOTS && s->node[a->entry[slot].node].kind == kind;
}

static bool pick_new(const struct script *s, struct actor *a, struct action *n)
{
	n->slot = pick_slot(a, false);
	n->dir = pick_dir(s, a);
	return n->slot < SLOTS && s->nodes < 255;
}

static bool pick_rename(const struct script *s, struct actor *a, struct action *n)
{
	n->slot = pick_slot(a, true);
	n->slot2 = pick_slot(a, prng_below(&a->prng, 2));
	n->dir = prng_below(&a->prng, 2) ? ROOT : SHARED;
	if (n->slot == SLOTS || n->slot2 == SLOTS || n->slot == n->slot2)
		return false;
	n->node = a->entry[n->slot].node;
	if (!a->entry[n->slot2].present)
		return true;
	/* Over another: files only, and where that one is. Two names of one file: nothing happens. */
	n->dir = a->entry[n->slot2].dir;
	return s->node[n->node].kind != S_IFDIR &&
	       s->node[a->entry[n->slot2].node].kind != S_IFDIR &&
	       a->entry[n->slot2].node != n->node;
}

static bool pick_existing(const struct script *s, struct actor *a, struct action *n)
{
	n->slot = pick_slot(a, true);
	if (n->slot == SLOTS)
		return false;
	n->node = a->entry[n->slot].node;
	return true;
}

/* False: not possible now. */
static bool pick(struct script *s, struct actor *a, struct action *n)
{
	uint64_t cluster = s->cluster_bytes;

	memset(n, 0, sizeof(*n));
	n->act = (enum act)prng_below(&a->prng, ACT_COUNT);
	n->value = (uint32_t)prng_below(&a->prng, 1u << 16);
	n->off = prng_below(&a->prng, 12) * cluster;
	n->len = (1 + prng_below(&a->prng, 4)) * cluster;
	switch (n->act) {
	case ACT_MKNOD:
	case ACT_MKDIR:
	case ACT_SYMLINK:
		return pick_new(s, a, n);
	case ACT_LINK: {
		uint32_t slot = pick_slot(a, true);

		if (!is_kind(s, a, slot, S_IFREG) || !pick_new(s, a, n))
			return false;
		n->node = a->entry[slot].node;
		return true;
	}
	case ACT_UNLINK:
		return pick_existing(s, a, n) && s->node[n->node].kind != S_IFDIR;
	case ACT_RMDIR:
		return pick_existing(s, a, n) && s->node[n->node].kind == S_IFDIR &&
		       !s->node[n->node].children;
	case ACT_RENAME:
		return pick_rename(s, a, n);
	case ACT_CHMOD:
		return pick_existing(s, a, n) && s->node[n->node].kind != S_IFLNK;
	case ACT_SETXATTR:
		return pick_existing(s, a, n) && s->node[n->node].kind != S_IFLNK;
	case ACT_REMOVEXATTR:
		return pick_existing(s, a, n) && s->node[n->node].has_xattr;
	case ACT_TRUNCATE:
	case ACT_WRITE:
	case ACT_FALLOCATE:
	case ACT_PUNCH:
		return pick_existing(s, a, n) && s->node[n->node].kind == S_IFREG;
	case ACT_COUNT:
		break;
	}
	return false;
}

/* ------------------------------------------------------------------ what an action did */

static uint32_t new_node(struct script *s, uint32_t kind)
{
	s->node[s->nodes] = (struct node_of){.kind = kind, .names = 1};
	return s->nodes++;
}

static void add_name(struct script *s, struct actor *a, uint32_t slot, uint32_t dir, uint32_t node)
{
	a->entry[slot] = (struct entry){true, dir, node};
	s->node[dir].children++;
}

static void drop_name(struct script *s, struct actor *a, uint32_t slot)
{
	a->entry[slot].present = false;
	s->node[a->entry[slot].dir].children--;
}

static void learn(struct script *s, struct actor *a, enum which w, const struct fs_reply *rp)
{
	if (a->now.act <= ACT_SYMLINK)
		s->node[a->now.node].ino[w] = rp->attr.ino;
}

static void action_done(struct script *s, struct actor *a)
{
	const struct action *n = &a->now;

	switch (n->act) {
	case ACT_MKNOD:
	case ACT_MKDIR:
	case ACT_SYMLINK:
	case ACT_LINK:
		add_name(s, a, n->slot, n->dir, n->node);
		break;
	case ACT_UNLINK:
	case ACT_RMDIR:
		drop_name(s, a, n->slot);
		break;
	case ACT_RENAME:
		if (a->entry[n->slot2].present)
			drop_name(s, a, n->slot2);
		drop_name(s, a, n->slot);
		add_name(s, a, n->slot2, n->dir, n->node);
		break;
	case ACT_SETXATTR:
	case ACT_REMOVEXATTR:
		s->node[n->node].has_xattr = n->act == ACT_SETXATTR;
		break;
	default:
		break;
	}
	a->phase = ACTOR_IDLE;
	a->left--;
}

/* ------------------------------------------------------------------ running */

static void submit(struct script *s, struct actor *a)
{
	memset(&a->req, 0, sizeof(a->req));
	a->seq++;
	request(s, a, MAIN, &a->req.rq);
	a->req.owner = a;
	a->req.reply.extents = a->got;
	a->req.reply.extent_room = 64;
	a->executed = 0;
	vol_submit(s->main->vol, &a->req);
}

void script_submit(struct script *s)
{
	static const uint32_t kinds[] = {S_IFREG, S_IFDIR, S_IFLNK};

	for (uint32_t i = 0; i < s->actors; i++) {
		struct actor *a = &s->actor[i];

		if (a->phase != ACTOR_IDLE || !a->left || prng_below(&s->prng, 3) == 0)
			continue;
		while (!pick(s, a, &a->now))
			;
		a->now.time_ns = s->time_ns += 1000;
		if (a->now.act <= ACT_SYMLINK)
			a->now.node = new_node(s, kinds[a->now.act]);
		a->phase = ACTOR_REQUEST;
		submit(s, a);
	}
}

/* What stands in the first bytes of each cluster: file and place. */
static void data_fill(const struct script *s, const struct actor *a, uint64_t off, uint8_t *buf)
{
	uint64_t tag = ((uint64_t)a->now.node << 32 | off / s->cluster_bytes) ^ 0xda7a000000000000ull;

	memset(buf, 0, s->cluster_bytes);
	memcpy(buf, &tag, 8);
}

/* Of the pieces of the layout, those clusters of our range that we are to write first. */
static void first_writes(struct script *s, struct actor *a, const struct fs_extent *x, uint32_t n,
	void (*put)(struct script *s, struct actor *a, uint64_t off, uint64_t lun_off))
{
	uint64_t end = a->now.off + a->now.len;

	for (uint32_t i = 0; i < n; i++) {
		if (x[i].state != EXT_UNWRITTEN)
			continue;
		for (uint64_t o = x[i].off; o < x[i].off + x[i].len; o += s->cluster_bytes)
			if (o >= a->now.off && o < end)
				put(s, a, o, x[i].lun_off + (o - x[i].off));
	}
}

static void put_main(struct script *s, struct actor *a, uint64_t off, uint64_t lun_off)
{
	static uint8_t buf[CLUSTER_MAX];

	csv_assert(a->wrote_count < DATA_WRITES_MAX);
	data_fill(s, a, off, buf);
	a->data[a->data_count++] =
		disk_send(s->main->disk, lun_off, buf, s->cluster_bytes, false);
	a->wrote[a->wrote_count++] =
		(struct fs_extent){off, s->cluster_bytes, lun_off, EXT_WRITTEN, 0};
}

static void put_model(struct script *s, struct actor *a, uint64_t off, uint64_t lun_off)
{
	static uint8_t buf[CLUSTER_MAX];

	data_fill(s, a, off, buf);
	disk_write_now(s->model->disk, lun_off, buf, s->cluster_bytes);
}

static void start_commit(struct script *s, struct actor *a)
{
	a->phase = ACTOR_COMMIT;
	submit(s, a);
}

bool script_data_done(struct script *s)
{
	for (uint32_t k = 0; k < s->actors; k++) {
		struct actor *a = &s->actor[k];
		uint32_t at;

		if (a->phase != ACTOR_DATA)
			continue;
		at = (uint32_t)prng_below(&s->prng, a->data_count);
		disk_done(s->main->disk, a->data[at]);
		a->data[at] = a->data[--a->data_count];
		if (!a->data_count)
			start_commit(s, a);
		return true;
	}
	return false;
}

static void fault(struct script *s, const char *what, const struct actor *a, int err)
{
	if (!s->fault[0])
		(void)snprintf(s->fault, sizeof(s->fault), "%s: actor %u, act %d, phase %d: error %d",
			what, a->id, (int)a->now.act, (int)a->phase, err);
}

/* The model does what the main volume has just done. */
static void follow(struct script *s, struct actor *a, uint32_t at)
{
	struct fs_extent x[64];
	struct fs_reply rp = {.extents = x, .extent_room = 64};
	struct fs_request rq;
	int err;

	if (a->now.act == ACT_WRITE && a->phase == ACTOR_COMMIT) {
		rq = (struct fs_request){.op = FS_LAYOUT_GET, .ino = ino(s, a->now.node, MODEL),
			.off = a->now.off, .len = a->now.len};
		err = world_request(s->model, &rq, &rp);
		if (err)
			fault(s, "model's layout", a, err);
		first_writes(s, a, x, rp.extent_count, put_model);
	}
	request(s, a, MODEL, &rq);
	for (uint32_t i = 0; i < a->wrote_count; i++)
		a->wrote[i].lun_off = 0;
	rp = (struct fs_reply){.extents = x, .extent_room = 64};
	err = world_request(s->model, &rq, &rp);
	if (err)
		fault(s, "model", a, err);
	learn(s, a, MODEL, &rp);
	s->state[at] = script_dump(s->model, s->cluster_bytes, false, &err);
	if (err)
		fault(s, "model's dump", a, err);
}

static void replied(struct script *s, struct actor *a)
{
	if (a->req.reply.err) {
		fault(s, "reply", a, a->req.reply.err);
		a->left = 0;
		a->phase = ACTOR_IDLE;
		return;
	}
	if (a->executed > s->acked)
		s->acked = a->executed;
	learn(s, a, MAIN, &a->req.reply);
	if (a->now.act != ACT_WRITE || a->phase == ACTOR_COMMIT) {
		action_done(s, a);
		return;
	}
	a->wrote_count = 0;
	a->data_count = 0;
	first_writes(s, a, a->got, a->req.reply.extent_count, put_main);
	a->phase = ACTOR_DATA;
	if (!a->data_count)
		start_commit(s, a);
}

void script_collect(struct script *s)
{
	struct vol_req *r;

	for (uint32_t i = 1; i < s->states; i++)
		if (!s->state[i])
			follow(s, &s->actor[s->logged[i - 1]], i);
	while ((r = vol_next_done(s->main->vol)) != NULL)
		replied(s, r->owner);
}

bool script_finished(const struct script *s)
{
	for (uint32_t i = 0; i < s->actors; i++)
		if (s->actor[i].left || s->actor[i].phase != ACTOR_IDLE)
			return false;
	return true;
}

bool script_resend(struct script *s, uint32_t actor, struct fs_request *rq)
{
	struct actor *a = &s->actor[actor];

	if (a->phase == ACTOR_IDLE || !a->executed)
		return false;
	*rq = a->req.rq;
	return rq->id.slot != 0;
}

static uint64_t root_of(struct world *w)
{
	return le64_get(vol_super(w->vol)->root_ino);
}

void script_start(struct script *s, struct world *main, struct world *model, uint64_t seed,
	uint32_t actors, uint32_t actions, uint32_t cluster_bytes)
{
	struct world *both[2] = {main, model};
	int err;

	memset(s, 0, sizeof(*s));
	s->main = main;
	s->model = model;
	s->seed = seed;
	s->prng.s = seed * 77;
	s->cluster_bytes = cluster_bytes;
	s->actors = actors;
	s->nodes = 2;
	s->time_ns = 1700000000000000000ll;
	s->node[ROOT] = (struct node_of){.kind = S_IFDIR, .names = 1};
	s->node[SHARED] = (struct node_of){.kind = S_IFDIR, .names = 1};
	noting = NULL;
	for (uint32_t i = 0; i < 2; i++) {
		struct fs_request rq = {.op = FS_MKDIR, .mode = S_IFDIR | 0777, .name = "shared",
			.time_ns = 5};
		struct fs_reply rp = {.err = 0};

		rq.ino = s->node[ROOT].ino[i] = root_of(both[i]);
		err = world_request(both[i], &rq, &rp);
		csv_assert(err == 0);
		s->node[SHARED].ino[i] = rp.attr.ino;
	}
	for (uint32_t i = 0; i < actors; i++) {
		s->actor[i].id = i;
		s->actor[i].left = actions;
		s->actor[i].prng.s = seed * 1000 + i;
		memset(s->actor[i].room, 'a' + (int)i, sizeof(s->actor[i].room));
	}
	s->states = 1;
	s->state[0] = script_dump(model, cluster_bytes, false, &err);
	csv_assert(err == 0);
	noting = s;
}

/* ------------------------------------------------------------------ the dump */

struct dump {
	struct world *w;
	uint32_t cluster_bytes;
	uint64_t hash;
	bool print;
	int err;
};

static void mix(struct dump *d, const void *p, size_t n)
{
	const uint8_t *b = p;

	while (n--)
		d->hash = (d->hash ^ *b++) * 0x100000001b3ull;
}

static int ask(struct dump *d, const struct fs_request *rq, struct fs_reply *rp)
{
	int err = world_request(d->w, rq, rp);

	if (err && !d->err)
		d->err = err;
	return err;
}

static void dump_data(struct dump *d, uint64_t ino, uint64_t size)
{
	struct fs_extent x[64];
	struct fs_reply rp = {.extents = x, .extent_room = 64};
	struct fs_request rq = {.op = FS_LAYOUT_GET, .ino = ino, .len = size};

	if (!size || ask(d, &rq, &rp))
		return;
	for (uint32_t i = 0; i < rp.extent_count; i++) {
		if (x[i].state != EXT_WRITTEN)
			continue;
		for (uint64_t o = 0; o < x[i].len && x[i].off + o < size; o += d->cluster_bytes) {
			uint64_t at = x[i].off + o, tag;

			disk_read(d->w->disk, x[i].lun_off + o, &tag, 8);
			mix(d, &at, 8);
			mix(d, &tag, 8);
			if (d->print)
				fprintf(stderr, "      %llx: %llx at lun %llx\n",
					(unsigned long long)at, (unsigned long long)tag,
					(unsigned long long)(x[i].lun_off + o));
		}
	}
}

static void dump_xattr(struct dump *d, uint64_t ino)
{
	static uint8_t buf[65536];
	struct fs_reply rp = {.data = buf, .data_room = sizeof(buf)};
	struct fs_request rq = {.op = FS_GETXATTR, .ino = ino, .name = "user.x"};
	int err = world_request(d->w, &rq, &rp);

	if (err && err != -ENODATA && !d->err)
		d->err = err;
	if (err)
		return;
	mix(d, &rp.data_len, 4);
	mix(d, buf, rp.data_len);
}

static void dump_link(struct dump *d, uint64_t ino)
{
	uint8_t buf[4096];
	struct fs_reply rp = {.data = buf, .data_room = sizeof(buf)};
	struct fs_request rq = {.op = FS_READLINK, .ino = ino};

	if (!ask(d, &rq, &rp))
		mix(d, buf, rp.data_len);
}

static void dump_dir(struct dump *d, uint64_t ino, uint32_t depth);

static void dump_node(struct dump *d, uint64_t ino, uint32_t depth)
{
	struct fs_reply rp = {.err = 0};
	struct fs_request rq = {.op = FS_GETATTR, .ino = ino};
	const struct fs_attr *t = &rp.attr;

	if (ask(d, &rq, &rp))
		return;
	mix(d, &t->size, 8);
	mix(d, &t->mode, 4);
	mix(d, &t->uid, 4);
	mix(d, &t->nlink, 4);
	mix(d, &t->mtime_ns, 8);
	mix(d, &t->ctime_ns, 8);
	if (d->print)
		fprintf(stderr, " ino %llx mode %o size %llu nlink %u mtime %lld ctime %lld\n",
			(unsigned long long)ino, t->mode, (unsigned long long)t->size, t->nlink,
			(long long)t->mtime_ns, (long long)t->ctime_ns);
	if (S_ISREG(t->mode))
		dump_data(d, ino, t->size);
	if (S_ISLNK(t->mode))
		dump_link(d, ino);
	else
		dump_xattr(d, ino);
	if (S_ISDIR(t->mode) && depth < 20)
		dump_dir(d, ino, depth + 1);
}

static void dump_dir(struct dump *d, uint64_t ino, uint32_t depth)
{
	uint64_t buf[1024];
	struct fs_request rq = {.op = FS_READDIR, .ino = ino, .len = sizeof(buf)};

	for (;;) {
		struct fs_reply rp = {.data = buf, .data_room = sizeof(buf)};
		uint8_t *p = (uint8_t *)buf;

		if (ask(d, &rq, &rp) || !rp.data_len)
			return;
		while (p < (uint8_t *)buf + rp.data_len) {
			struct fs_dirent *e = (struct fs_dirent *)p;
			const char *name = (const char *)(e + 1);

			rq.off = e->cookie;
			p += FS_DIRENT_SIZE(e->namelen);
			if (name[0] == '.')
				continue;
			mix(d, name, e->namelen);
			mix(d, &e->type, 4);
			if (d->print)
				fprintf(stderr, "    %*s%.*s", (int)depth * 2, "", (int)e->namelen,
					name);
			dump_node(d, e->ino, depth);
		}
	}
}

uint64_t script_dump(struct world *w, uint32_t cluster_bytes, bool print, int *err)
{
	struct dump d = {w, cluster_bytes, 0xcbf29ce484222325ull, print, 0};
	struct script *was = noting;

	noting = NULL;
	if (print)
		fprintf(stderr, "    /");
	dump_node(&d, root_of(w), 0);
	noting = was;
	*err = d.err;
	return d.hash ? d.hash : 1;
}
