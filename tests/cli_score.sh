#!/bin/sh
# cli_score.sh -- records as they end, bytes, colours.
#
# SPDX-License-Identifier: MIT
# shellcheck source=tests/cli.sh
. "${srcdir:?}/tests/cli.sh"

# The real model finds the odd one out.
printf 'GET /index.html 200\nGET /index.html 200\nGET /x?q=%%00zQ 500\n' >log
bits=$("$MAMBYTE" --score log | cut -f 1 | sed 's/\..*//' | xargs)
same "bits of a log" "46 5 73" "$bits"
same "--threshold" "GET /x?q=%00zQ 500" \
	"$("$MAMBYTE" --score --threshold=40 log | tail -n 1 | cut -f 4)"

export MAMBYTE_MODEL="$tiny"
printf 'first\n\nthird\twith tab\nno end' >text
run "$MAMBYTE" --score text
same status 0 $status
same "bytes" "6 1 15 6" "$(cut -f 2 out | xargs)"
same "records" "first

third${TAB}with tab
no end" "$(cut -f 4- out)"
awk -F '\t' '($3 - $1 / $2) ^ 2 > 1e-10' out >wrong
same "bits per byte" "" "$(cat wrong)"
cp out scores

# The bits of a record are those of its bytes.
"$MAMBYTE" --surprisal text >bytes
same "offsets" "$(seq 0 27)" "$(cut -f 1 bytes)"
same "values" "$(od -An -v -tu1 text | xargs)" "$(cut -f 2 bytes | xargs)"
awk -F '\t' '
	FILENAME == "bytes" { sum += $3; if ($2 == 10) sums[n++] = sum }
	FILENAME == "bytes" && $2 == 10 { sum = 0 }
	FILENAME == "scores" {
		if (FNR > n) sums[FNR - 1] = sum
		if ((sums[FNR - 1] - $1) ^ 2 > 1e-8) print FNR, $1, sums[FNR - 1]
	}' bytes scores >wrong
same "--score against --surprisal" "" "$(cat wrong)"
same "--surprisal against --perplexity" \
	"$("$MAMBYTE" --perplexity text | awk '{ printf "%.3f\n", $3 }')" \
	"$(awk '{ sum += $3 } END { printf "%.3f\n", sum }' bytes)"

# NUL-terminated records, in and out; any bytes.
printf 'one\nline\000\377\300\000\000tail' >nul
run "$MAMBYTE" --score -0 nul
same "bytes" "9 3 1 4" "$(tr '\n\000' '_\n' <out | cut -f 2 | xargs)"
printf 'one\nline\000\377\300\000\000tail\000' >expected
LC_ALL=C tr '\n' '_' <out | tr '\000' '\n' | cut -f 4- | tr '\n' '\000' |
	tr '_' '\n' >actual
same_files "NUL-terminated records" expected actual
same "--null" "$(cksum <out)" "$("$MAMBYTE" --score --null nul | cksum)"

# JSON: what is not UTF-8 becomes U+FFFD, what controls is escaped.
printf 'a"\\\t\033\177\377\303\251\n' >odd
run "$MAMBYTE" --score --json text odd
same "keys" "file offset bytes bits bits_per_byte record" \
	"$(head -n 1 out | grep -o '"[a-z_]*":' | tr -d '":' | xargs)"
same "offsets" "0 6 7 22 0" \
	"$(sed 's/.*"offset":\([0-9]*\).*/\1/' out | xargs)"
replacement=$(printf '\357\277\275')
same "strings" "\"a\\\"\\\\\\t\\u001b\\u007f${replacement}$(printf '\303\251')\"}" \
	"$(tail -n 1 out | sed 's/.*"record"://')"
run "$MAMBYTE" --surprisal --json one-byte
same "a missing file" 1 "$status"
printf x >one-byte
same "a byte in JSON" \
	"{\"file\":\"one-byte\",\"offset\":0,\"byte\":120,\"bits\":$(
		"$MAMBYTE" --surprisal one-byte | cut -f 3)}" \
	"$("$MAMBYTE" --surprisal --json one-byte)"

