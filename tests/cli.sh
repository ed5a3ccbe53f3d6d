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

# Bash also runs this in a child that a signal ends before it has become another
# program: only the shell that made the folder removes it.
dir=$(mktemp -d) || exit 99
# shellcheck disable=SC2016
trap 'test "$(exec sh -c "echo \$PPID")" != $$ ||
	{ chmod -R u+w "$dir"; rm -rf "$dir"; }' EXIT
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

# value KEY -- of what was printed
value()
{
	sed -n "s/^$1  *//p" out
}

# refuses_as PROGRAM STATUS SENTENCE COMMAND... -- the first line on stderr is
# the sentence, and nothing is written.
refuses_as()
{
	program=$1 expected=$2 sentence=$3
	shift 3
	run "$@"
	same "status of $*" "$expected" "$status"
	same "sentence of $*" "$program: $sentence" "$(head -n 1 err)"
	same "output of $*" "" "$(cat out)"
}

# refuses STATUS SENTENCE COMMAND...
refuses()
{
	refuses_as mambyte "$@"
}

# has_level LEVEL -- whether this CPU has that level of instructions.  A level
# that fails in any other way is a failure.
has_level()
{
	MAMBYTE_CPU=$1 "$MAMBYTE" --device=cpu -n 0 /dev/null >level 2>&1 &&
		return
	grep -q 'this CPU has no level' level || bad "$1: $(cat level)"
	return 1
}

# write_labels -- lines of digits and of letters, which even random weights tell
# apart.
write_labels()
{
	i=0
	while [ $i -lt 60 ]; do
		i=$((i + 1))
		echo "digits${TAB}$((i * 7919)) $((i * 104729)) $((i * 31 % 17))"
		echo "letters${TAB}$(echo "$((i * 7919))$((i * 104729))" |
			tr 0-9 a-j) zyx"
	done
}

# A command in the background has SIGINT ignored, and under nohup SIGHUP, which
# we respect: env gives the defaults back where it can.
# shellcheck disable=SC2034 # for the tests
if env --default-signal=INT,HUP,PIPE true 2>/dev/null; then
	default="env --default-signal=INT,HUP,PIPE"
else
	default=
fi

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

# check_options PROGRAM PAGE LEAST TEST... -- the options that --help lists,
# at least so many, are those of the manual, and the tests use each.
check_options()
{
	program=$1 page=$2 least=$3
	shift 3
	"$program" --help >help || bad "--help"
	# Long options, and short ones with the long one that they stand for.
	sed -n 's/^  ....--\([a-z0-9-]*\).*/\1/p' help | sort >help.long
	sed -n 's/^  -\(.\), --\([a-z0-9-]*\).*/\1 \2/p' help |
		sort >help.short
	test "$(wc -l <help.long)" -ge "$least" ||
		bad "--help has too few options"

	# In the manual, what an item of a list is headed with.
	sed -n '/^\.Sh DESCRIPTION/,/^\.Sh \(ENVIRONMENT\|FILES\)/s/^\.It//p' \
		"$page" >items
	grep -o 'Fl -[a-z0-9-]*' items | sed 's/Fl -//' | sort -u >man.long
	sed -n 's/.*Fl \([A-Za-z0-9]\) .*Fl -\([a-z0-9-]*\).*/\1 \2/p' items |
		sort >man.short
	same_files "long options of --help and manual" help.long man.long
	same_files "short options of --help and manual" help.short man.short

	while read -r option; do
		grep -q -e "--$option\b" "$@" || bad "no test uses --$option"
	done <help.long
	while read -r letter option; do
		grep -q -e " -$letter\b" "$@" ||
			bad "no test uses -$letter (--$option)"
	done <help.short
	same "lines of --help over 80 columns" "" "$(grep '.\{80\}' help)"
}

# check_displays LEAST -- in the file displays, a line that begins with "$ "
# is a command, and what follows up to the next one is its output, to the last
# byte.  There are at least so many, and none writes to stderr.
check_displays()
{
	n=0
	while IFS= read -r line; do
		case $line in
		'$ '*)
			n=$((n + 1))
			printf '%s\n' "${line#??}" >command.$n
			: >expected.$n
			;;
		*) printf '%s\n' "$line" >>expected.$n ;;
		esac
	done <displays
	test $n -ge "$1" || bad "only $n examples"

	i=0
	while [ $i -lt $n ]; do
		i=$((i + 1))
		run sh ./command.$i </dev/null
		same "status of $(cat command.$i)" 0 "$status"
		test -z "$(tail -c 1 out)" || echo >>out
		same "$(cat command.$i)" "$(cat expected.$i)" "$(cat out)"
		same "stderr of $(cat command.$i)" "" "$(cat err)"
	done
}

# check_examples LEAST -- the lines of the file examples, at least so many,
# are commands that end well, silently, and leave an output.
check_examples()
{
	test "$(wc -l <examples)" -ge "$1" || bad "too few examples"
	while IFS= read -r line; do
		echo "$line" >example
		run sh ./example </dev/null
		same "$line" "0 " "$status $(cat err)"
		test -s out || bad "no output of $line"
	done <examples
}

finish()
{
	test $n_failed -eq 0 || echo "$n_failed checks failed" >&2
	exit $((n_failed > 0))
}
