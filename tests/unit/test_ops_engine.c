/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Operations on the whole engine: random ones against a model, with a small cache, closed and crashed
 * in between, checked by the library of fsck.csvfs each time.
 */
#include "redirect/client.h"
#include "tests/unit/ops_engine.h"
#include "tests/unit/ops_model.h"

static uint32_t checks, crashes;

static void reopen(void)
{
	struct check_report rep;

	engine_check(&rep);
	checks++;
	if (m_rand(2)) {
		run_sync_crash(engine.rs);
		crashes++;
	} else {
		assert_int_equal(run_sync_close(engine.rs), 0);
	}
	engine_open();
}

static void model_hook(uint32_t op)
{
	if (op % 250 == 249)
		reopen();
}

static bool model_may_be_full(void)
{
	struct vol_req saved = run.r;
	struct fs_statfs st;

	rq(FS_STATFS, 0, NULL);
	assert_int_equal(run_request(), 0);
	st = run.r.reply.statfs;
	run.r = saved;
	return st.bavail < 64;
}

/* df -i and the check agree, after any calls, failed ones, and openings. */
static void used_inodes_are_those_that_the_check_finds(void)
{
	struct check_report rep;
	struct fs_statfs st;

	rq(FS_STATFS, 0, NULL);
	assert_int_equal(run_request(), 0);
	st = run.r.reply.statfs;
	assert_int_equal(run_sync_settle(engine.rs), 0);
	engine_check(&rep);
	assert_int_equal(st.files - st.ffree,
		rep.files + rep.symlinks + rep.others + rep.directories); /* orphans are among them */
}

static void run_seed(uint64_t seed, uint64_t bytes, uint64_t cache_bytes, uint32_t steps)
{
	uint64_t root = engine_mkfs(bytes, cache_bytes);
	struct check_report rep;

	model_run(seed, root, steps);
	used_inodes_are_those_that_the_check_finds();
	model_empty();
	used_inodes_are_those_that_the_check_finds();
	assert_int_equal(run_sync_settle(engine.rs), 0);
	engine_check(&rep);
	assert_int_equal(rep.files + rep.symlinks + rep.others + rep.orphans, 0);
	assert_int_equal(rep.directories, 1);
	assert_int_equal(rep.data_clusters, 0);
	print_message("seed %llu: %u requests, %u refused; %u checks, %u crashes\n",
		(unsigned long long)seed, run.steps, run.undone, checks, crashes);
	engine_end();
}

static void random_operations_match_the_model(void **state)
{
	for (uint64_t seed = 1; seed <= 3; seed++)
		run_seed(seed, 4ull << 30, 4 << 20, 3000);
}

static void random_operations_match_the_model_on_a_full_volume(void **state)
{
	for (uint64_t seed = 11; seed <= 13; seed++)
		run_seed(seed, 256ull << 20, 16 << 20, 3000);
}

/* Fills with small files until there is no space, and deletes them all. */
static void volume_can_be_filled_and_emptied_any_number_of_times(void **state)
{
	uint64_t root = engine_mkfs(64ull << 20, 4 << 20), free_before = 0, f;
	struct check_report rep;
	uint32_t files;
	char name[16];

	for (uint32_t round = 0; round < 4; round++) {
		int err = 0;

		for (files = 0; !err; files++) {
			snprintf(name, sizeof(name), "%u", files);
			err = do_make(FS_CREATE, root, name, 0644, &f);
			if (!err)
				err = do_layout(f, 0, 3 * CLUSTER, FS_LAYOUT_WRITE);
		}
		assert_int_equal(err, -ENOSPC);
		assert_true(files > 200);
		/* Metadata still works: a name, an attribute, and above all removing. */
		assert_int_equal(do_make(FS_MKDIR, root, "dir", 0755, NULL), 0);
		assert_int_equal(do_setxattr(f ? f : root, "user.x", "v", 1, 0), 0);
		engine_check(&rep);
		for (uint32_t i = 0; i < files; i++) {
			snprintf(name, sizeof(name), "%u", i);
			err = do_name(FS_UNLINK, root, name);
			assert_true(err == 0 || (err == -ENOENT && i == files - 1));
		}
		(void)do_name(FS_REMOVEXATTR, root, "user.x");
		assert_int_equal(do_name(FS_RMDIR, root, "dir"), 0);
		assert_int_equal(run_sync_settle(engine.rs), 0);
		engine_check(&rep);
		if (round == 0)
			free_before = engine_free_clusters();
		assert_int_equal(engine_free_clusters(), free_before);
	}
	engine_end();
}

