#!/bin/sh
# english.sh -- English sentences with their label, for language.head.
#
#     bench/english.sh talk.bin.zst books-2.bin.zst wiki-2.bin.zst docs-2.bin.zst
#
# Writes 3,000 lines of the first file, a dialogue, and 1,000 sentences of the
# next two each, of letters and plain punctuation and of 8 to 150 bytes; and
# 3,000 lines of the last, manuals, that read as English between names, numbers
# and code.  All are spread evenly.  Needs zstd.
#
# SPDX-License-Identifier: MIT
set -eu
export LC_ALL=C
: "${4?usage: english.sh TALK BOOKS WIKI MANUALS}"

unpack()
{
	zstd -dcq --long=27 "$1" | tr '\0' '\n'
}

# short LEAST MOST -- the lines of so many bytes, without repetitions.
short()
{
	awk -v least="$1" -v most="$2" \
		'length >= least && length <= most && !seen[$0]++'
}

# read_as_english -- lines of six words or more, of which three quarters are
# plain words, and two or more are those that hold sentences together.
read_as_english()
{
	awk '
	BEGIN {
		n = split("the of to is and in that for with be or are this " \
			"it you if not can by as an on from when will", word)
		for (i = 1; i <= n; i++)
			common[word[i]] = 1
	}
	{
		gsub(/[ \t]+/, " ")
		gsub(/^ | $/, "")
		plain = n_common = 0
		for (i = 1; i <= NF; i++) {
			plain += $i ~ /^[("`'"'"']*[A-Za-z][A-Za-z'"'"'-]*[.,:;!?)"`'"'"']*$/
			n_common += tolower($i) in common
		}
		if (NF >= 6 && plain * 4 >= NF * 3 && n_common >= 2)
			print
	}'
}

# spread N -- N of the lines.
spread()
{
	awk -v most="$1" -v OFS='\t' '
	{ line[NR] = $0 }
	END {
		for (i = 1; i <= NR; i++)
			if (int(i * most / NR) > n) {
				n++
				print "en", line[i]
			}
	}'
}

unpack "$1" | sed 's/^.*> //' |
	grep -xE "[A-Za-z][a-z']*,?( [A-Za-z']+,?){1,24}[.!?]?" |
	short 8 150 | spread 3000
for file in "$2" "$3"; do
	unpack "$file" |
		grep -oE "[A-Z][a-z']*( [A-Za-z']+,?){2,24}[.!?]" |
		short 8 150 | spread 1000
done
unpack "$4" | read_as_english | short 30 250 | spread 3000
