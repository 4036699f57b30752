/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/dump.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "csvfs/base/fsreq.h"
#include "tools/tool.h"

static void print_bytes(const uint8_t *p, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		printf("%02x", p[i]);
}

static void print_string(const uint8_t *p, uint32_t n)
{
	putchar('"');
	for (uint32_t i = 0; i < n && p[i]; i++) {
		if (isprint(p[i]) && p[i] != '"' && p[i] != '\\')
			putchar(p[i]);
		else
			printf("\\x%02x", p[i]);
	}
	putchar('"');
}

void dump_name(const void *name, uint32_t n)
{
	const uint8_t *p = name;

	for (uint32_t i = 0; i < n; i++) {
		if (p[i] < ' ' || p[i] == 127 || p[i] == '\\')
			printf("\\x%02x", p[i]);
		else
			putchar(p[i]);
	}
}

static void print_time(uint64_t v)
{
	const int64_t ns = (int64_t)v;
	int64_t sec = ns / (int64_t)NS_PER_SEC, rest = ns % (int64_t)NS_PER_SEC;
	struct tm tm;
	char text[64];
	time_t t;

	if (rest < 0) {
		rest += (int64_t)NS_PER_SEC;
		sec--;
	}
	t = (time_t)sec;
	if (!ns || !gmtime_r(&t, &tm) || !strftime(text, sizeof(text), "%F %T", &tm))
		printf("%" PRId64, ns);
	else
		printf("%" PRId64 " (%s.%09" PRId64 " UTC)", ns, text, rest);
}

void dump_value(const void *block, const struct field *f, uint32_t at)
{
	const uint8_t *p = (const uint8_t *)block + field_offset(f, at);
	char uuid[37];
	uint64_t v = 0;

	(void)field_get(block, f, at, &v); /* false: no number; v is not used then */
	switch (f->type) {
	case FIELD_U8:
	case FIELD_U16:
	case FIELD_U32:
	case FIELD_U64:
	case FIELD_BIT:
		printf("%" PRIu64, v);
		break;
	case FIELD_HEX32:
	case FIELD_HEX64:
		printf("0x%" PRIx64, v);
		break;
	case FIELD_MODE:
		printf("0%" PRIo64, v);
		break;
	case FIELD_TIME:
		print_time(v);
		break;
	case FIELD_UUID:
		printf("%s", tool_uuid_text(p, uuid));
		break;
	case FIELD_STRING:
		print_string(p, f->len);
		break;
	case FIELD_BYTES:
		print_bytes(p, f->len < 64 ? f->len : 64);
		break;
	}
}

/* Ranges of bits that are set. */
static void dump_bits(const void *block, const struct field *f)
{
	uint64_t v;
	uint32_t from;

	printf("%-24s", f->name);
	for (uint32_t i = 0; i < f->count; i++) {
		from = i;
		while (i < f->count && field_get(block, f, i, &v) && v)
			i++;
		if (i > from + 1)
			printf(" %u..%u", from, i - 1);
		else if (i > from)
			printf(" %u", from);
	}
	putchar('\n');
}

/* Runs of equal values; zeros are left out. */
static void dump_array(const void *block, const struct field *f)
{
	char name[64];
	uint64_t v, next;

	for (uint32_t i = 0, k; i < f->count; i = k) {
		if (!field_get(block, f, i, &v))
			return;
		for (k = i + 1; k < f->count && field_get(block, f, k, &next) && next == v; k++)
			;
		if (!v)
			continue;
		if (k == i + 1)
			snprintf(name, sizeof(name), "%s[%u]", f->name, f->first + i);
		else
			snprintf(name, sizeof(name), "%s[%u..%u]", f->name, f->first + i,
				f->first + k - 1);
		printf("%-24s ", name);
		dump_value(block, f, i);
		putchar('\n');
	}
}

/* ------------------------------------------------------------------ trees */

static const char *state_name(uint32_t state)
{
	switch (state) {
	case EXT_UNWRITTEN:
		return "unwritten";
	case EXT_WRITTEN:
		return "written";
	case EXT_SHARED:
		return "shared";
	}
	return "?";
}

const char *dump_type_name(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "file";
	case S_IFDIR:
		return "directory";
	case S_IFLNK:
		return "symlink";
	case S_IFCHR:
		return "char device";
	case S_IFBLK:
		return "block device";
	case S_IFIFO:
		return "fifo";
	case S_IFSOCK:
		return "socket";
	}
	return "?";
}

static const char *intent_name(uint32_t op)
{
	static const char *const name[] = {
		[INTENT_TRUNCATE] = "truncate", [INTENT_FREE] = "free", [INTENT_PUNCH] = "punch", [INTENT_ZERO] = "zero"};

	return op < sizeof(name) / sizeof(name[0]) && name[op] ? name[op] : "?";
}

