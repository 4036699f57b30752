/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A coordinator that has no memory for a request (node_server.c), on a real volume: the request is refused, or comes again.
 * It is never dropped without a word, and what was done is never told to have failed.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "coordinator/takeover_priv.h"
#include "metadata/ops.h"
#include "metadata/run_sync.h"
#include "tests/unit/node_alone.h"

#define VOLUME (64ull << 20)
#define ELSEWHERE 2
#define TAG_ASKED 77

static struct run_sync_mem_dev *dev;
static struct run_sync *rs;
static struct session *session;
static uint64_t root;

static void volume_open(void)
{
	struct image_params p = {.volume_bytes = VOLUME, .uuid = {1}, .dir_hash_key = {2}, .time_ns = 1};
	struct run_sync_config c = {.ops = &metadata_ops, .mem_bytes = 64u << 20, .cache_bytes = 8u << 20};
	struct sync_dev d;
	char why[256];

	dev = run_sync_mem_new(VOLUME);
	d = run_sync_mem_dev(dev);
	c.dev = &d;
	assert_int_equal(run_sync_mkfs(&d, &p, &metadata_ops, NULL, why), 0);
	assert_int_equal(run_sync_open(&c, &rs, why), 0);
	root = le64_get(vol_super(run_sync_vol(rs))->root_ino);
}

static struct peer *peer_add(unsigned i, uint32_t node)
{
	n->peers[i] = (struct peer){.node = node, .life = 5, .served = true, .reclaimed = true, .told = true};
	n->peers_end = i + 1;
	return &n->peers[i];
}

static void session_is_up(void)
{
	session = node_alone_session(ELSEWHERE);
}

static int setup(void **state)
{
	(void)state;
	node_alone();
	volume_open();
	n->vol = run_sync_vol(rs);
	n->tk->state = TK_SERVE;
	peer_add(0, 1);
	peer_add(1, ELSEWHERE);
	session = &n->sessions->s[0];
	session_is_up();
	n->now_ns = NS_PER_SEC;
	client_serve_local(n->client);
	n->serving_local = true;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	run_sync_close(rs);
	run_sync_mem_free(dev);
	return 0;
}

static void exhaust(void)
{
	for (size_t size = 1u << 20; size >= 16; size /= 2)
		while (mem_alloc(&mem, size) || mem_alloc(&mem, size / 2 * 3))
			;
}

static struct fs_request request(enum fs_op op, uint32_t node, uint32_t slot)
{
	struct fs_request rq = {.op = op, .ino = root, .mode = S_IFDIR | 0755, .time_ns = 9};

	rq.id = (struct fs_reqid){.node = node, .life = 5, .slot = slot, .seq = slot ? 1 : 0};
	if (op == FS_MKDIR || op == FS_UNLINK || op == FS_LOOKUP)
		strcpy(rq.name, "name");
	return rq;
}

/* It has been done, and its answer was lost. */
static void was_executed(const struct fs_request *rq)
{
	struct fs_reply rp = {0};

	assert_int_equal(run_sync_request(rs, rq, &rp), 0);
}

static void asks(const struct fs_request *rq)
{
	node_server_request(n, ELSEWHERE, false, TAG_ASKED, rq, &fx);
}

static void what_must_be_heard_is_asked_again(void **state)
{
	static const enum fs_op ops[] = {FS_LAYOUT_COMMIT, FS_LAYOUT_RETURN, FS_CLOSE, FS_APPENDED};

	(void)state;
	exhaust();
	for (unsigned i = 0; i < 4; i++) {
		struct fs_request rq = request(ops[i], ELSEWHERE, 0);

		session_is_up();
		asks(&rq);
		assert_int_not_equal(session->state, SESSION_UP);
		assert_true(list_empty(&n->sreqs));
	}
}

static void what_was_done_is_not_told_to_have_failed(void **state)
{
	struct fs_request rq = request(FS_MKDIR, ELSEWHERE, 1);

	(void)state;
	was_executed(&rq);
	exhaust();
	asks(&rq);
	assert_int_not_equal(session->state, SESSION_UP);
}

/* There is memory for the request, but not for a copy of what it brings along. */
static void without_its_copy_too(void **state)
{
	struct fs_request rq = request(FS_UNLINK, ELSEWHERE, 2), mk = request(FS_CREATE, ELSEWHERE, 1);
	void *spare;

	(void)state;
	mk.mode = S_IFREG | 0600;
	strcpy(mk.name, "name");
	was_executed(&mk);
	was_executed(&rq);
	spare = mem_alloc(&mem, sizeof(struct sreq));
	exhaust();
	mem_free(&mem, spare, sizeof(struct sreq));
	asks(&rq);
	assert_int_not_equal(session->state, SESSION_UP);
	assert_true(list_empty(&n->sreqs));
	/* Nor for its inode. */
	session_is_up();
	rq = request(FS_SETATTR, ELSEWHERE, 3);
	rq.valid = FS_SET_MODE;
	rq.attr.mode = S_IFDIR | S_ISUID | 0700;
	was_executed(&rq);
	asks(&rq);
	assert_int_not_equal(session->state, SESSION_UP);
	assert_true(list_empty(&n->sreqs));
}

