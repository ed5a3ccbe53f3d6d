#!/bin/sh
# cli_classify.sh -- labels of records, by a head and by states; features.
#
# SPDX-License-Identifier: MIT
#
# shellcheck source=tests/cli.sh
. "${srcdir:?}/tests/cli.sh"
: "${MAMBYTE_TRAIN:?}"
weights=$MAMBYTE_MODEL

# ---- the head that ships

if test -e "$srcdir/weights/language.head"; then
	cat >lines <<-'END'
	Ceci est une phrase tout à fait ordinaire, écrite en français.
	Dies ist ein ganz gewöhnlicher Satz in deutscher Sprache.
	SELECT name, count(*) FROM users WHERE id > 3 GROUP BY name;
	def main(self): return [x for x in self.items if x is not None]
	END
	"$MAMBYTE" --classify="$srcdir/weights/language.head" --no-text lines \
		>out
	same "languages" "fr de code:sql code:python" "$(cut -f 1 out | xargs)"
	mkdir -p bin weights
	cp "$MAMBYTE" bin/mambyte
	cp "$srcdir/weights/language.head" weights
	cp "$weights" weights/mambyte-27m.safetensors
	MAMBYTE_MODEL='' bin/mambyte --classify=language --no-text lines |
		cmp - out || bad "a head by its name"
	same "--list-models" "language" \
		"$(bin/mambyte --list-models | grep '\.head$' | cut -f 1)"
	rm -r bin weights
	cut -f 2 "$srcdir/tests/text/languages.tsv" >sentences
	MAMBYTE_MODEL="$tiny" "$MAMBYTE" --classify="$srcdir/weights/language.head" \
		sentences | cut -f 1,3 >out
	same_files "a sentence of each language, with any model" \
		"$srcdir/tests/text/languages.tsv" out
fi

# ---- a damaged one, which shows when its grams are needed

echo 'some words, and some more' >line
heads=$srcdir/tests/fuzz_corpus/fuzz_linear_classifier
run "$MAMBYTE" --classify="$heads/good-grams.head" line
same "one that is whole" "0 1" "$status $(wc -l <out | xargs)"
for head in pairs leaves words; do
	refuses 1 "the head is damaged: its grams cannot be decoded" \
		"$MAMBYTE" --classify="$heads/bad-gram-$head.head" line
done

# ---- a small one

export MAMBYTE_MODEL="$tiny"
write_labels >labels
"$MAMBYTE_TRAIN" -q --head labels -o small.head >report || bad "no head"

printf '12345 6789\n\nabcde zyx\twith tab\n99 no end' >text
run "$MAMBYTE" --classify=small.head text
same status "0 " "$status $(cat err)"
same "labels" "digits - letters digits" "$(cut -f 1 out | xargs)"
same "an empty record" "-${TAB}0.000000${TAB}" "$(sed -n 2p out)"
same "records" "$(cat text)" "$(cut -f 3- out)"
awk -F '\t' '$2 < 0 || $2 > 1' out >wrong
same "probabilities" "" "$(cat wrong)"
cp out labelled
same "--no-text" "$(cut -f 1,2 labelled)" \
	"$("$MAMBYTE" --classify=small.head --no-text text)"

run "$MAMBYTE" --classify=./small.head --top=2 text
same "--top" "2" "$(head -n 1 out | cut -f 1,3 | tr "$TAB" '\n' | sort -u |
	grep -c -e digits -e letters)"
same "sums" "" "$(awk -F '\t' 'NR != 2 && ($2 + $4 - 1) ^ 2 > 1e-9' out)"
same "the likelier first" "" "$(awk -F '\t' '$2 < $4' out)"
same "more than there are" "$(cat out)" \
	"$("$MAMBYTE" --classify=./small.head --top=9 text)"
same "--threshold" "- - - -" \
	"$("$MAMBYTE" --classify=small.head --threshold=1 text |
		awk -F '\t' '{ print $2 == "1.000000" ? "-" : $1 }' | xargs)"

run "$MAMBYTE" --classify=small.head --json text
same "keys" "file offset bytes label probability record" \
	"$(head -n 1 out | grep -o '"[a-z_]*":' | tr -d '":' | xargs)"
same "offsets" "0 11 12 31" "$(sed 's/.*"offset":\([0-9]*\).*/\1/' out | xargs)"
same "--json --top" 1 "$("$MAMBYTE" --classify=small.head --json --top=2 text |
	head -n 1 | grep -c '"probabilities":{"digits":[0-9.]*,"letters":')"

"$MAMBYTE_TRAIN" -q --no-features --head labels -o plain.head >report ||
	bad "no head without features"
"$MAMBYTE" --classify=plain.head --no-text text >out
same "without features" "digits - letters digits" "$(cut -f 1 out | xargs)"
"$MAKE_MODEL" --d-model=64 --n-layer=2 --seed=3 third.safetensors
"$MAMBYTE" -m ./third.safetensors -T 3 --classify=plain.head --no-text text |
	cmp - out || bad "another model than none"
