# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
#
# What every scenario sources: . "$LAB/lab.sh"
#
# A scenario is busybox ash under "set -eu": a command that fails fails it.  It
# passes by reaching its end.  No step waits without a deadline, and no step
# sleeps for luck: wait_for a condition.
#
# In the environment: LAB (the lab's directory), LAB_NAME, PHASE (1, 2, ...),
# LAB_FULL (1: full sizes and counts), LAB_EMULATED (1: times mean little),
# LAB_HOST (1: no guest around us), LAB_KERNEL (exact release), LAB_SEED.

set -eu

# What is said from within $(...) must not become a value.
exec 9>&1

LAB_HOST=${LAB_HOST:-0}
LAB_FULL=${LAB_FULL:-0}
LAB_EMULATED=${LAB_EMULATED:-0}
LAB_TMP=${LAB_TMP:-/tmp/lab}
LAB_MNT=${LAB_MNT:-/mnt}
PHASE=${PHASE:-1}
GLIDEFSD=${GLIDEFSD:-glidefsd}
GLIDEFS=${GLIDEFS:-glidefs}
mkdir -p "$LAB_TMP"

# The tools proper, where busybox's shell would take its own applet.
if [ -f "$LAB/tools.sh" ]; then
	# shellcheck source=/dev/null
	. "$LAB/tools.sh"
fi
# shellcheck source=selftests/lab/store.sh
. "$LAB/store.sh"

note()
{
	echo "# $*" >&9
}

# fail MESSAGE: the scenario ends here.
fail()
{
	{
		echo "# FAILED: $*"
		for lab_log in "$LAB_TMP"/*.log "$LAB_TMP"/*/*.log; do
			[ -f "$lab_log" ] || continue
			echo "# --- last lines of ${lab_log#"$LAB_TMP"/}"
			tail -n 40 "$lab_log" | sed 's/^/# /'
		done
	} >&9
	# A file, not a variable: this may be a subshell.
	: > "$LAB_TMP/failed"
	exit 1
}

# skip REASON: cannot be tried here.
skip()
{
	echo "# SKIP $*" >&9
	exit 77
}

# next_phase: hard-resets the guest; the scenario starts again with PHASE + 1 and
# the same disks.  What must be remembered goes through "remember".
next_phase()
{
	lab_resetting=1
	exit 88
}

# remember NAME VALUE: $NAME is VALUE in the phases that follow.
remember()
{
	echo "$1='$2'" >> "$LAB_RUN/state"
}

# figure NAME MEDIAN LO HI N UNIT
figure()
{
	echo "# figure $1=$2 lo=$3 hi=$4 n=$5 unit=$6" >&9
}

