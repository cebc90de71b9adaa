# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=700 timeout-full=5400 host=no
# lab: allow-log=I/O error, dev ublkb.*READ
#
# Each operation of the store, under each fault of the wire, while a volume is read cold, written and uploaded,
# and others are created, listed, attached and removed. Nothing is lost or wrong, guests see no errors from what
# passes, and bounded ones from what lasts; every request ends within its bound; when the fault is over all works
# again at once. After each round the volume moves to a host that has nothing but the store, and
# is read there whole.
#
# Reduced: a round is one fault on all operations at once, each fault on one of a check's two kernels; full: all of
# them, and each operation by itself, too. To select some:
#   selftests/lab/lab.py --tests s3_fault_matrix --env 'S3_FAULTS=wrong_etag|outage_.*'

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"
# shellcheck source=selftests/lab/scenarios/oracle.lib
. "$LAB/scenarios/oracle.lib"

bound=4
seconds=2
recovery_s=60
# Of a request of a guest: each of two waits in a row has its bound, and this is emulation.
longest_ms=$((bound * 2000 + 5000))
operations="put get head list delete"

# NAME ERRORS FAULT...: ERRORS none: guests see none; EIO: some requests may fail, at their bound.
faults()
{
	cat <<-END
		status_500       none every=2 status=500
		status_503       none every=2 status=503
		retry_after      EIO  every=4 status=503 retry_after=1
		slow_bodies      none slow=150000
		truncated        none every=2 truncate=100
		reset_before     none every=2 reset_before
		reset_in_body    none every=2 reset_body=1000
		reset_committed  none every=2 reset_after
		hang_before      EIO  every=4 hang_before
		hang_committed   EIO  every=4 hang_after
		wrong_etag       none wrong_etag
		no_etag          EIO  no_etag
		bad_xml          none every=2 bad_xml
		error_in_200     none every=2 status200_error
		clock_skew       none skew=5400
		closed_idle      none close_idle
		stalled_idle     none every=2 stall_idle
		outage_500       EIO  status=500
		outage_hang      EIO  hang_before
	END
}

# server METHOD PATH [BODY]: its answer's body.
server()
{
	printf '%s %s HTTP/1.1\r\nHost: s3d\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s' \
		"$1" "$2" "$(printf %s "${3-}" | wc -c)" "${3-}" |
		within 20 nc 127.0.0.1 "$port" > "$LAB_TMP/s3d.answer" || fail "s3d does not answer"
	grep -q '^HTTP/1.1 2' "$LAB_TMP/s3d.answer" || fail "s3d: $(cat "$LAB_TMP/s3d.answer")"
	sed '1,/^\r*$/d' "$LAB_TMP/s3d.answer"
}

# broken WHY: the rest of the table is worth having all the same.
broken()
{
	note "BROKEN: $name: $1"
	: > "$LAB_TMP/broken"
}

# call NAME METHOD PATH [BODY]: of the API of $HOST; its line of apicall in $LAB_TMP/call.NAME, its status in
# $STATUS. Whatever the store does, an answer comes, it is success or 503, and in time.
call()
{
	lab_call=$1
	shift
	within 90 apicall --seconds 80 "$(host_dir "$HOST")/glidefs.sock" "$@" > "$LAB_TMP/call.$lab_call" || :
	read -r _ STATUS took _ < "$LAB_TMP/call.$lab_call"
	case $STATUS in
	2??) ;;
	503) echo "$lab_call" >> "$LAB_TMP/refused" ;;
	# Not 4xx either: all that is asked for can be done.
	*) broken "$lab_call: $(cat "$LAB_TMP/call.$lab_call")" ;;
	esac
	[ "$took" -le "$((longest_ms * 2))" ] || broken "$lab_call took $took ms"
}

promised() # NAME: was its call answered 2xx?
{
	read -r _ STATUS _ < "$LAB_TMP/call.$1"
	case $STATUS in 2??) ;; *) return 1 ;; esac
}

works() # METHOD PATH [BODY]: for wait_for
{
	within 90 apicall --seconds 80 "$(host_dir "$HOST")/glidefs.sock" "$@"
}

