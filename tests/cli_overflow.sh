#!/bin/sh
# cli_overflow.sh -- a model whose activations overflow is an error, in
# whatever asks for its predictions or features.
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

# Of two layers, so that a later one reads what is not finite.
for architecture in mamba1 mamba2; do
	for weights in I8 F32 BF16; do
		model=$architecture.$weights
		"$MAKE_MODEL" --architecture=$architecture --d-model=32 \
			--n-layer=2 --headdim=16 --begin-byte=-1 \
			--weights=$weights --overflow=logits $model
		for threads in 1 3; do
			run="$MAMBYTE --device=cpu -T $threads -m ./$model"
			# shellcheck disable=SC2086
			for task in --perplexity --score --surprisal --color \
				"-n 5 --temp=0" --embed --next; do
				overflows $model $run $task text
			done
		done
		test $weights = I8 || continue
		run $run -zc text
		same "compressing by $model" "1 mambyte: ./$model: $says" \
			"$status $(cat err)"
		overflows "$model" "$MAMBYTE_TRAIN" -q --head=labels -m "./$model" \
			--device=cpu -o head
		test ! -e head || bad "a head of $model"
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
run "$MAMBYTE" --device=cpu -m ./features --perplexity text
same "predictions are finite" "0 " "$status $(cat err)"
overflows features "$MAMBYTE" --device=cpu -m ./features --embed text
overflows features "$MAMBYTE_TRAIN" -q --head=labels -m ./features --device=cpu \
	-o head
test ! -e head || bad "a head of features that are not finite"

finish
