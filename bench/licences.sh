#!/bin/sh
# licences.sh -- records without those that are called programs but are pieces of
# a licence, for language.head.
#
#     bench/licences.sh RECORDS
#
# SPDX-License-Identifier: MIT
set -eu
export LC_ALL=C
: "${1?usage: licences.sh RECORDS}"

awk -F '\t' '
BEGIN {
	is_licence = "permission is hereby|hereby granted|above copyright|" \
		"redistributions? (of|in)|redistribution and use|" \
		"following disclaimer|without warrant|warranties of|" \
		"express or implied|liable for|liability|all copies or|" \
		"sublicense|licensed under|license as published|" \
		"apache\\.org/licenses"
}
!($1 ~ /^code:/ && tolower($0) ~ is_licence)' "$1"