# What people do meanwhile, all at once: where nothing is answered each of them waits for its own bound. Each has a
# volume of its own: old is there to be removed, tmp is not there, leaving is attached, coming is not.
remover()
{
	call remove DELETE /api/exports/old
}

creator()
{
	call create PUT /api/exports/tmp '{"size": 4194304}'
}

detacher()
{
	call detach POST /api/exports/leaving/detach
}

attacher()
{
	call attach POST /api/exports/coming/attach
}

lister()
{
	call list GET /api/exports
	promised list || return 0
	grep -q '"vm"' "$LAB_TMP/call.list" || broken "the list lacks vm"
	# What is in the store alone may be missing, if the answer says so.
	if grep -q '"complete": *false' "$LAB_TMP/call.list"; then
		echo list >> "$LAB_TMP/refused"
	else
		grep -q '"coming"' "$LAB_TMP/call.list" || broken "a list that claims to be complete lacks coming"
	fi
}

header()
{
	lab_status=0
	store_objects --seconds "$bound" head "$(store_url)" probe > "$LAB_TMP/head" \
		2> "$LAB_TMP/head.err" || lab_status=$?
	if [ "$lab_status" = 0 ]; then
		equal "$name: size of an object" "$(cat "$LAB_TMP/head")" 12345
	else
		echo head >> "$LAB_TMP/refused"
	fi
}

others() # "OPERATIONS"
{
	: > "$LAB_TMP/refused"
	others_pids=
	who="remover creator detacher attacher lister"
	case " $1 " in *" head "*) who="$who header" ;; esac
	for other in $who; do
		"$other" &
		others_pids="$others_pids $!"
	done
	for other in $others_pids; do
		wait "$other" || exit 1
	done
	refused=$(wc -l < "$LAB_TMP/refused")
}

# A refusal is an answer; a lie is not. The store itself says what became of the requests that succeeded.
nobody_lied()
{
	store_ls exports/ > "$LAB_TMP/roots"
	! promised create || grep -q '^exports/tmp/export.json' "$LAB_TMP/roots" ||
		broken "a volume that was created is not in the store"
	! promised remove || ! grep -q '^exports/old/export.json' "$LAB_TMP/roots" ||
		broken "a volume that was removed is in the store"
}

# The volume goes to a host that has never seen it, by way of the store alone.
move()
{
	[ -z "$HOST" ] || {
		works POST /api/exports/vm/detach > "$LAB_TMP/call" || fail "$name: $(cat "$LAB_TMP/call")"
		daemon_stop "$HOST"
	}
	hosts=$((hosts + 1))
	HOST=h$hosts
	daemon_start "$HOST" io.store_timeout_s=$bound daemon.create_timeout_s=$bound \
		upload.dirty_bytes=1M upload.age_s=1 upload.age_min_s=1 cache.memory_bytes=1M \
		cache.index_bytes=1M cache.ssd_bytes=0
}

# missed OPERATION "OPERATIONS": may the fault have passed this one by? If who would have made it was refused because
# one hung that had to come before; alone it has its own round.
missed()
{
	[ "$2" != "$1" ] || return 1
	case $1 in
	head | list) grep -q "^$1\$" "$LAB_TMP/refused" ;;
	delete) grep -q '^remove$' "$LAB_TMP/refused" ;;
	*) return 1 ;;
	esac
}

round() # NAME ERRORS "OPERATIONS" FAULT
{
	name=$1
	wait_for "$recovery_s" "$name: a volume to remove" works PUT /api/exports/old '{"size": 4194304}'
	wait_for "$recovery_s" "$name: a volume to detach" works POST /api/exports/leaving/attach
	rules=
	more=
	for op in $3; do
		rule=$4
		# Of these there are few, on a slow machine above all: the first ones meet it. Of PUTs there are three
		# for sure, all of roots: the creator's, the detacher's and the attacher's.
		case $op in
		head | list | delete) rule=$(echo "$4" | sed 's/every=[0-9]*/count=2/') ;;
		put)
			rule=$(echo "$4" | sed 's/every=[0-9]*/every=2/')
			more="op=put key=*/exports/* $(echo "$4" | sed 's/every=[0-9]*/count=2/')"
			;;
		esac
		rules="${rules}op=$op $rule
