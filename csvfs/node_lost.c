/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * node_lost.c - first writes that are lost, and who has heard of it (node_file.h).
 *
 * The rule is that of Linux (errseq_t): of what was lost each open file hears, by its next fsync(2), once. Who opens the file
 * after somebody has heard does not; until then everybody does. An fsync that was killed has told nobody.
 */
#include <errno.h>

#include "csvfs/node_int.h"

/* An open file has heard. */
struct lost_told {
	struct list link;
	uint64_t handle;
	uint32_t lost; /* of so many losses */
};

static struct lost_told *told_find(const struct file *f, uint64_t handle)
{
	list_for_each_entry (t, &f->told, struct lost_told, link) {
		if (t->handle == handle)
			return t;
	}
	return NULL;
}

void node_lost_note(struct file *f, int32_t err)
{
	f->lost++;
	f->lost_err = err == -ENOSPC ? err : -EIO;
	f->lost_upto = NEVER;
}

void node_lost_tell(const struct file *f, struct list *waits)
{
	list_for_each_entry (w, waits, struct fwait, link) {
		if (w->kind != FWAIT_FSYNC)
			continue;
		w->err = f->lost_err;
		w->lost = f->lost;
	}
}

void node_lost_opens(struct node *n, const struct fs_request *rq)
{
	if (rq->lock.handle > n->handles)
		n->handles = rq->lock.handle;
}

void node_lost_fsync(const struct file *f, struct fwait *w)
{
	const struct lost_told *t = told_find(f, w->handle);

	if (!f->lost || w->handle > f->lost_upto || (t && t->lost == f->lost))
		return;
	w->err = f->lost_err;
	w->lost = f->lost;
}

/* Without memory to note it, it hears again: rather once too often. */
void node_lost_told(struct node *n, const struct fwait *w)
{
	struct file *f = node_file_find(n, w->ino);
	struct lost_told *t = f ? told_find(f, w->handle) : NULL;

	if (!f)
		return;
	/* Who asks to open it from now on has a higher number. */
	if (w->lost == f->lost && f->lost_upto == NEVER)
		f->lost_upto = n->handles;
	if (!t) {
		t = mem_alloc(n->mem, sizeof(*t));
		if (!t)
			return;
		t->handle = w->handle;
		list_add_tail(&t->link, &f->told);
	}
	t->lost = w->lost;
}

static void told_free(struct node *n, struct lost_told *t)
{
	list_del(&t->link);
	mem_free(n->mem, t, sizeof(*t));
}

void node_lost_closed(struct node *n, const struct fs_request *rq)
{
	struct file *f = node_file_find(n, rq->ino);
	struct lost_told *t = f ? told_find(f, rq->lock.handle) : NULL;

	if (t)
		told_free(n, t);
}

void node_lost_clear(struct node *n, struct file *f)
{
	list_for_each_entry_safe (t, tmp, &f->told, struct lost_told, link)
		told_free(n, t);
}
