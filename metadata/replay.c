/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * replay.c - after a crash: what the journal holds and the places may not have.
 *
 *   HEADS -> SCAN -> BEYOND -> GROUPS <-> GONE
 *                                GROUPS -> IMAGES <-> WRITE -> FLUSH -> HEAD -> DONE
 *
 * Rules
 *  R1. The whole run is verified (headers, images, targets) before the first block is written: what
 *      cannot be replayed freezes the volume as it is, so that the next coordinator finds the same.
 *  R2. Only whole transactions count. Behind the first gap there can be nothing that was acknowledged
 *      (journal.c, J1). If a record that was durable is missing, or a later transaction stands
 *      behind the gap, then the journal is damaged: nothing is guessed.
 *  R3. Of several images of a block only the newest is applied, over whatever else stands in its place. The
 *      run holds all that its transactions wrote, and each image has two checksums: so no other
 *      block of its time can be right, whatever lsn it tells. A block in its place that is newer than
 *      the journal's end says that records were lost: nothing is guessed.
 *      The first superblock goes to its place alone, and is durable there before another block is begun: what is being written
 *      may be spoilt by a power failure, and one of the two must tell where the journal is.
 *  R4. When everything is durable in its place, a journal head of our epoch makes the journal empty:
 *      a record of an earlier epoch that lands late is refused from then on.
 *  R5. No image goes where data may be. Behind the newest head's tail there is none of a chunk that is data's
 *      (alloc.c, A2), but if that head is lost the run begins at the older one's. Whatever in the run gave the
 *      chunk back wrote its group: so the newest image of the group tells, and a group without an image has had
 *      no chunk taken or given back in all of the run.
 *  R6. One journal head suffices; another that is damaged or cannot be read may have been the newer one, so what R1 to R5
 *      ask of the run holds for the older one's, too. R4's head is written over it.
 */
#include "csvfs/base/crc32c.h"
#include "metadata/engine.h"

#define WINDOW CKPT_BATCH /* blocks read at once */

static void damaged(struct vol *v, enum problem p, uint64_t at, const char *what)
{
	vol_freeze(v, VOL_DAMAGED, "%s: journal block %llu (record %llu): %s; run fsck.csvfs",
		problem_name(p), (unsigned long long)journal_blkno(v, at),
		(unsigned long long)v->replay.pos.seq, what);
}

void replay_free(struct vol *v)
{
	struct replay *r = &v->replay;

	mem_free(v->cfg.mem, r->map, r->map_room * sizeof(*r->map));
	mem_free(v->cfg.mem, r->rec, BLOCK_SIZE);
	r->map = NULL;
	r->rec = NULL;
}

/* A read of several blocks for this phase; a failure freezes: without it nobody can go on. */
static void read_done(struct vol *v, struct vio *io, enum lun_status st)
{
	if (st != LUN_OK)
		vol_freeze(v, VOL_DAMAGED, "%s: journal or metadata block %llu cannot be read",
			problem_name(PROBLEM_MEDIUM), (unsigned long long)io->blkno);
	v->replay.pending--;
}

static void phase_read(struct vol *v, uint64_t blkno, uint64_t blocks, uint8_t *buf)
{
	(void)vio_must(v, LUN_READ, blkno, blocks, buf, read_done);
	v->replay.pending++;
}

/* What is to be overwritten need not be readable. */
static void place_done(struct vol *v, struct vio *io, enum lun_status st)
{
	if (st != LUN_OK) {
		memset(io->buf, 0, io->blocks * BLOCK_SIZE);
		st = LUN_OK;
	}
	read_done(v, io, st);
}

/* ------------------------------------------------------------------ heads */

/* One that cannot be read is as one that is damaged (R6): which of the two it was, nobody knows. */
static void head_done(struct vol *v, struct vio *io, enum lun_status st)
{
	if (st != LUN_OK)
		trace(v->cfg.trace, TRACE_WARN, "%s: journal head %llu cannot be read",
			problem_name(PROBLEM_MEDIUM), (unsigned long long)io->blkno);
	place_done(v, io, st);
}

