/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ops_data.c - layouts, sizes and space of regular files. */
#include <errno.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include "metadata/ops_parts.h"

#ifndef SEEK_DATA
#define SEEK_DATA 3
#define SEEK_HOLE 4
#endif

/* Allocation ahead of a writer at the end: as much again as the file has, up to this. */
#define AHEAD_BYTES_MAX (64ull << 20)
#define AHEAD_ALIGN (1ull << 20)
/* and at most this part of what is free, so that ahead is no reason for a full volume. */
#define AHEAD_FREE_PART 64

#define ALLOCS_PER_LAYOUT 16u
#define ALLOCS_PER_STEP 64u

/* FS_FALLOCATE, FS_LSEEK: progress in vol_req.step is counted in this many clusters (2^28 of them at most). */
#define STEP_CLUSTERS 64u

/* FS_LSEEK: a file that is punched again and again does not keep it from ending. */
#define SEEK_ANEW_MAX 16u

static uint64_t div_up(uint64_t n, uint64_t unit)
{
	return (n + unit - 1) / unit;
}

int ops_data_file(struct txn *t, uint64_t ino, struct inode *in)
{
	int err = inode_get_outside(t, ino, in);

	if (err)
		return err;
	if (inode_type(in) == S_IFDIR)
		return -EISDIR;
	if (inode_type(in) != S_IFREG)
		return -EINVAL;
	if (!(inode_flags(in) & INODE_TRUNCATE))
		return 0;
	/*
	 * Extents behind the end wait to be freed; before they are, the file must not grow over them.
	 * So this request does a step of that work, and begins when it is done.
	 */
	err = ops_intent_step(in);
	return err ? err : -EINPROGRESS;
}

/* From an earlier step of this request, all of [from, from + step * STEP_CLUSTERS) is done. */
static uint64_t step_from(const struct vol_req *r, uint64_t from)
{
	return from + (uint64_t)r->step * STEP_CLUSTERS;
}

static int step_done(struct vol_req *r, uint64_t from, uint64_t done)
{
	r->step = (uint32_t)((done - from) / STEP_CLUSTERS);
	return -EINPROGRESS;
}

/* ------------------------------------------------------------------ layouts */

/* A streaming writer: what comes before has space, and behind there is nothing, neither size nor space. */
static int is_streaming(const struct inode *in, uint64_t off, uint64_t end, bool *yes)
{
	uint64_t cluster_bytes = ops_cluster_bytes(in->t);
	struct extent e;
	int err;

	*yes = false;
	if (off < cluster_bytes || end < le64_get(in->d->size))
		return 0;
	err = extent_at(in, off / cluster_bytes - 1, &e);
	if (err || e.state == EXT_HOLE)
		return err;
	err = extent_at(in, div_up(end, cluster_bytes), &e);
	*yes = !err && e.state == EXT_HOLE && e.off + e.len == EXTENT_END;
	return err;
}

/* Up to where to allocate for a write of [off, end): in bytes. */
static int ahead_of(const struct inode *in, uint64_t off, uint64_t end, uint64_t *to)
{
	uint64_t ahead = off < AHEAD_BYTES_MAX ? off : AHEAD_BYTES_MAX;
	struct fs_statfs st;
	bool streaming;
	int err = is_streaming(in, off, end, &streaming);

	*to = end;
	if (err || !streaming)
		return err;
	memset(&st, 0, sizeof(st));
	alloc_statfs(txn_vol(in->t), &st);
	if (ahead > st.bavail * st.bsize / AHEAD_FREE_PART)
		return 0;
	end += ahead;
	if (ahead >= AHEAD_ALIGN)
		end = div_up(end, AHEAD_ALIGN) * AHEAD_ALIGN;
	*to = end < FILE_BYTES_MAX ? end : FILE_BYTES_MAX;
	return 0;
}

/*
 * Pieces from cluster `off` on: at least up to `to` if there is room, and then what extents there are; `near`: only
 * what waits to be written.
 */
static int put_layout(
	const struct inode *in, uint64_t off, uint64_t to, bool near, struct fs_reply *rp)
{
	uint64_t cluster_bytes = ops_cluster_bytes(in->t);
	struct extent_walk w;
	struct extent e;
	int err;

	rp->extent_count = 0;
	for (err = extent_first(in, off, &w, &e); !err && rp->extent_count < rp->extent_room;
		err = extent_next(&w, &e)) {
		if (near && off >= to && e.state != EXT_UNWRITTEN)
			break;
		if (e.state == EXT_HOLE && e.off + e.len == EXTENT_END) {
			if (off >= to)
				break;
			e.len = to - e.off;
		}
		rp->extents[rp->extent_count++] = (struct fs_extent){
			.off = off * cluster_bytes,
			.len = (e.off + e.len - off) * cluster_bytes,
			.lun_off =
				e.state == EXT_HOLE ? 0 : (e.start + off - e.off) * cluster_bytes,
			.state = e.state,
		};
		off = e.off + e.len;
	}
	return err == -ENOENT ? 0 : err;
}

