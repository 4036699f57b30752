/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * iscsi.c against a real target: tgtd on the loopback of a network namespace of our own.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>
#include <errno.h>

#include "csvfs/bdev_sync.h"
#include "metadata/verify.h"
#include "tests/shell/bdev_user.h"
#include "tests/shell/liar.h"
#include "tests/shell/target.h"

static bool have_target;
static uint8_t buf[1 << 20], back[1 << 20];

#define WRITE_AT(o) ((struct lun_cmd){.op = LUN_WRITE, .off = (o), .len = 4096, .buf = buf})
#define READ_AT(o) ((struct lun_cmd){.op = LUN_READ, .off = (o), .len = 4096, .buf = back})
#define OP(o, ...) ((struct lun_cmd){.op = (o), __VA_ARGS__})

#define NEED_TARGET()                                                                              \
	do {                                                                                       \
		if (!have_target)                                                                  \
			skip();                                                                    \
	} while (0)

/* The sum of the keys that are registered, as a session of nobody's sees them. */
static uint64_t keys_sum(void)
{
	struct bdev_config cfg = {.url = TARGET_URL, .session = BDEV_SESSION_RANDOM};
	struct bdev_sync *s;
	uint64_t keys[LUN_KEYS_MAX], sum = 0;
	char text[BDEV_TEXT_MAX];
	uint32_t count;

	assert_int_equal(bdev_sync_open(&cfg, 5000, &s, text, sizeof(text)), 0);
	assert_int_equal(bdev_sync_cmd(s, &OP(LUN_PR_READ_KEYS), keys, &count), LUN_OK);
	for (uint32_t i = 0; i < count; i++)
		sum += keys[i];
	bdev_sync_close(s);
	return sum;
}

static void clear_reservations(void)
{
	struct user u;

	assert_true(user_open(&u, TARGET_URL, 98, BDEV_SESSION_RANDOM));
	assert_int_equal(user_do(&u, OP(LUN_PR_REGISTER, .key = 0x98)), LUN_OK);
	assert_int_equal(user_do(&u, OP(LUN_PR_CLEAR, .key = 0x98)), LUN_OK);
	bdev_close(u.b);
}

static void login_tells_what_the_lun_is(void **state)
{
	const struct bdev_info *i;
	struct user u;

	(void)state;
	NEED_TARGET();
	assert_true(user_open(&u, TARGET_URL, 1, 0));
	i = bdev_info(u.b);
	assert_int_equal(i->block_bytes, 512);
	assert_int_equal(i->lun_bytes, TARGET_BYTES);
	assert_true(i->write_cache && i->reservations && i->unmap && !i->readonly && !i->is_file);
	assert_string_equal(i->vendor, "IET VIRTUAL-DISK");
	assert_non_null(strstr(i->identity, "test-1"));
	bdev_close(u.b);
}

static void what_was_written_is_read_in_pieces_and_whole(void **state)
{
	struct iovec out[12], in[2] = {{back, 1000}, {back + 1000, sizeof(back) - 1000}};
	struct bdev_req w = {
		.cmd = {.op = LUN_WRITE, .fua = true, .off = 8192, .len = sizeof(buf)}};
	struct bdev_req r = {.cmd = {.op = LUN_READ, .off = 8192, .len = sizeof(back)}};
	size_t at = 0;
	struct user u;

	(void)state;
	NEED_TARGET();
	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)(i * 7 + i / 4096);
	for (int i = 0; i < 12; i++) {
		out[i].iov_base = buf + at;
		out[i].iov_len = i < 11 ? 70001 : sizeof(buf) - at;
		at += out[i].iov_len;
	}
	w.iov = out;
	w.iov_count = 12;
	r.iov = in;
	r.iov_count = 2;
	assert_true(user_open(&u, TARGET_URL, 1, 0));
	u.b->info.max_transfer_bytes = 128 << 10; /* a target with a limit: several commands */
	user_send(&u, &w);
	assert_true(user_wait(&u, &w, 3000));
	assert_int_equal(w.status, LUN_OK);
	u.b->info.max_transfer_bytes = 64 << 20;
	user_send(&u, &r);
	assert_true(user_wait(&u, &r, 3000));
	assert_int_equal(r.status, LUN_OK);
	assert_memory_equal(buf, back, sizeof(buf));
	assert_int_equal(user_cmd(&u, OP(LUN_FLUSH)), LUN_OK);
	assert_int_equal(user_cmd(&u, OP(LUN_TEST)), LUN_OK);
	assert_int_equal(user_cmd(&u, OP(LUN_UNMAP, .off = 8192, .len = 4096)), LUN_OK);
	assert_int_equal(user_cmd(&u, READ_AT(1)), LUN_UNSUPPORTED);
	assert_int_equal(user_cmd(&u, READ_AT(TARGET_BYTES)), LUN_UNSUPPORTED);
	bdev_close(u.b);
}

