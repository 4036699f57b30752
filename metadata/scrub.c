/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * scrub.c - looks at all metadata of an open volume as it is on the LUN, while it is in use.
 *
 *   IDLE --vol_scrub(start)--> NEXT --read--> READ --all good--> NEXT ... --all seen--> IDLE
 *   READ --a block is not sound--> LOOK --it is now--> READ's next one, or NEXT
 *   LOOK --still not, three times--> JUDGE (an operation) --> its next one, or NEXT
 *   JUDGE --journal head, last superblock--> RENEW --> LOOK
 *   any --vol_scrub(stop), not open any more--> IDLE
 *
 * Order: superblocks, reply cache, summary, journal heads, then group by group: its block, and the chunks of metadata
 * that it names. One read of at most 64 blocks is in flight, and the next waits in proportion.
 *
 * Invariants
 *  S1. What the journal will put in its place anyway is not judged: its place may hold anything until then.
 *  S2. Nothing is judged by one look: a checkpoint may have been writing. The last judgement is an operation, which
 *      sees whether the block is still in use.
 *  S3. A repair goes through the journal, as every change of a block does (write-ahead). Only what is never in the
 *      journal is written directly: its heads, the superblock's last copy.
 *  S4. A sound copy is the cached block (it was verified when it was read, and nobody else writes), or the index
 *      of all groups for a block of the summary. What has none is told and left for fsck.csvfs.
 *  S5. What lies where follows from the geometry, which changes when the volume grows, and the old last superblock's
 *      cluster is a file's from then on. So while it grows nothing is begun, it has grown when nothing is in flight
 *      (grow.c, G5), and then what was seen of the old last copy is forgotten.
 */
#include "metadata/alloc.h"

#define WINDOW SCRUB_WINDOW
#define GAP_PER_BLOCK_NS (150ull * 1000)
#define GAP_MIN_NS NS_PER_MS
#define LOOK_NS (20 * NS_PER_MS)
#define LOOKS 3u
#define GROUPS_PER_STEP 4096u

static bool pending(const struct vol *v, uint64_t blkno)
{
	const struct block *b = cache_find((struct vol *)v, blkno);

	return b &&
	       (b->journal_seq || b->state == BLOCK_READING ||
		       b->flags & (BLK_RUNNING | BLK_COMMITTING | BLK_FORGOTTEN | BLK_FORGETTING));
}

/* The newest content of a block that was read to `lun`. */
static const void *newest(struct vol *v, uint64_t blkno, const void *lun)
{
	const struct block *b = cache_find(v, blkno);

	return b && b->state == BLOCK_VALID ? b->data : lun;
}

static void note(struct vol *v, uint64_t blkno, enum problem p, bool repaired)
{
	struct vol_scrub *st = &v->scrub.st;

	st->found++;
	st->repaired += repaired;
	if (st->finding_count < VOL_SCRUB_FINDINGS)
		st->finding[st->finding_count++] =
			(struct vol_finding){blkno, (uint32_t)p, repaired};
	trace(v->cfg.trace, repaired ? TRACE_WARN : TRACE_ERROR, "scrub: %s: block %llu: %s",
		problem_name(p), (unsigned long long)blkno,
		repaired ? "repaired from a sound copy" : "no sound copy; run fsck.csvfs");
}

/* ------------------------------------------------------------------ is it sound? */

/* What must stand there; 0: a node of a tree or a value. SCRUB_SKIP: nothing that is in use. */
#define SCRUB_SKIP UINT32_MAX
static uint32_t wanted_magic(const struct vol *v, uint64_t blkno)
{
	const struct scrub *s = &v->scrub;
	uint32_t i = (uint32_t)(blkno % CHUNK_BLOCKS);

	switch (s->area) {
	case SCRUB_SUPERS:
		return blkno == SUPER_BLOCK || blkno == SUPER_COPY_BLOCK ? MAGIC_SUPER : SCRUB_SKIP;
	case SCRUB_LAST:
		return MAGIC_SUPER;
	case SCRUB_REPLIES:
		return MAGIC_REPLY;
	case SCRUB_SUMMARY:
		return MAGIC_SUMMARY;
	case SCRUB_HEADS:
		return MAGIC_JHEAD;
	case SCRUB_GROUP:
		return MAGIC_GROUP;
	case SCRUB_CHUNK:
		if (!i)
			return MAGIC_CHUNK;
		if (!(s->chunk.used[i / 8] >> i % 8 & 1))
			return SCRUB_SKIP;
		return le32_get(s->chunk.is_inode) ? MAGIC_INODE : 0;
	}
	return SCRUB_SKIP;
}

