# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=180 phases=2 host=no kernels=6.18.5
# lab: allow-log=BUG: |Oops|WARNING: |unable to handle|general protection|note: .* exited with irqs disabled
#
# On a kernel whose ADD_DEV oopses, the daemon and both doctors refuse in one line; and when a server tries
# nevertheless, gfs-trace says what happened to it. The oops leaves a lock behind that only a reset cures.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"
# shellcheck source=selftests/lab/scenarios/trace.lib
. "$LAB/scenarios/trace.lib"

mkdisk cache store
if [ "$PHASE" = 2 ]; then
	equal "devices after the reset" "$(new_devices)" ""
	exit 0
fi

# refuses NAME COMMAND...: it fails, and one line says why.
refuses()
{
	what=$1
	shift
	status=0
	within 60 "$@" > "$LAB_TMP/refused" 2>&1 || status=$?
	[ "$status" != 0 ] || fail "$what does not refuse $LAB_KERNEL: $(cat "$LAB_TMP/refused")"
	# One line says it all: which kernel, and what is wrong with it.
	grep -i 'known.bad.*oops' "$LAB_TMP/refused" | grep -F "$LAB_KERNEL" > "$LAB_TMP/line" ||
		fail "$what: $(cat "$LAB_TMP/refused")"
	equal "lines of $what about it" "$(grep -ci 'known.bad' "$LAB_TMP/refused")" 1
	note "$what: $(head -n 1 "$LAB_TMP/line")"
}

daemon_config a
refuses glidefsd glidefsd --config "$(host_dir a)/glidefsd.conf"
refuses "glidefs doctor" glidefs doctor --cache-dir "$LAB_MNT/cache/a/cache"
refuses "gfs-trace doctor" gfs-trace doctor

trace_start
bare_spawn victim
finding_wait 60 "open=true,verdict=kernel/known-bad"
[ ! -s "$BARE_OUT" ] || fail "ADD_DEV works on $LAB_KERNEL"
is="open=true,verdict=kernel/known-bad"
expect "$is" severity=critical catalogue=H13
expect_that "$is" "summary~6.18.5"
note "$(field "$is" summary)"
# The kernel's own word for it.
wait_for 30 "report of the oops" sh -c 'dmesg | grep -q "Oops"'
trace_stop 3
next_phase
