# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=150 timeout-full=1800
#
# A file system of real files is blessed, and mounted from a fork of the image: the files are the same, programs in it
# run, what one fork writes is in no other.  The same image again uploads nothing; exported it is the same bytes.
# With lab.py --content DIR the image is that disk, of whatever is in DIR and of any size (DIR/bin/busybox runs).

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

tree=$LAB_MNT/store/tree
image=$LAB_MNT/store/image

# With FULL=1 all that the guest has; else some megabytes of it.
tree_make()
{
	if [ -b /dev/lab/content ]; then
		image=/dev/lab/content
		mount_at "$image" "$tree" ro
		return
	fi
	mkdir -p "$tree/bin" "$tree/lib" "$tree/dev"
	cp /bin/busybox "$tree/bin/"
	if [ "$LAB_FULL" = 1 ]; then
		cp -a /usr/bin "$tree/usr-bin"
		cp -a /usr/lib "$tree/usr-lib"
		return
	fi
	cp -a /lab "$tree/"
	for lab_file in /usr/bin/mke2fs /usr/bin/e2fsck /usr/bin/dmsetup /lib/x86_64-linux-gnu/libc.so.6; do
		cp "$lab_file" "$tree/lib/"
	done
}

# The sums of all files below a directory, in order.
sums()
{
	(cd "$1" && find . -type f ! -path './lost+found/*' -print0 | sort -z | xargs -0 sha256sum)
}

# bless NAME: what it says in JSON; $BLESS_CONFIG is the configuration.
bless()
{
	GLIDEFS_SECONDS=1200 glidefs --json bless "$image" "$1" --config "$BLESS_CONFIG" > "$LAB_TMP/bless.out" ||
		fail "bless $1: $(cat "$LAB_TMP/bless.out")"
}

said() # MEMBER
{
	sed -n 's/.*"'"$1"'":\([^,}]*\).*/\1/p' "$LAB_TMP/bless.out"
}

mkdisk cache store
daemon_start a
BLESS_CONFIG=$(host_dir a)/glidefsd.conf
tree_make
kib=$(du -sk "$tree" | cut -f1)
[ -b "$image" ] || mke2fs -q -t ext4 -d "$tree" "$image" "$((kib * 5 / 4 + 16384))k"
sums "$tree" > "$LAB_TMP/sums"
note "$(wc -l < "$LAB_TMP/sums") files, $((kib / 1024)) MiB"

bless debian
equal "known before" "$(said existed)" false
[ "$(said uploaded_bytes)" -gt 0 ] || fail "nothing was uploaded: $(cat "$LAB_TMP/bless.out")"
equal "images" "$(glidefs images | awk 'NR > 1 { print $1 }')" debian
objects=$(store_ls)

# Again: no PUT at all gets through; by another name only that of the base.
sed 's,^\[store\],&\nfault=put error=EIO,' "$(host_dir a)/glidefsd.conf" > "$LAB_TMP/no-put.conf"
BLESS_CONFIG=$LAB_TMP/no-put.conf
bless debian
equal "known before" "$(said existed)" true
equal "objects after blessing the same again" "$(store_ls)" "$objects"
sed 's,^\[store\],&\nfault=put:[cm]* error=EIO,' "$(host_dir a)/glidefsd.conf" > "$LAB_TMP/no-put.conf"
bless copy
equal "bytes uploaded for another name" "$(said uploaded_bytes)" 0
glidefs image-rm copy

# Another image has no right to the name.
BLESS_CONFIG=$(host_dir a)/glidefsd.conf
dd if=/dev/zero of="$LAB_MNT/store/other" bs=1M count=2 2> /dev/null
status=0
glidefs bless "$LAB_MNT/store/other" debian --config "$BLESS_CONFIG" 2> "$LAB_TMP/refused" || status=$?
equal "exit status of blessing another image by that name" "$status" 5

dev=$(glidefs fork vm1 --from image:debian)
wait_for 30 "$dev" test -b "$dev"
mount_at "$dev" "$LAB_MNT/fs"
sums "$LAB_MNT/fs" > "$LAB_TMP/sums.fork"
cmp "$LAB_TMP/sums" "$LAB_TMP/sums.fork" || fail "the files of the fork differ"
equal "a program of the fork" "$(chroot "$LAB_MNT/fs" /bin/busybox echo runs)" runs
echo mine > "$LAB_MNT/fs/mine"
umount "$LAB_MNT/fs"
e2fsck -fn "$dev" > "$LAB_TMP/fsck.log" 2>&1 || fail "e2fsck is not content: $(cat "$LAB_TMP/fsck.log")"
glidefs detach vm1

# On another host, which has nothing but the store, and after the image is gone.
daemon_start b
HOST=b glidefs fork vm2 --from image:debian --size 4G > "$LAB_TMP/fork.out"
GLIDEFS_SECONDS=1200 glidefs export-image image:debian "$LAB_MNT/store/out" --config "$BLESS_CONFIG"
cmp "$image" "$LAB_MNT/store/out" || fail "the image that was exported differs"
glidefs image-rm debian
dev=$(HOST=b volume_dev vm2)
wait_for 30 "$dev" test -b "$dev"
mount_at "$dev" "$LAB_MNT/fs"
sums "$LAB_MNT/fs" > "$LAB_TMP/sums.fork"
cmp "$LAB_TMP/sums" "$LAB_TMP/sums.fork" || fail "the files of the second fork differ"
[ ! -e "$LAB_MNT/fs/mine" ] || fail "the second fork has what the first one wrote"
umount "$LAB_MNT/fs"
HOST=b glidefs attach vm1 > "$LAB_TMP/fork.out"
mount_at "$(HOST=b volume_dev vm1)" "$LAB_MNT/fs"
equal "what the first fork wrote, on another host" "$(cat "$LAB_MNT/fs/mine")" mine
umount "$LAB_MNT/fs"
status=0
glidefs fork vm3 --from image:debian 2> "$LAB_TMP/refused" || status=$?
equal "exit status of a fork of a deleted image" "$status" 4
daemon_stop b
daemon_stop
