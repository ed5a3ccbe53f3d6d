#!/bin/sh
# cli_generate.sh -- the continuation of an input.
#
# SPDX-License-Identifier: MIT
# shellcheck source=tests/cli.sh
. "${srcdir:?}/tests/cli.sh"

# The real model writes English, the same on every machine.
printf 'Once upon a time' >once
run "$MAMBYTE" -n 40 --temp=0 once
same "status" 0 "$status"
same "Once upon a time" " when the server is started and the serv" "$(cat out)"

export MAMBYTE_MODEL="$tiny"
printf 'a prompt\000\377' >prompt

# So many bytes, the same each time, whatever the threads.
run "$MAMBYTE" prompt
same "status" 0 "$status"
same "quiet" "" "$(cat err)"
same "256 bytes by default" 256 "$(wc -c <out | xargs)"
cp out expected
"$MAMBYTE" -T 1 --device=cpu <prompt >out
same_files "from stdin, one thread" expected out
"$MAMBYTE" -n 100 - <prompt >out
head -c 100 expected | cmp - out || bad "-n 100 is not the start of 256"
"$MAMBYTE" --bytes=1K prompt | head -c 256 >out
same_files "--bytes=1K" expected out
same "1K" 1024 "$("$MAMBYTE" -n 1K prompt | wc -c | xargs)"
same "-n 0" "" "$("$MAMBYTE" -n 0 prompt)"

# Several files are one input; so is it from a slow pipe.
head -c 3 prompt >part1
tail -c +4 prompt >part2
"$MAMBYTE" part1 - <part2 >out
same_files "two parts" expected out
(cat part1; sleep 0.3; cat part2) | "$MAMBYTE" >out
same_files "a slow pipe" expected out
"$MAMBYTE" -- prompt >out
same_files "--" expected out

# No input at all.
run "$MAMBYTE" -n 10 /dev/null
same "an empty prompt" 10 "$(wc -c <out | xargs)"

"$MAMBYTE" --echo prompt >out
cat prompt expected | cmp - out || bad --echo

# Sampling.
for options in --seed=1 --temp=0 --temp=2 --top-k=3 --top-p=0.1 --min-p=0.9
do
	"$MAMBYTE" $options prompt >out
	cmp -s expected out && bad "$options changes nothing"
	cp out again
	"$MAMBYTE" $options prompt | cmp - again || bad "$options is not repeatable"
done
"$MAMBYTE" --temp=0 prompt >greedy
"$MAMBYTE" --temp=0 --seed=9 prompt | cmp - greedy || bad "--temp=0 and a seed"
"$MAMBYTE" --top-k=1 prompt | cmp - greedy || bad "--top-k=1 is --temp=0"
"$MAMBYTE" --min-p=1 prompt | cmp - greedy || bad "--min-p=1 is --temp=0"
"$MAMBYTE" --temp=0.8 --top-k=256 --top-p=1 --min-p=0 --seed=0 prompt >out
same_files "the defaults" expected out
"$MAMBYTE" -v --seed=random prompt >random 2>err
seed=$(sed -n 's/^mambyte: seed //p' err)
"$MAMBYTE" --seed="$seed" prompt >out
same_files "the seed that -v reports" random out

# Stop strings: the first that appears ends the output, and is left out.
stop=$(LC_ALL=C tr -cd '[:lower:]' <expected | head -c 1)
"$MAMBYTE" -n 2000 prompt >long
"$MAMBYTE" -n 2000 --stop="$stop" --stop=never-to-be-seen prompt >out
n=$(wc -c <out)
head -c "$n" long | cmp - out || bad "--stop changes the bytes before it"
same "the byte after a stop" "$stop" "$(tail -c +$((n + 1)) long | head -c 1)"
LC_ALL=C grep -q "$stop" out && bad "the stop string was written"
"$MAMBYTE" -n 2000 --stop=never-to-be-seen prompt >out
same_files "a stop string that does not appear" long out

# --utf8: whole characters, whatever the model does.
"$MAMBYTE" -n 2000 --utf8 prompt >out
iconv -f UTF-8 -t UTF-8 out >/dev/null || bad "--utf8 is not UTF-8"
same "something was written" 1 $(($(wc -c <out) > 2000))

# A reader that leaves early is no error of ours.
"$MAMBYTE" -n 1M prompt | head -c 10 >out
head -c 10 expected | cmp - out || bad "| head"

# It comes as it is made: the reader has 100 bytes long before the end.
mkfifo pipe
"$MAMBYTE" -n 1G prompt >pipe &
pid=$!
dd if=pipe bs=1 count=100 of=first 2>dd.err
head -c 100 expected | cmp - first || bad "a live reader"
kill $pid 2>kill.err
wait $pid
same "it did not come to its end" 1 $(($? > 128))

finish