static enum problem look_at(const struct vol *v, uint64_t blkno, const void *block)
{
	uint32_t magic = wanted_magic(v, blkno),
		 is = le32_get(((const struct disk_header *)block)->magic);
	struct verify_report rep;
	enum problem p;

	/* The last copy is written when the volume is closed: of what it says only the size must be right. */
	if (v->scrub.area == SCRUB_LAST)
		p = verify_header(block, magic, v->geo->h.uuid, blkno, &rep);
	else
		p = verify_block(block, magic, blkno, v->geo, &rep);
	if (p == PROBLEM_NONE && !magic && is != MAGIC_TREE && is != MAGIC_XATTR)
		p = PROBLEM_HEADER_MAGIC;
	if (p == PROBLEM_NONE && v->scrub.area == SCRUB_LAST &&
		le64_get(((const struct disk_super *)block)->volume_bytes) !=
			le64_get(v->geo->volume_bytes))
		p = PROBLEM_SUPER_COPY;
	return p;
}

/* What can be compared without reading anything else. */
static void compare_group(struct vol *v, uint64_t blkno)
{
	struct scrub *s = &v->scrub;

	if (le32_get(s->group_block.free_clusters) != v->alloc.groups[s->group].free)
		note(v, blkno, PROBLEM_SUMMARY_FREE, false);
}

/* ------------------------------------------------------------------ where next */

static bool chunk_next(struct vol *v)
{
	struct scrub *s = &v->scrub;

	while (++s->chunk_at < v->alloc.group_chunks)
		if (s->group_block.meta[s->chunk_at / 8] >> s->chunk_at % 8 & 1)
			return true;
	return false;
}

static void place(struct scrub *s, enum scrub_area area, uint64_t blkno, uint64_t end)
{
	s->area = area;
	s->blkno = blkno;
	s->end = end;
}

static void place_chunk(struct vol *v)
{
	uint64_t first = ((uint64_t)v->scrub.group * v->alloc.group_chunks + v->scrub.chunk_at) *
			 CHUNK_BLOCKS;

	place(&v->scrub, SCRUB_CHUNK, first, first + CHUNK_BLOCKS);
}

/* False: not yet, there are very many groups; or it was the last one. */
static bool group_next(struct vol *v)
{
	struct scrub *s = &v->scrub;
	uint32_t left = GROUPS_PER_STEP;

	for (; s->group < v->alloc.group_count && left--; s->group++) {
		uint64_t blkno = le64_get(v->geo->group_start) + s->group;

		if (!(v->alloc.groups[s->group].flags & SUMMARY_INIT))
			continue;
		place(s, SCRUB_GROUP, blkno, blkno + 1);
		return true;
	}
	s->end = s->blkno;
	return false;
}

static void finish(struct vol *v, const char *how)
{
	struct vol_scrub *st = &v->scrub.st;

	v->scrub.state = SCRUB_IDLE;
	st->running = false;
	trace(v->cfg.trace, st->found ? TRACE_WARN : TRACE_INFO,
		"scrub %s: %llu blocks, %llu problems, %llu repaired", how,
		(unsigned long long)st->checked, (unsigned long long)st->found,
		(unsigned long long)st->repaired);
}

/* The area is done: which is the next one? */
static void area_next(struct vol *v)
{
	struct scrub *s = &v->scrub;
	const struct disk_super *g = v->geo;

	switch (s->area) {
	case SCRUB_SUPERS:
		place(s, SCRUB_LAST, le64_get(g->block_count) - 1, le64_get(g->block_count));
		return;
	case SCRUB_LAST:
		place(s, SCRUB_REPLIES, REPLY_BLOCK, REPLY_BLOCK + NODES_MAX);
		return;
	case SCRUB_REPLIES:
		place(s, SCRUB_SUMMARY, le64_get(g->summary_start),
			le64_get(g->summary_start) + le64_get(g->summary_blocks));
		return;
	case SCRUB_SUMMARY:
		place(s, SCRUB_HEADS, le64_get(g->journal_start),
			le64_get(g->journal_start) + JOURNAL_HEADS);
		return;
	case SCRUB_HEADS:
		place(s, SCRUB_GROUP, 0, 0);
		s->group = 0;
		s->seek = true;
		break;
	case SCRUB_GROUP:
	case SCRUB_CHUNK:
		if (s->seek)
			break;
		if (s->group_known && chunk_next(v)) {
			place_chunk(v);
			return;
		}
		s->group++;
		s->seek = true;
		break;
	}
	s->seek = !group_next(v);
	if (s->group < v->alloc.group_count)
		return;
	s->st.complete = true;
	finish(v, "done");
}

