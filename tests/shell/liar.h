/* SPDX-License-Identifier: GPL-2.0-or-later */
/* liar.h - between sessions and the tgtd of target.h, for answers that tgtd does not give; most are meant for one session alone. */
#ifndef TESTS_SHELL_LIAR_H
#define TESTS_SHELL_LIAR_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "csvfs/bdev.h"

#define LIAR_PORT 3262
#define LIAR_URL "iscsi://127.0.0.1:3262/iqn.2026-11.test:lun/1"

#define LIAR_HANGS_UP 0xffff /* of login_refused: without an answer */

/* What a SCSI Response (RFC 7143, 11.4) is made into on its way. */
struct lie {
	const char *what;
	uint8_t status, sense[18], sense_bytes;
	enum lun_status is;
};

struct liar {
	int listen_fd;
	const struct lie *_Atomic lie;
	_Atomic bool once; /* the next answer is the last one that is a lie */
	_Atomic bool tas; /* set in the control mode page */
	_Atomic bool no_fua; /* DPOFUA of the mode parameter header is taken away */
	_Atomic uint32_t busy; /* this command is answered with that status, whatever the target says */
	_Atomic uint8_t status;
	_Atomic uint8_t early; /* with this status a write ends right after the target has asked for its data */
	_Atomic uint32_t refuse; /* so many commands are answered with BUSY before the first one of them is read */
	_Atomic uint32_t wait_ms; /* before each of the three above that is meant for one time: nothing is read for so long */
	_Atomic uint32_t slow_us; /* before each 64 KiB that are read */
	_Atomic uint32_t silent; /* so many commands are done, and not answered */
	_Atomic uint8_t management; /* in place of the target's answer to task management, if it is not 0; 255: there is none */
	_Atomic bool hold; /* behind that nothing is read */
	const char *_Atomic vendor; /* in INQUIRY, and in page 83h; 8 characters */
	/* A target that says it is LIO, and who is registered there: in place of tgtd's answer to READ FULL STATUS, which it does not know. */
	_Atomic bool is_lio;
	uint8_t full[1024];
	_Atomic uint32_t full_bytes;
	const char *_Atomic login_of; /* a login by that name waits for `login_waits` to go, and is refused so (RFC 7143, 11.13.5) */
	_Atomic bool login_waits;
	_Atomic uint32_t login_refused, logins; /* ... and so many have come, the last one with that ISID */
	uint8_t login_isid[6];
	_Atomic uint32_t cdb, fuas, flushes; /* the last command; how many of these came */
	_Atomic uint32_t resets; /* ... of task management, each sent behind a pause */
	uint8_t serials[12]; /* of the target's last PDU: StatSN, ExpCmdSN, MaxCmdSN */
	pthread_t thread;
};

extern struct liar liar;

void liar_start(void);
void liar_stop(void);

#endif
