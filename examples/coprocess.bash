#!/bin/bash
# coprocess.bash -- scores records that come one by one, without a start for each:
# mambyte runs beside the script and answers each line at once.
#
# As an example, the records are the lines of standard input, and each is shown
# with what it costs a byte.
#
# SPDX-License-Identifier: MIT
set -euo pipefail

coproc SCORER { mambyte --quiet --score --context=reset; }

# score RECORD -- bits, n_bytes and bits_per_byte of a line.
score()
{
	printf '%s\n' "$1" >&"${SCORER[1]}"
	IFS=$'\t' read -r bits n_bytes bits_per_byte _ <&"${SCORER[0]}"
}

while IFS= read -r record; do
	score "$record"
	echo "$bits_per_byte bits a byte, $bits bits, $n_bytes bytes: $record"
done
