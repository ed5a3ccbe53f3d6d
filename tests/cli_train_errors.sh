#!/bin/sh
# cli_train_errors.sh -- what mambyte-train refuses, and what it says then.
#
# SPDX-License-Identifier: MIT
#
# shellcheck source=tests/cli.sh
. "${srcdir:?}/tests/cli.sh"
: "${MAMBYTE_TRAIN:?}"

head -c 4096 "$srcdir/tests/text/code" >text
small="--d-model=16 --n-layer=1 --windows=2 --length=32 --steps=4 -o model"

# trains_not STATUS SENTENCE ARGUMENT... -- and no model is there afterwards.
trains_not()
{
	expected=$1 sentence=$2
	shift 2
	refuses_as mambyte-train "$expected" "$sentence" "$MAMBYTE_TRAIN" "$@"
	test -e model && bad "a model after $*" && rm -f model
}

# ---- the command

trains_not 2 "there is no FILE to learn from" -o model
trains_not 2 "--output needs a FILE for the model" text
trains_not 2 "unknown option '--frobnicate'" --frobnicate text
trains_not 2 "unknown option '-x'" -x text
neither="neither a size below 2^64 nor a percentage up to 100"
trains_not 2 "--memlimit: '1Q' is $neither" -M 1Q text
trains_not 2 "--memlimit: '' is $neither" --memlimit= text
trains_not 2 "--tied takes no argument" --tied=yes text
trains_not 2 "--steps needs N" text --steps
trains_not 2 "--steps: 'x' is not a whole number" --steps=x text
trains_not 2 "--steps: '-5' is not a whole number" --steps=-5 text
trains_not 2 "--steps, --bytes and --minutes do not go together" \
	--steps=1 --bytes=5 -o model text
trains_not 2 "--rate: 'nan' is not a number" --rate=nan text
trains_not 2 "--decay: 2 is not between 0 and 1" --decay=2 text
trains_not 2 "--d-model: 30 is not a multiple of 4" --d-model=30 text
trains_not 2 "--architecture: 'mamba3' is neither 'mamba1' nor 'mamba2'" \
	--architecture=mamba3 text
trains_not 2 "--d-state: 24 is not a power of two up to 64" \
	--architecture=mamba1 --d-state=24 text
trains_not 2 "--d-state: 24 is not a multiple of 16" --d-state=24 text
trains_not 2 "--head-dim: 12 is not a multiple of 8" --head-dim=12 text
trains_not 2 "--d-model times --expand, 40, is not a multiple of --head-dim, 16" \
	--d-model=20 --head-dim=16 text
trains_not 2 "--d-model times --expand, 60, is not a multiple of --head-dim, 8" \
	--d-model=20 --expand=3 text
trains_not 2 "8 heads are not a multiple of --groups, 3" --groups=3 text
trains_not 2 "--d-conv: 9 is not between 2 and 8" --d-conv=9 text
trains_not 2 "--imitate: 'int4' is neither 'int8' nor 'none'" \
	--imitate=int4 text
trains_not 2 "--plot needs a --log to draw" --plot=x.svg -o model text
trains_not 2 "--windows times --length is too large" --windows=4096 \
	--length=1M -o model text
trains_not 2 "--device: 'tpu' is not auto, cpu, cuda or cuda:N" --device=tpu
trains_not 2 "--device: 'cuda:x' is not auto, cpu, cuda or cuda:N" \
	--device=cuda:x
trains_not 2 "--gpus: 0 is not between 1 and 1024" --gpus=0 text
trains_not 2 "--gpus and --device=cpu do not go together" --gpus=2 \
	--device=cpu -o model text

# A GPU that is not there: no GPU, no driver, or none in this build.
# shellcheck disable=SC2086
run "$MAMBYTE_TRAIN" $small --device=cuda:1000 text
same "status of a GPU that is not there" 1 "$status"
grep -q -E "GPU|driver|on the CPU only" err || bad "no word of a GPU: $(cat err)"
# shellcheck disable=SC2086
run "$MAMBYTE_TRAIN" $small --gpus=1000 text
same "status of too many GPUs" 1 "$status"
test -e model && bad "a model of no GPU"
run "$MAMBYTE_TRAIN" --help --frobnicate
same "--help" "0 Usage: mambyte-train [OPTION]..." \
	"$status $(head -n 1 out | cut -d ' ' -f 1-3)"
"$MAMBYTE_TRAIN" -h --frobnicate >help
same_files "-h and --help" out help
run "$MAMBYTE_TRAIN" --version
same "--version" "0 mambyte-train" "$status $(cut -d ' ' -f 1 out)"
"$MAMBYTE_TRAIN" -V >version
same_files "-V and --version" out version

