#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# selftest.sh BUILD [KERNEL]: the lab must turn every kind of mishap into a
# result that tells what happened, and go on.

set -u

build=${1:?usage: selftest.sh BUILD [KERNEL]}
kernel=${2:-6.12}
dir=$(dirname "$0")
out=$(mktemp)
trap 'rm -f "$out"' EXIT
failed=0

LAB_HEARTBEAT=20 "$dir/lab.py" --build "$build" --kernel "$kernel" --scenarios "$dir/self" \
	--tests 'self_*' > "$out" 2>&1
status=$?

expect()
{
	if grep -Eq "$2" "$out"; then
		echo "ok - $1"
	else
		echo "not ok - $1"
		echo "# no line matches: $2"
		failed=1
	fi
}

[ "$status" = 1 ] || { echo "not ok - exit status $status, not 1"; failed=1; }
expect "declared complaints are allowed" '^ok .* - self_allowed'
expect "figures pass through" '^# figure probe=1.01 lo=0.99 hi=1.03 n=40 unit=ratio'
expect "a leftover device is removed" '^ok .* - self_device'
expect "a failing command fails" '^not ok .* - self_fail '
expect "its output is shown" '^# plain output'
expect "a failure in a subshell is shown" '^# FAILED: from inside'
expect "a hang is a result" '^not ok .* - self_hang .*hung'
expect "with the stack of the hung task" '^# task .*\(dd\) D .*wchan='
expect "and its frames" '^#     \[<0>\] .*blkdev_read_iter'
expect "and the kernel's own view" 'sysrq: Show Blocked State'
expect "a silent guest is a result" '^not ok .* - self_hung_kernel .*the guest stopped'
expect "with what sysrq tells" 'task:sleep|sysrq: Show backtrace of all active CPUs'
expect "a leftover process is a failure" '^not ok .* - self_leftover .*left behind'
expect "a crash is a result" '^not ok .* - self_panic .*the guest crashed'
expect "with the panic's text" 'sysrq triggered crash'
expect "a guest with a network reaches its host" '^ok .* - self_net '
expect "a skip is a skip" '^ok .* - self_skip # SKIP on purpose'
expect "an inner deadline names what was awaited" 'FAILED: no file that never comes within 1 s'
expect "a kernel warning fails a scenario" '^not ok .* - self_warning .*kernel log'
if [ "$failed" != 0 ]; then
	echo "# the whole output:"
	sed 's/^/# /' "$out"
fi
exit "$failed"
