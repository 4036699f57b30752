/* SPDX-License-Identifier: GPL-2.0-or-later */
/* target.h - a tgtd of the test's own, on the loopback of a network namespace of the test's own. */
#ifndef TESTS_SHELL_TARGET_H
#define TESTS_SHELL_TARGET_H

#include <stdbool.h>

#define TARGET_URL "iscsi://127.0.0.1:3260/iqn.2026-11.test:lun/1"
#define TARGET_BYTES (64ull << 20)

/* False: this machine cannot (not root, no tgtd); the test is to be skipped. */
bool target_up(void);
void target_down(void);

/* kill -9, and a new one on the same file: it has forgotten registrations and sessions. */
void target_kill(void);
void target_start(void);
void target_signal(int sig);

/* While on, writes that tgtd has taken do not land and are not answered. */
void target_hold(bool on);

/* tgtadm with these arguments; its exit status. */
int target_admin(const char *args);

const char *target_image(void); /* path of the file behind the LUN */

#endif
