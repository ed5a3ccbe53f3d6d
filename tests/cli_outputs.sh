#!/bin/sh
# cli_outputs.sh -- what a command may not write to, found before any work.
#
# SPDX-License-Identifier: MIT
#
# shellcheck source=tests/cli.sh
. "${srcdir:?}/tests/cli.sh"
: "${MAMBYTE_TRAIN:?}" "${MAMBYTE_IMPORT:?}"
export MAMBYTE_MODEL="$tiny"
data=$srcdir/tests/data/import

# A run that would take days: what is refused is refused before it.
train="$MAMBYTE_TRAIN --device=cpu --d-model=16 --n-layer=1 --windows=2
	--length=64 --steps=3M"

# files -- all but those of run.
files()
{
	find . -type f ! -name out ! -name err | sort
}

# refused STATUS SENTENCE KEPT COMMAND... -- within seconds; KEPT stays as it
# is, and nothing else appears.
refused()
{
	expected=$1 sentence=$2 kept=$3
	shift 3
	cp "$kept" kept
	before=$(files)
	run timeout 20 "$@"
	same "status of $*" "$expected" "$status"
	same "sentence of $*" "$sentence" "$(head -n 1 err | cut -d : -f 2-)"
	same "output of $*" "" "$(cat out)"
	same_files "$kept after $*" kept "$kept"
	same "files after $*" "$before" "$(files)"
}

# train_refused STATUS SENTENCE KEPT ARGUMENT...
train_refused()
{
	one=$1 two=$2 three=$3
	shift 3
	# shellcheck disable=SC2086
	refused "$one" "$two" "$three" $train "$@"
}

# trains ARGUMENT... -- two steps.
trains()
{
	# shellcheck disable=SC2086
	run $train --steps=2 "$@"
	same "training $*" "0 " "$status $(cat err)"
}

head -c 4000 "$srcdir/tests/text/code" >d.txt
head -c 2000 "$srcdir/tests/text/books" >book.txt
ln d.txt link.txt
ln -s d.txt symlink.txt
ln -s missing.txt dangling.txt
printf 'a\tone two\nb\tthree four\na\tone three\nb\tfour four\n' >l.tsv
mkdir notes nt
cp d.txt notes/1.txt
cp d.txt notes/2.txt

# ---- an output that is an input, whatever it is called

for force in "" -f; do
	for name in d.txt ./d.txt link.txt symlink.txt; do
		train_refused 2 " $name: is an input, and --output would replace it" \
			d.txt -o d.txt $force $name
	done
	train_refused 2 " d.txt: is an input, and --output would replace it" \
		d.txt -o d.txt $force d.txt=3
	train_refused 2 " d.txt: is an input, and --log would replace it" \
		d.txt -o m --log=d.txt $force d.txt
	train_refused 2 " d.txt: is an input, and --checkpoint would replace it" \
		d.txt -o m --checkpoint=./d.txt $force d.txt
	train_refused 2 " d.txt: is an input, and --plot would replace it" \
		d.txt -o m --log=l --plot=./d.txt $force d.txt
	train_refused 2 " d.txt: is an input, and --output would replace it" \
		d.txt -o ./d.txt --valid=d.txt $force book.txt
	# shellcheck disable=SC2086
	refused 2 " $tiny: is an input, and --output would replace it" "$tiny" \
		"$MAMBYTE_TRAIN" --device=cpu -o "$tiny" --init="$tiny" $force d.txt
	# shellcheck disable=SC2086
	refused 2 " l.tsv: is an input, and --output would replace it" l.tsv \
		"$MAMBYTE_TRAIN" --head=l.tsv -o l.tsv $force
	# shellcheck disable=SC2086
	refused 2 " book.txt: is an input, and --save-state would replace it" \
		book.txt "$MAMBYTE" -n 0 --save-state=./book.txt $force book.txt
	# shellcheck disable=SC2086
	refused 2 " $tiny: is an input, and --save-state would replace it" \
		"$tiny" "$MAMBYTE" -n 0 --save-state="$tiny" $force book.txt
	# shellcheck disable=SC2086
	refused 2 " $tiny: is an input, and --output would replace it" "$tiny" \
		"$MAMBYTE_IMPORT" --average=./trained -o "$tiny" $force "$tiny"
	# shellcheck disable=SC2086
	refused 2 " d.txt: is an input, and --output would replace it" d.txt \
		"$MAMBYTE_IMPORT" --calibrate=d.txt -o d.txt $force "$data/authors"
