/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * csvdb - looks into a volume, block by block, and changes single fields for tests. It shows what
 * stands in place: what only the journal has is shown by `journal`.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "csvfs/base/fsreq.h"
#include "tools/dump.h"
#include "tools/tool.h"

struct db {
	struct tool_volume v;
	union {
		struct disk_super super;
		uint8_t super_block[BLOCK_SIZE];
	};
	bool seal;
};

struct command {
	const char *name, *args, *help;
	int min, max;
	bool write;
	int (*run)(struct db *db, int argc, char **argv);
};

static bool to_number(const char *s, uint64_t *v)
{
	char *end;

	errno = 0;
	*v = strtoull(s, &end, 0);
	return !errno && end != s && !*end && *s != '-';
}

static bool number(const char *s, uint64_t *v)
{
	if (to_number(s, v))
		return true;
	tool_error("%s: no number", s);
	return false;
}

static bool read_block(struct db *db, uint64_t blkno, uint8_t block[BLOCK_SIZE])
{
	int err;

	if (blkno >= db->v.bytes / BLOCK_SIZE) {
		tool_error("block %" PRIu64 ": the volume has %" PRIu64, blkno, db->v.bytes / BLOCK_SIZE);
		return false;
	}
	err = tool_read(&db->v, blkno * BLOCK_SIZE, block, BLOCK_SIZE);
	if (err)
		tool_error("block %" PRIu64 ": %s", blkno, bdev_sync_text(db->v.dev));
	return !err;
}

/* A block number, or a name for one: sb, sb2, claim, claim2, journal, summary:N, group:N, last. */
static bool place(struct db *db, const char *s, uint64_t *blkno)
{
	const char *colon = strchr(s, ':');
	uint64_t n = 0;

	if (colon && !number(colon + 1, &n))
		return false;
	if (!strcmp(s, "sb"))
		*blkno = SUPER_BLOCK;
	else if (!strcmp(s, "sb2"))
		*blkno = SUPER_COPY_BLOCK;
	else if (!strcmp(s, "last"))
		*blkno = le64_get(db->super.block_count) - 1;
	else if (!strcmp(s, "claim"))
		*blkno = CLAIM_BLOCK;
	else if (!strcmp(s, "claim2"))
		*blkno = CLAIM_BLOCK + 1;
	else if (!strncmp(s, "journal:", 8))
		*blkno = le64_get(db->super.journal_start) + n;
	else if (!strncmp(s, "summary:", 8))
		*blkno = le64_get(db->super.summary_start) + n;
	else if (!strncmp(s, "group:", 6))
		*blkno = le64_get(db->super.group_start) + n;
	else if (!strncmp(s, "reply:", 6))
		*blkno = le64_get(db->super.reply_start) + n;
	else
		return number(s, blkno);
	return true;
}

/* ------------------------------------------------------------------ inodes and trees */

static bool read_inode(struct db *db, uint64_t ino, struct disk_inode *out)
{
	union {
		struct disk_inode_block b;
		uint8_t block[BLOCK_SIZE];
	} u;

	if (!INO_SLOT(ino)) {
		tool_error("%" PRIu64 " cannot be the number of an inode", ino);
		return false;
	}
	if (!read_block(db, INO_BLOCK(ino), u.block))
		return false;
	if (le32_get(u.b.h.magic) != MAGIC_INODE) {
		tool_error("inode %" PRIu64 ": block %" PRIu64 " holds no inodes", ino, INO_BLOCK(ino));
		return false;
	}
	*out = u.b.slot[INO_SLOT(ino) - 1];
	if (!le32_get(out->mode)) {
		tool_error("inode %" PRIu64 " is free", ino);
		return false;
	}
	return true;
}

typedef bool record_fn(void *ctx, uint64_t key, const uint8_t *value, uint32_t len);

