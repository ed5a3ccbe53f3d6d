#!/bin/sh
# english.sh -- English sentences with their label, for language.head.
#
#     bench/english.sh talk.bin.zst books-2.bin.zst wiki-2.bin.zst
#
# Writes lines of the first file, a dialogue, and sentences of the others, of
# letters and plain punctuation and of 8 to 150 bytes: 3,000 and 1,000 each,
# spread evenly.  Needs zstd.
#
# SPDX-License-Identifier: MIT
set -eu
export LC_ALL=C
: "${1?usage: english.sh TALK FILE...}"

unpack()
{
	zstd -dcq --long=27 "$1" | tr '\0' '\n'
}

# spread N -- N of the lines, without repetitions.
spread()
{
	awk 'length >= 8 && length <= 150 && !seen[$0]++' >lines.tmp
	awk -v all="$(wc -l <lines.tmp)" -v most="$1" -v OFS='\t' \
		'int(NR * most / all) > n { n++; print "en", $0 }' lines.tmp
	rm lines.tmp
}

unpack "$1" | sed 's/^.*> //' |
	grep -xE "[A-Za-z][a-z']*,?( [A-Za-z']+,?){1,24}[.!?]?" | spread 3000
shift
for file; do
	unpack "$file" |
		grep -oE "[A-Z][a-z']*( [A-Za-z']+,?){2,24}[.!?]" | spread 1000
done