done
# shellcheck disable=SC2016
refused 2 " -: is an input, and --save-state would replace it" book.txt \
	sh -c '"$MAMBYTE" -n 0 --save-state=book.txt <book.txt'
for mode in --score --color -n10 -zc; do
	# shellcheck disable=SC2016
	refused 2 " book.txt: is an input, and standard output too" book.txt \
		sh -c '"$MAMBYTE" "$1" book.txt >>book.txt' sh $mode
done
cp -R "$data/authors" authors
chmod -R u+w authors
refused 2 " authors/pytorch_model.bin: is an input, and --output would replace \
it" authors/pytorch_model.bin \
	"$MAMBYTE_IMPORT" -f -o authors/pytorch_model.bin authors

# ---- an output that is another

train_refused 2 " m: --output and --checkpoint are the same file" d.txt \
	-o m --checkpoint=m d.txt
train_refused 2 " ./m: --output and --log are the same file" d.txt \
	-o m --log=./m d.txt
train_refused 2 " notes/../l: --log and --plot are the same file" d.txt \
	-o m --log=l --plot=notes/../l d.txt
"$MAMBYTE_TRAIN" --d-model=16 --n-layer=1 --steps=1 -q -o /dev/null \
	--checkpoint=/dev/null --log=/dev/null d.txt >out ||
	bad "several outputs to /dev/null"

mkfifo fifo
train_refused 2 " fifo: is not a regular file, so the run needs a \
--checkpoint=FILE" d.txt -o fifo d.txt
rm fifo

# ---- a file of another kind

