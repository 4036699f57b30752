/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The daemon's frame: options, control socket, inbox, and the JSON that csvctl reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>
#include <errno.h>

#include "csvfs/config.h"
#include "csvfs/ctl.h"
#include "csvfs/inbox.h"
#include "tools/json.h"

/* ------------------------------------------------------------------ options */

static char text[CONFIG_TEXT_MAX];

static enum config_result parse(struct config *c, const char *opts)
{
	char *argv[] = {"csvfs", "/dev/null", "/tmp", "-o", (char *)(uintptr_t)opts};

	text[0] = 0;
	return config_parse(c, 5, argv, text);
}

static void every_option_arrives(void **state)
{
	struct config c;

	(void)state;
	assert_int_equal(
		parse(&c, "ro,pki=/a,port=7,addr=1.2.3.4,ctl=/c,log=/l,loglevel=debug,pidfile=/p,"
			  "initiator=iqn.x,hold=90,cache=1G,io_timeout=2.5,recall=300ms,nocluster,"
			  "copied,noatime,sync,dirsync,strictatime"),
		CONFIG_RUN);
	assert_true(c.readonly && c.nocluster && c.copied && c.noatime);
	assert_true(c.sync && c.dirsync && c.strictatime);
	assert_string_equal(c.pki, "/a");
	assert_string_equal(c.addr, "1.2.3.4");
	assert_string_equal(c.initiator, "iqn.x");
	assert_int_equal(c.port, 7);
	assert_int_equal(c.cache_bytes, 1u << 30);
	assert_int_equal(c.hold_ns, 90 * NS_PER_SEC);
	assert_int_equal(c.io_timeout_ns, 2500 * NS_PER_MS);
	assert_int_equal(c.recall_ns, 300 * NS_PER_MS);
	assert_string_equal(c.mountpoint, "/tmp");
	config_free(&c);
}

static void what_mount_passes_is_accepted(void **state)
{
	struct config c;

	(void)state;
	assert_int_equal(parse(&c, "rw,relatime,_netdev,nofail,x-systemd.requires=a.service,user,"
				   "dev,suid,exec,acl,user_xattr,"
				   "sync,async,hold=0,addr=fe80::1,"
				   "context=\"system_u:object_r:t:s0:c1,c2\",nodiratime"),
		CONFIG_RUN);
	assert_false(c.readonly || c.sync);
	config_free(&c);
}

static void a_bad_option_is_named(void **state)
{
	static const char *const bad[] = {"bogus", "bogus=1", "noacl", "nouser_xattr", "port=0", "port=70000", "cache=1",
		"cache=x", "hold=x", "hold=-1", "hold=0.01", "io_timeout=", "io_timeout=0", "io_timeout=1e6",
		"lease=2", "commit=0", "commit=301", "recall=0", "reclaim=0", "path_retry=0", "addr=foo",
		"addr=1.2.3", "addr=1.2.3.4:7660", "threads=17",
		"pki=", "chap_file=/nonexistent", "ro=1"};
	struct config c;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char name[32];

		snprintf(name, sizeof(name), "%.*s", (int)strcspn(bad[i], "="), bad[i]);
		assert_int_equal(parse(&c, bad[i]), CONFIG_ERROR);
		assert_non_null(strstr(text, name));
		config_free(&c);
	}
}

static void a_chap_file_that_others_can_read_is_refused(void **state)
{
	char path[] = "/tmp/csvfs-chap.XXXXXX", opts[64];
	int fd = mkstemp(path);
	struct config c;

	(void)state;
	assert_true(dprintf(fd, "user=joe\nsecret=abc,def\n") > 0);
	snprintf(opts, sizeof(opts), "chap_file=%s", path);
	fchmod(fd, 0644);
	assert_int_equal(parse(&c, opts), CONFIG_ERROR);
	assert_non_null(strstr(text, "chmod 600"));
	config_free(&c);
	fchmod(fd, 0600);
	assert_int_equal(parse(&c, opts), CONFIG_RUN);
	assert_string_equal(c.chap_user, "joe");
	assert_string_equal(c.chap_secret, "abc,def");
	config_free(&c);
	close(fd);
	unlink(path);
}