static void a_fenced_node_can_read_but_not_write(void **state)
{
	struct user a, b;

	(void)state;
	NEED_TARGET();
	clear_reservations();
	assert_true(user_open(&a, TARGET_URL, 1, 0));
	assert_true(user_open(&b, TARGET_URL, 2, 0));
	assert_int_equal(user_cmd(&a, OP(LUN_PR_RESERVE, .key = 0xa)), LUN_CONFLICT);
	assert_int_equal(user_do(&a, OP(LUN_PR_REGISTER, .key = 0xa)), LUN_OK);
	assert_int_equal(user_do(&b, OP(LUN_PR_REGISTER, .key = 0xb)), LUN_OK);
	assert_int_equal(user_cmd(&a, OP(LUN_PR_RESERVE, .key = 0xa)), LUN_OK);
	assert_int_equal(user_cmd(&b, OP(LUN_PR_RESERVE, .key = 0xb)), LUN_CONFLICT);
	assert_int_equal(user_do(&b, WRITE_AT(0)), LUN_OK);
	assert_int_equal(keys_sum(), 0xa + 0xb);

	/* What tgt does not know it refuses, and nothing has changed. */
	assert_int_equal(
		user_cmd(&a, OP(LUN_PR_PREEMPT_ABORT, .key = 0xa, .victim = 0xb)), LUN_UNSUPPORTED);
	assert_int_equal(user_do(&b, WRITE_AT(0)), LUN_OK);

	assert_int_equal(user_cmd(&a, OP(LUN_PR_PREEMPT, .key = 0xa, .victim = 0xb)), LUN_OK);
	assert_int_equal(user_do(&b, WRITE_AT(0)), LUN_CONFLICT);
	assert_int_equal(user_do(&b, OP(LUN_FLUSH)), LUN_CONFLICT);
	assert_int_equal(user_do(&b, READ_AT(0)), LUN_OK);
	/* A fence that is repeated conflicts: its key is not there. Only the keys tell. */
	assert_int_equal(user_cmd(&a, OP(LUN_PR_PREEMPT, .key = 0xa, .victim = 0xb)), LUN_CONFLICT);
	assert_int_equal(keys_sum(), 0xa);
	bdev_close(a.b);
	bdev_close(b.b);
}

static void preempting_the_holder_takes_the_reservation(void **state)
{
	struct user a, b;

	(void)state;
	NEED_TARGET();
	clear_reservations();
	assert_true(user_open(&a, TARGET_URL, 1, 0));
	assert_true(user_open(&b, TARGET_URL, 2, 0));
	assert_int_equal(user_do(&a, OP(LUN_PR_REGISTER, .key = 0xa)), LUN_OK);
	assert_int_equal(user_do(&a, OP(LUN_PR_RESERVE, .key = 0xa)), LUN_OK);
	bdev_close(a.b);
	usleep(100000);
	/* The session of the holder is gone, the reservation is not. */
	assert_int_equal(user_do(&b, WRITE_AT(0)), LUN_CONFLICT);
	assert_int_equal(user_do(&b, OP(LUN_PR_REGISTER, .key = 0xb)), LUN_OK);
	assert_int_equal(user_do(&b, OP(LUN_PR_PREEMPT, .key = 0xb, .victim = 0xa)), LUN_OK);
	assert_int_equal(user_do(&b, WRITE_AT(0)), LUN_OK);
	assert_int_equal(keys_sum(), 0xb);
	/* A new login is a nexus without a registration, with the same ISID too (on tgt). */
	assert_true(user_open(&a, TARGET_URL, 1, 0));
	assert_int_equal(user_do(&a, WRITE_AT(0)), LUN_CONFLICT);
	bdev_close(a.b);
	bdev_close(b.b);
}

