#!/bin/sh
# man_examples.sh -- the EXAMPLES of mambyte.1 do what they say.
#
# In a display, a line that begins with "$ " is a command, and what follows up
# to the next one is its output, to the last byte.
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
	sed -n '/^\.Bd/,/^\.Ed/p' | grep -v '^\.[BE]d' >examples

n=0
while IFS= read -r line; do
	case $line in
	'$ '*)
		n=$((n + 1))
		printf '%s\n' "${line#??}" >command.$n
		: >expected.$n
		;;
	*) printf '%s\n' "$line" >>expected.$n ;;
	esac
done <examples
test $n -ge 8 || bad "only $n examples"

i=0
while [ $i -lt $n ]; do
	i=$((i + 1))
	sh ./command.$i >actual 2>err </dev/null || bad "status $?: $(cat command.$i)"
	test -z "$(tail -c 1 actual)" || echo >>actual
	same "$(cat command.$i)" "$(cat expected.$i)" "$(cat actual)"
	same "stderr of $(cat command.$i)" "" "$(cat err)"
done

finish
