/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/shell/liar.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
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

/* One PDU of the target's. False: the connection has ended. */
static bool pass_answer(int from, int to)
{
	static uint8_t pdu[48 + (1 << 20)];
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
	return whole(to, pdu, 48 + n, true);
}

static void look_at_cdb(uint8_t *cdb)
{
	liar.cdb = cdb[0];
	liar.flushes += cdb[0] == 0x35;
	liar.fuas += cdb[0] == 0x8a && (cdb[1] & 8);
	if (cdb[0] == 0x91) /* SYNCHRONIZE CACHE(16), which a target need not know */
		cdb[0] = 0xff;
}

static void *liar_main(void *arg)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(3260)};
	int fd;

	(void)arg;
	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	while ((fd = accept(liar.listen_fd, NULL, NULL)) >= 0) {
		int target = socket(AF_INET, SOCK_STREAM, 0);
		struct pollfd p[2] = {{fd, POLLIN, 0}, {target, POLLIN, 0}};
		bool goes_on = !connect(target, (struct sockaddr *)&sa, sizeof(sa));

		while (goes_on && poll(p, 2, -1) > 0) {
			char some[65536];
			ssize_t n;

			if (p[0].revents && liar.refuse && !refuse(fd))
				break;
			if (p[0].revents)
				usleep(liar.slow_us);
			n = p[0].revents ? recv(fd, some, sizeof(some), 0) : 1;
			if (p[0].revents && n >= 48 && (some[0] & 0x3f) == 1)
				look_at_cdb((uint8_t *)some + 32);
			liar.resets += p[0].revents && n >= 48 && (some[0] & 0x3f) == 2;
			goes_on = n > 0 && (!p[0].revents || whole(target, some, (size_t)n, true)) &&
				  (!p[1].revents || pass_answer(target, fd));
		}
		close(target);
		close(fd);
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
