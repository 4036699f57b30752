/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cpg.c - corosync's callbacks become events, effects become its calls. Measured with corosync
 * 3.1.7.
 *
 * The thread owns the handles; callbacks run in its dispatch only. `lock` protects what other
 * threads touch: the queue and the two requests.
 *
 * Which ring a configuration of the group belongs to. The group's callback does not say; the totem
 * callback does, and on a change of the ring it comes right after the group's, in the same
 * dispatch. So a configuration in which nodes came or went (NODEUP, NODEDOWN) that the totem
 * membership does not know yet is held until the totem callback: else members of the new ring
 * would be told under the old one's name, and a node that was cut off would take itself, for a
 * moment, for the last one of a quorate cluster.
 */
#include "coordinator/cpg.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <corosync/cmap.h>
#include <corosync/corotypes.h>
#include <corosync/cpg.h>
#include <corosync/quorum.h>

#define QUEUE_MAX 1024 /* messages not sent yet */
#define AGAIN_MS 5 /* corosync said TRY AGAIN: a membership is being formed, or its queue is full */
#define CLOSE_MS 1000
#define JOIN_MS 5000
#define GONE_MS 3000 /* an earlier daemon of this node that has just died is still listed so long */

struct message {
	struct message *next;
	uint32_t len;
	uint8_t bytes[];
};

struct cpg {
	cpg_event_fn deliver;
	void *ctx;
	struct cpg_name group;

	/* The thread's. */
	pthread_t thread;
	bool up;
	cpg_handle_t cpg;
	quorum_handle_t quorum;
	uint32_t node, pid;
	bool have_ring, held, have_members, broken, second;
	struct cpg_ring_id ring;
	uint32_t totem_count, totem[CPG_MEMBERS_MAX];
	uint32_t member_count, members[NODES_MAX];

	/* Under the lock. */
	pthread_mutex_t lock;
	int wake_fd;
	struct message *head, **tail;
	uint32_t queued;
	bool connected, rejoin, closing;
};

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void sleep_ms(unsigned ms)
{
	struct timespec ts = {ms / 1000, (long)(ms % 1000) * 1000000};

	nanosleep(&ts, NULL);
}

static int fail(char *err, size_t err_bytes, cs_error_t cs, const char *what)
{
	if (cs == CS_ERR_LIBRARY || cs == CS_ERR_NOT_EXIST) {
		snprintf(err, err_bytes, "corosync does not run on this node (%s: %s)", what,
			cs_strerror(cs));
		return -ECONNREFUSED;
	}
	if (cs == CS_ERR_ACCESS) {
		snprintf(err, err_bytes,
			"corosync refuses access (%s): run as root, or allow the user in uidgid.d",
			what);
		return -ECONNREFUSED;
	}
	snprintf(err, err_bytes, "corosync: %s: %s", what, cs_strerror(cs));
	return -EIO;
}

/* ------------------------------------------------------------------ probe */

static void get_string(cmap_handle_t h, const char *key, char *out, size_t out_bytes)
{
	char *s = NULL;

	out[0] = 0;
	if (cmap_get_string(h, key, &s) != CS_OK)
		return;
	snprintf(out, out_bytes, "%s", s);
	free(s);
}

/* ring0_addr may be a name: the others connect to an address. */
static void to_address(char *addr)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *ai = NULL;
	char text[ADDR_MAX];

	if (getaddrinfo(addr, NULL, &hints, &ai) || !ai)
		return;
	if (!getnameinfo(ai->ai_addr, ai->ai_addrlen, text, sizeof(text), NULL, 0, NI_NUMERICHOST))
		snprintf(addr, ADDR_MAX, "%s", text);
	freeaddrinfo(ai);
}

static uint32_t count_nodes(cmap_handle_t h)
{
	cmap_iter_handle_t it;
	char key[CMAP_KEYNAME_MAXLEN + 1];
	size_t len;
	cmap_value_types_t type;
	uint32_t count = 0;

	if (cmap_iter_init(h, "nodelist.node.", &it) != CS_OK)
		return 0;
	while (cmap_iter_next(h, it, key, &len, &type) == CS_OK) {
		const char *dot = strrchr(key, '.');

		count += dot && !strcmp(dot, ".ring0_addr");
	}
	(void)cmap_iter_finalize(h, it); /* the handle goes with h anyway */
	return count;
}

