/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * node_server.c - the coordinator's side: requests of all nodes, the rights they need, and the engine.
 *
 *   request -> LEASE --granted--> [LOOK -> [LOOK] -> ZERO_READ -> ZERO_WRITE] -> ENGINE --durable--> reply
 *                ^ waits at its inode for recalls and for what runs there
 *
 * Rules
 *  1. A request runs only while takeover is in SERVE and its node has reclaimed in this session.
 *  2. LAYOUT_GET waits until everybody whose knowledge it would make wrong, or whose right to write stands against it,
 *     has given it back (lease_conflicts), and for exclusive operations on the inode.
 *  3. A change of size by SETATTR is exclusive: all layouts of the inode, the asking node's too, are
 *     given back before it runs (invariant 8: what it frees is nobody's), and none is granted until
 *     it is durable. So is fallocate(2), for what it frees, or since it may make the file longer. Before either, the rest
 *     of the cluster in which the file ends (the new end, if that comes first) is zeroed on the LUN: nobody knows what it
 *     holds (rule 4 of dp.h), and an append, which sets the size before it writes, would show it (invariant 6).
 *     So is what makes a file one of which a write takes something away (setuid, setgid, capabilities): a node
 *     that has a layout looks at these no more.
 *  4. A request waits in the order of arrival at its inode: nobody starves.
 *  5. A node that does not answer a recall is fenced, unless it is us who has not answered its commit; its rights
 *     end when it is fenced and its lease is over (reads need no registration), or when it has told that it
 *     forgot them (rule 7). Those of a life that another one has replaced end by its fence alone, whatever the next one does.
 *  6. Replies leave when the engine says durable, and we know that we were not replaced: our lease runs, and
 *     we did not sleep (node.c, woke()). A reply whose session is gone is dropped: the node
 *     asks again, and the reply cache answers.
 *  7. Layouts can be reclaimed by who was a member when we took over and has not been given up since, nor in
 *     the term before. Others were out of sight when what they held may have been given away: theirs are
 *     void. Who is given up is named in the claim before others are served (takeover_given.c).
 *  8. Whoever restarts what ran on a node that is gone opens its disk first, and nothing old may land in it (invariant 9).
 *     So a file is opened only when no write of such a node is in flight here on its behalf; and what such a node had a
 *     layout of, nobody opens, or is granted one of, before it is fenced. Who had one before keeps that: what is opened once more
 *     on its node is asked for, too (node_reopen.c).
 *  9. What waits, and is of a node that has left or that we fence, is not done any more. If the node lives, it asks again in its
 *     next session. Done later, it would undo what others, who know that this node is gone, have written since.
 */
#include <errno.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/stat.h>

#include "csvfs/base/assert.h"
#include "csvfs/node_int.h"
#include "metadata/ops.h"

#define BIT(idx) (1ull << (idx))

void node_server_init(struct node *n)
{
	list_init(&n->sreqs);
	list_init(&n->short_of_space);
	list_init(&n->times_waiting);
	list_init(&n->served);
	lease_init(&n->leases, n->mem);
	node_lock_init(n);
	n->recall_deadline_ns = n->append_deadline_ns = NEVER;
}

struct peer *node_peer(struct node *n, uint32_t node)
{
	for (unsigned i = 0; i < n->peers_end; i++) {
		if (n->peers[i].node == node)
			return &n->peers[i];
	}
	return NULL;
}

static uint32_t peer_idx(const struct node *n, const struct peer *p)
{
	return (uint32_t)(p - n->peers);
}

/* ------------------------------------------------------------------ requests: memory */

static void sreq_free(struct node *n, struct sreq *s)
{
	node_cache_no_wait(n, s);
	list_del(&s->link);
	list_del(&s->waiting);
	mem_free(n->mem, s->data, s->data_bytes);
	mem_free(n->mem, s->vr.reply.data, s->room_bytes);
	mem_free(n->mem, s->extents, s->extent_bytes);
	mem_free(n->mem, s->zero_buf, CLUSTER_MAX);
	mem_free(n->mem, s, sizeof(*s));
}

static uint32_t data_room_of(const struct fs_request *rq)
{
	switch (rq->op) {
	case FS_READDIR:
		return rq->len < SREQ_DATA_ROOM ? (uint32_t)rq->len : SREQ_DATA_ROOM;
	case FS_READLINK:
		return SYMLINK_BYTES_MAX + 1;
	case FS_GETXATTR:
	case FS_LISTXATTR:
		return XATTR_BYTES_MAX;
	case FS_UNLINK:
	case FS_RMDIR:
	case FS_RENAME:
		return FS_GONE_BYTES_MAX;
	default:
		return 0;
	}
}

/* The caller's rq is valid during this event only; the engine wants it until the reply. */
static bool sreq_copy(struct node *n, struct sreq *s, const struct fs_request *rq)
{
	uint32_t ext = rq->extent_count * (uint32_t)sizeof(*rq->extents);

	s->vr.rq = *rq;
	s->vr.owner = s;
	s->data_bytes = rq->data_len + ext;
	if (s->data_bytes) {
		s->data = mem_alloc(n->mem, s->data_bytes);
		if (!s->data)
			return false;
		if (ext)
			memcpy(s->data, rq->extents, ext);
		if (rq->data_len)
			memcpy((uint8_t *)s->data + ext, rq->data, rq->data_len);
		s->vr.rq.extents = s->data;
		s->vr.rq.data = (uint8_t *)s->data + ext;
	}
	s->room_bytes = data_room_of(rq);
	if (s->room_bytes) {
		s->vr.reply.data = mem_alloc(n->mem, s->room_bytes);
		s->vr.reply.data_room = s->room_bytes;
		if (!s->vr.reply.data)
			return false;
	}
	if (rq->op == FS_LAYOUT_GET || node_size_set_by(rq)) {
		s->extent_bytes = EXTENTS_PER_REPLY * sizeof(struct fs_extent);
		s->extents = mem_alloc(n->mem, s->extent_bytes);
		if (!s->extents)
			return false;
		s->vr.reply.extents = s->extents;
		s->vr.reply.extent_room = EXTENTS_PER_REPLY;
	}
	return true;
}

/* ------------------------------------------------------------------ replies */

static void send_reply(struct node *n, struct sreq *s, struct effects *fx)
{
	struct session *to;
	struct msg m = {0};

	if (s->drop)
		return;
	if (s->local) {
		node_answer(n, s->wire_tag, &s->id, &s->vr.reply, fx);
		return;
	}
	to = session_from(n->sessions, s->node);
	if (!to)
		return; /* rule 6 */
	node_cache_grant(n, s);
	m.type = MSG_REPLY;
	m.tag = s->wire_tag;
	m.reply.op = s->vr.rq.op;
	m.reply.id = s->id;
	m.reply.r = s->vr.reply;
	if (!session_send(to, &m, 0, 0, fx))
		trace(n->trace, TRACE_ERROR, "reply to %s of node %u cannot be carried",
			fs_op_name(s->vr.rq.op), s->node);
}

void node_server_forget(struct node *n, struct sreq *s)
{
	sreq_free(n, s);
	n->leases_changed = true;
}

void node_server_finish(struct node *n, struct sreq *s, int32_t err, struct effects *fx)
{
	s->vr.reply.err = err;
	send_reply(n, s, fx);
	sreq_free(n, s);
}

/* ------------------------------------------------------------------ leases */

static void recall(struct node *n, struct lease_ino *li, uint64_t mask, struct effects *fx)
{
	mask = node_peers_recall(n, li, mask);
	for (uint32_t idx = 0; mask && idx < NODES_MAX; idx++) {
		struct session *to;
		struct msg m = {.type = MSG_RECALL, .recall = {.ino = li->ino}};

		if (!(mask & BIT(idx)))
			continue;
		trace(n->trace, TRACE_DEBUG, "recall of ino %lx from node %u", li->ino,
			n->peers[idx].node);
		if (n->peers[idx].node == n->cfg.node) {
			node_file_recall(n, li->ino, fx);
			continue;
		}
		to = session_from(n->sessions, n->peers[idx].node);
		/* No session now: sent again when it has come back and reclaimed. */
		if (to)
			(void)session_send(to, &m, 0, 0, fx);
	}
}

static bool wants_exclusive(const struct fs_request *rq)
{
	/* CREATE and the like make files that nobody knows yet. */
	if (rq->op == FS_SETXATTR)
		return !strcmp(rq->name, "security.capability");
	if (rq->op == FS_SETATTR && (rq->valid & FS_SET_MODE) &&
		(rq->attr.mode & (S_ISUID | S_ISGID)))
		return true;
	if (rq->op == FS_FALLOCATE)
		return rq->flags != FALLOC_FL_KEEP_SIZE;
	return rq->op == FS_SETATTR && (rq->valid & FS_SET_SIZE);
}

static bool wants_lease(const struct fs_request *rq)
{
	return rq->op == FS_LAYOUT_GET || rq->op == FS_OPEN || rq->op == FS_APPEND || wants_exclusive(rq);
}

void node_server_engine(struct node *n, struct sreq *s)
{
	s->stage = SREQ_ENGINE;
	s->seen = n->cache_leases.changes;
	vol_submit(n->vol, &s->vr);
}

/* A node that is gone has writes in flight here that we do for it. */
static bool writes_of_the_dead(const struct node *n)
{
	for (unsigned i = 0; i < NODES_MAX; i++) {
		if (n->peers[i].node && node_carry_busy(&n->peers[i]) && !n->peers[i].served)
			return true;
	}
	return false;
}

/* Who is gone, or has a next life in its place, and what it has written may still land: it is not fenced, or we do it. */
static uint64_t not_over(const struct node *n)
{
	uint64_t mask = 0;

	for (unsigned i = 0; i < n->peers_end; i++) {
		const struct peer *p = &n->peers[i];

		if (!p->node)
			continue;
		if (p->older || (p->evicted_ns && ((p->evicting && !p->clean) || node_carry_busy(p))))
			mask |= BIT(i);
	}
	return mask;
}

static void submit_open(struct node *n, struct lease_ino *li, struct sreq *s)
{
	s->was_open = li->open_mask & BIT(s->idx);
	/* Before the engine looks: an unlink that runs meanwhile must find it open. */
	li->open_mask |= BIT(s->idx);
	list_del(&s->waiting);
	node_server_engine(n, s);
}

/*
 * A node whose rights have ended meanwhile, and that is back, has another place among the peers, and the one it had may be
 * another's. False: it has none, and asks again when it has.
 */
bool node_server_has_place(struct node *n, struct sreq *s)
{
	const struct peer *p = node_peer(n, s->node);

	if (s->trim || s->sweep)
		return true;
	if (!p || p->life != s->id.life)
		return false;
	s->idx = peer_idx(n, p);
	return true;
}

/* True: the request has left the queue of its inode. */
static bool try_grant(struct node *n, struct lease_ino *li, struct sreq *s, struct effects *fx)
{
	uint64_t mask;

	if (node_append_waits(li, s))
		return true;
	if (s->vr.rq.op == FS_LSEEK) {
		/* Who first-wrote elsewhere commits before it gives back (rule 2 for a read of all of it). */
		mask = lease_conflicts(li, s->idx, false, 0, FILE_BYTES_MAX);
		if (mask) {
			recall(n, li, mask, fx);
			return false;
		}
		list_del(&s->waiting);
		node_server_engine(n, s);
		return true;
	}
	if (s->vr.rq.op == FS_OPEN) {
		if (writes_of_the_dead(n) || (li->holder_mask & not_over(n)))
			return false;
		submit_open(n, li, s);
		return true;
	}
	if (li->exclusive)
		return false;
	if (s->vr.rq.op == FS_APPEND) {
		if (li->granting)
			return false;
		node_append_placing(li, s);
		list_del(&s->waiting);
		node_server_engine(n, s);
		return true;
	}
	if (s->exclusive) {
		if (li->granting)
			return false;
		if (li->holder_mask) {
			recall(n, li, li->holder_mask, fx);
			return false;
		}
		li->exclusive = true;
		list_del(&s->waiting);
		if (node_size_set_by(&s->vr.rq))
			node_size_look(n, s);
		else
			node_server_engine(n, s);
		return true;
	}
	if (li->holder_mask & not_over(n))
		return false;
	mask = lease_conflicts(li, s->idx, s->vr.rq.flags, s->vr.rq.off, s->vr.rq.len);
	/* Two grants in the engine at once could give one range to two nodes. */
	if (li->granting)
		return false;
	if (mask) {
		recall(n, li, mask, fx);
		return false;
	}
	if ((s->vr.rq.flags & FS_LAYOUT_WRITE) && !node_times_may_write(n, li, s))
		return false;
	li->granting++;
	/* What may be written there is not the same everywhere: it begins where it was asked for. */
	if (li->edged || (s->vr.rq.flags & FS_LAYOUT_EDGE))
		s->vr.rq.flags &= ~FS_LAYOUT_AROUND;
	list_del(&s->waiting);
	node_server_engine(n, s);
	return true;
}

/* In order of arrival (rule 4). Who waited for an append came before those who wait now. */
void node_server_pump(struct node *n, struct lease_ino *li, struct effects *fx)
{
	list_splice_tail(&li->waiting, &li->appends.waiting);
	list_splice_tail(&li->appends.waiting, &li->waiting);
	while (!list_empty(&li->waiting)) {
		struct sreq *s = list_first_entry(&li->waiting, struct sreq, waiting);

		if (!effects_room(fx, 80, 16384)) {
			n->leases_changed = true;
			return;
		}
		if (!node_server_has_place(n, s)) {
			node_server_forget(n, s);
			continue;
		}
		if (!try_grant(n, li, s, fx))
			return;
	}
}

static void pump_and_put(struct node *n, uint64_t ino, struct effects *fx)
{
	struct lease_ino *li = lease_find(&n->leases, ino);

	if (!li)
		return;
	node_server_pump(n, li, fx);
	lease_put(&n->leases, li);
}

/* ------------------------------------------------------------------ a request arrives */

static void serve_close(struct node *n, struct sreq *s, struct effects *fx)
{
	uint64_t ino = s->vr.rq.ino;
	struct lease_ino *li = lease_find(&n->leases, ino);

	if (li) {
		lease_return(&n->leases, li, s->idx);
		node_append_drop(n, li, s->idx);
		lease_closed(li, s->idx);
		pump_and_put(n, ino, fx);
	}
	if (lease_is_open(&n->leases, ino)) {
		node_server_finish(n, s, 0, fx);
		return;
	}
	/* The last one anywhere: if it has no link either, it goes. */
	s->vr.rq.op = FS_FREE_ORPHAN;
	s->vr.rq.flags = 0;
	node_server_engine(n, s);
}

static void serve_appended(struct node *n, struct sreq *s, struct effects *fx)
{
	uint64_t ino = s->vr.rq.ino;
	struct lease_ino *li = lease_find(&n->leases, ino);

	if (li)
		node_append_over(n, li, s);
	node_server_finish(n, s, 0, fx);
	pump_and_put(n, ino, fx);
}

static void serve_return(struct node *n, struct sreq *s, struct effects *fx)
{
	uint64_t ino = s->vr.rq.ino;
	struct lease_ino *li = lease_find(&n->leases, ino);

	if (li)
		lease_return(&n->leases, li, s->idx);
	/* The answer first: what the waiting requests grant must come behind it. */
	node_server_finish(n, s, 0, fx);
	pump_and_put(n, ino, fx);
}

/* It shows them, or says what they are from now on: not what was written before. */
static bool wants_times(const struct fs_request *rq)
{
	return rq->op == FS_GETATTR || (rq->op == FS_SETATTR && (rq->valid & (FS_SET_MTIME | FS_SET_ATIME)));
}

void node_server_serve(struct node *n, struct sreq *s, struct effects *fx)
{
	const struct fs_request *rq = &s->vr.rq;
	struct lease_ino *li;

	if (wants_times(rq) && node_times_wait(n, s, rq->ino, fx))
		return;
	if (wants_lease(rq)) {
		li = lease_get(&n->leases, rq->ino);
		if (!li) {
			node_server_no_memory(n, s->node, s->local, s->wire_tag, rq, fx);
			node_server_forget(n, s);
			return;
		}
		if ((rq->op == FS_LAYOUT_GET || rq->op == FS_APPEND) && !(li->open_mask & BIT(s->idx))) {
			lease_put(&n->leases, li);
			node_server_finish(n, s, -ESTALE, fx);
			return;
		}
		s->exclusive = wants_exclusive(rq);
		list_add_tail(&s->waiting, &li->waiting);
		node_server_pump(n, li, fx);
		return;
	}
	switch (rq->op) {
	case FS_LSEEK:
		/* Nothing is known of it that it would have to wait for: the engine at once. */
		li = lease_find(&n->leases, rq->ino);
		if (!li)
			break;
		list_add_tail(&s->waiting, &li->waiting);
		node_server_pump(n, li, fx);
		return;
	case FS_APPENDED:
		serve_appended(n, s, fx);
		return;
	case FS_CLOSE:
		serve_close(n, s, fx);
		return;
	case FS_LAYOUT_RETURN:
		serve_return(n, s, fx);
		return;
	default:
		break;
	}
	node_server_engine(n, s);
}

void node_server_again(struct node *n, struct sreq *s, struct effects *fx)
{
	list_del(&s->waiting);
	if (node_server_has_place(n, s))
		node_server_serve(n, s, fx);
	else
		node_server_forget(n, s);
}

static bool in_flight(struct node *n, uint32_t node, const struct fs_request *rq, uint64_t wire_tag)
{
	list_for_each_entry (s, &n->sreqs, struct sreq, link) {
		if (s->node != node || s->id.life != rq->id.life || s->drop)
			continue;
		if (s->wire_tag == wire_tag)
			return true;
		if (rq->id.slot && s->id.slot == rq->id.slot && s->id.seq == rq->id.seq)
			return true;
	}
	return false;
}

void node_server_request(struct node *n, uint32_t node, bool local, uint64_t wire_tag,
	const struct fs_request *rq, struct effects *fx)
{
	struct peer *p = node_peer(n, node);
	struct sreq *s;

	/* Rule 1. What comes too early or too late is asked again when we serve. */
	if (takeover_state(n->tk) != TK_SERVE || !p || !p->served || !n->vol ||
		vol_state(n->vol) != VOL_READY)
		return;
	if (rq->id.life != p->life || rq->id.node != node)
		return;
	if (rq->op == FS_FREE_ORPHAN || rq->op == FS_FSYNC || rq->op == FS_NONE)
		return;
	/* Rule 6. It asks again in a new session, if it is still us who serves. */
	if (n->unsure) {
		p->missed = true;
		return;
	}
	if (rq->op >= FS_LOCK && rq->op <= FS_LOCK_CANCEL) {
		node_lock_serve(n, peer_idx(n, p), local, wire_tag, rq, fx);
		return;
	}
	if (in_flight(n, node, rq, wire_tag))
		return;
	s = mem_alloc(n->mem, sizeof(*s));
	if (!s) {
		node_server_no_memory(n, node, local, wire_tag, rq, fx);
		return;
	}
	list_add_tail(&s->link, &n->sreqs);
	list_init(&s->waiting);
	s->node = node;
	s->idx = peer_idx(n, p);
	s->local = local;
	s->wire_tag = wire_tag;
	s->id = rq->id;
	s->lease_life = n->cache_leases.life[s->idx];
	s->stage = SREQ_LEASE;
	if (!sreq_copy(n, s, rq)) {
		node_server_no_memory(n, node, local, wire_tag, rq, fx);
		sreq_free(n, s);
		return;
	}
	node_server_serve(n, s, fx);
}

/* ------------------------------------------------------------------ the engine answers */

/* Rule 8: we have learned that a node is gone while the engine looked. True: it waits again, as the first in line. */
static bool is_not_over(struct node *n, struct lease_ino *li, struct sreq *s)
{
	if (s->vr.reply.err || !(li->holder_mask & not_over(n)))
		return false;
	/* Rule 9. */
	if (node_peer(n, s->node)->evicted_ns) {
		s->drop = true;
		return false;
	}
	s->stage = SREQ_LEASE;
	s->vr.reply.extent_count = 0;
	list_add(&s->waiting, &li->waiting);
	return true;
}

/* False: it waits, for space, or for a node that is gone. */
static bool granted(struct node *n, struct sreq *s, struct effects *fx)
{
	struct fs_reply *rp = &s->vr.reply;
	struct lease_ino *li = lease_find(&n->leases, s->vr.rq.ino);
	bool told;
	int err;

	csv_assert(li && li->granting);
	li->granting--;
	if (rp->err == -ENOSPC && node_space_wait(n, s, fx)) {
		pump_and_put(n, s->vr.rq.ino, fx);
		return false;
	}
	/* A session that is gone does not learn of it: then it was not told, and holds nothing. */
	told = (s->local || session_from(n->sessions, s->node)) && !s->drop && !s->placeless;
	if (told && is_not_over(n, li, s)) {
		pump_and_put(n, s->vr.rq.ino, fx);
		return false;
	}
	if (!rp->err && told && !s->drop) {
		uint64_t mask = le32_get(vol_super(n->vol)->cluster_bytes) - 1;
		uint64_t off = s->vr.rq.off & ~mask;

		err = lease_grant(&n->leases, li, s->idx, s->vr.rq.flags, off,
			((s->vr.rq.off + s->vr.rq.len + mask) & ~mask) - off, rp->extents,
			&rp->extent_count);
		if (err)
			rp->err = err;
	}
	node_append_show(li, s);
	send_reply(n, s, fx);
	pump_and_put(n, s->vr.rq.ino, fx);
	return true;
}

static void committed(struct node *n, struct sreq *s)
{
	struct lease_ino *li = lease_find(&n->leases, s->vr.rq.ino);

	for (uint32_t i = 0; li && i < s->vr.rq.extent_count; i++)
		(void)lease_commit(
			&n->leases, li, s->idx, s->vr.rq.extents[i].off, s->vr.rq.extents[i].len);
	node_append_show(li, s);
}

/* False: there was no space, and it waits. */
static bool unexclusive(struct node *n, struct sreq *s, struct effects *fx)
{
	struct lease_ino *li = lease_find(&n->leases, s->vr.rq.ino);
	bool waits;

	csv_assert(li && li->exclusive);
	li->exclusive = false;
	waits = s->vr.reply.err == -ENOSPC && node_space_wait(n, s, fx);
	if (!waits)
		send_reply(n, s, fx);
	pump_and_put(n, s->vr.rq.ino, fx);
	return !waits;
}

static void engine_done(struct node *n, struct sreq *s, struct effects *fx)
{
	struct fs_reply *rp = &s->vr.reply;

	if (s->sweep) {
		node_sweep_done(n, s);
		sreq_free(n, s);
		return;
	}

	/* It may have waited for others to forget, and then failed before it changed anything. */
	node_cache_no_wait(n, s);
	s->placeless = !node_server_has_place(n, s);
	if (s->stage == SREQ_LOOK && node_size_looked(n, s, fx))
		return;
	if (s->vr.rq.op == FS_APPEND)
		node_append_placed(n, s);
	if (s->vr.rq.op == FS_LOOKUP && !rp->err && !s->placeless && node_times_wait(n, s, rp->attr.ino, fx))
		return;
	if (s->exclusive) {
		if (!unexclusive(n, s, fx))
			return;
	} else if (s->vr.rq.op == FS_LAYOUT_GET) {
		if (!granted(n, s, fx))
			return;
	} else if (rp->err == -ENOSPC && node_space_wait(n, s, fx)) {
		return;
	} else {
		if (s->vr.rq.op == FS_FREE_ORPHAN)
			rp->err = 0; /* of a CLOSE: the node has nothing to do with it */
		if (s->vr.rq.op == FS_FREE_ORPHAN)
			s->vr.rq.op = FS_CLOSE;
		if (s->vr.rq.op == FS_OPEN && rp->err && !s->was_open && !s->placeless)
			(void)lease_set_open(&n->leases, s->vr.rq.ino, s->idx, false);
		/* Again: the session may have broken and its rights been reclaimed without this one. */
		if ((s->vr.rq.op == FS_OPEN || s->vr.rq.op == FS_CREATE) && !rp->err && !s->placeless &&
			lease_set_open(&n->leases, rp->attr.ino, s->idx, true)) {
			node_server_no_memory(n, s->node, s->local, s->wire_tag, &s->vr.rq, fx);
			s->drop = true;
		}
		if (s->vr.rq.op == FS_LAYOUT_COMMIT && !rp->err && !s->placeless)
			committed(n, s);
		send_reply(n, s, fx);
		if (s->vr.rq.op == FS_APPEND)
			pump_and_put(n, s->vr.rq.ino, fx);
	}
	sreq_free(n, s);
}

static void engine_replies(struct node *n, struct effects *fx)
{
	struct vol_req *vr;

	while (n->vol && !n->unsure && effects_room(fx, 80, 160u << 10) &&
		(vr = vol_next_done(n->vol)))
		engine_done(n, vr->owner, fx);
}

/* ------------------------------------------------------------------ the engine's life */

static bool ino_is_open(void *ctx, uint64_t ino)
{
	struct node *n = ctx;

	if (lease_is_open(&n->leases, ino))
		return true;
	/*
	 * Created a moment ago and not yet durable: its creator has it open. Or opened, and its node has told in another
	 * session what it has, without this one.
	 */
	list_for_each_entry (s, &n->sreqs, struct sreq, link) {
		if (s->stage != SREQ_ENGINE)
			continue;
		if (s->vr.rq.op == FS_CREATE ? s->vr.reply.attr.ino == ino : s->vr.rq.op == FS_OPEN && s->vr.rq.ino == ino)
			return true;
	}
	return false;
}

static bool node_is_gone(void *ctx, uint32_t node)
{
	struct node *n = ctx;

	return !member_present(&n->member, node);
}

/* Rule 7. Who leaves the view later loses its place in departed(). */
static void entitle_members(struct node *n)
{
	const struct member_view *v = member_view(&n->member);

	for (uint32_t i = 0; i < v->count; i++) {
		const struct member_node *m = member_find(&n->member, v->nodes[i]);
		struct peer *p;

		/* One that is silent may have been given up long ago and not know it yet. */
		if (!m || !m->answered || m->silent || m->node == takeover_hung(n->tk))
			continue;
		if (takeover_given_up(n->tk, m->node, m->state.life))
			continue;
		p = node_peer_get(n, m->node, m->state.life);
		if (p)
			p->entitled = true;
	}
}

static void open_volume(struct node *n, struct effects *fx)
{
	struct vol_config vc = {.mem = n->mem,
		.trace = n->trace,
		.cache_bytes = n->cfg.cache_bytes,
		.lun_bytes = n->path.lun_bytes,
		.readonly = n->cfg.readonly,
		.write_cache = n->path.write_cache,
		.tag_seed = ++n->vol_seed << 40,
		.ino_is_open = ino_is_open,
		.ctx = n,
		.ops = &metadata_ops,
		.node_is_gone = node_is_gone,
		.may_change = node_cache_may_change};

	n->vol = vol_create(&vc);
	if (!n->vol) {
		takeover_volume_failed(
			n->tk, "not enough memory for the block cache (option cache=)");
		return;
	}
	n->stats.takeovers++;
	node_sweep_begin(n);
	entitle_members(n);
	vol_open(n->vol, takeover_epoch(n->tk), fx);
}

/* Coordination is over: every request is forgotten here, and asked again where it is served. */
static void drop_requests(struct node *n)
{
	list_for_each_entry_safe (s, tmp, &n->sreqs, struct sreq, link) {
		/* Its buffer is the driver's until the command is answered. */
		if (s->lun_tag) {
			s->drop = true;
			list_del(&s->waiting);
			continue;
		}
		/*
		 * It waits, or its command failed and took the path with it. The engine has given all others back. One that
		 * stayed would be taken for under way when it is asked again in a later term of ours.
		 */
		sreq_free(n, s);
	}
}

static void close_down(struct node *n, bool abandon)
{
	struct vol_req *vr;

	if (abandon)
		vol_abandon(n->vol);
	while ((vr = vol_next_done(n->vol)))
		sreq_free(n, vr->owner);
	drop_requests(n);
	lease_reset(&n->leases);
	cache_lease_reset(&n->cache_leases);
	node_lock_close_down(n);
	memset(n->peers, 0, sizeof(n->peers));
	n->peers_end = 0;
	n->recall_deadline_ns = n->append_deadline_ns = NEVER;
	csv_assert(!n->old_vol);
	n->old_vol = n->vol;
	n->vol = NULL;
	if (n->serving_local) {
		n->serving_local = false;
		client_down(n->client);
	}
}

static void bury_old_vol(struct node *n)
{
	if (n->old_vol && !vol_busy(n->old_vol)) {
		vol_destroy(n->old_vol);
		n->old_vol = NULL;
	}
}

static void pump_all(struct node *n, struct effects *fx)
{
	if (!n->leases_changed)
		return;
	n->leases_changed = false;
	for (unsigned b = 0; b < LEASE_BUCKETS; b++) {
		list_for_each_entry_safe (li, tmp, &n->leases.bucket[b], struct lease_ino, hash) {
			node_server_pump(n, li, fx);
			lease_put(&n->leases, li);
		}
	}
}

bool node_server_older_asks(struct node *n, uint32_t node, uint64_t life, struct effects *fx)
{
	bool asks = false;

	list_for_each_entry_safe (s, tmp, &n->sreqs, struct sreq, link) {
		if (s->node != node || s->id.life == life || s->drop)
			continue;
		if (s->stage != SREQ_LEASE) {
			asks = true;
			continue;
		}
		node_server_forget(n, s);
	}
	pump_all(n, fx);
	return asks;
}

/* Waiting requests of a handover are asked again at the next coordinator. */
static void drain_step(struct node *n, struct effects *fx)
{
	node_server_forget_waiters(n, 0);
	pump_all(n, fx);
	/* Who has left has its rights until its lease is over, and the next coordinator knows nothing of them. */
	if (!list_empty(&n->sreqs) || node_data_serving(n) || node_peers_linger(n))
		return;
	if (vol_state(n->vol) == VOL_READY)
		vol_close(n->vol, fx);
	if (vol_state(n->vol) == VOL_CLOSED) {
		close_down(n, false);
		takeover_volume_closed(n->tk);
		n->again = true;
	}
}

static void run_engine(struct node *n, struct effects *fx)
{
	enum vol_state was = vol_state(n->vol);

	vol_step(n->vol, n->now_ns, fx);
	engine_replies(n, fx);
	if (takeover_state(n->tk) == TK_OPEN && vol_state(n->vol) == VOL_READY) {
		trace(n->trace, TRACE_INFO, "volume open%s",
			vol_needed_replay(n->vol) ? ", journal replayed" : "");
		takeover_volume_ready(n->tk);
		n->again = true;
	}
	if (vol_state(n->vol) == VOL_FROZEN) {
		if (was != VOL_FROZEN)
			n->again = true;
		if (was != VOL_FROZEN)
			trace(n->trace, TRACE_ERROR, "the volume is frozen: %s", vol_error(n->vol));
		node_refuse_frozen(n);
		if (vol_reason(n->vol) == VOL_LOST_PATH || vol_reason(n->vol) == VOL_FENCED)
			takeover_volume_lost(n->tk, vol_error(n->vol));
		else
			takeover_volume_failed(n->tk, vol_error(n->vol));
	}
}

/* Once in each office. Rule 7: who was silent until we served has been given up, also when it had no path to be fenced. */
static void serve_begins(struct node *n)
{
	if (n->entitled_epoch == takeover_epoch(n->tk))
		return;
	n->entitled_epoch = takeover_epoch(n->tk);
	for (unsigned i = 0; i < n->peers_end; i++) {
		/* Who has told all, and lost its session since, was not silent: what it told is known. */
		if (n->peers[i].node && !n->peers[i].told && !n->peers[i].reclaimed)
			n->peers[i].entitled = false;
	}
	node_append_find(n);
}

void node_server_step(struct node *n, struct effects *fx)
{
	enum takeover_state st = takeover_state(n->tk);

	bury_old_vol(n);
	node_peers_end_strangers(n, fx);
	if (n->vol && !takeover_mine(n->tk)) {
		trace(n->trace, TRACE_WARN, "we coordinate no longer (%s)", takeover_reason(n->tk));
		close_down(n, true);
	}
	if (st == TK_OPEN && !n->vol && !n->old_vol)
		open_volume(n, fx);
	if (!n->vol)
		return;
	if (node_cache_serve_step(n, fx)) {
		vol_unheld(n->vol);
		n->leases_changed = true;
	}
	run_engine(n, fx);
	st = takeover_state(n->tk);
	for (uint32_t i = 0; st == TK_RECLAIM && i < member_view(&n->member)->count; i++) {
		uint32_t node = member_view(&n->member)->nodes[i];

		takeover_connected(n->tk, node, session_from(n->sessions, node) != NULL);
	}
	if (st == TK_RECLAIM || st == TK_SERVE) {
		struct peer *self = node_peer(n, n->cfg.node);

		if (!self || !self->reclaimed)
			node_peers_reclaim_self(n, fx);
		if (!takeover_mine(n->tk))
			return;
		for (unsigned i = 0; i < n->peers_end; i++) {
			if (n->peers[i].node && n->peers[i].reclaimed && st == TK_RECLAIM &&
				!n->peers[i].told) {
				n->peers[i].told = true;
				takeover_reclaimed(n->tk, n->peers[i].node);
				n->again = true;
			}
			if (n->peers[i].node)
				node_peers_serve(n, &n->peers[i], fx);
		}
	}
	if (st == TK_DRAIN)
		node_peers_departed(n, fx);
	if (st == TK_SERVE) {
		serve_begins(n);
		node_peers_all_served(n);
		node_sweep_step(n);
		node_space_step(n, fx);
		node_peers_departed(n, fx);
		node_peers_timers(n, fx);
		node_append_timers(n);
		node_times_step(n, fx);
		if (!n->unsure)
			node_lock_step(n, fx);
	}
	node_size_step(n, fx);
	pump_all(n, fx);
	if (st == TK_DRAIN)
		drain_step(n, fx);
	else
		vol_step(n->vol, n->now_ns, fx);
}

uint64_t node_server_deadline(const struct node *n)
{
	uint64_t d = n->recall_deadline_ns;

	if (n->append_deadline_ns < d)
		d = n->append_deadline_ns;
	if (node_times_deadline(n) < d)
		d = node_times_deadline(n);
	if (n->vol && node_size_deadline(n) < d)
		d = node_size_deadline(n);
	if (node_sweep_deadline(n) < d)
		d = node_sweep_deadline(n);
	if (n->vol && cache_lease_deadline(&n->cache_leases) < d)
		d = cache_lease_deadline(&n->cache_leases);
	if (n->vol && vol_deadline(n->vol) < d)
		d = vol_deadline(n->vol);
	if (node_peers_deadline(n) < d)
		d = node_peers_deadline(n);
	if (n->leases_changed || (!n->unsure && takeover_state(n->tk) == TK_SERVE && !node_lock_deadline(n)))
		d = 0;
	return d;
}

void node_server_check(const struct node *n)
{
	lease_check(&n->leases);
	cache_lease_check(&n->cache_leases);
	node_lock_check(n);
	csv_assert(!n->serving_local || n->vol);
}
