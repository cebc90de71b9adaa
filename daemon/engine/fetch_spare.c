// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Buffers of GETs. Those of read-ahead are large: given back to the kernel and faulted in again for
 * every GET, they cost about as much as the hashing of what they bring. So a few wait for the next
 * GET, by class of size; when no GET has ended for a while the dispatcher frees them. Any thread;
 * f->lock guards the lists.
 */
#include "engine/fetch_priv.h"

static unsigned int spare_class(uint64_t len)
{
	unsigned int c = 0;

	while (c < FETCH_SPARE_CLASSES && FETCH_SPARE_MIN << c < len)
		c++;
	return c;
}

void *fetch_spare_get(struct fetcher *f, uint64_t len)
{
	unsigned int c = spare_class(len);
	struct fetch_spare *b = NULL;

	if (c == FETCH_SPARE_CLASSES)
		return malloc(len);
	pthread_mutex_lock(&f->lock);
	if (f->spare[c]) {
		b = f->spare[c];
		f->spare[c] = b->next;
		f->spare_bytes -= FETCH_SPARE_MIN << c;
	}
	pthread_mutex_unlock(&f->lock);
	return b ? b : malloc(FETCH_SPARE_MIN << c);
}

bool fetch_spare_put(struct fetcher *f, void *buf, uint64_t len)
{
	unsigned int c = spare_class(len);
	struct fetch_spare *b = buf;

	if (!b || c == FETCH_SPARE_CLASSES ||
	    f->spare_bytes + (FETCH_SPARE_MIN << c) > FETCH_SPARE_MAX)
		return false;
	if (!f->spare_timed)
		pthread_cond_signal(&f->wake);
	b->next = f->spare[c];
	f->spare[c] = b;
	f->spare_bytes += FETCH_SPARE_MIN << c;
	f->spare_put_ns = now_ns();
	return true;
}

void fetch_spare_free(struct fetcher *f)
{
	struct fetch_spare *all = NULL;

	pthread_mutex_lock(&f->lock);
	for (unsigned int c = 0; c < FETCH_SPARE_CLASSES; c++) {
		while (f->spare[c]) {
			struct fetch_spare *b = f->spare[c];

			f->spare[c] = b->next;
			b->next = all;
			all = b;
		}
	}
	f->spare_bytes = 0;
	pthread_mutex_unlock(&f->lock);
	while (all) {
		struct fetch_spare *next = all->next;

		free(all);
		all = next;
	}
}

uint64_t fetch_spare_tick(struct fetcher *f, uint64_t now, uint64_t next)
{
	uint64_t until;

	pthread_mutex_lock(&f->lock);
	until = f->spare_put_ns + FETCH_SPARE_NS;
	f->spare_timed = f->spare_put_ns && until > now;
	if (!f->spare_timed)
		until = f->spare_put_ns = 0;
	pthread_mutex_unlock(&f->lock);
	if (!until) {
		fetch_spare_free(f);
		return next;
	}
	return next ? MIN(next, until) : until;
}