void replay_start(struct vol *v)
{
	struct replay *r = &v->replay;

	memset(r, 0, sizeof(*r));
	r->rec = mem_alloc(v->cfg.mem, BLOCK_SIZE);
	if (!r->rec) {
		vol_freeze(v, VOL_NO_MEMORY, "no memory for replay");
		return;
	}
	r->state = REPLAY_HEADS;
	v->journal.start = le64_get(v->geo->journal_start) + JOURNAL_HEADS;
	v->journal.blocks = le64_get(v->geo->journal_blocks) - JOURNAL_HEADS;
	/* Each alone: one suffices. */
	for (uint32_t i = 0; i < JOURNAL_HEADS; i++) {
		(void)vio_must(v, LUN_READ, v->journal.start - JOURNAL_HEADS + i, 1,
			v->ckpt.buf + (size_t)i * BLOCK_SIZE, head_done);
		r->pending++;
	}
}

static void read_window(struct vol *v)
{
	struct replay *r = &v->replay;
	const struct journal *j = &v->journal;
	uint64_t first = r->window, blocks = WINDOW, left;
	uint8_t *buf = v->ckpt.buf;

	/* Not more than one turn of the ring. */
	left = le64_get(r->head.tail_pos) + j->blocks - first;
	if (blocks > left)
		blocks = left;
	r->window_blocks = (uint32_t)blocks;
	while (blocks) {
		uint64_t n = j->blocks - first % j->blocks;

		if (n > blocks)
			n = blocks;
		phase_read(v, journal_blkno(v, first), n, buf);
		buf += n * BLOCK_SIZE;
		first += n;
		blocks -= n;
	}
}

static void choose_head(struct vol *v)
{
	struct replay *r = &v->replay;
	uint64_t first = v->journal.start - JOURNAL_HEADS;
	struct verify_report rep;
	bool any = false;

	for (uint32_t i = 0; i < JOURNAL_HEADS; i++) {
		const struct disk_jhead *h =
			(const struct disk_jhead *)(v->ckpt.buf + (size_t)i * BLOCK_SIZE);

		if (verify_block(h, MAGIC_JHEAD, first + i, v->geo, &rep) != PROBLEM_NONE)
			continue;
		if (!any || le64_get(h->count) > le64_get(r->head.count))
			memcpy(&r->head, h, sizeof(r->head));
		any = true;
	}
	if (!any || le64_get(r->head.tail_pos) >= v->journal.blocks) {
		vol_freeze(v, VOL_DAMAGED,
			"%s: neither journal head (blocks %llu, %llu) is valid; run fsck.csvfs",
			problem_name(PROBLEM_JOURNAL_HEAD), (unsigned long long)first,
			(unsigned long long)first + 1);
		return;
	}
	if (le64_get(r->head.h.epoch) > v->epoch) {
		vol_freeze(v, VOL_FENCED, "the journal is in epoch %llu, ours is %llu",
			(unsigned long long)le64_get(r->head.h.epoch),
			(unsigned long long)v->epoch);
		return;
	}
	r->pos.seq = le64_get(r->head.tail_seq);
	r->pos.lsn = le64_get(r->head.tail_lsn);
	r->pos.at = le64_get(r->head.tail_pos);
	r->end = r->pos;
	r->epoch = le64_get(r->head.h.epoch);
	r->window = r->pos.at;
	r->state = REPLAY_SCAN;
	read_window(v);
}

/* ------------------------------------------------------------------ the run */

static bool map_add(struct vol *v, uint64_t blkno, uint64_t at)
{
	struct replay *r = &v->replay;

	if (r->map_count == r->map_room) {
		size_t room = r->map_room ? r->map_room * 2 : 1024;
		struct pair *map = mem_alloc(v->cfg.mem, room * sizeof(*map));

		if (!map) {
			vol_freeze(v, VOL_NO_MEMORY, "no memory to replay %zu blocks", room);
			return false;
		}
		if (r->map_count)
			memcpy(map, r->map, r->map_count * sizeof(*map));
		mem_free(v->cfg.mem, r->map, r->map_room * sizeof(*map));
		r->map = map;
		r->map_room = room;
	}
	r->map[r->map_count++] = (struct pair){blkno, at};
	return true;
}

