# cli.sh -- what the command-line tests share; each begins with
#     . "$srcdir/tests/cli.sh"
# and ends with finish.  A check that fails says so, and the test goes on.
#
# The environment gives MAMBYTE (the program), MAMBYTE_MODEL (the weights that
# ship), MAKE_MODEL (tests/make_model.c) and srcdir.
#
# SPDX-License-Identifier: MIT
#
# shellcheck shell=sh disable=SC2034
set -u
: "${MAMBYTE:?}" "${MAMBYTE_MODEL:?}" "${MAKE_MODEL:?}" "${srcdir:?}"

dir=$(mktemp -d) || exit 99
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
tiny=$dir/tiny.safetensors
"$MAKE_MODEL" --d-model=64 --n-layer=2 "$tiny" || exit 99
cd "$dir" || exit 99

TAB=$(printf '\t')
n_failed=0

bad()
{
	echo "FAIL: $*" >&2
	n_failed=$((n_failed + 1))
}

# same WHAT EXPECTED ACTUAL
same()
{
	test "$2" = "$3" && return
	bad "$1: expected"
	printf '%s\n--- but got\n%s\n' "$2" "$3" >&2
}

# same_files WHAT EXPECTED ACTUAL
same_files()
{
	cmp "$2" "$3" >&2 || bad "$1: $2 and $3 differ"
}

# run COMMAND... -- leaves its status, and the files out and err.
run()
{
	status=0
	"$@" >out 2>err || status=$?
}

# refuses STATUS SENTENCE COMMAND... -- the first line on stderr is the
# sentence, and nothing is written.
refuses()
{
	expected=$1 sentence=$2
	shift 2
	run "$@"
	same "status of $*" "$expected" "$status"
	same "sentence of $*" "mambyte: $sentence" "$(head -n 1 err)"
	same "output of $*" "" "$(cat out)"
}

# wait_for COMMAND... -- until it succeeds, 20 seconds at most.
wait_for()
{
	for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
		for _ in 1 2 3 4 5; do
			"$@" && return
			sleep 0.2
		done
	done
	bad "waited in vain for: $*"
	return 1
}

finish()
{
	test $n_failed -eq 0 || echo "$n_failed checks failed" >&2
	exit $((n_failed > 0))
}
