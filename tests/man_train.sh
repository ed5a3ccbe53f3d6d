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

"$MAMBYTE_TRAIN" --help >help || bad "--help"
sed -n 's/^  ....--\([a-z0-9-]*\).*/\1/p' help | sort >help.long
sed -n 's/^  -\(.\), --\([a-z0-9-]*\).*/\1 \2/p' help | sort >help.short
test "$(wc -l <help.long)" -ge 25 || bad "--help has too few options"

# In the manual, what an item of a list is headed with.
sed -n '/^\.Sh DESCRIPTION/,/^\.Sh ENVIRONMENT/s/^\.It//p' "$page" >items
grep -o 'Fl -[a-z0-9-]*' items | sed 's/Fl -//' | sort -u >man.long
sed -n 's/.*Fl \([A-Za-z0-9]\) .*Fl -\([a-z0-9-]*\).*/\1 \2/p' items |
	sort >man.short
same_files "long options of --help and manual" help.long man.long
same_files "short options of --help and manual" help.short man.short

while read -r option; do
	grep -q -e "--$option\b" "$srcdir"/tests/cli_train*.sh ||
		bad "no test uses --$option"
done <help.long
while read -r letter option; do
	grep -q -e " -$letter\b" "$srcdir"/tests/cli_train*.sh ||
		bad "no test uses -$letter (--$option)"
done <help.short
same "lines of --help over 80 columns" "" "$(grep '.\{80\}' help)"

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
test "$(wc -l <examples)" -ge 6 || bad "too few examples"
while IFS= read -r line; do
	echo "$line" >example
	run sh ./example </dev/null
	same "$line" "0 " "$status $(cat err)"
	test -s out || bad "no output of $line"
done <examples

finish
