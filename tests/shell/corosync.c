/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/shell/corosync.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[64];
static int net_fd[COROSYNC_NODES + 1];
static pid_t pid[COROSYNC_NODES + 1];

static bool shell(const char *fmt, uint32_t node, long arg)
{
	char cmd[512];

	snprintf(cmd, sizeof(cmd), fmt, node, arg);
	return system(cmd) == 0;
}

static void write_conf(uint32_t node)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/conf%u", dir, node);
	f = fopen(path, "w");
	fprintf(f,
		"totem {\n version: 2\n cluster_name: lab\n transport: knet\n token: 1000\n}\n"
		"quorum {\n provider: corosync_votequorum\n}\n"
		"system {\n state_dir: %s/state%u\n}\n"
		"logging {\n to_stderr: no\n to_syslog: no\n to_logfile: yes\n logfile: "
		"%s/log%u\n}\n"
		"nodelist {\n",
		dir, node, dir, node);
	for (uint32_t i = 1; i <= COROSYNC_NODES; i++)
		fprintf(f, " node {\n  name: n%u\n  nodeid: %u\n  ring0_addr: 10.77.0.%u\n }\n", i,
			i, i);
	fprintf(f, "}\n");
	fclose(f);
	snprintf(path, sizeof(path), "%s/state%u", dir, node);
	mkdir(path, 0700);
}

/* The namespace lives on in the descriptor when the process that made it has ended. */
static bool node_net(uint32_t node)
{
	char path[64];
	int ready[2];
	char c;
	pid_t p;

	if (pipe(ready))
		return false;
	p = fork();
	if (!p) {
		if (unshare(CLONE_NEWNET))
			_exit(1);
		c = 1;
		if (write(ready[1], &c, 1) == 1)
			pause();
		_exit(1);
	}
	close(ready[1]);
	if (read(ready[0], &c, 1) != 1)
		return false;
	close(ready[0]);
	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)p);
	net_fd[node] = open(path, O_RDONLY | O_CLOEXEC);
	if (!shell("ip link add v%u type veth peer name eth0 netns %ld", node, p) ||
		!shell("ip link set v%u master br0 up", node, 0))
		return false;
	kill(p, SIGKILL);
	waitpid(p, NULL, 0);
	p = fork();
	if (!p) {
		if (setns(net_fd[node], CLONE_NEWNET))
			_exit(1);
		_exit(shell("ip link set lo up && ip addr add 10.77.0.%u/24 dev eth0 && "
			    "ip link set eth0 up",
			      node, 0)
				? 0
				: 1);
	}
	return waitpid(p, NULL, 0) == p;
}

bool corosync_net_up(void)
{
	if (geteuid() != 0 || system("command -v corosync ip >/dev/null") ||
		unshare(CLONE_NEWNET) ||
		system("ip link set lo up && ip link add br0 type bridge && ip link set br0 up"))
		return false;
	snprintf(dir, sizeof(dir), "/tmp/csvfs-corosync.XXXXXX");
	if (!mkdtemp(dir))
		return false;
	for (uint32_t i = 1; i <= COROSYNC_NODES; i++) {
		if (!node_net(i))
			return false;
		write_conf(i);
	}
	return true;
}

/* Only /run/corosync.pid is fixed in corosync: it gets a /run of its own. */
void corosync_start(uint32_t node)
{
	char conf[96];

	snprintf(conf, sizeof(conf), "%s/conf%u", dir, node);
	pid[node] = fork();
	if (pid[node])
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (!setns(net_fd[node], CLONE_NEWNET) && !unshare(CLONE_NEWNS) &&
		!mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
		!mount("none", "/run", "tmpfs", 0, "size=1m"))
		execlp("corosync", "corosync", "-f", "-c", conf, NULL);
	_exit(127);
}

void corosync_kill(uint32_t node)
{
	if (pid[node] <= 0)
		return;
	kill(pid[node], SIGKILL);
	waitpid(pid[node], NULL, 0);
	/* What libqb keeps in shared memory for the server with that pid. */
	if (!shell("rm -rf /dev/shm/qb-corosync-%u-* /dev/shm/qb-%ld-*", (uint32_t)pid[node], pid[node]))
		fprintf(stderr, "/dev/shm/qb-*%d-* stays behind\n", (int)pid[node]);
	pid[node] = 0;
}

void corosync_cut(uint32_t node, bool cut)
{
	if (!shell(cut ? "ip link set v%u down" : "ip link set v%u up", node, 0))
		abort();
}

pid_t corosync_spawn(uint32_t node, void (*run)(uint32_t node), int *in, int *out)
{
	int to[2], from[2];
	pid_t p;

	if (pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC))
		abort();
	p = fork();
	if (!p) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(to[0], 0);
		dup2(from[1], 1);
		close(to[1]);
		close(from[0]);
		if (setns(net_fd[node], CLONE_NEWNET))
			_exit(1);
		run(node);
		_exit(0);
	}
	close(to[0]);
	close(from[1]);
	*in = to[1];
	*out = from[0];
	return p;
}

void corosync_net_down(void)
{
	char cmd[96];

	for (uint32_t i = 1; i <= COROSYNC_NODES; i++)
		if (pid[i])
			corosync_kill(i);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	if (dir[0] && system(cmd))
		fprintf(stderr, "%s stays behind\n", dir);
}
