// SPDX-License-Identifier: GPL-2.0-or-later
/* Reading kernel memory by BTF; see kmem.h. */
#include "tracing/kmem.h"
#include "bpf/gfs_trace.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <string.h>
#include <sys/mman.h>

#define ANON_DEPTH 8 /* nesting of anonymous structs and unions */

struct kmem {
	int prog;
	void *window;
	const struct btf
		*btf; /* a module's types are numbered after the kernel's: a search covers both */
};

int kmem_open(int peek_prog, int peek_map, const struct btf *btf, struct kmem **out)
{
	struct kmem *k = calloc(1, sizeof(*k));

	if (!k)
		return -ENOMEM;
	k->prog = peek_prog;
	k->window = mmap(NULL, GT_PEEK_MAX, PROT_READ, MAP_SHARED, peek_map, 0);
	if (k->window == MAP_FAILED) {
		free(k);
		return -errno;
	}
	k->btf = btf;
	*out = k;
	return 0;
}

void kmem_close(struct kmem *k)
{
	if (!k)
		return;
	munmap(k->window, GT_PEEK_MAX);
	free(k);
}

int kmem_read(struct kmem *k, uint64_t addr, void *buf, size_t len)
{
	for (size_t pos = 0; pos < len;) {
		struct gt_peek_args args = {.addr = addr + pos,
					    .len = (uint32_t)MIN(len - pos, (size_t)GT_PEEK_MAX)};
		LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &args, .ctx_size_in = sizeof(args));

		/* A program of this kind changes its input in place. */
		if (!addr || bpf_prog_test_run_opts(k->prog, &opts) || opts.retval || args.res)
			return -EFAULT;
		memcpy((char *)buf + pos, k->window, args.len);
		pos += args.len;
	}
	return 0;
}

uint64_t kmem_ptr(struct kmem *k, uint64_t addr)
{
	uint64_t v;

	return kmem_read(k, addr, &v, sizeof(v)) ? 0 : v;
}

uint32_t kmem_u32(struct kmem *k, uint64_t addr)
{
	uint32_t v;

	return kmem_read(k, addr, &v, sizeof(v)) ? 0 : v;
}

static int member_offset(const struct btf *b, int id, const char *member, int depth)
{
	const struct btf_type *t = btf__type_by_id(b, (uint32_t)id);
	const struct btf_member *m = btf_members(t);

	for (uint32_t i = 0; i < btf_vlen(t); i++, m++) {
		const char *name = btf__name_by_offset(b, m->name_off);
		int off = (int)(btf_member_bit_offset(t, i) / 8), r;

		if (name && *name) {
			if (!strcmp(name, member))
				return off;
			continue;
		}
		if (depth >= ANON_DEPTH || !btf_is_composite(btf__type_by_id(b, m->type)))
			continue;
		r = member_offset(b, (int)m->type, member, depth + 1);
		if (r >= 0)
			return off + r;
	}
	return -ENOENT;
}

int kmem_offset(struct kmem *k, const char *type, const char *member)
{
	int id = btf__find_by_name_kind(k->btf, type, BTF_KIND_STRUCT);

	return id > 0 ? member_offset(k->btf, id, member, 0) : -ENOENT;
}

int kmem_size(struct kmem *k, const char *type)
{
	int id = btf__find_by_name_kind(k->btf, type, BTF_KIND_STRUCT);

	return id > 0 ? (int)btf__type_by_id(k->btf, (uint32_t)id)->size : -ENOENT;
}
