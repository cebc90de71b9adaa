// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Start-up: every volume of the durable list is opened and its device recovered, in parallel on the
 * pool. One that fails for a reason that may pass (store, device) is tried again with backoff,
 * because its guest waits on a QUIESCED device; any other failure stays, with its reason, for a
 * person to decide.
 */
#include "control/host_priv.h"

#include <stdio.h>
#include <string.h>

#include "lib/log.h"

static bool fault_passes(enum op_fault f)
{
	return f == OP_FAULT_STORE || f == OP_FAULT_DEVICE || f == OP_FAULT_SPACE;
}

static int recover_one(struct host_vol *vol, struct op_err *err)
{
	uint64_t op_id = timing_op_id();
	struct op_timing t = op_timing_begin(TIMING_ATTACH_EXPORT, vol->name, -1, op_id);
	struct host *h = vol->h;
	struct fmt_err fe = {{0}};
	struct ublk_dev *dev = NULL;
	struct volume *v = NULL;
	int r = volume_open(h->e, vol->name, vol->uuid, CLAIM_OWN, true, NULL, NULL, op_id, &v,
			    &fe);

	if (r == -ENOENT) {
		r = op_fail(err, OP_FAULT_CONFLICT, ENOENT,
			    "volume %s: its root is not in the store %s; is this the right store? "
			    "(detach with "
			    "force forgets it)",
			    vol->name, engine_store(h->e)->url);
	} else if (r) {
		r = op_fail_engine(err, r, "opening it", vol->name, &fe);
	} else {
		r = vol_device_recover(vol, v, op_id, &dev, err);
		if (r)
			volume_close(v);
		else
			vol_set(vol, HOST_ATTACHED, v, dev);
	}
	op_timing_end(&t, dev ? ublk_dev_id(dev) : -1, r);
	return r;
}

static void recover_failed(struct host_vol *vol, const struct op_err *err)
{
	struct host *h = vol->h;
	SCOPED_LOCK(&h->lock);

	if (vol->state != HOST_FAILED || strcmp(vol->why, err->msg))
		log_err("%s", err->msg);
	vol->state = HOST_FAILED;
	snprintf(vol->why, sizeof(vol->why), "%.*s", (int)sizeof(vol->why) - 1, err->msg);
	vol->passing = fault_passes(err->fault);
	vol->backoff_ns =
		vol->backoff_ns ? MIN(vol->backoff_ns * 2, RETRY_BACKOFF_MAX) : RETRY_BACKOFF_MIN;
	vol->retry_ns = now_ns() + vol->backoff_ns;
}

static bool uuid_known(const uint8_t uuid[16], void *arg)
{
	struct host *h = arg;
	struct host_vol *vol;
	SCOPED_LOCK(&h->lock);

	for (unsigned int i = 0; i < HOST_BUCKETS; i++)
		list_for_each_entry (vol, &h->bucket[i], node)
			/* One that an operation owns may be about to get its device; one it gave up
			 * not. */
			if ((vol->state != HOST_DETACHED || (vol->busy && !vol->listed)) &&
			    !memcmp(vol->uuid, uuid, sizeof(vol->uuid)))
				return true;
	return false;
}

void host_reap_devices(struct host *h)
{
	int n;

	if (!h->u)
		return;
	n = ublk_reap_leaked(h->u, uuid_known, h);
	if (n > 0)
		log_warn("%d leaked device(s) of this host removed", n);
}

static void recover_finished(struct host *h)
{
	struct host_summary s;

	host_summary_read(h, &s);
	log_info("recovery: %u volume(s) attached, %u failed", s.attached, s.failed);
	if (h->cfg.on_ready)
		h->cfg.on_ready(h->cfg.on_ready_arg, s.attached, s.failed);
}

static void recover_run(struct pool_job *job)
{
	struct host_vol *vol = container_of(job, struct host_vol, job);
	struct host *h = vol->h;
	bool stopping, first, last = false;
	struct op_err err;

	pthread_mutex_lock(&h->lock);
	stopping = h->stopping;
	first = !vol->tried;
	vol->tried = true;
	pthread_mutex_unlock(&h->lock);
	if (!stopping && recover_one(vol, &err))
		recover_failed(vol, &err);
	vol_end(vol);
	pthread_mutex_lock(&h->lock);
	if (first && !--h->recover_left) {
		h->recovered = true;
		last = !h->stopping;
	}
	pthread_mutex_unlock(&h->lock);
	if (last)
		recover_finished(h);
	pthread_mutex_lock(&h->lock);
	h->jobs--;
	pthread_cond_broadcast(&h->cond);
	pthread_mutex_unlock(&h->lock);
}

void host_recover_start(struct host *h)
{
	struct host_vol *vol;
	unsigned int n = 0;

	pthread_mutex_lock(&h->lock);
	for (unsigned int i = 0; i < HOST_BUCKETS; i++)
		list_for_each_entry (vol, &h->bucket[i], node)
			n += vol->state == HOST_RECOVERING;
	h->recover_left = n;
	h->jobs += n;
	h->recovered = n == 0;
	for (unsigned int i = 0; i < HOST_BUCKETS; i++)
		list_for_each_entry (vol, &h->bucket[i], node)
			if (vol->state == HOST_RECOVERING) {
				vol->job.run = recover_run;
				pool_submit(h->pool, &vol->job);
			}
	pthread_mutex_unlock(&h->lock);
	if (!n)
		recover_finished(h);
}

void recover_retry_due(struct host *h, uint64_t *next_ns)
{
	uint64_t now = now_ns();
	struct host_vol *vol;

	*next_ns = 0;
	for (unsigned int i = 0; i < HOST_BUCKETS; i++)
		list_for_each_entry (vol, &h->bucket[i], node) {
			if (vol->state != HOST_FAILED || !vol->passing || vol->busy)
				continue;
			if (vol->retry_ns > now) {
				if (!*next_ns || vol->retry_ns < *next_ns)
					*next_ns = vol->retry_ns;
				continue;
			}
			vol->busy = "recover";
			vol->busy_since = now;
			vol->job.run = recover_run;
			h->jobs++;
			pool_submit(h->pool, &vol->job);
		}
}
