/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lun.pml - a LUN with persistent reservations, as far as the other models need it.
 *
 * A write has two moments: the reservation is checked when it starts, and it lands later. Between the two
 * it is held in the target, and nothing but a reset waits for it: not a PREEMPT, not the death of its
 * sender. That is the zombie write, as it was reproduced on a real target.
 *
 * A key is a (node, incarnation), and has at most one write in flight. Incarnations count from 1; 0: none.
 */
#define BIT(n) (1 << (n))
#define KEY(n, inc) ((n) * INCS + (inc) - 1)
#define KEY_NODE(key) ((key) / INCS)
#define KEYS_OF(n) (((1 << INCS) - 1) << ((n) * INCS))

#if N * INCS < 16
#define KEYS short /* a set of keys, a bit each */
#else
#define KEYS int
#endif

KEYS reg; /* who is registered */
KEYS held; /* who has a write in flight, and what it writes: */
byte held_what[N * INCS];
byte held_value[N * INCS];

#define registered(key) ((reg & BIT(key)) != 0)
#define in_flight(key) ((held & BIT(key)) != 0)

/* The nexus registers a key; an older one of the same node is replaced. What that had in flight stays. */
inline lun_register(n, inc)
{
	reg = (reg & ~KEYS_OF(n)) | BIT(KEY(n, inc));
}

/* WRITE, by who has seen registered(): it has passed the check, and will land. */
inline lun_write(key, what, value)
{
	assert(!in_flight(key));
	held_what[key] = what;
	held_value[key] = value;
	held = held | BIT(key);
}

/* PREEMPT: one key goes. ABORT is not assumed: what the key has in flight stays. */
inline lun_preempt(key)
{
	reg = reg & ~BIT(key);
}

/* LOGICAL UNIT RESET has been answered: it waits until what was held has landed. Used as a guard. */
#ifdef NO_DRAIN
#define lun_reset_done true
#else
#define lun_reset_done (held == 0)
#endif

/* The write of this key has landed, or is lost with its nexus. */
inline lun_ended(key)
{
	held = held & ~BIT(key);
	held_what[key] = 0;
	held_value[key] = 0;
}