/* Extents n - 1 and n of a reply are one, if they are one on the LUN. */
static void join(struct fs_reply *rp, uint32_t n)
{
	struct fs_extent *x = &rp->extents[n - 1];

	if (x->state != x[1].state || x->lun_off + x->len != x[1].lun_off)
		return;
	x->len += x[1].len;
	rp->extent_count--;
	memmove(x + 1, x + 2, (rp->extent_count - n) * sizeof(*x));
}

/*
 * FS_LAYOUT_AROUND: the written extents that end where the reply begins, as far as there is room. Who reads
 * and writes a disk image here and there would ask again for each place before the first one; and while a
 * coordinator is replaced there is nobody to ask. Only written space: it is everybody's to know.
 */
static int put_before(const struct inode *in, uint64_t off, struct fs_reply *rp)
{
	struct fs_extent before[EXTENTS_PER_REPLY], *x = before + EXTENTS_PER_REPLY;
	uint64_t cluster_bytes = ops_cluster_bytes(in->t);
	uint32_t n = 0, room = rp->extent_room - rp->extent_count;
	struct extent e;
	int err;

	if (!rp->extent_count)
		return 0;
	if (room > EXTENTS_PER_REPLY)
		room = EXTENTS_PER_REPLY;
	for (; off > 0 && n < room; off = e.off, n++) {
		err = extent_at(in, off - 1, &e);
		if (err)
			return err;
		if (e.state != EXT_WRITTEN)
			break;
		*--x = (struct fs_extent){
			.off = e.off * cluster_bytes,
			.len = (off - e.off) * cluster_bytes,
			.lun_off = e.start * cluster_bytes,
			.state = e.state,
		};
	}
	memmove(rp->extents + n, rp->extents, rp->extent_count * sizeof(*x));
	memcpy(rp->extents, x, n * sizeof(*x));
	rp->extent_count += n;
	if (n)
		join(rp, n);
	return 0;
}

static int allocate_for_write(const struct inode *in, const struct fs_request *rq)
{
	uint64_t cluster_bytes = ops_cluster_bytes(in->t), done, end;
	uint64_t from = rq->off / cluster_bytes;
	int err = ahead_of(in, rq->off, rq->off + rq->len, &end);

	if (!err)
		err = extent_fill(in, from, div_up(end, cluster_bytes), rq->id.node,
			ALLOCS_PER_LAYOUT, &done);
	/* What was got is enough to begin with (ops.h, contract 5). */
	if ((err == -ENOSPC || err == -EINPROGRESS) && done > from)
		return 0;
	return err;
}

int op_layout_get(struct txn *t, struct vol_req *r)
{
	const struct fs_request *rq = &r->rq;
	uint64_t cluster_bytes = ops_cluster_bytes(t);
	struct inode in;
	int err;

	if (rq->off > FILE_BYTES_MAX || rq->len > FILE_BYTES_MAX - rq->off)
		return -EFBIG;
	if (rq->len == 0)
		return -EINVAL;
	err = ops_data_file(t, rq->ino, &in);
	if (!err && (rq->flags & FS_LAYOUT_WRITE))
		err = allocate_for_write(&in, rq);
	if (!err)
		err = put_layout(&in, rq->off / cluster_bytes,
			div_up(rq->off + rq->len, cluster_bytes), rq->flags & FS_LAYOUT_NEAR,
			&r->reply);
	if (!err && (rq->flags & FS_LAYOUT_AROUND))
		err = put_before(&in, rq->off / cluster_bytes, &r->reply);
	if (!err)
		inode_attr(&in, &r->reply.attr);
	return err;
}

/*
 * [off, end) clusters were first-written. Only what is UNWRITTEN changes: saying it twice does no harm.
 * A hole there has lost its space since (punched, truncated): the data went with it. lun (0: not
 * said): cluster that was written; another one there now is new and was not.
 */
