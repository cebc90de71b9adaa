# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=900
#
# A fork that fails leaves nothing: an error, then GET is 404, then the retry is 201, with a device that reads as the
# source did, whichever operation on the store failed, hung, or took effect without an answer, whether this host knew
# the source or not; and wherever the daemon is killed, the fork is whole or absent after the restart. A source that
# was deleted is missing. (Every operation with every failure, and every other step: unit/host_fork_test.)

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"
# shellcheck source=selftests/lab/scenarios/create.lib
. "$LAB/scenarios/create.lib"

mkdisk cache store
daemon_start a
base=$(volume_create base 64M)
head -c 65536 /dev/urandom > "$LAB_TMP/content"
dd if="$LAB_TMP/content" of="$base" bs=64k count=1 seek=3 oflag=direct 2> "$LAB_TMP/dd.out"
refs=
while [ "$(echo "$refs" | wc -w)" -lt 5 ]; do
	refs="$refs $(glidefs snapshot base)"
done
glidefs detach base
glidefs rm base
daemon_stop a

# from N: forks are of the snapshot of that number from now on; it is $ref, and its number in the store $seq.
from()
{
	ref=$(echo "$refs" | awk -v n="$1" '{ print $n }')
	seq=${ref#*@}
	CREATE_BODY="{\"from\": \"snapshot:$ref\"}"
}

# reads NAME: it is attached and reads as its source did.
reads()
{
	is_status "GET of $1" "$(api GET "/api/exports/$1")" 200
	reads_dev=$(volume_dev "$1")
	wait_for 30 "$reads_dev" test -b "$reads_dev"
	within 60 dd if="$reads_dev" of="$LAB_TMP/back" bs=64k count=1 skip=3 iflag=direct 2> "$LAB_TMP/dd.out"
	cmp -s "$LAB_TMP/content" "$LAB_TMP/back" || fail "$1 does not read as its source did"
}

# again NAME STATUS: a retry is answered so, and it is whole and the only one.
again()
{
	is_status "retry of $1" "$(create "$1")" "$2"
	reads "$1"
	equal "devices after the retry of $1" "$(new_devices | wc -w)" 1
	equal "roots after the retry of $1" "$(roots)" "exports/$1/export.json"
}

# --- the store fails ------------------------------------------------------------------------------
# Each fork has a snapshot and rules of its own, which strike once; the manifest is one for all.
cases='
manifest 1 get:manifests/* hang count=1
snapshot 2 get:snapshots/base/*% hang count=1
source   3 head:snapshots/base/*% hang count=1
hanging  4 put:exports/hanging/* hang count=1
after    4 put:exports/after/* delay=1500;put:exports/after/* ambiguous=after count=1
refused  4 put:exports/refused/* error=EIO count=1
'
names='manifest source'
[ "$LAB_FULL" != 1 ] || names='manifest snapshot source hanging after refused'
rules=
for name in $names; do
	from "$(echo "$cases" | awk -v n="$name" '$1 == n { print $2 }')"
	rules="$rules$(echo "$cases" | awk -v n="$name" '$1 == n' | sed "s,^[^ ]* *[0-9] ,,; s,%,$seq,g");"
done
daemon_start a "store.fault=$rules" daemon.create_timeout_s=2 io.store_timeout_s=2
for name in $names; do
	from "$(echo "$cases" | awk -v n="$name" '$1 == n { print $2 }')"
	is_status "fork $name" "$(create "$name")" 503
	absent "$name"
	no_devices || fail "$name failed and left device $(new_devices)"
	again "$name" 201
	removed "$name"
	note "$name: 503, 404, 201"
done

# --- the source is deleted, by another host ---------------------------------------------------------
from 5
is_status "fork before" "$(create before)" 201
removed before
daemon_start b
HOST=b glidefs snapshot-rm "$ref"
daemon_stop b
is_status "fork of a deleted snapshot" "$(create late)" 404
absent late
no_devices || fail "late failed and left device $(new_devices)"
equal "roots without a source" "$(roots)" ""
from 1
daemon_stop a

# --- killed ---------------------------------------------------------------------------------------------
# die_at STEP CONFIGURATION: a fork, killed there; then it is whole or absent.
die_at()
{
	note "killed at $1 ($2)"
	daemon_config a io.store_timeout_s=10 "$2"
	GFS_DEBUG_KILL_AT=$1 daemon_spawn a
	daemon_ready a
	create died > "$LAB_TMP/died"
	wait_for 60 "death at $1 ($2); the fork was answered $(cat "$LAB_TMP/died")" daemon_dead a
	wait "$(daemon_pid a)" 2> "$LAB_TMP/wait.out" || :
	daemon_config a io.store_timeout_s=10
	daemon_start a
	status=$(api GET /api/exports/died)
	case $status in
	404)
		absent died
		no_devices || fail "killed at $1 ($2): absent, with device $(new_devices)"
		again died 201
		;;
	200)
		wait_for 60 "device of a whole fork" reads_device
		reads died
		again died 200
		;;
	*) fail "killed at $1 ($2): GET is $status: $(cat "$LAB_TMP/api.out")" ;;
	esac
	# That of the fork without a source, which nobody asked for again.
	equal "pending creates after $1 ($2)" "$(metric glidefs_pending_creates)" 1
	removed died
	daemon_stop a
}

reads_device()
{
	[ -n "$(volume_dev died)" ]
}

steps="local.ready undo.root"
[ "$LAB_FULL" != 1 ] || steps="create.recorded create.put create.written local.opened dev.added dev.params dev.opened
	dev.armed local.ready dev.started dev.mapped create.checked create.joined create.listed create.settled
	create.ended undo.begun undo.root undo.device undo.closed undo.local undo.left"
for step in $steps; do
	case $step in
	undo.*)
		die_at "$step" "store.fault=head:snapshots/* error=ENOENT"
		[ "$LAB_FULL" != 1 ] || die_at "$step" "store.fault=get:manifests/* error=ENOENT"
		;;
	*)
		# The device waits for its manifest long after the root is written, or the other way round.
		die_at "$step" "store.fault=get:manifests/* delay=700"
		[ "$LAB_FULL" != 1 ] || die_at "$step" "store.fault=put:exports/* delay=700"
		;;
	esac
done