/* ------------------------------------------------------------------ reading */

static void advance(struct vol *v)
{
	struct scrub *s = &v->scrub;
	uint64_t gap = s->count * GAP_PER_BLOCK_NS;

	s->blkno += s->count;
	s->due_ns = v->now_ns + (gap > GAP_MIN_NS ? gap : GAP_MIN_NS);
	s->state = SCRUB_NEXT;
}

static void next_suspect(struct vol *v)
{
	struct scrub *s = &v->scrub;

	if (!s->suspects) {
		advance(v);
		return;
	}
	s->looks = 0;
	s->state = SCRUB_LOOK;
	s->due_ns = v->now_ns + LOOK_NS;
}

static uint64_t suspect(const struct scrub *s)
{
	return s->blkno + (uint64_t)__builtin_ctzll(s->suspects);
}

static void suspect_done(struct vol *v)
{
	v->scrub.suspects &= v->scrub.suspects - 1;
	next_suspect(v);
}

/* Group and chunk say what is to be read next: as they are now, if the cache knows more than the LUN. */
static void learn(struct vol *v)
{
	struct scrub *s = &v->scrub;
	const void *b;

	if (s->area == SCRUB_GROUP) {
		b = newest(v, s->blkno, s->buf);
		s->group_known = look_at(v, s->blkno, s->buf) == PROBLEM_NONE || b != s->buf;
		if (!s->group_known)
			return;
		memcpy(&s->group_block, b, sizeof(s->group_block));
		s->chunk_at = UINT32_MAX;
		compare_group(v, s->blkno);
	} else if (s->area == SCRUB_CHUNK && s->blkno % CHUNK_BLOCKS == 0) {
		b = newest(v, s->blkno, s->buf);
		if (b == s->buf && look_at(v, s->blkno, s->buf) != PROBLEM_NONE)
			memset(&s->chunk, 0, sizeof(s->chunk));
		else
			memcpy(&s->chunk, b, sizeof(s->chunk));
	}
}

static void read_done(struct vol *v, struct vio *io, enum lun_status st)
{
	struct scrub *s = &v->scrub;

	(void)io;
	s->reading = false;
	if (s->state != SCRUB_READ) /* stopped meanwhile */
		return;
	if (st != LUN_OK)
		memset(s->buf, 0, (size_t)s->count * BLOCK_SIZE);
	learn(v);
	s->suspects = 0;
	for (uint32_t i = 0; i < s->count; i++) {
		uint64_t blkno = s->blkno + i;

		if (wanted_magic(v, blkno) == SCRUB_SKIP || pending(v, blkno)) /* S1 */
			continue;
		s->st.checked++;
		if (look_at(v, blkno, s->buf + (size_t)i * BLOCK_SIZE) != PROBLEM_NONE)
			s->suspects |= 1ull << i;
	}
	next_suspect(v);
}

static void read_next(struct vol *v)
{
	struct scrub *s = &v->scrub;
	uint64_t left;

	if (s->blkno >= s->end)
		area_next(v);
	if (s->state != SCRUB_NEXT || s->blkno >= s->end)
		return;
	left = s->end - s->blkno;
	s->count = left < WINDOW ? (uint32_t)left : WINDOW;
	if (!vio_send(v, LUN_READ, s->blkno, s->count, s->buf, read_done, NULL))
		return;
	s->reading = true;
	s->state = SCRUB_READ;
}

/* ------------------------------------------------------------------ the second look, and repair */

/* A block of the summary from the index: all that it says. */
static int make_summary(struct txn *t, uint64_t blkno)
{
	struct vol *v = t->v;
	uint32_t i = (uint32_t)(blkno - le64_get(v->geo->summary_start));
	struct disk_summary *d;
	struct block *b;
	int err = txn_new(t, blkno, MAGIC_SUMMARY, 0, &b);

	if (err)
		return err;
	d = (struct disk_summary *)b->data;
	for (uint32_t k = 0; k < SUMMARY_PER_BLOCK; k++) {
		uint32_t g = i * (uint32_t)SUMMARY_PER_BLOCK + k;

		if (g >= v->alloc.group_count)
			break;
		d->e[k].free_clusters = le16_of(v->alloc.groups[g].free);
		d->e[k].flags = le16_of(v->alloc.groups[g].flags);
	}
	return 0;
}

