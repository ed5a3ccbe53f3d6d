#!/bin/sh
# cli_perplexity.sh -- a line a file, and the total.
#
# SPDX-License-Identifier: MIT
# shellcheck source=tests/cli.sh
. "${srcdir:?}/tests/cli.sh"

# The real model: the same digits on every machine.
printf 'The cat sat on the mat.\n' >cat.txt
run "$MAMBYTE" --perplexity cat.txt
same "cat.txt" "cat.txt${TAB}24${TAB}52.569871" "$(cut -f 1-3 out)"

export MAMBYTE_MODEL="$tiny"
: >empty
printf x >one
printf 'two words\n' >two
head -c 3000 "$MAMBYTE" >binary
printf 'a\000b\377\300\n' >bytes
printf ' \t\n' >blank

run "$MAMBYTE" --perplexity empty one two binary bytes
same status 0 "$status"
same "nothing on stderr" "" "$(cat err)"
same "names" "empty one two binary bytes total" "$(cut -f 1 out | xargs)"
same "bytes" "0 1 10 3000 6 3017" "$(cut -f 2 out | xargs)"
same "an empty file" "empty${TAB}0${TAB}0.000000${TAB}0.000000${TAB}1.000000" \
	"$(head -n 1 out)"
awk -F '\t' '
	NF != 5 { print "columns: " $0 }
	$2 > 0 && ($4 - $3 / $2) ^ 2 > 1e-10 { print "bits per byte: " $0 }
	{ p = exp($4 * log(2)) }
	($5 / p - 1) ^ 2 > 1e-8 { print "perplexity: " $0 }
	$1 != "total" { sum += $3 }
	$1 == "total" && (sum - $3) ^ 2 > 1e-8 { print "total: " $0 }
' out >wrong
same "arithmetic" "" "$(cat wrong)"

# A file gives the same line alone, with others, from a pipe, as "-".
cp out together
for file in empty one two binary bytes; do
	"$MAMBYTE" --perplexity $file
done >alone
sed '$d' together | cmp - alone || bad "alone and together differ"
"$MAMBYTE" --perplexity <binary | sed 's/^-/binary/' >piped
grep '^binary' alone | cmp - piped || bad "a pipe and a file differ"
same "- among files" "one - two total" \
	"$("$MAMBYTE" --perplexity one - two <bytes | cut -f 1 | xargs)"
same "threads" "$(cat together)" \
	"$("$MAMBYTE" -T 1 --perplexity empty one two binary bytes)"

# More files than are read together, in order.
i=0
while [ $i -lt 150 ]; do
	printf '%s' "file number $i" >many.$i
	echo many.$i
	i=$((i + 1))
done >names
xargs "$MAMBYTE" --perplexity <names >out
cut -f 1 out | sed '$d' | cmp - names || bad "150 files are out of order"
same "total of 150" 2140 "$(tail -n 1 out | cut -f 2)"
same "the 150th" "$("$MAMBYTE" --perplexity many.149)" \
	"$(tail -n 2 out | head -n 1)"

# Words are those of Python's str.split().
printf 'one two\n\n\tthree\r\n' >words
printf 'a\302\240b\343\200\200c \342\200\203d\302x' >wide
run "$MAMBYTE" --perplexity --words words wide blank empty
same "words" "3 4 0 0 7" "$(cut -f 6 out | xargs)"
awk -F '\t' '
	NF != 7 { print "columns: " $0 }
	$1 == "words" && ($7 / exp($3 * log(2) / $6) - 1) ^ 2 > 1e-8 { print }
	$1 == "blank" && $7 != "inf" { print }
	$1 == "empty" && $7 != "1.000000" { print }
' out >wrong
same "perplexity a word" "" "$(cat wrong)"

run "$MAMBYTE" --perplexity --json --words one blank
one=$("$MAMBYTE" --perplexity --words one)
same "JSON" "$(printf '%s\n' "$one" | awk -F '\t' '{
	printf "{\"file\":\"one\",\"bytes\":%s,\"bits\":%s,", $2, $3
	printf "\"bits_per_byte\":%s,\"perplexity\":%s,", $4, $5
	printf "\"words\":%s,\"word_perplexity\":%s}\n", $6, $7 }')" \
	"$(head -n 1 out)"
same "infinity in JSON" 1 "$(grep -c '"word_perplexity":null}$' out)"
same "a total in JSON" 1 "$(grep -c '^{"files":2,"bytes":4,' out)"

# What cannot be read is reported, and the rest is done.
run "$MAMBYTE" --perplexity one missing . two
same "status" 1 "$status"
same "names" "one two total" "$(cut -f 1 out | xargs)"
same "sentences" "mambyte: missing: No such file or directory
mambyte: .: is a directory, not a file" "$(cat err)"

# Fewer are open together where there are few descriptors.
mkdir many
for i in 1 2 3 4 5 6; do
	for k in 1 2 3 4 5 6 7 8; do
		echo $k >many/$i$k
	done
done
# shellcheck disable=SC2016
run sh -c 'ulimit -n 40 && exec "$@"' sh "$MAMBYTE" --perplexity many/*
same "many files within few descriptors" "0 49" \
	"$status $(wc -l <out | xargs)"

# The locale changes nothing.
LC_ALL=de_DE.UTF-8 "$MAMBYTE" --perplexity one >out
printf '%s\n' "$one" | cut -f 1-5 | cmp - out || bad "the locale matters"

# Progress goes to stderr, and is quiet unless asked for.  A long name loses its
# end, but not half of a character.
head -c 100000 /dev/zero >zeros
run "$MAMBYTE" --perplexity zeros
same "no progress in a pipe" "" "$(cat err)"
nineteen=ééééééééééééééééééé
mkfifo pipe "a$nineteen$nineteen"
# shellcheck disable=SC2317 # through wait_for
more()
{
	printf a >&3
	test -s err
}
# progress_names NAME PIPE FILE -- while FILE reads what comes through PIPE
progress_names()
{
	"$MAMBYTE" --perplexity --progress "$3" <pipe >out 2>err &
	exec 4>pipe 3>"$2"
	wait_for more
	exec 3>&- 4>&-
	wait $! || bad "status of --progress $3"
	same "progress of $3" "$1" "$(sed -n '1s/:.*//p' err)"
}
progress_names "standard input" pipe -
progress_names "a$nineteen" "a$nineteen$nineteen" "a$nineteen$nineteen"

finish
