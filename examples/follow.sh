#!/bin/sh
# follow.sh LOG BITS [STATE] -- writes each new line of a log that costs at least
# BITS, as JSON, as soon as it is there, until it is killed.
#
# tail -F goes on with the new file when logrotate has renamed the old one.  A
# line is predicted from all lines before it: repeated ones soon cost little.
# With a STATE, saved after older logs, the first ones do too:
#
#     zcat access.log.*.gz | mambyte -n 0 --save-state=access.state
#     follow.sh access.log 100 access.state
#
# For the journal, mambyte-journal.service does the same.
#
# SPDX-License-Identifier: MIT
set -eu

log=${1:?usage: follow.sh LOG BITS [STATE]} bits=${2:?how many bits?}
tail -n 0 -F "$log" 2>/dev/null |
	mambyte --quiet --score --json --threshold="$bits" \
		${3+--load-state="$3"}
