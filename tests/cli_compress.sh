#!/bin/sh
# cli_compress.sh -- -z, -d, -t and -l, which behave as in xz.
#
# SPDX-License-Identifier: MIT
# shellcheck source=tests/cli.sh
. "${srcdir:?}/tests/cli.sh"
real=$MAMBYTE_MODEL
export MAMBYTE_MODEL="$tiny"

head -c 9000 "$MAMBYTE" >program
cat "$srcdir/tests/text/books" "$srcdir/tests/text/code" >text
head -c 5000 /dev/urandom >random
head -c 1000000 /dev/zero >zeros
printf x >one
: >empty
seq 20000 >numbers

# Through a pipe.
for file in program text random zeros numbers one empty; do
	"$MAMBYTE" -z <$file >packed || bad "-z <$file"
	"$MAMBYTE" -d <packed >out || bad "-d of $file"
	same_files "$file and back" $file out
	"$MAMBYTE" -t <packed >out || bad "-t of $file"
	same "output of -t" "" "$(cat out)"
	test "$(wc -c <packed)" -le $(($(wc -c <$file) * 1001 / 1000 + 100)) ||
		bad "$file grew to $(wc -c <packed)"
done
"$MAMBYTE" -z <text >text.packed

# The same bytes from every machine: levels, threads, pieces of input.
for level in scalar avx2 avx512vnni neon; do
	has_level $level || continue
	MAMBYTE_CPU=$level "$MAMBYTE" --device=cpu -z <text >out ||
		bad "-z by $level"
	same_files "compressed by $level" text.packed out
done
for threads in 1 2 3; do
	"$MAMBYTE" --compress -T $threads <text >out
	same_files "compressed by $threads threads" text.packed out
done
(head -c 5 text && sleep 0.3 && tail -c +6 text) | "$MAMBYTE" -z >out
same_files "compressed from a slow pipe" text.packed out

# Blocks are independent; a range needs only its own.
"$MAMBYTE" -z -B 4K <text >blocks
"$MAMBYTE" -z --blocks=4096 <text >out
same_files "--blocks and -B" blocks out
"$MAMBYTE" -d <blocks >out
same_files "blocks and back" text out
for range in 0:10 4090:20 5:0 16000:9999 1K:4K 99999:1; do
	offset=${range%:*} length=${range#*:}
	case $range in 1K:4K) offset=1024 length=4096 ;; esac
	"$MAMBYTE" -d --range=$range blocks >out || bad "--range=$range"
	tail -c +$((offset + 1)) text | head -c "$length" >expected
	same_files "--range=$range" expected out
done
test -f blocks || bad "--range removed its file"
refuses 2 "--range: '5' is not OFFSET:LENGTH in bytes" \
	"$MAMBYTE" -d --range=5 blocks
# shellcheck disable=SC2016
refuses 1 "standard input: is not a regular file" \
	sh -c 'cat blocks | "$0" -d --range=0:5' "$MAMBYTE"
refuses 2 "--blocks: 1K is not between 4096 and 268435456" \
	"$MAMBYTE" -z --blocks=1K text

# Streams one after another are one.
cat blocks text.packed >both
cat text text >expected
"$MAMBYTE" -d <both >out
same_files "two streams" expected out

# Files become files; the source goes only without -k.
cp text file
touch -d '2001-02-03 04:05:06' file
chmod 640 file
"$MAMBYTE" -z file || bad "-z file"
test ! -e file || bad "-z left its source"
same_files "file.mbz" text.packed file.mbz
same "mode" 640 "$(stat -c %a file.mbz)"
same "time" "$(date -d '2001-02-03 04:05:06' +%s)" "$(stat -c %Y file.mbz)"
"$MAMBYTE" --decompress --keep file.mbz || bad "-d file.mbz"
same_files "file" text file
test -f file.mbz || bad "-k removed its source"
same "mode" 640 "$(stat -c %a file)"
"$MAMBYTE" -dc file.mbz >out
same_files "-c" text out
"$MAMBYTE" --stdout --decompress file.mbz file.mbz >out
same_files "-c of two files" expected out
"$MAMBYTE" --test file.mbz blocks || bad "--test"
"$MAMBYTE" -zv -k one 2>err
grep -q '^mambyte: one: 1 B plain, ' err || bad "-v: $(cat err)"
"$MAMBYTE" -z --progress <text 2>err >out
same_files "with --progress" text.packed out

