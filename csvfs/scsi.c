/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "csvfs/scsi.h"

#include <stdio.h>
#include <string.h>

static uint16_t be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)be16(p) << 16 | be16(p + 2);
}

static uint64_t be64(const uint8_t *p)
{
	return (uint64_t)be32(p) << 32 | be32(p + 4);
}

void scsi_put_be(uint8_t *p, uint64_t v, int bytes)
{
	for (int i = bytes - 1; i >= 0; i--, v >>= 8)
		p[i] = (uint8_t)v;
}

/* Printable, without spaces at the end. */
static void copy_text(char *to, size_t to_bytes, const uint8_t *from, size_t from_bytes)
{
	size_t n = 0;

	for (size_t i = 0; i < from_bytes && n + 1 < to_bytes; i++)
		to[n++] = from[i] > ' ' && from[i] < 0x7f ? (char)from[i] : ' ';
	while (n && to[n - 1] == ' ')
		n--;
	to[n] = 0;
}

int scsi_inquiry(const uint8_t *d, size_t n, char *vendor, size_t vendor_bytes)
{
	char maker[9], product[17];

	if (n < 36 || d[0] >> 5)
		return SCSI_NO_LUN;
	copy_text(maker, sizeof(maker), d + 8, 8);
	copy_text(product, sizeof(product), d + 16, 16);
	snprintf(vendor, vendor_bytes, "%s %s", maker, product);
	return d[0] & 0x1f;
}

bool scsi_has_page(const uint8_t *d, size_t n, uint8_t page)
{
	for (size_t i = 4; i < n && i < 4 + (size_t)be16(d + 2); i++)
		if (d[i] == page)
			return true;
	return false;
}

/* Locally assigned, or of company 0: tgt numbers its LUNs so, on each machine alike. */
static bool naa_is_local(const uint8_t *naa, size_t len)
{
	return naa[0] >> 4 == 3 || len < 8 ||
	       ((naa[0] & 0xf) == 0 && naa[1] == 0 && naa[2] == 0 && naa[3] >> 4 == 0);
}

/* The designator as text; false: it is not of that kind, or not of the logical unit. */
static bool designator(const uint8_t *id, uint8_t type, bool local, char *out, size_t out_bytes)
{
	static const char *const prefix[] = {[1] = "t10.", [2] = "eui.", [3] = "naa.", [8] = ""};
	bool is_text = type == 1 || type == 8;
	size_t len = id[3], o;

	if ((id[1] & 0x3f) != type || !len)
		return false;
	if (type == 3 && naa_is_local(id + 4, len) != local)
		return false;
	o = (size_t)snprintf(out, out_bytes, "%s", prefix[type]);
	if (is_text)
		copy_text(out + o, out_bytes - o, id + 4, len);
	for (size_t i = 0; !is_text && i < len && o + 3 < out_bytes; i++)
		o += (size_t)snprintf(out + o, 3, "%02x", id[4 + i]);
	return true;
}

uint16_t scsi_port(const uint8_t *d, size_t n)
{
	size_t end = n < 4 ? 0 : 4 + (size_t)be16(d + 2);

	if (end > n)
		end = n;
	for (size_t at = 4; at + 4 <= end && at + 4 + d[at + 3] <= end; at += 4 + (size_t)d[at + 3])
		if ((d[at + 1] & 0x3f) == 0x14 && d[at + 3] >= 4)
			return be16(d + at + 6);
	return 0;
}

/* SPC-4 7.8.5: the one that is the most certainly unique: NAA, EUI-64, SCSI name, T10 vendor id. */
void scsi_identity(const uint8_t *d, size_t n, char *out, size_t out_bytes)
{
	static const struct {
		uint8_t type;
		bool local;
	} order[] = {{3, false}, {2, false}, {8, false}, {1, false}, {3, true}};
	size_t end = n < 4 ? 0 : 4 + (size_t)be16(d + 2);

	if (end > n)
		end = n;
	for (size_t k = 0; k < sizeof(order) / sizeof(order[0]); k++)
		for (size_t at = 4; at + 4 <= end && at + 4 + d[at + 3] <= end;
			at += 4 + (size_t)d[at + 3])
			if (designator(d + at, order[k].type, order[k].local, out, out_bytes))
				return;
}

void scsi_limits(
	const uint8_t *d, size_t n, uint32_t *max_transfer_blocks, uint32_t *max_unmap_blocks)
{
	if (n >= 12)
		*max_transfer_blocks = be32(d + 8);
	if (n >= 24 && be32(d + 20))
		*max_unmap_blocks = be32(d + 20);
}

bool scsi_capacity(const uint8_t *d, size_t n, struct bdev_info *info)
{
	uint64_t last;

	if (n < 15)
		return false;
	last = be64(d);
	info->block_bytes = be32(d + 8);
	if (!info->block_bytes || (info->block_bytes & (info->block_bytes - 1)) ||
		last == UINT64_MAX || last + 1 > UINT64_MAX / info->block_bytes)
		return false;
	info->lun_bytes = (last + 1) * info->block_bytes;
	info->unmap = d[14] & 0x80; /* LBPME */
	return true;
}

void scsi_caching(const uint8_t *d, size_t n, bool *write_cache, bool *readonly, bool *no_fua)
{
	size_t at;

	if (n < 4)
		return;
	*readonly = d[2] & 0x80; /* WP */
	*no_fua = !(d[2] & 0x10); /* DPOFUA */
	at = 4 + (size_t)d[3];
	if (at + 3 <= n && (d[at] & 0x3f) == 0x08)
		*write_cache = d[at + 2] & 0x04; /* WCE */
}