static void mount_helper_has_its_own_letters(void **state)
{
	char *helper[] = {"/sbin/mount.csvfs", "/dev/null", "/tmp", "-snf", "-o", "rw"};
	char *plain[] = {"csvfs", "/dev/null", "/tmp", "-f"};
	char *url[] = {"csvfs", "iscsi://joe%geheim@127.0.0.1:99/iqn.x:y/1", "/tmp"};
	struct config c;

	(void)state;
	assert_int_equal(config_parse(&c, 6, helper, text), CONFIG_RUN);
	assert_true(c.fake && !c.foreground);
	config_free(&c);
	assert_int_equal(config_parse(&c, 4, plain, text), CONFIG_RUN);
	assert_true(!c.fake && c.foreground);
	config_free(&c);
	assert_int_equal(config_parse(&c, 3, url, text), CONFIG_RUN);
	assert_string_equal(c.volume, "iscsi://joe%geheim@127.0.0.1:99/iqn.x:y/1");
	assert_string_equal(c.fsname, "iscsi://127.0.0.1:99/iqn.x:y/1");
	config_free(&c);
}

/* ------------------------------------------------------------------ control socket */

static struct ctl_request asked;
static uint64_t asked_tag;

static void on_request(void *ctx, uint64_t tag, const struct ctl_request *rq)
{
	(void)ctx;
	asked = *rq;
	asked_tag = tag;
}

static int client(const char *path, const char *line)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(sa.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(write(fd, line, strlen(line)), (ssize_t)strlen(line));
	return fd;
}

static void expect(int fd, const char *what)
{
	char buf[256];
	ssize_t n = recv(fd, buf, sizeof(buf) - 1, MSG_DONTWAIT);

	assert_true(n > 0);
	buf[n] = 0;
	assert_string_equal(buf, what);
	assert_int_equal(recv(fd, buf, sizeof(buf), MSG_DONTWAIT), 0); /* and the end */
	close(fd);
}

static void requests_of_csvctl_are_understood_and_answered(void **state)
{
	char path[64], err[128];
	struct ctl *c, *second;
	int fd, other;

	(void)state;
	snprintf(path, sizeof(path), "/tmp/csvfs-ctl.%d", (int)getpid());
	assert_int_equal(ctl_open(path, on_request, NULL, &c, err, sizeof(err)), 0);
	assert_int_equal(ctl_open(path, on_request, NULL, &second, err, sizeof(err)), -EADDRINUSE);
	fd = client(path, "move n");
	ctl_service(c);
	assert_int_equal(asked.op, 0);
	assert_int_equal(write(fd, "2\n", 2), 2);
	ctl_service(c);
	assert_int_equal(asked.op, CTL_MOVE);
	assert_string_equal(asked.name, "n2");
	ctl_reply(c, asked_tag + 1, 0, "nobody's", 8);
	ctl_reply(c, asked_tag, -ENOENT, "no such node", 12);
	expect(fd, "error 2\nno such node\n");

	fd = client(path, "redirect on\n");
	other = client(path, "rm -rf\n");
	ctl_service(c);
	ctl_service(c);
	assert_int_equal(asked.op, CTL_REDIRECT);
	assert_true(asked.on);
	ctl_reply(c, asked_tag, 0, "{}\n", 3);
	expect(fd, "ok\n{}\n");
	expect(other, "error 22\nnot understood\n");
	ctl_close(c);
	assert_int_equal(access(path, F_OK), -1);
}

static void a_client_that_says_too_much_or_leaves_harms_nobody(void **state)
{
	char path[64], err[128], junk[CTL_LINE_MAX + 100];
	int fds[CTL_CLIENTS + 4], fd;
	struct ctl *c;

	(void)state;
	snprintf(path, sizeof(path), "/tmp/csvfs-ctl.%d", (int)getpid());
	assert_int_equal(ctl_open(path, on_request, NULL, &c, err, sizeof(err)), 0);
	memset(junk, 'x', sizeof(junk));
	junk[sizeof(junk) - 1] = 0;
	fd = client(path, junk);
	ctl_service(c);
	ctl_service(c);
	close(fd);
	fd = client(path, "state\n");
	ctl_service(c);
	close(fd); /* gone before the answer */
	ctl_service(c);
	ctl_reply(c, asked_tag, 0, "late", 4);
	for (int i = 0; i < CTL_CLIENTS + 4; i++) {
		fds[i] = client(path, "sta");
		ctl_service(c);
	}
	for (int i = 0; i < CTL_CLIENTS + 4; i++)
		close(fds[i]);
	for (int i = 0; i < 4; i++)
		ctl_service(c);
	fd = client(path, "pause\n");
	ctl_service(c);
	ctl_service(c);
	assert_int_equal(asked.op, CTL_PAUSE);
	ctl_reply(c, asked_tag, 0, "held", 4);
	expect(fd, "ok\nheld\n");
	ctl_close(c);
}

