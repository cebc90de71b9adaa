// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The two documents of S3 that are read: <Error> and <ListBucketResult>. Streaming, on expat. What
 * comes in is not trusted: a document type declaration, and with it every entity of the sender's
 * own, ends the parse; depth, text and document are bounded.
 */
#include "store/s3_priv.h"

#include <expat.h>
#include <stdio.h>
#include <string.h>

#define DEPTH_MAX    16
#define TEXT_MAX     3080 /* a key of 1024 bytes, each percent-encoded */
#define DOCUMENT_MAX (16 * MiB)
#define ERROR_MAX    (64 * KiB)

struct doc {
	XML_Parser parser;
	unsigned int depth;
	uint64_t bytes;
	char text[TEXT_MAX + 1]; /* of the innermost element */
	size_t text_len;
	bool failed;
	void (*start)(struct doc *d, const char *name); /* depth counts the element */
	void (*end)(struct doc *d, const char *name);
};

static void doc_fail(struct doc *d)
{
	d->failed = true;
	XML_StopParser(d->parser, XML_FALSE);
}

/* Servers differ in the namespace; the name alone is told apart. */
static const char *local_name(const char *name)
{
	const char *colon = strrchr(name, ':');

	return colon ? colon + 1 : name;
}

static void XMLCALL on_start(void *user, const XML_Char *name, const XML_Char **attrs __unused)
{
	struct doc *d = user;

	if (++d->depth > DEPTH_MAX) {
		doc_fail(d);
		return;
	}
	d->text_len = 0;
	if (d->start)
		d->start(d, local_name(name));
}

static void XMLCALL on_end(void *user, const XML_Char *name)
{
	struct doc *d = user;

	d->text[d->text_len] = '\0';
	d->end(d, local_name(name));
	d->depth--;
	d->text_len = 0;
}

static void XMLCALL on_text(void *user, const XML_Char *s, int len)
{
	struct doc *d = user;

	if (d->text_len + (size_t)len > TEXT_MAX) {
		doc_fail(d);
		return;
	}
	memcpy(d->text + d->text_len, s, (size_t)len);
	d->text_len += (size_t)len;
}

static void XMLCALL on_doctype(void *user, const XML_Char *name __unused,
			       const XML_Char *sys __unused, const XML_Char *pub __unused,
			       int internal __unused)
{
	doc_fail(user);
}

static bool doc_init(struct doc *d)
{
	d->parser = XML_ParserCreate("UTF-8");
	if (!d->parser)
		return false;
	XML_SetUserData(d->parser, d);
	XML_SetElementHandler(d->parser, on_start, on_end);
	XML_SetCharacterDataHandler(d->parser, on_text);
	XML_SetStartDoctypeDeclHandler(d->parser, on_doctype);
	return true;
}

static bool doc_feed(struct doc *d, const char *data, size_t len, bool last)
{
	d->bytes += len;
	if (d->failed || d->bytes > DOCUMENT_MAX || len > INT32_MAX)
		d->failed = true;
	else if (XML_Parse(d->parser, data, (int)len, last) != XML_STATUS_OK)
		d->failed = true;
	return !d->failed;
}

/* ---- <Error> ---- */

struct error_doc {
	struct doc d;
	struct s3_error *e;
	bool is_error;
};

static void error_start(struct doc *d, const char *name)
{
	struct error_doc *ed = container_of(d, struct error_doc, d);

	if (d->depth == 1)
		ed->is_error = !strcmp(name, "Error");
}

static void text_keep(char *out, size_t size, const char *text)
{
	size_t i;

	for (i = 0; i + 1 < size && text[i]; i++)
		out[i] = text[i] >= 0x20 && text[i] < 0x7f ? text[i] : '?';
	out[i] = '\0';
}

static void error_end(struct doc *d, const char *name)
{
	struct error_doc *ed = container_of(d, struct error_doc, d);

	if (!ed->is_error || d->depth != 2)
		return;
	if (!strcmp(name, "Code"))
		text_keep(ed->e->code, sizeof(ed->e->code), d->text);
	else if (!strcmp(name, "Region"))
		text_keep(ed->e->region, sizeof(ed->e->region), d->text);
	else if (!strcmp(name, "Message"))
		text_keep(ed->e->message, sizeof(ed->e->message), d->text);
}

bool s3_error_parse(const char *body, size_t len, struct s3_error *e)
{
	struct error_doc *ed = calloc(1, sizeof(*ed));
	bool ok;

	memset(e, 0, sizeof(*e));
	if (!ed || len > ERROR_MAX || !doc_init(&ed->d)) {
		free(ed);
		return false;
	}
	ed->e = e;
	ed->d.start = error_start;
	ed->d.end = error_end;
	/* A body that was cut short may still have named its code. */
	(void)doc_feed(&ed->d, body, len, true);
	ok = ed->is_error && e->code[0];
	XML_ParserFree(ed->d.parser);
	free(ed);
	return ok;
}

