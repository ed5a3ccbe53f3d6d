#!/bin/sh
# cli_faults.sh -- whichever call fails, the programs do not crash, and do not
# say that all went well when it did not.
#
# tests/faults.c makes the n-th call of a kind fail, or all from that one on.
# A program that ends with status 0 has written what it writes without a fault.
# One that fails says why, and each of its files is as it was, or as it was to
# be.  So they are when it is killed while it gives files their names.
#
# A sample of n is tried; with MAMBYTE_FAULTS=all (make check-faults) every n,
# and with MAMBYTE_FAULTS=MODE every n of one mode.
#
# SPDX-License-Identifier: MIT
#
# shellcheck source=tests/cli.sh
. "${srcdir:?}/tests/cli.sh"
: "${MAMBYTE_TRAIN:?}" "${MAMBYTE_IMPORT:?}" "${FAULTS:?}"
export MAMBYTE_MODEL="$tiny"
chosen=${MAMBYTE_FAULTS-}

# A sanitizer has its own malloc.
test -z "${MAMBYTE_SANITIZED-}" || exit 77
env LD_PRELOAD="$FAULTS" FAULT_COUNTS=counts "$MAMBYTE" --version >out
grep -q '^write [1-9]' counts || exit 77

# A line for each mode: its name, the files that it writes, and the command.
cat >modes <<'END'
generate state mambyte -n 9 --save-state=state d.txt
perplexity state mambyte --perplexity --words --save-state=state d.txt e.txt
score - mambyte --score --json --load-state=begin.state d.txt
surprisal - mambyte --surprisal e.txt
color - mambyte --color e.txt
next - mambyte --next e.txt
classify - mambyte --classify=./a.head --top=2 records
states - mambyte --classify=begin.state,end.state records
eval - mambyte --classify=./a.head --eval l.tsv
embed - mambyte --embed records
compress d.txt.mbz mambyte -zkf d.txt
replace g.txt,g.txt.mbz mambyte -zf g.txt
filter - mambyte -zc d.txt
decompress packed mambyte -dkf packed.mbz
range - mambyte -d --range=100:200 packed.mbz
test - mambyte -t packed.mbz
list - mambyte -l packed.mbz
info - mambyte --info
models - mambyte --list-models
import model mambyte-import -o model authors
float model mambyte-import --quantize=none -o model transformers
calibrate model mambyte-import --calibrate=e.txt -o model mamba2-transformers
ssm ssm/pytorch_model.bin,ssm/config.json mambyte-import --to=mamba-ssm -f -o ssm mamba
hf hf/model.safetensors,hf/config.json,hf/tokenizer.json,hf/generation_config.json mambyte-import --to=transformers -f -o hf mamba
train model,run mambyte-train --steps=2 --log=log -f -o model --checkpoint=run d.txt
resume model,run mambyte-train --steps=2 --resume -o model --checkpoint=run d.txt
head new.head mambyte-train --head=l.tsv -o new.head
END

