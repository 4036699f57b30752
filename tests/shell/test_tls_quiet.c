/* SPDX-License-Identifier: GPL-2.0-or-later */
/* test_tls_quiet.c - the thread of redirect/tls.c sleeps while there is nothing that it could do, and wakes when there is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "tests/shell/tls_end.h"

/* Between two ends: what goes from a to b passes `left` bytes far, and no further; -1: the connection is reset. */
struct relay {
	pthread_t id;
	int listen_fd;
	uint16_t port, to;
	_Atomic long left;
};

static void relay_reset(int fd)
{
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
	close(fd);
}

static void *relay_main(void *arg)
{
	struct relay *r = arg;
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(r->to), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int a = accept(r->listen_fd, NULL, NULL), b = socket(AF_INET, SOCK_STREAM, 0);
	bool goes_on = !connect(b, (void *)&sa, sizeof(sa));
	char some[4096];

	while (goes_on && r->left >= 0) {
		struct pollfd p[2] = {{r->left ? a : -1, POLLIN, 0}, {b, POLLIN, 0}};
		ssize_t n = 0;

		(void)poll(p, 2, 20);
		if (p[0].revents) {
			n = read(a, some, (size_t)r->left < sizeof(some) ? (size_t)r->left : sizeof(some));
			while (r->left >= 0 && !poll(&(struct pollfd){b, POLLOUT, 0}, 1, 20))
				;
			if (r->left < 0)
				break;
			goes_on = n > 0 && write(b, some, (size_t)n) == n;
			r->left -= n;
		}
		if (p[1].revents) {
			n = read(b, some, sizeof(some));
			goes_on = n > 0 && write(a, some, (size_t)n) == n;
		}
	}
	relay_reset(a);
	relay_reset(b);
	return NULL;
}

static void relay_start(struct relay *r, struct end *a, struct end *b)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(sa);

	r->to = tls_port(b->tls);
	r->left = 1 << 30;
	r->listen_fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(r->listen_fd, (void *)&sa, len), 0);
	assert_int_equal(listen(r->listen_fd, 1), 0);
	assert_int_equal(getsockname(r->listen_fd, (void *)&sa, &len), 0);
	assert_int_equal(pthread_create(&r->id, NULL, relay_main, r), 0);
	tls_connect(a->tls, 1, "127.0.0.1", ntohs(sa.sin_port), "n2");
	expect(a, EV_NET_UP);
	expect(b, EV_NET_UP);
}

/* What b takes in has come, and no more does. */
static void until_full(const struct relay *r)
{
	long was;

	do {
		was = r->left;
		usleep(200000);
	} while (r->left != was || (1 << 30) - was < (long)TLS_INBOX_BYTES);
}

/* Of this process, while nothing happens. */
static void expect_no_work(void)
{
	struct rusage was, is;

	getrusage(RUSAGE_SELF, &was);
	usleep(500000);
	getrusage(RUSAGE_SELF, &is);
	timersub(&is.ru_utime, &was.ru_utime, &is.ru_utime);
	timersub(&is.ru_stime, &was.ru_stime, &is.ru_stime);
	timeradd(&is.ru_utime, &is.ru_stime, &is.ru_utime);
	assert_in_range(is.ru_utime.tv_sec * 1000000 + is.ru_utime.tv_usec, 0, 50000);
}

static void what_comes_in_pieces_is_waited_for_asleep(void **state)
{
	struct dbuf *buf = dbuf_get(MIB);
	struct relay r;
	struct end a, b;
	struct event ev;

	fill(buf, MIB, 1);
	end_start(&a, "n1");
	end_start(&b, "n2");
	relay_start(&r, &a, &b);
	r.left = 20777; /* a whole record and a part of the next */
	send_write(&a, 1, buf, 0, MIB);
	while (r.left)
		usleep(1000);
	usleep(50000);
	expect_no_work();
	r.left = 1 << 30;
	ev = expect(&b, EV_NET_MSG);
	assert_memory_equal(dbuf_of(ev.net.data)->bytes, buf->bytes, MIB);
	event_free(&b, &ev);
	r.left = -1;
	expect(&b, EV_NET_DOWN);
	pthread_join(r.id, NULL);
	close(r.listen_fd);
	dbuf_put(buf);
	end_stop(&a);
	end_stop(&b);
	assert_int_equal(dbuf_live_bytes(), 0);
}

/* epoll tells of it whether it is asked or not. */
static void a_connection_that_breaks_while_nothing_is_read_is_let_be(void **state)
{
	struct dbuf *buf = dbuf_get(MIB);
	struct relay r;
	struct end a, b;
	struct event ev;
	unsigned frames = 0;

	fill(buf, MIB, 1);
	end_start(&a, "n1");
	end_start(&b, "n2");
	relay_start(&r, &a, &b);
	for (uint32_t i = 0; i < 100; i++)
		send_write(&a, 1, buf, 0, MIB);
	until_full(&r);
	r.left = -1;
	pthread_join(r.id, NULL);
	usleep(50000);
	expect_no_work();
	while (event_wait(&b, &ev, 5000) && ev.type == EV_NET_MSG) {
		frames++;
		event_free(&b, &ev);
	}
	assert_int_equal(ev.type, EV_NET_DOWN);
	assert_in_range(frames, TLS_INBOX_BYTES / MIB, 99);
	close(r.listen_fd);
	dbuf_put(buf);
	end_stop(&a);
	end_stop(&b);
	assert_int_equal(dbuf_live_bytes(), 0);
}

static int make_pki(void **state)
{
	char text[PKI_TEXT_MAX];

	(void)state;
	snprintf(pki, sizeof(pki), "/tmp/csvfs-test-tls.XXXXXX");
	assert_non_null(mkdtemp(pki));
	must(pki_init(pki, "lab", false, text, sizeof(text)), text);
	must(pki_node(pki, "n1", NULL, false, text, sizeof(text)), text);
	must(pki_node(pki, "n2", NULL, false, text, sizeof(text)), text);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_comes_in_pieces_is_waited_for_asleep),
		cmocka_unit_test(a_connection_that_breaks_while_nothing_is_read_is_let_be),
	};

	return cmocka_run_group_tests(tests, make_pki, drop_pki);
}
