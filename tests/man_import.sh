#!/bin/sh
# man_import.sh -- mambyte-import.1 names the options that --help does, each
# of which a test uses, and its EXAMPLES run.
#
# SPDX-License-Identifier: MIT
#
# shellcheck source=tests/cli.sh
. "${srcdir:?}/tests/cli.sh"
: "${MAMBYTE_IMPORT:?}"
page=$srcdir/man/mambyte-import.1

# ---- options

"$MAMBYTE_IMPORT" --help >help || bad "--help"
sed -n 's/^  ....--\([a-z0-9-]*\).*/\1/p' help | sort >help.long
sed -n 's/^  -\(.\), --\([a-z0-9-]*\).*/\1 \2/p' help | sort >help.short
test "$(wc -l <help.long)" -ge 10 || bad "--help has too few options"

# In the manual, what an item of a list is headed with.
sed -n '/^\.Sh DESCRIPTION/,/^\.Sh FILES/s/^\.It//p' "$page" >items
grep -o 'Fl -[a-z0-9-]*' items | sed 's/Fl -//' | sort -u >man.long
sed -n 's/.*Fl \([A-Za-z0-9]\) .*Fl -\([a-z0-9-]*\).*/\1 \2/p' items |
	sort >man.short
same_files "long options of --help and manual" help.long man.long
same_files "short options of --help and manual" help.short man.short

while read -r option; do
	grep -q -e "--$option\b" "$srcdir"/tests/cli_import.sh ||
		bad "no test uses --$option"
done <help.long
while read -r letter option; do
	grep -q -e " -$letter\b" "$srcdir"/tests/cli_import.sh ||
		bad "no test uses -$letter (--$option)"
done <help.short
same "lines of --help over 80 columns" "" "$(grep '.\{80\}' help)"

# ---- examples

mkdir bin
ln -s "$MAMBYTE" bin/mambyte
ln -s "$MAMBYTE_IMPORT" bin/mambyte-import
PATH=$dir/bin:$PATH
ln -s "$srcdir/tests/data/import/authors" MambaByte_Books
head -c 2000 "$srcdir/tests/text/books" >novel.txt
cp "$tiny" prose.safetensors

sed -n '/^\.Sh EXAMPLES/,/^\.Sh SEE/s/^\$ //p' "$page" >examples
test "$(wc -l <examples)" -ge 5 || bad "too few examples"
while IFS= read -r line; do
	echo "$line" >example
	run sh ./example </dev/null
	same "$line" "0 " "$status $(cat err)"
	test -s out || bad "no output of $line"
done <examples
test -s prose-hf/config.json || bad "no config.json"

finish