static void reset_waits_for_writes_that_are_in_flight(void **state)
{
	struct bdev_req w = {.cmd = WRITE_AT(0)}, own = {.cmd = WRITE_AT(65536)};
	struct bdev_req reset = {.cmd = {.op = LUN_RESET}}, after = {.cmd = READ_AT(0)};
	struct user a, b;

	(void)state;
	NEED_TARGET();
	clear_reservations();
	assert_true(user_open(&a, TARGET_URL, 1, 0));
	assert_true(user_open(&b, TARGET_URL, 2, 0));
	target_hold(true);
	user_send(&a, &w);
	usleep(100000);
	user_send(&b, &own);
	user_send(&b, &reset);
	user_send(&b, &after);
	assert_false(user_wait(&b, &reset, 300));
	assert_false(user_ended(&after)); /* parked: it means "after the reset" */
	target_hold(false);
	assert_true(user_wait(&b, &reset, 3000));
	assert_int_equal(reset.status, LUN_OK);
	assert_true(user_wait(&b, &own, 3000) && user_wait(&a, &w, 3000));
	assert_int_equal(own.status, LUN_OK);
	assert_int_equal(w.status, LUN_OK);
	assert_true(user_wait(&b, &after, 3000));
	assert_int_equal(after.status, LUN_RETRY); /* 6/29/00 */
	assert_int_equal(user_cmd(&a, OP(LUN_TEST)), LUN_RETRY);
	assert_int_equal(user_cmd(&a, OP(LUN_TEST)), LUN_OK);
	bdev_close(a.b);
	bdev_close(b.b);
}

/* A target need not answer what its own session's reset ends: it gets the reset when it has answered. */
static void reset_is_sent_when_the_session_s_own_commands_are_answered(void **state)
{
	struct bdev_req w = {.cmd = WRITE_AT(0)}, reset = {.cmd = {.op = LUN_RESET}}, after = {.cmd = READ_AT(0)};
	uint64_t released_ns;
	struct user u;

	(void)state;
	NEED_TARGET();
	clear_reservations();
	liar_start();
	assert_true(user_open(&u, LIAR_URL, 1, 0));
	liar.resets = 0;
	target_hold(true);
	user_send(&u, &w);
	assert_false(user_wait(&u, &w, 100));
	user_send(&u, &reset);
	user_send(&u, &after);
	assert_false(user_wait(&u, &reset, 300));
	assert_int_equal(liar.resets, 0);
	assert_false(user_ended(&w) || user_ended(&after));
	released_ns = bdev_now_ns();
	target_hold(false);
	assert_true(user_wait(&u, &w, 3000));
	assert_int_equal(w.status, LUN_OK);
	/* The target is watched from when it has been sent. */
	assert_true(bdev_oldest_ns(u.b) >= released_ns);
	assert_true(user_wait(&u, &reset, 3000));
	assert_int_equal(reset.status, LUN_OK);
	assert_true(bdev_oldest_ns(u.b) >= released_ns);
	assert_int_equal(liar.resets, 1);
	assert_true(user_wait(&u, &after, 3000));
	bdev_close(u.b);
	liar_stop();
}

