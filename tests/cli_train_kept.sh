#!/bin/sh
# cli_train_kept.sh -- a run of mambyte-train that ends badly keeps what it has
# learnt, and says where.
#
# SPDX-License-Identifier: MIT
#
# shellcheck source=tests/cli.sh
. "${srcdir:?}/tests/cli.sh"
: "${MAMBYTE_TRAIN:?}"

head -c 4096 "$srcdir/tests/text/code" >text
small="--device=cpu -T 1 --d-model=16 --n-layer=1 --windows=2 --length=32"
# shellcheck disable=SC2317 # through run
train()
{
	# shellcheck disable=SC2086
	"$MAMBYTE_TRAIN" $small "$@"
}

# train_behind ARGUMENT... -- in the background, until it has made a step.
train_behind()
{
	rm -f log
	# shellcheck disable=SC2086
	$default "$MAMBYTE_TRAIN" $small --log=log "$@" >out 2>err &
	pid=$!
	wait_for grep -qs '^3	' log
}

# ends STATUS WHAT -- after a signal.
ends()
{
	status=0
	wait $pid 2>/dev/null || status=$?
	same "status of $2" "$1" "$status"
}

# ---- signals

# A save that fails is said before the signal ends the run.
train_behind --steps=1M --checkpoint=/dev/full -o model text
kill -s TERM $pid
ends 143 "a run that cannot be saved"
same "the sentence" "mambyte-train: /dev/full: No space left on device" \
	"$(cat err)"

# A second signal does not interrupt the save: this one waits for a reader.
mkfifo pipe
train_behind --steps=1M --checkpoint=pipe -o model text
kill -s TERM $pid
sleep 0.3
kill -s TERM $pid
kill -s HUP $pid
sleep 0.1
timeout 20 cat pipe >run
ends 143 "a run that was told twice"
grep -q 'kept in pipe: --resume goes on' err || bad "told twice: $(cat err)"
step=$(sed -n 's/.*interrupted at step \([0-9]*\).*/\1/p' err)
run train --resume --steps="$step" --checkpoint=run -o model text
same "the run that was saved" "0 " "$status $(cat err)"

# Only one run at a time writes a file, by whatever name.  A claim ends with its
# run, however that ends, and leaves nothing behind.
mkdir place
ln -s place other
train_behind --steps=1M -o place/model text
refused="1 mambyte-train: place/model: another run is going to write it"
for option in --steps=4 --force --resume; do
	run train $option -o place/model text
	same "a second run, $option" "$refused" "$status $(cat err)"
done
run train --steps=4 --checkpoint=other/model.checkpoint -o model text
same "a second run with the same checkpoint" "1 mambyte-train: \
other/model.checkpoint: another run is going to write it" "$status $(cat err)"
run train --steps=4 -o place/second text
same "a run beside it" "0 " "$status $(cat err)"
kill -s KILL $pid
ends 137 "a run that was killed"
run train --steps=4 -o place/model text
same "the next run" "0 " "$status $(cat err)"
same "what is there" "model
model.checkpoint
second
second.checkpoint" "$(ls -A place)"
rm -r place other

# ---- places that fail late

run train -f --steps=4 --checkpoint=run -o /dev/full text
same "a model without room" 1 "$status"
same "the sentences" "mambyte-train: /dev/full: No space left on device
mambyte-train: the run ends at step 4, kept in run: --resume goes on" \
	"$(cat err)"
same "lines of a run without a model" "" "$(cat out)"
run train --steps=4 -o expected text
run train --steps=4 --resume --checkpoint=run -o model text
same "the model, later" "0 " "$status $(cat err)"
same_files "the model, later" expected model
run train --steps=3 --resume --checkpoint=run -o model text
same "a run that was longer" "0 mambyte-train: warning: run: the run is at \
step 4 already, past the 3 of this command" "$status $(cat err)"
same_files "and stays so" expected model

rm model
run train --steps=4 --checkpoint=/dev/full -o model text
same "a checkpoint without room" \
	"1 mambyte-train: /dev/full: No space left on device" \
	"$status $(cat err)"
same_files "the model is there" expected model
same "its line" text "$(cut -f 1 out)"

# A file system of a few pages, where a user may mount one.
# within OPTIONS COMMAND -- runs it while the folder full is such a one.
mkdir full
# shellcheck disable=SC2016
within()
{
	unshare -rm sh -c 'mount -t tmpfs -o "$1" none full && eval "$2"' \
		sh "$1" "$2"
}
export MAMBYTE_TRAIN small
# shellcheck disable=SC2016
if within size=8k : 2>/dev/null; then
	run within size=8k '"$MAMBYTE_TRAIN" $small --steps=4 -f \
		--checkpoint=run -o full/model text'
	same "a disk without room for the model" \
		"1 mambyte-train: full/model: No space left on device" \
		"$status $(head -n 1 err)"
	run train --steps=4 --resume --checkpoint=run -o model text
	same_files "the model, on another disk" expected model

	run within size=8k '"$MAMBYTE_TRAIN" $small --steps=400 -f -o model \
		--log=full/log text && cp full/log log'
	same "a disk without room for the log" \
		"0 full/log: write error: No space left on device" \
		"$status $(sed -n 's/.*warning: \(.*\): the log.*/\1/p' err)"
	same "half a line" "" "$(awk -F '\t' 'NF != 7' log)$(tail -c 1 log)"

	run within size=8k,ro '"$MAMBYTE_TRAIN" $small --steps=1M \
		-o full/model text'
	same "a disk that is read-only" \
		"1 mambyte-train: full/model: Read-only file system" \
		"$status $(cat err)"
fi

# A log whose reader goes away, when it gets a line that would kill: more lines
# than a pipe holds.
rm -f pipe
mkfifo pipe
(
	timeout 20 head -n 3 pipe >lines
) &
run train -f --d-model=4 --windows=1 --length=8 --steps=4000 --log=pipe \
	-o model text
same "a log without a reader" 0 "$status"
grep -q '^mambyte-train: warning: pipe: write error: Broken pipe: the log lacks' \
	err ||
	bad "the log: $(cat err)"
same "warnings" 1 "$(wc -l <err | xargs)"

# ---- data are known by their bytes

run train -f --steps=4 --checkpoint=run -o model text
mkdir folder
cp text folder/other
for name in ./text "$dir/text" folder/other folder; do
	run train --steps=4 --resume --checkpoint=run -o model "$name"
	same "resuming with $name" "0 " "$status $(cat err)"
done
tr e f <text >other
run train --steps=4 --resume --checkpoint=run -o model other
same "other bytes" 1 "$status"

finish