/* Interleaved with another file, so that it has an extent for each cluster. */
static uint64_t fill_with_fragments(uint64_t root, const char *name)
{
	uint64_t a = create(root, name), b = create(root, "other");
	int err = 0;

	for (uint64_t i = 0; !err; i++)
		err = do_layout(i % 2 ? a : b, (2 * i + i / 7) * CLUSTER, 1, FS_LAYOUT_WRITE);
	assert_int_equal(err, -ENOSPC);
	assert_int_equal(do_name(FS_UNLINK, root, "other"), 0);
	return a;
}

static void space_of_what_was_deleted_is_there_for_the_next_request(void **state)
{
	uint64_t root = engine_mkfs(1ull << 30, 4 << 20), f;
	static struct vol_req r[2];

	for (uint32_t round = 0; round < 5; round++) {
		(void)fill_with_fragments(root, "f");
		f = create(root, "g");
		memset(r, 0, sizeof(r));
		r[0].rq.op = FS_UNLINK;
		r[0].rq.ino = root;
		strcpy(r[0].rq.name, "f");
		r[1].rq.op = FS_FALLOCATE;
		r[1].rq.ino = f;
		r[1].rq.len = 14000 * CLUSTER;
		/* Both at once: what the first one frees in the background is waited for. */
		assert_int_equal(run_sync_batch(engine.rs, r, 2), 0);
		assert_int_equal(r[0].reply.err, 0);
		assert_int_equal(r[1].reply.err, 0);
		/* And there is not more than there is. */
		r[1].rq.off = r[1].rq.len;
		assert_int_equal(run_sync_batch(engine.rs, r + 1, 1), 0);
		assert_int_equal(r[1].reply.err, -ENOSPC);
		assert_int_equal(do_name(FS_UNLINK, root, "g"), 0);
	}
	engine_end();
}

/* The LUN takes so many more writes, and then none: as if the power went. */
static struct sync_dev inner;
static uint32_t writes_left = UINT32_MAX;

static int cut_read(void *ctx, uint64_t off, void *buf, uint64_t len)
{
	return inner.read(inner.ctx, off, buf, len);
}

static int cut_write(void *ctx, uint64_t off, const void *buf, uint64_t len, bool fua)
{
	if (writes_left == 0)
		return -ETIMEDOUT;
	writes_left -= writes_left != UINT32_MAX;
	return inner.write(inner.ctx, off, buf, len, fua);
}

static int cut_flush(void *ctx)
{
	return writes_left ? inner.flush(inner.ctx) : -ETIMEDOUT;
}

/* Opens, lets the background work until the power goes. False: it was closed in order. */
static bool go_on_for(uint32_t writes)
{
	struct run_sync_config cfg = {.dev = &engine.dev,
		.ops = &metadata_ops,
		.cache_bytes = 4 << 20,
		.steal = true,
		.write_cache = true,
		.ino_is_open = run_is_open};

	bool cut = true;

	writes_left = writes;
	if (!run_sync_open(&cfg, &engine.rs, NULL)) {
		if (run_sync_settle(engine.rs) == 0)
			cut = run_sync_close(engine.rs) != 0;
		else
			run_sync_crash(engine.rs);
	}
	writes_left = UINT32_MAX;
	return cut;
}