int cpg_probe(struct cpg_info *info, char *err, size_t err_bytes)
{
	cmap_handle_t h;
	cs_error_t cs = cmap_initialize(&h);
	char key[CMAP_KEYNAME_MAXLEN + 1];
	uint32_t pos;
	int ret = 0;

	memset(info, 0, sizeof(*info));
	if (cs != CS_OK)
		return fail(err, err_bytes, cs, "cmap");
	if (cmap_get_uint32(h, "nodelist.local_node_pos", &pos) != CS_OK) {
		snprintf(err, err_bytes, "this node is not in corosync's nodelist (corosync.conf)");
		ret = -ENOENT;
		goto out;
	}
	snprintf(key, sizeof(key), "nodelist.node.%u.nodeid", pos);
	cs = cmap_get_uint32(h, key, &info->node);
	if (cs != CS_OK || !info->node) {
		snprintf(err, err_bytes, "corosync.conf gives this node no nodeid");
		ret = -ENOENT;
		goto out;
	}
	snprintf(key, sizeof(key), "nodelist.node.%u.name", pos);
	get_string(h, key, info->name, sizeof(info->name));
	if (!info->name[0])
		(void)gethostname(
			info->name, sizeof(info->name) - 1); /* stays empty: caught by pki */
	snprintf(key, sizeof(key), "nodelist.node.%u.ring0_addr", pos);
	get_string(h, key, info->addr, sizeof(info->addr));
	to_address(info->addr);
	get_string(h, "totem.cluster_name", info->cluster, sizeof(info->cluster));
	info->expected_nodes = count_nodes(h);
out:
	cmap_finalize(h);
	return ret;
}

/* ------------------------------------------------------------------ callbacks, on the thread */

static void deliver_conf(struct cpg *c)
{
	struct event ev = {.type = EV_CPG_CONF};

	ev.conf.ring_seq = c->ring.seq;
	ev.conf.ring_node = c->ring.nodeid;
	ev.conf.member_count = c->member_count;
	memcpy(ev.conf.members, c->members, c->member_count * sizeof(c->members[0]));
	c->deliver(c->ctx, &ev);
}

static bool in_totem(const struct cpg *c, uint32_t node)
{
	for (uint32_t i = 0; i < c->totem_count; i++)
		if (c->totem[i] == node)
			return true;
	return false;
}

static void on_conf(cpg_handle_t h, const struct cpg_name *group, const struct cpg_address *members,
	size_t member_count, const struct cpg_address *left, size_t left_count,
	const struct cpg_address *joined, size_t joined_count)
{
	struct cpg *c = NULL;
	bool same_ring;

	(void)group;
	if (cpg_context_get(h, (void **)&c) != CS_OK || !c)
		return;
	same_ring = c->have_ring;
	c->member_count = 0;
	c->have_members = true;
	for (size_t i = 0; i < member_count; i++) {
		same_ring = same_ring && in_totem(c, members[i].nodeid);
		if (members[i].nodeid == c->node && members[i].pid != c->pid) {
			/* Two daemons of one node: the one that came later goes. */
			for (size_t j = 0; j < joined_count; j++)
				if (joined[j].nodeid == c->node && joined[j].pid == c->pid)
					c->broken = c->second = true;
			continue;
		}
		if (c->member_count < NODES_MAX)
			c->members[c->member_count++] = members[i].nodeid;
	}
	for (size_t i = 0; i < left_count; i++)
		if (left[i].reason == CPG_REASON_NODEDOWN && in_totem(c, left[i].nodeid))
			same_ring = false;
	/* Of one change of the ring there may be two: those who have gone, and then those who are back, whom the old ring knows. */
	c->held |= !same_ring;
	if (!c->held)
		deliver_conf(c);
}

static void on_totem(
	cpg_handle_t h, struct cpg_ring_id ring, uint32_t count, const uint32_t *members)
{
	struct cpg *c = NULL;

	if (cpg_context_get(h, (void **)&c) != CS_OK || !c)
		return;
	c->ring = ring;
	c->have_ring = true;
	c->totem_count = count < CPG_MEMBERS_MAX ? count : CPG_MEMBERS_MAX;
	memcpy(c->totem, members, c->totem_count * sizeof(c->totem[0]));
	c->held = false;
	if (c->have_members)
		deliver_conf(c);
}

