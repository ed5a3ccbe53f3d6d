#!/bin/sh
# long-context.sh FOLDER [OPTION OF mambyte-train]... -- a million bytes back.
#
# Trains a small model to remember a key, over longer and longer talk, unless
# FOLDER has it (some minutes and 24 GB of an H200, and 600 MB of texts), and asks
# it for keys up to a megabyte back; reads a long book, and writes how many bits a
# byte costs by its place; reads more and more of it, and writes time and memory.
# Lines go to FOLDER/context.tsv, from which doc/context.awk draws.  The book is
# that of Debian's package bible-kjv, or a file that BOOK names; MOST is the
# largest input and the farthest key, 1 MiB by default; SHAPE has options for the
# shape of the model.
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

# teach MEAN WINDOWS LENGTH STEPS OPTION... -- talk has MEAN bytes on average.
# A gradient reaches back to the start of a window, so windows are about as long.
# A key that has faded teaches nothing, so a mean is at most 8 times the one
# before.  Where answers are few, high rates let the memory drift away.
teach()
{
	mean=$1 windows=$2 length=$3 steps=$4
	shift 4
	test $((4 * mean)) -le "$most" || return 0
	taught=key.$mean
	test -e "$taught" && return
	python3 "$here/key.py" train $((windows * length * steps)) 1 "$mean" \
		>key.train
	python3 "$here/key.py" train $((200000 + 4 * mean)) 2 "$mean" >key.test
	mambyte-train -f --windows="$windows" --length="$length" \
		--steps="$steps" --weight-decay=0 "$@" --valid=key.test \
		-o "$taught" key.train >/dev/null
}

if ! test -e key.safetensors; then
	# shellcheck disable=SC2086 # SHAPE is several words
	teach 256 64 1024 640 ${SHAPE:---d-model=128 --n-layer=4} "$@"
	teach 2048 64 2048 370 --init=key.256 "$@"
	teach 16384 16 16384 430 --init=key.2048 --rate=0.002 "$@"
	teach 65536 8 65536 410 --init=key.16384 --rate=0.0015 "$@"
	teach 131072 8 131072 580 --init=key.65536 --rate=0.001 "$@"
	mv "$taught" key.safetensors
fi

# A state for each seed goes on reading; what it answers is not kept.
for seed in 1 2 3 4 5 6 7 8 9 10; do
	python3 "$here/key.py" give $seed 2>$seed.key |
		mambyte -m ./key.safetensors -n 0 --save-state=$seed.state
done
from=0 distance=1024
while [ $distance -le "$most" ]; do
	right=0
	for seed in 1 2 3 4 5 6 7 8 9 10; do
		python3 "$here/key.py" talk $seed $from $distance |
			mambyte -m ./key.safetensors -n 0 \
				--load-state=$seed.state --save-state=$seed.state
		answer=$(printf '\nThe pass key is ' | mambyte -n 5 --temp=0 \
			-m ./key.safetensors --load-state=$seed.state)
		test "$answer" = "$(cat $seed.key)" && right=$((right + 1))
	done
	printf 'key\t%s\t%s\n' $distance $right
	from=$distance distance=$((distance * 4))
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