/* May a record name this block as a target? Not the claims, not the journal itself, not the end. */
static bool may_be_target(const struct vol *v, uint64_t blkno)
{
	const struct disk_super *s = v->geo;
	uint64_t j = le64_get(s->journal_start);

	if (blkno == SUPER_BLOCK || blkno == SUPER_COPY_BLOCK)
		return true;
	if (blkno < REPLY_BLOCK || blkno >= le64_get(s->block_count) - 1)
		return false;
	return blkno < j || blkno >= le64_get(s->data_start);
}

/* The header that is expected next: true if it is there. */
static bool take_header(struct vol *v, const uint8_t *block)
{
	struct replay *r = &v->replay;
	const struct disk_jrec *h = (const struct disk_jrec *)block;
	struct verify_report rep;
	bool first = le32_get(h->flags) & JREC_FIRST;

	if (verify_jrec(block, v->geo->h.uuid, &rep) != PROBLEM_NONE)
		return false;
	if (le64_get(h->seq) != r->pos.seq || le64_get(h->lsn) != r->pos.lsn)
		return false;
	/* R4: each epoch begins with a head of its own, so what is older than that never counts. */
	if (le64_get(h->epoch) < r->epoch || first == r->in_txn)
		return false;
	if (le64_get(h->epoch) > v->epoch) {
		vol_freeze(v, VOL_FENCED, "the journal has records of epoch %llu, ours is %llu",
			(unsigned long long)le64_get(h->epoch), (unsigned long long)v->epoch);
		return false;
	}
	memcpy(r->rec, block, BLOCK_SIZE);
	r->epoch = le64_get(h->epoch);
	r->in_rec = true;
	r->in_txn = true;
	r->image = 0;
	return true;
}

static bool take_image(struct vol *v, const uint8_t *block)
{
	struct replay *r = &v->replay;
	const struct disk_jrec *h = (const struct disk_jrec *)r->rec;
	uint64_t blkno = le64_get(h->image[r->image].blkno);
	struct verify_report rep;

	if (crc32c(0, block, BLOCK_SIZE) != le32_get(h->image[r->image].crc))
		return false;
	if (!may_be_target(v, blkno)) {
		damaged(v, PROBLEM_JOURNAL_TARGET, r->pos.at, "image of a block that is not metadata");
		return false;
	}
	if (verify_block(block, 0, blkno, v->geo, &rep) != PROBLEM_NONE) {
		damaged(v, PROBLEM_JOURNAL_IMAGE, r->pos.at, problem_name(rep.problem));
		return false;
	}
	if (!map_add(v, blkno, r->pos.at))
		return false;
	r->image++;
	return true;
}

static void record_end(struct vol *v)
{
	struct replay *r = &v->replay;
	const struct disk_jrec *h = (const struct disk_jrec *)r->rec;

	r->in_rec = false;
	r->pos.seq++;
	if (!(le32_get(h->flags) & JREC_LAST))
		return;
	r->in_txn = false;
	r->pos.lsn++;
	r->end = r->pos;
	r->map_whole = r->map_count;
}

/* One block of the window: false at the end of the run. */
static bool take_block(struct vol *v, const uint8_t *block)
{
	struct replay *r = &v->replay;
	const struct disk_jrec *h = (const struct disk_jrec *)r->rec;

	if (!r->in_rec) {
		if (!take_header(v, block))
			return false;
	} else if (!take_image(v, block)) {
		return false;
	}
	r->pos.at++;
	if (r->image == le32_get(h->count))
		record_end(v);
	return true;
}

