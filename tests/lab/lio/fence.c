/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fence.c - who fences, at a real target: registers, reserves, sees who is registered; then by lines from stdin:
 *
 *	preempt KEY   takes that key away
 *	keys          sees who is registered
 *	reset         LUN_RESET; says when it is answered, and how old the oldest command has been at most
 *	down          ends its session, and begins anew in another one
 *
 * usage: lio_fence URL (tests/lab/lio/run starts it)
 */
#include "tests/shell/bdev_user.h"

#define KEY 0xfe

static struct user U;

static void say(const char *what, const struct bdev_req *r, uint64_t begin_ns, uint64_t age_ns)
{
	printf("%s %s after %.2f s, age %.2f s%s%s\n", what, lun_status_name(r->status), (double)(bdev_now_ns() - begin_ns) / 1e9,
		(double)age_ns / 1e9, *r->text ? ": " : "", r->text);
	fflush(stdout);
}

static char said[BDEV_TEXT_MAX];

static void ended(struct bdev_req *r)
{
	snprintf(said, sizeof(said), "%s", r->text);
	r->owner = r;
}

static void command(const char *what, struct lun_cmd cmd)
{
	uint64_t begin_ns = bdev_now_ns(), age_ns = 0;
	struct bdev_req r;

	do {
		r = (struct bdev_req){.cmd = cmd, .done = ended};
		bdev_submit(U.b, &r);
		(void)bdev_service(U.b, POLLOUT); /* its state tells */
		while (!user_ended(&r)) {
			uint64_t oldest = bdev_oldest_ns(U.b), now = bdev_now_ns();

			if (oldest != NEVER && now > oldest && now - oldest > age_ns)
				age_ns = now - oldest;
			user_turn(&U, 5);
		}
	} while (r.status == LUN_RETRY);
	r.text = said;
	say(what, &r, begin_ns, age_ns);
}

static bool log_in(const char *url)
{
	if (!user_open(&U, url, 1, BDEV_SESSION_CORE))
		return false;
	printf("up: %s\n", bdev_info(U.b)->vendor);
	command("register", (struct lun_cmd){.op = LUN_PR_REGISTER, .key = KEY});
	command("reserve", (struct lun_cmd){.op = LUN_PR_RESERVE, .key = KEY});
	command("keys", (struct lun_cmd){.op = LUN_PR_READ_KEYS});
	return true;
}

int main(int argc, char **argv)
{
	char line[128];

	if (argc != 2 || !log_in(argv[1]))
		return 2;
	while (fgets(line, sizeof(line), stdin)) {
		if (!strncmp(line, "preempt ", 8))
			command("preempt", (struct lun_cmd){.op = LUN_PR_PREEMPT, .key = KEY, .victim = strtoull(line + 8, NULL, 0)});
		else if (!strcmp(line, "keys\n"))
			command("keys", (struct lun_cmd){.op = LUN_PR_READ_KEYS});
		else if (!strcmp(line, "reset\n"))
			command("reset", (struct lun_cmd){.op = LUN_RESET});
		else if (!strcmp(line, "down\n")) {
			bdev_close(U.b);
			if (!log_in(argv[1]))
				return 2;
		}
	}
	bdev_close(U.b);
	return 0;
}