/* False: ended by fn, or damaged. The level falls with each step down, so damage cannot make a loop. */
static bool walk(struct db *db, const uint8_t *node, uint32_t bytes, uint32_t max_level,
	record_fn *fn, void *ctx)
{
	struct disk_node n;
	struct disk_slot s;

	memcpy(&n, node, sizeof(n));
	if (n.level > max_level || sizeof(n) + le16_get(n.count) * sizeof(s) > bytes) {
		tool_error("damaged tree; see fsck.csvfs");
		return false;
	}
	for (uint32_t i = 0; i < le16_get(n.count); i++) {
		uint32_t off, len;

		memcpy(&s, node + sizeof(n) + i * sizeof(s), sizeof(s));
		off = le16_get(s.off);
		len = le16_get(s.len);
		if (off > bytes || len > bytes - off || (n.level && len != 8)) {
			tool_error("damaged tree; see fsck.csvfs");
			return false;
		}
		if (n.level) {
			uint8_t block[BLOCK_SIZE];
			le64 child;

			memcpy(&child, node + off, 8);
			if (!read_block(db, le64_get(child), block) ||
				!walk(db, block + sizeof(struct disk_header), TREE_NODE_BYTES, n.level - 1u,
					fn, ctx))
				return false;
		} else if (!fn(ctx, le64_get(s.key), node + off, len)) {
			return false;
		}
	}
	return true;
}

static bool print_entry(void *ctx, uint64_t key, const uint8_t *value, uint32_t len)
{
	struct disk_dirent d;

	(void)ctx;
	if (len < sizeof(d))
		return true;
	memcpy(&d, value, sizeof(d));
	printf("%12" PRIu64 "  %-12s %20" PRIu64 "  ", le64_get(d.ino),
		dump_type_name((uint32_t)d.type << 12), key);
	dump_name(value + sizeof(d), (uint32_t)(len - sizeof(d)));
	putchar('\n');
	return true;
}

struct lookup {
	const char *name;
	size_t len;
	uint64_t ino;
};

static bool match_entry(void *ctx, uint64_t key, const uint8_t *value, uint32_t len)
{
	struct lookup *l = ctx;
	struct disk_dirent d;

	(void)key;
	if (len != sizeof(d) + l->len || memcmp(value + sizeof(d), l->name, l->len))
		return true;
	memcpy(&d, value, sizeof(d));
	l->ino = le64_get(d.ino);
	return false;
}

static bool is_dir(const struct disk_inode *d, uint64_t ino)
{
	if (S_ISDIR(le32_get(d->mode)))
		return true;
	tool_error("inode %" PRIu64 " is no directory", ino);
	return false;
}

struct where {
	uint64_t cluster;
	struct disk_extent found;
	uint64_t at;
};

static bool match_extent(void *ctx, uint64_t key, const uint8_t *value, uint32_t len)
{
	struct where *w = ctx;
	struct disk_extent d;

	if (len != sizeof(d))
		return true;
	memcpy(&d, value, sizeof(d));
	if (w->cluster < key || w->cluster - key >= le32_get(d.len))
		return true;
	w->found = d;
	w->at = key;
	return false;
}

/* ------------------------------------------------------------------ commands */

static int cmd_block(struct db *db, int argc, char **argv)
{
	uint8_t block[BLOCK_SIZE];
	uint64_t blkno;

	(void)argc;
	if (!place(db, argv[0], &blkno) || !read_block(db, blkno, block))
		return 1;
	printf("%-24s %" PRIu64 "\n", "block", blkno);
	dump_block(block);
	return 0;
}

static int cmd_sb(struct db *db, int argc, char **argv)
{
	char *sb[] = {(char *)"sb"};

	(void)argc;
	(void)argv;
	return cmd_block(db, 1, sb);
}

static int cmd_claim(struct db *db, int argc, char **argv)
{
	char *one[] = {(char *)"claim"}, *two[] = {(char *)"claim2"};

	(void)argc;
	(void)argv;
	return cmd_block(db, 1, one) | cmd_block(db, 1, two);
}