static void a_broken_connection_ends_all_as_unknown(void **state)
{
	struct bdev_req w[3], late = {.cmd = WRITE_AT(0)};
	struct user a, idle;
	uint64_t t;

	(void)state;
	NEED_TARGET();
	assert_true(user_open(&a, TARGET_URL, 1, 0));
	assert_true(user_open(&idle, TARGET_URL, 2, 0));
	target_hold(true);
	for (int i = 0; i < 3; i++) {
		w[i] = (struct bdev_req){.cmd = WRITE_AT(4096u * (unsigned)i)};
		user_send(&a, &w[i]);
	}
	usleep(50000);
	t = bdev_now_ns();
	target_kill();
	assert_true(user_wait(&a, &w[2], 1000));
	assert_true(user_ended(&w[0]) && user_ended(&w[1]));
	assert_int_equal(w[0].status, LUN_UNKNOWN);
	assert_int_equal(w[2].status, LUN_UNKNOWN);
	while (!idle.down && bdev_now_ns() < t + NS_PER_SEC)
		user_turn(&idle, 50);
	assert_true(a.down && idle.down);
	assert_true(bdev_now_ns() - t < NS_PER_SEC / 2);
	/* It stays down, and says so for each request. */
	user_send(&a, &late);
	assert_true(user_ended(&late));
	assert_int_equal(late.status, LUN_UNKNOWN);
	bdev_close(a.b);
	bdev_close(idle.b);
	target_hold(false);
	target_start();
	assert_true(user_open(&a, TARGET_URL, 1, 0));
	assert_int_equal(user_do(&a, READ_AT(0)), LUN_OK);
	bdev_close(a.b);
}

static void a_silent_target_shows_in_the_age_of_the_oldest_command(void **state)
{
	struct bdev_req w = {.cmd = WRITE_AT(0)};
	struct bdev_sync *s;
	struct user a;
	char text[BDEV_TEXT_MAX];
	struct bdev_config cfg = {.url = TARGET_URL, .session = BDEV_SESSION_RANDOM};

	(void)state;
	NEED_TARGET();
	assert_true(user_open(&a, TARGET_URL, 1, 0));
	assert_true(bdev_oldest_ns(a.b) == NEVER);
	target_signal(SIGSTOP);
	user_send(&a, &w);
	assert_false(user_wait(&a, &w, 200));
	assert_true(bdev_now_ns() - bdev_oldest_ns(a.b) >= 200 * NS_PER_MS);
	bdev_close(a.b);
	assert_true(user_ended(&w));
	assert_int_equal(w.status, LUN_UNKNOWN);
	assert_int_equal(bdev_sync_open(&cfg, 300, &s, text, sizeof(text)), -ETIMEDOUT);
	assert_non_null(strstr(text, "no answer"));
	target_signal(SIGCONT);
	usleep(100000);
}

static void a_reject_on_the_way_is_noticed_at_once(void **state)
{
	struct bdev_req w = {.cmd = WRITE_AT(0)};
	struct user a;

	(void)state;
	NEED_TARGET();
	if (system("command -v nft >/dev/null"))
		skip();
	assert_true(user_open(&a, TARGET_URL, 1, 0));
	assert_int_equal(system("nft 'add table ip t; add chain ip t i { type filter hook input "
				"priority 0; };"
				" add rule ip t i tcp dport 3260 reject with tcp reset'"),
		0);
	user_send(&a, &w);
	assert_true(user_wait(&a, &w, 1000));
	assert_int_equal(w.status, LUN_UNKNOWN);
	assert_true(a.down);
	bdev_close(a.b);
	assert_false(user_open(&a, TARGET_URL, 1, 0));
	assert_string_equal(bdev_text(a.b), "no connection to 127.0.0.1:3260: Connection refused");
	bdev_close(a.b);
	assert_int_equal(system("nft delete table ip t"), 0);
}

static void expect_error(const char *url, const char *what)
{
	struct bdev_config cfg = {.url = url, .session = BDEV_SESSION_RANDOM};
	struct bdev_sync *s;
	char text[BDEV_TEXT_MAX] = "";

	assert_true(bdev_sync_open(&cfg, 3000, &s, text, sizeof(text)) < 0);
	if (!strstr(text, what))
		fail_msg("'%s' does not say '%s'", text, what);
	assert_null(strstr(text, "s3cret"));
	assert_null(strchr(text, '\n'));
}

