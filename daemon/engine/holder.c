// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What every object that names a manifest (root, snapshot, image) says of it, read without knowing
 * which of them it is. Pure function, any thread.
 */
#include "engine/sealed.h"

int holder_parse(const char *json, size_t len, struct manifest_ref *ref, struct fmt_err *e)
{
	static const char *const magics[] = {"glidefs-root", "glidefs-snapshot", "glidefs-base"};
	struct sealed_in in = {.what = "root, snapshot or image", .e = e};
	uint8_t own[16];
	int r = -EBADMSG;

	memset(ref, 0, sizeof(*ref));
	for (size_t i = 0; r == -EBADMSG && i < ARRAY_SIZE(magics); i++)
		r = sealed_open(&in, json, len, magics[i], 1);
	if (r)
		return r;
	r = sealed_uuid(&in, "uuid", own);
	if (!r)
		r = sealed_manifest(&in, ref, own);
	if (!r)
		r = manifest_ref_check(ref, in.what, e);
	sealed_close(&in);
	return r;
}
