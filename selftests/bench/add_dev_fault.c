// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * add_dev_fault PID: until SIGTERM or SIGINT, the kernel refuses each ADD_DEV of that process with
 * EINVAL. Prints "ready" when it does, and "struck=N" at the end. N counts entries into the driver:
 * a command that was not submitted as asynchronous enters twice. One thread.
 */
#include "bpf/add_dev_fault.skel.h"
#include "lib/util.h"

#include <bpf/libbpf.h>
#include <err.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
	struct add_dev_fault_bpf *skel;
	sigset_t set;
	int r, sig;

	if (argc != 2 || atoi(argv[1]) <= 0)
		errx(2, "usage: add_dev_fault PID");
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	skel = add_dev_fault_bpf__open_and_load();
	if (!skel)
		err(1, "cannot load");
	skel->bss->tgid = (uint32_t)atoi(argv[1]);
	r = add_dev_fault_bpf__attach(skel);
	if (r)
		errx(1, "cannot attach: %s", strerror(-r));
	puts("ready");
	fflush(stdout);
	sigwait(&set, &sig);
	printf("struck=%llu\n", (unsigned long long)skel->bss->struck);
	add_dev_fault_bpf__destroy(skel);
	return 0;
}
