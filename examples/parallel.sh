#!/bin/sh
# parallel.sh LOG [ARGUMENT OF PARALLEL]... -- scores each line of a large file,
# parts of it side by side.
#
# Writes what "mambyte --score --context=reset LOG" writes, byte for byte: each
# line is predicted from itself alone, so it does not matter where the file is
# cut.  GNU parallel cuts it at ends of lines, gives each part to a process of
# one thread, and keeps the order.  Hosts get parts through ssh:
#
#     parallel.sh access.log --sshlogin 8/one,8/two,:
#
# They need mambyte, the model and nothing else; the scores are the same on all.
#
# SPDX-License-Identifier: MIT
set -eu

log=${1:?usage: parallel.sh LOG [ARGUMENT OF PARALLEL]...}
shift
exec parallel --will-cite --halt now,fail=1 --keep-order --block "${BLOCK:-1M}" \
	--pipepart -a "$log" "$@" \
	mambyte --quiet --score --context=reset --threads=1
