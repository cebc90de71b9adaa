# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=90
#
# Devices come and go beside idle ones of the same rings: nothing of a removed one
# stays in the kernel, so the next gets its id.  (Before 6.13 the idle ones' FETCHes
# could pin it, through the ring's fixed files.)

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

mkdisk cache
mkdir -p "$LAB_TMP/s"
ublk_serve --dir "$LAB_MNT/cache/s" --size 16777216 --nr 2 --churn 5 > "$LAB_TMP/s/serve.log" 2>&1 &
server=$!
echo "$server" >> "$LAB_TMP/pids"
wait_for 60 "answer of ublk_serve" grep -q ready "$LAB_TMP/s/serve.log"
equal "removed" "$(grep -c "removed=0" "$LAB_TMP/s/serve.log")" 5
equal "ids" "$(grep churn "$LAB_TMP/s/serve.log" | sed 's/churn id=\([0-9]*\) .*/\1/' | sort -u | tr '\n' ' ')" "2 "
kill -TERM "$server"
wait "$server" || fail "ublk_serve: $(cat "$LAB_TMP/s/serve.log")"
