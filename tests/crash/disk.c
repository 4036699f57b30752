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
	d->subsets_of = 3;
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
	d->changes++;
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
		d->changes += w->must;
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
		if (d->w[i].done && d->w[i].done < token && !d->w[i].must) {
			d->w[i].must = true;
			d->changes++;
		}
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

/* Variants that cut a loose write. */
static uint32_t cuts(const struct disk *d)
{
	uint32_t n = 0, others = disk_loose(d) > 1 ? 2 : 1;

	for (uint32_t i = 0; d->tear_all && i < d->w_count; i++)
		if (!d->w[i].must)
			n += (d->w[i].len / DISK_SECTOR - 1) * 2 * others;
	return n;
}

static uint32_t subsets(const struct disk *d)
{
	uint32_t n = disk_loose(d);

	return n <= d->subsets_of ? 1u << n : 0;
}

uint32_t disk_variants(const struct disk *d, uint32_t most)
{
	uint32_t n = disk_loose(d), v;

	if (n == 0)
		return 1;
	/* Of one, the subsets are none and all. */
	v = 2 + (n > 1 ? subsets(d) : 0) + cuts(d) + 2 * n;
	return v < most ? v : most;
}

/* How a loose write survives: sectors from `from` up to `to`, or (any) some of those. */
struct fate {
	uint32_t from, to;
	bool any;
};

static struct fate at_random(uint32_t sectors, struct prng *r)
{
	uint32_t cut = (uint32_t)prng_below(r, sectors + 1);

	switch (prng_below(r, 5)) {
	case 0: return (struct fate){0, 0, false};
	case 1: return (struct fate){0, sectors, false};
	case 2: return (struct fate){0, cut, false};
	case 3: return (struct fate){cut, sectors, false};
	}
	return (struct fate){0, sectors, true};
}

/* Of loose write number k, with `sectors`; *cut: number of the cut, counted down over all writes. */
static struct fate fate_of(
	const struct disk *d, uint32_t k, uint32_t sectors, uint32_t v, uint32_t *cut, struct prng *r)
{
	uint32_t others = disk_loose(d) > 1 ? 2 : 1, mine = (sectors - 1) * 2 * others, c = *cut;

	if (v < 2)
		return (struct fate){0, v ? sectors : 0, false};
	v -= 2;
	if (disk_loose(d) > 1) {
		if (v < subsets(d))
			return (struct fate){0, v >> k & 1 ? sectors : 0, false};
		v -= subsets(d);
	}
	if (v >= cuts(d))
		return at_random(sectors, r);
	*cut = c - mine;
	if (c >= mine) /* another one is cut: unsigned, so also when it was before this one */
		return (struct fate){0, v % others ? sectors : 0, false};
	c /= others;
	return c % 2 ? (struct fate){1 + c / 2, sectors, false} : (struct fate){0, 1 + c / 2, false};
}

void disk_crash(const struct disk *d, struct disk *out, uint32_t variant, uint64_t seed)
{
	uint32_t k = 0, cut = variant - 2 - (disk_loose(d) > 1 ? subsets(d) : 0);
	struct prng r = {seed * 1000003 + variant};

	disk_reset(out, d);
	out->cache = d->cache;
	for (uint32_t i = 0; i < d->w_count; i++) {
		const struct disk_write *w = &d->w[i];
		struct fate f = {0, w->len / DISK_SECTOR, false};

		if (!w->must)
			f = fate_of(d, k++, w->len / DISK_SECTOR, variant, &cut, &r);
		for (uint32_t s = f.from; s < f.to; s++)
			if (!f.any || prng_below(&r, 2))
				put(out, out->safe, w->off + s * DISK_SECTOR,
					w->data + s * DISK_SECTOR);
	}
}

bool disk_land(const struct disk *from, struct disk *to, uint64_t lo, uint64_t hi)
{
	bool any = false;

	for (uint32_t i = 0; i < from->w_count; i++) {
		const struct disk_write *w = &from->w[i];

		if (w->done || w->off < lo || w->off + w->len > hi)
			continue;
		disk_write_now(to, w->off, w->data, w->len);
		any = true;
	}
	return any;
}