static int commit_range(const struct inode *in, uint64_t off, uint64_t end, uint64_t lun)
{
	uint64_t first = off, to;
	struct extent e;
	int err;

	for (; off < end; off = to) {
		err = extent_at(in, off, &e);
		if (err)
			return err;
		to = e.off + e.len < end ? e.off + e.len : end;
		if (e.state != EXT_UNWRITTEN)
			continue;
		if (lun && e.start + (off - e.off) != lun + (off - first))
			continue;
		if (txn_room(in->t) < EXTENT_STEP_BLOCKS)
			return -EINPROGRESS;
		err = extent_set_state(in, off, to - off, EXT_WRITTEN);
		if (err)
			return err;
	}
	return 0;
}

static int check_ranges(const struct fs_request *rq, uint64_t cluster_bytes)
{
	for (uint32_t i = 0; i < rq->extent_count; i++) {
		const struct fs_extent *x = &rq->extents[i];

		if (x->len == 0 || (x->off | x->len | x->lun_off) % cluster_bytes)
			return -EINVAL;
		if (x->off > FILE_BYTES_MAX || x->len > FILE_BYTES_MAX - x->off)
			return -EFBIG;
	}
	return 0;
}

static void grow_to(const struct inode *in, uint64_t size)
{
	inode_dirty(in);
	if (size > le64_get(in->d->size))
		in->d->size = le64_of(size);
}

/* It was written then, which may be a while ago: times that are newer than that stay. */
static void set_written(const struct inode *in, int64_t when_ns)
{
	struct fs_attr a;

	inode_attr(in, &a);
	fs_attr_written(&a, when_ns);
	inode_dirty(in);
	in->d->mtime_ns = le64_of((uint64_t)a.mtime_ns);
	in->d->ctime_ns = le64_of((uint64_t)a.ctime_ns);
}

void ops_set_read(const struct inode *in, int64_t when_ns)
{
	struct fs_attr a;

	inode_attr(in, &a);
	if (when_ns <= a.atime_ns || !fs_atime_due(&a, when_ns))
		return;
	inode_dirty(in);
	in->d->atime_ns = le64_of((uint64_t)when_ns);
}

int op_layout_commit(struct txn *t, struct vol_req *r)
{
	const struct fs_request *rq = &r->rq;
	uint64_t cluster_bytes = ops_cluster_bytes(t);
	struct inode in;
	int err = check_ranges(rq, cluster_bytes);

	if (!err && (rq->valid & FS_SET_SIZE) && rq->attr.size > FILE_BYTES_MAX)
		err = -EFBIG;
	if (!err)
		err = ops_data_file(t, rq->ino, &in);
	if (err)
		return err;
	/* The size first: a cluster that lies behind the end is never WRITTEN (dp.h, rule 4), between two transactions either. */
	if (rq->valid & FS_SET_SIZE)
		grow_to(&in, rq->attr.size);
	for (uint32_t i = r->step; i < rq->extent_count; i++) {
		const struct fs_extent *x = &rq->extents[i];

		err = commit_range(&in, x->off / cluster_bytes, (x->off + x->len) / cluster_bytes,
			x->lun_off / cluster_bytes);
		if (err == -EINPROGRESS)
			r->step = i;
		if (err)
			return err;
	}
	if (rq->valid & FS_SET_MTIME)
		set_written(&in, rq->attr.mtime_ns);
	if (rq->valid & FS_SET_ATIME)
		ops_set_read(&in, rq->attr.atime_ns);
	if (rq->valid & FS_SET_KILL_SUID)
		ops_kill_suid(&in, 0);
	inode_attr(&in, &r->reply.attr);
	return 0;
}

int op_append(struct txn *t, struct vol_req *r)
{
	struct inode in;
	uint64_t size;
	int err = ops_data_file(t, r->rq.ino, &in);

	if (err)
		return err;
	size = le64_get(in.d->size);
	/* It was taken back (client_void_change()). */
	if (!r->rq.len)
		return -EINVAL;
	if (r->rq.len > FILE_BYTES_MAX - size)
		return -EFBIG;
	inode_touch_mtime(&in);
	in.d->size = le64_of(size + r->rq.len);
	if (r->rq.valid & FS_SET_KILL_SUID)
		ops_kill_suid(&in, 0);
	r->reply.off = size;
	inode_attr(&in, &r->reply.attr);
	return 0;
}

/* ------------------------------------------------------------------ fallocate */

/* It cannot succeed: say so before anything is allocated. */
static int check_space(const struct inode *in, uint64_t clusters)
{
	uint64_t has = le64_get(in->d->clusters);
	struct fs_statfs st;

	memset(&st, 0, sizeof(st));
	alloc_statfs(txn_vol(in->t), &st);
	if (clusters <= has)
		return 0;
	return clusters - has > st.bavail * st.bsize / ops_cluster_bytes(in->t) ? -ENOSPC : 0;
}

