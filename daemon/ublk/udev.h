/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How udev learns that a device is ours, and how we learn that its rule took effect. The daemon
 * writes nothing to sysfs, and reads nothing there that a queue freeze could hold up.
 *
 * UDEV_MARK_DIR/ublkbN is a link to /proc/PID/fd/FD, the open char device of device N. It leads
 * somewhere only while this process holds device N, so a rule that asks for it never touches a
 * device of anybody else, whatever a daemon that was killed left behind: only one process can have
 * a char device open, and an id is another's only after that was closed.
 */
#ifndef GFS_UBLK_UDEV_H
#define GFS_UBLK_UDEV_H

#include "lib/util.h"

#define UDEV_MARK_DIR "/run/glidefs/devices"

/* Make the directory and remove links that lead nowhere. -errno. May block on /run. */
int udev_marks_open(void) __must_check;
/* The device has its char device open as fd; until udev_unmark(). -errno: udev passes it over. */
int udev_mark(int dev_id, int fd) __must_check;
void udev_unmark(int dev_id);
/*
 * Wait until udev has run our rule for block device dev_id, which did not exist before since_ns
 * (now_ns() clock): udev's database says so. 0; -ETIMEDOUT: not by deadline_ns; -ENOENT: no udev
 * runs here. Blocks; any thread but a worker's.
 */
int udev_wait(int dev_id, uint64_t since_ns, uint64_t deadline_ns) __must_check;
/*
 * For udev_wait() and its test: does this entry of udev's database (text, NUL-terminated) say that
 * our rule ran for a device that udev first saw at since_ns or later?
 */
bool udev_entry_done(const char *entry, uint64_t since_ns);

#endif