static void what_was_not_done_is_refused(void **state)
{
	struct fs_request rq = request(FS_MKDIR, ELSEWHERE, 1);

	(void)state;
	exhaust();
	asks(&rq);
	assert_int_equal(session->state, SESSION_UP);
	assert_int_equal(fx.count, 1);
	assert_int_equal(fx.fx[0].type, FX_NET_SEND);
	effects_reset(&fx);
	rq = request(FS_LOOKUP, ELSEWHERE, 0);
	asks(&rq);
	assert_int_equal(session->state, SESSION_UP);
	assert_int_equal(fx.count, 1);
}

/* Our own kernel has no session that could break. */
static void our_own_come_again(void **state)
{
	struct fs_request rq = {.op = FS_CLOSE, .ino = root};
	const struct fs_request *out;
	uint64_t tag;

	(void)state;
	assert_int_equal(client_submit(n->client, 5, &rq, n->now_ns), 0);
	rq.op = FS_GETATTR;
	assert_int_equal(client_submit(n->client, 6, &rq, n->now_ns), 0);
	exhaust();
	out = client_next_local(n->client, &tag);
	node_server_request(n, 1, true, tag, out, &fx);
	assert_int_equal(n->local_after_ns, n->now_ns + 100 * NS_PER_MS);
	assert_int_equal(fx.count, 0);
	/* Before the one behind it. */
	out = client_next_local(n->client, &tag);
	assert_int_equal(out->op, FS_CLOSE);
	client_check(n->client);
}

/*
 * Its node has lost its locks without our having fenced it, starts over, and has taken the size out of its request (H4 of
 * node_held.c). We still have what it had asked for, and ignore that it asks again: so it sets the size when others have the locks.
 */
static void what_waited_in_the_last_session_is_not_done_with_the_size(void **state)
{
	struct fs_request mk = request(FS_CREATE, ELSEWHERE, 1), rq = request(FS_SETATTR, ELSEWHERE, 2);
	struct fs_reply rp = {0};
	struct lease_ino *li;
	bool sets_size = false;

	(void)state;
	mk.mode = S_IFREG | 0600;
	strcpy(mk.name, "name");
	assert_int_equal(run_sync_request(rs, &mk, &rp), 0);
	li = lease_get(&n->leases, rp.attr.ino);
	li->open_mask = 3;
	li->holder_mask = 1; /* ours: it is recalled, and takes its time */
	n->peers[1].entitled = true;
	rq.ino = rp.attr.ino;
	rq.valid = FS_SET_SIZE;
	asks(&rq);
	assert_false(list_empty(&n->sreqs));
	/* Its session breaks, and another one comes, in which it says that it holds nothing. */
	session->state = SESSION_CLOSED;
	node_server_session_down(n, session);
	session_is_up();
	effects_reset(&fx);
	node_server_reclaim_end(n, session, 0, &fx);
	assert_true(n->peers[1].reclaimed && !n->peers[1].reclaim_due); /* its locks are others' from here on */
	rq.valid = 0;
	asks(&rq);
	list_for_each_entry (s, &n->sreqs, struct sreq, link)
		sets_size |= (s->vr.rq.valid & FS_SET_SIZE) != 0;
	assert_false(sets_size);
}

/* It has no layout and no lock; others may have made the file shorter since, and longer again. */
static void who_was_given_up_has_no_place_to_append(void **state)
{
	struct msg_append a = {.ino = 7, .off = 4096};
	struct msg m = {.type = MSG_RECLAIM_APPENDS, .reclaim_appends = {.count = 1, .appends = &a}};

	(void)state;
	n->peers[1] = (struct peer){.node = ELSEWHERE, .life = 5, .reclaim_new = true};
	n->entitled_epoch = takeover_epoch(n->tk);
	node_peers_reclaim_appends(n, session, &m);
	effects_reset(&fx);
	node_server_reclaim_end(n, session, 0, &fx);
	assert_false(n->peers[1].reclaimed);
	assert_int_equal(fx.count, 1); /* VOID */
	/* Without one it has nothing to be taken. */
	node_server_reclaim_end(n, session, 0, &fx);
	assert_true(n->peers[1].reclaimed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_waited_in_the_last_session_is_not_done_with_the_size, setup, teardown),
		cmocka_unit_test_setup_teardown(who_was_given_up_has_no_place_to_append, setup, teardown),
		cmocka_unit_test_setup_teardown(what_must_be_heard_is_asked_again, setup, teardown),
		cmocka_unit_test_setup_teardown(what_was_done_is_not_told_to_have_failed, setup, teardown),
		cmocka_unit_test_setup_teardown(without_its_copy_too, setup, teardown),
		cmocka_unit_test_setup_teardown(what_was_not_done_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(our_own_come_again, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
