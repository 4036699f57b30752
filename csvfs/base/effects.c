/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "csvfs/base/assert.h"
#include "csvfs/base/platform.h"

/* Kept back by effects_room(), so that a handler which emits a bounded few never has to ask. */
#define RESERVE_EFFECTS 256
#define RESERVE_BYTES (1u << 20)

void effects_reset(struct effects *fx)
{
	fx->count = 0;
	fx->arena_used = 0;
}

struct effect *effects_add(struct effects *fx, enum fx_type type, uint64_t tag)
{
	struct effect *e;

	csv_assert(fx->count < EFFECTS_MAX);
	e = &fx->fx[fx->count++];
	memset(e, 0, sizeof(*e));
	e->type = type;
	e->tag = tag;
	return e;
}

bool effects_room(const struct effects *fx, uint32_t n, uint32_t n_bytes)
{
	return fx->count + n + RESERVE_EFFECTS <= EFFECTS_MAX &&
	       fx->arena_used + n_bytes + RESERVE_BYTES <= EFFECTS_ARENA;
}

void *effects_alloc(struct effects *fx, uint32_t length_bytes)
{
	uint32_t need = (length_bytes + 15) & ~15u;
	void *p;

	csv_assert(need <= EFFECTS_ARENA - fx->arena_used);
	p = fx->arena + fx->arena_used;
	fx->arena_used += need;
	return p;
}