/* Is the block still in use? Its group and its chunk say so, as they are now. 1: yes. */
static int in_use(struct txn *t, uint64_t blkno)
{
	struct scrub *s = &t->v->scrub;
	const struct disk_group *d;
	const struct disk_chunk *c;
	uint32_t i = (uint32_t)(blkno % CHUNK_BLOCKS);
	struct block *b;
	int err;

	if (s->area != SCRUB_CHUNK)
		return 1;
	err = txn_get(t, le64_get(t->v->geo->group_start) + s->group, MAGIC_GROUP, 0, &b);
	if (err)
		return err;
	d = (const struct disk_group *)b->data;
	if (!(d->meta[s->chunk_at / 8] >> s->chunk_at % 8 & 1))
		return 0;
	if (!i)
		return 1;
	err = txn_get(t, blkno - i, MAGIC_CHUNK, 0, &b);
	if (err)
		return err;
	c = (const struct disk_chunk *)b->data;
	return c->used[i / 8] >> i % 8 & 1;
}

static int judge(struct txn *t, void *arg)
{
	struct vol *v = arg;
	struct scrub *s = &v->scrub;
	uint64_t blkno = suspect(s);
	struct block *b;
	int err = in_use(t, blkno);

	s->verdict = SCRUB_GONE;
	if (err <= 0)
		return err;
	if (s->area == SCRUB_SUPERS) {
		(void)txn_super_dirty(t);
		s->verdict = SCRUB_REPAIRED;
		return 0;
	}
	s->verdict = SCRUB_BROKEN;
	b = cache_find(v, blkno);
	if (!b && s->area == SCRUB_SUMMARY) {
		err = make_summary(t, blkno);
		s->verdict = SCRUB_REPAIRED;
		return err;
	}
	if (!b || b->state != BLOCK_VALID)
		return 0;
	err = txn_get(t, blkno, b->magic, OWNER_ANY, &b);
	if (err)
		return err;
	txn_dirty(t, b);
	s->verdict = SCRUB_REPAIRED;
	return 0;
}

void scrub_judged(struct vol *v, int err)
{
	struct scrub *s = &v->scrub;

	if (s->state != SCRUB_JUDGE)
		return;
	if (err || s->verdict != SCRUB_GONE)
		note(v, suspect(s), s->problem, !err && s->verdict == SCRUB_REPAIRED);
	if (s->stop)
		finish(v, "stopped");
	else
		suspect_done(v);
}

/* S3: written in place, and looked at again. */
static void renewed(struct vol *v, struct vio *io, enum lun_status st)
{
	(void)io;
	(void)st;
	v->scrub.reading = false;
	if (v->scrub.state != SCRUB_RENEW)
		return;
	v->scrub.renewed = true;
	v->scrub.state = SCRUB_LOOK;
	v->scrub.due_ns = v->now_ns;
}

static void renew(struct vol *v)
{
	struct scrub *s = &v->scrub;
	struct disk_super *d = (struct disk_super *)s->again;

	if (s->area == SCRUB_HEADS) {
		if (!ckpt_renew_head(v, suspect(s)))
			return;
		s->renewed = true;
		s->looks = LOOKS - 1; /* one look, when it may have been written */
		s->due_ns = v->now_ns + LOOK_NS;
		s->turns++;
		return;
	}
	csv_assert(suspect(s) == le64_get(v->geo->block_count) - 1); /* S5 */
	memcpy(d, v->super->data, BLOCK_SIZE);
	d->h.blkno = le64_of(suspect(s));
	verify_seal(d);
	s->state = SCRUB_RENEW;
	s->reading = true;
	vio_must(v, LUN_WRITE, suspect(s), 1, d, renewed)->fua = true;
	s->turns++;
}

