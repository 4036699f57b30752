/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/shell/target.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[64], image[96], hold[96], ipc[96];
static pid_t pid;

const char *target_image(void)
{
	return image;
}

int target_admin(const char *args)
{
	char cmd[512];

	snprintf(cmd, sizeof(cmd), "TGT_IPC_SOCKET=%s tgtadm --lld iscsi %s >%s/admin.log 2>&1",
		ipc, args, dir);
	return system(cmd);
}

void target_start(void)
{
	char args[256];

	pid = fork();
	if (!pid) {
		char log[96];
		int fd;

		prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that crashes leaves no target behind */
		snprintf(log, sizeof(log), "%s/tgtd.log", dir);
		fd = open(log, O_CREAT | O_WRONLY | O_APPEND, 0600);
		dup2(fd, 1);
		dup2(fd, 2);
		setenv("TGT_IPC_SOCKET", ipc, 1);
		setenv("HOLD", hold, 1);
		setenv("LD_PRELOAD", SLOW_PWRITE, 1);
		execlp("tgtd", "tgtd", "-f", "--nr_iothreads", "4", "--iscsi",
			"portal=127.0.0.1:3260", NULL);
		_exit(127);
	}
	for (int i = 0; i < 500 && target_admin("--op show --mode sys"); i++)
		usleep(10000);
	target_admin("--op new --mode target --tid 1 -T iqn.2026-11.test:lun");
	snprintf(args, sizeof(args), "--op new --mode logicalunit --tid 1 --lun 1 -b %s", image);
	target_admin(args);
	target_admin("--op update --mode logicalunit --tid 1 --lun 1 "
		     "--params thin_provisioning=1,scsi_id=test-1,scsi_sn=1");
	target_admin("--op bind --mode target --tid 1 -I ALL");
}

bool target_up(void)
{
	int fd;

	if (geteuid() != 0 || system("command -v tgtd tgtadm ip >/dev/null") ||
		unshare(CLONE_NEWNET) || system("ip link set lo up"))
		return false;
	snprintf(dir, sizeof(dir), "/tmp/csvfs-target.XXXXXX");
	if (!mkdtemp(dir))
		return false;
	snprintf(image, sizeof(image), "%s/lun.img", dir);
	snprintf(hold, sizeof(hold), "%s/hold", dir);
	snprintf(ipc, sizeof(ipc), "%s/ipc", dir);
	fd = open(image, O_CREAT | O_RDWR, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)TARGET_BYTES))
		return false;
	close(fd);
	target_start();
	return true;
}

void target_signal(int sig)
{
	kill(pid, sig);
}

void target_kill(void)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

void target_hold(bool on)
{
	if (on)
		close(open(hold, O_CREAT | O_WRONLY, 0600));
	else
		unlink(hold);
}

void target_down(void)
{
	char cmd[128];

	target_hold(false);
	target_kill();
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	if (system(cmd))
		fprintf(stderr, "%s stays behind\n", dir);
}
