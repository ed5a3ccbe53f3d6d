#!/bin/sh
# cli_signals.sh -- how it ends when it is told to.
#
# SPDX-License-Identifier: MIT
# shellcheck source=tests/cli.sh
. "${srcdir:?}/tests/cli.sh"
export MAMBYTE_MODEL="$tiny"
: "${MAMBYTE_TRAIN:?}" "${MAMBYTE_IMPORT:?}"
printf 'text\n' >text

# ends_by SIGNAL STATUS COMMAND... -- sends it once there is output.
ends_by()
{
	signal=$1 expected=$2
	shift 2
	: >out
	$default "$@" >out 2>err &
	pid=$!
	wait_for test -s out
	kill -s "$signal" $pid
	status=0
	wait $pid || status=$?
	same "status of $* after SIG$signal" "$expected" "$status"
	same "silence of $* after SIG$signal" "" "$(cat err)"
}

# While it writes.
ends_by TERM 143 "$MAMBYTE" -n 1G text
ends_by HUP 129 "$MAMBYTE" -n 1G text

# ends_after SECONDS COMMAND... -- SIGTERM comes when it has run so long, and
# ends it soon, although what it does takes minutes.
ends_after()
{
	# shellcheck disable=SC2016
	run timeout -s KILL 20 sh -c 'seconds=$1
		shift
		"$@" >term.out 2>term.err &
		sleep "$seconds"
		kill -s TERM $!
		wait $!' sh "$@"
	same "status of $* after SIGTERM" 143 "$status"
	same "silence of $* after SIGTERM" "" "$(cat term.err)"
}

# While it reads a record of 10 MB, or packs a block of random bytes.
large=$dir/large.safetensors
"$MAKE_MODEL" --d-model=512 --n-layer=8 "$large" || exit 99
write_labels >labels
head -c 10000000 /dev/zero | tr '\000' x >record
printf 'letters\t%s\n' "$(cat record)" >>labels
mkdir kept
ends_after 1 "$MAMBYTE_TRAIN" -m "$large" --head=labels -o kept/new.head
head -c 16000000 /dev/urandom >kept/random
ends_after 1 "$MAMBYTE" -z -B 16M kept/random
same "what is left" "random" "$(ls -A kept)"

# While it opens a model.  make_endless TYPE FILE -- one of zeros in TYPE, more
# than it can check within a minute, but none of them on the disk.
make_endless()
{
	awk -v type="$1" '
	function put(name, type, n, shape) {
		n *= type == "F32" ? 4 : 1
		printf "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],", \
			at ? "," : "{", name, type, shape
		printf "\"data_offsets\":[%.0f,%.0f]}", at, at + n
		at += n
	}
	function put_matrix(name, rows, cols) {
		put(name ".weight", type, rows * cols, rows "," cols)
		if (type == "I8")
			put(name ".weight_scale", "F32", rows, rows)
	}
	BEGIN {
		d = 16384
		n = d + 64
		put("backbone.embedding.weight", "F32", 256 * d, 256 "," d)
		put("backbone.norm_f.weight", "F32", d, d)
		for (l = 0; l < 256; l++) {
			layer = "backbone.layers." l "."
			mixer = layer "mixer."
			put(layer "norm.weight", "F32", d, d)
			put_matrix(mixer "in_proj", d + n + d / 128, d)
			put(mixer "conv1d.weight", "F32", 4 * n, n ",1,4")
			put(mixer "conv1d.bias", "F32", n, n)
			put(mixer "dt_bias", "F32", d / 128, d / 128)
			put(mixer "A_log", "F32", d / 128, d / 128)
			put(mixer "D", "F32", d / 128, d / 128)
			put(mixer "norm.weight", "F32", d, d)
			put_matrix(mixer "out_proj", d, d)
		}
		printf "}"
		printf "%.0f", at >"size"
	}' >header
	n=$(wc -c <header)
	# shellcheck disable=SC2059
	{
		for i in 0 8 16 24; do
			printf "\\$(printf %o $((n >> i & 255)))"
		done
		printf '\000\000\000\000'
		cat header
	} >"$2"
	truncate -s $((8 + n + $(cat size))) "$2"
}
if [ "$(stat -f -c %T "$dir")" != tmpfs ] && # its holes take memory
	make_endless I8 "$dir/i8.safetensors" &&
	make_endless F32 "$dir/f32.safetensors"; then
	ends_after 1 "$MAMBYTE" -m "$dir/i8.safetensors" --info
	same "what is said of a model that was not opened" "" "$(cat term.out)"
	ends_after 1 "$MAMBYTE" -m "$dir/i8.safetensors" -n 1 text
	ends_after 1 "$MAMBYTE_IMPORT" --quantize=none -o kept/new \
		"$dir/f32.safetensors"
	same "what is left of an import" "random" "$(ls -A kept)"
fi
rm -f "$dir/i8.safetensors" "$dir/f32.safetensors"

# While it waits at a pipe, for input or for a writer.
mkfifo pipe
sleep 60 >pipe &
sleep_pid=$!
ends_after 1 "$MAMBYTE" --score pipe
kill $sleep_pid
ends_after 1 "$MAMBYTE" --score pipe

# A signal that came while it started ends that wait too, and that for the reader
# of a log.
train="$MAMBYTE_TRAIN --device=cpu --d-model=16 --n-layer=1 --windows=1
	--length=2 --log=pipe -o kept/model text"
for seconds in 0.005 0.01 0.015 0.02 0.03 0.05; do
	ends_after $seconds "$MAMBYTE" -m "$large" --score pipe
	ends_after $seconds "$MAMBYTE" -m "$large" --load-state=pipe text
	# shellcheck disable=SC2086
	ends_after $seconds $train
done

# The same where a file that cannot be opened is left out.
mkfifo alone
ends_after 1 "$MAMBYTE" --perplexity alone text

if test -n "$default"; then
	ends_by INT 130 "$MAMBYTE" -n 1G text

	# The colour is taken back.
	head -c 1000000 /dev/zero >zeros
	ends_by INT 130 "$MAMBYTE" --color zeros
	same "the end" "$(printf '\033[0m')" "$(tail -c 4 out)"

	# Nothing is saved by half.
	ends_by INT 130 "$MAMBYTE" -n 1G --save-state=cut.state text
	test -e cut.state && bad "a state was saved after SIGINT"
fi

# A signal that the caller ignores stays ignored.
: >out
(
	trap '' TERM
	exec "$MAMBYTE" -n 20000 text
) >out &
pid=$!
wait_for test -s out
kill -s TERM $pid
status=0
wait $pid || status=$?
same "an ignored SIGTERM" "0 20000" "$status $(wc -c <out | xargs)"

# The reader leaves: silence, and the status of SIGPIPE.
(
	status=0
	$default "$MAMBYTE" -n 1G text 2>err || status=$?
	echo $status >status
) | head -c 5 >out
wait_for test -s status
same "SIGPIPE" "141 5" "$(cat status) $(wc -c <out | xargs)"
same "silence" "" "$(cat err)"
(
	trap '' PIPE
	status=0
	"$MAMBYTE" -n 1G text 2>err || status=$?
	echo $status >status.ignored
) | head -c 5 >out
wait_for test -s status.ignored
same "an ignored SIGPIPE" 1 "$(cat status.ignored)"
same "silence" "" "$(cat err)"

finish
