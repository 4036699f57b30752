/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fuselun - the ceiling of "FUSE in front of libiscsi": a LUN as one file, with no file system.
 *
 *   fuselun URL MOUNTPOINT          the file is MOUNTPOINT/lun; ends when it is unmounted
 *
 * Every read and write of the kernel becomes one SCSI READ(16) or WRITE(16) at the same offset; one
 * thread, one epoll loop, one session. There is no layout to look up, no gate, no lock, no lease. What
 * csvfs lacks to this is csvfs's own cost; what this lacks to the raw LUN is the price of FUSE.
 * Requests must be whole blocks of the LUN (O_DIRECT, aligned): others get EINVAL.
 */
#define FUSE_USE_VERSION 314
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define IO_BYTES_MAX (1u << 20)
#define BATCH 64 /* requests read before the LUN is served again */
#define LUN_INO 2
#define CACHE_SECONDS 1000.0

struct io {
	fuse_req_t req;
	size_t len;
	unsigned char *buf;
	struct io *next;
};

static struct {
	struct iscsi_context *ctx;
	int lun;
	uint32_t lba_bytes;
	uint64_t bytes;
	struct io *free;
} lun;

static void die(const char *what, const char *why)
{
	fprintf(stderr, "fuselun: %s: %s\n", what, why);
	exit(1);
}

static struct io *io_get(fuse_req_t req, size_t len)
{
	struct io *io = lun.free;

	if (io) {
		lun.free = io->next;
	} else {
		io = calloc(1, sizeof(*io));
		if (!io || posix_memalign((void **)&io->buf, 4096, IO_BYTES_MAX))
			die("memory", strerror(ENOMEM));
	}
	io->req = req;
	io->len = len;
	return io;
}

/* ------------------------------------------------------------------ data */

static void answered(struct iscsi_context *ctx, int status, void *data, void *priv)
{
	struct scsi_task *task = data;
	struct io *io = priv;

	if (status != SCSI_STATUS_GOOD)
		fuse_reply_err(io->req, EIO);
	else if (task->xfer_dir == SCSI_XFER_READ)
		fuse_reply_buf(io->req, (char *)io->buf, io->len);
	else
		fuse_reply_write(io->req, io->len);
	if (task)
		scsi_free_scsi_task(task);
	io->next = lun.free;
	lun.free = io;
}

static bool whole_blocks(off_t off, size_t len)
{
	return len && len <= IO_BYTES_MAX && !(((uint64_t)off | len) % lun.lba_bytes) &&
	       (uint64_t)off + len <= lun.bytes;
}

static void lun_read(
	fuse_req_t req, fuse_ino_t ino, size_t len, off_t off, struct fuse_file_info *fi)
{
	struct scsi_task *task;
	struct io *io;

	if (!whole_blocks(off, len)) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	io = io_get(req, len);
	task = iscsi_read16_task(lun.ctx, lun.lun, (uint64_t)off / lun.lba_bytes, (uint32_t)len,
		(int)lun.lba_bytes, 0, 0, 0, 0, 0, answered, io);
	if (!task)
		die("submit", iscsi_get_error(lun.ctx));
	scsi_task_add_data_in_buffer(task, (int)len, io->buf);
}

static void lun_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t len, off_t off,
	struct fuse_file_info *fi)
{
	struct io *io;

	if (!whole_blocks(off, len)) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	io = io_get(req, len);
	memcpy(io->buf, buf, len); /* the request's own buffer is used again for the next one */
	if (!iscsi_write16_task(lun.ctx, lun.lun, (uint64_t)off / lun.lba_bytes, io->buf,
		    (uint32_t)len, (int)lun.lba_bytes, 0, 0, 0, 0, 0, answered, io))
		die("submit", iscsi_get_error(lun.ctx));
}

static void lun_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	fuse_reply_err(req, 0);
}

/* ------------------------------------------------------------------ the one file */

static struct stat attributes(fuse_ino_t ino)
{
	return (struct stat){
		.st_ino = ino,
		.st_nlink = 1,
		.st_mode = ino == LUN_INO ? S_IFREG | 0600 : S_IFDIR | 0700,
		.st_size = ino == LUN_INO ? (off_t)lun.bytes : 0,
	};
}

static void lun_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st = attributes(ino);

	fuse_reply_attr(req, &st, CACHE_SECONDS);
}

static void lun_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = {.ino = LUN_INO,
		.attr = attributes(LUN_INO),
		.attr_timeout = CACHE_SECONDS,
		.entry_timeout = CACHE_SECONDS};

	if (strcmp(name, "lun"))
		fuse_reply_err(req, ENOENT);
	else
		fuse_reply_entry(req, &e);
}

static void lun_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	/* libfuse 3.14 has no field for the second flag; without it writes go one at a time. */
	struct fuse_open_out out = {.open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES};

	fuse_reply_buf(req, (char *)&out, sizeof(out));
}