# Options of a new model, where there is none, or none of that architecture.
for option in architecture=mamba1 d-model=32 n-layer=1 expand=2 d-state=64 \
	d-conv=4 dt-rank=2 head-dim=16 groups=1 tied; do
	trains_not 2 "--${option%=*} does not go with --init, whose model has \
its shape" -o model --init="$tiny" --$option text
done
trains_not 2 "--dt-rank does not go with --architecture=mamba2" -o model \
	--dt-rank=2 text
for option in head-dim=16 groups=1; do
	trains_not 2 "--${option%=*} does not go with --architecture=mamba1" \
		-o model --architecture=mamba1 --$option text
done

# ---- the data

: >empty
mkdir none
# shellcheck disable=SC2086
{
	trains_not 1 "missing: No such file or directory" $small missing
	trains_not 1 "empty: there are no bytes to learn from" $small empty
	trains_not 1 "none: there are no bytes to learn from" $small none
	trains_not 1 "text: has 3688 bytes to learn from, less than a window of 5000" \
		$small --length=5000 text
	trains_not 2 "'text=x': the weight is not a number from 1e-30 to 1e30" \
		$small text=x
	trains_not 1 "missing: No such file or directory" $small --valid=missing \
		text
	trains_not 2 "standard input can be read only once" $small -- - -=2
	trains_not 2 "standard input can be read only once" $small --valid=- -
	trains_not 2 "--plot: 'x.gif' does not end in .svg or .png" $small \
		--log=log --plot=x.gif text
}

# ---- models and checkpoints

# shellcheck disable=SC2086
{
	trains_not 1 "there is no model named 'missing'; see --list-models" \
		--steps=4 -o model --init=missing text
	trains_not 1 "./missing: No such file or directory" --steps=4 \
		-o model --init=./missing text
	trains_not 1 "$srcdir/weights/language.head: is a head, not a model: \
--classify takes it" --steps=4 -o model --init="$srcdir/weights/language.head" text
	run "$MAMBYTE_TRAIN" --steps=4 -o model --init=text text
	same "a text is no model" 1 "$status"
	trains_not 1 "model.checkpoint: No such file or directory" $small \
		--resume text
	cp "$tiny" model.checkpoint
	trains_not 1 "model.checkpoint: not a checkpoint of this program" $small \
		--resume text
	run "$MAMBYTE_TRAIN" $small --force text
	same "a good run" 0 "$status"
	rm model
	trains_not 1 "model.checkpoint: backbone.embedding.weight is F32 [256][16], which is not the shape in training" \
		$small --d-model=32 --resume text
	run "$MAMBYTE_TRAIN" $small --seed=5 --resume text
	same "another run" 1 "$status"
	grep -q 'model.checkpoint: the checkpoint is of another run' err ||
		bad "another run: $(cat err)"
	echo more >>text
	run "$MAMBYTE_TRAIN" $small --steps=5 --resume text
	same "other data" 1 "$status"
}

# ---- where it is written

# shellcheck disable=SC2086
{
	trains_not 1 "/dev/full: No space left on device" $small \
		-o /dev/full --checkpoint=c text
	trains_not 1 "nowhere/model: No such file or directory" $small \
		-o nowhere/model --checkpoint=c text
	mkfifo fifo
	trains_not 2 "/dev/fd/3: is not a regular file, so the run needs a \
--checkpoint=FILE" $small -o /dev/fd/3 text 3<>fifo
	trains_not 1 "/dev/full: write error: No space left on device" $small \
		--log=/dev/full -f text
	status=0
	"$MAMBYTE_TRAIN" $small -o m text >/dev/full 2>err || status=$?
	same "a full stdout" "1 mambyte-train: write error: No space left on device" \
		"$status $(cat err)"
}

# A checkpoint that cannot be written does not end the run before its end; the
# last one stays.
# shellcheck disable=SC2086
run "$MAMBYTE_TRAIN" $small --checkpoint=nowhere/c --checkpoint-minutes=0 text
same "no room for the checkpoint" \
	"1 mambyte-train: nowhere/c: No such file or directory" \
	"$status $(sort -u err)"

# ---- a run that goes wrong

run "$MAMBYTE_TRAIN" --d-model=16 --n-layer=1 --windows=2 --length=32 \
	--steps=200 --rate=10 --warmup=0 --clip=1000000 --imitate=none \
	--checkpoint-minutes=0 -o wild text
same "a run that goes wrong" 1 "$status"
grep -q "^mambyte-train: step [0-9]*: the loss .*lower --rate may help" err ||
	bad "a run that goes wrong: $(cat err)"
test -e wild && bad "a model of a run that went wrong"

finish
