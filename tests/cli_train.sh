#!/bin/sh
# cli_train.sh -- mambyte-train: a run, its log, its model, and going on after
# an interruption.
#
# SPDX-License-Identifier: MIT
#
# shellcheck source=tests/cli.sh
. "${srcdir:?}/tests/cli.sh"
: "${MAMBYTE_TRAIN:?}"

# A text that is quickly learnt.
i=0
while [ $i -lt 400 ]; do
	i=$((i + 1))
	echo "In the beginning was the byte, and the byte was read, verse $i."
done >verses
mkdir folder
cp "$srcdir/tests/text/code" folder/code
head -c 8000 verses >folder/verses

# A small model, quickly: some options may be given again.
quick="--device=cpu --windows=4 --length=64 --carry=4 --rate=0.01 --warmup=5
	--seed=7"
small="$quick --d-model=32 --n-layer=1"
train()
{
	# shellcheck disable=SC2086
	"$MAMBYTE_TRAIN" $small "$@"
}

# train_behind ARGUMENT... -- in the background; not through train, so that
# $! is the program.
train_behind()
{
	# shellcheck disable=SC2086
	$default "$MAMBYTE_TRAIN" $small "$@" >out 2>err &
	pid=$!
}

# crawl COMMAND... -- until it succeeds, the program runs for a moment at a time:
# it does not get far while nobody looks.
crawl()
{
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		for _ in 1 2 3 4 5 6 7 8 9 10; do
			kill -STOP $pid
			"$@" && return
			kill -CONT $pid
			sleep 0.02
		done
	done
	wait_for "$@"
}

# ---- a run

run train --steps=40 --valid-every=20 --log=log -o model verses=3 folder
same "a run" "0 " "$status $(cat err)"
same "sources" "verses
folder
total" "$(cut -f 1 out)"
same "header of the log" \
	"step bytes bits_per_byte gradient_norm learning_rate seconds valid:verses valid:folder" \
	"$(head -n 1 log | tr '\t' ' ')"
same "rows of the log" "41 40 10240" \
	"$(wc -l <log | xargs) $(tail -n 1 log | cut -f 1,2 | tr '\t' ' ')"
same "validated at" "20 40" "$(sed 1d log | awk -F '\t' '$7 != "" { print $1 }' | xargs)"
awk -F '\t' 'NR == 2 { first = $3 } END { exit !($3 < first - 2) }' log ||
	bad "nothing was learnt: $(cut -f 3 log | xargs)"

# The bits are those of the model that was written: of a tenth of so short a
# text, to which a NUL at the end belongs.
n=$((($(wc -c <verses) + 1) / 10))
{
	tail -c $((n - 1)) verses
	printf '\0'
} >held-out
run "$MAMBYTE" -m ./model --perplexity held-out
expected=$(cut -f 2-4 out)
run train --steps=40 -o again verses=3 folder
same "bits of the model" "$expected" "$(sed -n 1p out | cut -f 2-4)"
same_files "the same run again" model again
run train --steps=40 -T 3 -o threads verses=3 folder
same_files "with three threads" model threads
same "what was trained" "40 10240" \
	"$("$MAMBYTE" --info -m ./model |
		sed -n 's/.* trained_[sb][ty][et][a-z]* = //p' | xargs)"

# ---- lengths

run train --bytes=1000 -o short verses --log=bytes.log
same "--bytes" 4 "$(tail -n 1 bytes.log | cut -f 1)"
run train --force --minutes=0.02 -o short verses --log=minutes.log
same "--minutes" 0 "$status"
awk -F '\t' 'END { exit !($6 > 0.8 && $6 < 30) }' minutes.log ||
	bad "--minutes: $(tail -n 1 minutes.log)"
head -c 20000 verses | train -f -o short --log=once.log - >out 2>err
same "standard input, every byte once" 71 "$(tail -n 1 once.log | cut -f 1)"

# ---- other shapes and ways

# odd_shape ARGUMENT...
odd_shape()
{
	run train -f --steps=2 -o odd --expand=3 --d-conv=3 --n-layer=2 --tied \
		--decay=0.5 --weight-decay=0 --clip=0.5 --carry=1 \
		--valid=folder --valid-bytes=2K -q --device=cpu "$@" verses
	same "$*" "0 folder 2048" "$status $(cut -f 1,2 out | tr '\t' ' ')"
	run "$MAMBYTE" -n 5 -m ./odd verses
	same "the model of $* runs" "0 5" "$status $(wc -c <out | xargs)"
}
odd_shape --architecture=mamba1 --d-model=20 --d-state=8 --dt-rank=5 \
	--imitate=none
odd_shape --d-model=24 --d-state=32 --groups=3
odd_shape --d-model=16 --d-state=16 --head-dim=16 --imitate=none --length=80
odd_shape --architecture=mamba1 --d-model=32