train_refused 2 " notes/1.txt: exists and is not a model; --force replaces it" \
	notes/1.txt -o notes/*.txt
train_refused 2 " book.txt: exists and is not a checkpoint; --force replaces it" \
	book.txt -o m --checkpoint=book.txt d.txt
train_refused 2 " book.txt: exists and is not a log; --force replaces it" \
	book.txt -o m --log=book.txt d.txt
train_refused 2 " book.txt: exists and is not a plot; --force replaces it" \
	book.txt -o m --log=l --plot=book.txt d.txt
refused 2 " book.txt: exists and is not a head; --force replaces it" book.txt \
	"$MAMBYTE_TRAIN" --head=l.tsv -o book.txt
refused 2 " book.txt: exists and is not a saved state; --force replaces it" \
	book.txt "$MAMBYTE" -n 0 --save-state book.txt d.txt
refused 2 " book.txt: exists and is not a model; --force replaces it" book.txt \
	"$MAMBYTE_IMPORT" -o book.txt "$data/authors"

# Of ours, but not of the kind.
trains -o model d.txt
cp "$tiny" state
refused 2 " state: exists and is not a saved state; --force replaces it" state \
	"$MAMBYTE" -n 0 --save-state=state d.txt
train_refused 2 " model.checkpoint: exists and is not a model; --force replaces \
it" model.checkpoint -o model.checkpoint d.txt

# A model takes the place of a model, a state that of a state, and anything
# that of an empty file, or with --force.
: >empty
trains -o empty --checkpoint=c1 d.txt
"$MAMBYTE_IMPORT" -o model "$data/authors" >out || bad "a model for a model"
"$MAMBYTE" -n 0 --save-state=state -f d.txt || bad "--force for a state"
"$MAMBYTE" -n 0 --save-state=state d.txt || bad "a state for a state"
"$MAMBYTE" -n 0 --load-state=state --save-state=./state d.txt ||
	bad "a state that goes on"
cat d.txt d.txt | "$MAMBYTE" -n 0 --save-state=twice
same_files "a state that went on" twice state
cp book.txt x
trains -f -o x --checkpoint=c2 d.txt
cp book.txt x
"$MAMBYTE_IMPORT" -f -o x "$data/authors" >out || bad "--force of import"
refuses 2 "--force needs --save-state, or a mode such as --compress" \
	"$MAMBYTE" -f d.txt

# ---- a place that cannot be written

none="No such file or directory"
train_refused 1 " nodir/m: $none" d.txt -o nodir/m d.txt
train_refused 1 " nodir/c: $none" d.txt -o m --checkpoint=nodir/c d.txt
train_refused 1 " nodir/l: $none" d.txt -o m --log=nodir/l d.txt
train_refused 1 " nodir/p.svg: $none" d.txt -o m --log=l --plot=nodir/p.svg \
	d.txt
refused 1 " nodir/h: $none" l.tsv "$MAMBYTE_TRAIN" --head=l.tsv -o nodir/h
refused 1 " nodir/x: $none" d.txt "$MAMBYTE" -n 500 --save-state=nodir/x d.txt
refused 1 " nodir/x: $none" d.txt "$MAMBYTE_IMPORT" -o nodir/x "$data/authors"
refused 1 " nodir/x: $none" d.txt "$MAMBYTE_IMPORT" --to=mamba-ssm -o nodir/x \
	"$tiny"
for option in -o --checkpoint= --log=; do
	train_refused 1 " nt: Is a directory" d.txt -o m ${option}nt d.txt
done
refused 1 " nt: Is a directory" d.txt "$MAMBYTE" -n 9 --save-state=nt d.txt
refused 1 " dangling.txt: is a link to a file that is not there" d.txt \
	"$MAMBYTE" -n 9 --save-state=dangling.txt d.txt
refused 1 " d.txt: Not a directory" d.txt \
	"$MAMBYTE_IMPORT" --to=mamba-ssm -o d.txt "$tiny"
mkdir closed
chmod a-w closed
if ! test -w closed; then
	train_refused 1 " closed/m: Permission denied" d.txt -o closed/m d.txt
	refused 1 " closed/x: Permission denied" d.txt \
		"$MAMBYTE" -n 500 --save-state=closed/x d.txt
fi
dash="'-' is not the name of a file"
train_refused 2 " --output: $dash" d.txt -o - d.txt
train_refused 2 " --checkpoint: $dash" d.txt -o m --checkpoint=- d.txt
train_refused 2 " --log: $dash" d.txt -o m --log=- d.txt
refused 2 " --output: $dash" l.tsv "$MAMBYTE_TRAIN" --head=l.tsv -o -
refused 2 " --output: $dash" d.txt "$MAMBYTE_IMPORT" -o - "$data/authors"
refused 2 " --output: $dash" d.txt "$MAMBYTE_IMPORT" --to=mamba-ssm -o - "$tiny"
refused 2 " --save-state: $dash" d.txt "$MAMBYTE" -n 9 --save-state=- d.txt

# ---- a run beside its data, and one that is there already

cp d.txt book.txt nt
trains -o nt/model --log=nt/log nt
line=$(cat out)
trains -o nt/model --log=nt/log --resume nt
same "a folder with its model" "$line" "$(cat out)"
trains -o aside nt
test "$line" = "$(cat out)" && bad "the files of another run are data"
anew=": a run is kept there: --resume goes on with it, --force starts anew"
train_refused 2 " nt/model.checkpoint$anew" nt/model.checkpoint \
	-o nt/model d.txt
train_refused 2 " aside.checkpoint$anew" aside.checkpoint \
	-o m --checkpoint=aside.checkpoint d.txt
trains --force -o aside nt

# ---- --to: a folder

for to in mamba-ssm transformers; do
	rm -rf folder
	"$MAMBYTE_IMPORT" --to=$to -o folder "$tiny" >out || bad "--to=$to"
	weights=folder/pytorch_model.bin
	test $to = transformers && weights=folder/model.safetensors
	refused 2 " $weights: exists already; --force replaces it" $weights \
		"$MAMBYTE_IMPORT" --to=$to -o folder "$tiny"
	"$MAMBYTE_IMPORT" --to=$to -f -o folder "$tiny" >out ||
		bad "--force --to=$to"
	refused 2 " folder: is the input" $weights \
		"$MAMBYTE_IMPORT" --to=$to -f -o folder folder
	refused 2 " $weights: is the input" $weights \
		"$MAMBYTE_IMPORT" --to=$to -f -o folder $weights
done
refused 2 " folder/model.safetensors: is there already, and would be read in \
place of the new weights" folder/model.safetensors \
	"$MAMBYTE_IMPORT" --to=mamba-ssm -f -o folder "$tiny"
echo '{}' >notes/config.json
refused 2 " notes/config.json: exists already; --force replaces it" \
	notes/config.json "$MAMBYTE_IMPORT" --to=mamba-ssm -o notes "$tiny"

finish