static void look_beyond(struct vol *v)
{
	struct replay *r = &v->replay;

	if (r->end.seq < le64_get(r->head.head_seq)) {
		damaged(v, PROBLEM_JOURNAL_RECORD, r->pos.at, "a record that was durable is missing");
		return;
	}
	r->map_count = r->map_whole;
	r->state = REPLAY_BEYOND;
	r->window = r->end.at;
	read_window(v);
}

static void scan(struct vol *v)
{
	struct replay *r = &v->replay;

	for (uint32_t i = 0; i < r->window_blocks; i++) {
		if (!take_block(v, v->ckpt.buf + (size_t)i * BLOCK_SIZE)) {
			if (v->state == VOL_OPENING)
				look_beyond(v);
			return;
		}
	}
	r->window += r->window_blocks;
	if (!r->window_blocks)
		look_beyond(v);
	else
		read_window(v);
}

/* ------------------------------------------------------------------ the map */

/* Of each block only its newest image stays in the map, in order of block number. */
static void newest_only(struct replay *r)
{
	size_t n = 0;

	pair_sort(r->map, r->map_count);
	for (size_t i = 0; i < r->map_count; i++) {
		if (n && r->map[n - 1].key == r->map[i].key)
			n--;
		r->map[n++] = r->map[i];
	}
	r->map_count = n;
}

/* The first entry of block `blkno` or one behind it; the map is in order. */
static size_t map_find(const struct replay *r, uint64_t blkno)
{
	size_t from = 0, to = r->map_count;

	while (from < to) {
		size_t mid = from + (to - from) / 2;

		if (r->map[mid].key < blkno)
			from = mid + 1;
		else
			to = mid;
	}
	return from;
}

/* ------------------------------------------------------------------ behind the gap */

/* Blocks of the longest transaction that this ring admits (journal_reset()). */
static uint64_t longest(const struct vol *v)
{
	uint64_t records = JOURNAL_RECORDS_MAX;

	while (records > 1 && records * JREC_IMAGES_MAX > v->journal.blocks / 4)
		records--;
	return records * (JREC_IMAGES_MAX + 1);
}

/* The torn transaction is the last that was begun: so no later one stands within its length. */
static void beyond(struct vol *v)
{
	struct replay *r = &v->replay;
	struct verify_report rep;

	for (uint32_t i = 0; i < r->window_blocks; i++) {
		const struct disk_jrec *h =
			(const struct disk_jrec *)(v->ckpt.buf + (size_t)i * BLOCK_SIZE);

		if (le32_get(h->magic) != MAGIC_JREC)
			continue;
		if (verify_jrec(h, v->geo->h.uuid, &rep) == PROBLEM_NONE &&
			le64_get(h->lsn) > r->end.lsn) {
			damaged(v, PROBLEM_JOURNAL_RECORD, r->pos.at,
				"damaged, but later transactions follow it");
			return;
		}
	}
	r->window += r->window_blocks;
	if (r->window_blocks && r->window <= r->end.at + longest(v)) {
		read_window(v);
		return;
	}
	newest_only(r);
	r->next = map_find(r, le64_get(v->geo->group_start));
	r->state = REPLAY_GROUPS;
}

/* Neighbours in the batch that are neighbours on the LUN are read with one command. */
static void read_runs(struct vol *v, bool images, uint8_t *buf)
{
	struct replay *r = &v->replay;
	const struct pair *p = &r->map[r->next];
	uint32_t from = 0;

	for (uint32_t i = 0; i < r->batch; i++) {
		uint64_t here = images ? journal_blkno(v, p[i].value) : p[i].key;
		uint64_t first = images ? journal_blkno(v, p[from].value) : p[from].key;
		uint64_t next = 0;

		if (i + 1 < r->batch)
			next = images ? journal_blkno(v, p[i + 1].value) : p[i + 1].key;
		if (next == here + 1)
			continue;
		(void)vio_must(v, LUN_READ, first, i + 1 - from, buf + (size_t)from * BLOCK_SIZE,
			images ? read_done : place_done);
		r->pending++;
		from = i + 1;
	}
}

/* ------------------------------------------------------------------ chunks that are data now (R5) */

#define GONE UINT64_MAX /* no ring position: this image is dropped */