# What is left alone, with a warning and status 2, or forced.
warns()
{
	run "$MAMBYTE" "$@"
	same "status of $*" 2 "$status"
	run "$MAMBYTE" -q "$@"
	same "status of -q $*" 2 "$status"
	same "stderr of -q $*" "" "$(cat err)"
}
warns -z file.mbz
warns -z file
grep -q . file.mbz || bad "an existing target was touched"
warns -d text
warns -d file.mbz
warns -z .
ln -s text link
warns -z link
ln text hard
warns -z hard
rm hard
warns -z link one.mbz
same "sentence" "mambyte: one.mbz: has the suffix .mbz already, skipped" \
	"$("$MAMBYTE" -z one.mbz 2>&1)"
run "$MAMBYTE" -zv one.mbz
same "no figures of a file that was skipped" "" "$(grep 'bytes read' err)"
"$MAMBYTE" -zf file || bad "-f over an existing target"
"$MAMBYTE" -z --force --keep link || bad "-f on a link"
same_files "link.mbz" text.packed link.mbz

# What fails: status 1, and everything as it was.
refuses 1 "missing: No such file or directory" "$MAMBYTE" -z missing
refuses 1 "empty: is empty, not compressed by mambyte" "$MAMBYTE" -dc empty
refuses 1 "text: not compressed by mambyte" "$MAMBYTE" -dc text
refuses 1 "text: not compressed by mambyte" "$MAMBYTE" -t text
head -c 3000 text.packed >short.mbz
refuses 1 "short.mbz: truncated: the end is missing" "$MAMBYTE" -d short.mbz
test -f short.mbz -a ! -e short || bad "a truncated file"
for n in 1 100; do
	{
		cat text.packed
		head -c $n /dev/zero
	} >long.mbz
	refuses 1 "long.mbz: truncated, or followed by other bytes" \
		"$MAMBYTE" -t long.mbz
done
run "$MAMBYTE" -dk short.mbz file.mbz
same "status, one of two files being bad" 1 "$status"
same_files "the other file" text file
"$MAKE_MODEL" --d-model=64 --n-layer=2 --seed=9 other.safetensors
run "$MAMBYTE" --info
refuses 1 "file.mbz: compressed with another model, 'tiny' of fingerprint \
$(value fingerprint) (see --info): give it with --model" "$MAMBYTE" -m ./other.safetensors -dc file.mbz
if test -c /dev/full; then
	run sh -c '"$0" -z <text >/dev/full' "$MAMBYTE"
	same "status of /dev/full" 1 "$status"
fi
rm -f file
mkdir full
cp text full/file
chmod 500 full
if ! touch full/probe 2>err; then
	run "$MAMBYTE" -z full/file
	same "status in a folder that cannot be written" 1 "$status"
	same_files "the source" text full/file
fi
chmod 700 full
for file in .mambyte-* full/.mambyte-*; do
	test ! -e "$file" || bad "$file was left behind"
done

# A name as long as names may be; and what setuid does not do.
long=$(printf '%0250d' 0)
cp text "$long"
chmod 6751 "$long"
"$MAMBYTE" -z "$long" || bad "-z of a long name"
same "mode without setuid" 751 "$(stat -c %a "$long.mbz")"
"$MAMBYTE" -d "$long.mbz" || bad "-d of a long name"
same_files "a long name" text "$long"
rm "$long"

# A limit on the size of files is a full disk: the source stays, nothing else.
run sh -c 'trap "" XFSZ; ulimit -f 1; exec "$0" -z random' "$MAMBYTE"
same "a full disk" "1 mambyte: random.mbz: write error: File too large" \
	"$status $(cat err)"
same "files on a full disk" "random" "$(ls -d random*)"

# Killed at any time, the source or a whole result is there.
for delay in 0.01 0.05 0.1 0.15 0.2 0.3 0.4; do
	cp text killed
	"$MAMBYTE" -z killed &
	sleep $delay
	kill -9 $! 2>err
	wait $! 2>err
	if test -f killed; then
		same_files "a source after kill -9" text killed
	else
		"$MAMBYTE" -dc killed.mbz >out
		same_files "a result after kill -9" text out
	fi
	rm -f killed killed.*