/* All of the range has space. */
static int allocate_range(const struct inode *in, struct vol_req *r)
{
	uint64_t cluster_bytes = ops_cluster_bytes(in->t), done;
	uint64_t from = r->rq.off / cluster_bytes;
	uint64_t to = div_up(r->rq.off + r->rq.len, cluster_bytes);
	int err = r->step ? 0 : check_space(in, to - from);

	if (!err)
		err = extent_fill(
			in, step_from(r, from), to, r->rq.id.node, ALLOCS_PER_STEP, &done);
	return err == -EINPROGRESS ? step_done(r, from, done) : err;
}

/* Whole clusters of [off, end): what fallocate may free or make UNWRITTEN (ops.h, contract 3). */
static void whole_clusters(
	const struct inode *in, const struct fs_request *rq, uint64_t *from, uint64_t *to)
{
	uint64_t cluster_bytes = ops_cluster_bytes(in->t), end = rq->off + rq->len;

	*from = div_up(rq->off, cluster_bytes);
	*to = end / cluster_bytes;
	/* Behind the end of the file nothing is lost with the rest of the last cluster. */
	if (end >= le64_get(in->d->size))
		*to = div_up(end, cluster_bytes);
}

/* Cluster `at` is covered in part, and it holds data: only who can write to the LUN can zero that. */
static int check_edge(const struct inode *in, uint64_t at)
{
	uint64_t cluster_bytes = ops_cluster_bytes(in->t);
	struct extent e;
	int err;

	if (at % cluster_bytes == 0 || at >= le64_get(in->d->size))
		return 0;
	err = extent_at(in, at / cluster_bytes, &e);
	if (err)
		return err;
	return e.state == EXT_HOLE || e.state == EXT_UNWRITTEN ? 0 : -EOPNOTSUPP;
}

static int check_edges(const struct inode *in, const struct vol_req *r)
{
	const struct fs_request *rq = &r->rq;
	int err;

	if (r->step || (rq->valid & FS_EDGES_ZEROED) ||
		!(rq->flags & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)))
		return 0;
	err = check_edge(in, rq->off);
	return err ? err : check_edge(in, rq->off + rq->len);
}

int ops_make_unwritten(const struct inode *in, uint64_t from, uint64_t to, uint64_t *reached)
{
	uint32_t pieces = 0;
	struct extent e;
	uint64_t end;
	int err;

	for (*reached = from; *reached < to; *reached = end) {
		/* Pieces that need no change count, too: all that is looked at must be in the cache at once. */
		if (pieces++ == EXTENT_STEP_PIECES)
			return -EINPROGRESS;
		err = extent_at(in, *reached, &e);
		if (err)
			return err;
		end = e.off + e.len < to ? e.off + e.len : to;
		if (e.state == EXT_HOLE || e.state == EXT_UNWRITTEN)
			continue;
		if (txn_room(in->t) < EXTENT_STEP_BLOCKS)
			return -EINPROGRESS;
		err = extent_set_state(in, *reached, end - *reached, EXT_UNWRITTEN);
		if (err)
			return err;
	}
	return 0;
}

/*
 * What the range held is gone: at once, whatever is left to do. In steps that show another node could write into the first part,
 * and this request, asked again of another coordinator, would take that away (invariant 11).
 */
static int clear_range(const struct inode *in, const struct fs_request *rq)
{
	enum intent_op op = rq->flags & FALLOC_FL_PUNCH_HOLE ? INTENT_PUNCH : INTENT_ZERO;
	uint64_t from, to;
	int err;

	/* Behind an allocation: there must be room for an intent. */
	if (txn_room(in->t) < EXTENT_STEP_BLOCKS)
		return -EINPROGRESS;
	whole_clusters(in, rq, &from, &to);
	inode_dirty(in);
	in->d->version = le64_of(le64_get(in->d->version) + 1);
	if (op == INTENT_PUNCH)
		err = extent_free(in, from, to);
	else
		err = ops_make_unwritten(in, from, to, &from);
	return err == -EINPROGRESS ? inode_intent_set(in, op, from, to) : err;
}

/*
 * From the first step on: else what is there so far could be taken back before the last one, as if it were ahead of a
 * writer. If the space does not suffice after all, what was found stays, as with other file systems.
 */
static void keep_behind_end(const struct inode *in, const struct fs_request *rq)
{
	if (!(rq->flags & FALLOC_FL_KEEP_SIZE) || rq->off + rq->len <= le64_get(in->d->size))
		return;
	inode_dirty(in);
	in->d->flags = le32_of(inode_flags(in) | INODE_KEEP);
}

