# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=150
#
# Discard and write-zeroes, aligned and not, over a cold base: what they cover reads as zeros, at once, after
# SIGKILL, after an upload, on another host; what they do not cover is as it was, and so are the
# unaligned edges of a discard.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"
# shellcheck source=selftests/lab/scenarios/oracle.lib
. "$LAB/scenarios/oracle.lib"

mkdisk cache store
daemon_start a
dev=$(volume_create vm1 32M)
equal "discard granularity" "$(cat "/sys/block/${dev#/dev/}/queue/discard_granularity")" 4096
oracle_start "$dev" --fill
oracle_wait
glidefs detach vm1

# Cold, and slow enough that a zeroing which waited for what it hides would be seen.
daemon_start b store.fault="get:chunks/* delay=100" upload.age_s=600
HOST=b glidefs attach vm1
dev=$(HOST=b volume_dev vm1)
oracle_start "$dev" --ops 500 --read 5 --discard 35 --zeroes 35 --max-bytes 64K --strict-edges
oracle_wait 100
oracle_verify "$dev"
daemon_kill9 b
daemon_start b
oracle_verify "$dev"
HOST=b glidefs drain vm1
oracle_start "$dev" --ops 100 --read 5 --discard 35 --zeroes 35 --max-bytes 64K --strict-edges
oracle_wait 100
HOST=b glidefs detach vm1

daemon_start c
HOST=c glidefs attach vm1
dev=$(HOST=c volume_dev vm1)
oracle_verify "$dev"

# The whole of it, as mkfs does.
blkdiscard "$dev"
head -c 33554432 /dev/zero | cmp - "$dev" || fail "not zeros after a discard of everything"
HOST=c glidefs detach vm1
glidefs attach vm1
head -c 33554432 /dev/zero | cmp - "$(volume_dev vm1)" ||
	fail "not zeros on another host after a discard of everything"
daemon_stop c
daemon_stop b
daemon_stop
