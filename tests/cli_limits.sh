#!/bin/sh
# cli_limits.sh -- what a hostile file may make us take: memory and time.
#
# SPDX-License-Identifier: MIT
# shellcheck source=tests/cli.sh
. "${srcdir:?}/tests/cli.sh"
export MAMBYTE_MODEL="$tiny"
printf 'text\n' >text

# Files that we write are within the default, on a machine of 2 GiB.
head -c 64M /dev/zero >zeros
"$MAMBYTE" -z -k -B 64M zeros
"$MAMBYTE" -t zeros.mbz || bad "-t of a large block"

# Less is said to be too little, and how much is enough.
sentence="zeros.mbz: a block needs 129 MiB of memory, the limit is 100 MiB: \
--memlimit=129M allows it"
refuses 1 "$sentence" "$MAMBYTE" -t -M 100M zeros.mbz
refuses 1 "$sentence" "$MAMBYTE" -dc --memlimit=100MiB zeros.mbz
refuses 1 "$sentence" "$MAMBYTE" -d -M 100M --range=0:5 zeros.mbz
"$MAMBYTE" -t -M 129M zeros.mbz || bad "-M 129M"
"$MAMBYTE" -t --memlimit=0 zeros.mbz || bad "--memlimit=0"
"$MAMBYTE" -t --memlimit=90% zeros.mbz || bad "--memlimit=90%"

# The next file is read all the same.
"$MAMBYTE" -z <text >text.mbz
run "$MAMBYTE" -dc -M 100M zeros.mbz text.mbz
same "the next file" "1 text" "$status $(cat out)"

for size in 0% 101% x 1Q 50%x % 16777216T ''; do
	refuses 2 "--memlimit: '$size' is neither a size below 2^64 nor a \
percentage up to 100" "$MAMBYTE" -t -M "$size" text.mbz
done

# An index counts too; zeros are no file of ours, and none is looked for.
run "$MAMBYTE" -l -M 1 text.mbz
same "an index" "1 mambyte: text.mbz: the index needs 1 MiB of memory, the \
limit is 1 byte: --memlimit=1M allows it" "$status $(cat err)"
head -c 8M /dev/zero >index
run "$MAMBYTE" -l index
same "-l of zeros" 1 "$status"

# bomb TEXT N -- a JSON array of so many times TEXT, of which each is tiny.
bomb()
{
	printf '{"__metadata__":{},"x":['
	yes "$1" | head -n "$2" | tr -d '\n'
	printf '0]}'
}

# with_length FILE -- as a safetensors file has it.
with_length()
{
	n=$(wc -c <"$1")
	for _ in 1 2 3 4 5 6 7 8; do
		# shellcheck disable=SC2059
		printf "\\$(printf %o $((n % 256)))"
		n=$((n / 256))
	done
	cat "$1"
}

# Headers and configurations of 14 MB that would take a gigabyte and more.
bomb '[],' 4700000 >json
with_length json >bomb.safetensors
for options in --info --perplexity "-dc --range=0:1"; do
	# shellcheck disable=SC2086
	run "$MAMBYTE" $options -m bomb.safetensors </dev/null
	same "status of $options of a bomb" 1 "$status"
	grep -q "^mambyte: bomb.safetensors: its header needs [0-9]* MiB of \
memory, the limit is [0-9]* MiB: --memlimit=[0-9]*M allows it$" err ||
		bad "$options of a bomb: $(cat err)"
done
mkdir folder
cp json folder/model.safetensors.index.json
for input in folder bomb.safetensors; do
	run "$MAMBYTE_IMPORT" -o new.safetensors $input
	same "status of an import of a bomb, $input" 1 "$status"
	grep -q ' needs [0-9]* MiB of memory' err ||
		bad "mambyte-import $input: $(cat err)"
done
rm folder/*
cp "$tiny" folder/model.safetensors
cp json folder/config.json
run "$MAMBYTE_IMPORT" -o new.safetensors folder
same "a large config.json" "mambyte-import: folder/config.json: is larger than \
1048576 bytes" "$(cat err)"
run "$MAMBYTE_TRAIN" --init=./bomb.safetensors --steps=1 -o new text
grep -q 'its header needs' err || bad "--init of a bomb: $(cat err)"

# More threads than cores only wait for each other.
n_cores=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc)
if test "$n_cores" -le 100; then
	run "$MAMBYTE" -T 1000 -n 5 text
	same "-T 1000" "0 5" "$status $(wc -c <out | xargs)"
	same "threads that are left out" "starting $((4 * n_cores))" \
		"$(sed 's/.*: //' err)"
	run "$MAMBYTE" -q -T 1000 -n 5 text
	same "-q -T 1000" "" "$(cat err)"
fi

# A model has to fit the limit that a user sets, header and all.
refuses 1 "$tiny: its header needs 1 MiB of memory, the limit is 1 KiB: \
--memlimit=1M allows it" "$MAMBYTE" -M 1K --info
refuses 1 "zeros.mbz: a block needs 129 MiB of memory, the limit is 100 KiB: \
--memlimit=129M allows it" "$MAMBYTE" -t -M 100K zeros.mbz
"$MAMBYTE" -M 10M --info >out || bad "-M 10M --info"
floats="$srcdir/tests/data/import/authors"
"$MAMBYTE_IMPORT" --memlimit=10M -o new.safetensors "$floats" >out 2>err ||
	bad "import -M 10M: $(cat err)"

# The model in training is no file; one that is there already is, and its kind
# is not told where the limit keeps it from being read.
small="--d-model=16 --n-layer=1 --windows=2 --length=32 --steps=2"
code="$srcdir/tests/text/code"
# shellcheck disable=SC2086
"$MAMBYTE_TRAIN" $small -M 1K -o small "$code" >out 2>err ||
	bad "train -M 1K: $(cat err)"
# shellcheck disable=SC2086
refuses_as mambyte-train 1 "small: its header needs 1 MiB of memory, the limit \
is 1 KiB: --memlimit=1M allows it" "$MAMBYTE_TRAIN" $small -M 1K --resume \
	-o small "$code"

# Privileges are dropped, as far as the kernel lets us; check_sandbox says which.
run "$MAMBYTE" -tv text.mbz
grep -q '^mambyte: sandbox \(files and calls\|files\|calls\|none\)$' err ||
	bad "-tv has no sandbox: $(cat err)"
run "$MAMBYTE" -lv text.mbz
grep -q '^mambyte: sandbox' err || bad "-lv has no sandbox: $(cat err)"
run "$MAMBYTE" -v --perplexity text
grep -q sandbox err && bad "--perplexity has a sandbox"

# What configure found to harden the programs is in them.
if command -v readelf >readelf.path; then
	for program in "$MAMBYTE" "$MAMBYTE_TRAIN" "$MAMBYTE_IMPORT"; do
		readelf -dsW "$program" >elf 2>&1
		readelf -lW "$program" >>elf 2>&1
		while read -r flag trace; do
			case " ${HARDENING-} " in
			*" $flag "*) grep -q "$trace" elf ||
				bad "$program has no trace of $flag" ;;
			esac
		done <<-EOF
			-fstack-protector-strong __stack_chk_fail
			-D_FORTIFY_SOURCE=3 __memcpy_chk
			-pie PIE
			-Wl,-z,relro GNU_RELRO
			-Wl,-z,now NOW
		EOF
	done
fi

finish
