# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=150 timeout-full=600
#
# Writes that depend on each other, each issued after the one before was acknowledged, in turn through two
# queues, while layers switch all the time: every image that was published is a prefix of each chain.  Also
# when some workers make the switch long before others do.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

images=8
[ "$LAB_STORE" = file ] || images=6
[ "$LAB_FULL" = 0 ] || images=200
status=$LAB_TMP/causal.status

# images_of: the manifests of the volume, oldest first.
images_of()
{
	store_ls "manifests/$uuid/" | sed 's,.*/,,'
}

published() # AT LEAST
{
	lab_n=$(images_of | wc -l)
	[ "$lab_n" -ge "$1" ]
}

written() # AT LEAST
{
	# shellcheck source=/dev/null
	. "$status"
	# shellcheck disable=SC2154 # read
	[ "$least" -ge "$1" ]
}

gone()
{
	[ ! -d "/proc/$1" ] || [ "$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status")" = Z ]
}

# cut NAME IMAGES: a volume, written to until so many images of it are published; all are checked.
cut()
{
	vm=$1
	dev=$(volume_create "$vm" 32M)
	uuid=$(glidefs --json show "$vm" | sed -n 's/.*"uuid"[[:space:]]*:[[:space:]]*"\([^"]*\)".*/\1/p')
	queues=$(find "/sys/block/${dev#/dev/}/mq" -mindepth 1 -maxdepth 1 -type d | wc -l)
	[ "$queues" -ge 2 ] || [ "$(nproc)" = 1 ] || fail "$queues hardware queues on $(nproc) CPUs"
	rm -f "$status"
	background causal run --device "$dev" --chains 6 --slots 256 --status "$status" --seed "$LAB_SEED"
	pid=$LAB_PID
	wait_for 150 "$2 published images" published "$2"
	# One image is of a known age: it holds at least what was acknowledged before it was asked for.
	written 1 || fail "nothing was written"
	known=$least
	glidefs drain "$vm"
	drained=$(images_of | tail -n 1)
	kill -TERM "$pid"
	wait_for 30 "end of causal" gone "$pid"
	wait "$pid" || fail "causal failed"
	glidefs detach "$vm"

	n=0
	objects=$(store_dir)
	for manifest in $(imagecat --list "$objects" "$vm"); do
		set --
		[ "$manifest" != "$drained" ] || set -- --least "$known"
		imagecat "$objects" "$vm" "$LAB_TMP/image" "$manifest" > "$LAB_TMP/check.log" 2>&1 ||
			fail "image $manifest cannot be read"
		causal check --device "$LAB_TMP/image" --chains 6 --slots 256 --seed "$LAB_SEED" "$@" \
			>> "$LAB_TMP/check.log" 2>&1 || fail "image $manifest of $vm is no prefix"
		n=$((n + 1))
	done
	note "$vm: $n published images, on $queues queues: $(tail -n 1 "$LAB_TMP/check.log")"
}

mkdisk cache store
daemon_start a upload.dirty_bytes=1M upload.age_s=1
cut vm1 "$images"
daemon_stop
export GFS_DEBUG_WORKER_PAUSE_MS=50:switch
daemon_start
cut vm2 "$((images / 2))"
daemon_stop
