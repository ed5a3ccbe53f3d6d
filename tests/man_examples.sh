#!/bin/sh
# man_examples.sh -- the EXAMPLES of mambyte.1 do what they say.
#
# SPDX-License-Identifier: MIT
#
# shellcheck source=tests/cli.sh
. "${srcdir:?}/tests/cli.sh"

mkdir bin
ln -s "$MAMBYTE" bin/mambyte
PATH=$dir/bin:$PATH
head -c 1200 "$srcdir/tests/text/books" >book.txt
head -c 800 "$srcdir/tests/text/code" >program.c
for page in index about index news about index; do
	echo "GET /$page.html 200"
done >access.log
echo "GET /?q=%27%20OR%201=1 500" >>access.log
echo "GET /index.html 200" >>access.log

# Commands and what they print, without the text between.
sed -n '/^\.Sh EXAMPLES/,/^\.Sh SEE/p' "$srcdir/man/mambyte.1" |
	sed -n '/^\.Bd/,/^\.Ed/p' | grep -v '^\.[BE]d' >displays

check_displays 8

finish