static void looked(struct vol *v, struct vio *io, enum lun_status st)
{
	struct scrub *s = &v->scrub;
	enum problem p;

	(void)io;
	s->reading = false;
	if (s->state != SCRUB_LOOK)
		return;
	if (grow_busy(v)) { /* S5: once more, later */
		s->due_ns = v->now_ns + LOOK_NS;
		return;
	}
	p = st == LUN_OK ? look_at(v, suspect(s), s->again) : PROBLEM_MEDIUM;
	if (p == PROBLEM_NONE || pending(v, suspect(s))) {
		if (s->renewed)
			note(v, suspect(s), s->problem, true);
		s->renewed = false;
		s->turns = 0;
		suspect_done(v);
		return;
	}
	s->problem = p;
	s->due_ns = v->now_ns + LOOK_NS;
	if (++s->looks < LOOKS)
		return;
	if ((s->area == SCRUB_HEADS || s->area == SCRUB_LAST) && s->turns < LOOKS) {
		renew(v);
		return;
	}
	if (s->area == SCRUB_HEADS || s->area == SCRUB_LAST) {
		note(v, suspect(s), p, false);
		s->renewed = false;
		s->turns = 0;
		suspect_done(v);
		return;
	}
	s->state = SCRUB_JUDGE;
	memset(&s->req, 0, sizeof(s->req));
	s->req.call = judge;
	s->req.arg = v;
	list_add_tail(&s->req.link, &v->queue);
}

static void look_again(struct vol *v)
{
	struct scrub *s = &v->scrub;

	if (vio_send(v, LUN_READ, suspect(s), 1, s->again, looked, NULL))
		s->reading = true;
}

/* ------------------------------------------------------------------ interface */

void scrub_step(struct vol *v)
{
	struct scrub *s = &v->scrub;

	if (s->state == SCRUB_IDLE)
		return;
	if (v->state != VOL_READY) {
		if (s->state != SCRUB_JUDGE)
			finish(v, "ended with the volume");
		return;
	}
	if (grow_busy(v) || s->reading || s->due_ns > v->now_ns)
		return;
	if (s->state == SCRUB_NEXT)
		read_next(v);
	else if (s->state == SCRUB_LOOK)
		look_again(v);
}

bool scrub_in_flight(const struct vol *v)
{
	return v->scrub.reading;
}

void scrub_grown(struct vol *v)
{
	struct scrub *s = &v->scrub;
	uint64_t blocks = le64_get(v->geo->block_count);

	csv_assert(!s->reading);
	if (s->state == SCRUB_IDLE || s->area != SCRUB_LAST)
		return;
	csv_assert(s->state == SCRUB_NEXT || s->state == SCRUB_LOOK);
	s->suspects = 0;
	s->turns = 0;
	s->renewed = false;
	s->state = SCRUB_NEXT;
	place(s, SCRUB_LAST, blocks - 1, blocks);
}

uint64_t scrub_deadline(const struct vol *v)
{
	const struct scrub *s = &v->scrub;

	if (v->state != VOL_READY || grow_busy(v) || s->reading)
		return NEVER;
	return s->state == SCRUB_NEXT || s->state == SCRUB_LOOK ? s->due_ns : NEVER;
}

int vol_scrub(struct vol *v, bool start)
{
	struct scrub *s = &v->scrub;

	if (v->state != VOL_READY)
		return -EAGAIN;
	if (!start) {
		if (s->state == SCRUB_IDLE)
			return -EALREADY;
		s->stop = true;
		if (s->state != SCRUB_JUDGE)
			finish(v, "stopped");
		return 0;
	}
	if (v->cfg.readonly)
		return -EROFS;
	if (s->state != SCRUB_IDLE || s->reading)
		return -EBUSY;
	if (!s->buf)
		s->buf = mem_alloc(v->cfg.mem, (WINDOW + 1) * BLOCK_SIZE);
	if (!s->buf)
		return -ENOMEM;
	s->again = s->buf + (size_t)WINDOW * BLOCK_SIZE;
	memset(&s->st, 0, sizeof(s->st));
	s->st.running = true;
	s->stop = false;
	s->renewed = false;
	s->turns = 0;
	s->suspects = 0;
	s->due_ns = v->now_ns;
	s->state = SCRUB_NEXT;
	place(s, SCRUB_SUPERS, SUPER_BLOCK, SUPER_COPY_BLOCK + 1);
	return 0;
}

void vol_get_scrub(const struct vol *v, struct vol_scrub *st)
{
	*st = v->scrub.st;
	st->group = st->complete ? v->alloc.group_count : v->scrub.group;
	st->groups = v->alloc.group_count;
}

void scrub_reset(struct vol *v)
{
	v->scrub.state = SCRUB_IDLE;
	v->scrub.reading = false;
	memset(&v->scrub.st, 0, sizeof(v->scrub.st));
	list_init(&v->scrub.req.link);
}

void scrub_destroy(struct vol *v)
{
	mem_free(v->cfg.mem, v->scrub.buf, (WINDOW + 1) * BLOCK_SIZE);
}
