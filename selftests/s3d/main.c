// SPDX-License-Identifier: GPL-2.0-or-later
/* Options, listening, and the life of a connection. */
#include "s3d.h"

#include <arpa/inet.h>
#include <err.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>

static SSL_CTX *tls;

static const char usage_text[] =
	"s3d [options]: a small S3 server for tests, on loopback, in memory, which breaks on\n"
	"request. Runs until killed.\n"
	"  --port N          listen on 127.0.0.1:N (0: any free one)\n"
	"  --port-file FILE  write the port there when ready\n"
	"  --bucket NAME     create it (repeatable; PUT /NAME works too)\n"
	"  --access KEY --secret KEY [--token TOKEN]   default TESTKEY, TESTSECRET, none\n"
	"  --region NAME     that requests must be signed for; default us-east-1\n"
	"  --faults RULES    rules from the start\n"
	"  --cert FILE --key FILE   TLS, PEM files\n"
	"Unsigned requests control it: PUT /_s3d/faults, GET /_s3d/stats (JSON), DELETE\n"
	"/_s3d/stats (to zero), PUT /_s3d/credentials (ACCESS SECRET [TOKEN]).\n\n";

/* The usual code of a status that a rule asks for. */
static const char *usual_code(int status)
{
	static const struct {
		int status;
		const char *code;
	} table[] = {
		{400, "InvalidRequest"},      {403, "AccessDenied"},
		{404, "NoSuchKey"},           {405, "MethodNotAllowed"},
		{408, "RequestTimeout"},      {409, "ConditionalRequestConflict"},
		{412, "PreconditionFailed"},  {416, "InvalidRange"},
		{429, "TooManyRequests"},     {500, "InternalError"},
		{501, "NotImplemented"},      {503, "SlowDown"},
		{507, "InsufficientStorage"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (table[i].status == status)
			return table[i].code;
	return "Injected";
}

/* Answers of rules that replace the operation. */
static bool injected(const struct request *rq, struct answer *a)
{
	const struct plan *plan = &rq->plan;

	if (plan->redirect) {
		answer_header(a, "Location", "http://127.0.0.1:1%s", rq->target);
		answer_error(a, plan->redirect,
			     plan->redirect == 301 ? "PermanentRedirect" : "TemporaryRedirect",
			     "Please re-send this request to the specified endpoint.");
	} else if (plan->status) {
		answer_error(a, plan->status, plan->code[0] ? plan->code : usual_code(plan->status),
			     "a rule says so");
	} else {
		return false;
	}
	return true;
}

static void set_date(struct request *rq, time_t now)
{
	struct tm tm;

	strftime(rq->date, sizeof(rq->date), "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &tm));
}

static void sleep_ms(uint64_t ms)
{
	nanosleep(&(struct timespec){.tv_sec = (time_t)(ms / 1000),
				     .tv_nsec = (long)(ms % 1000 * NSEC_PER_MSEC)},
		  NULL);
}

static void run(struct request *rq, time_t now, struct answer *a)
{
	if (injected(rq, a))
		return;
	if (!sigv4_verify(rq, now, a))
		stats.auth_failures++;
	else
		op_run(rq, now, a);
	if (rq->plan.status200_error && a->status / 100 == 2) {
		a->status = 200;
		a->headers[0] = a->etag[0] = '\0';
		free(a->xml);
		a->xml = NULL;
		answer_error(a, 200, "InternalError",
			     "We encountered an internal error. Please try again.");
	}
}

/* One S3 request whose headers are read. 0: the connection can go on. */
static int serve(struct conn *c, struct request *rq, struct answer *a)
{
	const char *prefix = request_query(rq, "prefix");
	struct plan *plan = &rq->plan;
	time_t now = time(NULL);
	int r;

	faults_match(rq->op, rq->op == OP_LIST ? (prefix ? prefix : "") : rq->key, plan);
	now += plan->skew_s;
	set_date(rq, now);
	stats.requests++;
	stats.ops[rq->op]++;
	c->rate = plan->rate;
	r = request_read_body(c, rq);
	if (r)
		return r;
	stats.bytes_in += rq->content_length;
	if (plan->delay_ms)
		sleep_ms(plan->delay_ms);
	if (plan->reset_before || plan->reset_after)
		conn_arm_reset(c);
	if (plan->reset_before)
		return -ECONNRESET;
	if (plan->hang_before) {
		conn_wait_closed(c);
		return -ECONNRESET;
	}
	run(rq, now, a);
	if (plan->hang_after)
		conn_wait_closed(c);
	if (plan->hang_after || plan->reset_after)
		return -ECONNRESET;
	r = answer_send(c, rq, a);
	c->rate = 0;
	if (!r && plan->stall_idle)
		conn_wait_closed(c);
	return r ? r : plan->close_idle || plan->stall_idle || !rq->keep_alive ? -ESHUTDOWN : 0;
}

static int control(struct conn *c, struct request *rq, struct answer *a)
{
	set_date(rq, time(NULL));
	if (rq->content_length > MiB || request_read_body(c, rq))
		return -EIO;
	op_control(rq, a);
	return answer_send(c, rq, a) || !rq->keep_alive ? -ESHUTDOWN : 0;
}

static int one_request(struct conn *c)
{
	static const struct plan none = {.retry_after_s = -1, .truncate = -1, .reset_body = -1};
	struct answer a = {.status = 200};
	struct request rq;
	const char *why = NULL;
	int r = request_read(c, &rq, &why);

	rq.plan = none;
	if (r == -EBADMSG) {
		set_date(&rq, time(NULL));
		rq.keep_alive = false;
		answer_error(&a, 400, "InvalidRequest", "%s", why);
		answer_send(c, &rq, &a);
	} else if (r == 1 && !strcmp(rq.bucket, "_s3d")) {
		r = control(c, &rq, &a);
	} else if (r == 1) {
		stats_level(&stats.requests_open, &stats.requests_max, 1);
		r = serve(c, &rq, &a);
		stats_level(&stats.requests_open, &stats.requests_max, -1);
	} else if (!r) {
		r = -ESHUTDOWN;
	}
	free(a.xml);
	body_put(a.hold);
	request_free(&rq);
	return r;
}

static void *connection(void *arg)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (!c)
		abort();
	c->fd = (int)(intptr_t)arg;
	stats.connections++;
	stats_level(&stats.connections_open, &stats.connections_max, 1);
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
	if (tls) {
		c->ssl = SSL_new(tls);
		SSL_set_fd(c->ssl, c->fd);
	}
	if (!tls || SSL_accept(c->ssl) == 1)
		while (!one_request(c))
			;
	if (c->ssl)
		SSL_shutdown(c->ssl);
	SSL_free(c->ssl);
	close(c->fd);
	stats_level(&stats.connections_open, &stats.connections_max, -1);
	free(c);
	return NULL;
}

static int listen_on(unsigned int port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) ||
	    bind(fd, (struct sockaddr *)&sa, sizeof(sa)) || listen(fd, 1024))
		err(1, "127.0.0.1:%u", port);
	return fd;
}