static void each_wrong_url_has_a_message_of_its_own(void **state)
{
	(void)state;
	expect_error("iscsi://127.0.0.1/iqn", "write iscsi://");
	expect_error("http://127.0.0.1/x/1", "not a LUN's URL");
	NEED_TARGET();
	expect_error("iscsi://u%s3cret@127.0.0.1/iqn.2026-11.test:lun/7", "has no LUN 7");
	expect_error("iscsi://127.0.0.1/iqn.2026-11.test:lun/0", "not a disk");
	expect_error("iscsi://127.0.0.1/iqn.2026-11.test:other/1", "Target not found");
	expect_error("iscsi://127.0.0.1:3261/iqn.2026-11.test:lun/1", "Connection refused");
	expect_error("iscsi://no-such-host.invalid/iqn.2026-11.test:lun/1", "host name not found");
}

static void chap_is_needed_and_enough(void **state)
{
	struct bdev_config cfg = {.url = TARGET_URL,
		.session = BDEV_SESSION_RANDOM,
		.chap_user = "joe",
		.chap_secret = "s3cret567890"};
	struct bdev_sync *s;
	char text[BDEV_TEXT_MAX];

	(void)state;
	NEED_TARGET();
	assert_int_equal(
		target_admin("--op new --mode account --user joe --password s3cret567890"), 0);
	assert_int_equal(target_admin("--op bind --mode account --tid 1 --user joe"), 0);
	expect_error(TARGET_URL, "login refused");
	expect_error("iscsi://joe%wrongs3cret@127.0.0.1/iqn.2026-11.test:lun/1", "login refused");
	assert_int_equal(bdev_sync_open(&cfg, 3000, &s, text, sizeof(text)), 0);
	bdev_sync_close(s);
	cfg.url = "iscsi://joe%s3cret567890@127.0.0.1/iqn.2026-11.test:lun/1";
	cfg.chap_user = NULL;
	assert_int_equal(bdev_sync_open(&cfg, 3000, &s, text, sizeof(text)), 0);
	bdev_sync_close(s);
	assert_int_equal(target_admin("--op unbind --mode account --tid 1 --user joe"), 0);
}

static void a_deep_queue_ends_with_every_answer_once(void **state)
{
	enum { N = 512 };
	static struct bdev_req r[N];
	struct user a;
	int ended = 0;

	(void)state;
	NEED_TARGET();
	assert_true(user_open(&a, TARGET_URL, 1, 0));
	for (int i = 0; i < N; i++) {
		r[i] = (struct bdev_req){
			.cmd = i % 2 ? READ_AT(4096u * (unsigned)i) : WRITE_AT(4096u * (unsigned)i),
			.done = user_done};
		bdev_submit(a.b, &r[i]);
	}
	for (int turns = 0; turns < 2000 && ended < N; turns++) {
		user_turn(&a, 10);
		ended = 0;
		for (int i = 0; i < N; i++)
			ended += user_ended(&r[i]) && r[i].status == LUN_OK;
	}
	assert_int_equal(ended, N);
	bdev_close(a.b);
}

/* ------------------------------------------------------------------ answers that tgtd does not give */