dd bs=1 <text 2>dd.err | "$MAMBYTE" --classify=plain.head --no-text |
	cmp - out || bad "without features, byte by byte"
"$MAMBYTE" -m ./missing.safetensors --classify=plain.head --no-text text |
	cmp - out || bad "a model is opened, although none is needed"
run "$MAMBYTE" -v --classify=plain.head --eval labels
same "a note" "no model is needed" "$(sed -n 's/^mambyte: no/no/p' err)"
same "--eval without a model" "accuracy${TAB}1.0000" "$(sed -n 2p out)"

tr '\n' '\000' <text >nul
"$MAMBYTE" --classify=small.head -0 nul | tr '\000' '\n' >out
same "-0" "$(cat labelled)" "$(sed '$d' out; tail -n 1 out)"

run "$MAMBYTE" --classify=small.head --whole text labels /dev/null
same "--whole" "text labels /dev/null" "$(cut -f 3 out | xargs)"
same "an empty file" "-" "$(tail -n 1 out | cut -f 1)"
head -c 700000 /dev/zero | tr '\000' 7 >large
run "$MAMBYTE" -m "$tiny" --classify=small.head large
same "a large record" 262144 "$(cut -f 3 out | tr -d '\n' | wc -c | xargs)"
same "the same, whole" "$(cut -f 1,2 out)" \
	"$("$MAMBYTE" --classify=small.head --whole large | cut -f 1,2)"

# Whatever the machine, the records beside it, and how the input arrives.
cut -f 2 labels >records
"$MAMBYTE" --classify=small.head records >whole
for level in scalar avx2; do
	has_level $level || continue
	MAMBYTE_CPU=$level "$MAMBYTE" --device=cpu -T 3 \
		--classify=small.head records >other || bad "labels by $level"
	same_files "$level" whole other
done
(
	head -c 7 records
	sleep 0.3
	tail -c +8 records | head -c 700
	sleep 0.3
	tail -c +708 records | dd bs=1 2>dd.err
) | "$MAMBYTE" --classify=small.head >pieces
same_files "pieces" whole pieces
while read -r record; do
	printf '%s' "$record" | "$MAMBYTE" --classify=small.head
done <records | head -n 20 >alone
same "alone" "$(head -n 20 whole)" "$(cat alone)"

# Live: a label is written before the next record comes.
: >live
mkfifo pipe
"$MAMBYTE" --classify=small.head <pipe >live &
exec 3>pipe
for line in 1111 abcd 2222; do
	echo $line >&3
	wait_for grep -q $line live || break
done
exec 3>&-
wait $! || bad "status of the live run"
same "live" "1111 abcd 2222" "$(cut -f 3 live | xargs)"

# ---- evaluation

run "$MAMBYTE" --classify=small.head --eval labels
same "status" "0 " "$status $(cat err)"
same "figures" "records 120 accuracy 1.0000 macro_f1 1.0000" \
	"$(head -n 3 out | xargs)"
printf 'letters\t123 456\ndigits\t111 222\nthird\tabc zyx\n' >odd
run "$MAMBYTE" --classify=small.head --eval odd
same "one of three" "records 3 accuracy 0.3333 macro_f1 0.2222" \
	"$(head -n 3 out | xargs)"
same "the matrix" "label digits letters - digits 1 0 0 letters 1 0 0 third 0 \
1 0" "$(tail -n 4 out | xargs)"

# ---- states

cut -f 2 labels | grep '^[0-9]' >digits.txt
cut -f 2 labels | grep '^[a-z]' >letters.txt
mkdir states
export MAMBYTE_MODEL="$weights"
"$MAMBYTE" -n 0 --save-state=states/digits.state <digits.txt
"$MAMBYTE" -n 0 --save-state=letters <letters.txt
printf '554433 7331030 2\n\ncbjhjbaehcj zyx\n' >alike
run "$MAMBYTE" --classify=states/digits.state,letters alike
same "by states" "digits - letters" "$(cut -f 1 out | xargs)"
run "$MAMBYTE" --classify=states/digits.state,letters --prior=1,1e-9 text
same "--prior" "digits" "$(sed -n 4p out | cut -f 1)"
run "$MAMBYTE" --classify=letters,states/digits.state --eval odd
same "--eval by states" "accuracy${TAB}0.3333" "$(sed -n 2p out)"
for prior in 1 "1," 1,0 1,-1 1,0x1 "1, 1" 1,inf 1,1e400 1,1e31 1,2,3 1,2x; do
	refuses 2 "--prior needs 2 numbers from 1e-30 to 1e30, with commas \
between" "$MAMBYTE" --classify=letters,states/digits.state --prior="$prior"
done
refuses 2 "--prior is for states, not for a head" \
	"$MAMBYTE" --classify=./small.head --prior=1,2
