/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * test_tls.c - redirect/tls.c and redirect/pki.c over loopback: the right peers talk, all others get a
 * reason, and nothing that comes from outside stops a node.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <errno.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <openssl/pem.h>
#include <openssl/x509.h>

#include "csvfs/base/cursor.h"
#include "csvfs/base/list.h"
#include "csvfs/base/prng.h"
#include "csvfs/dbuf.h"
#include "redirect/pki.h"
#include "redirect/tls.h"
#include "redirect/wire.h"
#include "tests/shell/tls_end.h"

static uint64_t ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* ------------------------------------------------------------------ certificates */

static void copy_file(const char *from_dir, const char *to_dir, const char *file)
{
	char from[200], to[200], bytes[8192];
	FILE *f;
	size_t n;

	snprintf(from, sizeof(from), "%s/%s", from_dir, file);
	snprintf(to, sizeof(to), "%s/%s", to_dir, file);
	f = fopen(from, "r");
	assert_non_null(f);
	n = fread(bytes, 1, sizeof(bytes), f);
	fclose(f);
	f = fopen(to, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, n, f), n);
	fclose(f);
	assert_int_equal(chmod(to, 0600), 0);
}

/* The certificate of a node, signed anew with an end in the past (or a beginning in the future). */
static void certificate_from_to(const char *node, long from_s, long to_s)
{
	char path[200];
	EVP_PKEY *key;
	X509 *cert;
	FILE *f;

	snprintf(path, sizeof(path), "%s/ca.key", pki);
	f = fopen(path, "r");
	key = PEM_read_PrivateKey(f, NULL, NULL, NULL);
	fclose(f);
	snprintf(path, sizeof(path), "%s/node.crt", dir_of(node));
	f = fopen(path, "r");
	cert = PEM_read_X509(f, NULL, NULL, NULL);
	fclose(f);
	assert_non_null(key);
	assert_non_null(cert);
	X509_gmtime_adj(X509_getm_notBefore(cert), from_s);
	X509_gmtime_adj(X509_getm_notAfter(cert), to_s);
	assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
	f = fopen(path, "w");
	PEM_write_X509(f, cert);
	fclose(f);
	X509_free(cert);
	EVP_PKEY_free(key);
}

static int make_pki(void **state)
{
	char text[PKI_TEXT_MAX], other[80];

	snprintf(pki, sizeof(pki), "/tmp/csvfs-test-tls.XXXXXX");
	assert_non_null(mkdtemp(pki));
	must(pki_init(pki, "lab", false, text, sizeof(text)), text);
	must(pki_node(pki, "n1", NULL, false, text, sizeof(text)), text);
	must(pki_node(pki, "n2", NULL, false, text, sizeof(text)), text);
	must(pki_node(pki, "n3", NULL, false, text, sizeof(text)), text);
	/* Another cluster of the same name, with a node of the same name. */
	snprintf(other, sizeof(other), "%s/other", pki);
	must(pki_init(other, "lab", false, text, sizeof(text)), text);
	must(pki_node(other, "n2", dir_of("stranger"), false, text, sizeof(text)), text);
	return 0;
}

/* ------------------------------------------------------------------ tests: pki */

static void keys_are_secret_and_not_overwritten(void **state)
{
	char text[PKI_TEXT_MAX], path[200];
	struct stat st;

	snprintf(path, sizeof(path), "%s/ca.key", pki);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	snprintf(path, sizeof(path), "%s/node.key", dir_of("n1"));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(pki_init(pki, "lab", false, text, sizeof(text)), -EEXIST);
	assert_non_null(strstr(text, "--force"));
	assert_int_equal(pki_node(pki, "n1", NULL, false, text, sizeof(text)), -EEXIST);
	assert_int_equal(pki_node(pki, "n1", NULL, true, text, sizeof(text)), 0);
	assert_int_equal(pki_node(pki, "../n1", NULL, true, text, sizeof(text)), -EINVAL);
	assert_int_equal(pki_node(pki, "", NULL, true, text, sizeof(text)), -EINVAL);
	assert_int_equal(pki_init("/dev/null/x", "lab", false, text, sizeof(text)), -ENOTDIR);
	assert_int_equal(pki_node("/tmp", "n9", NULL, false, text, sizeof(text)), -ENOENT);
	assert_non_null(strstr(text, "csvctl pki init"));
}