/* A file of many extents, made of single clusters of a volume full of holes. */
static void many_extents_are_freed_in_the_background_through_crashes(void **state)
{
	uint64_t root = engine_mkfs(4ull << 30, 4 << 20), a, b, left = UINT64_MAX;
	uint32_t n = 12000, crashed = 0, writes = 3, steps = 0;
	struct check_report rep;
	struct vol_req r[2];

	a = create(root, "a");
	b = create(root, "b");
	for (uint64_t i = 0; i < n; i++) {
		assert_int_equal(
			do_layout(i % 2 ? a : b, (2 * i + i / 7) * CLUSTER, 1, FS_LAYOUT_WRITE), 0);
	}
	assert_int_equal(do_size(a, 2 * n * CLUSTER), 0);
	engine_check(&rep);
	assert_true(rep.extents > n / 2);
	inner = engine.dev;
	engine.dev = (struct sync_dev){NULL, inner.bytes, cut_read, cut_write, cut_flush};
	/* Both are answered, and the power goes with most of their work not done. */
	memset(r, 0, sizeof(r));
	r[0].rq.op = FS_UNLINK;
	r[0].rq.ino = root;
	strcpy(r[0].rq.name, "b");
	r[1].rq.op = FS_SETATTR;
	r[1].rq.ino = a;
	r[1].rq.valid = FS_SET_SIZE;
	r[1].rq.attr.size = CLUSTER;
	assert_int_equal(run_sync_batch(engine.rs, r, 2), 0);
	assert_int_equal(r[0].reply.err | r[1].reply.err, 0);
	run_sync_crash(engine.rs);
	/* It goes on from where it was, each time a little further. */
	while (go_on_for(writes)) {
		engine_check(&rep);
		assert_true(rep.data_clusters <= left);
		steps += rep.data_clusters < left;
		left = rep.data_clusters;
		assert_true(++crashed < 3000);
		writes = crashed % 7 ? writes : writes + 1;
	}
	engine_check(&rep);
	assert_int_equal(rep.files, 1);
	assert_true(rep.data_clusters <= 1);
	print_message("%u crashes on the way, %u of them found a part done\n", crashed, steps);
	assert_true(steps > 3);
	engine_open();
	engine_end();
}

static void hundred_thousand_files_in_one_directory(void **state)
{
	uint64_t root = engine_mkfs(8ull << 30, 8 << 20), dir = mkdir_(root, "d");
	struct check_report rep;
	uint32_t n = 100000, listed = 0;
	uint64_t cookie = 0, free_before;
	char name[32];

	for (uint32_t i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "file number %u", i);
		create(dir, name);
	}
	engine_check(&rep);
	assert_int_equal(rep.files, n);
	for (;;) {
		rq(FS_READDIR, dir, NULL)->off = cookie;
		assert_int_equal(run_request(), 0);
		if (!run.r.reply.data_len)
			break;
		for (uint32_t at = 0; at < run.r.reply.data_len; listed++) {
			struct fs_dirent d;

			memcpy(&d, run.data + at, sizeof(d));
			cookie = d.cookie;
			at += (uint32_t)FS_DIRENT_SIZE(d.namelen);
		}
	}
	assert_int_equal(listed, n + 2);
	for (uint32_t i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "file number %u", i * 7919u % n);
		assert_int_equal(do_name(FS_UNLINK, dir, name), 0);
	}
	assert_int_equal(do_name(FS_RMDIR, root, "d"), 0);
	assert_int_equal(run_sync_settle(engine.rs), 0);
	engine_check(&rep);
	free_before = rep.meta_chunks;
	/* What is kept are chunks with room for what comes next: few. */
	assert_true(free_before < 8);
	engine_end();
}

/* Its answer was lost, its node given up, and it was freed: the request comes again. */
static void nameless_file_nobody_heard_of_is_made_anew(void **state)
{
	uint64_t root = engine_mkfs(64ull << 20, 4ull << 20), seq, first;
	struct check_report rep;

	rq(FS_CREATE, root, "-")->mode = S_IFREG | 0600;
	run.r.rq.valid = FS_NO_NAME;
	seq = engine.seq;
	assert_int_equal(run_request(), 0);
	first = run.r.reply.attr.ino;
	/* Heard of, and still there: answered, not executed. */
	engine.seq = seq;
	assert_int_equal(run_request(), 0);
	assert_int_equal(run.r.reply.attr.ino, first);
	rq(FS_FREE_ORPHAN, 0, NULL);
	assert_int_equal(run_request(), 0);
	rq(FS_CREATE, root, "-")->mode = S_IFREG | 0600;
	run.r.rq.valid = FS_NO_NAME;
	engine.seq = seq;
	assert_int_equal(run_request(), 0);
	run_set_open(run.r.reply.attr.ino, true);
	engine_check(&rep);
	assert_int_equal(rep.orphans, 1);
	engine_end();
}