static int cmd_group(struct db *db, int argc, char **argv)
{
	uint8_t block[BLOCK_SIZE];
	const struct disk_summary *s = (const struct disk_summary *)block;
	uint64_t n;

	(void)argc;
	if (!number(argv[0], &n))
		return 1;
	if (n >= le64_get(db->super.group_count)) {
		tool_error("the volume has %" PRIu64 " groups", le64_get(db->super.group_count));
		return 1;
	}
	if (!read_block(db, le64_get(db->super.summary_start) + n / SUMMARY_PER_BLOCK, block))
		return 1;
	printf("%-24s %u free clusters, flags 0x%x\n", "summary",
		le16_get(s->e[n % SUMMARY_PER_BLOCK].free_clusters),
		le16_get(s->e[n % SUMMARY_PER_BLOCK].flags));
	if (!(le16_get(s->e[n % SUMMARY_PER_BLOCK].flags) & SUMMARY_INIT)) {
		printf("never used: its block was not written yet\n");
		return 0;
	}
	if (!read_block(db, le64_get(db->super.group_start) + n, block))
		return 1;
	printf("%-24s %" PRIu64 "\n", "block", le64_get(db->super.group_start) + n);
	dump_block(block);
	return 0;
}

static int cmd_inode(struct db *db, int argc, char **argv)
{
	struct disk_inode d;
	uint64_t ino;

	(void)argc;
	if (!number(argv[0], &ino) || !read_inode(db, ino, &d))
		return 1;
	dump_inode(&d);
	return 0;
}

static int cmd_ls(struct db *db, int argc, char **argv)
{
	struct disk_inode d;
	uint64_t ino = le64_get(db->super.root_ino);

	if ((argc && !number(argv[0], &ino)) || !read_inode(db, ino, &d) || !is_dir(&d, ino))
		return 1;
	return walk(db, d.area, INODE_INLINE_BYTES, TREE_LEVELS_MAX - 1, print_entry, NULL) ? 0 : 1;
}

static int cmd_path(struct db *db, int argc, char **argv)
{
	uint64_t ino = le64_get(db->super.root_ino);
	struct disk_inode d;
	const char *p = argv[0];

	(void)argc;
	for (;;) {
		struct lookup l = {.name = p + strspn(p, "/")};

		l.len = strcspn(l.name, "/");
		if (!l.len)
			break;
		p = l.name + l.len;
		if (!read_inode(db, ino, &d) || !is_dir(&d, ino))
			return 1;
		(void)walk(db, d.area, INODE_INLINE_BYTES, TREE_LEVELS_MAX - 1, match_entry, &l);
		if (!l.ino) {
			tool_error("%.*s: no such name", (int)(p - argv[0]), argv[0]);
			return 1;
		}
		ino = l.ino;
	}
	if (!read_inode(db, ino, &d))
		return 1;
	dump_inode(&d);
	return 0;
}

static int cmd_where(struct db *db, int argc, char **argv)
{
	const uint64_t cluster_bytes = le32_get(db->super.cluster_bytes);
	struct where w = {0};
	struct disk_inode d;
	uint64_t ino, off, cluster;

	(void)argc;
	if (!number(argv[0], &ino) || !tool_parse_size(argv[1], &off) || !read_inode(db, ino, &d))
		return 1;
	if (!S_ISREG(le32_get(d.mode))) {
		tool_error("inode %" PRIu64 " is no regular file", ino);
		return 1;
	}
	w.cluster = off / cluster_bytes;
	(void)walk(db, d.area, INODE_INLINE_BYTES, TREE_LEVELS_MAX - 1, match_extent, &w);
	if (!le32_get(w.found.len)) {
		printf("hole\n");
		return 0;
	}
	cluster = le64_get(w.found.start) + w.cluster - w.at;
	printf("cluster %" PRIu64 ", byte %" PRIu64 " of the LUN, %s\n", cluster,
		cluster * cluster_bytes + off % cluster_bytes,
		le32_get(w.found.state) == EXT_UNWRITTEN ? "unwritten" :
		le32_get(w.found.state) == EXT_SHARED	 ? "shared" :
							   "written");
	return 0;
}

