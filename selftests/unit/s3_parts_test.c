// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The parts of the S3 store that need no server: signature, names, credentials, documents of a
 * server that means harm, the meaning of answers, the circuit breaker.
 */
#include "store_test.h"
#include "store/s3_priv.h"

#include <fcntl.h>

/* ---- signature: expected values are of an independent implementation ---- */

#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define BODY  "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5"

static void signatures_are_those_of_the_specification(void **state)
{
	/* The key and the first two requests are the examples of the S3 documentation. */
	const struct s3_header range[] = {{"host", "examplebucket.s3.amazonaws.com"},
					  {"range", "bytes=0-9"},
					  {"x-amz-content-sha256", EMPTY},
					  {"x-amz-date", "20130524T000000Z"}};
	const struct s3_header list[] = {{"host", "examplebucket.s3.amazonaws.com"},
					 {"x-amz-content-sha256", EMPTY},
					 {"x-amz-date", "20130524T000000Z"}};
	const struct s3_header put[] = {{"host", "127.0.0.1:7480"},
					{"if-match", "\"abc\""},
					{"x-amz-content-sha256", BODY},
					{"x-amz-date", "20261122T203000Z"},
					{"x-amz-security-token", "TOK/EN=="}};
	const struct s3_creds example = {"AKIAIOSFODNN7EXAMPLE",
					 "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", NULL};
	const struct s3_creds token = {"ID", "SECRET", "TOK/EN=="};
	struct s3_sign_key key = {.set = false};
	const struct row {
		struct s3_sign_in in;
		const struct s3_creds *creds;
		const char *want;
	} table[] = {
		{{"GET", "/test.txt", NULL, range, 4, EMPTY, "us-east-1", "20130524T000000Z"},
		 &example,
		 "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/"
		 "aws4_request,SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"
		 "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
		{{"GET", "/", "max-keys=2&prefix=J", list, 3, EMPTY, "us-east-1",
		  "20130524T000000Z"},
		 &example,
		 "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/"
		 "aws4_request,SignedHeaders=host;x-amz-content-sha256;x-amz-date,"
		 "Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
		{{"PUT", "/b/p/a%20b", NULL, put, 5, BODY, "eu-west-3", "20261122T203000Z"},
		 &token,
		 "AWS4-HMAC-SHA256 Credential=ID/20261122/eu-west-3/s3/aws4_request,"
		 "SignedHeaders=host;if-match;x-amz-content-sha256;x-amz-date;"
		 "x-amz-security-token,"
		 "Signature=5d962a65d9a7212872c6ffd9479c81ffc3c8fccccde97e68afdf55997e4efec1"},
	};

	/* With the key of the row before, of the same row, and with none. */
	for (size_t i = 0; i < 3 * ARRAY_SIZE(table); i++) {
		const struct row *row = &table[i / 2 % ARRAY_SIZE(table)];
		char auth[S3_AUTH_LEN];

		assert_int_equal(s3_sign(&row->in, row->creds,
					 i < 2 * ARRAY_SIZE(table) ? &key : NULL, auth),
				 0);
		assert_string_equal(auth, row->want);
	}
}

static void a_signature_that_does_not_fit_is_an_error(void **state)
{
	char id[S3_AUTH_LEN + 1], auth[S3_AUTH_LEN];
	const struct s3_header h[] = {{"host", "h"}};
	const struct s3_creds c = {id, "s", NULL};
	const struct s3_sign_in in = {"GET", "/", NULL, h, 1, EMPTY, "r", "20130524T000000Z"};

	memset(id, 'a', sizeof(id));
	id[S3_AUTH_LEN] = '\0';
	assert_int_equal(s3_sign(&in, &c, NULL, auth), -E2BIG);
}

/* ---- names ---- */

static int target(struct s3_target *t, const char *url, const char *endpoint, const char *style,
		  const char *region)
{
	const struct store_s3_options o = {
		.endpoint = endpoint, .path_style = style, .region = region};
	char err[512] = "";
	int r = s3_target_init(t, url, &o, err, sizeof(err));

	if (r) {
		assert_true(err[0]);
		s3_target_free(t);
	}
	return r;
}

static void assert_target(const char *url, const char *endpoint, const char *style,
			  const char *region, const char *key, const char *base, const char *path)
{
	struct s3_target t;
	char *p;

	assert_int_equal(target(&t, url, endpoint, style, region), 0);
	p = s3_path(&t, key);
	assert_string_equal(t.base, base);
	assert_string_equal(p, path);
	assert_string_equal(t.host, strstr(base, "://") + 3);
	free(p);
	s3_target_free(&t);
}

static void endpoint_and_style_make_the_address(void **state)
{
	assert_target("s3://bucket/pre/fix/", NULL, NULL, "eu-west-3", "a b/c+\xc3\xa4~",
		      "https://bucket.s3.eu-west-3.amazonaws.com", "/pre/fix/a%20b/c%2B%C3%A4~");
	assert_target("s3://bucket", NULL, "yes", "eu-west-3", "k",
		      "https://s3.eu-west-3.amazonaws.com", "/bucket/k");
	assert_target("s3://my.bucket/p", NULL, "auto", NULL, "k",
		      "https://s3.us-east-1.amazonaws.com", "/my.bucket/p/k");
	assert_target("s3://bucket/p", "http://Host:9000", NULL, NULL, "k", "http://host:9000",
		      "/bucket/p/k");
	assert_target("s3://bucket/p", "https://host:443/", "no", NULL, NULL, "https://bucket.host",
		      "/");
	assert_target("s3://bucket/p", "http://[::1]:80", "yes", NULL, NULL, "http://[::1]",
		      "/bucket");
}

static void bad_addresses_are_refused(void **state)
{
	static const char *const urls[] = {"s3://",          "s3://ab",       "s3:///p",
					   "s3://b_u\x01/p", "s3://bucket//", "s3://bucket/a//b",
					   "s3://bucket/.a", "s3://b@c/p"};
	static const char *const endpoints[] = {"host",           "ftp://host",    "http://",
						"http://u@host",  "http://h/path", "http://h?q",
						"http://h:99999", "http://h ost"};
	struct s3_target t;

	for (size_t i = 0; i < ARRAY_SIZE(urls); i++)
		assert_int_equal(target(&t, urls[i], NULL, NULL, NULL), -EINVAL);
	for (size_t i = 0; i < ARRAY_SIZE(endpoints); i++)
		if (target(&t, "s3://bucket/p", endpoints[i], NULL, NULL) != -EINVAL)
			fail_msg("endpoint %s", endpoints[i]);
	assert_int_equal(target(&t, "s3://bucket/p", NULL, "maybe", NULL), -EINVAL);
	assert_int_equal(target(&t, "s3://bucket/p", NULL, NULL, "a/b"), -EINVAL);
}

static void the_environment_fills_what_options_leave_open(void **state)
{
	setenv("AWS_ENDPOINT_URL", "http://env:1", 1);
	setenv("AWS_DEFAULT_REGION", "second", 1);
	assert_target("s3://bucket", NULL, NULL, NULL, "k", "http://env:1", "/bucket/k");
	assert_target("s3://bucket", "http://opt:2", NULL, NULL, "k", "http://opt:2", "/bucket/k");
	unsetenv("AWS_ENDPOINT_URL");
	assert_target("s3://bucket", NULL, NULL, NULL, "k",
		      "https://bucket.s3.second.amazonaws.com", "/k");
	setenv("AWS_REGION", "first", 1);
	assert_target("s3://bucket", NULL, NULL, NULL, "k", "https://bucket.s3.first.amazonaws.com",
		      "/k");
	assert_target("s3://bucket", NULL, NULL, "opt", "k", "https://bucket.s3.opt.amazonaws.com",
		      "/k");
	unsetenv("AWS_REGION");
	unsetenv("AWS_DEFAULT_REGION");
}

static void list_queries_are_canonical(void **state)
{
	struct s3_target t;
	char *q;

	assert_int_equal(target(&t, "s3://bucket/p", "http://h", NULL, NULL), 0);
	q = s3_list_query(&t, "exports/", "p/exports/a b", 7);
	assert_string_equal(q, "encoding-type=url&list-type=2&max-keys=7&prefix=p%2Fexports%2F&"
			       "start-after=p%2Fexports%2Fa%20b");
	free(q);
	q = s3_list_query(&t, "", "", 1000);
	assert_string_equal(q, "encoding-type=url&list-type=2&max-keys=1000&prefix=p%2F");
	free(q);
	s3_target_free(&t);
}

/* ---- credentials ---- */

static char file[64];

static void file_set(const char *text)
{
	int fd = open(file, O_WRONLY | O_TRUNC | O_CREAT, 0600);

	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

/* The id that these options give, or "error". */
static const char *creds_id(const struct store_s3_options *o, struct s3_creds *c)
{
	struct s3_creds_source cs;
	char err[512] = "";
	int r = s3_creds_source_init(&cs, o, err, sizeof(err));

	s3_creds_free(c);
	if (!r)
		r = s3_creds_load(&cs, c, err, sizeof(err));
	s3_creds_source_free(&cs);
	if (r)
		assert_true(err[0]);
	assert_null(strstr(err, "hush"));
	return r ? "error" : c->id;
}

static void credentials_come_from_the_first_source(void **state)
{
	struct store_s3_options o = {0};
	struct s3_creds c = {0};

	snprintf(file, sizeof(file), "/tmp/s3_parts_test.XXXXXX");
	close(mkstemp(file));
	unsetenv("HOME");
	assert_string_equal(creds_id(&o, &c), "error");
	file_set("# comment\n[default]\naws_access_key_id = FILE\r\n"
		 "aws_secret_access_key=hush-file\n[ other ]\n aws_access_key_id=OTHER\n"
		 "aws_secret_access_key = hush-other \naws_session_token=TOK\n[half]\n"
		 "aws_access_key_id=HALF");
	setenv("AWS_SHARED_CREDENTIALS_FILE", file, 1);
	assert_string_equal(creds_id(&o, &c), "FILE");
	assert_string_equal(c.secret, "hush-file");
	assert_null(c.token);
	setenv("AWS_PROFILE", "other", 1);
	assert_string_equal(creds_id(&o, &c), "OTHER");
	assert_string_equal(c.secret, "hush-other");
	assert_string_equal(c.token, "TOK");
	o.profile = "half";
	assert_string_equal(creds_id(&o, &c), "error");
	o.profile = "none";
	assert_string_equal(creds_id(&o, &c), "error");
	setenv("AWS_ACCESS_KEY_ID", "ENV", 1);
	assert_string_equal(creds_id(&o, &c), "error"); /* half a pair */
	setenv("AWS_SECRET_ACCESS_KEY", "hush-env", 1);
	setenv("AWS_SESSION_TOKEN", "ENVTOK", 1);
	assert_string_equal(creds_id(&o, &c), "ENV");
	assert_string_equal(c.token, "ENVTOK");
	o.credentials_file = file;
	o.profile = "default";
	assert_string_equal(creds_id(&o, &c), "FILE");
	o.access_key_id = "OPT";
	assert_string_equal(creds_id(&o, &c), "error");
	o.secret_access_key = "hush-opt";
	assert_string_equal(creds_id(&o, &c), "OPT");
	assert_null(c.token);
	file_set(" hush-alone\n");
	o.secret_key_file = file;
	assert_string_equal(creds_id(&o, &c), "error"); /* two secrets */
	o.secret_access_key = NULL;
	assert_string_equal(creds_id(&o, &c), "OPT");
	assert_string_equal(c.secret, "hush-alone");
	o.secret_key_file = NULL;
	o.secret_access_key = "hush\r\nx-injected: 1";
	assert_string_equal(creds_id(&o, &c), "error");
	s3_creds_free(&c);
	unlink(file);
	unsetenv("AWS_SHARED_CREDENTIALS_FILE");
	unsetenv("AWS_PROFILE");
	unsetenv("AWS_ACCESS_KEY_ID");
	unsetenv("AWS_SECRET_ACCESS_KEY");
	unsetenv("AWS_SESSION_TOKEN");
}

/* ---- documents ---- */

static void errors_are_read_and_cut_to_fit(void **state)
{
	static const char plain[] =
		"<?xml version=\"1.0\"?>\n<Error xmlns=\"urn:x\"><Code>NoSuchKey</Code><Message>a "
		"\xc3\xa4 "
		"&lt;b&gt;</Message><Region>eu</Region><Deep><Code>No</Code></Deep></Error>";
	struct s3_error e;
	char *big = malloc(64 * KiB);

	assert_true(s3_error_parse(plain, strlen(plain), &e));
	assert_string_equal(e.code, "NoSuchKey");
	assert_string_equal(e.message, "a ?? <b>");
	assert_string_equal(e.region, "eu");
	/* Cut short behind its code. */
	assert_true(s3_error_parse(plain, 80, &e));
	assert_string_equal(e.code, "NoSuchKey");
	assert_false(s3_error_parse("", 0, &e));
	assert_false(s3_error_parse("<html><Code>NoSuchKey</Code></html>", 35, &e));
	assert_false(s3_error_parse("<Error></Error>", 15, &e));
	memset(big, 'x', 64 * KiB);
	memcpy(big, "<Error><Code>", 13);
	assert_false(s3_error_parse(big, 64 * KiB, &e));
	free(big);
}

static void entities_and_depth_are_refused(void **state)
{
	static const char bomb[] =
		"<!DOCTYPE Error [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]>"
		"<Error><Code>&b;</Code></Error>";
	static const char external[] = "<!DOCTYPE Error SYSTEM \"file:///etc/passwd\">"
				       "<Error><Code>X</Code></Error>";
	char deep[1024] = "<Error>";
	struct s3_error e;

	assert_false(s3_error_parse(bomb, strlen(bomb), &e));
	assert_false(s3_error_parse(external, strlen(external), &e));
	for (int i = 0; i < 40; i++)
		strcat(deep, "<a>");
	strcat(deep, "<Code>X</Code>");
	assert_false(s3_error_parse(deep, strlen(deep), &e));
}

#define OBJECT(key, size)                                                                   \
	"<Contents><Key>" key "</Key><LastModified>2024-01-31T23:59:59.000Z</LastModified>" \
	"<Size>" size "</Size></Contents>"
#define LIST(truncated, text)                                                              \
	"<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/\"><IsTruncated>" truncated \
	"</IsTruncated>" text "</ListBucketResult>"

/* Parse in pieces of `piece` bytes. */
static int list_parse(const char *text, size_t piece, unsigned int max, const char *prefix,
		      const char *after, struct store_op *op, struct s3_list *l)
{
	static struct store_list_entry entries[8];
	size_t n = strlen(text);
	int r;

	*op = (struct store_op){.key = prefix, .entries = entries, .max_entries = max};
	*l = (struct s3_list){.op = op, .prefix = "p/"};
	snprintf(l->after, sizeof(l->after), "%s", after);
	r = s3_list_begin(l);
	for (size_t at = 0; !r && at < n; at += piece)
		r = s3_list_feed(l, text + at, MIN(piece, n - at));
	if (!r)
		r = s3_list_end(l);
	s3_list_free(l);
	return r;
}

static void lists_are_read_in_any_pieces(void **state)
{
	static const char text[] =
		LIST("true", OBJECT("p%2Fa%20b", "5") OBJECT("p/c+d", "6")
				     OBJECT("p/%2Ehidden", "7") OBJECT("q/x", "8"));
	struct store_op op;
	struct s3_list l;

	for (size_t piece = 1; piece < 40; piece += 3) {
		assert_int_equal(list_parse(text, piece, 8, "", "", &op, &l), -EPROTO);
		/* '.' sorts before 'a': not in order above; this one is. */
		assert_int_equal(
			list_parse(LIST("true", OBJECT("p/%2Eh", "7") OBJECT("p%2Fa%20b", "5")
							OBJECT("p/c+d", "6") OBJECT("q/x", "8")),
				   piece, 8, "", "", &op, &l),
			0);
		assert_int_equal(op.nr_entries, 2);
		assert_string_equal(op.entries[0].key, "a b");
		assert_int_equal(op.entries[0].size, 5);
		assert_int_equal(op.entries[0].mtime_s, 1706745599);
		assert_string_equal(op.entries[1].key, "c d");
		assert_true(l.truncated);
		assert_string_equal(l.last, "q/x");
	}
	assert_int_equal(list_parse(LIST("false", OBJECT("p/a", "5") OBJECT("p/b", "6")), 100, 1,
				    "", "", &op, &l),
			 0);
	assert_int_equal(op.nr_entries, 1);
	assert_true(op.truncated);
}

static void lists_that_lie_are_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"<html/>",
		"<Error><Code>SlowDown</Code></Error>",
		"<ListBucketResult></ListBucketResult>",
		"<ListBucketResult><IsTruncated>false</IsTruncated>",
		LIST("false", OBJECT("p/a", "x")),
		LIST("false", OBJECT("p/a", "99999999999999999999999")),
		LIST("false", OBJECT("p/a", "-1")),
		LIST("false", OBJECT("p/%zz", "1")),
		LIST("false", OBJECT("p/%00", "1")),
		LIST("false", OBJECT("", "1")),
		LIST("false", OBJECT("p/b", "1") OBJECT("p/a", "1")),
		LIST("false", OBJECT("p/a", "1") OBJECT("p/a", "1")),
		LIST("false", "<Contents><Size>1</Size></Contents>"),
		"<!DOCTYPE x [<!ENTITY a \"b\">]>" LIST("false", ""),
	};
	struct store_op op;
	struct s3_list l;
	char *big;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (list_parse(bad[i], 1000, 8, "", "", &op, &l) != -EPROTO)
			fail_msg("taken for a list: %s", bad[i]);
	/* A page that does not get further than the one before would go on for ever. */
	assert_int_equal(list_parse(LIST("true", OBJECT("p/a", "1")), 1000, 8, "", "p/a", &op, &l),
			 -EPROTO);
	big = malloc(8 * KiB);
	assert_non_null(big);
	memset(big, 'k', 8 * KiB);
	memcpy(big, "<ListBucketResult><Contents><Key>", 33);
	big[8 * KiB - 1] = '\0';
	assert_int_equal(list_parse(big, 1000, 8, "", "", &op, &l), -EPROTO);
	free(big);
}

/* ---- answers ---- */

static void only_the_server_itself_says_that_a_key_is_absent(void **state)
{
	const struct s3_error key = {.code = "NoSuchKey"}, bucket = {.code = "NoSuchBucket"};

	assert_int_equal(s3_judge(404, &key).res, -ENOENT);
	assert_int_equal(s3_judge(404, &bucket).res, -ENODEV);
	assert_int_equal(s3_judge(404, NULL).res, -EPROTO);
}

static void doubtful_answers_are_never_definite(void **state)
{
	static const long doubtful[] = {408, 409, 500, 502, 503, 504, 520, 599};
	static const char *const sure[] = {"SlowDown", "ConditionalRequestConflict",
					   "RequestTimeTooSkewed", "ExpiredToken",
					   "PreconditionFailed"};
	const struct s3_error internal = {.code = "InternalError"}, odd = {.code = "Odd"};

	for (size_t i = 0; i < ARRAY_SIZE(doubtful); i++) {
		assert_false(s3_judge(doubtful[i], NULL).definite);
		assert_false(s3_judge(doubtful[i], &odd).definite);
		assert_true(s3_judge(doubtful[i], NULL).res < 0);
	}
	assert_false(s3_judge(200, &internal).definite);
	assert_int_equal(s3_judge(200, &internal).res, -EIO);
	for (size_t i = 0; i < ARRAY_SIZE(sure); i++) {
		struct s3_error e = {{0}, {0}, {0}};

		snprintf(e.code, sizeof(e.code), "%s", sure[i]);
		assert_true(s3_judge(503, &e).definite);
	}
}

/* ---- breaker ---- */

static void the_breaker_opens_tries_one_and_closes(void **state)
{
	struct s3_breaker b = {0};
	uint64_t now = NSEC_PER_SEC;
	unsigned int n = 0;

	while (b.state == S3_BREAKER_CLOSED && n++ < 100) {
		assert_true(s3_breaker_take(&b, now));
		s3_breaker_result(&b, true, false, now);
	}
	assert_true(n > 2 && n < 20);
	assert_int_equal(b.opens, 1);
	assert_false(s3_breaker_take(&b, now));
	/* Half open: one at a time, and a failure opens it for longer. */
	for (int i = 0; i < 10; i++) {
		uint64_t before = b.pause_ns;

		now = b.until_ns;
		assert_true(s3_breaker_take(&b, now));
		assert_false(s3_breaker_take(&b, now));
		/* One that was given up says nothing: the next may go. */
		s3_breaker_result(&b, false, false, now);
		assert_true(s3_breaker_take(&b, now));
		s3_breaker_result(&b, true, false, now);
		assert_false(s3_breaker_take(&b, now));
		assert_true(b.pause_ns >= before);
		assert_true(b.until_ns - now <= 5 * NSEC_PER_SEC);
	}
	now = b.until_ns;
	assert_true(s3_breaker_take(&b, now));
	s3_breaker_result(&b, true, true, now);
	assert_int_equal(b.state, S3_BREAKER_CLOSED);
	assert_true(s3_breaker_take(&b, now) && s3_breaker_take(&b, now));
	/* Failures count in a row only. */
	for (int i = 0; i < 100; i++) {
		s3_breaker_result(&b, true, i % 4 == 0, now);
		assert_int_equal(b.state, S3_BREAKER_CLOSED);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(signatures_are_those_of_the_specification),
		cmocka_unit_test(a_signature_that_does_not_fit_is_an_error),
		cmocka_unit_test(endpoint_and_style_make_the_address),
		cmocka_unit_test(bad_addresses_are_refused),
		cmocka_unit_test(the_environment_fills_what_options_leave_open),
		cmocka_unit_test(list_queries_are_canonical),
		cmocka_unit_test(credentials_come_from_the_first_source),
		cmocka_unit_test(errors_are_read_and_cut_to_fit),
		cmocka_unit_test(entities_and_depth_are_refused),
		cmocka_unit_test(lists_are_read_in_any_pieces),
		cmocka_unit_test(lists_that_lie_are_refused),
		cmocka_unit_test(only_the_server_itself_says_that_a_key_is_absent),
		cmocka_unit_test(doubtful_answers_are_never_definite),
		cmocka_unit_test(the_breaker_opens_tries_one_and_closes),
	};

	unsetenv("AWS_ENDPOINT_URL");
	unsetenv("AWS_REGION");
	unsetenv("AWS_DEFAULT_REGION");
	unsetenv("AWS_PROFILE");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
