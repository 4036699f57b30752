/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/crash/disk.h"

#include <stdlib.h>
#include <string.h>

#include "csvfs/base/assert.h"

struct disk *disk_new(uint64_t bytes)
{
	struct disk *d = calloc(1, sizeof(*d));

	d->pages = (uint32_t)(bytes / DISK_PAGE);
	d->cache = true;
	d->safe = calloc(d->pages, sizeof(*d->safe));
	d->view = calloc(d->pages, sizeof(*d->view));
	d->touched = calloc(d->pages, sizeof(*d->touched));
	d->completions = 1;
	return d;
}

void disk_reset(struct disk *d, const struct disk *under)
{
	for (uint32_t i = 0; i < d->touched_count; i++) {
		uint32_t p = d->touched[i];

		free(d->safe[p]);
		free(d->view[p]);
		d->safe[p] = NULL;
		d->view[p] = NULL;
	}
	d->touched_count = 0;
	for (uint32_t i = 0; i < d->w_count; i++)
		free(d->w[i].data);
	d->w_count = 0;
	d->completions = 1;
	d->under = under;
}

void disk_free(struct disk *d)
{
	disk_reset(d, NULL);
	free(d->safe);
	free(d->view);
	free(d->touched);
	free(d->w);
	free(d);
}

static const uint8_t *survived(const struct disk *d, uint32_t page)
{
	static const uint8_t zeros[DISK_PAGE];

	for (; d; d = d->under)
		if (d->safe[page])
			return d->safe[page];
	return zeros;
}

static const uint8_t *seen(const struct disk *d, uint32_t page)
{
	return d->view[page] ? d->view[page] : survived(d, page);
}

const void *disk_at(const struct disk *d, uint64_t off)
{
	return seen(d, (uint32_t)(off / DISK_PAGE));
}

void disk_read(const struct disk *d, uint64_t off, void *buf, uint64_t len)
{
	uint8_t *p = buf;

	csv_assert(off + len <= (uint64_t)d->pages * DISK_PAGE);
	while (len) {
		uint32_t in = (uint32_t)(off % DISK_PAGE), n = DISK_PAGE - in;

		if (n > len)
			n = (uint32_t)len;
		memcpy(p, seen(d, (uint32_t)(off / DISK_PAGE)) + in, n);
		off += n;
		p += n;
		len -= n;
	}
}

/* One sector into one of the two tables. */
static void put(struct disk *d, uint8_t **table, uint64_t off, const uint8_t *data)
{
	uint32_t page = (uint32_t)(off / DISK_PAGE);

	if (!table[page]) {
		const uint8_t *was = table == d->view ? seen(d, page) : survived(d, page);

		if (!d->safe[page] && !d->view[page])
			d->touched[d->touched_count++] = page;
		table[page] = malloc(DISK_PAGE);
		memcpy(table[page], was, DISK_PAGE);
	}
	memcpy(table[page] + off % DISK_PAGE, data, DISK_SECTOR);
}

static void put_all(struct disk *d, uint8_t **table, const struct disk_write *w)
{
	for (uint32_t i = 0; i < w->len; i += DISK_SECTOR)
		put(d, table, w->off + i, w->data + i);
}

uint64_t disk_send(struct disk *d, uint64_t off, const void *buf, uint32_t len, bool fua)
{
	struct disk_write *w;

	csv_assert(off + len <= (uint64_t)d->pages * DISK_PAGE && len % DISK_SECTOR == 0);
	if (d->w_count == d->w_room) {
		d->w_room = d->w_room ? d->w_room * 2 : 64;
		d->w = realloc(d->w, d->w_room * sizeof(*d->w));
	}
	w = &d->w[d->w_count++];
	*w = (struct disk_write){.off = off, .len = len, .fua = fua || !d->cache};
	w->data = malloc(len);
	memcpy(w->data, buf, len);
	return (uint64_t)(uintptr_t)w->data;
}

static void settle(struct disk *d)
{
	uint32_t n = 0;

	/* In order: a later write of the same place wins. */
	while (n < d->w_count && d->w[n].must) {
		put_all(d, d->safe, &d->w[n]);
		free(d->w[n].data);
		n++;
	}
	memmove(d->w, d->w + n, (d->w_count - n) * sizeof(*d->w));
	d->w_count -= n;
}

void disk_done(struct disk *d, uint64_t handle)
{
	for (uint32_t i = 0; i < d->w_count; i++) {
		struct disk_write *w = &d->w[i];

		if ((uint64_t)(uintptr_t)w->data != handle)
			continue;
		w->done = d->completions++;
		w->must = w->fua;
		put_all(d, d->view, w);
		settle(d);
		return;
	}
	csv_assert(!"no such write");
}

uint64_t disk_flush(const struct disk *d)
{
	return d->completions;
}

void disk_flushed(struct disk *d, uint64_t token)
{
	for (uint32_t i = 0; i < d->w_count; i++)
		if (d->w[i].done && d->w[i].done < token)
			d->w[i].must = true;
	settle(d);
}

void disk_write_now(struct disk *d, uint64_t off, const void *buf, uint32_t len)
{
	disk_done(d, disk_send(d, off, buf, len, true));
}

uint32_t disk_loose(const struct disk *d)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < d->w_count; i++)
		n += !d->w[i].must;
	return n;
}

uint32_t disk_variants(const struct disk *d, uint32_t most)
{
	uint32_t n = disk_loose(d), v;

	if (n == 0)
		return 1;
	v = 2 + (n <= DISK_SUBSETS_OF ? 1u << n : 0) + 2 * n;
	return v < most ? v : most;
}

/* Which sectors of a loose write survive: all, none, the first, the last, or any. */
static bool lives(uint32_t how, uint32_t sector, uint32_t cut, struct prng *r)
{
	switch (how) {
	case 0: return false;
	case 1: return true;
	case 2: return sector < cut;
	case 3: return sector >= cut;
	}
	return prng_below(r, 2);
}

void disk_crash(const struct disk *d, struct disk *out, uint32_t variant, uint64_t seed)
{
	uint32_t loose = disk_loose(d), k = 0;
	bool subset = loose <= DISK_SUBSETS_OF && variant >= 2 && variant - 2 < 1u << loose;
	struct prng r = {seed * 1000003 + variant};

	disk_reset(out, d);
	out->cache = d->cache;
	for (uint32_t i = 0; i < d->w_count; i++) {
		const struct disk_write *w = &d->w[i];
		uint32_t sectors = w->len / DISK_SECTOR;
		uint32_t cut = (uint32_t)prng_below(&r, sectors + 1);
		uint32_t how = (uint32_t)prng_below(&r, 5);

		if (w->must || variant == 1)
			how = 1;
		else if (variant == 0)
			how = 0;
		else if (subset)
			how = (variant - 2) >> k & 1;
		k += !w->must;
		for (uint32_t s = 0; s < sectors; s++)
			if (lives(how, s, cut, &r))
				put(out, out->safe, w->off + s * DISK_SECTOR,
					w->data + s * DISK_SECTOR);
	}
}
