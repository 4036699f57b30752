/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mkfs.csvfs - makes a volume: asks whether something else is there, then lets metadata/image.c write
 * it. The only file that includes libblkid.
 */
#include <blkid/blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "metadata/format.h"
#include "metadata/image.h"
#include "metadata/ops.h"
#include "metadata/run_sync.h"
#include "tools/tool.h"

/* How much of a LUN is looked at for what else may be on it, at its start and at its end. */
#define PROBE_BYTES (1u << 20)
#define DISCARD_BYTES (1ull << 30)

struct mkfs {
	struct tool_volume v;
	struct image_params p;
	const char *volume, *initiator;
	uint64_t size_bytes; /* -s; 0: not given */
	bool dry, force, quiet, no_discard;
	bool created; /* the image file was made by us */
};

static void usage(FILE *f)
{
	fprintf(f, "usage: mkfs.csvfs [options] VOLUME\n"
		   "  VOLUME              image file, or iscsi://[user%%secret@]host[:port]/target/lun\n"
		   "  -C, --cluster NAME  cluster that may mount it (its corosync cluster_name);\n"
		   "                      without: for one machine at a time, without a cluster\n"
		   "  -L, --label LABEL   name for people\n"
		   "  -U, --uuid UUID     instead of a random one\n"
		   "  -c SIZE             cluster size, unit of allocation: 4K to 1M (default 64K)\n"
		   "  -j SIZE             journal size, 4M to 1G (default: 1/1024 of the volume, at most 128M)\n"
		   "  -s SIZE             size of the volume, 16M to 256T; makes the image file if there is none\n"
		   "  -n, -N              dry run: only show what would be made\n"
		   "  -f, --force         overwrite what is there\n"
		   "  -K                  do not discard what was on the LUN\n"
		   "  -q                  quiet\n"
		   "  --initiator IQN     iSCSI name to log in with\n"
		   "  -V, --version, -h, --help   version, this help\n"
		   "SIZE: bytes, or with K, M, G, T\n");
}

/* ------------------------------------------------------------------ what is there now */

