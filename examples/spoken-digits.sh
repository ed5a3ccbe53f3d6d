#!/bin/sh
# spoken-digits.sh SOUNDS FOLDER [OPTION OF mambyte-train]... -- sound as bytes.
#
# SOUNDS has train/ and test/ with files DIGIT_SPEAKER_N.u8 of unsigned 8-bit
# samples, 8,000 a second, such as the Free Spoken Digit Dataset makes; those of
# test/ are by other speakers.  Trains a model on train/, unless FOLDER has it;
# then writes how many bits a sample of test/ costs, beside FLAC, and how often
# the digit is recognised, by states and by a head.  Training takes 20 s on an
# H200, and some hours on two cores; longer training overfits.
#
# SPDX-License-Identifier: MIT
set -eu

sounds=${1:?usage: spoken-digits.sh SOUNDS FOLDER [OPTION OF mambyte-train]...}
folder=${2:?usage: spoken-digits.sh SOUNDS FOLDER [OPTION OF mambyte-train]...}
shift 2
mkdir -p "$folder/train" "$folder/test"

# A newline ends a record and a NUL a document: both samples, of the loudest,
# move by one.
for part in train test; do
	for file in "$sounds/$part"/*.u8; do
		tr '\n\000' '\013\001' <"$file" >"$folder/$part/${file##*/}"
	done
done
cd "$folder"

test -e sound.safetensors || mambyte-train --d-model=192 --n-layer=6 \
	--windows=64 --length=1024 --carry=8 --steps=400 --decay=0.6 "$@" \
	--valid=test -o sound.safetensors train
MAMBYTE_MODEL=./sound.safetensors
export MAMBYTE_MODEL

cat test/* >test.u8
samples=$(wc -c <test.u8)
row()
{
	awk -v what="$1" -v n="$2" -v samples="$samples" \
		'BEGIN { printf "%s\t%.3f\n", what, 8 * n / samples }'
}
echo "bits a sample	of $samples samples"
if command -v flac >/dev/null; then
	flac -s -8 -f -o test.flac --no-padding --force-raw-format \
		--endian=little --channels=1 --bps=8 --sample-rate=8000 \
		--sign=unsigned test.u8
	row "flac -8" "$(wc -c <test.flac)"
fi
row "xz -9e" "$(xz -9e -c test.u8 | wc -c)"
mambyte --perplexity test/* |
	awk -F '\t' 'END { printf "the model\t%.3f\n", $4 }'

# A state for each digit, after all its recordings; the digit is the first
# character of a file's name.
states=
for digit in 0 1 2 3 4 5 6 7 8 9; do
	test -e $digit.state ||
		mambyte -n 0 --save-state=$digit.state train/${digit}_*
	states=$states,$digit.state
done
# A head, from labelled records.
for part in train test; do
	for file in "$part"/*; do
		digit=${file#"$part"/}
		printf '%s\t' "${digit%%_*}"
		cat "$file"
		echo
	done >$part.records
done
test -e digit.head ||
	mambyte-train -q --head=train.records -o digit.head >head.report

echo "right digits	of $(find test -type f | wc -l) recordings"
for classifier in "${states#,}" digit.head; do
	mambyte --classify="$classifier" --eval test.records |
		awk -F '\t' -v what="$classifier" '
			$1 == "accuracy" { print what, $2 }' OFS='\t'
done | sed 's/^0.state[^	]*/states/; s/^digit.head/head/'
