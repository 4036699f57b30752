/* SPDX-License-Identifier: GPL-2.0-or-later */
/* probe.h - looks at a volume before it is mounted, and says in one line what is wrong with it. */
#ifndef CSVFS_PROBE_H
#define CSVFS_PROBE_H

#include <stddef.h>

#include "csvfs/bdev.h"
#include "metadata/format.h"

struct probe {
	struct bdev_info info;
	struct disk_super super;
	bool left_behind; /* who used it last did not leave in order (probe_alone) */
};

/*
 * Of a volume that is to be used alone: 0 if nobody uses it, -EBUSY and a line of text if the claim
 * on it still beats. Takes as long as two beats if whoever used it last did not leave in order.
 */
int probe_alone(const struct bdev_config *cfg, const char *name, struct probe *p, char *text,
	size_t text_bytes);

/*
 * Of a volume that nobody uses: -EUCLEAN and a line of text if it is too damaged to be opened. So
 * that is said before anything on it is changed, be it only the claim. What a journal that is not
 * empty may repair is not judged here.
 */
int probe_open(const struct bdev_config *cfg, const char *name, const struct probe *p, char *text,
	size_t text_bytes);

/*
 * Opens, reads, closes. 0, or a negative errno and a line of text. cfg: as the
 * mount will use it, but for the session. `name`: of the volume, for people.
 */
int probe_volume(const struct bdev_config *cfg, const char *name, struct probe *p, char *text,
	size_t text_bytes);

#endif