static void groups(struct vol *v)
{
	struct replay *r = &v->replay;
	size_t end = map_find(r, le64_get(v->geo->group_start) + le64_get(v->geo->group_count));
	size_t n = 0;

	if (r->next < end) {
		r->batch = end - r->next < CKPT_BATCH ? (uint32_t)(end - r->next) : CKPT_BATCH;
		r->state = REPLAY_GONE;
		read_runs(v, true, v->ckpt.buf);
		return;
	}
	for (size_t i = 0; i < r->map_count; i++)
		if (r->map[i].value != GONE)
			r->map[n++] = r->map[i];
	r->map_count = n;
	r->next = 0;
	r->state = REPLAY_IMAGES;
}

/* Images of blocks whose chunk this newest image of its group does not name. */
static void drop_gone(struct vol *v, const struct disk_group *d)
{
	struct replay *r = &v->replay;
	uint64_t blocks = (uint64_t)GROUP_CLUSTERS * (le32_get(v->geo->cluster_bytes) / BLOCK_SIZE);
	uint64_t first = (le64_get(d->h.blkno) - le64_get(v->geo->group_start)) * blocks;
	uint64_t data = le64_get(v->geo->data_start);

	for (size_t i = map_find(r, first > data ? first : data);
		i < r->map_count && r->map[i].key < first + blocks; i++) {
		uint64_t chunk = (r->map[i].key - first) / CHUNK_BLOCKS;

		if (d->meta[chunk / 8] >> (chunk % 8) & 1)
			continue;
		r->map[i].value = GONE;
		r->skipped++;
	}
}

static void take_groups(struct vol *v)
{
	struct replay *r = &v->replay;

	for (uint32_t i = 0; i < r->batch; i++) {
		const uint8_t *image = v->ckpt.buf + (size_t)i * BLOCK_SIZE;
		const struct pair *p = &r->map[r->next + i];
		struct verify_report rep;

		if (verify_block(image, MAGIC_GROUP, p->key, v->geo, &rep) != PROBLEM_NONE) {
			damaged(v, PROBLEM_JOURNAL_IMAGE, p->value, problem_name(rep.problem));
			return;
		}
		drop_gone(v, (const struct disk_group *)image);
	}
	r->next += r->batch;
	r->state = REPLAY_GROUPS;
}

/* ------------------------------------------------------------------ applying */

static void start_batch(struct vol *v)
{
	struct replay *r = &v->replay;
	size_t left = r->map_count - r->next;

	r->batch = left < CKPT_BATCH ? (uint32_t)left : CKPT_BATCH;
	if (r->map[r->next].key == SUPER_BLOCK)
		r->batch = 1;
	r->state = REPLAY_WRITE;
	read_runs(v, true, v->ckpt.buf);
	read_runs(v, false, v->journal.bufs[0]);
}

/* R3. */
static bool must_apply(struct vol *v, uint64_t blkno, const uint8_t *image, const uint8_t *place)
{
	const struct disk_header *was = (const struct disk_header *)place;
	struct verify_report rep;

	if (verify_block(place, 0, blkno, v->geo, &rep) == PROBLEM_NONE &&
		le64_get(was->lsn) >= v->replay.end.lsn) {
		vol_freeze(v, VOL_DAMAGED,
			"%s: block %llu is of transaction %llu, but the journal ends before %llu",
			problem_name(PROBLEM_HEADER_LSN), (unsigned long long)blkno,
			(unsigned long long)le64_get(was->lsn),
			(unsigned long long)v->replay.end.lsn);
		return false;
	}
	return memcmp(image, place, BLOCK_SIZE) != 0;
}

static void write_done(struct vol *v, struct vio *io, enum lun_status st)
{
	(void)io;
	csv_assert(st == LUN_OK && v->replay.pending);
	v->replay.pending--;
}