bool scsi_tas(const uint8_t *d, size_t n)
{
	size_t at = n < 4 ? n : 4 + (size_t)d[3];

	return at + 6 <= n && (d[at] & 0x7f) == 0x0a && (d[at + 5] & 0x40);
}

static bool has_key(const uint64_t *keys, uint32_t count, uint64_t key)
{
	for (uint32_t i = 0; i < count; i++)
		if (keys[i] == key)
			return true;
	return false;
}

uint32_t scsi_pr_keys(const uint8_t *d, size_t n, bool is_reservation, uint32_t *generation,
	uint64_t *keys, uint32_t keys_room)
{
	uint32_t len, count = 0;

	*generation = 0;
	if (n < 8)
		return 0;
	*generation = be32(d);
	len = be32(d + 4);
	if (len > n - 8 && !is_reservation)
		return SCSI_KEYS_CUT;
	if (is_reservation)
		len = len >= 16 && n >= 8 + 16 ? 8 : 0; /* one descriptor: key, scope, type */
	for (uint32_t i = 0; i < len / 8; i++) {
		uint64_t key = be64(d + 8 + 8 * i);

		if (has_key(keys, count, key))
			continue;
		if (count == keys_room)
			return SCSI_KEYS_CUT;
		keys[count++] = key;
	}
	return count;
}

/* SPC-4 6.16.2 */
uint8_t scsi_pr_out(const struct lun_cmd *cmd, uint8_t *param)
{
	uint64_t key = cmd->key, other = 0;
	uint8_t action;

	switch (cmd->op) {
	case LUN_PR_REGISTER:
		action = 6; /* REGISTER AND IGNORE EXISTING KEY */
		other = key;
		key = 0;
		break;
	case LUN_PR_UNREGISTER:
		action = 6;
		key = 0;
		break;
	case LUN_PR_RESERVE:
		action = 1;
		break;
	case LUN_PR_PREEMPT:
		action = 4;
		other = cmd->victim;
		break;
	case LUN_PR_PREEMPT_ABORT:
		action = 5;
		other = cmd->victim;
		break;
	default:
		action = 3; /* CLEAR */
		break;
	}
	memset(param, 0, 24);
	scsi_put_be(param, key, 8);
	scsi_put_be(param + 8, other, 8);
	return action;
}

/* The longest one of an iSCSI initiator port: 24, the TransportID's 4, its name, ",i,0x", the ISID, its end. */
#define FULL_DESC_MAX (24u + 4 + SCSI_NAME_MAX + 5 + 12 + 4)

static int hex_digit(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "name,i,0x" and 12 digits, as the end of a text of n bytes. */
static bool split_port(struct scsi_nexus *x, const uint8_t *text, size_t n)
{
	size_t name = n < 5 + 12 ? 0 : n - 5 - 12;
	const uint8_t *digits = text + name + 5;

	if (!name || name >= sizeof(x->name) || memcmp(text + name, ",i,0x", 5) != 0)
		return false;
	for (size_t i = 0; i < sizeof(x->isid); i++) {
		int high = hex_digit(digits[2 * i]), low = hex_digit(digits[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		x->isid[i] = (uint8_t)(high << 4 | low);
	}
	for (size_t i = 0; i < name; i++)
		if (text[i] <= ' ' || text[i] == 0x7f || text[i] == ',')
			return false;
	memcpy(x->name, text, name);
	x->name[name] = 0;
	return true;
}

/* The TransportID of n bytes. False: it makes no sense. */
static bool transport_id(struct scsi_nexus *x, const uint8_t *id, size_t n)
{
	size_t len = n < 4 ? 0 : be16(id + 2);
	const uint8_t *end;

	if (n < 4)
		return false;
	if ((id[0] & 0x0f) != 5)
		return true;
	if (len > n - 4)
		return false;
	end = memchr(id + 4, 0, len);
	if (!end)
		return false;
	if (id[0] >> 6 == 0) /* the device without the port */
		return true;
	x->iscsi = id[0] >> 6 == 1 && split_port(x, id + 4, (size_t)(end - (id + 4)));
	return x->iscsi;
}

/* One descriptor at d, of n bytes that are there; returns how long it is, 0: it makes no sense. */
static size_t full_descriptor(const uint8_t *d, size_t n, struct scsi_nexus *x)
{
	size_t id = n < 24 ? 0 : be32(d + 20);

	memset(x, 0, sizeof(*x));
	if (n < 24 || id > n - 24 || !transport_id(x, d + 24, id))
		return 0;
	x->key = be64(d);
	x->port = d[12] & 2 ? 0 : be16(d + 18); /* ALL_TG_PT */
	return 24 + id;
}

bool scsi_pr_full(const uint8_t *d, size_t n, void (*each)(void *ctx, const struct scsi_nexus *x), void *ctx)
{
	size_t len = n < 8 ? 0 : be32(d + 4), size;
	struct scsi_nexus x;

	if (n < 8 || len > n - 8 || len + 8 + FULL_DESC_MAX > SCSI_FULL_BYTES)
		return false;
	/* First the whole of it is looked at. */
	for (size_t at = 0; at < len; at += size)
		if (!(size = full_descriptor(d + 8 + at, len - at, &x)))
			return false;
	for (size_t at = 0; at < len; at += size) {
		size = full_descriptor(d + 8 + at, len - at, &x);
		each(ctx, &x);
	}
	return true;
}
