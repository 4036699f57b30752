/* SPDX-License-Identifier: GPL-2.0-or-later */
/* iscsi_reinst.c - see iscsi_reinst.h. */
#include "csvfs/iscsi_reinst.h"

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "csvfs/iscsi_name.h"
#include "csvfs/iscsi_status.h"

#define POLL_NS (10 * NS_PER_MS) /* its descriptor is in nobody's epoll */
#define AGAIN_NS (200 * NS_PER_MS)
#define LOGOUT_NS NS_PER_SEC
/* So long a target may refuse connections, or say that it cannot just now. */
#define FAILING_NS (10 * NS_PER_SEC)

bool iscsi_reinst_needed(const char *vendor)
{
	return !strncmp(vendor, "LIO-ORG", 7) && (!vendor[7] || vendor[7] == ' ');
}

/* As libiscsi makes it of iscsi_set_isid_random(). */
static void isid_of(const struct bdev_config *cfg, const struct iscsi_url *u, uint8_t *isid)
{
	isid[0] = 0x80;
	scsi_put_be(isid + 1, iscsi_name_isid(cfg, u->target, u->lun), 3);
	scsi_put_be(isid + 4, cfg->session, 2);
}

void iscsi_reinst_init(struct iscsi_reinst *x, const struct bdev_config *cfg, const struct iscsi_url *u, const char *self)
{
	bool own = cfg->chap_user && cfg->chap_secret;
	uint8_t isid[6];

	memset(x, 0, sizeof(*x));
	snprintf(x->self, sizeof(x->self), "%s", self);
	snprintf(x->target, sizeof(x->target), "%.*s", SCSI_NAME_MAX - 1, u->target);
	snprintf(x->user, sizeof(x->user), "%s", own ? cfg->chap_user : u->user);
	snprintf(x->secret, sizeof(x->secret), "%s", own ? cfg->chap_secret : u->passwd);
	x->table = iscsi_nexus_table(u->portal, u->target, u->lun);
	isid_of(cfg, u, isid);
	if (x->table && cfg->session != BDEV_SESSION_RANDOM)
		iscsi_nexus_ours(x->table, self, isid);
}

static bool isid_set(struct iscsi_context *ctx, const uint8_t *i)
{
	uint32_t high = (uint32_t)i[1] << 16 | (uint32_t)i[2] << 8 | i[3], low = (uint32_t)i[4] << 8 | i[5];

	switch (i[0]) {
	case 0x80:
		return !iscsi_set_isid_random(ctx, high, low);
	case 0x40:
		return !iscsi_set_isid_en(ctx, high, low);
	default:
		return i[0] < 0x40 && !iscsi_set_isid_oui(ctx, (uint32_t)i[0] << 16 | high >> 8, (uint32_t)i[3] << 16 | low);
	}
}

static void refused(struct iscsi_reinst *x, const char *why)
{
	/* (The list of who may log in is the target's: each node's session must be one that any node can log in for.) */
	snprintf(x->text, sizeof(x->text), "no login in the place of %.64s: %.56s (CHAP secret and portals: as all nodes)",
		x->nexus.name[0] ? x->nexus.name : "one that is gone", why);
	x->st = ISCSI_REINST_REFUSED;
}

static void pause_for(struct iscsi_reinst *x, uint64_t ns)
{
	x->st = ISCSI_REINST_PAUSE;
	x->due_ns = bdev_now_ns() + ns;
}

/* The try has failed, and is repeated: for ever, if the connection was lost after it had been there. */
static void failed(struct iscsi_reinst *x, const char *why)
{
	uint64_t now_ns = bdev_now_ns();

	if (!x->failing_ns)
		x->failing_ns = now_ns;
	if (now_ns >= x->failing_ns + FAILING_NS)
		refused(x, why);
	else
		pause_for(x, AGAIN_NS);
}

static const char *error_text(struct iscsi_context *ctx, char *out, size_t out_bytes)
{
	return iscsi_status_error(ctx, out, out_bytes);
}

static void connected(struct iscsi_context *ctx, int status, void *data, void *priv);

/* RFC 7143 11.13.5: class 3 is the target's own trouble, which may pass. */
static bool is_for_now(struct iscsi_context *ctx)
{
	const char *number = strrchr(iscsi_get_error(ctx), '(');

	return number && strtol(number + 1, NULL, 10) >> 8 == 3;
}

static void logged_in(struct iscsi_context *ctx, int status, void *data, void *priv)
{
	struct iscsi_reinst *x = priv;
	const char *other = iscsi_get_target_address(ctx);
	char text[BDEV_TEXT_MAX];

	(void)data;
	if (x->st != ISCSI_REINST_LOGIN)
		return;
	if (status == SCSI_STATUS_CANCELLED) {
		pause_for(x, AGAIN_NS);
	} else if (status == SCSI_STATUS_GOOD) {
		x->st = ISCSI_REINST_LOGOUT;
	} else if (status == SCSI_STATUS_REDIRECT && *other && !x->redirected) {
		x->redirected = true;
		snprintf(x->portal, sizeof(x->portal), "%.*s", (int)sizeof(x->portal) - 1, other);
		pause_for(x, 0);
	} else if (is_for_now(ctx)) {
		failed(x, error_text(ctx, text, sizeof(text)));
	} else {
		refused(x, error_text(ctx, text, sizeof(text)));
	}
}

