# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=180
#
# A worker that comes late makes START_DEV no longer: queues are armed before it is sent. A worker that
# does not come in time makes create fail within its deadline, naming the phase, and nothing is left.
# (The unit test ublk_arming_test has the invariant itself.)

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

cache=$LAB_MNT/cache/a/cache
deadline_s=4

# pause MS: host a with workers that sleep so long in each turn.
pause()
{
	export GFS_DEBUG_WORKER_PAUSE_MS="$1"
	daemon_start a ublk.command_timeout_s="$deadline_s" io.workers=2
	unset GFS_DEBUG_WORKER_PAUSE_MS
	grep -q 'WORKERS ARE PAUSED' "$(host_dir a)/glidefsd.log" || fail "the pause was not announced"
}

# create NAME: the answer's status, and how long it took, in LAB_TMP/answer.
create()
{
	apicall --seconds 60 "$(host_dir a)/glidefs.sock" PUT "/api/exports/$1" '{"size": "64M"}' \
		> "$LAB_TMP/answer" || :
	read -r _ status took _ < "$LAB_TMP/answer"
}

# local_state: what the engine keeps on this host's disk.
local_state()
{
	find "$cache" -mindepth 2 | sort
}

# nothing_left NAME
nothing_left()
{
	no_devices || fail "devices left: $(new_devices)"
	apicall "$(host_dir a)/glidefs.sock" GET "/api/exports/$1" > "$LAB_TMP/get" || :
	equal "status of $1 afterwards" "$(awk '{ print $2 }' "$LAB_TMP/get")" 404
	equal "local state" "$(local_state)" "$before"
	[ ! -e "$LAB_MNT/store/objects/exports/$1/export.json" ] || fail "the root of $1 is left"
}

mkdisk cache store
ublk_obs < /dev/null > "$LAB_TMP/ublk_obs" 2>&1 9>&- &
echo $! >> "$LAB_TMP/pids"
wait_for 60 "ublk_obs" grep -q '^ready' "$LAB_TMP/ublk_obs"

# Late, but in time: START_DEV does not contain the delay.
pause 400
before=$(local_state)
create late
equal "status of a create with late workers" "$status" 201
wait_for 20 "START_DEV" grep -q 'cmd=START_DEV' "$LAB_TMP/ublk_obs"
us=$(sed -n 's/^cmd=START_DEV .* us=\([0-9]*\) .*/\1/p' "$LAB_TMP/ublk_obs")
note "workers 400 ms late: create took $took ms, START_DEV $us us"
[ "$us" -lt 400000 ] || fail "START_DEV waited for the workers"
glidefs rm late
nothing_left late
daemon_stop a

# Too late: an answer within the deadline (and what undoing takes), with the phase.
pause 20000
create never
note "workers 20 s late: create answered $status after $took ms"
sed 's/^/# /' "$LAB_TMP/answer"
[ "$status" -ge 500 ] || fail "status $status"
[ "$took" -lt $((deadline_s * 1000 + 6000)) ] || fail "the answer came after $took ms"
grep -q 'arming of queues' "$LAB_TMP/answer" || fail "the phase is not named"
wait_for 60 "an end of what the create left" no_devices
nothing_left never
daemon_kill9 a

# The next daemon finds nothing of it either.
daemon_start a
nothing_left never
dev=$(volume_create never 64M)
dd if=/dev/zero of="$dev" bs=64k count=16 oflag=direct 2> "$LAB_TMP/dd.out"
glidefs rm never
daemon_stop a
