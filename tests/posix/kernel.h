/* SPDX-License-Identifier: GPL-2.0-or-later */
/* kernel.h - what the running kernel's FUSE can do. */
#ifndef POSIX_KERNEL_H
#define POSIX_KERNEL_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/utsname.h>

/* Since Linux 6.6 it maps files shared that are opened for direct I/O, and asks for birth times. */
static inline bool kernel_has_66(void)
{
	unsigned major = 0, minor = 0;
	struct utsname u;

	if (uname(&u))
		return false;
	(void)sscanf(u.release, "%u.%u", &major, &minor);
	return major > 6 || (major == 6 && minor >= 6);
}

#endif