static void a_node_without_good_certificates_does_not_start(void **state)
{
	char text[TLS_TEXT_MAX], path[200];
	struct end e, f;

	assert_int_equal(end_try(&e, "nobody", 0, text), -ENOENT);
	assert_non_null(strstr(text, "csvctl pki node"));

	assert_int_equal(mkdir(dir_of("mixed"), 0700), 0);
	copy_file(dir_of("n1"), dir_of("mixed"), "ca.crt");
	copy_file(dir_of("n1"), dir_of("mixed"), "node.crt");
	copy_file(dir_of("n2"), dir_of("mixed"), "node.key");
	assert_int_equal(end_try(&e, "mixed", 0, text), -EINVAL);
	assert_non_null(strstr(text, "does not belong to"));

	copy_file(dir_of("n1"), dir_of("mixed"), "node.key");
	copy_file(dir_of("stranger"), dir_of("mixed"), "ca.crt");
	assert_int_equal(end_try(&e, "mixed", 0, text), -EINVAL);
	assert_non_null(strstr(text, "certificate of n1 is not signed by this cluster's CA"));

	copy_file(dir_of("n1"), dir_of("mixed"), "ca.crt");
	snprintf(path, sizeof(path), "%s/node.key", dir_of("mixed"));
	assert_int_equal(chmod(path, 0644), 0);
	assert_int_equal(end_try(&e, "mixed", 0, text), -EPERM);
	assert_non_null(strstr(text, "chmod 600"));
	assert_int_equal(chmod(path, 0600), 0);

	certificate_from_to("mixed", -7200, -3600);
	assert_int_equal(end_try(&e, "mixed", 0, text), -EINVAL);
	assert_non_null(strstr(text, "has expired"));

	end_start(&e, "n1");
	assert_string_equal(tls_name(e.tls), "n1");
	assert_int_equal(end_try(&f, "n2", tls_port(e.tls), text), -EADDRINUSE);
	assert_non_null(strstr(text, "port="));
	end_stop(&e);
}

/* ------------------------------------------------------------------ tests: who may talk */

static void nodes_of_one_cluster_talk(void **state)
{
	struct end a, b;
	struct event ev;
	uint64_t at_b;

	end_start(&a, "n1");
	end_start(&b, "n2");
	at_b = join(&a, 1, &b, "n2", "n1");
	for (uint64_t i = 1; i <= 1000; i++)
		send_ping(&a, 1, i);
	for (uint64_t i = 1; i <= 1000; i++) {
		ev = expect(&b, EV_NET_MSG);
		assert_int_equal(ev.net.conn, at_b);
		assert_int_equal(ping_seq(&ev), i);
		event_free(&b, &ev);
	}
	send_ping(&b, at_b, 7);
	ev = expect(&a, EV_NET_MSG);
	assert_int_equal(ping_seq(&ev), 7);
	event_free(&a, &ev);
	tls_close(a.tls, 1);
	ev = expect(&b, EV_NET_DOWN);
	assert_string_equal(ev.net.reason, "n1 closed the connection");
	expect_silence(&a, 100); /* who closes gets no event */
	end_stop(&a);
	end_stop(&b);
}

static void a_node_of_another_ca_is_refused_with_a_reason_on_both_sides(void **state)
{
	struct end a, s;
	struct event ev;

	end_start(&a, "n1");
	end_start(&s, "stranger");
	/* It answers us. */
	tls_connect(a.tls, 1, "127.0.0.1", tls_port(s.tls), "n2");
	ev = expect(&a, EV_NET_DOWN);
	assert_non_null(
		strstr(ev.net.reason, "certificate of n2 is not signed by this cluster's CA ("));
	assert_non_null(strstr(ev.net.reason, "/n1/ca.crt)"));
	assert_true(ev.net.distrust);
	ev = expect(&s, EV_NET_DOWN);
	assert_non_null(strstr(ev.net.reason, "refuses our certificate"));
	assert_true(ev.net.distrust);
	/* It connects to us, and checks nothing about us: it has our CA, but its old certificate. */
	tls_connect(s.tls, 2, "127.0.0.1", tls_port(a.tls), "n1");
	ev = expect(&s, EV_NET_DOWN);
	assert_non_null(strstr(ev.net.reason, "certificate of n1 is not signed"));
	assert_true(ev.net.distrust);
	ev = expect(&a, EV_NET_DOWN);
	assert_non_null(strstr(ev.net.reason, "127.0.0.1 refuses our certificate"));
	assert_true(ev.net.distrust);
	end_stop(&a);
	end_stop(&s);
}

