# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=300 timeout-full=900 mem=2048
#
# Many volumes are created, used and removed, schedulers of idle devices are written, there is much mixed I/O:
# gfs-trace has nothing to say, lost nothing, and found a partner for every control command.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"
# shellcheck source=selftests/lab/scenarios/trace.lib
. "$LAB/scenarios/trace.lib"

volumes=64 seconds=10
[ "$LAB_FULL" != 1 ] || seconds=120
# Emulation is 20 to 50 times slower than what the budgets are made for.
budget=
[ "$LAB_EMULATED" != 1 ] || budget="--budget start_dev=20s,command=40s,freeze=10s,attr=10s,request=20s"

# all METHOD PATH COUNT [BODY]
all()
{
	method=$1 path=$2 count=$3
	shift 3
	apicall --jobs 16 --seconds 120 --count "$count" "$sock" "$method" "$path" "$@" > "$LAB_TMP/answers" ||
		fail "$method $path: $(awk '$2 < 200 || $2 > 299' "$LAB_TMP/answers" | head -n 3)"
}

modprobe mq-deadline
mkdisk cache store
daemon_start a
sock=$(host_dir a)/glidefs.sock
capture=$LAB_TMP/capture
# shellcheck disable=SC2086 # an option and its value, or nothing
trace_start -o "$capture" $budget
note "attached in $TRACE_START_MS ms"
[ "$TRACE_START_MS" -le 5000 ] || note "slower than the 5 s that emulation may take"

all PUT /api/exports/vm-%d "$volumes" '{"size": "64M"}'
# shellcheck disable=SC2046 # a list of numbers
set -- $(new_devices)
equal "devices" $# "$volumes"
for d; do
	dd if=/dev/zero of="/dev/ublkb$d" bs=64k count=1 oflag=direct 2> "$LAB_TMP/dd.out"
done
sync
for d in "$1" "$2" "$3" "$4" "$5" "$6" "$7" "$8"; do
	for scheduler in mq-deadline none; do
		echo "$scheduler" > "/sys/block/ublkb$d/queue/scheduler"
	done
done

# Idle devices have their schedulers written while others work.
cat > "$LAB_TMP/fio.job" <<-END
	[global]
	ioengine=io_uring
	direct=1
	rw=randrw
	bsrange=4k-64k
	iodepth=4
	size=32m
	time_based=1
	runtime=$seconds
	fsync=64
	[one]
	filename=/dev/ublkb$1
	[two]
	filename=/dev/ublkb$2
	[three]
	filename=/dev/ublkb$3
	direct=0
END
fio --minimal "$LAB_TMP/fio.job" < /dev/null > "$LAB_TMP/fio.out" 2>&1 9>&- &
fio=$!
echo "$fio" >> "$LAB_TMP/pids"
writes=0
while alive "$fio"; do
	for d in "$4" "$5" "$6"; do
		echo mq-deadline > "/sys/block/ublkb$d/queue/scheduler"
		echo none > "/sys/block/ublkb$d/queue/scheduler"
		writes=$((writes + 2))
	done
done
exit_status "$fio" fio 0
all DELETE /api/exports/vm-%d "$volumes"
no_devices || fail "devices left: $(new_devices)"
daemon_stop a

[ "$(findings)" = 0 ] || {
	findings_show
	fail "a healthy system is complained of"
}
trace_stop
note "$writes scheduler writes under load; $(jsonq --last "$TRACE_JSON" type=summary)"
# It is not blind: all of this is in the capture.
gfs-trace replay "$capture" --json > "$LAB_TMP/replay.json" || fail "replay of a clean capture: $?"
equal "findings of a replay" "$(jsonq --count "$LAB_TMP/replay.json" type=finding)" 0
for nr in 6 7; do
	seen=$(jsonq --count "$capture" "kind=cmd,nr=$nr,end_ns>=1")
	[ "$seen" -ge "$volumes" ] || fail "the capture has $seen of $volumes commands $nr (START_DEV, STOP_DEV)"
done