refuses 2 "states/digits.state: a single state leaves no choice: name several, \
with commas between" "$MAMBYTE" --classify=states/digits.state
refuses 2 "a name of a state is empty" "$MAMBYTE" --classify=letters,
refuses 2 "two states have the label 'letters'" \
	"$MAMBYTE" --classify=letters,./letters
refuses 1 "missing: No such file or directory" \
	"$MAMBYTE" --classify=letters,missing
export MAMBYTE_MODEL="$tiny"
run "$MAMBYTE" --classify=letters,states/digits.state text
same "states of another model" 1 "$status"

# ---- features

run "$MAMBYTE" --embed text
same "rows" 4 "$(wc -l <out | xargs)"
same "columns" 256 "$(head -n 1 out | awk -F '\t' '{ print NF }')"
same "--binary" 4096 "$("$MAMBYTE" --embed --binary text | wc -c | xargs)"
same "--embed --whole" 1 "$("$MAMBYTE" --embed --whole text | wc -l | xargs)"

# ---- blank records: with CRLF too, and in pieces

printf '\r\n \t\r\n12 34\r\n\r' >crlf
for head in small.head plain.head; do
	"$MAMBYTE" --classify=$head --no-text crlf >out
	same "blank records by $head" "- 0.000000 - 0.000000 digits - 0.000000" \
		"$(sed 's/\(digits\).*/\1/' out | xargs)"
	dd bs=1 <crlf 2>dd.err | "$MAMBYTE" --classify=$head --no-text |
		cmp - out || bad "blank records by $head, byte by byte"
done
same "probabilities of a blank record" '"bytes":1,"label":"-","probability":0.000000,"probabilities":{}' \
	"$("$MAMBYTE" --classify=plain.head --json --top=2 crlf |
		head -n 1 | grep -o '"bytes.*{}')"
same "blank records whose features are zeros" "1 2 4" \
	"$("$MAMBYTE" --embed crlf | grep -n -v '[1-9]' | cut -d : -f 1 | xargs)"

# ---- several files, and records without a byte

printf 'a text\n' >a
printf '\nanother' >b
"$MAMBYTE" --classify=small.head --no-text a b >out
same "names of files" "a b b" "$(cut -f 1 out | xargs)"
"$MAMBYTE" --classify=small.head --whole --no-text a b >out
same "columns of whole files" 2 "$(head -n 1 out | wc -w | xargs)"
"$MAMBYTE" --classify=small.head --json --top=2 b >out
same "probabilities of no byte" '"label":"-","probability":0.000000,"probabilities":{},' \
	"$(head -n 1 out | grep -o '"label.*},')"
same "probabilities of some" 2 \
	"$(tail -n 1 out | grep -o '{.*' | sed 's/.*ies":{//; s/}.*//' |
		tr ',' '\n' | wc -l | xargs)"

# ---- what is refused

refuses 1 "there is no head named 'nonesuch'; see --list-models" \
	"$MAMBYTE" --classify=nonesuch text
refuses 1 "./none.head: No such file or directory" \
	"$MAMBYTE" --classify=./none.head text
refuses 1 "$weights: is not a head: its metadata have no \"format\"" \
	"$MAMBYTE" --classify="$weights" text
head -c 500 small.head >short.head
run "$MAMBYTE" --classify=short.head text
same "a truncated head" 1 "$status"
"$MAKE_MODEL" --d-model=64 --n-layer=2 --seed=2 other.safetensors
run "$MAMBYTE" --info
refuses 1 "small.head: a head for another model, 'tiny' of fingerprint \
$(value fingerprint) (see --info): give it with --model" "$MAMBYTE" -m ./other.safetensors --classify=small.head text
refuses 1 "text: line 1: there is no label: a line is LABEL, a tab and TEXT, \
or __label__LABEL TEXT" "$MAMBYTE" --classify=small.head --eval text
refuses 2 "--classify needs a HEAD that is not empty" "$MAMBYTE" --classify=
refuses 2 "--threshold: a probability is at most 1" \
	"$MAMBYTE" --classify=small.head --threshold=2
refuses 2 "--eval does not go with --json, --whole, --null" \
	"$MAMBYTE" --classify=small.head --eval --json
refuses 2 "--eval takes one FILE" \
	"$MAMBYTE" --classify=small.head --eval labels odd
refuses 2 "--top needs a mode such as --classify" "$MAMBYTE" --top=2
refuses 2 "--top does not go with --embed" "$MAMBYTE" --embed --top=2
refuses 2 "--binary needs a mode such as --embed" "$MAMBYTE" --binary
run "$MAMBYTE" --classify=small.head missing text
same "a missing file" "1 4" "$status $(wc -l <out | xargs)"

finish