static void a_certificate_that_ran_out_is_refused_with_a_reason_on_both_sides(void **state)
{
	struct end a, b;
	struct event ev;
	char text[PKI_TEXT_MAX];

	certificate_from_to("n3", -3600, 3); /* good for as long as both take to start on a busy machine */
	end_start(&a, "n1");
	end_start(&b, "n3");
	sleep(4);
	tls_connect(b.tls, 1, "127.0.0.1", tls_port(a.tls), "n1");
	/* TLS 1.3: the side that connects is up before the other one has looked at its certificate. */
	ev = expect(&b, EV_NET_UP);
	send_ping(&b, 1, 1);
	ev = expect(&a, EV_NET_DOWN);
	assert_non_null(strstr(ev.net.reason, "certificate of n3 has expired"));
	ev = expect(&b, EV_NET_DOWN);
	assert_non_null(strstr(ev.net.reason, "n1 says that our certificate has expired"));
	tls_connect(a.tls, 2, "127.0.0.1", tls_port(b.tls), "n3");
	ev = expect(&a, EV_NET_DOWN);
	assert_non_null(strstr(ev.net.reason, "certificate of n3 has expired"));
	end_stop(&a);
	end_stop(&b);
	must(pki_node(pki, "n3", NULL, true, text, sizeof(text)), text);
}

static void another_node_at_the_address_is_refused(void **state)
{
	struct end a, b;
	struct event ev;

	end_start(&a, "n1");
	end_start(&b, "n2");
	tls_connect(a.tls, 1, "127.0.0.1", tls_port(b.tls), "n3");
	ev = expect(&a, EV_NET_DOWN);
	assert_non_null(strstr(ev.net.reason, "has the certificate of n2, not of n3"));
	end_stop(&a);
	end_stop(&b);
}

static void nobody_there_is_said_in_words(void **state)
{
	struct end a, b;
	struct event ev;
	uint16_t port;

	end_start(&a, "n1");
	end_start(&b, "n2");
	port = tls_port(b.tls);
	end_stop(&b);
	tls_connect(a.tls, 1, "127.0.0.1", port, "n2");
	ev = expect(&a, EV_NET_DOWN);
	assert_int_equal(ev.net.conn, 1);
	assert_non_null(strstr(ev.net.reason, "cannot reach n2"));
	assert_non_null(strstr(ev.net.reason, "Connection refused"));
	tls_connect(a.tls, 2, "not an address", port, "n2");
	ev = expect(&a, EV_NET_DOWN);
	assert_non_null(strstr(ev.net.reason, "is not an IP address"));
	end_stop(&a);
}

/* ------------------------------------------------------------------ tests: hostile input */

static int raw_connect(struct end *e)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(tls_port(e->tls))};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	return fd;
}

static bool raw_closed(int fd, int ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char junk[4096];

	while (poll(&p, 1, ms) == 1)
		if (read(fd, junk, sizeof(junk)) <= 0)
			return true;
	return false;
}

static void noise_from_the_network_harms_nobody(void **state)
{
	struct prng r = {5};
	struct end a, b;
	struct event ev;
	uint8_t noise[4096];
	uint64_t at_b;

	end_start(&a, "n1");
	end_start(&b, "n2");
	at_b = join(&a, 1, &b, "n2", "n1");
	for (int i = 0; i < 50; i++) {
		int fd = raw_connect(&b);
		size_t n = 1 + prng_below(&r, sizeof(noise));

		for (size_t k = 0; k < n; k++)
			noise[k] = (uint8_t)prng_u64(&r);
		if (i % 3 == 1) { /* looks like the begin of a TLS handshake */
			noise[0] = 22;
			noise[1] = 3;
			noise[2] = 1;
			noise[3] = 0;
			noise[4] = 200;
			noise[5] = 1;
		}
		if (i % 3 == 2)
			memcpy(noise, "GET / HTTP/1.1\r\n\r\n", 18);
		(void)send(fd, noise, n, MSG_NOSIGNAL);
		shutdown(fd, SHUT_WR);
		assert_true(raw_closed(fd, 5000));
		close(fd);
	}
	send_ping(&a, 1, 99);
	do {
		assert_true(event_wait(&b, &ev, 5000));
	} while (ev.type == EV_NET_DOWN && ev.net.conn != at_b);
	assert_int_equal(ev.type, EV_NET_MSG);
	assert_int_equal(ping_seq(&ev), 99);
	event_free(&b, &ev);
	end_stop(&a);
	end_stop(&b);
}

