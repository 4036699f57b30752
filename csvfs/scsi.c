/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "csvfs/scsi.h"

#include <stdio.h>

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
