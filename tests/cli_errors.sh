#!/bin/sh
# cli_errors.sh -- one sentence, the right status, nothing half done.
#
# SPDX-License-Identifier: MIT
# shellcheck source=tests/cli.sh
. "${srcdir:?}/tests/cli.sh"
: "${MAMBYTE_TRAIN:?}"
export MAMBYTE_MODEL="$tiny"
printf 'text\n' >text

# ---- the command line: status 2, and where help is

misused()
{
	sentence=$1
	shift
	refuses 2 "$sentence" "$MAMBYTE" "$@" text
	same "hint of $*" "Try 'mambyte --help' for more information." \
		"$(tail -n +2 err)"
}

misused "unknown option '--frobnicate'" --frobnicate
misused "unknown option '--frobnicate'" --frobnicate=5
misused "unknown option '-x'" -x
misused "option '--s' is ambiguous" --s=5
misused "--json takes no argument" --score --json=yes
misused "--bytes: '-5' is not a whole number" -n -5
misused "--bytes: '' is not a whole number" -n ''
misused "--bytes: '1.5' is not a whole number" --bytes=1.5
misused "--bytes: '5x' is not a whole number" --bytes=5x
misused "--bytes: 99999999999999999999 is not between 0 and \
4611686018427387904" -n 99999999999999999999
misused "--temp: 'nan' is not a number" --temp=nan
misused "--temp: 'inf' is not a number" --temp=inf
misused "--temp: '0x1' is not a number" --temp=0x1
misused "--temp: -1 is not between 0 and 100" --temp=-1
misused "--temp: 1e999 is not between 0 and 100" --temp=1e999
misused "--top-p: 2 is not between 0 and 1" --top-p=2
misused "--top-p: 0 leaves no byte to choose" --top-p=0
misused "--top-k: 0 is not between 1 and 256" --top-k=0
misused "--top-k: 257 is not between 1 and 256" --top-k=257
misused "--min-p: 1.01 is not between 0 and 1" --min-p=1.01
misused "--seed: 'dice' is neither a whole number below 2^64 nor 'random'" \
	--seed=dice
misused "--seed: '18446744073709551616' is neither a whole number below 2^64 \
nor 'random'" --seed=18446744073709551616
misused "--stop needs a string that is not empty" --stop=
misused "--context: 'keep' is neither 'carry' nor 'reset'" \
	--score --context=keep
misused "--threshold: '' is not a number" --score --threshold=
misused "--device: 'tpu' is not auto, cpu, cuda or cuda:N" --device=tpu
misused "--device: 'cuda:x' is not auto, cpu, cuda or cuda:N" --device=cuda:x
misused "--threads: 1025 is not between 0 and 1024" -T 1025
misused "--json needs a mode such as --perplexity" --json
misused "--words does not go with --score" --words --score
misused "--temp does not go with --perplexity" --temp=1 --perplexity
misused "--null does not go with --surprisal" -0 --surprisal
misused "--save-state does not go with --context=reset" \
	--score --context=reset --save-state=x
misused "there is nothing to do with 'text': --info takes --model=FILE" --info
misused "there is nothing to do with 'text'" --list-models
misused "standard input can be read only once" --perplexity - -
refuses 2 "--bytes needs N" "$MAMBYTE" text -n
refuses 2 "--stop needs STRING" "$MAMBYTE" --stop

# The last mode wins; --help and --version at once.
run "$MAMBYTE" --score --perplexity text
same "the last mode" "text${TAB}5" "$(cut -f 1,2 out)"
run "$MAMBYTE" --help --frobnicate
same "--help" "0 Usage: mambyte [OPTION]... [FILE]..." "$status $(head -n 1 out)"
"$MAMBYTE" -h >help
same_files "-h and --help" out help
run "$MAMBYTE" --version
same "--version" "0 mambyte" "$status $(cut -d ' ' -f 1 out)"
"$MAMBYTE" -V >version
same_files "-V and --version" out version

# ---- sources

refuses 1 "missing: No such file or directory" "$MAMBYTE" missing
refuses 1 "text/x: Not a directory" "$MAMBYTE" text/x
refuses 1 ".: is a directory, not a file" "$MAMBYTE" .
for mode in --score --surprisal --perplexity -n5; do
	run "$MAMBYTE" $mode <.
	same "a directory on stdin, $mode" \
		"1 mambyte: standard input: is a directory, not a file" \
		"$status $(cat err)"
	run "$MAMBYTE" $mode <&-
	same "no stdin, $mode" "1 mambyte: standard input: Bad file descriptor" \
		"$status $(cat err)"
