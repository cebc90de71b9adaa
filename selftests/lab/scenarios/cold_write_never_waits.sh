# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=150
#
# Each GET takes two seconds; the volume is full and nothing of it is local.  Random writes of 512 bytes and
# 4 KiB, with and without FUA, never wait for the store: no span of the store lies on the way of any write.
# What they made is verified on a third host.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"
# shellcheck source=selftests/lab/scenarios/oracle.lib
. "$LAB/scenarios/oracle.lib"

mkdisk cache store
daemon_start a
dev=$(volume_create vm1 32M)
oracle_start "$dev" --fill
oracle_wait
glidefs detach vm1
daemon_stop

daemon_start b store.fault="get:* delay=2000" io.slow_ms=0 upload.age_s=600 upload.dirty_bytes=1G
HOST=b GLIDEFS_SECONDS=120 glidefs attach vm1
dev=$(HOST=b volume_dev vm1)
timing=$(host_dir b)/timing.jsonl
oracle_start "$dev" --ops 800 --max-bytes 4K --read 0 --flush 2 --fua 30
oracle_wait
# While an upload merges what the small writes left open, they go on.
HOST=b GLIDEFS_SECONDS=120 background glidefs drain vm1
drain=$LAB_PID
oracle_start "$dev" --ops 300 --max-bytes 4K --read 0 --flush 2 --fua 30
oracle_wait
wait "$drain" || fail "the drain failed"
oracle_read

# All timing events are in the file when the daemon has stopped.
daemon_stop b
awk -v writes="$LAB_TMP/writes" '
	function value(name) {
		if (!match($0, "\"" name "\":[^,}]*"))
			return ""
		v = substr($0, RSTART + length(name) + 3, RLENGTH - length(name) - 3)
		gsub("\"", "", v)
		return v
	}
	/"io.slow"/ && value("op") == "W" {
		n++
		id = value("op_id")
		if (value("stage") == "store") { print "waited for the store: " $0; bad++ }
		if (id != "" && id != 0) ours[id] = 1
		d = value("duration_us") + 0
		if (d > max) max = d
	}
	/"object\./ { store++; if (value("op_id") in ours) { print "on the way of a write: " $0; bad++ } }
	END { print n + 0, store + 0, int(max / 1000) > writes; exit bad ? 1 : 0 }
' "$timing" > "$LAB_TMP/awk.log" || fail "a write waited for the store: $(head -n 5 "$LAB_TMP/awk.log")"
read -r writes spans slowest < "$LAB_TMP/writes"
note "$writes writes, the slowest $slowest ms, beside $spans spans of the store of 2 s each"
[ "$writes" -ge 1000 ] || fail "only $writes writes are in the timing log"
[ "$spans" -ge 1 ] || fail "no span of the store is in the timing log"

daemon_start b store.fault= io.slow_ms=off
HOST=b glidefs detach vm1
daemon_start c
HOST=c glidefs attach vm1
oracle_verify "$(HOST=c volume_dev vm1)"
daemon_stop c
daemon_stop b