static void who_says_nothing_is_closed_after_the_handshakes_time(void **state)
{
	struct end b;
	struct event ev;
	uint64_t start = ns();
	int fd, more[100];

	end_start(&b, "n2");
	fd = raw_connect(&b);
	assert_true(raw_closed(fd, 10000));
	assert_in_range(
		(ns() - start) / NS_PER_MS, TLS_HANDSHAKE_MS - 100, TLS_HANDSHAKE_MS + 1500);
	ev = expect(&b, EV_NET_DOWN);
	assert_non_null(strstr(ev.net.reason, "did not finish the TLS handshake"));
	/* More of them than handshakes are allowed at once: the oldest go, and a real node comes through. */
	for (int i = 0; i < 100; i++)
		more[i] = raw_connect(&b);
	{
		struct end a;

		end_start(&a, "n1");
		tls_connect(a.tls, 1, "127.0.0.1", tls_port(b.tls), "n2");
		ev = expect(&a, EV_NET_UP);
		end_stop(&a);
	}
	for (int i = 0; i < 100; i++)
		close(more[i]);
	close(fd);
	end_stop(&b);
}

/* A process of its own: nonsense on ever more connections, which stay open. */
static _Noreturn void flood(uint16_t port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd[TLS_CONNS_MAX * 2];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	for (uint32_t i = 0;; i++) {
		uint32_t k = i % (TLS_CONNS_MAX * 2);

		if (i >= TLS_CONNS_MAX * 2)
			close(fd[k]);
		fd[k] = socket(AF_INET, SOCK_STREAM, 0);
		if (!connect(fd[k], (struct sockaddr *)&sa, sizeof(sa)))
			(void)send(fd[k], "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL);
	}
}

/* What is refused is kept for a moment, so that it hears why. That must not take the place of who may come in. */
static void who_is_refused_and_stays_keeps_nobody_out(void **state)
{
	struct tls_stats st;
	struct end a, b;
	pid_t pid;

	end_start(&a, "n1");
	end_start(&b, "n2");
	pid = fork();
	if (!pid)
		flood(tls_port(b.tls));
	do {
		usleep(10000);
		tls_get_stats(b.tls, &st);
	} while (st.refused < TLS_CONNS_MAX);
	for (uint64_t conn = 1; conn <= 5; conn++) {
		struct event ev;

		tls_connect(a.tls, conn, "127.0.0.1", tls_port(b.tls), "n2");
		ev = expect(&a, EV_NET_UP);
		assert_int_equal(ev.net.conn, conn);
	}
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	end_stop(&a);
	end_stop(&b);
}

static void down_with(
	struct end *a, struct end *b, const void *bytes, uint32_t len, const char *reason)
{
	static uint64_t conn = 100;
	struct event ev;

	(void)join(a, ++conn, b, "n2", "n1");
	tls_send(a->tls, conn, bytes, len, 0, 0, 0);
	ev = expect(b, EV_NET_DOWN);
	if (!strstr(ev.net.reason, reason))
		fail_msg("'%s' does not say '%s'", ev.net.reason, reason);
	(void)expect(a, EV_NET_DOWN);
}

static void a_known_node_that_sends_nonsense_is_closed_with_a_reason(void **state)
{
	uint8_t frame[64];
	struct end a, b;
	uint32_t len;

	end_start(&a, "n1");
	end_start(&b, "n2");
	len = ping_frame(frame, 1);
	frame[0] ^= 1;
	down_with(&a, &b, frame, len, "n1 sent what is no frame of csvfs");
	len = ping_frame(frame, 1);
	frame[4] = WIRE_VERSION + 1;
	down_with(&a, &b, frame, len, "n1 speaks another version");
	len = ping_frame(frame, 1);
	frame[11] = 0xff;
	down_with(&a, &b, frame, len, "n1 sent a frame that is too long");
	len = ping_frame(frame, 1);
	frame[14] = 0x11; /* data: more than a megabyte */
	down_with(&a, &b, frame, len, "n1 sent a frame that is too long");
	/* Half a frame, and then nothing. */
	len = ping_frame(frame, 1);
	down_with(&a, &b, frame, len - 1, "n1 did not finish a frame");
	end_stop(&a);
	end_stop(&b);
}

/* ------------------------------------------------------------------ tests: data */

static void data_arrives_as_it_was_sent(void **state)
{
	static const uint32_t lens[] = {
		512, 4096, 16384, 16384 - 76, 65536, 300 * 512, MIB - 512, MIB};
	struct end a, b;
	struct event ev;
	struct dbuf *buf, *got;

	end_start(&a, "n1");
	end_start(&b, "n2");
	(void)join(&a, 1, &b, "n2", "n1");
	for (uint32_t i = 0; i < 400; i++) {
		uint32_t len = lens[i % 8] & ~511u, off = i % 3 * 512;

		if (!len)
			len = 512;
		buf = dbuf_get(len + 2 * 512);
		fill(buf, len + 2 * 512, i);
		send_write(&a, 1, buf, off, len);
		send_ping(&a, 1, i);
		ev = expect(&b, EV_NET_MSG);
		got = dbuf_of(ev.net.data);
		assert_non_null(got);
		assert_int_equal(got->len, len);
		assert_memory_equal(got->bytes, buf->bytes + off, len);
		event_free(&b, &ev);
		dbuf_put(buf);
		ev = expect(&b, EV_NET_MSG);
		assert_int_equal(ping_seq(&ev), i);
		event_free(&b, &ev);
	}
	end_stop(&a);
	end_stop(&b);
	assert_int_equal(dbuf_live_bytes(), 0);
}

/* Megabyte writes one way, or both ways at once; MB/s in all. */
static double stream(struct end *a, struct end *b, uint64_t at_b, uint32_t count, bool both)
{
	struct dbuf *buf = dbuf_get(MIB);
	uint64_t start = ns(), got_a = 0, got_b = 0, sent = 0;
	struct event ev;

	fill(buf, MIB, 42);
	while (got_b < count || (both && got_a < count)) {
		/* 16 in flight, as the client's window allows. */
		for (; sent < count && sent < got_b + 16 && (!both || sent < got_a + 16); sent++) {
			send_write(a, 1, buf, 0, MIB);
			if (both)
				send_write(b, at_b, buf, 0, MIB);
		}
		while (event_wait(b, &ev, got_b < sent ? 2000 : 0)) {
			if (ev.type == EV_NET_DOWN)
				fail_msg("%s", ev.net.reason);
			if (got_b % 64 == 0)
				assert_memory_equal(dbuf_of(ev.net.data)->bytes, buf->bytes, MIB);
			event_free(b, &ev);
			if (++got_b % 8 == 0)
				break;
		}
		while (both && event_wait(a, &ev, got_b == sent && got_a < sent ? 2000 : 0)) {
			assert_int_equal(ev.type, EV_NET_MSG);
			event_free(a, &ev);
			got_a++;
		}
	}
	dbuf_put(buf);
	return (double)(got_a + got_b) * MIB / 1e6 / ((double)(ns() - start) / 1e9);
}

static void big_transfers_are_fast_enough(void **state)
{
	const char *big = getenv("CSVFS_TEST_BIG");
	uint32_t count = big ? 4096 : 256;
	struct end a, b;
	uint64_t at_b;

	end_start(&a, "n1");
	end_start(&b, "n2");
	at_b = join(&a, 1, &b, "n2", "n1");
	print_message("one way %.0f MB/s\n", stream(&a, &b, at_b, count, false));
	print_message("both ways %.0f MB/s together\n", stream(&a, &b, at_b, count, true));
	end_stop(&a);
	end_stop(&b);
	assert_int_equal(dbuf_live_bytes(), 0);
}

static void a_receiver_that_is_behind_slows_the_sender_and_loses_nothing(void **state)
{
	struct dbuf *buf = dbuf_get(MIB);
	struct arrived *a_first;
	struct end a, b;
	struct event ev;
	uint32_t waiting = 0;

	fill(buf, MIB, 1);
	end_start(&a, "n1");
	end_start(&b, "n2");
	(void)join(&a, 1, &b, "n2", "n1");
	for (uint32_t i = 0; i < 160; i++)
		send_write(&a, 1, buf, 0, MIB);
	sleep(1);
	pthread_mutex_lock(&b.lock);
	for (a_first = (void *)b.events.next; (void *)a_first != &b.events;
		a_first = (void *)a_first->link.next)
		waiting++;
	pthread_mutex_unlock(&b.lock);
	/* The bound, and one frame that crossed it. */
	assert_in_range(waiting, 1, TLS_INBOX_BYTES / MIB + 1);
	for (uint32_t i = 0; i < 160; i++) {
		ev = expect(&b, EV_NET_MSG);
		event_free(&b, &ev);
	}
	expect_silence(&b, 50);
	dbuf_put(buf);
	end_stop(&a);
	end_stop(&b);
	assert_int_equal(dbuf_live_bytes(), 0);
}

static void a_peer_that_does_not_read_is_given_up(void **state)
{
	struct dbuf *buf = dbuf_get(MIB);
	struct end a, b;
	struct event ev;

	fill(buf, MIB, 1);
	end_start(&a, "n1");
	end_start(&b, "n2");
	(void)join(&a, 1, &b, "n2", "n1");
	/* One buffer, counted many times: the queue costs no memory here. */
	for (uint32_t i = 0; i < (TLS_QUEUE_BYTES + 2u * TLS_INBOX_BYTES) / MIB; i++)
		send_write(&a, 1, buf, 0, MIB);
	ev = expect(&a, EV_NET_DOWN);
	assert_string_equal(ev.net.reason, "n2 does not read what we send");
	dbuf_put(buf);
	end_stop(&a);
	end_stop(&b);
	assert_int_equal(dbuf_live_bytes(), 0);
}

static void what_was_said_last_arrives_before_the_end(void **state)
{
	struct end a, b;
	struct event ev;
	uint64_t at_b;

	end_start(&a, "n1");
	end_start(&b, "n2");
	for (uint64_t i = 1; i <= 50; i++) {
		at_b = join(&a, i, &b, "n2", "n1");
		send_ping(&a, i, 1); /* unread at b when b closes */
		send_ping(&b, at_b, i);
		tls_close(b.tls, at_b);
		ev = expect(&a, EV_NET_MSG);
		assert_int_equal(ping_seq(&ev), i);
		event_free(&a, &ev);
		ev = expect(&a, EV_NET_DOWN);
		while (event_wait(&b, &ev, 0))
			event_free(&b, &ev);
	}
	end_stop(&a);
	end_stop(&b);
}

static void stopping_in_the_middle_leaves_nothing(void **state)
{
	struct dbuf *buf = dbuf_get(MIB);

	fill(buf, MIB, 1);
	for (int i = 0; i < 10; i++) {
		struct end a, b;
		struct event ev;
		uint64_t at_b;

		end_start(&a, "n1");
		end_start(&b, "n2");
		at_b = join(&a, 1, &b, "n2", "n1");
		for (uint32_t k = 0; k < 20; k++) {
			send_write(&a, 1, buf, 0, MIB);
			send_write(&b, at_b, buf, 0, MIB);
		}
		if (event_wait(&b, &ev, 100))
			event_free(&b, &ev);
		tls_connect(a.tls, 5, "127.0.0.1", tls_port(b.tls), "n2");
		end_stop(i & 1 ? &a : &b);
		end_stop(i & 1 ? &b : &a);
	}
	dbuf_put(buf);
	assert_int_equal(dbuf_live_bytes(), 0);
	dbuf_trim();
	assert_int_equal(dbuf_pool_bytes(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_are_secret_and_not_overwritten),
		cmocka_unit_test(a_node_without_good_certificates_does_not_start),
		cmocka_unit_test(nodes_of_one_cluster_talk),
		cmocka_unit_test(a_node_of_another_ca_is_refused_with_a_reason_on_both_sides),
		cmocka_unit_test(a_certificate_that_ran_out_is_refused_with_a_reason_on_both_sides),
		cmocka_unit_test(another_node_at_the_address_is_refused),
		cmocka_unit_test(nobody_there_is_said_in_words),
		cmocka_unit_test(noise_from_the_network_harms_nobody),
		cmocka_unit_test(who_says_nothing_is_closed_after_the_handshakes_time),
		cmocka_unit_test(who_is_refused_and_stays_keeps_nobody_out),
		cmocka_unit_test(a_known_node_that_sends_nonsense_is_closed_with_a_reason),
		cmocka_unit_test(data_arrives_as_it_was_sent),
		cmocka_unit_test(big_transfers_are_fast_enough),
		cmocka_unit_test(a_receiver_that_is_behind_slows_the_sender_and_loses_nothing),
		cmocka_unit_test(a_peer_that_does_not_read_is_given_up),
		cmocka_unit_test(what_was_said_last_arrives_before_the_end),
		cmocka_unit_test(stopping_in_the_middle_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, make_pki, drop_pki);
}