# Context: carried, a record depends on those before; reset, on none.
i=0
while [ $i -lt 200 ]; do
	echo "record $((i % 3))"
	i=$((i + 1))
done >records
run "$MAMBYTE" --score --context=reset records
same "reset" 3 "$(sort -u out | wc -l | xargs)"
same "a record alone" "$("$MAMBYTE" --score records | head -n 1)" \
	"$(head -n 1 out)"
"$MAMBYTE" --score --context=carry records >carried
same "carry" 200 "$(sort -u carried | wc -l | xargs)"
"$MAMBYTE" --score records | cmp - carried || bad "carry is the default"

# However the input arrives, the lines are the same.
for context in carry reset; do
	"$MAMBYTE" --score --context=$context records >whole
	(
		head -c 7 records
		sleep 0.3
		tail -c +8 records | head -c 700
		sleep 0.3
		tail -c +708 records | dd bs=1 2>dd.err
	) | "$MAMBYTE" --score --context=$context >pieces
	same_files "pieces, $context" whole pieces
done

# Live: a record is written before the next one comes.
: >live
mkfifo pipe
"$MAMBYTE" --score <pipe >live &
exec 3>pipe
for line in alpha beta gamma; do
	echo $line >&3
	wait_for grep -q $line live || break
done
printf 'unfinished' >&3
sleep 0.5
grep -q unfinished live && bad "a record was written before its end"
exec 3>&-
wait $! || bad "status of the live run"
grep -q unfinished live || bad "the last record is missing"

# A file that grows, through tail -f.
echo first >growing
tail -f growing >pipe 2>tail.err &
tail_pid=$!
"$MAMBYTE" --score <pipe >live &
wait_for grep -q first live
echo second >>growing
wait_for grep -q second live
kill $tail_pid
wait $! || bad "status after tail -f"
same "tail -f" "first second" "$(cut -f 4 live | xargs)"

# A huge record: scored whole, its text cut at 256 KiB.
"$MAKE_MODEL" --d-model=8 --n-layer=1 --d-inner=8 --d-state=4 --dt-rank=4 \
	nano.safetensors || bad "no nano model"
head -c 300000 /dev/zero | tr '\000' 'x' >huge
run "$MAMBYTE" -m ./nano.safetensors --score huge
same "bytes of a huge record" 300000 "$(cut -f 2 out)"
same "text of a huge record" 262145 "$(cut -f 4 out | wc -c | xargs)"

# Memory does not grow with the input, nor with a record.
if test "${MAMBYTE_SLOW:-0}" = 1 && test -z "${MAMBYTE_SANITIZED:-}"; then
	head -c 50000000 /dev/zero >large
	for mode in --perplexity --score; do
		(
			ulimit -v 300000
			"$MAMBYTE" --device=cpu -T 1 -m ./nano.safetensors $mode <large
		) >out
		same "bytes of 50 MB, $mode" 50000000 \
			"$(cut -f 2 out | tr -d '\000')"
	done
fi

# Of several files each line has the name.
printf 'one\ntwo\n' >a
printf 'three' >b
for mode in --score --surprisal; do
	"$MAMBYTE" $mode a >alone.a
	"$MAMBYTE" $mode b >alone.b
	"$MAMBYTE" $mode a b >out
	(sed "s/^/a$TAB/" alone.a && sed "s/^/b$TAB/" alone.b) >expected
	same_files "$mode of two files" expected out
done

# Colours: the text is unchanged, nothing commands the terminal, and the
# colour is taken back.
printf 'caf\303\251\t\033[2J\302\233\000\377\303' >colours
"$MAMBYTE" --color colours | LC_ALL=C sed 's/\x1b\[[0-9;]*m//g' >out
printf 'caf\303\251\t\\x1B[2J\\xC2\\x9B\\x00\\xFF\\xC3' >expected
same_files "--color" expected out
same "the end" "$(printf '\033[0m')" "$("$MAMBYTE" --color colours | tail -c 4)"

finish
