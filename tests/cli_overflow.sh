#!/bin/sh
# cli_overflow.sh -- a model whose activations overflow is an error, in
# whatever asks for its predictions or features; on a GPU, too, if there is one.
#
# SPDX-License-Identifier: MIT
#
# shellcheck source=tests/cli.sh
. "${srcdir:?}/tests/cli.sh"
: "${MAMBYTE_IMPORT:?}" "${MAMBYTE_TRAIN:?}"

head -c 2000 "$srcdir/tests/text/books" >text
printf 'a\tone two\nb\tthree four\na\tone\nb\tthree\n' >labels
says="the model overflows on this input: its predictions are not finite"

# overflows MODEL COMMAND... -- with nothing on stdout.
overflows()
{
	model=$1
	shift
	run "$@"
	same "status of $*" 1 "$status"
	same "sentence of $*" "./$model: $says" \
		"$(sed -n '1s/^[a-z-]*: //p' err)"
	same "output of $*" "" "$(cat out)"
}

# by_device DEVICE ARCHITECTURE WEIGHTS
by_device()
{
	device=$1
	model=$2.$3
	# shellcheck disable=SC2086
	for threads in 1 3; do
		run="$MAMBYTE --device=$device -T $threads -m ./$model"
		for task in --perplexity --score --surprisal --color \
			"-n 5 --temp=0" --embed --next; do
			overflows $model $run $task text
		done
	done
	test "$3" = I8 || return 0
	# shellcheck disable=SC2086
	run $run -zc text
	same "compressing by $model" "1 mambyte: ./$model: $says" \
		"$status $(cat err)"
	overflows "$model" "$MAMBYTE_TRAIN" -q --head=labels -m "./$model" \
		--device="$device" -o head
	test ! -e head || bad "a head of $model"
}

"$MAKE_MODEL" --d-model=32 --n-layer=2 fine
devices=cpu
run "$MAMBYTE" --device=cuda -m ./fine --next text
test "$status" != 0 || devices="cpu cuda"

# Of two layers, so that a later one reads what is not finite.
for architecture in mamba1 mamba2; do
	for weights in I8 F32 BF16; do
		"$MAKE_MODEL" --architecture=$architecture --d-model=32 \
			--n-layer=2 --headdim=16 --begin-byte=-1 \
			--weights=$weights --overflow=logits \
			$architecture.$weights
		by_device cpu $architecture $weights
		# A GPU takes no floats of Mamba-2.
		test $architecture.$weights = mamba2.F32 && continue
		test $architecture.$weights = mamba2.BF16 && continue
		test "$devices" = cpu || by_device cuda $architecture $weights
	done
	# What was found is printed before it is measured.
	run "$MAMBYTE_IMPORT" -q --calibrate=text -o int8 ./$architecture.F32
	same "calibration" "1 mambyte-import: ./$architecture.F32: $says" \
		"$status $(cat err)"
	test ! -e int8 || bad "a model of $architecture.F32"
	same "no figure" "" "$(grep 'bits per byte' out)"
done

# An int8 model may overflow between its quantised vectors, where only the
# features are seen.
"$MAKE_MODEL" --d-model=32 --n-layer=2 --overflow=features features
for device in $devices; do
	run "$MAMBYTE" --device="$device" -m ./features --perplexity text
	same "predictions are finite" "0 " "$status $(cat err)"
	overflows features "$MAMBYTE" --device="$device" -m ./features --embed \
		text
	overflows features "$MAMBYTE_TRAIN" -q --head=labels -m ./features \
		--device="$device" -o head
	test ! -e head || bad "a head of features that are not finite"
done

finish