/* A file of the LUN's size in memory with the LUN's first and last MiB: for libblkid. -1: failed. */
static int probe_copy(struct tool_volume *v)
{
	const uint64_t len = v->bytes < PROBE_BYTES ? v->bytes : PROBE_BYTES;
	int fd = memfd_create("probe", MFD_CLOEXEC);
	uint8_t *buf = aligned_alloc(BLOCK_SIZE, PROBE_BYTES);
	bool ok = fd >= 0 && buf && !ftruncate(fd, (off_t)v->bytes);

	ok = ok && !tool_read(v, 0, buf, len) && pwrite(fd, buf, len, 0) == (ssize_t)len;
	ok = ok && !tool_read(v, v->bytes - len, buf, len) &&
	     pwrite(fd, buf, len, (off_t)(v->bytes - len)) == (ssize_t)len;
	free(buf);
	if (ok)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

/* What libblkid knows by name, or empty. False: could not look. */
static bool probe_blkid(int fd, char *out, size_t out_bytes)
{
	blkid_probe pr = blkid_new_probe();
	const char *type = NULL;
	bool ok;

	out[0] = 0;
	ok = pr && !blkid_probe_set_device(pr, fd, 0, 0);
	if (ok) {
		blkid_probe_enable_superblocks(pr, 1);
		blkid_probe_enable_partitions(pr, 1);
		ok = blkid_do_safeprobe(pr) != -1;
	}
	if (ok && (!blkid_probe_lookup_value(pr, "TYPE", &type, NULL) ||
			  !blkid_probe_lookup_value(pr, "PTTYPE", &type, NULL)))
		snprintf(out, out_bytes, "%s", type);
	if (pr)
		blkid_free_probe(pr);
	return ok;
}

/* libblkid does not know csvfs. */
static bool is_csvfs(struct tool_volume *v, char *out, size_t out_bytes)
{
	struct disk_super *s = aligned_alloc(BLOCK_SIZE, BLOCK_SIZE);
	bool found = s && !tool_read(v, 0, s, BLOCK_SIZE) && le32_get(s->h.magic) == MAGIC_SUPER;

	if (found && s->label[0])
		snprintf(out, out_bytes, "csvfs, with label \"%.*s\"", (int)sizeof(s->label), s->label);
	else if (found)
		snprintf(out, out_bytes, "csvfs");
	free(s);
	return found;
}

/*
 * A volume of this uuid is here. Not with -f either: what it wrote, anywhere on the LUN, passes for the new one's, and is of later transactions than
 * that begins with. Replay takes such a block, or a record of the old journal, for proof that records are lost.
 */
static bool uuid_was_here(struct mkfs *m)
{
	const uint64_t at[] = {SUPER_BLOCK, SUPER_COPY_BLOCK, m->v.bytes / BLOCK_SIZE - 1};
	struct disk_super *s = m->created ? NULL : aligned_alloc(BLOCK_SIZE, BLOCK_SIZE);
	bool found = false;
	char uuid[37];

	for (size_t i = 0; s && !found && i < sizeof(at) / sizeof(at[0]); i++)
		found = !tool_read(&m->v, at[i] * BLOCK_SIZE, s, BLOCK_SIZE) &&
			le32_get(s->h.magic) == MAGIC_SUPER &&
			!memcmp(s->h.uuid, m->p.uuid, sizeof(m->p.uuid));
	free(s);
	if (found)
		tool_error("%s: the volume that is there has the uuid %s; what it left there would be taken for the new one's: "
			   "give another one, or none",
			m->v.name, tool_uuid_text(m->p.uuid, uuid));
	return found;
}

static bool may_overwrite(struct mkfs *m)
{
	char what[160] = "";
	bool looked = true;
	int fd;

	if (uuid_was_here(m))
		return false;
	if (m->force || m->created)
		return true;
	if (!is_csvfs(&m->v, what, sizeof(what))) {
		fd = m->v.info->is_file ? open(m->volume, O_RDONLY | O_CLOEXEC) : probe_copy(&m->v);
		looked = fd >= 0 && probe_blkid(fd, what, sizeof(what));
		if (fd >= 0)
			close(fd);
	}
	if (!looked) {
		tool_error("%s: cannot tell what is there; use -f to overwrite it", m->v.name);
		return false;
	}
	if (!what[0])
		return true;
	tool_error("%s contains %s; use -f to overwrite it", m->v.name, what);
	return false;
}

/*
 * Registrations of nodes that died would refuse our writes: they go, with -f, if nobody beats. One that the last node left on purpose
 * stays, and the new volume's claim says so: a fenced node would write to the new volume as well as to the old one.
 */
static bool may_write(struct mkfs *m)
{
	char text[400];

	switch (tool_use_of(&m->v, text, sizeof(text))) {
	case TOOL_FREE:
	case TOOL_UNCLEAN:
		if (m->v.kept && !m->quiet)
			tool_error("%s: %s", m->v.name, text);
		return true;
	case TOOL_MOUNTED:
		tool_error("%s is %s; unmount it on every node first", m->v.name, text);
		return false;
	case TOOL_REGISTERED:
		if (!m->force) {
			tool_error("%s: %s; use -f if no node uses it any more", m->v.name, text);
			return false;
		}
		tool_error("%s: %s: they are removed, and who is still alive can write here", m->v.name, text);
		return m->dry || tool_clear_registrations(&m->v);
	case TOOL_UNKNOWN:
		tool_error("%s: %s", m->v.name, text);
		return false;
	}
	return false;
}

/* ------------------------------------------------------------------ an image file */

/* Makes the file if there is none. False: told why. */
static bool prepare_image(struct mkfs *m)
{
	struct stat st;
	int fd;

	if (!strncmp(m->volume, "iscsi://", 8))
		return true;
	if (!stat(m->volume, &st))
		return true; /* made longer only once it is known that nobody uses it: format() */
	if (errno != ENOENT) {
		tool_error("%s: %s", m->volume, strerror(errno));
		return false;
	}
	if (!m->size_bytes) {
		tool_error("%s: there is no such file; give its size with -s to make it", m->volume);
		return false;
	}
	if (m->dry)
		return true;
	fd = open(m->volume, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)m->size_bytes)) {
		tool_error("%s: cannot make it: %s", m->volume, strerror(errno));
		if (fd >= 0) {
			close(fd);
			unlink(m->volume);
		}
		return false;
	}
	close(fd);
	m->created = true;
	return true;
}