# Fine-tuning begins where the model is.
# shellcheck disable=SC2086
run "$MAMBYTE_TRAIN" $quick --init=./model --steps=3 --log=tuned.log -o tuned \
	--rate=0.001 verses
same "fine-tuning" 0 "$status"
awk -F '\t' 'NR == 2 { exit !($3 < 5) }' tuned.log ||
	bad "fine-tuning began at $(sed -n 2p tuned.log)"
mkdir -p usr/bin usr/share/mambyte/weights
cp "$MAMBYTE_TRAIN" usr/bin/mambyte-train || exit 99
cp model usr/share/mambyte/weights/named.safetensors
# shellcheck disable=SC2086
run usr/bin/mambyte-train $quick --init=named --steps=3 -o tuned.named \
	--rate=0.001 verses
same_files "fine-tuning by name" tuned tuned.named

# ---- interruptions

sed 1d log | cut -f 1-5 >expected
# Killed once it has a checkpoint; again where it came to its end all the same.
for _ in 1 2 3 4 5 6 7 8 9 10; do
	rm -f cut cut.checkpoint cut.log
	train_behind --steps=40 --valid-every=20 --log=cut.log \
		--checkpoint-minutes=0 --progress -o cut verses=3 folder
	crawl test -s cut.checkpoint
	kill -KILL $pid
	wait $pid 2>/dev/null
	test -e cut || break
done
test -e cut && bad "a model of a run that was killed"
run train --steps=40 --valid-every=20 --log=cut.log --resume -v \
	-o cut verses=3 folder
same "after a kill" 0 "$status"
grep -q 'going on from step' err || bad "--resume began anew: $(cat err)"
sed 1d cut.log | cut -f 1-5 >actual
same_files "losses after a kill" expected actual
same_files "the model after a kill" model cut

for signal in TERM HUP; do
	rm -f cut.checkpoint cut.log
	train_behind --steps=100000 --log=cut.log -o cut verses=3 folder
	wait_for grep -qs '^3	' cut.log
	kill -$signal $pid
	status=0
	wait $pid 2>/dev/null || status=$?
	test $status -gt 128 || bad "$signal ended it with status $status"
	grep -q 'kept in cut.checkpoint: --resume goes on' err ||
		bad "after $signal: $(cat err)"
	test -s cut.checkpoint || bad "no checkpoint after $signal"
done

# A run that is over is not trained again, but may be made longer.
cp model.checkpoint longer.checkpoint
run train --steps=40 --resume --verbose -o longer verses=3 folder
grep -q '40 steps of 256 bytes' err || bad "--verbose: $(cat err)"
same_files "a run that is over" model longer
run train --steps=42 --resume --output=longer --log=longer.log --quiet \
	--threads=2 verses=3 folder
same "a longer run" "41 42" "$(cut -f 1 longer.log | sed 1d | xargs)"

# A log that lost all its lines gets a header.
: >longer.log
run train --steps=43 --resume --output=longer --log=longer.log \
	verses=3 folder
head -n 1 log >expected
head -n 1 longer.log >actual
same_files "the header of a log that was empty" expected actual
same "the step after it" 43 "$(cut -f 1 longer.log | sed 1d)"

# ---- the plot

if command -v gnuplot >/dev/null; then
	run train --steps=3 --log=p.log --plot=p.svg -o p verses
	same "--plot" 0 "$status"
	grep -q '<svg' p.svg || bad "no plot"
fi

# One that fails leaves the plot that was there.
mkdir bin
printf '#!/bin/sh\necho half; exit 3\n' >bin/gnuplot
chmod +x bin/gnuplot
echo '<svg>old' >q.svg
PATH=$PWD/bin:$PATH run train --steps=3 --log=q.log --plot=q.svg -o q verses
same "status when gnuplot fails" 1 "$status"
same "the old plot" "<svg>old" "$(cat q.svg)"
printf '#!/bin/sh\ngrep -q "^plot .[.]/<*q.log" && echo drawn\n' >bin/gnuplot
PATH=$PWD/bin:$PATH run train -f --steps=3 --log=q.log --plot=q.svg -o q verses
same "the new plot" "0 drawn" "$status $(cat q.svg)"
PATH=$PWD/bin:$PATH run train --steps=3 --log="<q.log" --plot=r.svg -o r verses
same "the plot of a log with the name of a command" "0 drawn" \
	"$status $(cat r.svg)"

# A caller that ignores the ends of its children has ours ignore them too.
if env --ignore-signal=CHLD true 2>/dev/null; then
	echo old >q.svg
	PATH=$PWD/bin:$PATH run env --ignore-signal=CHLD "$MAMBYTE_TRAIN" -f \
		--device=cpu --d-model=16 --n-layer=1 --windows=2 --length=32 \
		--steps=3 --log=q.log --plot=q.svg -o q verses
	same "a plot where SIGCHLD is ignored" "0 drawn" "$status $(cat q.svg)"
fi

finish
