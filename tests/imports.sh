# imports.sh -- what the tests of mambyte-import share; sourced after cli.sh.
#
# SPDX-License-Identifier: MIT
#
# shellcheck shell=sh disable=SC2034
: "${MAMBYTE_IMPORT:?}"
data=$srcdir/tests/data/import
head -c 3000 "$srcdir/tests/text/books" >text

# imports ARGUMENT... -- into model, without a word on stderr.
imports()
{
	rm -f model
	run "$MAMBYTE_IMPORT" -o model "$@"
	same "import $*" "0 " "$status $(cat err)"
	test -s model || bad "no model after $*"
}

# imports_not STATUS SENTENCE ARGUMENT... -- and model is not there; stdout may
# describe the checkpoint.
imports_not()
{
	expected=$1 sentence=$2
	shift 2
	rm -f model
	run "$MAMBYTE_IMPORT" -o model "$@"
	same "status of $*" "$expected" "$status"
	same "sentence of $*" "mambyte-import: $sentence" "$(head -n 1 err)"
	test ! -e model || bad "a model after $*"
}
