# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=150
#
# A volume that was uploaded is overwritten in part; the newer version is the one that is read after a
# restart by SIGTERM, after SIGKILL, after another upload, and on another host.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"
# shellcheck source=selftests/lab/scenarios/oracle.lib
. "$LAB/scenarios/oracle.lib"

overwrite() # REQUESTS
{
	oracle_start "$dev" --ops "$1" --max-bytes 64K
	oracle_wait
}

mkdisk cache store
daemon_start a upload.age_s=600 upload.dirty_bytes=1G
dev=$(volume_create vm1 32M)
oracle_start "$dev" --fill
oracle_wait
glidefs drain vm1

overwrite 200
daemon_stop
daemon_start
oracle_verify "$dev"

overwrite 200
daemon_kill9
daemon_start
oracle_verify "$dev"

glidefs drain vm1
overwrite 200
daemon_kill9
daemon_start
oracle_verify "$dev"

# The same block whole, so that its newer version comes from a newer pack.
dd if=/dev/zero of="$dev" bs=64k count=1 seek=3 oflag=direct conv=notrunc
glidefs drain vm1
dd if=/dev/urandom of="$LAB_TMP/block" bs=64k count=1
dd if="$LAB_TMP/block" of="$dev" bs=64k count=1 seek=3 oflag=direct conv=notrunc
glidefs detach vm1
daemon_start b
HOST=b glidefs attach vm1
dev=$(HOST=b volume_dev vm1)
dd if="$dev" bs=64k count=1 skip=3 iflag=direct | cmp - "$LAB_TMP/block" ||
	fail "an overwritten block is old on another host"
daemon_stop b
daemon_stop
