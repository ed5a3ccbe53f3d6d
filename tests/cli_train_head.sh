#!/bin/sh
# cli_train_head.sh -- mambyte-train --head: from labelled lines to a head.
#
# SPDX-License-Identifier: MIT
#
# shellcheck source=tests/cli.sh
. "${srcdir:?}/tests/cli.sh"
: "${MAMBYTE_TRAIN:?}"
export MAMBYTE_MODEL="$tiny"

# trains_not STATUS SENTENCE ARGUMENT... -- and no head is there afterwards.
trains_not()
{
	expected=$1 sentence=$2
	shift 2
	refuses_as mambyte-train "$expected" "$sentence" "$MAMBYTE_TRAIN" "$@"
	test -e new.head && bad "a head after $*" && rm -f new.head
}

write_labels >labels

# ---- it learns

run "$MAMBYTE_TRAIN" --head labels -o new.head
same "status" "0 " "$status $(cat err)"
same "records held out" "records${TAB}12" "$(head -n 1 out)"
same "accuracy" "accuracy${TAB}1.0000" "$(sed -n 2p out)"
same "the matrix" "label digits letters - digits 6 0 0 letters 0 6 0" \
	"$(tail -n 3 out | xargs)"
test -s new.head || bad "no head"
"$MAMBYTE" --classify=./new.head --eval labels >figures
same "all of it" "accuracy${TAB}1.0000" "$(sed -n 2p figures)"

# The same again, by another team: the same head, bit for bit.
run "$MAMBYTE_TRAIN" --head=labels -T 3 -m "$tiny" --device=cpu -q -o again.head
same "status" 0 "$status"
same_files "the same head" new.head again.head

# fastText's form; a test set; standard input.
sed "s/^\([a-z]*\)$TAB/__label__\1 /" labels >fasttext
head -n 10 labels >tests
echo "other${TAB}not in the head" >>tests
run "$MAMBYTE_TRAIN" --head=- --test=tests --output=again.head \
	--model="$tiny" <fasttext
same "status" "0 " "$status $(cat err)"
same_files "from fastText's form" new.head again.head
same "the test set" "records${TAB}11" "$(head -n 1 out)"
same "a label that the head has not" "0.0000" \
	"$(sed -n 's/^other\t1\t0.0000\t0.0000\t//p' out | head -n 1)"
run "$MAMBYTE_TRAIN" -v --head labels -o again.head
grep -q '^mambyte-train: temperature' err || bad "no notes"
run env MAMBYTE_MODEL=missing "$MAMBYTE_TRAIN" --no-features --head=labels \
	-o again.head
same "without features, and no model" 0 "$status"
same "its accuracy" "accuracy${TAB}1.0000" "$(sed -n 2p out)"
run "$MAMBYTE_TRAIN" --progress --head labels -o again.head
same "--progress" 0 "$status"
rm -f new.head again.head

# ---- warnings

(
	cat labels
	head -n 3 labels
	echo "letters${TAB}$(head -n 1 labels | cut -f 2)"
	echo "digits${TAB}"
	echo "rare${TAB}!!"
) >odd
run "$MAMBYTE_TRAIN" --head odd -o again.head
same "status" 0 "$status"
same "warnings" "warning: odd: left out 1 record without text
warning: odd: left out 3 repeated records
warning: odd: kept 1 text with more than one label
warning: odd: nothing is held out of 1 label with fewer than 5 records" \
	"$(sed 's/^mambyte-train: //' err)"
run "$MAMBYTE_TRAIN" -q --head odd -o again.head
same "quiet" "" "$(cat err)"

# Lines that end in CRLF have the same labels, and the same records are blank.
{
	cat labels
	echo "digits${TAB}"
	echo __label__digits
	echo
} | sed 's/$/\r/' >crlf
run "$MAMBYTE_TRAIN" --no-features --head crlf -o again.head
same "CRLF" "0 mambyte-train: warning: crlf: left out 3 records without text" \
	"$status $(cat err)"
run "$MAMBYTE" --eval --classify=again.head crlf
same "labels of CRLF" "digits letters" \
	"$(sed -n 's/^\(digits\|letters\)	60	.*/\1/p' out | head -n 2 | xargs)"

# ---- what is refused

printf 'a\tx\nno label here\n' >none
printf 'a\tx\na\ty\n' >one
printf 'a\tx\n-\ty\n' >dash
: >empty
trains_not 1 "none: line 2: there is no label: a line is LABEL, a tab and \
TEXT, or __label__LABEL TEXT" --head=none -o new.head
trains_not 1 "one: all records have the label 'a': there is nothing to tell \
apart" --head=one -o new.head
trains_not 1 "dash: line 2: '-' is not a label: it stands for none" \
	--head=dash -o new.head
trains_not 1 "empty: there are no records" --head=empty -o new.head
trains_not 1 "missing: No such file or directory" --head=missing -o new.head
trains_not 1 "none: line 2: there is no label: a line is LABEL, a tab and \
TEXT, or __label__LABEL TEXT" --head=labels --test=none -o new.head
trains_not 2 "--output needs a FILE for the head" --head=labels
trains_not 2 "--steps does not go with --head" --head=labels --steps=3 \
	-o new.head
trains_not 2 "there is nothing to do with 'labels'" --head=labels labels \
	-o new.head
trains_not 2 "--test needs --head" --test=labels -o new.head labels
trains_not 2 "--model needs --head" --model=x -o new.head labels
trains_not 2 "--no-features needs --head" --no-features -o new.head labels
trains_not 2 "standard input can be read only once" --head=- --test=- \
	-o new.head
trains_not 2 "--model and --no-features do not go together" --head=labels \
	--no-features --model=x -o new.head
"$MAKE_MODEL" --d-model=64 --n-layer=2 --weights=F32 float.safetensors \
	2>makes || bad "no model of floats"
run "$MAMBYTE_TRAIN" --head=labels -m ./float.safetensors -o new.head
same "status for a model of floats" 1 "$status"
test -e new.head && bad "a head of a model of floats"
trains_not 1 "$tiny: its header needs 1 MiB of memory, the limit is 1 KiB: \
--memlimit=1M allows it" --head=labels -M 1K -o new.head
mkdir folder
run "$MAMBYTE_TRAIN" --head=labels -o folder
same "status for a folder" 1 "$status"

finish
