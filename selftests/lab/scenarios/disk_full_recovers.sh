# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=480
# lab: allow-log=critical space allocation error, dev ublkb|Buffer I/O error on dev ublkb
#
# The disk of the cache is smaller than what is written, and the store takes nothing: writes wait, and go on
# when uploads make room again, without an error.  When nothing makes room within the bound, they fail with
# ENOSPC, not before, and what was acknowledged stays; then they work again.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"
# shellcheck source=selftests/lab/scenarios/oracle.lib
. "$LAB/scenarios/oracle.lib"

bound=4
timing=$(host_dir a)/timing.jsonl

writes_wait()
{
	glidefs --json show vm1 | grep -q '"waiting_for_space":[1-9]'
}

# Not any error: a store that cannot be reached fails cold reads as well.
write_failed()
{
	grep '"error":"ENOSPC"' "$timing" | grep -q '"io.slow"'
}

mkdisk store
dm_create small "0 131072 linear $(lab_disk cache) 0" # 64 MiB
mkfs_fast /dev/mapper/small
mount_at /dev/mapper/small "$LAB_MNT/cache"

daemon_start a cache.min_free_bytes=8M upload.dirty_bytes=8M cache.space_wait_s=120 io.slow_ms=1000
dev=$(volume_create vm1 96M)
store_full
oracle_start "$dev" --fill --threads 4
wait_for 150 "writes that wait for space" writes_wait
oracle_read
# shellcheck disable=SC2154 # set by oracle_read
[ "$errors" = 0 ] || fail "$errors writes failed instead of waiting"
store_up
oracle_wait 240
glidefs drain vm1

# Now nothing makes room: ENOSPC, after the bound.
daemon_stop
daemon_start a cache.min_free_bytes=8M upload.dirty_bytes=8M "cache.space_wait_s=$bound" \
	io.slow_ms=1000
dev=$(volume_dev vm1)
store_full
oracle_start "$dev" --threads 4 --tolerate --flush 2 --read 5 --fill --seconds 300
wait_for 180 "a write that failed" write_failed
store_up
oracle_read
wait_for 150 "writes after the store came back" oracle_passed acked "$((acked + 50))"
oracle_stop
oracle_verify "$dev"

daemon_stop
grep '"error":"ENOSPC"' "$timing" | grep '"io.slow"' > "$LAB_TMP/failed.txt" || :
[ -s "$LAB_TMP/failed.txt" ] || fail "no request failed with ENOSPC: $(grep -c . "$timing") events"
early=$(sed -n 's/.*"duration_us":\([0-9]*\)[.,].*/\1/p' "$LAB_TMP/failed.txt" |
	awk -v us="$((bound * 1000000))" '$1 < us' | wc -l)
equal "requests that failed before $bound s" "$early" 0
note "$(wc -l < "$LAB_TMP/failed.txt") requests failed with ENOSPC after $bound s"

daemon_start
oracle_verify "$(volume_dev vm1)"
glidefs drain vm1
daemon_stop
