// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The kernel log; see kmsg.h. A report is a headline and the lines that follow it: which device or
 * driver it is about shows only further down, in "RIP:" or the call trace. So a headline is kept
 * until a line names a function of the block layer or of ublk, or the report ends.
 */
#include "tracing/kmsg.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define RECORD_MAX 8192  /* the kernel's limit of one record, with its fields */
#define REPORT_MAX 200   /* lines; a report is shorter */
#define PER_POLL   20000 /* records; the rest waits for the next poll */

struct kmsg {
	int fd;
	uint64_t lost;
	uint64_t next_seq; /* expected; 0 = none read yet */
	/* The report that is being read; what[0] = 0: none. */
	char what[16];
	char headline[200], comm[REC_COMM_LEN], extra[96];
	unsigned int lines;
};

/* How a report begins. An oops has several such lines in a row: the first is the headline. */
static const struct {
	const char *text;
	const char *what;
} headlines[] = {
	{"BUG: ", "oops"},
	{"kernel BUG at ", "oops"},
	{"Oops: ", "oops"},
	{"general protection fault", "oops"},
	{"Unable to handle kernel", "oops"},
	{"INFO: task ", "hung"},
};

/* Functions that make a report ours; by prefix. */
static const char *const prefixes[] = {
	"ublk_",      "__ublk_",      "blk_",        "__blk_",          "blkdev_",
	"bdev_",      "__bdev",       "elv_",        "elevator_",       "bio_",
	"submit_bio", "__submit_bio", "del_gendisk", "device_add_disk", "add_disk",
	"disk_",      "queue_attr_",  "read_part_",
};

static bool is_ours(const char *sym)
{
	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
		if (!strncmp(sym, prefixes[i], strlen(prefixes[i])))
			return true;
	return false;
}

/* "symbol+0x12/0x34 [module]", alone on its line or after "RIP: 0010:": without the size. */
static bool symbol_in(const char *text, char *sym, size_t size)
{
	const char *rip = strstr(text, "RIP: "), *plus;
	size_t n;

	if (rip) {
		text = strchr(rip + 5, ':');
		if (!text)
			return false;
		text++;
	}
	/* "? symbol": a stale word on the stack, not a caller. */
	text += strspn(text, " ");
	plus = strstr(text, "+0x");
	if (!plus || strcspn(text, " ") < (size_t)(plus - text))
		return false;
	n = (size_t)(plus - text);
	if (n >= size)
		return false;
	memcpy(sym, text, n);
	sym[n] = '\0';
	return true;
}

static void forget(struct kmsg *k)
{
	k->what[0] = '\0';
}

static bool is_headline(const char *text, const char **what)
{
	for (size_t i = 0; i < ARRAY_SIZE(headlines); i++) {
		if (strncmp(text, headlines[i].text, strlen(headlines[i].text)))
			continue;
		/* "… blocked for more than 120 seconds", "… is blocked on a mutex likely owned by
		 * …" */
		if (!strcmp(headlines[i].what, "hung") && !strstr(text, "blocked for more than"))
			continue;
		*what = headlines[i].what;
		return true;
	}
	return false;
}

static void begin(struct kmsg *k, const char *what, const char *text, uint64_t t_us)
{
	/* BUG:, #PF:, Oops: and general protection fault of one report follow one another. */
	if (k->what[0] && !strcmp(what, "oops") && !strcmp(k->what, "oops") && k->lines < 8) {
		if (!strncmp(text, "Oops: ", 6))
			snprintf(k->extra, sizeof(k->extra), "; %.80s", text);
		return;
	}
	snprintf(k->what, sizeof(k->what), "%s", what);
	snprintf(k->headline, sizeof(k->headline), "[%llu.%06llu] %.160s",
		 (unsigned long long)(t_us / 1000000), (unsigned long long)(t_us % 1000000), text);
	k->comm[0] = k->extra[0] = '\0';
	k->lines = 0;
}

static void note_comm(struct kmsg *k, const char *text)
{
	const char *p = strstr(text, " Comm: ");
	size_t n;

	if (!p || k->comm[0])
		return;
	p += 7;
	n = MIN(strcspn(p, " "), sizeof(k->comm) - 1);
	memcpy(k->comm, p, n);
	k->comm[n] = '\0';
}

