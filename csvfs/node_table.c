/* SPDX-License-Identifier: GPL-2.0-or-later */
/* node_table.c - the files that this node has open (node_file.h), by their number. */
#include "csvfs/base/assert.h"
#include "csvfs/node_int.h"

static struct list *bucket_of(struct node *n, uint64_t ino)
{
	return &n->files.bucket[(ino * 0x9e3779b97f4a7c15ull) >> 54];
}
_Static_assert(FILE_BUCKETS == 1 << 10, "bucket_of takes the top 10 bits");

void node_file_init(struct node *n)
{
	for (unsigned i = 0; i < FILE_BUCKETS; i++)
		list_init(&n->files.bucket[i]);
}

struct file *node_file_find(struct node *n, uint64_t ino)
{
	list_for_each_entry (f, bucket_of(n, ino), struct file, hash) {
		if (f->ino == ino)
			return f;
	}
	return NULL;
}

struct file *node_file_new(struct node *n, uint64_t ino)
{
	struct file *f = mem_alloc(n->mem, sizeof(*f));

	if (!f)
		return NULL;
	f->ino = ino;
	f->st = FILE_OPENING;
	f->commit_at_ns = NEVER;
	list_init(&f->owned);
	list_init(&f->edges);
	list_init(&f->dirty);
	list_init(&f->due);
	list_init(&f->flying);
	list_init(&f->open_waiters);
	list_init(&f->waits);
	list_init(&f->flying_waits);
	list_init(&f->told);
	list_add(&f->hash, bucket_of(n, ino));
	n->files.count++;
	return f;
}

/* In table order; NULL: it is the first. */
static struct file *file_before(struct node *n, struct file *f)
{
	struct list *b = bucket_of(n, f->ino), *at = f->hash.prev;

	while (at == b) {
		if (b == &n->files.bucket[0])
			return NULL;
		b--;
		at = b->prev;
	}
	return list_entry(at, struct file, hash);
}

void node_file_free(struct node *n, struct file *f)
{
	csv_assert(list_empty(&f->open_waiters));
	csv_assert(list_empty(&f->waits));
	csv_assert(list_empty(&f->flying_waits));
	node_range_clear(n, &f->owned);
	node_range_clear(n, &f->edges);
	node_range_clear(n, &f->dirty);
	node_range_clear(n, &f->due);
	node_range_clear(n, &f->flying);
	node_lost_clear(n, f);
	/* Who goes through all of them goes on with the one behind it. */
	if (n->files.at == f)
		n->files.at = file_before(n, f);
	if (n->reclaim_at == f)
		n->reclaim_at = file_before(n, f);
	if (n->reclaim_part.ino == f->ino)
		n->reclaim_part.ino = 0;
	list_del(&f->hash);
	n->files.count--;
	mem_free(n->mem, f, sizeof(*f));
}

struct file *node_file_next(struct node *n, struct file *prev)
{
	struct list *b = prev ? bucket_of(n, prev->ino) : &n->files.bucket[0];
	struct list *at = prev ? prev->hash.next : b->next;

	for (;;) {
		if (at != b)
			return list_entry(at, struct file, hash);
		if (++b == &n->files.bucket[FILE_BUCKETS])
			return NULL;
		at = b->next;
	}
}

struct file *node_file_walk(struct node *n)
{
	n->files.at = node_file_next(n, n->files.at);
	return n->files.at;
}
