# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=420
#
# A create takes one round trip of the store: with 500 ms for every store operation its median time is at
# most 1.15 times that of its PUT or its device registration, whichever is longer, by its own spans; each
# makes one PUT and nothing else; and creates of 50 names at once take at most twice as long as one.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"
# shellcheck source=selftests/lab/scenarios/create.lib
. "$LAB/scenarios/create.lib"

creates=24
mkdisk cache store
daemon_start a "store.fault=* delay=500"
sock=$(host_dir a)/glidefs.sock
log=$(host_dir a)/timing.jsonl

# --- one after the other ----------------------------------------------------------------
apicall --count "$creates" "$sock" PUT /api/exports/one-%d "$CREATE_BODY" > "$LAB_TMP/one" ||
	fail "create: $(cat "$LAB_TMP/one")"
wait_for 20 "timing lines of the creates" sh -c \
	"[ \$(grep -c '\"event\":\"create_export\"' $log) = $creates ]"

# spans PREFIX: a line per create of such a name: its time, its PUT's, its registration's, in ms, and how
# long the last two were under way together.
spans()
{
	sed -n 's/.*"event":"\([^"]*\)","mono_ns":\([0-9]*\),.*"start_ns":\([0-9]*\),"export":"\('"$1"'-[0-9]*\)".*"op_id":\([0-9]*\),.*"result":0.*/\1 \2 \3 \5/p' "$log" |
		awk '
		{ from[$1, $4] = $3; to[$1, $4] = $2; if ($1 == "create_export") op[++n] = $4 }
		END {
			for (i = 1; i <= n; i++) {
				o = op[i]
				all = to["create_export", o] - from["create_export", o]
				put = to["object.put", o] - from["object.put", o]
				reg = to["register_device", o] - from["register_device", o]
				lo = from["object.put", o]
				if (from["register_device", o] > lo) lo = from["register_device", o]
				hi = to["object.put", o]
				if (to["register_device", o] < hi) hi = to["register_device", o]
				printf "%.3f %.3f %.3f %.3f\n", all / 1e6, put / 1e6, reg / 1e6, (hi - lo) / 1e6
			}
		}'
}

spans one > "$LAB_TMP/spans"
equal "creates with all their spans" "$(awk '$2 > 0 && $3 > 0' "$LAB_TMP/spans" | wc -l)" "$creates"
awk '{ printf "# create %s ms: PUT %s ms, registration %s ms\n", $1, $2, $3 }' "$LAB_TMP/spans" | head -n 3
awk '$4 <= 0 { exit 1 }' "$LAB_TMP/spans" || fail "PUT and registration did not overlap: $(cat "$LAB_TMP/spans")"
# Nothing of the store but the one PUT.
for op in get head list delete; do
	if grep "\"event\":\"object.$op\".*\"export\":\"one-" "$log" > "$LAB_TMP/ops"; then
		fail "a create asked the store for more: $(head -n 3 "$LAB_TMP/ops")"
	fi
done
equal "PUTs" "$(grep -c '"event":"object.put".*"export":"one-' "$log")" "$creates"

awk '{ print $1, ($2 > $3 ? $2 : $3) }' "$LAB_TMP/spans" > "$LAB_TMP/pairs"
status=0
command figure --max 1.15 --min-pairs 20 create_ratio < "$LAB_TMP/pairs" > "$LAB_TMP/figure" || status=$?
cat "$LAB_TMP/figure"
[ "$status" = 0 ] || fail "create_ratio is over 1.15, or undecided ($status)"

# --- 50 at once -------------------------------------------------------------------------
one=$(awk '{ print $3 }' "$LAB_TMP/one" | sort -n | sed -n "$((creates / 2))p")
apicall --jobs 50 --count 50 "$sock" PUT /api/exports/all-%d "$CREATE_BODY" > "$LAB_TMP/all" ||
	fail "create: $(cat "$LAB_TMP/all")"
all=$(awk '{ print $3 }' "$LAB_TMP/all" | sort -n | tail -n 1)
wait_for 20 "timing lines of the creates" sh -c \
	"[ \$(grep -c '\"event\":\"create_export\"' $log) = $((creates + 50)) ]"
spans all | sort -n | awk '{ l[NR] = $0 } END { print "# of 50: shortest, median, longest create, PUT, registration, overlap (ms):"; print "# " l[1]; print "# " l[int(NR / 2)]; print "# " l[NR] }'
note "one create: $one ms; 50 at once: $all ms"
[ "$all" -le $((2 * one)) ] || fail "50 creates at once took $all ms, one takes $one ms"
