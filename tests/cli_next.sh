#!/bin/sh
# cli_next.sh -- the most likely next bytes.
#
# SPDX-License-Identifier: MIT
# shellcheck source=tests/cli.sh
. "${srcdir:?}/tests/cli.sh"

# The real model knows how tales begin.
printf 'Once upon a tim' >tale
run "$MAMBYTE" --next=1 tale
same "Once upon a tim" "0 101" "$status $(cut -f 1 out)"

export MAMBYTE_MODEL="$tiny"
printf 'a prompt' >prompt

# Ten bytes by default, K of them, all.
run "$MAMBYTE" --next prompt
same "status and stderr" "0 " "$status $(cat err)"
same "lines" 10 "$(wc -l <out | xargs)"
"$MAMBYTE" --next=256 <prompt >all
same "lines" 256 "$(wc -l <all | xargs)"
head -n 10 all | cmp - out || bad "ten are not the first of all"
same "bytes" "$(seq 0 255)" "$(cut -f 1 all | sort -n)"

# A distribution: sorted, probabilities that sum to 1 and fit the bits.
cut -f 3 all | sort -c -g || bad "the bits do not rise"
awk -F '\t' '
	{ sum += 2 ^ -$3; wrong += ($2 - 2 ^ -$3) ^ 2 > 1e-11 }
	END { print (sum - 1) ^ 2 < 1e-10, wrong + 0 }' all >sums
same "sum and probabilities" "1 0" "$(cat sums)"

# The bits are those of --surprisal, the first byte is that of --temp=0.
for byte in 101 000 177; do
	{
		cat prompt
		printf '%b' "\\0$byte"
	} >longer
	value=$(tail -c 1 longer | od -An -tu1 | xargs)
	same "bits of byte $value" \
		"$("$MAMBYTE" --surprisal longer | tail -n 1 | cut -f 3)" \
		"$(awk -v byte="$value" '$1 == byte { print $3 }' all)"
done
same "the first byte" \
	"$("$MAMBYTE" -n 1 --temp=0 prompt | od -An -tu1 | xargs)" \
	"$(head -n 1 all | cut -f 1)"

# A temperature: 1 is the default, a lower one makes the first byte likelier.
"$MAMBYTE" --next=256 --temp=1 prompt | cmp - all || bad "--temp=1"
likelier=$("$MAMBYTE" --next=1 --temp=0.5 prompt | cut -f 3)
awk -v a="$likelier" -v b="$(head -n 1 all | cut -f 3)" 'BEGIN { exit a >= b }' ||
	bad "--temp=0.5 does not make the first byte likelier"
for temp in 1e-30 100; do
	"$MAMBYTE" --next=256 --temp=$temp prompt >scaled
	same "order at temperature $temp" "$(cut -f 1 all)" "$(cut -f 1 scaled)"
	grep -E 'inf|nan' scaled && bad "numbers at temperature $temp"
done
refuses 2 "--temp=0 does not go with --next" "$MAMBYTE" --next --temp=0 prompt
refuses 2 "--next: 'x' is not a whole number" "$MAMBYTE" --next=x prompt

# Each file is a stream of its own, an empty one too; a missing one is told.
: >empty
run "$MAMBYTE" --next=2 prompt missing empty
same "a missing file" "1 mambyte: missing: No such file or directory" \
	"$status $(cat err)"
same "two files" "$(head -n 2 all; "$MAMBYTE" --next=2 </dev/null)" \
	"$(cut -f 2- out)"
same "their names" "prompt
prompt
empty
empty" "$(cut -f 1 out)"

# JSON.
run "$MAMBYTE" --next=1 --json prompt empty
first=$(head -n 1 all)
same "JSON" "{\"file\":\"prompt\",\"offset\":8,\"byte\":$(
	echo "$first" | cut -f 1),\"probability\":$(
	echo "$first" | cut -f 2),\"bits\":$(echo "$first" | cut -f 3)}" \
	"$(head -n 1 out)"
same "offset in an empty file" 0 \
	"$(sed -n '2s/.*"offset":\([0-9]*\).*/\1/p' out)"

# From a saved state, and to one.
"$MAMBYTE" --next=1 --save-state=prompt.state prompt >out
"$MAMBYTE" -n 0 --save-state=same.state prompt
same_files "--save-state" same.state prompt.state
"$MAMBYTE" --next=256 --load-state=prompt.state empty | cmp - all ||
	bad "--load-state"

finish
