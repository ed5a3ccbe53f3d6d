#!/bin/sh
# man_readme.sh -- the examples of README do what they say, in a clone, and the
# pictures in doc/ are what doc/pictures draws.
#
# SPDX-License-Identifier: MIT
#
# shellcheck source=tests/cli.sh
. "${srcdir:?}/tests/cli.sh"
: "${MAMBYTE_IMPORT:?}" "${MAMBYTE_TRAIN:?}"

# The programs find ../weights where they are themselves, not where they were
# built.
mkdir bin
cp "$MAMBYTE" "$MAMBYTE_IMPORT" "$MAMBYTE_TRAIN" bin
PATH=$dir/bin:$PATH
ln -s "$srcdir/COPYING" "$srcdir/tests" "$srcdir/weights" .
cp -R "$srcdir/doc" .
chmod -R u+w doc

sed -n '/^Examples$/,/^Compression$/s/^    //p' "$srcdir/README" >displays
check_displays 10

run sh doc/pictures "$MAMBYTE"
same "doc/pictures" "0 " "$status $(cat err)"
same_files "the text in colours" "$srcdir/doc/color.svg" doc/color.svg
same_files "long inputs" "$srcdir/doc/context.svg" doc/context.svg
same_files "the training curves" "$srcdir/doc/curve.svg" doc/curve.svg

finish
