/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/check/mend.h"

static void phase(const struct check *c, enum check_phase p)
{
	if (c->o->on_phase)
		c->o->on_phase(c->o->ctx, p);
}

static int run(struct check *c)
{
	int err;

	phase(c, CHECK_SUPER);
	err = ck_read_init(c);
	if (err)
		return err;
	err = ck_super(c);
	if (err)
		return err;
	ck_claim(c);
	phase(c, CHECK_JOURNAL);
	err = ck_journal(c);
	if (err)
		return err;
	if (c->m) {
		c->epoch_max = c->m->epoch;
		c->lsn_max = c->m->lsn;
	}
	err = ck_super_after_replay(c);
	if (err)
		return err;
	c->rep->lsn = c->lsn_max;
	if (c->m && !c->m->skeleton) {
		c->m->skeleton = true;
		return ck_skeleton(c);
	}
	phase(c, CHECK_SPACE);
	err = ck_space_load(c);
	if (err)
		return err;
	phase(c, CHECK_INODES);
	err = ck_inodes(c);
	if (err)
		return err;
	phase(c, CHECK_DIRECTORIES);
	err = ck_directories(c);
	if (err)
		return err;
	phase(c, CHECK_REST);
	err = ck_orphans(c);
	if (!err)
		err = ck_intents(c);
	if (!err)
		err = ck_replies(c);
	if (!err)
		err = ck_links(c);
	if (err)
		return err;
	phase(c, CHECK_COMPARE);
	err = ck_space_compare(c);
	c->rep->repairable = check_faults(c->rep) && !c->lost;
	return err;
}

int ck_run(struct check *c, const struct check_dev *dev, const struct check_options *o,
	struct check_report *rep)
{
	struct ck_mend *m = c->m;

	memset(rep, 0, sizeof(*rep));
	memset(c, 0, sizeof(*c));
	c->m = m;
	c->dev = dev;
	c->o = o;
	c->rep = rep;
	c->epoch_max = NEVER;
	c->lsn_max = NEVER;
	return run(c);
}

int check_volume(
	const struct check_dev *dev, const struct check_options *o, struct check_report *rep)
{
	struct check *c = mem_alloc(o->mem, sizeof(*c));
	int err = -ENOMEM;

	if (c)
		err = ck_run(c, dev, o, rep);
	else
		memset(rep, 0, sizeof(*rep));
	if (err == -ENOMEM) {
		rep->count[PROBLEM_CHECK_MEMORY]++;
		rep->by_severity[SEVERITY_FATAL]++;
	}
	return err;
}
