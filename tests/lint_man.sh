#!/bin/sh
# lint_man.sh -- build-aux/man-sections passes our manual pages, and fails on
# a page that loses a section.
#
# SPDX-License-Identifier: MIT
#
# shellcheck source=tests/cli.sh
. "${srcdir:?}/tests/cli.sh"

if ! command -v groff >/dev/null; then
	echo "groff is not installed"
	exit 77
fi
check=$srcdir/build-aux/man-sections

# page TITLE -- a small page that refers to a paper of this title.
page()
{
	cat <<-END
	.Dd November 30, 2026
	.Dt PAGE 1
	.Os
	.Sh NAME
	.Nm page
	.Nd has sections
	.Sh SEE ALSO
	.Rs
	.%A K. Jordan
	.%T $1
	.Re
	.Sh CAVEATS
	.Ss One of them
	Of this section nothing may be lost.
	END
}

run sh "$check" "$srcdir"/man/*.[15]
same "our pages" "0 " "$status $(cat out err)"

page '"Muon: An optimizer"' >whole
run sh "$check" whole
same "a page that is whole" "0 " "$status $(cat out err)"

# "An" is a macro where it is not quoted.
page 'Muon: An optimizer' >torn
run sh "$check" torn
same "status of a page that loses a section" 1 "$status"
grep -q '^< CAVEATS$' out || bad "the lost section is not named: $(cat out)"
grep -q '^< One of them$' out || bad "the lost subsection is not named"

finish
