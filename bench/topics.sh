#!/bin/sh
# topics.sh -- labelled records about programs, from Debian's archive.
#
# usage: topics.sh TRAIN TEST
#
# A record is the first 200 bytes of the description of a package, without its
# first line, and its label is the section of the archive; one package, the
# first by name, stands for all of its source, and no text is there twice.  For
# each of 8 sections the first 200 records, by the MD5 of their descriptions,
# are to learn from and the next 100, or as many as there are, to test; the
# whole is the same for the same release of Debian.
#
# Needs the lists of a Debian's main archive with English descriptions:
#
#     apt-get -o Acquire::Languages=en update
#
# SPDX-License-Identifier: MIT
set -eu
export LC_ALL=C
: "${2?usage: topics.sh TRAIN TEST}"
lists=${APT_LISTS:-/var/lib/apt/lists}

# print NAME -- one list of the release itself, neither updates nor security.
print()
{
	for file in "$lists"/*_debian_dists_*_main_"$1"*; do
		case $file in *-updates_* | *-security_*) continue ;; esac
		/usr/lib/apt/apt-helper cat-file "$file"
		return
	done
	echo "topics.sh: $lists: no main archive's $1" >&2
	exit 1
}

# First the package's section, then what there is to say of it.
{
	print binary-
	print i18n_Translation-en
} | awk '
BEGIN {
	n = split("admin games graphics math net science sound text", names, " ")
	for (i = 1; i <= n; i++)
		wanted[names[i]] = 1
}
/^Package: / { package = source = $2; in_text = 0 }
/^Source: / { source = $2 }
/^Section: / {
	if ($2 in wanted)
		section[package] = $2
}
/^Filename: / { sources[package] = source }
/^Description-md5: / { md5 = $2 }
/^Description-en: / { in_text = 1; text = "" }
/^ / && in_text && $1 != "." {
	sub(/^ +/, "")
	gsub(/\t/, " ")
	text = text (text == "" ? "" : " ") $0
}
/^$/ && in_text {
	in_text = 0
	source = sources[package]
	text = substr(text, 1, 200)
	if (package in section && length(text) >= 80 && !(source in seen) &&
	    !(text in seen)) {
		seen[source] = seen[text] = 1
		print section[package] "\t" md5 "\t" text
	}
}' | sort | awk -F '\t' -v train="$1" -v test="$2" '
$1 != label { label = $1; n = 0 }
++n <= 300 { print $1 "\t" $3 > (n <= 200 ? train : test) }'