/* SAM-5 5.3, SPC-4 4.5. Only what says that the write was done may be taken for that. */
static void answers_that_do_not_say_done_are_not_taken_for_it(void **state)
{
	static const struct lie lies[] = {
		{"recovered error", 2, {0x70, 0, 1, [7] = 10, [12] = 0x17}, 18, LUN_OK},
		{"recovered error, descriptor format", 2, {0x72, 1, 0x17}, 8, LUN_OK},
		{"deferred error: the command was not executed", 2, {0x71, 0, 1, [7] = 10, [12] = 0x17}, 18,
			LUN_RETRY},
		{"the same, descriptor format", 2, {0x73, 1, 0x17}, 8, LUN_RETRY},
		{"deferred medium error", 2, {0x71, 0, 3, [7] = 10, [12] = 0x0c}, 18, LUN_MEDIUM},
		{"LOGICAL UNIT COMMUNICATION FAILURE: what LIO says of its backing store", 2,
			{0x70, 0, 2, [7] = 10, [12] = 0x08}, 18, LUN_FAILING},
		{"LOGICAL UNIT IS IN PROCESS OF BECOMING READY", 2, {0x70, 0, 2, [7] = 10, [12] = 0x04, [13] = 0x01}, 18, LUN_RETRY},
		{"TARGET PORT IN STANDBY STATE", 2, {0x70, 0, 2, [7] = 10, [12] = 0x04, [13] = 0x0b}, 18, LUN_RETRY},
		{"SPACE ALLOCATION FAILED WRITE PROTECT", 2, {0x70, 0, 7, [7] = 10, [12] = 0x27, [13] = 0x07}, 18, LUN_NOSPACE},
		{"sense data of no format", 2, {0}, 18, LUN_UNKNOWN},
		{"no sense data", 2, {0}, 0, LUN_UNKNOWN},
		{"busy", 0x08, {0}, 0, LUN_RETRY},
		{"task set full", 0x28, {0}, 0, LUN_RETRY},
	};

	(void)state;
	NEED_TARGET();
	clear_reservations();
	liar_start();
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		struct user u;
		int is;

		assert_true(user_open(&u, LIAR_URL, 1, 0));
		liar.lie = &lies[i];
		is = user_cmd(&u, WRITE_AT(0));
		liar.lie = NULL;
		if (is != (int)lies[i].is)
			fail_msg("%s: %s, not %s", lies[i].what, lun_status_name((enum lun_status)is),
				lun_status_name(lies[i].is));
		bdev_close(u.b);
	}
	liar_stop();
}

/* SBC-3 5.21: both forms are optional, and many targets know the shorter one alone. What is refused is no flush. */
static void flush_is_what_every_target_knows(void **state)
{
	struct user u;

	(void)state;
	NEED_TARGET();
	clear_reservations();
	liar_start();
	assert_true(user_open(&u, LIAR_URL, 1, 0));
	assert_int_equal(user_do(&u, WRITE_AT(0)), LUN_OK);
	assert_int_equal(user_do(&u, OP(LUN_FLUSH)), LUN_OK);
	bdev_close(u.b);
	liar_stop();
}

/* The bit means nothing to such a target, and what was written is in its cache alone. */
static void who_does_not_know_fua_is_flushed(void **state)
{
	struct lun_cmd fua = WRITE_AT(0);
	struct user u;

	(void)state;
	NEED_TARGET();
	clear_reservations();
	liar_start();
	fua.fua = true;
	liar.fuas = liar.flushes = 0;
	for (int no_fua = 0; no_fua < 2; no_fua++) {
		liar.no_fua = no_fua;
		assert_true(user_open(&u, LIAR_URL, 1, 0));
		assert_int_equal(user_do(&u, fua), LUN_OK);
		assert_int_equal(user_do(&u, WRITE_AT(4096)), LUN_OK);
		assert_int_equal(liar.fuas, 1);
		assert_int_equal(liar.flushes, no_fua);
		bdev_close(u.b);
	}
	liar.no_fua = false;
	liar_stop();
}

static struct {
	struct user u;
	int left;
} again;

/* As the data path does: it is sent again while other answers are still to be read. */
static void send_again(struct bdev_req *r)
{
	if (r->status == LUN_RETRY && again.left-- > 0)
		bdev_submit(again.u.b, r);
	else
		user_done(r);
}

static void writes_that_are_refused_by_the_dozen_end_no_session(void **state)
{
	static const struct lie busy = {"busy", 0x08, {0}, 0, LUN_RETRY};
	struct bdev_req w[64];
	int ended = 0;

	(void)state;
	NEED_TARGET();
	clear_reservations();
	liar_start();
	assert_true(user_open(&again.u, LIAR_URL, 1, 0));
	liar.lie = &busy;
	again.left = 1000;
	for (unsigned i = 0; i < 64; i++) {
		w[i] = (struct bdev_req){.cmd = WRITE_AT(4096u * i), .done = send_again};
		bdev_submit(again.u.b, &w[i]);
	}
	for (int turns = 0; turns < 2000 && ended < 64; turns++) {
		user_turn(&again.u, 10);
		ended = 0;
		for (int i = 0; i < 64; i++)
			ended += user_ended(&w[i]);
	}
	liar.lie = NULL;
	assert_int_equal(ended, 64);
	for (int i = 0; i < 64; i++)
		assert_int_equal(w[i].status, LUN_RETRY);
	assert_false(again.u.down);
	bdev_close(again.u.b);
	liar_stop();
}

