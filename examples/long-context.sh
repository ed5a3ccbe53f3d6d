#!/bin/sh
# long-context.sh FOLDER [OPTION OF mambyte-train]... -- a million bytes back.
#
# Trains a small model to remember a key over up to 8 KiB, unless FOLDER has it,
# and asks it for keys that are much farther back; reads a long book, and writes
# how many bits a byte costs by its place; reads more and more of it, and writes
# time and memory.  Lines go to FOLDER/context.tsv, from which doc/context.awk
# draws.  The book is that of Debian's package bible-kjv, or a file that BOOK
# names; MOST is the largest input and the farthest key, 1 MiB by default.
#
# SPDX-License-Identifier: MIT
set -eu

here=$(cd "$(dirname "$0")" && pwd)
folder=${1:?usage: long-context.sh FOLDER [OPTION OF mambyte-train]...}
shift
most=${MOST:-1048576}
mkdir -p "$folder"
if test -n "${BOOK-}"; then
	cat "$BOOK" >"$folder/book"
else
	bible -f Gen1:1-Rev22:21 </dev/null >"$folder/book"
fi
cd "$folder"
: >context.tsv

# ---- the key: how many of ten are right, by distance

if ! test -e key.safetensors; then
	python3 "$here/key.py" train 60000000 1 >key.train
	python3 "$here/key.py" train 200000 2 >key.test
	mambyte-train --d-model=128 --n-layer=4 --windows=64 --length=1024 \
		--carry=16 --steps=4000 "$@" --valid=key.test \
		-o key.safetensors key.train >/dev/null
fi
distance=1024
while [ $distance -le "$most" ]; do
	right=0
	for seed in 1 2 3 4 5 6 7 8 9 10; do
		answer=$(python3 "$here/key.py" ask $distance $seed 2>key |
			mambyte -m ./key.safetensors -n 5 --temp=0)
		test "$answer" = "$(cat key)" && right=$((right + 1))
	done
	printf 'key\t%s\t%s\n' $distance $right
	distance=$((distance * 4))
done | tee -a context.tsv

# ---- the book: bits a byte, from each power of two to the next

head -c "$most" book | mambyte --surprisal | awk -F '\t' -v OFS='\t' '
	BEGIN { end = 1024 }
	$1 == end { print "place", end, bits / n; bits = n = 0; end *= 2 }
	{ bits += $3; n++ }
	END { print "place", NR, bits / n }' | tee -a context.tsv

# ---- size: seconds, and the most memory that the kernel saw (VmHWM)

size=1024
while [ $size -le "$most" ]; do
	while [ "$(wc -c <book)" -lt $size ]; do
		cat book book >longer && mv longer book
	done
	head -c $size book >part
	/usr/bin/time -f '%e %M' -o used mambyte --perplexity part >/dev/null
	printf 'size\t%s\t%s\n' $size "$(tr ' ' '\t' <used)"
	size=$((size * 4))
done | tee -a context.tsv
