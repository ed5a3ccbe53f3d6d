#!/bin/sh
# cli_terminal.sh -- what others named cannot command a terminal, and the
# terminal keeps its own colour.
#
# SPDX-License-Identifier: MIT
# shellcheck source=tests/cli.sh
. "${srcdir:?}/tests/cli.sh"
export MAMBYTE_MODEL="$tiny"

ESC=$(printf '\033')
LF='
'
C1=$(printf '\302\233')
name="a${ESC}[31m$TAB${LF}b\\c${C1}é$(printf '\377')"
column='a\x1B[31m\x09\x0Ab\\c\xC2\x9Bé\xFF'
shown='a\x1B[31m\x09\x0Ab\c\xC2\x9Bé\xFF'
printf 'text\n' >"$name"

# is_clean WHAT FILE... -- text, with no control character but newline and tab.
is_clean()
{
	what=$1
	shift
	cat "$@" | grep -q . || bad "$what: nothing to look at"
	cat "$@" | tr -d '\n\t' | grep -q -e "[[:cntrl:]]" -e "$C1" &&
		bad "$what: $(cat "$@" | cat -v)"
}

# Sentences quote names, and words of the command line.
refuses 1 "$shown-: No such file or directory" "$MAMBYTE" "$name-"
refuses 2 "--temp: '$shown' is not a number" "$MAMBYTE" --temp="$name"
refuses 2 "unknown option '--$shown'" "$MAMBYTE" --"$name"
run "$MAMBYTE" -m "./$name" --info
same "status of a model with a bad name" 1 "$status"
is_clean "a model with a bad name" err
"$MAMBYTE" --progress -v --perplexity "$name" >out 2>err
is_clean "notes" err
run "$MAMBYTE_TRAIN" --steps=1 --init="$name" "$name"
is_clean "mambyte-train" err
run "$MAMBYTE_IMPORT" "$name"
is_clean "mambyte-import" err

# The name of the program is in each of them.
ln -s "$MAMBYTE" "a$ESC"
run "./a$ESC" --frobnicate
same "a bad name of the program" "a\x1B: unknown option '--frobnicate'
Try 'a\x1B --help' for more information." "$(cat err)"

# Columns: the name can be told back, and a line stays one.
"$MAMBYTE" --perplexity "$name" "$name" >out
same "--perplexity" "$column$LF$column${LF}total" "$(cut -f 1 out)"
"$MAMBYTE" -z -k "$name"
"$MAMBYTE" -l "$name.mbz" >out
same "-l" "$column.mbz" "$(sed 1d out | cut -f 7)"
for label in one two; do
	"$MAMBYTE" -n 0 --save-state="${C1}é.$label" "$name"
done
run "$MAMBYTE" --classify="${C1}é.one,${C1}é.two" --top=2 "$name"
same "--classify" '\xC2\x9Bé.one
\xC2\x9Bé.two' "$(head -n 1 out | tr '\t' '\n' | grep 'x9B' | sort)"
run "$MAMBYTE" --classify="${C1}é.one,${C1}é.two" --top=2 --json "$name"
is_clean "--json" out
"$MAMBYTE" --score --json "$name" >out
is_clean "--score --json" out
head -c 2000 /dev/zero >>"$name"
T="$MAMBYTE_TRAIN --device=cpu --d-model=16 --n-layer=1 --windows=2 --length=64"
$T --steps=2 -q --log=log -o model "$name" >out 2>err
same "mambyte-train" "$column" "$(cut -f 1 out)"
is_clean "the log" log

# Metadata, of a model and of what is none.
sed 's/"architecture"/"\\u001b[31mab"/' "$tiny" >meta.safetensors
cmp -s meta.safetensors "$tiny" && bad "no metadata were replaced"
"$MAMBYTE" -m meta.safetensors --info >out
same "a key" 'metadata          \x1B[31mab = mamba1' \
	"$(grep 31m out)"
is_clean "--info" out

# --color: the text is escaped, but newlines and tabs.
printf 'a\033b\tc\nd\302\233e\377\342\202' | "$MAMBYTE" --color >out
same "--color" "a\\x1Bb${TAB}c${LF}d\\xC2\\x9Be\\xFF\\xE2\\x82" \
	"$(sed "s/$ESC\\[[0-9;]*m//g" out)"

# A signal that stops or kills gives the terminal its own colour back; after a
# stop the text goes on in colour.
own="${ESC}[0m"
mkfifo pipe
if test -n "$default"; then
	default="env --default-signal=INT,TSTP,QUIT"
	$default "$MAMBYTE" --color pipe >out &
	pid=$!
	exec 3>pipe
	printf 'red ' >&3
	wait_for test -s out
	kill -s TSTP $pid
	wait_for sh -c "tail -c 4 out | grep -q -F '$own'"
	kill -s CONT $pid
	printf 'red ' >&3
	wait_for sh -c "tail -c 6 out | grep -q 'd' && ! tail -c 4 out |
		grep -q -F '$own'"
	after=$(sed "s/.*$ESC\\[0m//" out)
	case $after in
	"${ESC}[38;5;"*) ;;
	*) bad "no colour after a stop: $(cat -v out)" ;;
	esac
	kill -s QUIT $pid
	exec 3>&-
	status=0
	wait $pid 2>err || status=$?
	same "status after SIGQUIT" 131 "$status"
	same "the end after SIGQUIT" "$own" "$(tail -c 4 out)"
fi

# So does a model that vanishes, when the state is saved.
cp "$tiny" vanishing.safetensors
: >out
"$MAMBYTE" -m vanishing.safetensors --color --save-state=x.state \
	<pipe >out 2>err &
pid=$!
exec 3>pipe
printf 'red ' >&3
wait_for test -s out
: >vanishing.safetensors
exec 3>&-
status=0
wait $pid || status=$?
same "the end without a model" "1 $own" "$status $(tail -c 4 out)"

finish