static void print_record(const struct disk_jrec *r, uint64_t pos)
{
	const uint32_t count = le32_get(r->count);

	printf("ring %" PRIu64 ": record %" PRIu64 " lsn %" PRIu64 " epoch %" PRIu64 "%s%s, %u blocks:", pos,
		le64_get(r->seq), le64_get(r->lsn), le64_get(r->epoch),
		le32_get(r->flags) & JREC_FIRST ? " first" : "",
		le32_get(r->flags) & JREC_LAST ? " last" : "", count);
	for (uint32_t i = 0; i < count && i < JREC_IMAGES_MAX; i++)
		printf(" %" PRIu64, le64_get(r->image[i].blkno));
	putchar('\n');
}

/* Heads, and every record that stands behind the better one's tail, needed or not. */
static int cmd_journal(struct db *db, int argc, char **argv)
{
	const uint64_t start = le64_get(db->super.journal_start) + JOURNAL_HEADS;
	const uint64_t blocks = le64_get(db->super.journal_blocks) - JOURNAL_HEADS;
	uint64_t best = 0, pos = 0, seq = 0, seen = 0;
	uint8_t block[BLOCK_SIZE];
	struct disk_jhead h;
	struct disk_jrec r;

	(void)argc;
	(void)argv;
	for (uint64_t i = 0; i < JOURNAL_HEADS; i++) {
		if (!read_block(db, start - JOURNAL_HEADS + i, block))
			return 1;
		memcpy(&h, block, sizeof(h));
		printf("head %" PRIu64 ": count %" PRIu64 " tail %" PRIu64 " at %" PRIu64 " lsn %" PRIu64
		       ", head %" PRIu64 " lsn %" PRIu64 "%s\n",
			i, le64_get(h.count), le64_get(h.tail_seq), le64_get(h.tail_pos),
			le64_get(h.tail_lsn), le64_get(h.head_seq), le64_get(h.head_lsn),
			fields_sealed(block) ? "" : " DAMAGED");
		if (fields_sealed(block) && le64_get(h.count) >= best) {
			best = le64_get(h.count);
			pos = le64_get(h.tail_pos);
			seq = le64_get(h.tail_seq);
		}
	}
	for (; seen < blocks; seq++) {
		if (!read_block(db, start + pos % blocks, block))
			return 1;
		memcpy(&r, block, sizeof(r));
		if (le32_get(r.magic) != MAGIC_JREC || !fields_sealed(block) || le64_get(r.seq) != seq ||
			memcmp(r.uuid, db->super.h.uuid, 16))
			break;
		print_record(&r, pos % blocks);
		pos += 1 + le32_get(r.count);
		seen += 1 + le32_get(r.count);
	}
	if (!seen)
		printf("empty\n");
	return 0;
}

static bool set_text(uint8_t *p, const struct field *f, const char *value)
{
	uint32_t n = 0;
	unsigned v;

	if (f->type == FIELD_UUID)
		return tool_parse_uuid(value, p);
	if (f->type == FIELD_STRING) {
		if (strlen(value) >= f->len)
			return false;
		memset(p, 0, f->len);
		memcpy(p, value, strlen(value));
		return true;
	}
	/* All of it or nothing. */
	if (!*value || strlen(value) % 2 || strlen(value) / 2 > f->len ||
		strspn(value, "0123456789abcdefABCDEF") != strlen(value))
		return false;
	for (; value[2 * n]; n++) {
		if (sscanf(value + 2 * n, "%2x", &v) != 1)
			return false;
		p[n] = (uint8_t)v;
	}
	return true;
}

/* What the field would take. */
static void say_value(const struct field *f, const char *name, const char *value)
{
	switch (f->type) {
	case FIELD_UUID:
		tool_error("%s: %s is a UUID: 32 hexadecimal digits", value, name);
		return;
	case FIELD_STRING:
		tool_error("%s: %s is a text of at most %u bytes", value, name, f->len - 1);
		return;
	case FIELD_BYTES:
		tool_error("%s: %s is bytes, two hexadecimal digits for each, at most %u bytes; those behind "
			   "the last one stay",
			value, name, f->len);
		return;
	case FIELD_BIT:
		tool_error("%s: %s is a bit: 0 or 1", value, name);
		return;
	case FIELD_U8:
	case FIELD_U16:
	case FIELD_U32:
	case FIELD_HEX32:
	case FIELD_MODE:
	case FIELD_U64:
	case FIELD_HEX64:
	case FIELD_TIME:
		tool_error("%s: %s is a number of %u bits (0x... or 0... are understood)", value, name,
			8 * field_bytes(f));
		return;
	}
}