static bool readable(int fd, int ms)
{
	return poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, ms) > 0;
}

static void who_cannot_be_let_in_is_asked_for_later_and_not_all_the_time(void **state)
{
	char path[64], err[128];
	struct rlimit was, none;
	struct ctl *c;
	int fd;

	(void)state;
	snprintf(path, sizeof(path), "/tmp/csvfs-ctl.%d", (int)getpid());
	assert_int_equal(ctl_open(path, on_request, NULL, &c, err, sizeof(err)), 0);
	memset(&asked, 0, sizeof(asked));
	fd = client(path, "pause\n");
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	none = was;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	ctl_service(c);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
	assert_false(readable(ctl_fd(c), 100));
	assert_true(readable(ctl_fd(c), 2000));
	ctl_service(c);
	ctl_service(c);
	ctl_service(c);
	assert_int_equal(asked.op, CTL_PAUSE);
	ctl_reply(c, asked_tag, 0, "held", 4);
	expect(fd, "ok\nheld\n");
	ctl_close(c);
}

/* ------------------------------------------------------------------ inbox, JSON */

static void inbox_keeps_order_and_copies(void **state)
{
	struct inbox *b = inbox_create();
	struct event ev = {.type = EV_CPG_MSG, .msg = {.len = 3}};
	char bytes[4] = "abc";
	struct inbox_item *i;

	(void)state;
	assert_null(inbox_take(b));
	inbox_post(b, INBOX_EVENT, &ev, bytes, 3);
	memset(bytes, 'z', 3);
	ev.type = EV_STOP;
	inbox_post(b, INBOX_UNMOUNTED, &ev, NULL, 0);
	i = inbox_take(b);
	assert_int_equal(i->ev.type, EV_CPG_MSG);
	assert_memory_equal(i->ev.msg.bytes, "abc", 3);
	assert_int_equal(i->next->kind, INBOX_UNMOUNTED);
	assert_null(i->next->next);
	free(i->next);
	free(i);
	assert_null(inbox_take(b));
	inbox_post(b, INBOX_EVENT, &ev, NULL, 0);
	inbox_destroy(b);
}

static void json_is_found_by_path(void **state)
{
	static const char json[] =
		"{ \"a\": {\"b\":[{\"n\":1},{\"n\":2}], \"s\":\"x\\\"y\\u0009z\"},"
		"\"t\":true,\"k\":null,\"n\":18446744073709551615}\n";
	char out[32];
	uint64_t sum = 0;

	(void)state;
	for (const char *v = json_first(json_find(json, "a.b")); v; v = json_next(v))
		sum = sum * 10 + json_u64(v, "n");
	assert_int_equal(sum, 12);
	assert_string_equal(json_text(json, "a.s", "-", out, sizeof(out)), "x\"y?z");
	assert_string_equal(json_text(json, "k", "-", out, sizeof(out)), "-");
	assert_string_equal(json_text(json, "a.zz", "-", out, sizeof(out)), "-");
	assert_string_equal(json_text(json, "n", "-", out, 5), "1844");
	assert_true(json_true(json, "t") && json_u64(json, "n") == UINT64_MAX);
	assert_null(json_find("{\"a\":[1,{\"b\"", "c"));
	assert_null(json_find("{\"a", "c"));
	assert_null(json_find("", "c"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_option_arrives),
		cmocka_unit_test(what_mount_passes_is_accepted),
		cmocka_unit_test(a_bad_option_is_named),
		cmocka_unit_test(a_chap_file_that_others_can_read_is_refused),
		cmocka_unit_test(mount_helper_has_its_own_letters),
		cmocka_unit_test(requests_of_csvctl_are_understood_and_answered),
		cmocka_unit_test(a_client_that_says_too_much_or_leaves_harms_nobody),
		cmocka_unit_test(who_cannot_be_let_in_is_asked_for_later_and_not_all_the_time),
		cmocka_unit_test(inbox_keeps_order_and_copies),
		cmocka_unit_test(json_is_found_by_path),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