done

# Listing needs no model.
MAMBYTE_MODEL=./none.safetensors "$MAMBYTE" -l blocks text.packed >out ||
	bad "-l"
same "the heading of -l" "streams blocks packed plain ratio model file" \
	"$(head -n 1 out | tr "$TAB" ' ')"
same "-l" "1 4 16384 tiny blocks
1 1 16384 tiny text.packed
2 5 32768 - total" "$(sed 1d out | cut -f 1,2,4,6- | tr "$TAB" ' ')"
"$MAMBYTE" --list both >out
same "streams of two" 2 "$(sed 1d out | cut -f 1)"
"$MAMBYTE" -l --json blocks text.packed >out
same "--json" '{"file":"blocks","streams":1,"blocks":4,"packed":P,"plain":16384}
{"file":"text.packed","streams":1,"blocks":1,"packed":P,"plain":16384}
{"files":2,"streams":2,"blocks":5,"packed":P,"plain":32768}' \
	"$(sed 's/packed":[0-9]*/packed":P/; s/,"ratio":[0-9.]*//
		s/,"model":"tiny"//' out)"
grep -q '"ratio":[0-9.]*,"model":"tiny"}' out || bad "--json: $(cat out)"
refuses_list()
{
	run "$MAMBYTE" -l "$1"
	same "status of -l $1" "1 mambyte: $1: $2" "$status $(cat err)"
}
refuses_list short.mbz "the end is missing: truncated or damaged"
refuses_list text "not compressed by mambyte"
refuses_list empty "is empty, not compressed by mambyte"
refuses_list one "truncated, or not compressed by mambyte"
refuses_list missing "No such file or directory"
mkdir folder
refuses_list folder "is a directory, not a file"
refuses 1 "folder: is a directory, not a file" "$MAMBYTE" -t folder
refuses 1 "folder: is a directory, not a file" "$MAMBYTE" -dc folder
rmdir folder
run "$MAMBYTE" -l </dev/null
same "-l of a device" "mambyte: standard input: is not a regular file" "$(cat err)"

# Nor is a named pipe waited for.
mkfifo pipe
run timeout 20 "$MAMBYTE" -l pipe
same "-l of a pipe" "1 mambyte: pipe: is not a regular file" \
	"$status $(cat err)"
refuses 1 "pipe: is not a regular file" \
	timeout 20 "$MAMBYTE" -d --range=0:5 pipe

# What was tested is counted.
"$MAMBYTE" -tv blocks text.packed 2>err
same "-tv" "2 files, 32.8 kB plain" \
	"$(sed -n 's/^mambyte: \(2 files, .* plain\),.*/\1/p' err)"

# Zeros become holes, where the file system has them.
(head -c 1M /dev/zero && cat text && head -c 2M /dev/zero) >holes
cp holes holes.plain
"$MAMBYTE" -z holes || bad "-z of zeros"
"$MAMBYTE" -d holes.mbz || bad "-d of zeros"
same_files "with holes" holes.plain holes
truncate -s 4M probe
if test "$(stat -c %b probe)" -lt 1000; then
	test "$(stat -c %b holes)" -lt 1000 || bad "zeros take room"
fi

# tar runs us both ways.
if tar --version 2>err | grep -q GNU; then
	tar -c -I "$MAMBYTE -z" -f text.tar.mbz text program || bad "tar -c"
	mkdir untarred
	tar -x -I "$MAMBYTE -z" -f text.tar.mbz -C untarred || bad "tar -x"
	same_files "text from tar" text untarred/text
	same_files "program from tar" program untarred/program
fi

# The model that ships: a short message, and files of earlier versions.
export MAMBYTE_MODEL="$real"
head -c 1000 "$srcdir/tests/text/books" >message
"$MAMBYTE" -z <message >packed
test "$(wc -c <packed)" -le 400 || bad "1000 bytes became $(wc -c <packed)"
for file in "$srcdir"/tests/golden/*.mbz; do
	case $file in
	*/tiny-*) export MAMBYTE_MODEL="$tiny" ;;
	*) export MAMBYTE_MODEL="$real" ;;
	esac
	"$MAMBYTE" -dc "$file" >out || bad "$file"
	same_files "$file" "${file%.mbz}" out
done

finish