/* The file is shorter than -s says: made longer, and opened again so that its size is known. */
static bool grow_image(struct mkfs *m)
{
	if (!m->v.info->is_file || m->v.info->lun_bytes >= m->size_bytes)
		return true;
	tool_close(&m->v);
	if (truncate(m->volume, (off_t)m->size_bytes)) {
		tool_error("%s: cannot make it longer: %s", m->volume, strerror(errno));
		return false;
	}
	return tool_open(&m->v, m->volume, m->initiator, 0);
}

/* ------------------------------------------------------------------ making it */

static void discard(struct mkfs *m)
{
	struct lun_cmd cmd = {.op = LUN_UNMAP};

	if (m->no_discard || m->created || !m->v.info->unmap)
		return;
	for (uint64_t off = 0; off < m->v.bytes; off += DISCARD_BYTES) {
		cmd.off = off;
		cmd.len = m->v.bytes - off < DISCARD_BYTES ? m->v.bytes - off : DISCARD_BYTES;
		/* It only saves space on the target; what it does not do is no fault. */
		if (bdev_sync_cmd(m->v.dev, &cmd, NULL, NULL) != LUN_OK)
			return;
	}
}

/*
 * The superblock of an older volume that was larger: fsck.csvfs would find it at the end of the device, if those at the
 * start of the new one were lost.
 */
static bool wipe_end(struct mkfs *m)
{
	const uint64_t last = m->v.bytes - BLOCK_SIZE;
	struct disk_super *s;
	bool ok;

	if (!m->size_bytes || m->size_bytes > last)
		return true;
	s = aligned_alloc(BLOCK_SIZE, BLOCK_SIZE);
	ok = s && !tool_read(&m->v, last, s, BLOCK_SIZE);
	if (ok && le32_get(s->h.magic) == MAGIC_SUPER) {
		memset(s, 0, BLOCK_SIZE);
		ok = !bdev_sync_write(m->v.dev, last, s, BLOCK_SIZE, true);
	}
	free(s);
	if (!ok)
		tool_error("%s: cannot look at its end, or write there: %s", m->v.name,
			bdev_sync_text(m->v.dev));
	return ok;
}

static bool show(const struct mkfs *m, const struct sync_dev *dev)
{
	struct disk_super *s = aligned_alloc(BLOCK_SIZE, BLOCK_SIZE);
	char uuid[37], size[32], cluster[32], journal[32], reserve[32];
	bool ok = s && !dev->read(dev->ctx, 0, s, BLOCK_SIZE);

	if (ok && !m->quiet) {
		const uint64_t cluster_bytes = le32_get(s->cluster_bytes);
		const uint64_t reserve_bytes = le64_get(s->reserve_clusters) * cluster_bytes;

		printf("%s%s\n", m->v.name, m->dry ? " (dry run: nothing is written)" : "");
		printf("  uuid=%s label=\"%s\"\n", tool_uuid_text(s->h.uuid, uuid), s->label);
		printf("  cluster=%s\n", s->cluster_name[0] ? s->cluster_name : "none (standalone)");
		printf("  size=%s clusters=%" PRIu64 " of %s in %" PRIu64 " groups\n",
			tool_size_text(le64_get(s->volume_bytes), size, sizeof(size)),
			le64_get(s->cluster_count),
			tool_size_text(cluster_bytes, cluster, sizeof(cluster)),
			le64_get(s->group_count));
		printf("  journal=%s at block %" PRIu64 " reserve=%s\n",
			tool_size_text(le64_get(s->journal_blocks) * BLOCK_SIZE, journal, sizeof(journal)),
			le64_get(s->journal_start),
			tool_size_text(reserve_bytes, reserve, sizeof(reserve)));
		printf("  data from block %" PRIu64 "%s%s\n", le64_get(s->data_start),
			s->lun_identity[0] ? " lun=" : "", s->lun_identity);
	}
	free(s);
	return ok;
}

