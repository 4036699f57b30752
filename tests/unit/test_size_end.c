/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the coordinator looks before it sets a file's size (node_size.c): behind the old end all is zeroed, up to the largest
 * size that there is; and where it cannot look, no size is set.
 */
#include "tests/unit/engine_lun.h"
#include "tests/unit/node_alone.h"

#define INO 7
#define OTHER 2
#define OLD_END 5000
#define PLACE (8u << 20)

static struct lun *l;
static struct sreq *asked;
static struct lease_ino *li;

static int setup(void **state)
{
	(void)state;
	node_alone();
	node_alone_session(OTHER);
	n->path.st = PST_UP;
	l = lun_new(64u << 20, 65536);
	n->vol = l->v;
	li = lease_get(&n->leases, INO);
	li->exclusive = true;
	asked = mem_alloc(&mem, sizeof(*asked));
	memset(asked, 0, sizeof(*asked));
	asked->node = OTHER;
	asked->id = (struct fs_reqid){.node = OTHER, .life = 5, .slot = 1, .seq = 1};
	asked->vr.rq = (struct fs_request){.op = FS_SETATTR, .ino = INO, .valid = FS_SET_SIZE, .attr.size = FILE_BYTES_MAX};
	list_add_tail(&asked->link, &n->sreqs);
	list_init(&asked->waiting);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	n->vol = NULL;
	lun_free(l);
	return 0;
}

/* The engine has looked, and says this. */
static bool looked(int32_t err, uint64_t size, struct fs_extent *e)
{
	assert_int_equal(asked->stage, SREQ_LOOK);
	assert_int_equal(asked->vr.rq.op, FS_LAYOUT_GET);
	/* It refuses what is behind (op_layout_get()). */
	assert_true(asked->vr.rq.off + asked->vr.rq.len <= FILE_BYTES_MAX);
	lun_run(l);
	assert_ptr_equal(lun_done(l), &asked->vr);
	asked->vr.reply = (struct fs_reply){.err = err, .attr.size = size, .extents = e, .extent_count = e ? 1 : 0};
	return node_size_looked(n, asked, &fx);
}

static void the_largest_size_zeroes_behind_the_old_end(void **state)
{
	struct fs_extent e = {.len = 65536, .lun_off = PLACE, .state = EXT_WRITTEN};

	(void)state;
	node_size_look(n, asked);
	assert_true(looked(0, OLD_END, NULL));
	assert_int_equal(asked->vr.rq.off, 4096);
	assert_true(looked(0, OLD_END, &e));
	assert_int_equal(asked->stage, SREQ_ZERO_READ);
	assert_int_equal(fx.count, 1);
	assert_int_equal(fx.fx[0].lun.op, LUN_READ);
	assert_int_equal(fx.fx[0].lun.off, PLACE + 4096);
}

static void a_file_that_is_as_large_loses_nothing(void **state)
{
	struct fs_extent e = {.off = FILE_BYTES_MAX - 65536, .len = 65536, .lun_off = PLACE, .state = EXT_WRITTEN};

	(void)state;
	node_size_look(n, asked);
	assert_true(looked(0, FILE_BYTES_MAX, &e));
	assert_int_equal(asked->stage, SREQ_ENGINE);
	assert_int_equal(asked->vr.rq.op, FS_SETATTR);
	assert_int_equal(fx.count, 0);
}

static void no_size_is_set_where_it_cannot_look(void **state)
{
	(void)state;
	asked->vr.rq.attr.size = OLD_END;
	node_size_look(n, asked);
	assert_false(looked(-EIO, 0, NULL));
	/* It is what was asked, and ends so. */
	assert_int_equal(asked->vr.rq.op, FS_SETATTR);
	assert_int_equal(asked->vr.reply.err, -EIO);
	assert_int_equal(asked->stage, SREQ_LOOK);
	assert_int_equal(fx.count, 0);
}

/* Nothing would be zeroed. */
static void a_file_is_emptied_all_the_same(void **state)
{
	(void)state;
	asked->vr.rq.attr.size = 0;
	node_size_look(n, asked);
	assert_true(looked(-EIO, 0, NULL));
	assert_int_equal(asked->stage, SREQ_ENGINE);
	assert_int_equal(asked->vr.rq.op, FS_SETATTR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_largest_size_zeroes_behind_the_old_end, setup, teardown),
		cmocka_unit_test_setup_teardown(a_file_that_is_as_large_loses_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(no_size_is_set_where_it_cannot_look, setup, teardown),
		cmocka_unit_test_setup_teardown(a_file_is_emptied_all_the_same, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
