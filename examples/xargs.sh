#!/bin/sh
# xargs.sh FOLDER -- compresses all files below a folder, several at a time, and
# keeps them; those that have their .mbz already are left out.
#
# The files are the same as those of "mambyte -zk FILE...".  A process gets 16
# files, since each process first reads the model.  PROCESSES is how many run at
# a time, by default one a core.
#
# SPDX-License-Identifier: MIT
set -eu

folder=${1:?usage: xargs.sh FOLDER}
find "$folder" -type f ! -name '*.mbz' -exec sh -c '
	for file; do
		test -e "$file.mbz" || printf "%s\000" "$file"
	done' sh {} + |
	xargs -0 -r -n 16 -P "${PROCESSES:-$(nproc)}" \
		mambyte --compress --keep --threads=1