static void on_message(cpg_handle_t h, const struct cpg_name *group, uint32_t node, uint32_t pid,
	void *msg, size_t len)
{
	struct event ev = {.type = EV_CPG_MSG};
	struct cpg *c = NULL;

	(void)group;
	if (cpg_context_get(h, (void **)&c) != CS_OK || !c)
		return;
	if (node == c->node && pid != c->pid)
		return;
	ev.msg.node = node;
	ev.msg.bytes = msg;
	ev.msg.len = (uint32_t)len;
	c->deliver(c->ctx, &ev);
}

static void on_quorum(quorum_handle_t h, uint32_t quorate, struct quorum_ring_id ring,
	uint32_t count, const uint32_t *members)
{
	struct event ev = {.type = EV_QUORUM};
	const void *ctx = NULL;
	const struct cpg *c;

	if (quorum_context_get(h, &ctx) != CS_OK || !ctx)
		return;
	c = ctx;
	ev.conf.ring_seq = ring.seq;
	ev.conf.ring_node = ring.nodeid;
	ev.conf.quorate = quorate != 0;
	ev.conf.member_count = count < NODES_MAX ? count : NODES_MAX;
	memcpy(ev.conf.members, members, ev.conf.member_count * sizeof(members[0]));
	c->deliver(c->ctx, &ev);
}

/* ------------------------------------------------------------------ joining */

/* True when another process of this node is in the group. */
static bool mounted_already(struct cpg *c)
{
	struct cpg_address list[CPG_MEMBERS_MAX];
	int count = CPG_MEMBERS_MAX;

	if (cpg_membership_get(c->cpg, &c->group, list, &count) != CS_OK)
		return false;
	for (int i = 0; i < count; i++)
		if (list[i].nodeid == c->node && list[i].pid != c->pid)
			return true;
	return false;
}

static cs_error_t join_group(struct cpg *c)
{
	uint64_t until = now_ms() + JOIN_MS;
	cs_error_t cs;

	while ((cs = cpg_join(c->cpg, &c->group)) == CS_ERR_TRY_AGAIN && now_ms() < until)
		sleep_ms(AGAIN_MS);
	return cs;
}

static void disconnect(struct cpg *c)
{
	/* Errors say that corosync is gone, which is why we are here, or are no help at the end. */
	if (c->cpg)
		(void)cpg_finalize(c->cpg);
	if (c->quorum)
		(void)quorum_finalize(c->quorum);
	c->cpg = 0;
	c->quorum = 0;
	c->up = c->have_ring = c->held = c->have_members = c->broken = c->second = false;
	c->totem_count = c->member_count = 0;
}

static int connect_all(struct cpg *c, char *err, size_t err_bytes)
{
	cpg_model_v1_data_t cpg_model = {
		.model = CPG_MODEL_V1,
		.cpg_deliver_fn = on_message,
		.cpg_confchg_fn = on_conf,
		.cpg_totem_confchg_fn = on_totem,
		.flags = CPG_MODEL_V1_DELIVER_INITIAL_TOTEM_CONF,
	};
	quorum_model_v1_data_t quorum_model = {
		.model = QUORUM_MODEL_V1,
		.quorum_notify_fn = on_quorum,
	};
	uint64_t until = now_ms() + GONE_MS;
	uint32_t type;
	cs_error_t cs;
	int ret;

	cs = cpg_model_initialize(&c->cpg, CPG_MODEL_V1, (cpg_model_data_t *)&cpg_model, c);
	if (cs != CS_OK) {
		c->cpg = 0;
		ret = fail(err, err_bytes, cs, "cpg");
		goto out;
	}
	cs = cpg_local_get(c->cpg, &c->node);
	if (cs != CS_OK) {
		ret = fail(err, err_bytes, cs, "cpg_local_get");
		goto out;
	}
	c->pid = (uint32_t)getpid();
	while (mounted_already(c)) {
		if (now_ms() >= until) {
			snprintf(err, err_bytes,
				"another csvfs of this node has the volume mounted");
			ret = -EBUSY;
			goto out;
		}
		sleep_ms(50);
	}
	cs = quorum_model_initialize(
		&c->quorum, QUORUM_MODEL_V1, (quorum_model_data_t *)&quorum_model, &type, c);
	if (cs != CS_OK) {
		c->quorum = 0;
		ret = fail(err, err_bytes, cs, "quorum");
		goto out;
	}
	if (type != QUORUM_SET) {
		snprintf(err, err_bytes,
			"corosync.conf has no quorum provider (corosync_votequorum)");
		ret = -EIO;
		goto out;
	}
	cs = quorum_trackstart(c->quorum, CS_TRACK_CURRENT | CS_TRACK_CHANGES);
	if (cs == CS_OK)
		cs = join_group(c);
	if (cs != CS_OK) {
		ret = fail(err, err_bytes, cs, "joining the group");
		goto out;
	}
	c->up = true;
	return 0;
out:
	disconnect(c);
	return ret;
}