"
	done
	server PUT /_s3d/faults "$rules$more"
	load_s=$seconds
	case $name in outage*) load_s=$((bound * 2)) ;; esac
	oracle_start "$dev" --seconds "$load_s" --tolerate --threads 4 --read 40 --max-bytes 64K
	others "$3"
	oracle_wait "$((load_s + longest_ms / 1000))"
	oracle_read
	server GET /_s3d/stats > "$LAB_TMP/stats"
	server PUT /_s3d/faults ""
	nobody_lied

	back=$(now_ms)
	wait_for "$recovery_s" "$name: upload" works POST /api/exports/vm/drain
	for volume in tmp old; do
		wait_for "$recovery_s" "$name: create" works PUT "/api/exports/$volume" '{"size": 4194304}'
		wait_for "$recovery_s" "$name: remove" works DELETE "/api/exports/$volume"
	done
	# Of the next host's round, whatever became of them.
	for volume in leaving coming; do
		wait_for "$recovery_s" "$name: detach" works POST "/api/exports/$volume/detach"
	done
	back=$(($(now_ms) - back))

	# One of each rule, in their order.
	grep -o '"fired":[0-9]*' "$LAB_TMP/stats" | cut -d: -f2 > "$LAB_TMP/fired"
	for op in $3; do
		read -r fired <&7
		# shellcheck disable=SC2154 # read from the oracle's status
		printf '%-7s %-15s %5s %8s %6s %7s %8s %8s\n' "$op" "$name" "$fired" "$((acked + reads))" "$errors" \
			"$refused" "$max_ms" "$back" >> "$table"
		[ "$fired" -gt 0 ] || missed "$op" "$3" || broken "no $op met it"
	done 7< "$LAB_TMP/fired"
	tail -n "$(echo "$3" | wc -w)" "$table" >&9
	[ "$2" != none ] || [ "$errors" = 0 ] || broken "$errors requests of the guest failed"
	[ "$max_ms" -le "$longest_ms" ] || broken "a request took $max_ms ms"

	move
	works POST /api/exports/vm/attach > "$LAB_TMP/call" || fail "$name: $(cat "$LAB_TMP/call")"
	dev=$(sed -n 's/.*"device":"\([^"]*\)".*/\1/p' "$LAB_TMP/call")
	oracle_verify "$dev" --no-buffered > "$LAB_TMP/verified"
}

mkdisk cache store
background s3d --port 0 --port-file "$LAB_TMP/port" --bucket matrix
wait_for 30 "s3d" test -s "$LAB_TMP/port"
read -r port < "$LAB_TMP/port"
LAB_STORE=rgw LAB_S3_ENDPOINT=http://127.0.0.1:$port LAB_S3_BUCKET=matrix LAB_S3_REGION=us-east-1
LAB_S3_ACCESS_KEY=TESTKEY LAB_S3_SECRET_KEY=TESTSECRET
store_env

HOST=
hosts=0
table=$LAB_TMP/table
name=start
: > "$table"
head -c 12345 /dev/urandom | store_put probe
move
for volume in leaving coming; do
	works PUT "/api/exports/$volume" '{"size": 4194304}' > "$LAB_TMP/call"
	works POST "/api/exports/$volume/detach" > "$LAB_TMP/call"
done
dev=$(volume_create vm 4M)
oracle_start "$dev" --fill
oracle_wait
works POST /api/exports/vm/drain

# Not from a pipe: what fails must fail here.
if [ -n "${S3_FAULTS:-}" ]; then
	faults | grep -E "^($S3_FAULTS) "
else
	faults | half_of_check
fi > "$LAB_TMP/faults"
while read -r fault errors_allowed how <&8; do
	round "$fault" "$errors_allowed" "$operations" "$how"
	[ "$LAB_FULL" = 1 ] || continue
	for alone in $operations; do
		round "$fault" "$errors_allowed" "$alone" "$how"
	done
done 8< "$LAB_TMP/faults"

note "op      fault           fired requests errors refused longest_ms recovered_ms"
sed 's/^/# /' "$table"
glidefs detach vm
daemon_stop "$HOST"
[ ! -e "$LAB_TMP/broken" ] || fail "promises are broken, see above"
