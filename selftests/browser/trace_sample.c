// SPDX-License-Identifier: GPL-2.0-or-later
/* Write the pictures of the made-up session: trace_sample HTML PERFETTO FOLDED [empty] */
#include <stdio.h>
#include <string.h>

#include "selftests/browser/sample.h"

int main(int argc, char **argv)
{
	struct model *m = model_new(&(struct model_config){0});
	struct sink *sinks[3];
	char err[256] = "";
	int rc = 0;

	if (argc < 4 || !m) {
		fprintf(stderr, "usage: trace_sample HTML PERFETTO FOLDED [empty]\n");
		return 1;
	}
	sinks[0] = sink_html(argv[1], err, sizeof(err));
	sinks[1] = sink_perfetto(argv[2], err, sizeof(err));
	sinks[2] = sink_folded(argv[3], err, sizeof(err));
	for (unsigned int i = 0; i < 3; i++) {
		if (!sinks[i]) {
			fprintf(stderr, "trace_sample: %s\n", err);
			return 1;
		}
	}
	if (argc == 4)
		sample_run(sinks, 3);
	for (unsigned int i = 0; i < 3; i++) {
		int closed = sinks[i]->close(sinks[i], m);

		if (closed)
			fprintf(stderr, "trace_sample: %s: %s\n", argv[i + 1], strerror(-closed));
		rc |= closed;
	}
	model_free(m);
	return rc != 0;
}
