# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=180
#
# A server arms one of its queues late. While START_DEV still waits, gfs-trace names the queue, the tags that
# are missing and the thread that should arm them; also when it is attached in the midst of it.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"
# shellcheck source=selftests/lab/scenarios/trace.lib
. "$LAB/scenarios/trace.lib"

verdict=verdict=start-dev/late-fetch

# Of the server's threads, the one that sleeps instead.
sleeper()
{
	for t in "/proc/$BARE/task/"*; do
		# The first one sleeps as well, until the node of the device is there.
		[ "${t##*/}" = "$BARE" ] || ! grep -q hrtimer_nanosleep "$t/stack" || echo "${t##*/}"
	done
}

asleep()
{
	[ -n "$(sleeper)" ]
}

# late QUEUE MS: what must be said of it while it is so.
named()
{
	finding_wait 40 "open=true,$verdict,blockers.0.queue=$1,blockers.0.owner.tid=$(sleeper)"
	[ ! -s "$BARE_OUT" ] || fail "START_DEV returned before it was explained"
	is="open=true,$verdict,command.tgid=$BARE"
	expect "$is" severity=critical catalogue=H2 command.name=START_DEV command.comm=bare_server \
		command.stage=ready-wait stage=ready-wait device="/dev/ublkb$(new_devices)" \
		dev="$(new_devices)" blockers.#=1 blockers.0.type=queue blockers.0.queue="$1" \
		blockers.0.armed=0 blockers.0.depth=32 blockers.0.missing_count=32 \
		blockers.0.missing=0-31 blockers.0.owner.tgid="$BARE"
	expect_that "$is" "blockers.0.owner.kstack.*~nanosleep" "summary~32"
}

mkdisk cache
# Its file, and all that a first start does.
bare_start first
bare_stop

trace_start --budget start_dev=1s
for queue in 0 1; do
	began=$(now_ms)
	bare_spawn first --arm-delay-ms 6000 --arm-delay-queue "$queue"
	wait_for 30 "late thread" asleep
	named "$queue"
	bare_ready
	took=$(($(now_ms) - began))
	finding_wait 20 "event=close,$verdict,command.tgid=$BARE"
	expect "event=close,$verdict,command.tgid=$BARE" open=false command.stage=done
	between "duration of START_DEV" "$(field "event=close,$verdict,command.tgid=$BARE" duration_ms)" \
		5000 "$took"
	bare_stop
done
equal "findings" "$(findings event=open)" 2
# A wait that ended is a budget exceeded.
trace_stop 2

# In the midst of it.
bare_spawn first --arm-delay-ms 20000 --arm-delay-queue 1
wait_for 30 "late thread" asleep
trace_start --budget start_dev=1s
named 1
note "attached in $TRACE_START_MS ms"
bare_ready
finding_wait 20 "event=close,$verdict"
bare_stop

# One that is not late is not complained of.
bare_start first
bare_stop
equal "findings" "$(findings event=open)" 1
trace_stop 2
