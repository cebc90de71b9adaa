# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
#
# Fails inside a command substitution: the message must be seen, once.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

value()
{
	fail "from inside"
}
have=$(value)
note "not reached: $have"
