# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=150
#
# A volume with a mounted file system grows: where the driver can change a device's size the device
# follows at once, resize2fs fills it while it is mounted; elsewhere the answer says so and the new size
# is there after detach and attach. Either way nothing is lost, also over SIGKILL and on another host.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

case $LAB_KERNEL in
6.12*) online=0 ;;
*) online=1 ;;
esac
field() { glidefs show vm1 | awk -v k="$1" '$1 == k { print $2 }'; } # NAME
sum() { (cd "$LAB_MNT/fs" && sha256sum old new 2>/dev/null | sha256sum); }

mkdisk cache store
daemon_start
dev=$(volume_create vm1 64M)
mkfs_fast "$dev"
mount_at "$dev" "$LAB_MNT/fs"
dd if=/dev/urandom of="$LAB_MNT/fs/old" bs=1M count=20 conv=fsync

glidefs grow vm1 --size 192M > "$LAB_TMP/grow.out" 2>&1
sed 's/^/# /' "$LAB_TMP/grow.out"
equal "size of the volume" "$(field size_bytes)" 201326592
if [ "$online" = 0 ]; then
	equal "size of the device" "$(field device_bytes)" 67108864
	grep -q "detach and attach" "$LAB_TMP/grow.out" || fail "the answer does not say what to do"
	before=$(sum)
	umount "$LAB_MNT/fs"
	glidefs detach vm1
	glidefs attach vm1
	dev=$(volume_dev vm1)
	wait_for 30 "$dev" test -b "$dev"
	mount_at "$dev" "$LAB_MNT/fs"
	equal "files after detach and attach" "$(sum)" "$before"
fi
equal "size of the device" "$(field device_bytes)" 201326592
equal "size that the kernel says" "$(blockdev --getsize64 "$dev")" 201326592
resize2fs "$dev" > "$LAB_TMP/resize.log" 2>&1 || fail "resize2fs: $(cat "$LAB_TMP/resize.log")"
dd if=/dev/urandom of="$LAB_MNT/fs/new" bs=1M count=100 conv=fsync
want=$(sum)

daemon_kill9
daemon_start
equal "files after SIGKILL" "$(sum)" "$want"
equal "size after SIGKILL" "$(blockdev --getsize64 "$dev")" 201326592
umount "$LAB_MNT/fs"
e2fsck -fn "$dev" > "$LAB_TMP/fsck.log" 2>&1 || fail "e2fsck: $(cat "$LAB_TMP/fsck.log")"
glidefs detach vm1
daemon_start b
HOST=b glidefs attach vm1
dev=$(HOST=b volume_dev vm1)
wait_for 30 "$dev" test -b "$dev"
mount_at "$dev" "$LAB_MNT/fs"
equal "files on another host" "$(sum)" "$want"
umount "$LAB_MNT/fs"
daemon_stop b
daemon_stop