/* ---- <ListBucketResult> ---- */

struct s3_list_parser {
	struct doc d;
	struct s3_list *l;
	bool is_list, in_contents, has_key, has_size, has_truncated;
	char key[1025];
	uint64_t size, mtime_s;
};

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* encoding-type=url: percent, and '+' for a blank. False: malformed, too long, or a NUL in it. */
static bool url_decode(const char *in, char *out, size_t size)
{
	size_t n = 0;

	for (; *in; in++) {
		char c = *in == '+' ? ' ' : *in;

		if (*in == '%') {
			int hi = hex_value(in[1]), lo = hi < 0 ? -1 : hex_value(in[2]);

			if (lo < 0 || !(hi | lo))
				return false;
			c = (char)(hi << 4 | lo);
			in += 2;
		}
		if (n + 1 >= size)
			return false;
		out[n++] = c;
	}
	out[n] = '\0';
	return n > 0;
}

static bool number_parse(const char *s, uint64_t *v)
{
	char *end;

	if (*s < '0' || *s > '9')
		return false;
	errno = 0;
	*v = strtoull(s, &end, 10);
	return !errno && !*end;
}

/* "2024-01-31T23:59:59.000Z" */
static uint64_t iso_time(const char *s)
{
	struct tm tm = {0};
	const char *end = strptime(s, "%Y-%m-%dT%H:%M:%S", &tm);
	time_t t = end ? timegm(&tm) : 0;

	return t > 0 ? (uint64_t)t : 0;
}

static void list_start(struct doc *d, const char *name)
{
	struct s3_list_parser *p = container_of(d, struct s3_list_parser, d);

	if (d->depth == 1)
		p->is_list = !strcmp(name, "ListBucketResult");
	if (d->depth == 1 && !p->is_list)
		doc_fail(d);
	if (d->depth == 2 && !strcmp(name, "Contents")) {
		p->in_contents = true;
		p->has_key = p->has_size = false;
		p->mtime_s = 0;
	}
}

/* One object: ours if its key is a legal one below the prefix. */
static void list_object(struct s3_list_parser *p)
{
	struct s3_list *l = p->l;
	struct store_op *op = l->op;
	size_t prefix = strlen(l->prefix);
	const char *key = p->key + prefix;
	struct store_list_entry *e;

	/* Keys ascend, and each page ends further on: else a LIST might never end. */
	if (!p->has_key || !p->has_size || strcmp(p->key, l->last) <= 0) {
		doc_fail(&p->d);
		return;
	}
	strcpy(l->last, p->key);
	if (strncmp(p->key, l->prefix, prefix) || strncmp(key, op->key, strlen(op->key)) ||
	    store_key_check(key, false))
		return;
	if (op->nr_entries == op->max_entries) {
		op->truncated = true;
		return;
	}
	e = &op->entries[op->nr_entries++];
	strcpy(e->key, key);
	e->size = p->size;
	e->mtime_s = p->mtime_s;
}

static void list_end(struct doc *d, const char *name)
{
	struct s3_list_parser *p = container_of(d, struct s3_list_parser, d);

	if (d->depth == 2 && !strcmp(name, "IsTruncated")) {
		p->has_truncated = true;
		p->l->truncated = !strcmp(d->text, "true");
	} else if (d->depth == 2 && p->in_contents) {
		p->in_contents = false;
		list_object(p);
	} else if (d->depth == 3 && p->in_contents && !strcmp(name, "Key")) {
		p->has_key = url_decode(d->text, p->key, sizeof(p->key));
	} else if (d->depth == 3 && p->in_contents && !strcmp(name, "Size")) {
		p->has_size = number_parse(d->text, &p->size);
	} else if (d->depth == 3 && p->in_contents && !strcmp(name, "LastModified")) {
		p->mtime_s = iso_time(d->text);
	}
}

int s3_list_begin(struct s3_list *l)
{
	struct s3_list_parser *p = calloc(1, sizeof(*p));

	s3_list_free(l);
	if (!p || !doc_init(&p->d)) {
		free(p);
		return -ENOMEM;
	}
	strcpy(l->last, l->after);
	l->truncated = false;
	l->op->nr_entries = 0;
	l->op->truncated = false;
	p->l = l;
	p->d.start = list_start;
	p->d.end = list_end;
	l->parser = p;
	return 0;
}

int s3_list_feed(struct s3_list *l, const char *data, size_t len)
{
	return doc_feed(&l->parser->d, data, len, false) ? 0 : -EPROTO;
}

int s3_list_end(struct s3_list *l)
{
	struct s3_list_parser *p = l->parser;

	return doc_feed(&p->d, "", 0, true) && p->is_list && p->has_truncated ? 0 : -EPROTO;
}

void s3_list_free(struct s3_list *l)
{
	if (l->parser)
		XML_ParserFree(l->parser->d.parser);
	free(l->parser);
	l->parser = NULL;
}
