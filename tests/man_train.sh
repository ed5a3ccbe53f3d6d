#!/bin/sh
# man_train.sh -- mambyte-train.1 names the options that --help does, each of
# which a test uses, and its EXAMPLES run.
#
# SPDX-License-Identifier: MIT
#
# shellcheck source=tests/cli.sh
. "${srcdir:?}/tests/cli.sh"
: "${MAMBYTE_TRAIN:?}"
page=$srcdir/man/mambyte-train.1

# ---- options

check_options "$MAMBYTE_TRAIN" "$page" 25 "$srcdir"/tests/cli_train*.sh

# ---- examples

mkdir bin letters code
ln -s "$MAMBYTE" bin/mambyte
ln -s "$MAMBYTE_TRAIN" bin/mambyte-train
PATH=$dir/bin:$PATH
cp "$srcdir/tests/text/books" letters/one
cp "$srcdir/tests/text/code" code/main.c
i=0
while [ $i -lt 300 ]; do
	i=$((i + 1))
	echo "GET /page$i.html 200"
done >access.log

i=0
while [ $i -lt 20 ]; do
	i=$((i + 1))
	echo "question${TAB}Is $i the number?"
	echo "answer${TAB}It is $((i * i))."
done >questions.tsv
cut -f 2 questions.tsv >questions.txt

# A minute is too long here.
sed -n '/^\.Sh EXAMPLES/,/^\.Sh SEE/s/^\$ //p' "$page" |
	sed 's/--minutes=1/--minutes=0.02/' >examples
check_examples 6

finish