/* Whole or not at all: who waits for the file reads the number at once. */
static void write_port(int fd, const char *path)
{
	struct sockaddr_in sa;
	socklen_t len = sizeof(sa);
	char tmp[4096];
	FILE *f;

	if (getsockname(fd, (struct sockaddr *)&sa, &len))
		err(1, "getsockname");
	if (!path) {
		printf("%u\n", ntohs(sa.sin_port));
		fflush(stdout);
		return;
	}
	snprintf(tmp, sizeof(tmp), "%s.new", path);
	f = fopen(tmp, "w");
	if (!f || fprintf(f, "%u\n", ntohs(sa.sin_port)) < 0 || fclose(f) || rename(tmp, path))
		err(1, "%s", path);
}

static void accept_loop(int fd)
{
	pthread_attr_t attr;
	pthread_t thread;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 512 * KiB);
	for (;;) {
		int c = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

		if (c < 0 && errno != EINTR && errno != ECONNABORTED)
			err(1, "accept");
		if (c < 0)
			continue;
		if (pthread_create(&thread, &attr, connection, (void *)(intptr_t)c))
			errx(1, "no thread for a connection");
	}
}

static void start_tls(const char *cert, const char *key)
{
	tls = SSL_CTX_new(TLS_server_method());
	if (!tls || SSL_CTX_use_certificate_chain_file(tls, cert) != 1 ||
	    SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1)
		errx(1, "%s, %s: not a certificate and its key", cert, key);
	SSL_CTX_set_mode(tls, SSL_MODE_AUTO_RETRY);
}

static const char *const option_names[] = {"port",   "port-file", "bucket", "access",
					   "secret", "token",     "region", "faults",
					   "cert",   "key",       "help"};
enum { PORT, PORT_FILE, BUCKET, ACCESS, SECRET, TOKEN, REGION, FAULTS, CERT, KEY, HELP, OPTIONS };

static void take(char *to, size_t size, const char *given)
{
	if (given && (size_t)snprintf(to, size, "%s", given) >= size)
		errx(2, "longer than %zu bytes: %s", size - 1, given);
}

int main(int argc, char **argv)
{
	struct credentials c = {"TESTKEY", "TESTSECRET", "", "us-east-1"};
	const char *given[OPTIONS] = {NULL};
	struct option options[OPTIONS + 1] = {0};
	unsigned long port;
	char *end, msg[256];
	int i, fd;

	for (i = 0; i < OPTIONS; i++)
		options[i] = (struct option){option_names[i], i != HELP, NULL, i};
	while ((i = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (i == '?')
			errx(2, "see --help");
		given[i] = i == HELP ? "" : optarg;
		if (i == BUCKET && bucket_create(optarg))
			errx(2, "--bucket %s: given twice", optarg);
	}
	if (given[HELP] || argc > optind) {
		printf("%s%s", usage_text, faults_help);
		return given[HELP] ? 0 : 2;
	}
	port = strtoul(given[PORT] ? given[PORT] : "0", &end, 10);
	if (*end || port > 65535)
		errx(2, "--port %s: not a port", given[PORT]);
	if (!given[CERT] != !given[KEY])
		errx(2, "--cert and --key go together");
	take(c.access, sizeof(c.access), given[ACCESS]);
	take(c.secret, sizeof(c.secret), given[SECRET]);
	take(c.token, sizeof(c.token), given[TOKEN]);
	take(c.region, sizeof(c.region), given[REGION]);
	sigv4_set(&c);
	if (given[FAULTS] && faults_set(given[FAULTS], msg, sizeof(msg)))
		errx(2, "--faults: %s", msg);
	signal(SIGPIPE, SIG_IGN);
	if (given[CERT])
		start_tls(given[CERT], given[KEY]);
	fd = listen_on((unsigned int)port);
	write_port(fd, given[PORT_FILE]);
	accept_loop(fd);
	return 0;
}
