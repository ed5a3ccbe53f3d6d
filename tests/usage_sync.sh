#!/bin/sh
# usage_sync.sh -- the options of the program (--help prints its table), of
# its manual and of the command-line tests are the same.
#
# SPDX-License-Identifier: MIT
#
# shellcheck source=tests/cli.sh
. "${srcdir:?}/tests/cli.sh"

# Long options, and short ones with the long one that they stand for.
"$MAMBYTE" --help >help || bad "--help"
sed -n 's/^  ....--\([a-z0-9-]*\).*/\1/p' help | sort >help.long
sed -n 's/^  -\(.\), --\([a-z0-9-]*\).*/\1 \2/p' help | sort >help.short
test "$(wc -l <help.long)" -ge 25 || bad "--help has too few options"

# In the manual, what an item of a list is headed with.
sed -n '/^\.Sh DESCRIPTION/,/^\.Sh ENVIRONMENT/s/^\.It//p' \
	"$srcdir/man/mambyte.1" >items
grep -o 'Fl -[a-z0-9-]*' items | sed 's/Fl -//' | sort -u >man.long
sed -n 's/.*Fl \([A-Za-z0-9]\) .*Fl -\([a-z0-9-]*\).*/\1 \2/p' items |
	sort >man.short

same_files "long options of --help and manual" help.long man.long
same_files "short options of --help and manual" help.short man.short

# In the synopsis of the manual, only options that there are.
sed -n '/^\.Sh SYNOPSIS/,/^\.Sh DESC/p' "$srcdir/man/mambyte.1" |
	grep -o 'Fl -[a-z0-9-]*' | sed 's/Fl -//' | sort -u |
	comm -23 - help.long >unknown
same "options of the synopsis alone" "" "$(cat unknown)"

# Each is tested.
while read -r option; do
	grep -q -e "--$option\b" "$srcdir"/tests/cli_*.sh ||
		bad "no test uses --$option"
done <help.long
while read -r letter option; do
	grep -q -e " -$letter\b" "$srcdir"/tests/cli_*.sh ||
		bad "no test uses -$letter (--$option)"
done <help.short

# And it fits a terminal.
same "lines of --help over 80 columns" "" "$(grep '.\{80\}' help)"

finish
