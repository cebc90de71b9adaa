# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=240 timeout-full=900
#
# What was read once comes from the local disk after SIGKILL, without one GET; forks of one snapshot hold its blocks
# once; damaged files of the cache cost GETs, and never show.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

forks=2
[ "$LAB_FULL" = 0 ] || forks=200
clean=$LAB_MNT/cache/a/cache/clean

sum_of() # DEVICE
{
	dd if="$1" bs=1M iflag=direct 2> /dev/null | sha256sum
}

# value METRIC: of host a, a whole number.
value()
{
	curl -sS --max-time 20 --unix-socket "$(host_dir a)/glidefs.sock" http://localhost/metrics |
		awk -v name="glidefs_$1" '$1 == name { print $2 }'
}

gets()
{
	value fetch_gets_total
}

# All blocks of 64 KiB and the index of their pack are on the local disk: for wait_for.
written()
{
	lab_entries=$(value ssd_cache_entries)
	[ "$lab_entries" -ge 65 ]
}

# What a busy disk did not take is read again.
read_until_written()
{
	sum_of "$base" && written
}

mkdisk cache store
set -- upload.age_s=600 cache.ssd_bytes=256M cache.memory_bytes=1M cache.min_free_bytes=32M
daemon_start a "$@"
base=$(volume_create base 4M)
dd if=/dev/urandom of="$LAB_TMP/content" bs=1M count=4 2> /dev/null
dd if="$LAB_TMP/content" of="$base" bs=1M oflag=direct 2> /dev/null
sum=$(sha256sum < "$LAB_TMP/content")
snapshot=$(glidefs snapshot base)
# What an upload leaves in memory would never be read from the store.
daemon_stop
daemon_start a
base=$(volume_dev base)
equal "cold read" "$(sum_of "$base")" "$sum"
[ "$(gets)" -gt 0 ] || fail "the cold read needed no GET: this test tests nothing"
wait_for 60 "blocks on the local disk" read_until_written

daemon_kill9 a
daemon_start a
wait_for 30 "blocks found again" written
equal "read after SIGKILL" "$(sum_of "$(volume_dev base)")" "$sum"
equal "GETs for reads after SIGKILL" "$(gets)" 0
equal "bad blocks after SIGKILL" "$(value ssd_cache_bad_total)" 0

entries=$(value ssd_cache_entries)
bytes=$(value ssd_cache_bytes)
for i in $(seq "$forks"); do
	glidefs fork "fork$i" --from "snapshot:$snapshot" > "$LAB_TMP/fork.out"
	equal "fork $i" "$(sum_of "$(volume_dev "fork$i")")" "$sum"
done
equal "GETs for reads of $forks forks" "$(gets)" 0
equal "entries with $forks forks" "$(value ssd_cache_entries)" "$entries"
equal "bytes with $forks forks" "$(value ssd_cache_bytes)" "$bytes"
note "$entries entries, $bytes bytes for base and $forks forks"

# While the daemon has them open; the data begins behind the entries.
for file in "$clean"/*.seg; do
	size=$(stat -c %s "$file")
	dd if=/dev/urandom of="$file" bs=64K seek=2 conv=notrunc count=$((size / 65536)) 2> /dev/null
done
equal "read from a damaged cache" "$(sum_of "$(volume_dev fork1)")" "$sum"
[ "$(value ssd_cache_bad_total)" -gt 0 ] || fail "nothing bad was found in damaged files"
[ "$(gets)" -gt 0 ] || fail "no GET for what is damaged"
equal "cache still in use" "$(value ssd_cache_on)" 1

# And a start from damaged files, some of them cut.
daemon_stop
for file in "$clean"/*.seg; do
	size=$(stat -c %s "$file")
	truncate -s $((size / 2 + 77)) "$file"
done
daemon_start a
equal "read after files were cut" "$(sum_of "$(volume_dev base)")" "$sum"
curl -sS --max-time 60 --unix-socket "$(host_dir a)/glidefs.sock" -X POST \
	http://localhost/api/cache/scrub > "$LAB_TMP/scrub"
grep -q '"bad":' "$LAB_TMP/scrub" || fail "scrub: $(cat "$LAB_TMP/scrub")"
bad=$(value ssd_cache_bad_total)
equal "read after scrub" "$(sum_of "$(volume_dev fork2)")" "$sum"
equal "bad blocks after scrub" "$(value ssd_cache_bad_total)" "$bad"
daemon_stop
