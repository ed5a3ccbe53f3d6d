#!/bin/sh
# usage_sync.sh -- the options of the program (--help prints its table), of
# its manual and of the command-line tests are the same.
#
# SPDX-License-Identifier: MIT
#
# shellcheck source=tests/cli.sh
. "${srcdir:?}/tests/cli.sh"

check_options "$MAMBYTE" "$srcdir/man/mambyte.1" 25 "$srcdir"/tests/cli_*.sh

# In the synopsis of the manual, only options that there are.
sed -n '/^\.Sh SYNOPSIS/,/^\.Sh DESC/p' "$srcdir/man/mambyte.1" |
	grep -o 'Fl -[a-z0-9-]*' | sed 's/Fl -//' | sort -u |
	comm -23 - help.long >unknown
same "options of the synopsis alone" "" "$(cat unknown)"

finish