static void finish_fallocate(const struct inode *in, const struct fs_request *rq)
{
	uint64_t end = rq->off + rq->len;

	inode_touch_mtime(in);
	if (rq->valid & FS_SET_KILL_SUID)
		ops_kill_suid(in, rq->valid);
	if (rq->flags & FALLOC_FL_PUNCH_HOLE)
		return;
	if (!(rq->flags & FALLOC_FL_KEEP_SIZE))
		grow_to(in, end);
}

int op_fallocate(struct txn *t, struct vol_req *r)
{
	const uint32_t punch_flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	const struct fs_request *rq = &r->rq;
	struct inode in;
	int err;

	if (rq->flags & ~(punch_flags | FALLOC_FL_ZERO_RANGE))
		return -EOPNOTSUPP;
	if ((rq->flags & FALLOC_FL_PUNCH_HOLE) && rq->flags != punch_flags)
		return -EOPNOTSUPP;
	if (rq->len == 0)
		return -EINVAL;
	if (rq->off > FILE_BYTES_MAX || rq->len > FILE_BYTES_MAX - rq->off)
		return -EFBIG;
	err = ops_data_file(t, rq->ino, &in);
	if (err)
		return err == -EISDIR ? -ENODEV : err;
	err = check_edges(&in, r);
	if (err)
		return err;
	if (!(rq->flags & FALLOC_FL_PUNCH_HOLE)) {
		err = allocate_range(&in, r);
		if (!err || err == -EINPROGRESS)
			keep_behind_end(&in, rq);
	}
	if (!err && (rq->flags & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)))
		err = clear_range(&in, rq);
	if (!err)
		finish_fallocate(&in, rq);
	return err;
}

/* ------------------------------------------------------------------ lseek */

/* As on ext4 and XFS: space that was never written is a hole, whoever asked for it. */
static bool has_data(const struct extent *e)
{
	return e->state == EXT_WRITTEN || e->state == EXT_SHARED;
}

/*
 * Pieces from where the last step ended, so many that all of them can be in the cache at once. Between two steps the file may have
 * changed. Its size is looked at anew, so the answer is never behind it. Data that has become a hole where the search had passed
 * shows in the version: it begins again, and the answer is right when it is given. What is first-written there meanwhile may be
 * missed: it was not there when the question came.
 */
static int seek_step(const struct inode *in, struct vol_req *r, uint64_t size)
{
	uint64_t cluster_bytes = ops_cluster_bytes(in->t), from = r->rq.off / cluster_bytes;
	uint64_t at = step_from(r, from), off = r->step ? at * cluster_bytes : r->rq.off;
	bool want_hole = r->rq.flags == SEEK_HOLE;
	uint32_t pieces = 0;
	struct extent_walk w;
	struct extent e;
	int err;

	for (err = extent_first(in, at, &w, &e); !err && off < size; err = extent_next(&w, &e)) {
		if (pieces++ == EXTENT_STEP_PIECES)
			return step_done(r, from, off / cluster_bytes);
		if (has_data(&e) != want_hole) {
			r->reply.off = off;
			return 0;
		}
		off = (e.off + e.len) * cluster_bytes;
	}
	if (err && err != -ENOENT)
		return err;
	r->reply.off = size; /* the end counts as a hole */
	return want_hole ? 0 : -ENXIO;
}

int op_lseek(struct txn *t, struct vol_req *r)
{
	struct inode in;
	uint64_t size, version;
	int err;

	if (r->rq.flags != SEEK_HOLE && r->rq.flags != SEEK_DATA)
		return -EINVAL;
	err = ops_data_file(t, r->rq.ino, &in);
	if (err)
		return err;
	size = le64_get(in.d->size);
	if (r->rq.off >= size)
		return -ENXIO;
	version = le64_get(in.d->version);
	if (!r->step)
		r->seen = version;
	if (r->seen != version && r->anew < SEEK_ANEW_MAX) {
		r->anew++;
		r->step = 0;
		return -EINPROGRESS;
	}
	return seek_step(&in, r, size);
}

/* ------------------------------------------------------------------ statfs */

/* A first call does not wait until a volume of many TiB is counted: the next one goes on. */
#define STATFS_STEPS_MAX 32u

int op_statfs(struct txn *t, struct vol_req *r)
{
	int err = r->step < STATFS_STEPS_MAX ? alloc_count_inodes(t) : 0;

	if (err == -EINPROGRESS)
		r->step++;
	else if (!err)
		alloc_statfs(txn_vol(t), &r->reply.statfs);
	return err;
}