/* Another node removes it before its maker has heard of it: that one must not make it again. */
static void made_and_removed_before_it_comes_again_is_not_made_twice(void **state)
{
	uint64_t root = engine_mkfs(64ull << 20, 4ull << 20), seq, first;
	struct check_report rep;

	rq(FS_MKDIR, root, "d")->mode = S_IFDIR | 0755;
	seq = engine.seq;
	assert_int_equal(run_request(), 0);
	first = run.r.reply.attr.ino;
	rq(FS_RMDIR, root, "d")->id = (struct fs_reqid){.node = 2, .slot = 1, .life = 8, .seq = 1};
	run_room();
	assert_int_equal(run_sync_request(engine.rs, &run.r.rq, &run.r.reply), 0);
	rq(FS_MKDIR, root, "d")->mode = S_IFDIR | 0755;
	engine.seq = seq;
	assert_int_equal(run_request(), 0);
	assert_int_equal(run.r.reply.attr.ino, first);
	assert_int_equal(run.r.reply.attr.mode, S_IFDIR | 0755);
	assert_int_equal(run.r.reply.attr.nlink, 0);
	rq(FS_LOOKUP, root, "d");
	assert_int_equal(run_request(), -ENOENT);
	engine_check(&rep);
	engine_end();
}

/* What it does beside the engine (node_size.c) must not be done again either. */
static void request_that_comes_again_is_known_before_it_is_submitted(void **state)
{
	uint64_t root = engine_mkfs(64ull << 20, 4ull << 20);
	struct fs_reqid id;

	rq(FS_MKDIR, root, "a")->mode = S_IFDIR | 0755;
	assert_int_equal(run_request(), 0);
	id = run.r.rq.id;
	assert_true(id.slot && id.seq);
	assert_true(vol_replied(run_sync_vol(engine.rs), &id));
	id.seq++;
	assert_false(vol_replied(run_sync_vol(engine.rs), &id));
	/* Another life of the node, another node, and no slot: nothing of theirs. */
	id.seq--;
	id.life++;
	assert_false(vol_replied(run_sync_vol(engine.rs), &id));
	id.life--;
	id.node++;
	assert_false(vol_replied(run_sync_vol(engine.rs), &id));
	id.node--;
	id.slot = 0;
	assert_false(vol_replied(run_sync_vol(engine.rs), &id));
	engine_end();
}

/* A coordinator that takes over asks so for the place of an append that its node was never told. */
static void append_that_was_not_answered_is_found(void **state)
{
	uint64_t root = engine_mkfs(64ull << 20, 4ull << 20), f, ino = 0, off = 0, version = 0;
	struct fs_reqid id;

	rq(FS_MKNOD, root, "f")->mode = S_IFREG | 0644;
	assert_int_equal(run_request(), 0);
	f = run.r.reply.attr.ino;
	id = run.r.rq.id;
	assert_false(vol_appended(run_sync_vol(engine.rs), &id, &ino, &off, &version));
	for (uint32_t i = 0; i < 2; i++) {
		rq(FS_APPEND, f, NULL)->len = 1000;
		assert_int_equal(run_request(), 0);
	}
	id = run.r.rq.id;
	assert_true(vol_appended(run_sync_vol(engine.rs), &id, &ino, &off, &version));
	assert_int_equal(ino, f);
	assert_int_equal(off, 1000);
	assert_int_equal(version, run.r.reply.attr.version);
	/* Not sent yet; of another life. */
	id.seq++;
	assert_false(vol_appended(run_sync_vol(engine.rs), &id, &ino, &off, &version));
	id.seq--;
	id.life++;
	assert_false(vol_appended(run_sync_vol(engine.rs), &id, &ino, &off, &version));
	/* One that failed has no place. */
	rq(FS_APPEND, f, NULL)->len = FILE_BYTES_MAX;
	assert_int_equal(run_request(), -EFBIG);
	id = run.r.rq.id;
	assert_false(vol_appended(run_sync_vol(engine.rs), &id, &ino, &off, &version));
	engine_end();
}

/* The file may have been made shorter since: the version that comes with the place is the one of then. */
static void append_that_comes_again_tells_the_version_of_its_place(void **state)
{
	uint64_t root = engine_mkfs(64ull << 20, 4ull << 20), f, version;
	struct fs_request append;

	rq(FS_MKNOD, root, "f")->mode = S_IFREG | 0644;
	assert_int_equal(run_request(), 0);
	f = run.r.reply.attr.ino;
	rq(FS_APPEND, f, NULL)->len = 1000;
	assert_int_equal(run_request(), 0);
	append = run.r.rq;
	version = run.r.reply.attr.version;
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(run_sync_request(engine.rs, &append, &run.r.reply), 0);
		assert_int_equal(run.r.reply.off, 0);
		assert_int_equal(run.r.reply.attr.version, version);
		assert_int_equal(run.r.reply.attr.size, i ? 0 : 1000);
		rq(FS_SETATTR, f, NULL)->valid = FS_SET_SIZE;
		run.r.rq.id = (struct fs_reqid){.node = 1, .slot = 2, .life = 9, .seq = i + 1};
		assert_int_equal(run_sync_request(engine.rs, &run.r.rq, &run.r.reply), 0);
		assert_true(i || run.r.reply.attr.version > version);
	}
	engine_end();
}

