/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the fuzz targets share. Each is one libFuzzer program around one parser of bytes from
 * outside. With FUZZ_SEEDS=DIR a target writes its seeds, made by the program's own encoders, and
 * ends.
 */
#ifndef GFS_FUZZ_FUZZ_H
#define GFS_FUZZ_FUZZ_H

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The target's: hand each seed to fuzz_seed(). */
void fuzz_seeds(void);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* A promise of the parser does not hold: libFuzzer saves the input. */
#define FUZZ_MUST(x)                                                            \
	do {                                                                    \
		if (!(x)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x); \
			abort();                                                \
		}                                                               \
	} while (0)

static inline void fuzz_seed(const void *data, size_t len)
{
	static unsigned int nr;
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s/seed-%u", getenv("FUZZ_SEEDS"), nr++);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	FUZZ_MUST(fd >= 0 && write(fd, data, len) == (ssize_t)len);
	close(fd);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	if (getenv("FUZZ_SEEDS")) {
		fuzz_seeds();
		exit(0);
	}
	return 0;
}

#endif