static void dump_record(enum tree_kind kind, const uint8_t *v, uint32_t len)
{
	struct disk_extent x;
	struct disk_dirent d;
	struct disk_xattr a;
	struct disk_intent n;

	if (kind == TREE_EXTENTS && len == sizeof(x)) {
		memcpy(&x, v, sizeof(x));
		printf("cluster %" PRIu64 " length %u %s", le64_get(x.start), le32_get(x.len),
			state_name(le32_get(x.state)));
	} else if (kind == TREE_DIR && len >= sizeof(d)) {
		memcpy(&d, v, sizeof(d));
		printf("inode %" PRIu64 " %s ", le64_get(d.ino), dump_type_name((uint32_t)d.type << 12));
		print_string(v + sizeof(d), len - (uint32_t)sizeof(d));
	} else if (kind == TREE_XATTRS && len >= sizeof(a)) {
		memcpy(&a, v, sizeof(a));
		printf("%u bytes %s ", le32_get(a.value_bytes),
			a.place == XATTR_BLOCKS ? "in blocks" : "inline");
		if (a.name_bytes <= len - sizeof(a))
			print_string(v + sizeof(a), a.name_bytes);
	} else if (kind == TREE_INTENTS && len == sizeof(n)) {
		memcpy(&n, v, sizeof(n));
		printf("%s from cluster %" PRIu64, intent_name(le32_get(n.op)), le64_get(n.from));
		if (le64_get(n.to))
			printf(" to %" PRIu64, le64_get(n.to));
	} else if (len) {
		print_bytes(v, len < 32 ? len : 32);
	}
}

void dump_node(const uint8_t *node, uint32_t bytes)
{
	static const char *const kinds[] = {"?", "extents", "directory", "xattrs", "orphans", "intents"};
	struct disk_node n;
	struct disk_slot s;
	uint32_t count;

	memcpy(&n, node, sizeof(n));
	count = le16_get(n.count);
	printf("tree of %s, level %u, %u records, heap at %u, %u bytes lost\n",
		kinds[n.kind <= TREE_INTENTS ? n.kind : 0], n.level, count, le16_get(n.heap),
		le16_get(n.frag));
	for (uint32_t i = 0; i < count && sizeof(n) + (i + 1) * sizeof(s) <= bytes; i++) {
		uint32_t off, len;
		le64 child;

		memcpy(&s, node + sizeof(n) + i * sizeof(s), sizeof(s));
		off = le16_get(s.off);
		len = le16_get(s.len);
		printf("  %" PRIu64 ": ", le64_get(s.key));
		if (off > bytes || len > bytes - off) {
			printf("(outside the node)");
		} else if (n.level && len == sizeof(child)) {
			memcpy(&child, node + off, sizeof(child));
			printf("block %" PRIu64, le64_get(child));
		} else {
			dump_record((enum tree_kind)n.kind, node + off, len);
		}
		putchar('\n');
	}
}

/* ------------------------------------------------------------------ inodes, blocks */

void dump_inode(const struct disk_inode *d)
{
	const struct block_layout *l = fields_of(MAGIC_INODE);
	const uint32_t mode = le32_get(d->mode);
	struct disk_inode_block b;

	memset(&b, 0, sizeof(b));
	b.slot[0] = *d;
	printf("%-24s %s\n", "type", dump_type_name(mode));
	for (uint32_t i = 0; i < l->field_count; i++) {
		const struct field *f = &l->fields[i];

		if (strncmp(f->name, "inode.", 6))
			continue;
		printf("%-24s ", f->name + 6);
		dump_value(&b, f, 0);
		putchar('\n');
	}
	if (S_ISREG(mode) || S_ISDIR(mode)) {
		dump_node(d->area, INODE_INLINE_BYTES);
	} else if (S_ISLNK(mode) && le64_get(d->size) <= INODE_INLINE_BYTES) {
		printf("%-24s ", "target");
		print_string(d->area, (uint32_t)le64_get(d->size));
		putchar('\n');
	}
}

void dump_block(const void *block)
{
	const struct block_layout *l;
	le32 magic;

	memcpy(&magic, block, sizeof(magic));
	l = fields_of(le32_get(magic));
	if (!l) {
		printf("no metadata block (magic 0x%x)\n", le32_get(magic));
		return;
	}
	printf("%-24s %s, checksum %s\n", "type", l->name,
		fields_sealed(block) ? "right" : "WRONG");
	for (uint32_t i = 0; i < l->field_count; i++) {
		const struct field *f = &l->fields[i];

		if (f->type == FIELD_BIT) {
			dump_bits(block, f);
		} else if (f->count > 1) {
			/* A node's slots are printed with their records. */
			if (strncmp(f->name, "slot.", 5))
				dump_array(block, f);
		} else {
			printf("%-24s ", f->name);
			dump_value(block, f, 0);
			putchar('\n');
		}
	}
	if (l->magic == MAGIC_TREE)
		dump_node(((const struct disk_tree_block *)block)->node, TREE_NODE_BYTES);
	if (l->magic == MAGIC_INODE) {
		const struct disk_inode_block *b = block;

		for (uint32_t s = 0; s < INODES_PER_BLOCK; s++) {
			if (!S_ISREG(le32_get(b->slot[s].mode)) && !S_ISDIR(le32_get(b->slot[s].mode)))
				continue;
			printf("inode %" PRIu64 ": ", le64_get(b->slot[s].ino));
			dump_node(b->slot[s].area, INODE_INLINE_BYTES);
		}
	}
}