/* ------------------------------------------------------------------ what nobody waits for any more (H5 of node_held.c) */

struct void_world {
	struct mem mem;
	void *region;
	struct client *c;
	uint64_t root, f, d;
};

static void void_world(struct void_world *w)
{
	struct client_config cfg = {.mem = &w->mem, .node = 2, .life = 7};

	w->region = aligned_alloc(4096, 16u << 20);
	mem_init(&w->mem, w->region, 16u << 20);
	w->c = client_create(&cfg);
	assert_non_null(w->c);
	w->root = engine_mkfs(64ull << 20, 4ull << 20);
	rq(FS_MKNOD, w->root, "f")->mode = S_IFREG | 0644;
	assert_int_equal(run_request(), 0);
	w->f = run.r.reply.attr.ino;
	rq(FS_MKDIR, w->root, "d")->mode = S_IFDIR | 0755;
	assert_int_equal(run_request(), 0);
	w->d = run.r.reply.attr.ino;
	rq(FS_SETXATTR, w->f, "user.old")->data = "1";
	run.r.rq.data_len = 1;
	assert_int_equal(run_request(), 0);
}

/* One of each kind, that can be carried out. */
static void void_make(const struct void_world *w, enum fs_op op)
{
	bool of_file = op == FS_SETATTR || op == FS_LINK || op == FS_SETXATTR || op == FS_REMOVEXATTR || op == FS_FALLOCATE ||
		       op == FS_APPEND;
	bool named = op != FS_SETATTR && op != FS_FALLOCATE && op != FS_APPEND;
	const char *name = op == FS_UNLINK || op == FS_RENAME ? "f" : op == FS_RMDIR ? "d" : op == FS_SETXATTR ? "user.new" :
			   op == FS_REMOVEXATTR ? "user.old" : "new";
	struct fs_request *q = rq(op, of_file ? w->f : w->root, named ? name : NULL);

	if (op == FS_MKNOD || op == FS_CREATE)
		q->mode = S_IFREG | 0600;
	if (op == FS_LINK || op == FS_RENAME)
		q->ino2 = w->d;
	if (op == FS_RENAME)
		run_name(q->name2, "new");
	if (op == FS_SYMLINK || op == FS_SETXATTR) {
		q->data = "2";
		q->data_len = 1;
	}
	if (op == FS_APPEND || op == FS_FALLOCATE)
		q->len = CLUSTER;
	if (op == FS_SETATTR) {
		q->valid = FS_SET_SIZE | FS_SET_MODE | FS_SET_MTIME;
		q->attr.size = 5 * CLUSTER;
		q->attr.mode = 0600;
		q->attr.mtime_ns = WRITTEN_NS;
	}
}

/* run.r.rq is sent; `done`: and executed. Its session is lost, nobody waits for it any more, and it is sent again. */
static int void_sent(struct void_world *w, bool done)
{
	const struct fs_request *q;
	uint64_t wire_tag, tag;
	struct fs_reqid id;
	int err;

	run_room();
	assert_int_equal(client_submit(w->c, 1, &run.r.rq, 0), 0);
	client_serve_local(w->c);
	q = client_next_local(w->c, &wire_tag);
	assert_non_null(q);
	if (done)
		assert_int_equal(run_sync_request(engine.rs, q, &run.r.reply), 0);
	client_down(w->c);
	client_void_change(w->c, 1);
	client_serve_local(w->c);
	q = client_next_local(w->c, &wire_tag);
	assert_non_null(q);
	id = q->id;
	assert_true(wire_request_ok(q));
	err = run_sync_request(engine.rs, q, &run.r.reply);
	assert_true(client_answered(w->c, wire_tag, &id, 0, &tag));
	client_down(w->c);
	return err;
}