/* ------------------------------------------------------------------ another LUN */

static bool comes_up(struct user *u, const uint8_t *uuid, const char *identity)
{
	struct bdev_config cfg = {.url = TARGET_URL, .node = 1, .uuid = uuid, .identity = identity};
	char text[BDEV_TEXT_MAX] = "";

	assert_int_equal(user_start(u, cfg, text, sizeof(text)), 0);
	for (int turns = 0; turns < 200 && !u->up && !u->down; turns++)
		user_turn(u, 50);
	return u->up && !u->down;
}

static void a_lun_that_has_become_another_one_does_not_come_up(void **state)
{
	static const uint8_t uuid[16] = {7}, other[16] = {8};
	char was[BDEV_IDENTITY_MAX];
	struct user u;

	(void)state;
	NEED_TARGET();
	clear_reservations();
	memset(buf, 0, 4096);
	verify_init_header(buf, MAGIC_SUPER, uuid, 0, 0);
	verify_seal(buf);
	assert_true(user_open(&u, TARGET_URL, 1, 0));
	strcpy(was, bdev_info(u.b)->identity);
	assert_int_equal(user_do(&u, WRITE_AT(0)), LUN_OK);
	bdev_close(u.b);
	assert_true(comes_up(&u, uuid, was));
	bdev_close(u.b);
	assert_false(comes_up(&u, other, was));
	assert_non_null(strstr(bdev_text(u.b), "on this LUN is volume 07000000-"));
	bdev_close(u.b);
	assert_int_equal(
		target_admin("--op update --mode logicalunit --tid 1 --lun 1 --params scsi_id=test-2"), 0);
	assert_false(comes_up(&u, uuid, was));
	assert_non_null(strstr(bdev_text(u.b), "this is LUN"));
	assert_non_null(strstr(bdev_text(u.b), was));
	bdev_close(u.b);
	assert_int_equal(
		target_admin("--op update --mode logicalunit --tid 1 --lun 1 --params scsi_id=test-1"), 0);
	assert_true(comes_up(&u, uuid, was));
	bdev_close(u.b);
}

/* SPC-4: what is behind the number is asked anew, in a session that asks it first. A reset is no such news. */
static void news_of_other_luns_end_the_session_and_no_more(void **state)
{
	static const struct {
		struct lie lie;
		bool ends;
	} news[] = {
		{{"REPORTED LUNS DATA HAS CHANGED", 2, {0x70, 0, 6, [7] = 10, [12] = 0x3f, [13] = 0x0e}, 18, LUN_UNKNOWN}, true},
		{{"INQUIRY DATA HAS CHANGED", 2, {0x72, 6, 0x3f, 0x03}, 8, LUN_UNKNOWN}, true},
		{{"BUS DEVICE RESET OCCURRED", 2, {0x70, 0, 6, [7] = 10, [12] = 0x29, [13] = 0x03}, 18, LUN_RETRY}, false},
		{{"CAPACITY DATA HAS CHANGED", 2, {0x70, 0, 6, [7] = 10, [12] = 0x2a, [13] = 0x09}, 18, LUN_RETRY}, false},
	};
	char image[192], args[320];
	struct user u, v;

	(void)state;
	NEED_TARGET();
	clear_reservations();
	liar_start();
	for (size_t i = 0; i < sizeof(news) / sizeof(news[0]); i++) {
		assert_true(user_open(&u, LIAR_URL, 1, 0));
		liar.lie = &news[i].lie;
		assert_int_equal(user_cmd(&u, WRITE_AT(4096)), news[i].lie.is);
		liar.lie = NULL;
		if (u.down != news[i].ends)
			fail_msg("%s: the session is %s", news[i].lie.what, u.down ? "lost" : "not lost");
		bdev_close(u.b);
	}
	liar_stop();
	/* The target tells each session by itself; who logs in then has nothing to hear of it but at the beginning. */
	assert_true(user_open(&u, TARGET_URL, 1, 0));
	assert_int_equal(user_do(&u, READ_AT(4096)), LUN_OK);
	snprintf(image, sizeof(image), "%s.2", target_image());
	snprintf(args, sizeof(args), "truncate -s 1M %s", image);
	assert_int_equal(system(args), 0);
	snprintf(args, sizeof(args), "--op new --mode logicalunit --tid 1 --lun 2 -b %s", image);
	assert_int_equal(target_admin(args), 0);
	assert_int_equal(user_cmd(&u, WRITE_AT(4096)), LUN_UNKNOWN);
	assert_true(u.down);
	assert_non_null(strstr(bdev_text(u.b), "LUN 1 may be another one now"));
	bdev_close(u.b);
	for (int i = 0; i < 3; i++) {
		assert_true(user_open(&u, TARGET_URL, 1, 0));
		assert_true(user_open(&v, TARGET_URL, 1, 1));
		assert_int_equal(user_do(&u, WRITE_AT(4096)), LUN_OK);
		assert_int_equal(user_do(&u, OP(LUN_RESET)), LUN_OK);
		assert_int_equal(user_do(&v, WRITE_AT(4096)), LUN_OK);
		bdev_close(u.b);
		bdev_close(v.b);
	}
	assert_int_equal(target_admin("--op delete --mode logicalunit --tid 1 --lun 2"), 0);
}