static void lun_init(void *userdata, struct fuse_conn_info *conn)
{
	conn->max_write = IO_BYTES_MAX;
	conn->max_read = IO_BYTES_MAX;
	conn->max_background = 256;
	conn->want |= FUSE_CAP_ASYNC_DIO;
	conn->want &= ~(unsigned)FUSE_CAP_SPLICE_READ;
}

static const struct fuse_lowlevel_ops ops = {
	.init = lun_init,
	.lookup = lun_lookup,
	.getattr = lun_getattr,
	.open = lun_open,
	.read = lun_read,
	.write = lun_write,
	.fsync = lun_fsync,
};

/* ------------------------------------------------------------------ the loop */

static void login(const char *url_text)
{
	struct scsi_readcapacity16 *capacity;
	struct iscsi_url *url;
	struct scsi_task *task;

	lun.ctx = iscsi_create_context("iqn.2026-11.bench.csvfs:fuselun");
	url = lun.ctx ? iscsi_parse_full_url(lun.ctx, url_text) : NULL;
	if (!url)
		die(url_text, "not a LUN's URL");
	lun.lun = url->lun;
	iscsi_set_session_type(lun.ctx, ISCSI_SESSION_NORMAL);
	iscsi_set_header_digest(lun.ctx, ISCSI_HEADER_DIGEST_NONE);
	iscsi_set_noautoreconnect(lun.ctx, 1);
	iscsi_set_targetname(lun.ctx, url->target);
	if (iscsi_full_connect_sync(lun.ctx, url->portal, lun.lun))
		die(url_text, iscsi_get_error(lun.ctx));
	iscsi_destroy_url(url);
	task = iscsi_readcapacity16_sync(lun.ctx, lun.lun);
	capacity = task && task->status == SCSI_STATUS_GOOD ? scsi_datain_unmarshall(task) : NULL;
	if (!capacity)
		die(url_text, "the target does not say how large the LUN is");
	lun.lba_bytes = capacity->block_length;
	lun.bytes = (capacity->returned_lba + 1) * lun.lba_bytes;
	scsi_free_scsi_task(task);
}

static void watch(int epfd, int op, int fd, int events)
{
	struct epoll_event ev = {.events = (uint32_t)events, .data.fd = fd};

	if (epoll_ctl(epfd, op, fd, &ev))
		die("epoll_ctl", strerror(errno));
}

static void serve_fuse(struct fuse_session *se, struct fuse_buf *buf)
{
	for (int i = 0; i < BATCH && fuse_session_receive_buf(se, buf) > 0; i++)
		fuse_session_process_buf(se, buf);
}

static void loop(struct fuse_session *se)
{
	int epfd = epoll_create1(EPOLL_CLOEXEC);
	int fuse_fd = fuse_session_fd(se), lun_fd = iscsi_get_fd(lun.ctx);
	int armed = iscsi_which_events(lun.ctx), n;
	struct epoll_event evs[2];
	struct fuse_buf buf = {0};

	(void)fcntl(fuse_fd, F_SETFL, fcntl(fuse_fd, F_GETFL) | O_NONBLOCK);
	watch(epfd, EPOLL_CTL_ADD, fuse_fd, EPOLLIN);
	watch(epfd, EPOLL_CTL_ADD, lun_fd, armed);
	while (!fuse_session_exited(se)) {
		int want = iscsi_which_events(lun.ctx);

		if (want != armed)
			watch(epfd, EPOLL_CTL_MOD, lun_fd, want);
		armed = want;
		n = epoll_wait(epfd, evs, 2, -1);
		for (int i = 0; i < n; i++) {
			if (evs[i].data.fd == fuse_fd)
				serve_fuse(se, &buf);
			else if (iscsi_service(lun.ctx, (int)evs[i].events) < 0)
				die("connection", iscsi_get_error(lun.ctx));
		}
		/* What was submitted goes out at once, not with the next POLLOUT. */
		if ((iscsi_which_events(lun.ctx) & POLLOUT) && iscsi_service(lun.ctx, POLLOUT) < 0)
			die("connection", iscsi_get_error(lun.ctx));
	}
	free(buf.mem);
	close(epfd);
}

int main(int argc, char **argv)
{
	char *fuse_argv[] = {argv[0], "-o", "max_read=1048576,fsname=fuselun", NULL};
	struct fuse_args args = FUSE_ARGS_INIT(3, fuse_argv);
	struct fuse_session *se;

	if (argc != 3) {
		fprintf(stderr, "usage: fuselun URL MOUNTPOINT\n");
		return 2;
	}
	login(argv[1]);
	se = fuse_session_new(&args, &ops, sizeof(ops), NULL);
	if (!se || fuse_set_signal_handlers(se) || fuse_session_mount(se, argv[2]))
		die(argv[2], "cannot mount");
	loop(se);
	fuse_session_unmount(se);
	fuse_session_destroy(se);
	iscsi_destroy_context(lun.ctx);
	return 0;
}
