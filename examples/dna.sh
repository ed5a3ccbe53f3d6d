#!/bin/sh
# dna.sh FOLDER [OPTION OF mambyte-train]... -- a genome as bytes: A, C, G, T.
#
# Trains a model on nine tenths of a bacterium, read in both directions, unless
# FOLDER has it; then writes how many bits a base of the last tenth costs, beside
# other programs.  The genome is that of Debian's package bowtie-examples, or a
# FASTA file that GENOME names.  It takes a quarter of a minute on an H200, and
# an hour or more on two cores; --steps=100 ends it sooner.
#
# SPDX-License-Identifier: MIT
set -eu

folder=${1:?usage: dna.sh FOLDER [OPTION OF mambyte-train]...}
shift
genome=${GENOME:-/usr/share/doc/bowtie/examples/genomes/NC_008253.fna.gz}
mkdir -p "$folder"
zcat -f "$genome" | grep -v '^>' | tr -d '\n' >"$folder/genome"
cd "$folder"

n=$(wc -c <genome)
held_out=$((n / 10))
head -c "$((n - held_out))" genome >dna.train
tail -c "$held_out" genome >dna.test
# The other strand, in the direction in which it is read.
fold -w 1 dna.train | tac | tr -d '\n' | tr ACGT TGCA >dna.reverse

test -e dna.safetensors || mambyte-train --d-model=256 --n-layer=6 \
	--windows=32 --length=2048 --steps=500 "$@" --valid=dna.test \
	-o dna.safetensors dna.train dna.reverse

# row WHAT BYTES
row()
{
	awk -v what="$1" -v n="$2" -v bases="$held_out" \
		'BEGIN { printf "%s\t%.3f\n", what, 8 * n / bases }'
}
echo "bits a base	of $held_out bases"
row "one of four" "$((held_out / 4))"
row "xz -9e" "$(xz -9e -c dna.test | wc -c)"
row "mambyte -z" "$(mambyte -zc dna.test | wc -c)"
mambyte --perplexity -m ./dna.safetensors dna.test |
	awk -F '\t' '{ printf "the model\t%.3f\n", $4 }'
row "mambyte -z with the model" \
	"$(mambyte -zc -m ./dna.safetensors dna.test | wc -c)"
