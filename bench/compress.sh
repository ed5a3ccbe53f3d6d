#!/bin/sh
# compress.sh -- how fast a file is compressed and decompressed, in bytes a
# second, the start of the program included.
#
#     bench/compress.sh MODEL FILE [OPTION]...      OPTION: of mambyte
#
# Prints direction, bytes, seconds and bytes a second, the best of TIMES runs
# (3), and says how large the code is.  MAMBYTE names the program.
#
# SPDX-License-Identifier: MIT
set -eu
export LC_ALL=C
: "${2?usage: compress.sh MODEL FILE [OPTION]...}"
model=$1 file=$2
shift 2
mambyte=${MAMBYTE:-mambyte}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# best DIRECTION OPTION FROM TO -- the least seconds of some runs.
best()
{
	name=$1 option=$2 from=$3 to=$4
	shift 4
	for _ in $(seq "${TIMES:-3}"); do
		start=$(date +%s.%N)
		"$mambyte" -q "$option" --model="$model" "$@" <"$from" >"$to"
		end=$(date +%s.%N)
		echo "$start $end"
	done | awk -v name="$name" -v n="$(wc -c <"$file")" '
		NR == 1 || $2 - $1 < least { least = $2 - $1 }
		END { printf "%s,%d,%.2f,%.0f\n", name, n, least, n / least }'
}

echo direction,bytes,seconds,bytes_per_second
best compress -z "$file" "$work/code" "$@"
best decompress -d "$work/code" "$work/text" "$@"
cmp "$file" "$work/text"
echo "code: $(wc -c <"$work/code") bytes" >&2
