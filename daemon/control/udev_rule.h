/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The udev rule for our devices (udev/99-glidefs-ublk.rules), which the program carries. */
#ifndef GFS_CONTROL_UDEV_RULE_H
#define GFS_CONTROL_UDEV_RULE_H

/*
 * See that udev has the rule of this program: where the file it uses differs, or there is none, the
 * program's is put into /run/udev/rules.d and udev asked to reload. One in /etc/udev/rules.d is the
 * administrator's and left alone. What fails is a warning with the next step. At start, before
 * devices are made; takes 2 s at most, milliseconds when there is nothing to do.
 */
void udev_rule_install(void);

#endif
