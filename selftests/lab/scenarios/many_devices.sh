# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=300 timeout-full=900 mem=3072 boot=own
#
# 128 volumes are created in parallel, used, and removed, and cost no thread; a device that the kernel
# refuses is reported with the errno and leaves nothing; an idle device costs little memory.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

counts="10 50 128"
[ "$LAB_FULL" != 1 ] || counts="10 100 300"

# The kernel's own io workers aside.
threads()
{
	cat "/proc/$(daemon_pid a)/task/"*/comm 2>/dev/null | grep -cv '^iou-'
}

# memory FIELD: of the daemon, in KiB.
memory()
{
	sed -n "s/^$1:[[:space:]]*\([0-9]*\) kB/\1/p" "/proc/$(daemon_pid a)/smaps_rollup"
}

# all METHOD PATH COUNT FIRST [BODY]: in parallel.
all()
{
	method=$1 path=$2 count=$3 first=$4
	shift 4
	apicall --jobs 128 --seconds 120 --count "$count" --first "$first" "$sock" "$method" "$path" "$@" \
		> "$LAB_TMP/answers" || {
		awk '$2 < 200 || $2 > 299' "$LAB_TMP/answers" | head -n 5 | sed 's/^/# /' >&9
		fail "$method $path: $(awk '$2 < 200 || $2 > 299' "$LAB_TMP/answers" | wc -l) of $count failed"
	}
}

# slope NAME LIMIT FILE: KiB per device, from "devices rss" lines.
slope()
{
	awk -v name="$1" -v limit="$2" '
		{ n++; x += $1; y += $2; xx += $1 * $1; xy += $1 * $2 }
		END {
			s = (n * xy - x * y) / (n * xx - x * x)
			printf "# figure %s=%.1f lo=%.1f hi=%.1f n=%d unit=KiB\n", name, s, s, s, n
			printf "# %s: at most %d KiB for each idle device\n", name, limit
			exit s > limit
		}' "$3" || fail "$1 is over $2 KiB"
}

# threads_are NUMBER: for wait_for. A new worker of the kernel has our name until it first runs.
threads_are()
{
	[ "$(threads)" = "$1" ] || {
		threads
		return 1
	}
}

mkdisk cache store
daemon_start a upload.age_s=3600
sock=$(host_dir a)/glidefs.sock

# --- parallel create, use, remove -----------------------------------------------------
all PUT /api/exports/warm-%d 4 0 '{"size": "16M"}'
all DELETE /api/exports/warm-%d 4 0
before=$(threads)
start=$(now_ms)
all PUT /api/exports/vm-%d 128 0 '{"size": "16M"}'
note "128 volumes created in $(($(now_ms) - start)) ms"
# shellcheck disable=SC2046 # a list of numbers
set -- $(new_devices)
equal "devices" $# 128
wait_for 20 "$before threads with 128 devices" threads_are "$before"
for d in "$1" "$9" "${64}" "${128}"; do
	yes "$d" | head -c 1048576 > "$LAB_TMP/data"
	dd if="$LAB_TMP/data" of="/dev/ublkb$d" bs=64k oflag=direct 2> "$LAB_TMP/dd.out"
	mv "$LAB_TMP/data" "$LAB_TMP/data$d"
done
for d in "$1" "$9" "${64}" "${128}"; do
	dd if="/dev/ublkb$d" bs=64k count=16 iflag=direct 2> "$LAB_TMP/dd.out" |
		cmp - "$LAB_TMP/data$d" || fail "data of device $d differs"
done
for d; do
	dd if=/dev/zero of="/dev/ublkb$d" bs=4k count=1 seek=1000 oflag=direct 2> "$LAB_TMP/dd.out"
done
wait_for 20 "$before threads with 128 devices in use" threads_are "$before"
start=$(now_ms)
all DELETE /api/exports/vm-%d 128 0
note "128 volumes removed in $(($(now_ms) - start)) ms"
no_devices || fail "devices left: $(new_devices)"
wait_for 20 "$before threads after removal" threads_are "$before"

# --- a refused ADD_DEV ----------------------------------------------------------------
add_dev_fault "$(daemon_pid a)" < /dev/null > "$LAB_TMP/fault" 2>&1 9>&- &
fault=$!
echo "$fault" >> "$LAB_TMP/pids"
wait_for 60 "fault injector" grep -q '^ready' "$LAB_TMP/fault"
if apicall "$sock" PUT /api/exports/refused '{"size": "16M"}' > "$LAB_TMP/answer"; then
	fail "a device without ADD_DEV: $(cat "$LAB_TMP/answer")"
fi
kill -TERM "$fault"
wait_for 20 "end of the fault injector" grep -q '^struck=[1-9]' "$LAB_TMP/fault"
note "refused: $(cat "$LAB_TMP/answer")"
grep -q 'ADD_DEV' "$LAB_TMP/answer" || fail "the phase is not named"
grep -q 'Invalid argument\|EINVAL' "$LAB_TMP/answer" || fail "the errno is not named"
no_devices || fail "devices left: $(new_devices)"
apicall "$sock" GET /api/exports/refused > "$LAB_TMP/answer" || :
equal "status of a volume that was refused" "$(awk '{ print $2 }' "$LAB_TMP/answer")" 404
all PUT /api/exports/refused 1 0 '{"size": "16M"}'
all DELETE /api/exports/refused 1 0
daemon_stop a

# --- memory ---------------------------------------------------------------------------
# memory_series NAME LIMIT: volumes up to each count, all idle, and the resident size with them.
memory_series()
{
	: > "$LAB_TMP/rss"
	have=0
	# Buffers and arenas that any use touches once are not a device's.
	all PUT /api/exports/warm-%d 8 0 '{"size": "16M"}'
	all DELETE /api/exports/warm-%d 8 0
	for n in $counts; do
		all PUT /api/exports/idle-%d $((n - have)) "$have" '{"size": "16M"}'
		have=$n
		echo "$n $(memory Rss)" >> "$LAB_TMP/rss"
		note "$1: $n devices, Rss $(memory Rss) KiB, anonymous $(memory Anonymous) KiB, threads $(threads)"
	done
	slope "$1" "$2" "$LAB_TMP/rss"
	all DELETE /api/exports/idle-%d "$have" 0
}
daemon_start a
memory_series rss_per_device 256
equal "devices after removal" "$(new_devices)" ""
daemon_stop a

# The engine's part: the same volumes without devices.
"$GLIDEFSD" --no-ublk --config "$(host_dir a)/glidefsd.conf" < /dev/null \
	>> "$(host_dir a)/glidefsd.log" 2>&1 9>&- &
echo $! > "$(host_dir a)/pid"
echo $! >> "$LAB_TMP/pids"
daemon_ready a
memory_series rss_per_volume_engine 64
daemon_stop a
