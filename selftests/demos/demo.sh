# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=540 mem=3072
# The main job, step by step: create, use, kill the daemon under load, go on, move to another host.
. "$LAB/lab.sh"

step=0
tell()
{
	step=$((step + 1))
	note "$step. $*"
}

# checksums DIR: of all files below it, by relative name.
checksums()
{
	(cd "$1" && find . -type f ! -path './lost+found/*' -print0 | sort -z | xargs -0 sha256sum)
}


files=$LAB_TMP/files
if [ "$LAB_HOST" = 1 ]; then
	files=$LAB_CONTENT
else
	mkdir -p "$files"
	mount -t ext4 -o ro /dev/lab/content "$files"
	echo "$files" >> "$LAB_TMP/mounts"
fi
mkdisk cache store
count=$(find "$files" -type f | wc -l)
mb=$(du -sm "$files" | cut -f1)

tell "kernel $LAB_KERNEL: start glidefsd with the store file://$LAB_MNT/store/objects"
daemon_start a
tell "glidefs create vm-17 --size 2G"
dev=$(volume_create vm-17 2G)
note "      $dev, scheduler $(cat "/sys/block/${dev#/dev/}/queue/scheduler")"
tell "mkfs.ext4 $dev; mount; copy $count files ($mb MB); sync"
mkfs_fast "$dev"
mount_at "$dev" "$LAB_MNT/vm"
start=$(now_ms)
mkdir "$LAB_MNT/vm/one" "$LAB_MNT/vm/two"
cp -a "$files/." "$LAB_MNT/vm/one/"
sync
note "      copied and synced in $((($(now_ms) - start) / 1000)) s"
checksums "$files" > "$LAB_TMP/sums"

tell "copy them a second time, and SIGKILL glidefsd (pid $(daemon_pid a)) in the middle of it"
background cp -a "$files/." "$LAB_MNT/vm/two/"
copier=$LAB_PID
halfway()
{
	[ "$(find "$LAB_MNT/vm/two" -type f | wc -l)" -gt $((count / 3)) ]
}
wait_for 120 "a third of the second copy" halfway
daemon_kill9 a
note "      killed; the copy (pid $copier) waits, the mount stays"
tell "start glidefsd again: it recovers the device, the copy goes on"
daemon_start a
copied()
{
	! kill -0 "$copier" 2>/dev/null || [ "$(cut -d' ' -f3 "/proc/$copier/stat")" = Z ]
}
wait_for 180 "end of the second copy" copied
wait "$copier" || fail "the copy failed: $(cat "$LAB_TMP/background.log")"
sync
equal "device after the restart" "$(volume_dev vm-17)" "$dev"

tell "drop caches; verify every checksum of both copies through the same mount"
echo 3 > /proc/sys/vm/drop_caches
for copy in one two; do
	checksums "$LAB_MNT/vm/$copy" > "$LAB_TMP/sums.$copy"
	cmp "$LAB_TMP/sums" "$LAB_TMP/sums.$copy" || fail "copy $copy differs"
done
note "      $((2 * count)) files are identical"

tell "umount; glidefs detach vm-17: uploads what is left and gives the volume up"
umount "$LAB_MNT/vm"
start=$(now_ms)
GLIDEFS_SECONDS=180 glidefs detach vm-17
note "      detached in $((($(now_ms) - start) / 1000)) s; the store holds $(du -sm "$LAB_MNT/store/objects" | cut -f1) MB"

tell "a second host with an empty cache directory attaches it"
daemon_start b
HOST=b glidefs attach vm-17 > "$LAB_TMP/attach.out" || fail "attach: $(cat "$LAB_TMP/attach.out")"
dev=$(HOST=b volume_dev vm-17)
mount_at "$dev" "$LAB_MNT/vm" ro,noatime
start=$(now_ms)
for copy in one two; do
	checksums "$LAB_MNT/vm/$copy" > "$LAB_TMP/sums.$copy"
	cmp "$LAB_TMP/sums" "$LAB_TMP/sums.$copy" || fail "copy $copy differs on the second host"
done
note "      $((2 * count)) files are identical, read from the store in $((($(now_ms) - start) / 1000)) s"
umount "$LAB_MNT/vm"

tell "what the timing events say (emulated CPUs: order and proportion, not speed)"
cat "$LAB_TMP"/a/timing.jsonl "$LAB_TMP"/b/timing.jsonl |
	sed -n 's/.*"event": *"\([^"]*\)".*"duration_us": *\([0-9.]*\).*/\1 \2/p' |
	sort -k1,1 -k2,2n |
	awk 'function flush() { if (n) printf "      %-28s n=%-5d p50=%9.1f ms  p99=%9.1f ms  max=%9.1f ms\n",
			name, n, v[int((n - 1) * 0.5) + 1] / 1000, v[int((n - 1) * 0.99) + 1] / 1000, v[n] / 1000 }
		$1 != name { flush(); name = $1; n = 0 }
		{ v[++n] = $2 }
		END { flush() }' |
	grep -E "create_export|save_export|register_device|ublk\.(add_dev|start_dev|recover|arm)|object\.(get|put)|upload|layer_switch|io\.slow" >&9
HOST=b glidefs detach vm-17