# What they read.
cp -R "$srcdir"/tests/data/import/*a* .
cp "$tiny" mamba
head -c 700 "$srcdir/tests/text/books" >d.txt
head -c 300 "$srcdir/tests/text/code" >e.txt
printf 'a\tone two\nb\tthree four\na\tone three\nb\tfour five\n' >l.tsv
cut -f 2 l.tsv >records
"$MAMBYTE" -zc d.txt >packed.mbz
"$MAMBYTE" -n 0 --save-state=begin.state e.txt
"$MAMBYTE" -n 0 --save-state=end.state d.txt
"$MAMBYTE_TRAIN" -q --head=l.tsv -o a.head >out
small="--device=cpu --d-model=16 --n-layer=1 --windows=2 --length=64"
# shellcheck disable=SC2086
"$MAMBYTE_TRAIN" $small -q --steps=1 -o trained --checkpoint=run d.txt >out
chmod -R u+w .

# What is there before they write.
mkdir old new new/ssm new/hf
"$MAKE_MODEL" --d-model=64 --n-layer=1 other
"$MAMBYTE_IMPORT" -q --to=mamba-ssm -o old/ssm other >out
"$MAMBYTE_IMPORT" -q --to=transformers -o old/hf other >out
cp -R old/ssm old/hf .
cp begin.state old/state
cp trained old/model
cp run old/run
cp a.head old/new.head
echo old >old/packed
echo old >old/d.txt.mbz
cp old/d.txt.mbz old/g.txt.mbz
cp d.txt old/g.txt

# attempt FAULT -- runs the command, with what was there before.
attempt()
{
	for file in $files; do
		rm -f "$file"
		test ! -e "old/$file" || cp "old/$file" "$file"
	done
	program=${command%% *} arguments=${command#* }
	case $program in
	mambyte-import) program=$MAMBYTE_IMPORT ;;
	mambyte-train) program=$MAMBYTE_TRAIN ;;
	*) program=$MAMBYTE ;;
	esac
	case $arguments in
	--steps*) arguments="$small $arguments" ;;
	esac
	status=0
	# shellcheck disable=SC2086
	timeout -k 1 60 env LD_PRELOAD="$FAULTS" FAULT="$1" FAULT_COUNTS=counts \
		"$program" -T 1 $arguments >out 2>err </dev/null || status=$?
}

# check_file FAULT FILE -- it is whole: the old one or the new one.
check_file()
{
	if test ! -e "$2" && test ! -e "new/$2"; then
		return
	elif test "$2" = run; then
		"$MAMBYTE_IMPORT" -f -o imported run >imported.out 2>&1 ||
			bad "$mode, $1: the checkpoint is damaged"
	elif cmp -s "$2" "new/$2"; then
		return
	elif test $status -eq 0; then
		bad "$mode, $1: status 0 and another $2"
	elif test -e "$2" && ! cmp -s "$2" "old/$2"; then
		bad "$mode, $1: half a file, $2"
	elif test -e "old/$2" && ! test -e "$2"; then
		# A source goes when the target is whole, config.json first.
		case $2 in
		g.txt) cmp g.txt.mbz new/g.txt.mbz ;;
		*/config.json) test "$1" != "${1#name}" || test "$1" != "${1#sync}" ;;
		*) false ;;
		esac || bad "$mode, $1: $2 is lost"
	fi
}

# check_folder FAULT FOLDER WEIGHTS -- config.json is that of the weights.
check_folder()
{
	test ! -e "$2/config.json" && return
	for age in old new; do
		cmp -s "$2/config.json" $age/"$2"/config.json &&
			cmp -s "$2/$3" $age/"$2/$3" && return
	done
	bad "$mode, $1: $2/config.json is not about $3"
}

# check FAULT
check()
{
	test $status -lt 124 || test "$1" != "${1%!}" ||
		bad "$mode, $1: status $status: $(tail -n 1 err)"
	test $status -eq 0 || test -s err || test "$1" != "${1%!}" ||
		bad "$mode, $1: no sentence"
	test $status -gt 0 || cmp -s out new/out ||
		bad "$mode, $1: status 0 and another output"
	for file in $files; do
		check_file "$1" "$file"
	done
	case $mode in
	ssm) check_folder "$1" ssm pytorch_model.bin ;;
	hf) check_folder "$1" hf model.safetensors ;;
	esac
	for file in .mambyte-* ssm/.mambyte-* hf/.mambyte-*; do
		test ! -e "$file" || test "$1" != "${1%!}" ||
			bad "$mode, $1: $file is left"
		rm -f "$file"
	done
}

# numbers COUNT -- those to be tried: all, or the last and two others, which
# are not the same in every mode.
numbers()
{
	if test -n "$chosen"; then
		seq 1 "$1"
	else
		awk -v n="$1" -v seed=$tries 'BEGIN {
			first = int(n * (seed % 7) / 14)
			middle = int(n * (7 + seed % 5) / 14)
			if (n > 2 && first > 0)
				print first
			if (n > 2 && middle > first)
				print middle
			if (n > 0)
				print n
		}'
	fi
}

tries=0
while read -r mode files command; do
	test -z "$chosen" || test "$chosen" = all || test "$chosen" = "$mode" ||
		continue
	files=$(echo "$files" | tr ',-' '  ')
	attempt none
	same "$mode" 0 "$status"
	cp out new/out
	for file in $files; do
		rm -f "new/$file"
		test ! -e "$file" || cp "$file" "new/$file"
	done
	cp counts counts.all
	while read -r kind count <&3; do
		for n in $(numbers "$count"); do
			for fault in "$kind:$n" "$kind:$n+" "$kind:$n!"; do
				case $fault in
				name:* | *[!!]) ;;
				*) continue ;;
				esac
				attempt "$fault"
				check "$fault"
				tries=$((tries + 1))
			done
		done
	done 3<counts.all
done <modes
echo "$tries faults"
test $tries -gt 0 || bad "no fault was tried: is there a mode '$chosen'?"

finish