static bool set_field(uint8_t *block, const char *name, const char *value)
{
	const struct block_layout *l;
	const struct field *f;
	uint64_t v = 0, off;
	uint32_t at;
	le32 magic;

	/* Any byte of any block, by its place. */
	if (!strncmp(name, "byte[", 5)) {
		off = strtoull(name + 5, NULL, 0);
		if (off >= BLOCK_SIZE || !number(value, &v) || v > 255)
			return false;
		block[off] = (uint8_t)v;
		return true;
	}
	memcpy(&magic, block, sizeof(magic));
	l = fields_of(le32_get(magic));
	f = l ? field_find(l, name, &at) : NULL;
	if (!f) {
		tool_error("%s: %s has no such field", name, l ? l->name : "what is no metadata block");
		return false;
	}
	if (!field_is_number(f) ? !set_text(block + field_offset(f, at), f, value) :
				  !to_number(value, &v) || !field_set(block, f, at, v)) {
		say_value(f, name, value);
		return false;
	}
	return true;
}

static int cmd_set(struct db *db, int argc, char **argv)
{
	uint8_t block[BLOCK_SIZE];
	uint64_t blkno;
	int err;

	(void)argc;
	if (!place(db, argv[0], &blkno) || !read_block(db, blkno, block) ||
		!set_field(block, argv[1], argv[2]))
		return 1;
	/* A checksum that is set by hand stays. */
	if (db->seal && strcmp(argv[1], "crc"))
		fields_seal(block);
	err = bdev_sync_write(db->v.dev, blkno * BLOCK_SIZE, block, BLOCK_SIZE, true);
	if (err)
		tool_error("block %" PRIu64 ": %s", blkno, bdev_sync_text(db->v.dev));
	return err ? 1 : 0;
}

static const struct command commands[] = {
	{"sb", "", "the superblock", 0, 0, false, cmd_sb},
	{"block", "BLOCK", "a block, field by field", 1, 1, false, cmd_block},
	{"inode", "INO", "an inode", 1, 1, false, cmd_inode},
	{"path", "/A/B", "the inode of that name", 1, 1, false, cmd_path},
	{"ls", "[INO]", "entries of a directory", 0, 1, false, cmd_ls},
	{"where", "INO OFFSET", "where a byte of a file lies", 2, 2, false, cmd_where},
	{"journal", "", "heads and records", 0, 0, false, cmd_journal},
	{"claim", "", "who coordinates", 0, 0, false, cmd_claim},
	{"group", "N", "a group of clusters", 1, 1, false, cmd_group},
	{"set", "BLOCK FIELD VALUE", "change a field (for tests)", 3, 3, true, cmd_set},
};

/* Names for `set`, and what FORMAT.md is compared with. */
static void print_fields(void)
{
	const struct block_layout *l;

	for (uint32_t i = 0; (l = fields_layout(i)); i++)
		for (uint32_t k = 0; k < l->field_count; k++)
			printf("%s %s %u %u %u\n", l->name, l->fields[k].name,
				field_offset(&l->fields[k], 0), field_bytes(&l->fields[k]),
				l->fields[k].count);
}

static void usage(FILE *f)
{
	fprintf(f, "usage: csvdb [-f] [--no-seal] [--initiator IQN] VOLUME COMMAND...\n"
		   "       csvdb --fields\n"
		   "       csvdb -V | --version | -h | --help\n");
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		fprintf(f, "  %-8s %-18s %s\n", commands[i].name, commands[i].args, commands[i].help);
	fprintf(f, "BLOCK: a number, or sb, sb2, last, claim, claim2, summary:N, group:N, journal:N, reply:N\n"
		   "-f: look at a volume that is mounted; --no-seal: leave the checksum as it is\n"
		   "--fields: list types of blocks with the name, place, size and number of each field\n");
}