static int make(struct mkfs *m, const struct sync_dev *dev)
{
	char why[256] = "";
	int err = run_sync_mkfs(dev, &m->p, &metadata_ops, NULL, why);

	if (err) {
		tool_error("%s: %s", m->v.name, why[0] ? why : strerror(-err));
		return 1;
	}
	return show(m, dev) ? 0 : 1;
}

/* On a device in memory: shows what would be, and finds what is wrong with the options. */
static int make_dry(struct mkfs *m, uint64_t bytes)
{
	struct run_sync_mem_dev *mem = run_sync_mem_new(bytes);
	struct sync_dev dev;
	int status;

	if (!mem) {
		tool_error("no memory");
		return 1;
	}
	dev = run_sync_mem_dev(mem);
	status = make(m, &dev);
	run_sync_mem_free(mem);
	return status;
}

static int format(struct mkfs *m)
{
	struct sync_dev dev;

	if (!may_write(m) || !may_overwrite(m))
		return 1;
	m->p.lun_identity = m->v.info->identity;
	if (m->dry)
		return make_dry(m, m->size_bytes ? m->size_bytes : m->v.bytes);
	if (!grow_image(m))
		return 1;
	if (m->v.info->readonly) {
		tool_error("%s: is write protected", m->v.name);
		return 1;
	}
	m->p.lun_identity = m->v.info->identity;
	if (m->v.kept)
		m->p.before = &m->v.judged;
	if (!tool_register(&m->v) || !tool_drain(&m->v))
		return 1;
	discard(m);
	if (!wipe_end(m))
		return 1;
	dev = tool_sync_dev(&m->v);
	return make(m, &dev);
}

static int run(struct mkfs *m)
{
	struct stat st;
	int status;

	if (!prepare_image(m))
		return 1;
	/* A dry run for a file that does not exist has nothing to open. */
	if (m->dry && strncmp(m->volume, "iscsi://", 8) && stat(m->volume, &st)) {
		snprintf(m->v.name, sizeof(m->v.name), "%s", m->volume);
		return make_dry(m, m->size_bytes);
	}
	if (!tool_open(&m->v, m->volume, m->initiator, m->dry ? TOOL_READONLY : 0))
		return 1;
	status = format(m);
	tool_close(&m->v);
	if (status && m->created)
		unlink(m->volume);
	return status;
}

/* ------------------------------------------------------------------ options */

static bool size_option(char o, const char *s, uint64_t *bytes)
{
	if (tool_parse_size(s, bytes) && *bytes)
		return true;
	tool_error("-%c %s: no size; a number of bytes, or with K, M, G or T: 500G", o, s);
	return false;
}

static bool name_option(const char *what, const char *s, const char **out)
{
	if (strlen(s) >= sizeof(((struct disk_super *)0)->label)) {
		tool_error("%s is longer than %zu bytes", what,
			sizeof(((struct disk_super *)0)->label) - 1);
		return false;
	}
	/* It is shown on terminals, and stands in lines of /dev/disk and of logs. */
	for (const char *p = s; *p; p++) {
		if ((unsigned char)*p < ' ' || *p == 127) {
			tool_error("%s has a control character (0x%02x) in it", what, (unsigned char)*p);
			return false;
		}
	}
	*out = s;
	return true;
}

