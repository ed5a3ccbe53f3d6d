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

check_options "$MAMBYTE_IMPORT" "$page" 10 "$srcdir"/tests/cli_import*.sh \
	"$srcdir"/tests/cli_outputs.sh

# ---- examples

mkdir bin
ln -s "$MAMBYTE" bin/mambyte
ln -s "$MAMBYTE_IMPORT" bin/mambyte-import
PATH=$dir/bin:$PATH
ln -s "$srcdir/tests/data/import/authors" MambaByte_Books
head -c 2000 "$srcdir/tests/text/books" >novel.txt
cp "$tiny" prose.safetensors
cp "$tiny" more.safetensors

sed -n '/^\.Sh EXAMPLES/,/^\.Sh SEE/s/^\$ //p' "$page" >examples
check_examples 6
test -s prose-hf/config.json || bad "no config.json"

finish