/* ------------------------------------------------------------------ the queue */

static void queue_drop(struct cpg *c)
{
	while (c->head) {
		struct message *m = c->head;

		c->head = m->next;
		free(m);
	}
	c->tail = &c->head;
	c->queued = 0;
}

/* Sends what it can. Returns true when corosync wants to be asked again. */
static bool queue_send(struct cpg *c)
{
	struct message *m;
	struct iovec iov;
	cs_error_t cs;

	for (;;) {
		pthread_mutex_lock(&c->lock);
		m = c->head;
		pthread_mutex_unlock(&c->lock);
		if (!m)
			return false;
		iov = (struct iovec){m->bytes, m->len};
		cs = cpg_mcast_joined(c->cpg, CPG_TYPE_AGREED, &iov, 1);
		if (cs == CS_ERR_TRY_AGAIN)
			return true;
		if (cs != CS_OK) {
			c->broken = true;
			return false;
		}
		pthread_mutex_lock(&c->lock);
		c->head = m->next;
		if (!c->head)
			c->tail = &c->head;
		c->queued--;
		pthread_mutex_unlock(&c->lock);
		free(m);
	}
}

int cpg_send(struct cpg *c, const void *bytes, uint32_t length_bytes)
{
	struct message *m;
	uint64_t one = 1;
	int ret = 0;

	if (length_bytes > CPG_MSG_MAX)
		return -EMSGSIZE;
	m = malloc(sizeof(*m) + length_bytes);
	if (!m)
		return -ENOBUFS;
	m->next = NULL;
	m->len = length_bytes;
	memcpy(m->bytes, bytes, length_bytes);
	pthread_mutex_lock(&c->lock);
	if (!c->connected)
		ret = -ENOTCONN;
	else if (c->queued >= QUEUE_MAX)
		ret = -ENOBUFS;
	if (!ret) {
		*c->tail = m;
		c->tail = &m->next;
		c->queued++;
	}
	pthread_mutex_unlock(&c->lock);
	if (ret)
		free(m);
	else if (write(c->wake_fd, &one, sizeof(one)) < 0)
		ret = 0; /* the counter is full: the thread is awake as it can be */
	return ret;
}

/* ------------------------------------------------------------------ the thread */

/*
 * The group hears that we have left it after our core has: it asks to join again. A corosync that lives says to the others "its
 * daemon has ended", and who has ended is not waited for; a core that does not know yet would go on as if it coordinated.
 */
static void went_down(struct cpg *c)
{
	struct event ev = {.type = EV_CPG_DOWN};

	/* It has not been one yet, and there are two of one node. */
	if (c->second)
		disconnect(c);
	c->up = c->broken = false;
	pthread_mutex_lock(&c->lock);
	c->connected = false;
	queue_drop(c);
	pthread_mutex_unlock(&c->lock);
	c->deliver(c->ctx, &ev);
}

static void try_rejoin(struct cpg *c)
{
	char err[160];

	pthread_mutex_lock(&c->lock);
	c->rejoin = false;
	pthread_mutex_unlock(&c->lock);
	if (c->up)
		return;
	disconnect(c);
	if (connect_all(c, err, sizeof(err))) {
		went_down(c);
		return;
	}
	pthread_mutex_lock(&c->lock);
	c->connected = true;
	pthread_mutex_unlock(&c->lock);
}

