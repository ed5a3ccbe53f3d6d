#!/bin/sh
# cli_state.sh -- a stream that is saved and goes on.
#
# SPDX-License-Identifier: MIT
# shellcheck source=tests/cli.sh
. "${srcdir:?}/tests/cli.sh"
real=$MAMBYTE_MODEL
export MAMBYTE_MODEL="$tiny"

head -c 3000 "$MAMBYTE" >text
head -c 1234 text >begin
tail -c +1235 text >end

# Reading in two halves is reading at once.
"$MAMBYTE" -n 0 --save-state=half.state begin || bad "saving"
"$MAMBYTE" -n 0 --save-state=whole.state text
"$MAMBYTE" -n 0 --load-state=half.state --save-state=both.state end
same_files "two halves" whole.state both.state
"$MAMBYTE" -n 200 text >expected
"$MAMBYTE" -n 200 --load-state=half.state end >out
same_files "what follows two halves" expected out
"$MAMBYTE" -n 200 --load-state=whole.state /dev/null >out
same_files "what follows a state" expected out

# So is writing.
"$MAMBYTE" -n 77 --save-state=77.state text >out
"$MAMBYTE" -n 123 --load-state=77.state /dev/null >>out
same_files "77 bytes and 123" expected out
"$MAMBYTE" -n 0 --load-state=whole.state --save-state=read.state expected
"$MAMBYTE" -n 200 --save-state=written.state text >out
same_files "bytes written and bytes read" read.state written.state

# The state has read what was written, not the stop string, nor half a
# character.
stop=$(LC_ALL=C tr -cd '[:lower:]' <expected | head -c 1)
"$MAMBYTE" -n 2000 --stop="$stop" --save-state=stop.state text >out
"$MAMBYTE" -n 0 --load-state=whole.state --save-state=read.state out
same_files "the state after --stop" read.state stop.state
for n in 1 2 3 4 5 50; do
	# A byte that begins a character, and nothing after it.
	printf '\303' | "$MAMBYTE" -n $n --utf8 --save-state=utf8.state >out
	"$MAMBYTE" -n 20 --load-state=utf8.state /dev/null >from.state
	test -s from.state || bad "the state after --utf8 -n $n"
done

# Other modes save and load, too.
for mode in --perplexity --score --surprisal --color; do
	"$MAMBYTE" $mode --save-state=mode.state begin >out
	same_files "$mode --save-state" half.state mode.state
	"$MAMBYTE" $mode --load-state=half.state --save-state=mode.state end >out
	same_files "$mode --load-state" whole.state mode.state
done
"$MAMBYTE" --surprisal text | tail -n +1235 | cut -f 2- >expected
"$MAMBYTE" --surprisal --load-state=half.state end | cut -f 2- >out
same_files "surprisal in two halves" expected out
"$MAMBYTE" --perplexity --load-state=half.state end end >out
same "each file goes on from the state" 2 \
	"$(grep '^end' out | uniq -c | awk '{ print $1 }')"

# Threads and devices do not matter.
"$MAMBYTE" -T 1 -n 0 --save-state=one.state text
same_files "one thread" whole.state one.state

# What is no state of this model is refused, and nothing is written.
head -c 100 whole.state >short.state
run "$MAMBYTE" --load-state=short.state text
same "a truncated state" "1 0" "$status $(wc -c <out | xargs)"
grep -q '^mambyte: short.state: ' err || bad "no sentence: $(cat err)"
(head -c 500 whole.state; printf X; tail -c +502 whole.state) >flipped.state
run "$MAMBYTE" --load-state=flipped.state text
same "a flipped state" "1 0" "$status $(wc -c <out | xargs)"
run "$MAMBYTE" -m "$real" --load-state=whole.state text
same "a state of another model" "1 0" "$status $(wc -c <out | xargs)"
grep -q 'another model' err || bad "no sentence: $(cat err)"
refuses 1 "missing: No such file or directory" \
	"$MAMBYTE" --load-state=missing text

# Standard input gives a state, or a text.
for mode in "-n 20" "-n 20 --utf8" --score --surprisal --perplexity --next; do
	# shellcheck disable=SC2002,SC2086
	{
		"$MAMBYTE" $mode --load-state=half.state -f \
			--save-state=file.state end >expected
		cat half.state | "$MAMBYTE" $mode --load-state=- -f \
			--save-state=input.state end >out
	}
	same_files "$mode after a state from a pipe" expected out
	same_files "the state of that" file.state input.state
done
head -c 100 half.state >short.state
refuses 1 "standard input: state snapshot is truncated: 100 bytes, expected $(
	wc -c <half.state | xargs)" "$MAMBYTE" --load-state=- text <short.state
refuses 2 "standard input can be read only once" \
	"$MAMBYTE" --load-state=- <half.state

# A state is saved only if everything before it went well.
cp half.state good.state
for mode in --perplexity --score --surprisal; do
	for files in "missing" "missing begin" "begin missing"; do
		# shellcheck disable=SC2086
		run "$MAMBYTE" $mode --save-state=good.state $files
		same "$mode of $files" 1 "$status"
		same "sentences of $mode $files" \
			"mambyte: missing: No such file or directory
mambyte: good.state: not written, since a file could not be read" "$(cat err)"
		same_files "$mode of $files" half.state good.state
	done
done

# Saving fails whole.
refuses_save()
{
	run "$MAMBYTE" -n 0 --save-state="$1" begin
	same "saving to $1" 1 "$status"
	grep -q "^mambyte: $1" err || bad "no sentence: $(cat err)"
}
refuses_save nowhere/x.state
refuses_save /dev/full
refuses_save .
same "nothing is left behind" "" "$(find . -name '*.state?*' -print)"
"$MAMBYTE" -n 0 --save-state=/dev/stdout begin | cmp - half.state ||
	bad "--save-state=/dev/stdout"

finish