static void connected(struct iscsi_context *ctx, int status, void *data, void *priv)
{
	struct iscsi_reinst *x = priv;
	char text[BDEV_TEXT_MAX];

	(void)data;
	if (x->st != ISCSI_REINST_CONNECT)
		return;
	if (status != SCSI_STATUS_GOOD) {
		failed(x, error_text(ctx, text, sizeof(text)));
		return;
	}
	x->st = ISCSI_REINST_LOGIN;
	if (iscsi_login_async(ctx, logged_in, x))
		failed(x, error_text(ctx, text, sizeof(text)));
}

static void logged_out(struct iscsi_context *ctx, int status, void *data, void *priv)
{
	struct iscsi_reinst *x = priv;

	(void)ctx;
	(void)status;
	(void)data;
	x->due_ns = 0;
}

static void drop(struct iscsi_reinst *x)
{
	struct iscsi_context *ctx = x->ctx;

	x->ctx = NULL;
	if (ctx)
		iscsi_destroy_context(ctx);
}

void iscsi_reinst_stop(struct iscsi_reinst *x)
{
	x->st = ISCSI_REINST_IDLE; /* no callback means anything any more */
	drop(x);
}

/* Of the next one that is to be ended. */
static void begin(struct iscsi_reinst *x)
{
	struct scsi_nexus was = x->nexus;
	const char *why;

	switch (iscsi_nexus_next(x->table, x->self, &x->nexus, &why)) {
	case ISCSI_NEXUS_NONE:
		x->st = ISCSI_REINST_IDLE;
		return;
	case ISCSI_NEXUS_NEVER:
		refused(x, why);
		return;
	case ISCSI_NEXUS_NEXT:
		break;
	}
	if (memcmp(was.isid, x->nexus.isid, sizeof(was.isid)) != 0 || strcmp(was.name, x->nexus.name) != 0)
		x->failing_ns = 0;
	x->ctx = iscsi_create_context(x->nexus.name);
	if (!x->ctx) {
		failed(x, "out of memory");
		return;
	}
	if (!isid_set(x->ctx, x->nexus.isid)) {
		refused(x, "no login can have its ISID");
		return;
	}
	iscsi_set_session_type(x->ctx, ISCSI_SESSION_NORMAL);
	iscsi_set_header_digest(x->ctx, ISCSI_HEADER_DIGEST_NONE);
	iscsi_set_noautoreconnect(x->ctx, 1);
	iscsi_set_targetname(x->ctx, x->target);
	if (x->user[0])
		iscsi_set_initiator_username_pwd(x->ctx, x->user, x->secret);
	x->st = ISCSI_REINST_CONNECT;
	if (iscsi_connect_async(x->ctx, x->portal, connected, x))
		failed(x, "no connection");
}

static void service(struct iscsi_reinst *x)
{
	struct pollfd p = {.fd = iscsi_get_fd(x->ctx), .events = (short)iscsi_which_events(x->ctx)};
	enum iscsi_reinst_st was = x->st;
	int n = poll(&p, 1, 0), err;

	/* While connecting, libiscsi takes any POLLOUT for "connected". */
	err = iscsi_service(x->ctx, n > 0 ? p.revents : 0);
	if (x->st != was || (!err && iscsi_get_fd(x->ctx) >= 0))
		return;
	if (was == ISCSI_REINST_LOGOUT)
		x->due_ns = 0;
	else if (was == ISCSI_REINST_CONNECT)
		failed(x, "no connection");
	else
		pause_for(x, AGAIN_NS);
}

void iscsi_reinst_start(struct iscsi_reinst *x, const char *portal, uint64_t now_ns)
{
	snprintf(x->portal, sizeof(x->portal), "%s", portal);
	x->redirected = false;
	x->failing_ns = 0;
	x->text[0] = 0;
	x->st = ISCSI_REINST_PAUSE;
	x->due_ns = now_ns;
}

/* Logged in: all that the nexus had in flight before has ended. */
static void succeeded(struct iscsi_reinst *x, uint64_t now_ns)
{
	iscsi_nexus_ended(x->table, &x->nexus);
	x->failing_ns = 0;
	x->due_ns = now_ns + LOGOUT_NS;
	if (iscsi_logout_async(x->ctx, logged_out, x))
		x->due_ns = 0;
}

enum iscsi_reinst_st iscsi_reinst_step(struct iscsi_reinst *x, uint64_t now_ns)
{
	enum iscsi_reinst_st was = x->st;

	x->poll_ns = now_ns + POLL_NS;
	if (x->ctx && (was == ISCSI_REINST_CONNECT || was == ISCSI_REINST_LOGIN || was == ISCSI_REINST_LOGOUT))
		service(x);
	if (was != ISCSI_REINST_LOGOUT && x->st == ISCSI_REINST_LOGOUT)
		succeeded(x, now_ns);
	if (x->st == ISCSI_REINST_LOGOUT && now_ns >= x->due_ns)
		pause_for(x, 0);
	if (x->ctx && (x->st == ISCSI_REINST_PAUSE || x->st == ISCSI_REINST_REFUSED))
		drop(x);
	if (x->st == ISCSI_REINST_PAUSE && bdev_now_ns() >= x->due_ns)
		begin(x);
	if (x->ctx && (x->st == ISCSI_REINST_PAUSE || x->st == ISCSI_REINST_REFUSED))
		drop(x);
	return x->st;
}

uint64_t iscsi_reinst_due_ns(const struct iscsi_reinst *x)
{
	switch (x->st) {
	case ISCSI_REINST_IDLE:
	case ISCSI_REINST_REFUSED:
		return NEVER;
	case ISCSI_REINST_PAUSE:
		return x->due_ns;
	default:
		return x->poll_ns;
	}
}
