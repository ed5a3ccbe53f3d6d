#!/bin/sh
# examples_bytes.sh -- the examples that train models of other bytes run to their
# ends, here on small data and for a few steps; and the picture of doc/context.tsv
# is what doc/context.awk draws.
#
# SPDX-License-Identifier: MIT
# shellcheck source=tests/cli.sh disable=SC2086 # few is several words
. "${srcdir:?}/tests/cli.sh"
: "${MAMBYTE_TRAIN:?}"

mkdir bin
ln -s "$MAMBYTE" "$MAMBYTE_TRAIN" bin
PATH=$dir/bin:$PATH
export MAMBYTE_MODEL="$tiny"
examples=$srcdir/examples
shape="--d-model=16 --n-layer=2"
steps="--device=cpu --windows=2 --length=64 --steps=3 -q"
few="$shape $steps"

# ---- DNA: a table of five lines

awk 'BEGIN {
	print ">a made-up genome"
	for (i = 0; i < 400; i++) {
		line = ""
		for (j = 0; j < 70; j++) {
			x = (x * 1103515245 + 12345) % 2147483648
			line = line substr("ACGT", int(x / 536870912) + 1, 1)
		}
		print line
	}
}' | gzip >genome.fna.gz
GENOME=$dir/genome.fna.gz run sh "$examples/dna.sh" dna $few
same "dna.sh" "0 " "$status $(cat err)"
same "rows" "bits a base,one of four,xz -9e,mambyte -z,the model,mambyte -z with the model" \
	"$(grep -v '^dna' out | cut -f 1 | paste -s -d ,)"
same "figures" "" "$(cut -f 2 out | grep -v '^[0-9.]*$' | grep -v ' bases$')"
same "the other strand" "$(head -c 3 dna/dna.train | rev | tr ACGT TGCA)" \
	"$(tail -c 3 dna/dna.reverse)"

# ---- sound: what is told is counted

mkdir -p sounds/train sounds/test
for digit in 0 1 2 3 4 5 6 7 8 9; do
	for n in 0 1; do
		head -c $((digit * 100 + n * 10 + 300)) "$srcdir/tests/text/binary" \
			>sounds/train/${digit}_a_$n.u8
	done
	cp sounds/train/${digit}_a_1.u8 sounds/test/${digit}_b_0.u8
done
run sh "$examples/spoken-digits.sh" sounds sound $few
same "spoken-digits.sh" "0 " "$status $(cat err)"
same "states and head" "states head" \
	"$(sed -n '/^right digits/,$p' out | sed 1d | cut -f 1 | xargs)"
grep -q "of 10 recordings" out || bad "how many recordings? $(cat out)"

# ---- pictures

python=${PYTHON-python3}
if "$python" -c 'import sklearn' 2>/dev/null; then
	PYTHON=$python run sh "$examples/written-digits.sh" written $few
	same "written-digits.sh" "0 " "$status $(cat err)"
	same "rows" "logistic regression,read once,read twice" \
		"$(sed 1d out | cut -f 1 | paste -s -d ,)"
fi

# ---- a key far back

if command -v python3 >/dev/null && test -x /usr/bin/time; then
	BOOK=$srcdir/tests/text/books MOST=65536 SHAPE=$shape \
		run sh "$examples/long-context.sh" context $steps
	same "long-context.sh" 0 "$status" || cat err >&2
	for kind in key size; do
		same "lines of $kind" "1024 4096 16384 65536" \
			"$(sed -n "s/^$kind	\([0-9]*\).*/\1/p" \
				context/context.tsv | xargs)"
	done
	grep -q '^place	1024	' context/context.tsv || bad "no bits by place"
	awk -f "$srcdir/doc/panel.awk" -f "$srcdir/doc/context.awk" \
		context/context.tsv >picture.svg
	grep -q '^</svg>' picture.svg || bad "no picture"
	# Talk is the same, whatever it is cut into.
	python3 "$examples/key.py" talk 7 0 500 >whole
	python3 "$examples/key.py" talk 7 0 333 >parts
	python3 "$examples/key.py" talk 7 333 500 >>parts
	same_files "talk" whole parts
	same "its length" 500 "$(wc -c <whole)"
fi

finish
