# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=150
#
# A volume moves between hosts that share nothing but the store: written on a, detached, read and written on
# b with an empty cache, and on c after b died.  Nobody opens what another host owns, but by takeover.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"
# shellcheck source=selftests/lab/scenarios/oracle.lib
. "$LAB/scenarios/oracle.lib"

work() # DEVICE
{
	oracle_start "$1" --ops 300 --max-bytes 128K --discard 3 --zeroes 3
	oracle_wait
}

mkdisk cache store
daemon_start a upload.age_s=600
work "$(volume_create vm1 64M)"
# With its whole cluster of metadata, a file system is what a node really wakes with.
fs=$(volume_create fs1 64M)
mkfs_fast "$fs"
mount_at "$fs" "$LAB_MNT/fs"
cp /bin/busybox "$LAB_MNT/fs/file"
sum=$(sha256sum < /bin/busybox)
umount "$LAB_MNT/fs"

daemon_start b upload.age_s=600
status=0
HOST=b glidefs attach vm1 2> "$LAB_TMP/refused" || status=$?
equal "exit status of attaching what a owns" "$status" 5
grep -qw a "$LAB_TMP/refused" || fail "the refusal does not name the owner: $(cat "$LAB_TMP/refused")"

glidefs detach vm1
glidefs detach fs1
equal "devices of a after detach" "$(new_devices)" ""
HOST=b glidefs attach fs1
mount_at "$(HOST=b volume_dev fs1)" "$LAB_MNT/fs"
equal "file on another node" "$(sha256sum < "$LAB_MNT/fs/file")" "$sum"
umount "$LAB_MNT/fs"
e2fsck -fn "$(HOST=b volume_dev fs1)"
HOST=b glidefs attach vm1
dev=$(HOST=b volume_dev vm1)
oracle_verify "$dev"
work "$dev"
HOST=b glidefs drain vm1

# b dies for good, with its device; c seizes what b uploaded.
daemon_kill9 b
# shellcheck disable=SC2046 # a list of numbers
ublk-dev rm $(new_devices)
daemon_start c
status=0
HOST=c glidefs attach vm1 2> "$LAB_TMP/refused" || status=$?
equal "exit status of attaching what b owns" "$status" 5
HOST=c glidefs takeover vm1
oracle_verify "$(HOST=c volume_dev vm1)"

# b comes back: it lost the volume, and says so; it must not serve it nor publish.
daemon_start b
case $(HOST=b glidefs --json show vm1) in
*'"state":"attached"'*'"mode":"rw"'*) fail "b serves a volume that c has seized" ;;
esac
daemon_stop c
daemon_stop b
daemon_stop
