/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/shell/liar.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct liar liar;

static bool whole(int fd, void *bytes, size_t n, bool out)
{
	for (size_t at = 0; at < n;) {
		ssize_t k = out ? send(fd, (char *)bytes + at, n - at, MSG_NOSIGNAL)
				: recv(fd, (char *)bytes + at, n - at, 0);

		if (k <= 0)
			return false;
		at += (size_t)k;
	}
	return true;
}

static void hold(void)
{
	while (liar.hold)
		usleep(1000);
}

/* The target has asked for data, and the write ends: at once, or when what can be sent of it has been. */
static bool end_early(int to, uint8_t *r2t)
{
	uint8_t end[48] = {0x21, 0x80, 0, liar.early};

	memcpy(end + 16, r2t + 16, 4); /* the task */
	memcpy(end + 24, liar.serials, 12);
	liar.early = 0;
	if (liar.wait_ms) {
		if (!whole(to, r2t, 48, true) || usleep(liar.wait_ms * 1000) || !whole(to, end, 48, true))
			return false;
	} else {
		memcpy(r2t + 48, end, 48);
		if (!whole(to, r2t, 96, true))
			return false;
	}
	hold();
	return true;
}

/* What is not sent yet is answered too. Whoever has not begun to send it does not know it. */
static bool refuse(int to)
{
	uint8_t command[48], end[48] = {0x21, 0x80, 0, 0x08};
	uint32_t task;

	if (recv(to, command, 48, MSG_PEEK | MSG_WAITALL) != 48)
		return false;
	memcpy(&task, command + 16, 4);
	task = ntohl(task);
	memcpy(end + 24, liar.serials, 12);
	usleep(liar.wait_ms * 1000);
	for (uint32_t n = liar.refuse; n; n--) {
		uint32_t number = htonl(task++);

		memcpy(end + 16, &number, 4);
		if (!whole(to, end, 48, true))
			return false;
	}
	liar.refuse = 0;
	hold();
	return true;
}

/* Data with a status become a SCSI Response: the numbers are in the same places. */
static void no_data(uint8_t *pdu)
{
	pdu[0] = 0x21;
	pdu[1] = 0x80;
	pdu[2] = 0;
	pdu[3] = liar.status;
	memset(pdu + 4, 0, 4);
	memset(pdu + 36, 0, 12);
}

static size_t tell(const struct lie *l, uint8_t *pdu)
{
	size_t n = l->sense_bytes ? l->sense_bytes + 2u : 0;

	if (liar.once) {
		liar.lie = NULL;
		liar.once = false;
		usleep(liar.wait_ms * 1000);
	}
	pdu[3] = l->status;
	memset(pdu + 48, 0, 24);
	pdu[49] = l->sense_bytes;
	memcpy(pdu + 50, l->sense, l->sense_bytes);
	pdu[5] = pdu[6] = 0;
	pdu[7] = (uint8_t)n;
	return (n + 3) / 4 * 4;
}

#define PDU_MAX (48u + (1 << 20))

struct conn {
	int fd, target;
	uint32_t inquiry, names, full; /* the tasks (ITT) of the last ones of these commands */
	uint8_t pdu[PDU_MAX];
};

/* What LIO, or another one, would say in the place of tgtd. Returns how many bytes of data it is. */
static size_t be_another(const struct conn *c, uint8_t *pdu, size_t n)
{
	const char *vendor = liar.is_lio ? "LIO-ORG " : liar.vendor;
	uint32_t task, left;

	memcpy(&task, pdu + 16, 4);
	if ((pdu[0] & 0x3f) != 0x25)
		return n;
	if (vendor && task == c->inquiry && n >= 36)
		memcpy(pdu + 48 + 8, vendor, 8);
	for (size_t i = 48; vendor && task == c->names && i + 8 <= 48 + n; i++)
		if (!memcmp(pdu + i, "IET     ", 8))
			memcpy(pdu + i, vendor, 8);
	if (!liar.is_lio || task != c->full)
		return n;
	n = liar.full_bytes;
	left = htonl(65535 - (uint32_t)n);
	memcpy(pdu + 48, liar.full, sizeof(liar.full));
	pdu[1] |= 2; /* residual underflow */
	pdu[6] = (uint8_t)(n >> 8);
	pdu[7] = (uint8_t)n;
	memcpy(pdu + 44, &left, 4);
	return (n + 3) / 4 * 4;
}

