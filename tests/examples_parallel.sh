#!/bin/sh
# examples_parallel.sh -- parts of a file, scored side by side by GNU parallel,
# give the bytes of one run.
#
# SPDX-License-Identifier: MIT
# shellcheck source=tests/cli.sh
. "${srcdir:?}/tests/cli.sh"

if ! parallel --version 2>/dev/null | grep -q '^GNU parallel'; then
	echo "GNU parallel is not installed"
	exit 77
fi
mkdir bin home
ln -s "$MAMBYTE" bin/mambyte
PATH=$dir/bin:$PATH
HOME=$dir/home
export HOME TMPDIR="$dir" MAMBYTE_MODEL="$tiny"

i=0
while [ $i -lt 400 ]; do
	i=$((i + 1))
	echo "$((i * i)) GET /page/$((i % 7)) 200"
done >log
printf 'the last line has no end' >>log
mambyte --score --context=reset log >expected
for block in 1k 3000 1M; do
	BLOCK=$block run sh "$srcdir/examples/parallel.sh" log --jobs 4
	same "parallel.sh, blocks of $block" "0 " "$status $(cat err)"
	same_files "blocks of $block" expected out
done

# On a host, reached by what stands for ssh here: a shell of its own, with the
# SHELL that every login has.
cat >bin/own-ssh <<'END'
#!/bin/sh
while [ "$1" != host ]; do
	shift
done
shift
test "$1" != -- || shift
SHELL=/bin/sh exec sh -c "$*"
END
chmod +x bin/own-ssh
BLOCK=2k run sh "$srcdir/examples/parallel.sh" log \
	--sshlogin "2/own-ssh host" --env PATH --env MAMBYTE_MODEL
same "a host" "0 " "$status $(cat err)"
same_files "a host" expected out

# What fails is not silent.
MAMBYTE_MODEL=missing.safetensors run sh "$srcdir/examples/parallel.sh" log
test "$status" -ne 0 || bad "a failure went unseen"

finish
