#!/bin/sh
# lint_file_lists.sh -- build-aux/file-lists passes src/README, and fails where
# a file is missing there, is there twice, or is not there at all.
#
# SPDX-License-Identifier: MIT
#
# shellcheck source=tests/cli.sh
. "${srcdir:?}/tests/cli.sh"

check=$srcdir/build-aux/file-lists

run sh "$check" "$srcdir"
same "our lists" "0 " "$status $(cat out err)"

mkdir -p tree/src/base tree/cuda/common
: >tree/src/base/clock.c
: >tree/src/base/clock.h
: >tree/cuda/common/scan.cu
: >tree/cuda/common/scan.cuh

# readme LINE... -- lists of the tree; each line is a file line.
readme()
{
	{
		echo 'base/  the system'
		printf '  %s\n' "$1"
		echo 'cuda/common/  what is shared'
		printf '  %s\n' "$2"
	} >tree/src/README
	run sh "$check" tree
}

readme 'clock.[ch]  the time' 'scan.cu[h]  a scan'
same "a whole list" "0 " "$status $(cat out err)"

readme 'clock.h  the time' 'scan.cu scan.cuh  a scan'
same "without clock.c" "1 file-lists: src/base/clock.c is not in src/README" \
	"$status $(cat out)"

readme 'clock.[ch]  the time' 'scan.cu[h] scan.cu  a scan'
same "scan.cu twice" \
	"1 file-lists: cuda/common/scan.cu is in src/README more than once" \
	"$status $(cat out)"

readme 'clock.[ch] gone.c  the time' 'scan.cu[h]  a scan'
same "a file that is gone" \
	"1 file-lists: src/README lists src/base/gone.c, which is not there" \
	"$status $(cat out)"

finish