done
if test "$(id -u)" != 0; then
	: >secret
	chmod 000 secret
	refuses 1 "secret: Permission denied" "$MAMBYTE" --score secret
fi

# ---- the sink

full="mambyte: write error: No space left on device"
closed="mambyte: write error: Bad file descriptor"
for options in -n5 --score --perplexity --surprisal --color --info --help \
	--version; do
	operand=text
	case $options in --info | --help | --version) operand= ;; esac
	status=0
	"$MAMBYTE" $options $operand >/dev/full 2>err || status=$?
	same "/dev/full, $options" "1 $full" "$status $(cat err)"
	status=0
	"$MAMBYTE" $options $operand >&- 2>err || status=$?
	same "stdout closed, $options" "1 $closed" "$status $(cat err)"
done
status=0
"$MAMBYTE" -n 5 text 2>&- >out || status=$?
same "stderr closed" "0 5" "$status $(wc -c <out | xargs)"

# A state is not saved when the output could not be written.
"$MAMBYTE" -n 5 --save-state=never.state text >/dev/full 2>err
test -e never.state && bad "a state was saved after a write error"

# ---- descriptors

# within N COMMAND... -- with no descriptor from N on.
within()
{
	# shellcheck disable=SC2016
	run sh -c 'ulimit -n "$0" && exec "$@"' "$@"
}

# Whatever lacks a descriptor says so, and nothing else: a sandbox that lacks one
# does not make files seem forbidden.
train="$MAMBYTE_TRAIN --device=cpu --d-model=16 --n-layer=1 --windows=1
	--length=2 --valid-bytes=1 --steps=1 -o model"
"$MAMBYTE" -z <text >text.mbz
# shellcheck disable=SC2086
$train text >out 2>err || bad "training: $(cat err)"
for n in 4 5 6 7 8 9 10 11 12 13 14 15 16; do
	within $n "$MAMBYTE" --version
	test "$status" = 0 || continue
	for command in "$MAMBYTE -dc text.mbz" "$MAMBYTE -df text.mbz" \
		"$MAMBYTE -l text.mbz" "$train --resume text" \
		"$train --force --checkpoint=model.checkpoint text"; do
		cp text.mbz kept
		# shellcheck disable=SC2086
		within $n $command
		mv kept text.mbz
		test "$status" = 0 && continue
		same "status of $command within $n" 1 "$status"
		same "sentence of $command within $n" "Too many open files" \
			"$(sed -n '1s/.*: //p' err)"
	done
done

# ---- the model

refuses 1 "nowhere.safetensors: No such file or directory" \
	"$MAMBYTE" -m nowhere.safetensors text
run "$MAMBYTE" -m ./text text
same "a file that is no model" 1 "$status"
grep -q '^mambyte: ./text: ' err || bad "no sentence: $(cat err)"
run "$MAMBYTE" -m . text
same "a folder that is no model" 1 "$status"

# is_no_model SENTENCE -- of the file other.
is_no_model()
{
	refuses 1 "./other: $1" "$MAMBYTE" -m ./other text
}
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:0\n' >other
is_no_model "is a pointer of git-lfs, not the file: 'git lfs pull' fetches it"
printf 'GGUF\3\0\0\0' >other
is_no_model "is GGUF, which mambyte does not read: import the checkpoint that it \
was made from"
printf 'PK\3\4' >other
is_no_model "is a zip archive, such as PyTorch writes: mambyte-import makes a \
model of those"

head -c 5000 "$tiny" >cut.safetensors
run "$MAMBYTE" --info -m cut.safetensors
same "a truncated model" "1 0" "$status $(wc -c <out | xargs)"
same "one sentence" 1 "$(wc -l <err | xargs)"

# One that is truncated while it runs, and then needed: the fingerprint of a
# state is over all tensors.
cp "$tiny" vanishing.safetensors
mkfifo pipe
"$MAMBYTE" -m vanishing.safetensors --score --save-state=x.state \
	<pipe >out 2>err &
pid=$!
exec 3>pipe
echo begin >&3
wait_for grep -q begin out
: >vanishing.safetensors
exec 3>&-
status=0
wait $pid || status=$?
same "a model that vanishes" \
	"1 mambyte: vanishing.safetensors: the file shrank or vanished while in use" \
	"$status $(cat err)"
test -e x.state && bad "a state of a model that vanished"

finish