static bool option(struct mkfs *m, int o)
{
	uint64_t v;

	switch (o) {
	case 'C':
		return name_option("the cluster's name", optarg, &m->p.cluster_name);
	case 'L':
		return name_option("the label", optarg, &m->p.label);
	case 'U':
		if (!tool_parse_uuid(optarg, m->p.uuid)) {
			tool_error("-U %s: no UUID (32 hexadecimal digits, as uuidgen makes it)", optarg);
			return false;
		}
		for (size_t i = 0; i < sizeof(m->p.uuid); i++)
			if (m->p.uuid[i])
				return true;
		tool_error("-U %s: the nil UUID is no volume's: each needs one of its own", optarg);
		return false;
	case 'c':
		if (!size_option('c', optarg, &v))
			return false;
		if (v < CLUSTER_MIN || v > CLUSTER_MAX || (v & (v - 1))) {
			tool_error("-c %s: a power of two from 4K to 1M", optarg);
			return false;
		}
		m->p.cluster_bytes = (uint32_t)v;
		return true;
	case 'j':
		return size_option('j', optarg, &m->p.journal_bytes);
	case 's':
		if (!size_option('s', optarg, &m->size_bytes))
			return false;
		/* Rounded it may be 0, which is: not given. */
		if (m->size_bytes < IMAGE_BYTES_MIN || m->size_bytes > VOLUME_BYTES_MAX) {
			tool_error("-s %s: the volume must be from 16 MiB to 256 TiB", optarg);
			return false;
		}
		m->size_bytes = m->size_bytes / BLOCK_SIZE * BLOCK_SIZE;
		m->p.volume_bytes = m->size_bytes;
		return true;
	case 'n': /* as here, or as mkfs.xfs says it */
	case 'N':
		m->dry = true;
		return true;
	case 'f':
		m->force = true;
		return true;
	case 'q':
		m->quiet = true;
		return true;
	case 'K':
		m->no_discard = true;
		return true;
	case 'i':
		m->initiator = optarg;
		return true;
	}
	usage(stderr);
	return false;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {{"cluster", required_argument, NULL, 'C'},
		{"label", required_argument, NULL, 'L'}, {"uuid", required_argument, NULL, 'U'},
		{"force", no_argument, NULL, 'f'}, {"initiator", required_argument, NULL, 'i'},
		{"help", no_argument, NULL, 'h'}, {"version", no_argument, NULL, 'V'},
		{NULL, 0, NULL, 0}};
	static struct mkfs m;
	struct timespec now;
	int o;

	tool_name = "mkfs.csvfs";
	tool_random(m.p.uuid, sizeof(m.p.uuid));
	m.p.uuid[6] = (uint8_t)((m.p.uuid[6] & 0x0f) | 0x40); /* RFC 4122, version 4 */
	m.p.uuid[8] = (uint8_t)((m.p.uuid[8] & 0x3f) | 0x80);
	tool_random(m.p.dir_hash_key, sizeof(m.p.dir_hash_key));
	clock_gettime(CLOCK_REALTIME, &now);
	m.p.time_ns = (int64_t)now.tv_sec * (int64_t)NS_PER_SEC + now.tv_nsec;
	while ((o = getopt_long(argc, argv, "C:L:U:c:j:s:nNfqKVh", longs, NULL)) != -1) {
		if (o == 'V') {
			printf("mkfs.csvfs %s\n", CSVFS_VERSION);
			return 0;
		}
		if (o == 'h') {
			usage(stdout);
			return 0;
		}
		if (!option(&m, o))
			return 1;
	}
	if (optind + 1 != argc) {
		usage(stderr);
		return 1;
	}
	m.volume = argv[optind];
	return run(&m);
}