static void write_batch(struct vol *v)
{
	struct replay *r = &v->replay;
	const struct pair *p = &r->map[r->next];

	for (uint32_t i = 0; i < r->batch; i++) {
		uint8_t *image = v->ckpt.buf + (size_t)i * BLOCK_SIZE;
		const uint8_t *place = v->journal.bufs[0] + (size_t)i * BLOCK_SIZE;
		struct verify_report rep;

		if (verify_block(image, 0, p[i].key, v->geo, &rep) != PROBLEM_NONE) {
			damaged(v, PROBLEM_JOURNAL_IMAGE, p[i].value, "reads differently now");
			return;
		}
		if (!must_apply(v, p[i].key, image, place)) {
			r->skipped++;
			continue;
		}
		if (v->state == VOL_FROZEN)
			return;
		vio_must(v, LUN_WRITE, p[i].key, 1, image, write_done)->fua = p[i].key == SUPER_BLOCK;
		r->pending++;
		r->applied++;
	}
	r->next += r->batch;
	r->state = REPLAY_IMAGES;
}

static void phase_done(struct vol *v, struct vio *io, enum lun_status st)
{
	(void)io;
	csv_assert(st == LUN_OK && v->replay.pending);
	v->replay.pending--;
}

static void images(struct vol *v)
{
	struct replay *r = &v->replay;

	if (r->next < r->map_count) {
		start_batch(v);
		return;
	}
	r->state = REPLAY_FLUSH;
	/* What was in place may be there by a replay that ended before its flush. */
	if (v->cfg.write_cache && (r->applied || r->skipped)) {
		(void)vio_must(v, LUN_FLUSH, 0, 0, NULL, phase_done);
		r->pending++;
	}
}

/* The journal is empty from here on, in our epoch. */
static void write_head(struct vol *v)
{
	struct replay *r = &v->replay;
	struct journal_pos pos = r->end;

	pos.at %= v->journal.blocks;
	journal_reset(v, &pos, le64_get(r->head.count));
	v->replayed = r->end.seq != le64_get(r->head.tail_seq);
	r->state = REPLAY_HEAD;
	if (v->cfg.readonly)
		return;
	journal_write_head(v, &pos, phase_done);
	r->pending++;
}

static void finish(struct vol *v)
{
	struct replay *r = &v->replay;

	if (v->replayed)
		trace(v->cfg.trace, TRACE_INFO,
			"replay: transactions %llu to %llu, %llu blocks applied, %llu were in place",
			(unsigned long long)le64_get(r->head.tail_lsn),
			(unsigned long long)r->end.lsn - 1, (unsigned long long)r->applied,
			(unsigned long long)r->skipped);
	replay_free(v);
	r->state = REPLAY_DONE;
}

/* The scan has ended well: go on, unless nothing may be written. */
static void scanned(struct vol *v)
{
	struct replay *r = &v->replay;

	if (v->cfg.readonly && v->replay.map_count) {
		vol_freeze(v, VOL_PROTECTED,
			"the journal is not empty, and replay is not possible when read-only");
		return;
	}
	/* R3. What the dead have written there may be in the target's cache alone, and be what we would write, too. */
	if (!r->settled && v->cfg.write_cache && r->map_count && r->map[0].key == SUPER_BLOCK) {
		r->settled = true;
		(void)vio_must(v, LUN_FLUSH, 0, 0, NULL, phase_done);
		r->pending++;
		return;
	}
	images(v);
}

void replay_step(struct vol *v)
{
	struct replay *r = &v->replay;

	while (!r->pending && v->state == VOL_OPENING) {
		switch (r->state) {
		case REPLAY_HEADS: choose_head(v); break;
		case REPLAY_SCAN: scan(v); break;
		case REPLAY_BEYOND: beyond(v); break;
		case REPLAY_GROUPS: groups(v); break;
		case REPLAY_GONE: take_groups(v); break;
		case REPLAY_IMAGES: scanned(v); break;
		case REPLAY_WRITE: write_batch(v); break;
		case REPLAY_FLUSH: write_head(v); break;
		case REPLAY_HEAD: finish(v); break;
		case REPLAY_OFF:
		case REPLAY_DONE: return;
		}
	}
}