/* Each kind that may change something, so that none is forgotten. What is refused changes nothing. */
static void what_is_void_does_nothing(void **state)
{
	struct void_world w;
	struct fs_attr was;

	void_world(&w);
	for (enum fs_op op = FS_NONE + 1; op < 64; op++) {
		if (!fs_op_needs_slot(op))
			continue;
		assert_int_equal(do_getattr(w.f), 0);
		was = run.r.reply.attr;
		void_make(&w, op);
		if (op != FS_SETATTR) {
			assert_int_not_equal(void_sent(&w, false), 0);
			continue;
		}
		assert_int_equal(void_sent(&w, false), 0);
		assert_int_equal(do_getattr(w.f), 0);
		was.ctime_ns = run.r.reply.attr.ctime_ns;
		assert_memory_equal(&was, &run.r.reply.attr, sizeof(was));
	}
	void_make(&w, FS_CREATE);
	run.r.rq.valid = FS_NO_NAME;
	assert_int_not_equal(void_sent(&w, false), 0);
	free(w.region);
	engine_end();
}

/* A file that was made so is closed, and the place of an append told to be over. */
static void what_is_void_and_was_done_is_answered(void **state)
{
	struct void_world w;

	for (enum fs_op op = FS_NONE + 1; op < 64; op++) {
		if (!fs_op_needs_slot(op))
			continue;
		void_world(&w);
		void_make(&w, op);
		assert_int_equal(void_sent(&w, true), 0);
		if (op == FS_CREATE || op == FS_APPEND)
			assert_int_not_equal(run.r.reply.attr.ino, 0);
		/* Once. */
		if (op == FS_APPEND) {
			assert_int_equal(do_getattr(w.f), 0);
			assert_int_equal(run.r.reply.attr.size, CLUSTER);
		}
		free(w.region);
		engine_end();
	}
}

/*
 * A node that was given up has told what it has open, the file is gone, and its CLOSE is on its way (csvsim seed 630): it would
 * close a new file of that number. Of two whole blocks of inodes nothing is taken, too.
 */
static void number_that_a_node_has_open_is_not_used_again(void **state)
{
	uint64_t root = engine_mkfs(64u << 20, 4u << 20), ino[20];
	struct check_report rep;
	char name[8];

	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 20; i++) {
			snprintf(name, sizeof(name), "f%d.%d", round, i);
			rq(FS_CREATE, root, name)->mode = S_IFREG | 0600;
			assert_int_equal(run_request(), 0);
			if (round) {
				for (int k = 0; k < 20; k++)
					assert_int_not_equal(run.r.reply.attr.ino, ino[k]);
				continue;
			}
			ino[i] = run.r.reply.attr.ino;
		}
		for (int i = 0; i < 20 && !round; i++) {
			snprintf(name, sizeof(name), "f%d.%d", round, i);
			rq(FS_UNLINK, root, name);
			assert_int_equal(run_request(), 0);
			run_set_open(ino[i], true);
		}
	}
	for (int i = 0; i < 20; i++)
		run_set_open(ino[i], false);
	rq(FS_CREATE, root, "again")->mode = S_IFREG | 0600;
	assert_int_equal(run_request(), 0);
	assert_true(run.r.reply.attr.ino >= ino[0] && run.r.reply.attr.ino <= ino[19]);
	engine_check(&rep);
	engine_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_operations_match_the_model),
		cmocka_unit_test(random_operations_match_the_model_on_a_full_volume),
		cmocka_unit_test(volume_can_be_filled_and_emptied_any_number_of_times),
		cmocka_unit_test(space_of_what_was_deleted_is_there_for_the_next_request),
		cmocka_unit_test(many_extents_are_freed_in_the_background_through_crashes),
		cmocka_unit_test(nameless_file_nobody_heard_of_is_made_anew),
		cmocka_unit_test(made_and_removed_before_it_comes_again_is_not_made_twice),
		cmocka_unit_test(request_that_comes_again_is_known_before_it_is_submitted),
		cmocka_unit_test(append_that_was_not_answered_is_found),
		cmocka_unit_test(append_that_comes_again_tells_the_version_of_its_place),
		cmocka_unit_test(what_is_void_does_nothing),
		cmocka_unit_test(what_is_void_and_was_done_is_answered),
		cmocka_unit_test(number_that_a_node_has_open_is_not_used_again),
		cmocka_unit_test(hundred_thousand_files_in_one_directory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