/* Whether there is a cache to flush is not to be guessed, nor what the limits are. */
static void who_does_not_answer_at_login_is_not_used(void **state)
{
	static const uint8_t cdbs[] = {0x12, 0x1a, 0x5e}; /* INQUIRY, MODE SENSE, PERSISTENT RESERVE IN */
	struct user u;

	(void)state;
	NEED_TARGET();
	clear_reservations();
	liar_start();
	for (unsigned i = 0; i < sizeof(cdbs); i++) {
		liar.busy = cdbs[i];
		liar.status = 0x08; /* BUSY */
		assert_false(user_open(&u, LIAR_URL, 1, 0));
		assert_true(u.down);
		bdev_close(u.b);
	}
	/* No sense data: no answer either. */
	liar.busy = 0x1a;
	liar.status = 0x02;
	assert_false(user_open(&u, LIAR_URL, 1, 0));
	assert_true(u.down);
	bdev_close(u.b);
	liar.busy = 0;
	assert_true(user_open(&u, LIAR_URL, 1, 0));
	bdev_close(u.b);
	liar_stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(login_tells_what_the_lun_is),
		cmocka_unit_test(what_was_written_is_read_in_pieces_and_whole),
		cmocka_unit_test(a_deep_queue_ends_with_every_answer_once),
		cmocka_unit_test(a_fenced_node_can_read_but_not_write),
		cmocka_unit_test(preempting_the_holder_takes_the_reservation),
		cmocka_unit_test(reset_waits_for_writes_that_are_in_flight),
		cmocka_unit_test(reset_is_sent_when_the_session_s_own_commands_are_answered),
		cmocka_unit_test(a_broken_connection_ends_all_as_unknown),
		cmocka_unit_test(a_silent_target_shows_in_the_age_of_the_oldest_command),
		cmocka_unit_test(a_reject_on_the_way_is_noticed_at_once),
		cmocka_unit_test(answers_that_do_not_say_done_are_not_taken_for_it),
		cmocka_unit_test(flush_is_what_every_target_knows),
		cmocka_unit_test(who_does_not_know_fua_is_flushed),
		cmocka_unit_test(who_does_not_answer_at_login_is_not_used),
		cmocka_unit_test(writes_that_are_refused_by_the_dozen_end_no_session),
		cmocka_unit_test(each_wrong_url_has_a_message_of_its_own),
		cmocka_unit_test(chap_is_needed_and_enough),
		cmocka_unit_test(a_lun_that_has_become_another_one_does_not_come_up),
		cmocka_unit_test(news_of_other_luns_end_the_session_and_no_more),
	};
	int failed;

	have_target = target_up();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	if (have_target)
		target_down();
	return failed;
}
