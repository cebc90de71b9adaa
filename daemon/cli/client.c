// SPDX-License-Identifier: GPL-2.0-or-later
/* HTTP to the daemon over its unix socket, and what answers mean; see cli.h. */
#include "cli/cli.h"

#include <curl/curl.h>
#include <stdio.h>
#include <string.h>

#define REPLY_MAX (256 * MiB)

static size_t on_data(char *data, size_t size, size_t n, void *arg)
{
	struct cli_reply *r = arg;
	size_t len = size * n;
	char *p;

	if (len > REPLY_MAX - r->len)
		return 0;
	p = realloc(r->body, r->len + len + 1);
	if (!p)
		return 0;
	memcpy(p + r->len, data, len);
	r->body = p;
	r->len += len;
	p[r->len] = '\0';
	return len;
}

/* "Authorization: Bearer TOKEN" into out. False with the reason in err. */
static bool token_header(const struct cli *c, char *out, size_t len, char *err, size_t err_len)
{
	char token[4096] = "";
	FILE *f = c->token_file ? fopen(c->token_file, "re") : NULL;

	if (!c->token_file) {
		snprintf(err, err_len, "a host needs --token-file or GLIDEFS_TOKEN_FILE");
		return false;
	}
	if (!f || !fgets(token, sizeof(token), f)) {
		snprintf(err, err_len, "%s: %s", c->token_file,
			 f ? "it is empty" : strerror(errno));
		if (f)
			fclose(f);
		return false;
	}
	fclose(f);
	token[strcspn(token, " \t\r\n")] = '\0';
	snprintf(out, len, "Authorization: Bearer %s", token);
	return true;
}

int cli_call(const struct cli *c, const char *method, const char *path, const char *body,
	     struct cli_reply *reply)
{
	CURL *h = curl_easy_init();
	struct curl_slist *headers = NULL;
	char url[640], auth[4200], err[CURL_ERROR_SIZE] = "";
	CURLcode res;

	memset(reply, 0, sizeof(*reply));
	if (!h)
		return -ENOMEM;
	if (c->host && !token_header(c, auth, sizeof(auth), reply->error, sizeof(reply->error))) {
		curl_easy_cleanup(h);
		return -EACCES;
	}
	snprintf(url, sizeof(url), "http://%.100s%s", c->host ? c->host : "localhost", path);
	headers = curl_slist_append(headers, "Content-Type: application/json");
	headers = curl_slist_append(headers, "Expect:");
	if (c->host) {
		headers = curl_slist_append(headers, auth);
		curl_easy_setopt(h, CURLOPT_PROXY, "");
	} else {
		curl_easy_setopt(h, CURLOPT_UNIX_SOCKET_PATH, c->socket);
	}
	curl_easy_setopt(h, CURLOPT_URL, url);
	curl_easy_setopt(h, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT, 10L);
	curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, method);
	curl_easy_setopt(h, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(h, CURLOPT_ERRORBUFFER, err);
	curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(h, CURLOPT_WRITEDATA, reply);
	if (strcmp(method, "GET") && strcmp(method, "DELETE"))
		curl_easy_setopt(h, CURLOPT_POSTFIELDS, body ? body : "");
	res = curl_easy_perform(h);
	if (res == CURLE_OK) {
		curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, &reply->status);
		if (!reply->body)
			reply->body = strdup("");
	} else {
		long reason = 0;

		/* Of a socket curl tells of a port that there is not. */
		if (res == CURLE_COULDNT_CONNECT && !c->host)
			curl_easy_getinfo(h, CURLINFO_OS_ERRNO, &reason);
		snprintf(reply->error, sizeof(reply->error), "%s",
			 reason   ? strerror((int)reason)
			 : err[0] ? err
				  : curl_easy_strerror(res));
	}
	curl_slist_free_all(headers);
	curl_easy_cleanup(h);
	if (res != CURLE_OK)
		return -ECONNREFUSED;
	return reply->body ? 0 : -ENOMEM;
}

void cli_reply_free(struct cli_reply *r)
{
	free(r->body);
	r->body = NULL;
}

static int exit_of_status(long status)
{
	switch (status) {
	case 404:
		return CLI_NOT_FOUND;
	case 409:
		return CLI_CONFLICT;
	default:
		return status >= 200 && status < 300 ? CLI_OK : CLI_FAILED;
	}
}

int cli_finish(const struct cli *c, struct cli_reply *reply, struct json_object **out)
{
	struct json_object *o;
	int ret;

	*out = NULL;
	if (!reply->status) {
		if (c->json)
			printf("{\"error\":\"the daemon is not "
			       "reachable\",\"code\":\"unreachable\"}\n");
		fprintf(stderr,
			"glidefs: no answer from the daemon on %s (%s); is glidefsd running?\n",
			c->host ? c->host : c->socket, reply->error);
		cli_reply_free(reply);
		return CLI_UNREACHABLE;
	}
	ret = exit_of_status(reply->status);
	o = json_tokener_parse(reply->body);
	if (c->json)
		printf("%s\n", reply->body);
	else if (ret != CLI_OK)
		fprintf(stderr, "glidefs: %s\n",
			cli_str(o, "error", "the daemon's answer is not understood"));
	if (ret == CLI_OK && !o) {
		fprintf(stderr, "glidefs: the daemon's answer is not JSON\n");
		ret = CLI_FAILED;
	}
	cli_reply_free(reply);
	if (ret == CLI_OK)
		*out = o;
	else
		json_object_put(o);
	return ret;
}

int cli_request(const struct cli *c, const char *method, const char *path, const char *body,
		struct json_object **out)
{
	struct cli_reply reply;

	if (cli_call(c, method, path, body, &reply))
		reply.status = 0;
	return cli_finish(c, &reply, out);
}

void cli_path(const struct cli *c, const char *action, char *path, size_t len)
{
	char args[64] = "";

	if (c->force)
		snprintf(args, sizeof(args), "?force=1");
	if (c->timeout_s)
		snprintf(args + strlen(args), sizeof(args) - strlen(args), "%ctimeout_s=%u",
			 args[0] ? '&' : '?', c->timeout_s);
	snprintf(path, len, "/api/exports/%s%s%s%s", c->name, action ? "/" : "",
		 action ? action : "", args);
}

const char *cli_str(struct json_object *o, const char *key, const char *dflt)
{
	struct json_object *v;

	if (!json_object_object_get_ex(o, key, &v) || !v)
		return dflt;
	return json_object_get_string(v);
}

uint64_t cli_u64(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) ? json_object_get_uint64(v) : 0;
}

bool cli_bool(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) && json_object_get_boolean(v);
}

const char *cli_bytes(uint64_t n, char *buf, size_t len)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double v = (double)n;
	unsigned int u = 0;

	while (v >= 1024 && u + 1 < ARRAY_SIZE(units)) {
		v /= 1024;
		u++;
	}
	snprintf(buf, len, v == (double)(uint64_t)v ? "%.0f %s" : "%.1f %s", v, units[u]);
	return buf;
}