static int tell(struct kmsg *k, const char *sym, void (*fn)(void *ctx, const struct rec *r),
		void *ctx)
{
	struct rec r = {.t_ns = now_ns(), .kind = REC_KMSG};

	snprintf(r.kmsg.what, sizeof(r.kmsg.what), "%s", k->what);
	snprintf(r.kmsg.line, sizeof(r.kmsg.line), "%s%s; in %.64s%s%s", k->headline, k->extra, sym,
		 k->comm[0] ? "; task " : "", k->comm);
	forget(k);
	fn(ctx, &r);
	return 1;
}

static int line_in(struct kmsg *k, const char *text, uint64_t t_us,
		   void (*fn)(void *ctx, const struct rec *r), void *ctx)
{
	const char *what;
	char sym[128];

	if (is_headline(text, &what)) {
		begin(k, what, text, t_us);
		return 0;
	}
	if (!k->what[0])
		return 0;
	if (++k->lines > REPORT_MAX || strstr(text, "---[ end trace") || strstr(text, "</TASK>")) {
		forget(k);
		return 0;
	}
	note_comm(k, text);
	if (symbol_in(text, sym, sizeof(sym)) && is_ours(sym))
		return tell(k, sym, fn, ctx);
	return 0;
}

int kmsg_feed(struct kmsg *k, const char *record, size_t len,
	      void (*fn)(void *ctx, const struct rec *r), void *ctx)
{
	char text[1024], head[96];
	unsigned long long seq, t_us;
	const char *body = memchr(record, ';', len);
	size_t n = 0;
	unsigned int prio;

	if (!body || (size_t)(body - record) >= sizeof(head))
		return 0;
	memcpy(head, record, (size_t)(body - record));
	head[body - record] = '\0';
	if (sscanf(head, "%u,%llu,%llu", &prio, &seq, &t_us) != 3)
		return 0;
	if (k->next_seq && seq > k->next_seq)
		k->lost += seq - k->next_seq;
	k->next_seq = seq + 1;
	/* What a program wrote there looks the same but for its facility: it is not the kernel's.
	 */
	if (prio >= 8)
		return 0;
	for (body++; body < record + len && *body != '\n' && n < sizeof(text) - 1; body++)
		text[n++] = isprint((unsigned char)*body) ? *body : ' ';
	text[n] = '\0';
	return line_in(k, text, t_us, fn, ctx);
}

struct kmsg *kmsg_new(void)
{
	struct kmsg *k = calloc(1, sizeof(*k));

	if (k)
		k->fd = -1;
	return k;
}

int kmsg_open(bool from_start, struct kmsg **out, char *err, size_t err_len)
{
	struct kmsg *k = kmsg_new();
	int r;

	if (!k) {
		snprintf(err, err_len, "/dev/kmsg: no memory");
		return -ENOMEM;
	}
	k->fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (k->fd < 0 || (!from_start && lseek(k->fd, 0, SEEK_END) < 0)) {
		r = -errno;
		snprintf(err, err_len, "/dev/kmsg: %s%s", strerror(-r),
			 r == -EPERM || r == -EACCES ? "; needs CAP_SYSLOG" : "");
		kmsg_close(k);
		return r;
	}
	*out = k;
	return 0;
}

void kmsg_close(struct kmsg *k)
{
	if (!k)
		return;
	if (k->fd >= 0)
		close(k->fd);
	free(k);
}

int kmsg_fd(const struct kmsg *k)
{
	return k->fd;
}

uint64_t kmsg_lost(const struct kmsg *k)
{
	return k->lost;
}

int kmsg_poll(struct kmsg *k, void (*fn)(void *ctx, const struct rec *r), void *ctx)
{
	char record[RECORD_MAX + 1];
	int calls = 0;

	for (unsigned int i = 0; k->fd >= 0 && i < PER_POLL; i++) {
		ssize_t n = read(k->fd, record, RECORD_MAX);

		if (n > 0) {
			record[n] = '\0';
			calls += kmsg_feed(k, record, (size_t)n, fn, ctx);
		} else if (n < 0 && errno == EPIPE) {
			/* Overwritten under us: the next read goes on with the oldest there is. */
			forget(k);
		} else if (n < 0 && errno == EINVAL) {
			/* Larger than any record should be; the kernel does not step over it. */
			return -EINVAL;
		} else if (n < 0 && errno != EINTR) {
			return errno == EAGAIN ? calls : calls ? calls : -errno;
		} else if (!n) {
			break;
		}
	}
	return calls;
}