/* One PDU of the target's. False: the connection has ended. */
static bool pass_answer(struct conn *c)
{
	uint8_t *pdu = c->pdu;
	int from = c->target, to = c->fd;
	const struct lie *l = liar.lie;
	size_t n;

	if (!whole(from, pdu, 48, false))
		return false;
	n = ((size_t)pdu[5] << 16 | (size_t)pdu[6] << 8 | pdu[7]) + 3;
	n -= n % 4;
	if (!whole(from, pdu + 48, n, false))
		return false;
	memcpy(liar.serials, pdu + 24, 12);
	if (liar.silent && (pdu[0] & 0x3f) == 0x21) {
		liar.silent--;
		return true;
	}
	if (liar.management == 255 && (pdu[0] & 0x3f) == 0x22)
		return true;
	if (liar.management && (pdu[0] & 0x3f) == 0x22)
		pdu[2] = liar.management;
	if (liar.early && (pdu[0] & 0x3f) == 0x31) /* R2T */
		return end_early(to, pdu);
	if (liar.no_fua && liar.cdb == 0x1a && (pdu[0] & 0x3f) == 0x25)
		pdu[48 + 2] &= 0xef;
	if (liar.tas && liar.cdb == 0x1a && (pdu[0] & 0x3f) == 0x25)
		pdu[48 + 4 + 5] |= (pdu[48 + 4] & 0x3f) == 0x0a ? 0x40 : 0;
	if (liar.busy && liar.cdb == liar.busy && ((pdu[0] & 0x3f) == 0x25 || (pdu[0] & 0x3f) == 0x21)) {
		no_data(pdu);
		n = 0;
	}
	if (l && (pdu[0] & 0x3f) == 0x21)
		n = tell(l, pdu);
	n = be_another(c, pdu, n);
	return whole(to, pdu, 48 + n, true);
}

static void look_at_cdb(struct conn *c, uint8_t *command)
{
	uint8_t *cdb = command + 32;

	liar.cdb = cdb[0];
	liar.flushes += cdb[0] == 0x35;
	liar.fuas += cdb[0] == 0x8a && (cdb[1] & 8);
	if (cdb[0] == 0x91) /* SYNCHRONIZE CACHE(16), which a target need not know */
		cdb[0] = 0xff;
	if (cdb[0] == 0x12 && !(cdb[1] & 1))
		memcpy(&c->inquiry, command + 16, 4);
	if (cdb[0] == 0x12 && (cdb[1] & 1) && cdb[2] == 0x83)
		memcpy(&c->names, command + 16, 4);
	if (liar.is_lio && cdb[0] == 0x5e && cdb[1] == 3) {
		memcpy(&c->full, command + 16, 4);
		cdb[1] = 0; /* READ KEYS, which tgtd knows */
	}
}

/* False: it was refused. */
static bool look_at_login(struct conn *c, const uint8_t *login, size_t n)
{
	uint8_t answer[48] = {0x23};
	const char *of = liar.login_of;

	if (!of || n <= 48 || !memmem(login + 48, n - 48, of, strlen(of)))
		return true;
	memcpy(liar.login_isid, login + 8, 6);
	liar.logins++;
	while (liar.login_waits)
		usleep(1000);
	if (!liar.login_refused)
		return true;
	if (liar.login_refused == LIAR_HANGS_UP)
		return false;
	memcpy(answer + 8, login + 8, 12);
	answer[36] = (uint8_t)(liar.login_refused >> 8);
	answer[37] = (uint8_t)liar.login_refused;
	(void)whole(c->fd, answer, sizeof(answer), true); /* the connection ends all the same */
	return false;
}

/* Something has come from the session. False: the connection has ended. */
static bool pass_command(struct conn *c)
{
	uint8_t some[65536];
	ssize_t n, at = 0;

	if (liar.refuse && !refuse(c->fd))
		return false;
	usleep(liar.slow_us);
	n = recv(c->fd, some, sizeof(some), 0);
	if (n >= 48 && (some[0] & 0x3f) == 3 && !look_at_login(c, some, (size_t)n))
		return false;
	liar.resets += n >= 48 && (some[0] & 0x3f) == 2;
	/* Short commands come in one piece, if several do. */
	while (n - at >= 48 && (some[at] & 0x3f) == 1) {
		look_at_cdb(c, some + at);
		at += 48 + (((some[at + 5] << 16 | some[at + 6] << 8 | some[at + 7]) + 3) & ~3);
	}
	return n > 0 && whole(c->target, some, (size_t)n, true);
}

static void *conn_main(void *arg)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(3260)};
	struct conn *c = arg;
	struct pollfd p[2] = {{c->fd, POLLIN, 0}, {c->target, POLLIN, 0}};
	bool goes_on;

	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	goes_on = !connect(c->target, (struct sockaddr *)&sa, sizeof(sa));
	while (goes_on && poll(p, 2, -1) > 0)
		goes_on = (!p[0].revents || pass_command(c)) && (!p[1].revents || pass_answer(c));
	close(c->target);
	close(c->fd);
	free(c);
	return NULL;
}

static void *liar_main(void *arg)
{
	int fd;

	(void)arg;
	while ((fd = accept(liar.listen_fd, NULL, NULL)) >= 0) {
		struct conn *c = calloc(1, sizeof(*c));
		pthread_t thread;

		if (!c)
			abort();
		c->fd = fd;
		c->target = socket(AF_INET, SOCK_STREAM, 0);
		if (pthread_create(&thread, NULL, conn_main, c) || pthread_detach(thread))
			abort();
	}
	return NULL;
}

void liar_start(void)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(LIAR_PORT)};
	int one = 1, bytes = 64 << 10;

	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	liar.listen_fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(setsockopt(liar.listen_fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)), 0);
	assert_int_equal(setsockopt(liar.listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
	assert_int_equal(bind(liar.listen_fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(liar.listen_fd, 8), 0);
	assert_int_equal(pthread_create(&liar.thread, NULL, liar_main, NULL), 0);
}

void liar_stop(void)
{
	shutdown(liar.listen_fd, SHUT_RDWR);
	assert_int_equal(pthread_join(liar.thread, NULL), 0);
	close(liar.listen_fd);
}
