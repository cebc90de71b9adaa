# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=900 mem=1536
#
# A create that fails leaves nothing: 503, then GET is 404, then the retry is 201, with a device that works,
# whichever operation on the store failed, hung, or took effect without an answer; and wherever the daemon is
# killed, the volume is whole or absent after the restart, the retry succeeds, and no device or root is left
# that belongs to nobody. A client that goes away leaves a whole volume.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"
# shellcheck source=selftests/lab/scenarios/create.lib
. "$LAB/scenarios/create.lib"

mkdisk cache store

# --- the store fails ----------------------------------------------------------------------
# Each name has its own rules, which strike once. 2 s is all a create has; "slow" makes the second attempt
# at a PUT end after that.
slow='put:exports/%/* delay=1500;'
cases='
refused  put:exports/%/* error=EIO count=1
denied   put:exports/%/* error=EACCES count=1
hanging  put:exports/%/* hang count=1
before   SLOW put:exports/%/* ambiguous=before count=1
after    SLOW put:exports/%/* ambiguous=after count=1
late     SLOW put:exports/%/* ambiguous=late:1500 count=1
verdict  put:exports/%/* ambiguous=after count=1; get:exports/%/* hang count=1
'
rules=$(echo "$cases" | while read -r name rule; do
	[ -n "$name" ] || continue
	echo "$rule" | sed "s,SLOW,$slow,; s,%,$name,g"
done | tr '\n' ';')
daemon_start a "store.fault=$rules" daemon.create_timeout_s=2 io.store_timeout_s=4
for name in refused denied hanging before after late verdict; do
	is_status "create of $name" "$(create "$name")" 503
	absent "$name"
	no_devices || fail "$name failed and left device $(new_devices)"
	retried "$name" 201
	removed "$name"
	note "$name: 503, 404, 201"
done
# By ambiguous=before and others the store was asked in vain, and each answer of it was awaited.
equal "PUTs that had no definite answer" \
	"$([ "$(grep -c '"event":"object.put".*"error":"ETIMEDOUT"' "$(host_dir a)/timing.jsonl")" -ge 5 ] && echo 5)" 5
daemon_stop a

# The device fails and the root that was written must go: its removal fails too.
for rule in "delete:exports/%/* error=EIO count=1" "delete:exports/%/* hang count=1" \
	"delete:exports/%/* ambiguous=before count=1" "delete:exports/%/* ambiguous=after count=1" \
	"get:exports/%/* hang count=1"; do
	name=device
	GFS_UBLK_FAIL=START_DEV:5 daemon_start a "store.fault=$(echo "$rule" | sed "s,%,$name,g")" \
		io.store_timeout_s=2
	is_status "create whose device fails" "$(create "$name")" 500
	absent "$name"
	no_devices || fail "a failed device is left: $(new_devices)"
	retried "$name" 201
	removed "$name"
	daemon_stop a
	note "no device, and $rule: 500, 404, 201"
done

# --- the client goes away -------------------------------------------------------------------
daemon_start a "store.fault=put delay=1500" io.store_timeout_s=30
apicall --seconds 60 "$(host_dir a)/glidefs.sock" PUT /api/exports/gone "$CREATE_BODY" \
	> "$LAB_TMP/gone" 2>&1 9>&- &
client=$!
wait_for 30 "create under way" sh -c "! [ -z \"\$(ls $LAB_MNT/cache/a/state/pending)\" ]"
kill -9 "$client"
wait "$client" 2> "$LAB_TMP/wait.out" || :
wait_for 60 "end of the create" grep -q '"event":"create_export".*"export":"gone"' "$(host_dir a)/timing.jsonl"
whole gone
removed gone
daemon_stop a

# --- killed at every step -----------------------------------------------------------------------
daemon_config a io.store_timeout_s=10
GFS_DEBUG_KILL_AT='?' "$GLIDEFSD" --config "$(host_dir a)/glidefsd.conf" > "$LAB_TMP/steps" 2>&1 || :
steps=$(sed -n 's/^.*step \([a-z]*\.[a-z]*\)$/\1/p' "$LAB_TMP/steps")
[ "$(echo "$steps" | wc -w)" -ge 20 ] || fail "the table of steps: $(cat "$LAB_TMP/steps")"
# A check has two kernels: each step on one of them.
steps=$(echo "$steps" | half_of_check)
least_wholes=3 least_absences=20
[ "$LAB_FULL" = 1 ] || least_wholes=1 least_absences=8

# has_device NAME: for wait_for.
has_device()
{
	[ -n "$(volume_dev "$1")" ]
}

# die_at STEP VARIANT [CONFIGURATION]: a create, killed there. The environment is the caller's.
die_at()
{
	note "killed at $1 ($2)"
	daemon_config a io.store_timeout_s=10 "$3"
	GFS_DEBUG_KILL_AT=$1 daemon_spawn a
	daemon_ready a
	: > "$(host_dir a)/timing.jsonl"
	answer=$(create died)
	# Undoing and reaping may come after the answer.
	wait_for 60 "death at $1 ($2); the create was answered $answer" daemon_dead a
	wait "$(daemon_pid a)" 2> "$LAB_TMP/wait.out" || :
	unset GFS_UBLK_FAIL GFS_DEBUG_WORKER_PAUSE_MS
	daemon_config a io.store_timeout_s=10
	daemon_start a
	status=$(api GET /api/exports/died)
	case $status in
	404)
		absent died
		no_devices || fail "killed at $1 ($2): absent, with device $(new_devices)"
		retried died 201
		absences=$((absences + 1))
		;;
	200)
		wait_for 60 "device of a whole volume" has_device died
		whole died
		retried died 200
		wholes=$((wholes + 1))
		;;
	*) fail "killed at $1 ($2): GET is $status: $(cat "$LAB_TMP/api.out")" ;;
	esac
	equal "pending creates after $1 ($2)" "$(metric glidefs_pending_creates)" 0
	removed died
	daemon_stop a
	died="$died $1"
}

absences=0 wholes=0 died=
for step in $steps; do
	case $step in
	create.* | local.* | dev.*)
		# The device is there long before the root, or long after.
		die_at "$step" "slow store" "store.fault=put delay=800"
		case $LAB_FULL-$step in
		1-* | 0-create.written | 0-dev.armed | 0-dev.started)
			GFS_DEBUG_WORKER_PAUSE_MS=100 die_at "$step" "slow device" "store.fault="
			;;
		esac
		;;
	undo.*)
		die_at "$step" "PUT refused" "store.fault=put error=EIO"
		GFS_UBLK_FAIL=START_DEV:5 die_at "$step" "no device" "store.fault="
		;;
	reap.*)
		GFS_UBLK_FAIL=START_DEV:5 die_at "$step" "no device" "store.fault=delete error=EIO count=1"
		;;
	*) fail "step $step: no way to reach it is known" ;;
	esac
done
for step in $steps; do
	case " $died " in
	*" $step "*) ;;
	*) fail "step $step was never reached" ;;
	esac
done
note "$(echo "$steps" | wc -w) steps: absent $absences times, whole $wholes times"
[ "$wholes" -ge "$least_wholes" ] && [ "$absences" -ge "$least_absences" ] || fail "absent $absences times, whole $wholes times"

# --- nobody retries: the reaper comes -------------------------------------------------------
steps="create.written undo.device"
[ "$LAB_FULL" != 1 ] || steps="create.put create.written dev.started undo.device"
for step in $steps; do
	daemon_config a "store.fault=$([ "$step" != undo.device ] || echo 'put error=EIO')"
	GFS_DEBUG_KILL_AT=$step daemon_spawn a
	daemon_ready a
	create left > "$LAB_TMP/left"
	wait_for 60 "death at $step" daemon_dead a
	wait "$(daemon_pid a)" 2> "$LAB_TMP/wait.out" || :
	daemon_start a daemon.pending_reap_s=0 daemon.pending_forget_s=0
	no_pending()
	{
		[ "$(metric glidefs_pending_creates)" = 0 ]
	}
	wait_for 60 "end of the pending create" no_pending
	absent left
	equal "roots after the reaper" "$(roots)" ""
	equal "local state after the reaper" "$(ls "$LAB_MNT/cache/a/cache/volumes")" ""
	no_devices || fail "device left: $(new_devices)"
	daemon_stop a
done
