# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=150
# lab: allow-log=I/O error|EXT4-fs|JBD2|lost async page write|Aborting journal
#
# The local disk starts to fail writes.  The volume goes read-only and says so; FLUSH fails and is never
# retried as good, not when the disk is well again, not by a restart of the daemon; what was acknowledged
# before is readable.  After a reboot everything that was flushed is there, and goes to the store.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"
# shellcheck source=selftests/lab/scenarios/oracle.lib
. "$LAB/scenarios/oracle.lib"

sectors=1048576
disk=$(lab_disk cache)

# The device keeps its place under the file system; only its table changes.
disk_table()
{
	dmsetup suspend --noflush --nolockfs flaky
	dmsetup load flaky --table "$1"
	dmsetup resume --noudevsync flaky
}

flush()
{
	dd if=/dev/zero of="$dev" count=0 conv=fsync,notrunc
}

poisoned()
{
	glidefs --json show vm1 | grep -q '"mode":"poisoned"'
}

mkdisk store
modprobe dm-flakey
dm_create flaky "0 $sectors linear $disk 0"
mkfs_fast /dev/mapper/flaky
mount_at /dev/mapper/flaky "$LAB_MNT/cache"
daemon_start a upload.age_s=600 upload.dirty_bytes=1G cache.min_free_bytes=16M
dev=$(volume_create vm1 32M)
oracle_start "$dev" --ops 400 --flush 8 --max-bytes 64K
oracle_wait
flush
sync

disk_table "0 $sectors flakey $disk 0 0 3600 1 error_writes"
oracle_start "$dev" --threads 4 --read 20 --flush 20 --tolerate --max-bytes 64K
wait_for 60 "an error on the volume" oracle_passed errors 1
wait_for 30 "read-only volume" poisoned
oracle_stop
note "$(glidefs --json show vm1 | sed -n 's/.*"why":"\([^"]*\)".*/\1/p')"
equal "layer.poisoned events" "$(grep -c '"layer.poisoned"' "$(host_dir a)/timing.jsonl")" 1
grep -q read-only "$(host_dir a)/glidefsd.log" || fail "the log does not say that vm1 is read-only"
! flush || fail "FLUSH succeeds on a poisoned layer"
oracle_verify "$dev"

# The disk is well again; what failed once has still failed.
disk_table "0 $sectors linear $disk 0"
! flush || fail "FLUSH was retried and called good"
! dd if=/dev/zero of="$dev" bs=4k count=1 oflag=direct conv=notrunc ||
	fail "a poisoned volume takes writes"
oracle_verify "$dev"
daemon_kill9
# shellcheck disable=SC2046 # a list of numbers
ublk-dev rm $(new_devices)

umount "$LAB_MNT/cache"
e2fsck -fy /dev/mapper/flaky > "$LAB_TMP/fsck.log" 2>&1 || :
mount_at /dev/mapper/flaky "$LAB_MNT/cache"
daemon_start
dev=$(volume_dev vm1)
[ -b "$dev" ] || fail "no device after a restart: $(glidefs show vm1)"
poisoned || fail "a restart made good what had failed: $(glidefs show vm1)"
! flush || fail "FLUSH succeeds after a restart"
oracle_verify "$dev" --after-power-loss
daemon_kill9
# shellcheck disable=SC2046 # a list of numbers
ublk-dev rm $(new_devices)

export GFS_BOOT_ID=00000000-0000-4000-8000-000000000002
daemon_start
dev=$(volume_dev vm1)
[ -b "$dev" ] || fail "no device after the reboot: $(glidefs show vm1)"
oracle_verify "$dev" --after-power-loss
glidefs drain vm1
daemon_stop
