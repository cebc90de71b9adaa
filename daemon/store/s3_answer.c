// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What an answer of the server means. Two tables: by the code of the error document, which is
 * exact, else by the status. Pure.
 *
 * "definite" decides about data: a conditional PUT may be sent again without its caller knowing
 * only after an answer that excludes that it took effect. An answer counts as definite only if the
 * server names a reason for which it did not begin. A bare 5xx says nothing: radosgw answers 500 to
 * the loser of a race, and a proxy answers 502 or 504 for a server that may have done it.
 *
 * An absent object is only what the server itself calls NoSuchKey: a 404 of a proxy, or of a bucket
 * that is gone, must never look like a volume that was deleted.
 */
#include "store/s3_priv.h"

#include <string.h>

static const char advice_keys[] = "check the access key and its secret";
static const char advice_policy[] =
	"the key needs GetObject, PutObject, DeleteObject and ListBucket on the bucket and prefix";
static const char advice_region[] = "set store.region, and store.endpoint, to the bucket's own";
static const char advice_bucket[] = "create the bucket, or correct store.url";
static const char advice_space[] = "the store is full or over its quota: free or add space there";
static const char advice_clock[] = "set the clock of this host";
static const char advice_s3[] = "store.endpoint does not answer as S3 does: is it right?";

static const struct {
	const char *code;
	struct s3_verdict v;
} codes[] = {
	{"NoSuchKey", {-ENOENT, S3_DONE, true, false, NULL}},
	{"NoSuchBucket", {-ENODEV, S3_DONE, true, false, advice_bucket}},
	{"InvalidBucketName", {-ENODEV, S3_DONE, true, false, advice_bucket}},
	{"PreconditionFailed", {-ESTALE, S3_DONE, true, false, NULL}},
	{"InvalidRange", {-ERANGE, S3_DONE, true, false, NULL}},
	{"NotImplemented", {-EOPNOTSUPP, S3_DONE, true, false, NULL}},
	{"MethodNotAllowed", {-EOPNOTSUPP, S3_DONE, true, false, NULL}},
	{"AccessDenied", {-EACCES, S3_DONE, true, false, advice_policy}},
	{"AllAccessDisabled", {-EACCES, S3_DONE, true, false, advice_policy}},
	{"SignatureDoesNotMatch", {-EACCES, S3_RELOAD, true, false, advice_keys}},
	{"InvalidAccessKeyId", {-EACCES, S3_RELOAD, true, false, advice_keys}},
	{"ExpiredToken", {-EACCES, S3_RELOAD, true, false, advice_keys}},
	{"InvalidToken", {-EACCES, S3_RELOAD, true, false, advice_keys}},
	{"TokenRefreshRequired", {-EACCES, S3_RELOAD, true, false, advice_keys}},
	{"RequestTimeTooSkewed", {-EACCES, S3_SKEW, true, false, advice_clock}},
	{"PermanentRedirect", {-EREMCHG, S3_DONE, true, false, advice_region}},
	{"TemporaryRedirect", {-EREMCHG, S3_DONE, true, false, advice_region}},
	{"Redirect", {-EREMCHG, S3_DONE, true, false, advice_region}},
	{"AuthorizationHeaderMalformed", {-EREMCHG, S3_DONE, true, false, advice_region}},
	{"IllegalLocationConstraintException", {-EREMCHG, S3_DONE, true, false, advice_region}},
	{"QuotaExceeded", {-ENOSPC, S3_DONE, true, false, advice_space}},
	{"InsufficientStorage", {-ENOSPC, S3_DONE, true, false, advice_space}},
	{"EntityTooLarge", {-EFBIG, S3_DONE, true, false, NULL}},
	{"KeyTooLongError", {-ENAMETOOLONG, S3_DONE, true, false, NULL}},
	{"SlowDown", {-EBUSY, S3_THROTTLE, true, false, NULL}},
	{"TooManyRequests", {-EBUSY, S3_THROTTLE, true, false, NULL}},
	{"RequestLimitExceeded", {-EBUSY, S3_THROTTLE, true, false, NULL}},
	{"Throttling", {-EBUSY, S3_THROTTLE, true, false, NULL}},
	{"ThrottlingException", {-EBUSY, S3_THROTTLE, true, false, NULL}},
	{"ConditionalRequestConflict", {-EBUSY, S3_AGAIN, true, false, NULL}},
	{"OperationAborted", {-EBUSY, S3_AGAIN, true, false, NULL}},
	{"RequestTimeout", {-ETIMEDOUT, S3_AGAIN, true, false, NULL}},
	{"IncompleteBody", {-EIO, S3_AGAIN, true, false, NULL}},
	{"BadDigest", {-EIO, S3_AGAIN, true, false, NULL}},
	{"XAmzContentSHA256Mismatch", {-EIO, S3_AGAIN, true, false, NULL}},
};

static const struct {
	long status;
	struct s3_verdict v;
} statuses[] = {
	{301, {-EREMCHG, S3_DONE, true, false, advice_region}},
	{302, {-EREMCHG, S3_DONE, true, false, advice_region}},
	{307, {-EREMCHG, S3_DONE, true, false, advice_region}},
	{308, {-EREMCHG, S3_DONE, true, false, advice_region}},
	{400, {-EINVAL, S3_DONE, true, false, NULL}},
	{401, {-EACCES, S3_DONE, true, false, advice_keys}},
	{403, {-EACCES, S3_DONE, true, false, advice_policy}},
	{404, {-EPROTO, S3_DONE, true, false, advice_s3}},
	{405, {-EOPNOTSUPP, S3_DONE, true, false, NULL}},
	{408, {-ETIMEDOUT, S3_AGAIN, false, false, NULL}},
	{409, {-EBUSY, S3_AGAIN, false, false, NULL}},
	{412, {-ESTALE, S3_DONE, true, false, NULL}},
	{413, {-EFBIG, S3_DONE, true, false, NULL}},
	{416, {-ERANGE, S3_DONE, true, false, NULL}},
	{429, {-EBUSY, S3_THROTTLE, true, false, NULL}},
	{501, {-EOPNOTSUPP, S3_DONE, true, false, NULL}},
	{503, {-EIO, S3_THROTTLE, false, true, NULL}},
	{507, {-ENOSPC, S3_DONE, true, false, advice_space}},
};

struct s3_verdict s3_judge(long status, const struct s3_error *e)
{
	if (status / 100 == 2 && !e)
		return (struct s3_verdict){.class = S3_DONE};
	for (size_t i = 0; e && i < ARRAY_SIZE(codes); i++)
		if (!strcmp(e->code, codes[i].code))
			return codes[i].v;
	for (size_t i = 0; i < ARRAY_SIZE(statuses); i++)
		if (status == statuses[i].status)
			return statuses[i].v;
	/* An error behind a good status, and every other 5xx. */
	if (status / 100 == 2 || status / 100 == 5)
		return (struct s3_verdict){-EIO, S3_AGAIN, false, true, NULL};
	return (struct s3_verdict){-EPROTO, S3_DONE, false, false, advice_s3};
}
