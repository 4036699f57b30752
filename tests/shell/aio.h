/* SPDX-License-Identifier: GPL-2.0-or-later */
/* aio.h - a write of the kernel's asynchronous I/O, for tests with cmocka. */
#ifndef CSVFS_TESTS_SHELL_AIO_H
#define CSVFS_TESTS_SHELL_AIO_H

#include <linux/aio_abi.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What a kernel does for io_uring and libaio alone. */
static inline long write_asynchronously(int fd, const void *buf, size_t len, off_t off)
{
	struct iocb cb = {.aio_fildes = (uint32_t)fd, .aio_lio_opcode = IOCB_CMD_PWRITE,
		.aio_buf = (uint64_t)(uintptr_t)buf, .aio_nbytes = len, .aio_offset = off}, *p = &cb;
	aio_context_t ctx = 0;
	struct io_event ev = {0};

	assert_int_equal(syscall(SYS_io_setup, 4, &ctx), 0);
	assert_int_equal(syscall(SYS_io_submit, ctx, 1, &p), 1);
	assert_int_equal(syscall(SYS_io_getevents, ctx, 1, 1, &ev, NULL), 1);
	assert_int_equal(syscall(SYS_io_destroy, ctx), 0);
	return (long)ev.res;
}

#endif
