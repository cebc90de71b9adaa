// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * objects: what is in a store, seen and changed without a daemon, whatever kind of store it is.
 * One thread.
 */
#include "selftests/tools/tool.h"

#include "store/store.h"

#define OBJECT_MAX (1 * GiB)
#define LIST_PAGE  500

static uint64_t deadline_ns; /* of the whole command; 0 = the store's own for each operation */

static struct store *open_store(const char *url)
{
	char msg[512];
	struct store *s;
	int r = store_open(url, NULL, &s, msg, sizeof(msg));

	if (r)
		errx(EXIT_USE, "%s", msg);
	return s;
}

static void run(struct store *s, struct store_op *op)
{
	static const char *const names[] = {
		[STORE_GET] = "GET",   [STORE_PUT] = "PUT",       [STORE_HEAD] = "HEAD",
		[STORE_LIST] = "LIST", [STORE_DELETE] = "DELETE",
	};
	int r;

	op->deadline_ns = deadline_ns;
	r = store_run(s, op);
	if (r)
		errx(EXIT_BROKEN, "%s of '%s': %s", names[op->type], op->key, strerror(-r));
}

static void *get(struct store *s, const char *key, size_t *len)
{
	struct store_op op = {.type = STORE_GET, .prio = STORE_PRIO_META, .key = key};

	run(s, &op);
	*len = op.size_out;
	return op.buf;
}

static void put(struct store *s, const char *key, void *data, size_t len)
{
	struct iovec iov = {data, len};
	struct store_op op = {
		.type = STORE_PUT,
		.prio = STORE_PRIO_META,
		.key = key,
		.iov = &iov,
		.iovcnt = 1,
	};

	run(s, &op);
}

/* Calls each() for every key that begins with prefix, in key order. */
static void for_each(struct store *s, const char *prefix,
		     void (*each)(const struct store_list_entry *e, void *ctx), void *ctx)
{
	struct store_list_entry *page = zalloc_or_die(LIST_PAGE, sizeof(*page));
	struct store_op op = {
		.type = STORE_LIST,
		.prio = STORE_PRIO_META,
		.key = prefix,
		.entries = page,
		.max_entries = LIST_PAGE,
	};

	do {
		run(s, &op);
		for (unsigned int i = 0; i < op.nr_entries; i++)
			each(&page[i], ctx);
		if (op.nr_entries)
			snprintf(op.start_after, sizeof(op.start_after), "%s",
				 page[op.nr_entries - 1].key);
	} while (op.truncated);
	free(page);
}

static void print_key(const struct store_list_entry *e, void *ctx)
{
	printf("%s\n", e->key);
}

static void do_ls(struct store *s, const char *prefix)
{
	for_each(s, prefix, print_key, NULL);
}

static void do_head(struct store *s, const char *key)
{
	struct store_op op = {.type = STORE_HEAD, .prio = STORE_PRIO_META, .key = key};

	run(s, &op);
	printf("%llu\n", (unsigned long long)op.object_size);
}

static void do_get(struct store *s, const char *key)
{
	size_t len;
	void *data = get(s, key, &len);

	if (fwrite(data, 1, len, stdout) != len || fflush(stdout))
		err(EXIT_USE, "standard output");
	free(data);
}

static void do_put(struct store *s, const char *key)
{
	size_t len = 0, room = 1 << 16, n;
	char *data = zalloc_or_die(1, room);

	while ((n = fread(data + len, 1, room - len, stdin))) {
		len += n;
		if (len < room)
			continue;
		room *= 2;
		data = room <= OBJECT_MAX ? realloc(data, room) : NULL;
		if (!data)
			errx(EXIT_USE, "an object of more than %zu bytes", len);
	}
	if (ferror(stdin))
		err(EXIT_USE, "standard input");
	put(s, key, data, len);
	free(data);
}

struct copy {
	struct store *from, *to;
	uint64_t objects, bytes;
};

static void copy_one(const struct store_list_entry *e, void *ctx)
{
	struct copy *c = ctx;
	size_t len;
	void *data = get(c->from, e->key, &len);

	put(c->to, e->key, data, len);
	c->objects++;
	c->bytes += len;
	free(data);
}

static void do_copy(struct store *s, const char *url)
{
	struct copy c = {.from = s, .to = open_store(url)};

	for_each(s, "", copy_one, &c);
	store_close(c.to);
	printf("%llu objects, %llu bytes\n", (unsigned long long)c.objects,
	       (unsigned long long)c.bytes);
}

static const struct {
	const char *name;
	void (*run)(struct store *s, const char *arg);
	const char *def; /* of an absent argument; NULL: it is needed */
} commands[] = {
	{"ls", do_ls, ""},     {"head", do_head, NULL}, {"get", do_get, NULL},
	{"put", do_put, NULL}, {"copy", do_copy, NULL},
};

static const char usage_text[] =
	"usage: objects [--seconds N] COMMAND\n"
	"       objects ls STORE_URL [PREFIX]    keys, in order\n"
	"       objects head STORE_URL KEY       its size\n"
	"       objects get STORE_URL KEY        to standard output\n"
	"       objects put STORE_URL KEY        from standard input, whatever is there\n"
	"       objects copy STORE_URL OTHER_URL all of them\n"
	"Exit status: 0; 1 the store refused or has no such object; 2 bad use.\n";

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "--help")) {
		fputs(usage_text, stdout);
		return 0;
	}
	if (argc > 3 && !strcmp(argv[1], "--seconds")) {
		deadline_ns = now_ns() + strtoull(argv[2], NULL, 10) * NSEC_PER_SEC;
		argv += 2;
		argc -= 2;
	}
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		const char *arg = argc == 4 ? argv[3] : commands[i].def;
		struct store *s;

		if (argc < 3 || argc > 4 || strcmp(argv[1], commands[i].name) || !arg)
			continue;
		s = open_store(argv[2]);
		commands[i].run(s, arg);
		store_close(s);
		return 0;
	}
	fputs(usage_text, stderr);
	return EXIT_USE;
}