# now_ms: the monotonic clock.
now_ms()
{
	read -r lab_up _ < /proc/uptime
	lab_cs=${lab_up#*.}
	# Centiseconds have a leading zero that ash would take for octal.
	echo $((${lab_up%.*} * 1000 + ${lab_cs#0} * 10))
}

# The clock of now_ms ticks every 10 ms and says the last tick; what was before this moment was before this.
now_ms_up()
{
	echo $(($(now_ms) + 10))
}

# wait_for SECONDS WHAT COMMAND...: until COMMAND succeeds, or fail.
wait_for()
{
	lab_what=$2
	lab_deadline=$(($(now_ms) + $1 * 1000))
	lab_seconds=$1
	shift 2
	until "$@" > "$LAB_TMP/wait_for.out" 2>&1; do
		if [ "$(now_ms)" -ge "$lab_deadline" ]; then
			sed 's/^/# last try: /' "$LAB_TMP/wait_for.out" >&9
			fail "no $lab_what within $lab_seconds s ($*)"
		fi
		usleep 20000
	done
}

# within SECONDS COMMAND...: the command's status; fail if it takes longer.
# COMMAND is a program, not a function of the shell.
within()
{
	lab_seconds=$1
	shift
	lab_status=0
	timeout -s KILL "$lab_seconds" "$@" || lab_status=$?
	[ "$lab_status" != 137 ] || fail "took more than $lab_seconds s: $*"
	return "$lab_status"
}

# equal WHAT HAVE WANT
equal()
{
	[ "$2" = "$3" ] || fail "$1: have '$2', want '$3'"
}

# half_of_check: of the lines of its input every second one, the others on the other kernel of a check: each is tried
# on one of them. All of them with full counts.
half_of_check()
{
	if [ "$LAB_FULL" = 1 ]; then
		cat
		return
	fi
	case $(uname -r) in
	6.*) awk 'NR % 2' ;;
	*) awk 'NR % 2 == 0' ;;
	esac
}

# gone PATH: for wait_for.
gone()
{
	[ ! -e "$1" ]
}

# is_mounted DIR
is_mounted()
{
	while read -r _ lab_dir _; do
		[ "$lab_dir" != "$1" ] || return 0
	done < /proc/mounts
	return 1
}

# lab_disk NAME: the block device behind cache, store or log.
lab_disk()
{
	if [ "$LAB_HOST" = 1 ]; then
		readlink "$LAB_RUN/disk-$1"
	else
		readlink -f "/dev/lab/$1"
	fi
}

# mkfs_fast DEVICE: ext4 without the work that would go on behind a test's back.
mkfs_fast()
{
	mkfs.ext4 -q -F -E lazy_itable_init=1,lazy_journal_init=1,nodiscard "$1"
}

# mount_at DEVICE DIR [OPTIONS]: unmounted again at the end.
mount_at()
{
	mkdir -p "$2"
	mount -t ext4 -o "${3:-noatime,noinit_itable}" "$1" "$2"
	echo "$2" >> "$LAB_TMP/mounts"
}

# mkdisk NAME...: an empty ext4 on the disk, mounted at $LAB_MNT/NAME.  After
# phase 1, only mounts what is there.
mkdisk()
{
	for lab_name; do
		if [ "$PHASE" = 1 ]; then
			blkdiscard -f "$(lab_disk "$lab_name")" 2>/dev/null || :
			mkfs_fast "$(lab_disk "$lab_name")"
		fi
		mount_at "$(lab_disk "$lab_name")" "$LAB_MNT/$lab_name"
	done
}

# dm_create NAME TABLE: a device-mapper device, removed at the end.
dm_create()
{
	modprobe -a dm-mod 2>/dev/null || :
	dmsetup create "$1" --noudevsync --table "$2"
	dmsetup mknodes "$1"
	echo "$1" >> "$LAB_TMP/dm"
}

# background COMMAND...: started, killed at the end; its pid in $LAB_PID.
background()
{
	"$@" < /dev/null >> "$LAB_TMP/background.log" 2>&1 9>&- &
	LAB_PID=$!
	echo "$LAB_PID" >> "$LAB_TMP/pids"
}

# --- daemons: several hosts are several names -----------------------------------

# host_dir [HOST]: configuration, log, socket and timing log of a host.
host_dir()
{
	echo "$LAB_TMP/${1:-a}"
}

# daemon_config [HOST] [SECTION.KEY=VALUE...]: writes its configuration.  A later
# value of the same key wins.
daemon_config()
{
	lab_host=${1:-a}
	[ $# -eq 0 ] || shift
	lab_dir=$(host_dir "$lab_host")
	mkdir -p "$lab_dir" "$LAB_MNT/cache/$lab_host/state" "$LAB_MNT/cache/$lab_host/cache"
	store_make
	{
		echo "daemon.socket=$lab_dir/glidefs.sock"
		echo "daemon.state_dir=$LAB_MNT/cache/$lab_host/state"
		echo "daemon.cache_dir=$LAB_MNT/cache/$lab_host/cache"
		echo "daemon.timing_log=$lab_dir/timing.jsonl"
		echo "daemon.host_name=$lab_host"
		echo "daemon.log_level=info"
		store_config
		for lab_line; do
			echo "$lab_line"
		done
	} | awk -F= '
		{
			path = $1; value = substr($0, length($1) + 2)
			dot = index(path, "."); section = substr(path, 1, dot - 1)
			if (!(section in known)) { known[section] = 1; order[++n] = section }
			if (!(path in values)) keys[section] = keys[section] " " path
			values[path] = value
		}
		END {
			for (i = 1; i <= n; i++) {
				print "[" order[i] "]"
				count = split(keys[order[i]], paths, " ")
				for (k = 1; k <= count; k++)
					print substr(paths[k], length(order[i]) + 2) "=" values[paths[k]]
			}
		}' > "$lab_dir/glidefsd.conf"
}

# daemon_spawn [HOST]: starts it with the configuration there is; does not wait.
daemon_spawn()
{
	lab_dir=$(host_dir "${1:-a}")
	"$GLIDEFSD" --config "$lab_dir/glidefsd.conf" < /dev/null >> "$lab_dir/glidefsd.log" 2>&1 9>&- &
	echo $! > "$lab_dir/pid"
	echo $! >> "$LAB_TMP/pids"
}

# daemon_ready [HOST] [SECONDS]: waits for /health/ready.
daemon_ready()
{
	lab_host=${1:-a}
	lab_deadline=$(($(now_ms) + ${2:-60} * 1000))
	until daemon_answers "$lab_host"; do
		daemon_alive "$lab_host" || fail "glidefsd of host $lab_host died while starting"
		[ "$(now_ms)" -lt "$lab_deadline" ] ||
			fail "glidefsd of host $lab_host not ready within ${2:-60} s"
		usleep 50000
	done
}

daemon_answers()
{
	timeout -s KILL 10 "$GLIDEFS" --socket "$(host_dir "$1")/glidefs.sock" health \
		> /dev/null 2>&1
}

# daemon_start [HOST] [SECTION.KEY=VALUE...]: configured, started, ready.  Without
# values a host that was configured before keeps what it had.
daemon_start()
{
	if [ $# -gt 1 ] || [ ! -f "$(host_dir "${1:-a}")/glidefsd.conf" ]; then
		daemon_config "$@"
	fi
	daemon_spawn "${1:-a}"
	daemon_ready "${1:-a}"
}

# daemon_adopt HOST PID: a successor took over; it is the host's daemon from now on.
daemon_adopt()
{
	echo "$2" > "$(host_dir "$1")/pid"
	echo "$2" >> "$LAB_TMP/pids"
}

daemon_pid()
{
	cat "$(host_dir "${1:-a}")/pid"
}

# A zombie is dead; our shell may not have reaped it yet.
daemon_alive()
{
	lab_state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' \
		"/proc/$(daemon_pid "${1:-a}")/status" 2>/dev/null) || return 1
	[ -n "$lab_state" ] && [ "$lab_state" != Z ]
}

daemon_dead()
{
	! daemon_alive "$1"
}

# daemon_kill9 [HOST]: and waits until every thread is gone.
daemon_kill9()
{
	kill -9 "$(daemon_pid "${1:-a}")"
	wait_for 30 "end of a killed glidefsd" daemon_dead "${1:-a}"
	wait "$(daemon_pid "${1:-a}")" 2>/dev/null || :
}

# daemon_stop [HOST] [SECONDS]: SIGTERM; the exit status must be 0.
daemon_stop()
{
	lab_pid=$(daemon_pid "${1:-a}")
	kill -TERM "$lab_pid"
	wait_for "${2:-60}" "end of glidefsd after SIGTERM" daemon_dead "${1:-a}"
	lab_status=0
	wait "$lab_pid" || lab_status=$?
	# 127: adopted, so its status is not ours to know.
	[ "$lab_status" = 0 ] || [ "$lab_status" = 127 ] || fail "glidefsd exited with $lab_status after SIGTERM"
}

# glidefs ARGUMENTS...: on host $HOST (a), with a deadline.
glidefs()
{
	within "${GLIDEFS_SECONDS:-60}" "$GLIDEFS" --socket "$(host_dir "${HOST:-a}")/glidefs.sock" "$@"
}

# volume_dev NAME: its /dev/ublkbN.
volume_dev()
{
	glidefs --json show "$1" | sed -n 's/.*"device"[[:space:]]*:[[:space:]]*"\([^"]*\)".*/\1/p'
}

# volume_create NAME SIZE [ARGUMENTS...]: created and there; prints its device.
volume_create()
{
	lab_name=$1
	lab_size=$2
	shift 2
	glidefs create "$lab_name" --size "$lab_size" "$@" > "$LAB_TMP/create.out" 2>&1 ||
		fail "create $lab_name: $(cat "$LAB_TMP/create.out")"
	lab_dev=$(volume_dev "$lab_name")
	[ -n "$lab_dev" ] || fail "volume $lab_name has no device"
	wait_for 30 "$lab_dev" test -b "$lab_dev"
	echo "$lab_dev"
}

# new_devices: the ids of ublk devices that were not there at the start.
new_devices()
{
	lab_ids=
	for lab_d in /dev/ublkc*; do
		[ -e "$lab_d" ] || continue
		case " $lab_devices_before " in
		*" $lab_d "*) ;;
		*) lab_ids="$lab_ids${lab_ids:+ }${lab_d#/dev/ublkc}" ;;
		esac
	done
	echo "$lab_ids"
}

# no_devices: for wait_for, or alone.
no_devices()
{
	[ -z "$(new_devices)" ]
}

# --- the end ----------------------------------------------------------------------

lab_lines_reversed()
{
	[ -f "$1" ] && sed '1!G;h;$!d' "$1"
}

# Whatever happened, the next scenario finds what this one found: mounts go first
# (while servers still serve them), then processes, then devices.
lab_cleanup()
{
	lab_bad=0
	[ "$lab_store_state" = up ] || store_up || lab_bad=1
	for lab_m in $(lab_lines_reversed "$LAB_TMP/mounts"); do
		case $lab_m in
		"$LAB_MNT/cache" | "$LAB_MNT/store" | "$LAB_MNT/log") continue ;;
		esac
		is_mounted "$lab_m" || continue
		timeout -s KILL 30 umount "$lab_m" || umount -l "$lab_m" || lab_bad=1
	done
	for lab_p in $(lab_lines_reversed "$LAB_TMP/pids"); do
		kill -TERM "$lab_p" 2>/dev/null || :
	done
	lab_deadline=$(($(now_ms) + 10000))
	for lab_p in $(lab_lines_reversed "$LAB_TMP/pids"); do
		while kill -0 "$lab_p" 2>/dev/null && [ "$(now_ms)" -lt "$lab_deadline" ]; do
			# Ours if it is a child: then this reaps it.
			case $(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$lab_p/status" 2>/dev/null) in
			Z | '') break ;;
			esac
			usleep 20000
		done
		kill -9 "$lab_p" 2>/dev/null || :
	done
	lab_ids=$(new_devices)
	if [ -n "$lab_ids" ]; then
		note "removing devices left: $lab_ids"
		# shellcheck disable=SC2086 # a list of numbers
		timeout -s KILL 60 ublk-dev rm $lab_ids >&9 2>&1 || lab_bad=1
	fi
	for lab_m in $(lab_lines_reversed "$LAB_TMP/mounts"); do
		is_mounted "$lab_m" || continue
		timeout -s KILL 30 umount "$lab_m" || lab_bad=1
	done
	for lab_p in $(lab_lines_reversed "$LAB_TMP/dm"); do
		dmsetup remove --noudevsync --retry "$lab_p" 2>/dev/null ||
			dmsetup remove --noudevsync --force "$lab_p" || lab_bad=1
	done
	return "$lab_bad"
}

lab_exit()
{
	lab_status=$1
	trap - EXIT
	set +e
	# A reset is the point of a phase: nothing may be made tidy before it.
	[ "$lab_resetting" = 0 ] || exit 88
	if [ "$lab_status" != 0 ] && [ "$lab_status" != 77 ] && [ ! -e "$LAB_TMP/failed" ]; then
		# Not through fail(): a command failed by itself under set -e.
		(fail "a command exited with $lab_status (set -x shows which)")
	fi
	lab_cleanup "$lab_status" || {
		note "cleanup failed"
		[ "$lab_status" != 0 ] || lab_status=1
	}
	[ "${LAB_KEEP:-0}" = 1 ] || rm -rf "$LAB_TMP"
	exit "$lab_status"
}

lab_resetting=0
# shellcheck disable=SC2116 # one line
lab_devices_before=$(echo /dev/ublkc*)
trap 'lab_exit $?' EXIT
trap 'exit 143' TERM
trap 'exit 130' INT