static void wait_and_dispatch(struct cpg *c, bool again)
{
	struct pollfd fds[3] = {{.fd = c->wake_fd, .events = POLLIN}, {.fd = -1}, {.fd = -1}};
	uint64_t count;

	if (c->up && (cpg_fd_get(c->cpg, &fds[1].fd) != CS_OK ||
			     quorum_fd_get(c->quorum, &fds[2].fd) != CS_OK)) {
		c->broken = true;
		return;
	}
	fds[1].events = fds[2].events = POLLIN;
	if (poll(fds, 3, again ? AGAIN_MS : -1) < 0)
		return;
	if (fds[0].revents && read(c->wake_fd, &count, sizeof(count)) < 0)
		return; /* EAGAIN: nothing to take */
	/* A corosync that has ended shows as readable, and as an error of dispatch. */
	if (fds[1].revents && cpg_dispatch(c->cpg, CS_DISPATCH_ALL) != CS_OK)
		c->broken = true;
	if (fds[2].revents && quorum_dispatch(c->quorum, CS_DISPATCH_ALL) != CS_OK)
		c->broken = true;
}

static void *thread_main(void *arg)
{
	struct cpg *c = arg;
	uint64_t close_ms = 0;
	bool again, closing, rejoin;

	for (;;) {
		pthread_mutex_lock(&c->lock);
		closing = c->closing;
		rejoin = c->rejoin;
		pthread_mutex_unlock(&c->lock);
		if (rejoin && !closing)
			try_rejoin(c);
		again = c->up && queue_send(c);
		if (closing) {
			if (!close_ms)
				close_ms = now_ms() + CLOSE_MS;
			if (!again || now_ms() >= close_ms)
				break;
		}
		if (!c->broken)
			wait_and_dispatch(c, again);
		if (c->broken)
			went_down(c);
	}
	if (c->up)
		(void)cpg_leave(c->cpg, &c->group); /* finalize does it as well */
	disconnect(c);
	return NULL;
}

static void group_name(struct cpg_name *g, const uint8_t uuid[16])
{
	char *p = g->value;

	p += sprintf(p, "csvfs:");
	for (int i = 0; i < 16; i++)
		p += sprintf(p, "%02x%s", uuid[i], i == 3 || i == 5 || i == 7 || i == 9 ? "-" : "");
	g->length = (uint32_t)(p - g->value);
}

int cpg_open(struct cpg **out, const uint8_t uuid[16], cpg_event_fn deliver, void *ctx, char *err,
	size_t err_bytes)
{
	struct cpg *c = calloc(1, sizeof(*c));
	int ret = -ENOMEM;

	*out = NULL;
	if (!c) {
		snprintf(err, err_bytes, "out of memory");
		return ret;
	}
	c->deliver = deliver;
	c->ctx = ctx;
	c->tail = &c->head;
	group_name(&c->group, uuid);
	pthread_mutex_init(&c->lock, NULL);
	c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->wake_fd < 0) {
		ret = -errno;
		snprintf(err, err_bytes, "eventfd: %s", strerror(-ret));
		goto out;
	}
	ret = connect_all(c, err, err_bytes);
	if (ret)
		goto out;
	c->connected = true;
	*out = c; /* before the first event: whoever gets it may want to send */
	ret = -pthread_create(&c->thread, NULL, thread_main, c);
	if (ret) {
		*out = NULL;
		snprintf(err, err_bytes, "thread: %s", strerror(-ret));
		disconnect(c);
		goto out;
	}
	return 0;
out:
	if (c->wake_fd >= 0)
		close(c->wake_fd);
	pthread_mutex_destroy(&c->lock);
	free(c);
	return ret;
}

static void ask_thread(struct cpg *c, bool *flag)
{
	uint64_t one = 1;

	pthread_mutex_lock(&c->lock);
	*flag = true;
	pthread_mutex_unlock(&c->lock);
	if (write(c->wake_fd, &one, sizeof(one)) < 0)
		return; /* the counter is full: the thread is awake as it can be */
}

void cpg_rejoin(struct cpg *c)
{
	ask_thread(c, &c->rejoin);
}

void cpg_close(struct cpg *c)
{
	ask_thread(c, &c->closing);
	pthread_join(c->thread, NULL);
	queue_drop(c);
	close(c->wake_fd);
	pthread_mutex_destroy(&c->lock);
	free(c);
}
