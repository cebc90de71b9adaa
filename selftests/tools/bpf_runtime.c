// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * bpf_runtime: what is loaded in this kernel under names that begin with PREFIX, for scenarios that
 * ask what a tracer costs and whether it left something.
 *
 *   bpf_runtime [PREFIX]          "programs=N run_ns=T runs=R": sums over programs; they grow while
 *                                 kernel.bpf_stats_enabled is 1
 *   bpf_runtime --list [PREFIX]   a line for each program, map and link; exit status 1 if there is
 * any
 *
 * A link has no name: it is listed if its program is. PREFIX is "gt_" if not given, "" is
 * everything.
 */
#include "selftests/tools/tool.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <getopt.h>

struct totals {
	unsigned long programs, others;
	uint64_t run_ns, runs;
};

static bool begins(const char *name, const char *prefix)
{
	return !strncmp(name, prefix, strlen(prefix));
}

/* What the kernel holds under this id, of programs, maps or links; false: it has gone. */
static bool info_read(int fd, void *info, uint32_t len)
{
	int r;

	if (fd < 0)
		return false;
	memset(info, 0, len);
	r = bpf_obj_get_info_by_fd(fd, info, &len);
	close(fd);
	return !r;
}

static bool prog_read(uint32_t id, struct bpf_prog_info *info)
{
	return info_read(bpf_prog_get_fd_by_id(id), info, sizeof(*info));
}

static void programs(const char *prefix, bool list, struct totals *t)
{
	struct bpf_prog_info info;

	for (uint32_t id = 0; !bpf_prog_get_next_id(id, &id);) {
		if (!prog_read(id, &info) || !begins(info.name, prefix))
			continue;
		t->programs++;
		t->run_ns += info.run_time_ns;
		t->runs += info.run_cnt;
		if (list)
			printf("program %u %s run_ns=%llu runs=%llu\n", id, info.name,
			       (unsigned long long)info.run_time_ns,
			       (unsigned long long)info.run_cnt);
	}
}

static void maps(const char *prefix, struct totals *t)
{
	struct bpf_map_info info;

	for (uint32_t id = 0; !bpf_map_get_next_id(id, &id);) {
		if (!info_read(bpf_map_get_fd_by_id(id), &info, sizeof(info)) ||
		    !begins(info.name, prefix))
			continue;
		t->others++;
		printf("map %u %s\n", id, info.name);
	}
}

static void links(const char *prefix, struct totals *t)
{
	struct bpf_prog_info prog;
	struct bpf_link_info info;

	for (uint32_t id = 0; !bpf_link_get_next_id(id, &id);) {
		if (!info_read(bpf_link_get_fd_by_id(id), &info, sizeof(info)) ||
		    !prog_read(info.prog_id, &prog) || !begins(prog.name, prefix))
			continue;
		t->others++;
		printf("link %u of program %u %s\n", id, info.prog_id, prog.name);
	}
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{"list", no_argument, NULL, 'l'},
		{NULL, 0, NULL, 0},
	};
	const char *prefix = "gt_";
	struct totals t = {0};
	bool list = false;
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1)
		if (c == 'l')
			list = true;
		else
			return EXIT_USE;
	if (optind < argc)
		prefix = argv[optind];
	if (geteuid())
		errx(EXIT_USE, "only root sees them all");
	programs(prefix, list, &t);
	if (list) {
		maps(prefix, &t);
		links(prefix, &t);
		return t.programs || t.others ? EXIT_BROKEN : 0;
	}
	printf("programs=%lu run_ns=%llu runs=%llu\n", t.programs, (unsigned long long)t.run_ns,
	       (unsigned long long)t.runs);
	return 0;
}