enum super_state { SUPER_NOWHERE, SUPER_DAMAGED, SUPER_GOOD };

/* What is left of a volume whose superblock is not right; a good copy is taken. */
static enum super_state other_super(struct db *db)
{
	const uint64_t places[] = {SUPER_COPY_BLOCK, db->v.bytes / BLOCK_SIZE - 1};
	enum super_state state = le32_get(db->super.h.magic) == MAGIC_SUPER ? SUPER_DAMAGED : SUPER_NOWHERE;
	union {
		struct disk_header h;
		uint8_t block[BLOCK_SIZE];
	} copy;

	for (uint32_t i = 0; i < 2; i++) {
		if (places[i] >= db->v.bytes / BLOCK_SIZE || !read_block(db, places[i], copy.block) ||
			le32_get(copy.h.magic) != MAGIC_SUPER)
			continue;
		state = SUPER_DAMAGED;
		if (!fields_sealed(copy.block))
			continue;
		memcpy(db->super_block, copy.block, BLOCK_SIZE);
		return SUPER_GOOD;
	}
	return state;
}

static int run(struct db *db, const struct command *c, int argc, char **argv)
{
	char text[400];
	enum tool_use use;
	enum super_state found;

	if (c->write) {
		use = tool_use_of(&db->v, text, sizeof(text));
		if (use != TOOL_FREE && use != TOOL_UNCLEAN) {
			tool_error("%s: %s", db->v.name, text);
			return 1;
		}
		if (!tool_register(&db->v) || !tool_drain(&db->v))
			return 1;
	}
	if (!read_block(db, SUPER_BLOCK, db->super_block))
		return 1;
	if (le32_get(db->super.h.magic) == MAGIC_SUPER && fields_sealed(db->super_block))
		return c->run(db, argc, argv);
	found = other_super(db);
	tool_error("%s: %s", db->v.name,
		found == SUPER_NOWHERE ? "this is no csvfs volume" : "the superblock is damaged");
	/* Blocks can be looked at all the same; places by name need a good superblock. */
	if (found != SUPER_GOOD && strcmp(c->name, "block") && strcmp(c->name, "set") &&
		strcmp(c->name, "sb") && strcmp(c->name, "claim"))
		return 1;
	return c->run(db, argc, argv) || found == SUPER_NOWHERE;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {{"no-seal", no_argument, NULL, 's'},
		{"fields", no_argument, NULL, 'F'},
		{"initiator", required_argument, NULL, 'i'}, {"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'}, {NULL, 0, NULL, 0}};
	static struct db db = {.seal = true};
	const struct command *c = NULL;
	const char *initiator = NULL;
	bool force = false;
	int o, status;

	tool_name = "csvdb";
	while ((o = getopt_long(argc, argv, "+fVh", longs, NULL)) != -1) {
		switch (o) {
		case 'f':
			force = true;
			break;
		case 's':
			db.seal = false;
			break;
		case 'i':
			initiator = optarg;
			break;
		case 'F':
			print_fields();
			return 0;
		case 'V':
			printf("csvdb %s\n", CSVFS_VERSION);
			return 0;
		case 'h':
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return 2;
		}
	}
	for (size_t i = 0; argc - optind >= 2 && i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(argv[optind + 1], commands[i].name))
			c = &commands[i];
	if (!c && argc - optind >= 2)
		tool_error("%s: no such command", argv[optind + 1]);
	else if (argc - optind == 1)
		tool_error("%s: and which command?", argv[optind]);
	argc -= optind + 2;
	if (!c || argc < c->min || argc > c->max) {
		usage(stderr);
		return 2;
	}
	if (!tool_open(&db.v, argv[optind], initiator,
		    TOOL_WAIT | (c->write ? 0 : TOOL_READONLY) | (force && !c->write ? TOOL_NOLOCK : 0)))
		return 1;
	status = run(&db, c, argc, argv + optind + 2);
	tool_close(&db.v);
	return status;
}
