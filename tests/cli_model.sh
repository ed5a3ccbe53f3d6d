#!/bin/sh
# cli_model.sh -- finding models, describing them, choosing the machine.
#
# SPDX-License-Identifier: MIT
# shellcheck source=tests/cli.sh
. "${srcdir:?}/tests/cli.sh"
real=$MAMBYTE_MODEL
unset MAMBYTE_MODEL
printf 'text\n' >text

run "$MAMBYTE" --info -m "$real"
same "status" 0 "$status"
same "model" "$real" "$(value model)"
same "parameters" 26725632 "$(value parameters)"
same "layers" 16 "$(value layers)"
same "d_model" 512 "$(value d_model)"
same "fingerprint" 32 "$(value fingerprint | tr -d '\n' | wc -c | xargs)"
"$MAMBYTE" --info -m "$tiny" >tiny.info
same "another fingerprint" 2 \
	"$(cat out tiny.info | grep ^fingerprint | sort -u | wc -l | xargs)"

# The same for programs.
run "$MAMBYTE" --info --json -m "$tiny"
same "--info --json" "$(sed -n 's/^fingerprint  *//p' tiny.info)" \
	"$(sed -n 's/.*"fingerprint":"\([^"]*\)".*/\1/p' out)"
for key in '{"model":"'"$tiny"'"' '"size":' '"architecture":"Mamba-1"' \
	'"weights":"int8"' '"layers":2' '"d_model":64' '"norm_epsilon":1e-05' \
	'"lm_head":' '"state_bytes":' '"metadata":{"'; do
	grep -q -F -e "$key" out || bad "--info --json has no $key: $(cat out)"
done

# What is no model says what it is.
head=$srcdir/weights/language.head
"$MAMBYTE" --info -m "$head" >out
same "a head" "$head" "$(value head)"
same "its version" 4 "$(sed -n 's/^metadata *version = //p' out)"
"$MAMBYTE" --info --json -m "$head" >out
grep -q '^{"head":.*"version":"4"' out || bad "--json of a head"
refuses 1 "$head: is a head, not a model: --classify takes it" \
	"$MAMBYTE" -m "$head" text
head -c 200 /dev/zero >data
"$MAMBYTE_TRAIN" --device=cpu --d-model=16 --n-layer=1 --windows=2 \
	--length=64 --steps=1 -q -o trained --checkpoint=run data >out 2>err ||
	bad "mambyte-train: $(cat err)"
"$MAMBYTE" --info -m ./run >out
same "a checkpoint" "./run" "$(value checkpoint)"
refuses 1 "./run: is a checkpoint, not a model: mambyte-import makes one of it" \
	"$MAMBYTE" -m ./run text
"$MAMBYTE" -m "$tiny" -n 0 --save-state=s.state text
refuses 1 "./s.state: is a saved state, not a model: --load-state takes it" \
	"$MAMBYTE" --info -m ./s.state

# A file, by option before the environment.
MAMBYTE_MODEL="$real" "$MAMBYTE" --info -m "$tiny" | cmp - tiny.info ||
	bad "--model comes before MAMBYTE_MODEL"
MAMBYTE_MODEL="$tiny" "$MAMBYTE" --info | cmp - tiny.info ||
	bad "MAMBYTE_MODEL"

# Names: an installation that was moved, and a build tree.
mkdir -p usr/bin usr/share/mambyte/weights
cp "$MAMBYTE" usr/bin/mambyte || exit 99
"$MAKE_MODEL" --d-model=32 --n-layer=1 usr/share/mambyte/weights/b.safetensors
"$MAKE_MODEL" --d-model=64 --n-layer=1 usr/share/mambyte/weights/zz.safetensors
printf unfinished >usr/share/mambyte/weights/.c.safetensors
here=$(pwd -P)
weights=$here/usr/bin/../share/mambyte/weights
run usr/bin/mambyte --list-models
same "--list-models" \
	"b${TAB}$(wc -c <"$weights/b.safetensors" | xargs)${TAB}$weights/b.safetensors
zz${TAB}$(wc -c <"$weights/zz.safetensors" | xargs)${TAB}$weights/zz.safetensors" \
	"$(grep "$here" out)"
run usr/bin/mambyte --info -m zz
same "by name" "$weights/zz.safetensors" "$(value model)"
MAMBYTE_MODEL=zz usr/bin/mambyte --info | cmp - out || bad "by name in MAMBYTE_MODEL"

# Without a name, the maker of what is read; of a pipe that is not known.
usr/bin/mambyte -m zz -z <text >text.mbz
usr/bin/mambyte -m zz -n 0 --save-state=one.state text
cp one.state two.state
write_labels >labels
"${MAMBYTE_TRAIN:?}" -m "$weights/zz.safetensors" --head=labels -o zz.head \
	>out || bad "a head of zz"
reads_as_zz()
{
	run usr/bin/mambyte -v "$@"
	same "$* takes zz" "0 $weights/zz.safetensors" \
		"$status $(sed -n 's/^mambyte: model \(.*\),.*/\1/p' err)"
}
reads_as_zz -t text.mbz
reads_as_zz -dc text.mbz
same_files "what zz compressed" text out
reads_as_zz -dc --range=1:2 text.mbz
reads_as_zz -n 1 --load-state=one.state text
reads_as_zz --score --load-state=one.state text
reads_as_zz --classify=zz.head text
reads_as_zz --classify=one.state,two.state text
usr/bin/mambyte -m b -n 0 --save-state=zz text # no matter to the head zz
cp zz.head "$weights"
reads_as_zz --classify=zz text
rm zz "$weights/zz.head"
reads_as_zz -m zz -t text.mbz
usr/bin/mambyte -d <text.mbz >out || bad "-d of standard input"
same_files "the same from standard input" text out
run usr/bin/mambyte -t -m b text.mbz
same "a model that is named is taken" 1 "$status"
run sh -c 'cat text.mbz | usr/bin/mambyte -t'
same "a pipe is read once" 1 "$status"
usr/bin/mambyte -z <text >default.mbz
# A named pipe is opened once: whoever writes to it would see us go, and end.
mkfifo pipe
status=0
for i in 1 2 3 4 5 6 7 8 9 10; do
	cat default.mbz >pipe &
	run timeout 20 usr/bin/mambyte -t pipe
	test "$status" -eq 0 || break
done
same "a named pipe, the ${i}th time" 0 "$status"

refuses 1 "there is no model named 'nobody'; see --list-models" \
	usr/bin/mambyte -m nobody text
refuses 1 "there is no model named 'text'; the file is ./text" \
	usr/bin/mambyte -m text text

# A place that cannot be read: permissions do not keep root out, loops do.
ln -s weights usr/bin/weights
run usr/bin/mambyte -m nobody text
same "a model that may be where we cannot look" \
	"1 mambyte: no model named 'nobody' can be read: $here/usr/bin/weights" \
	"$status $(sed 's/: [^:]*$//' err)"
run usr/bin/mambyte --list-models
same "status of --list-models that cannot look everywhere" 1 "$status"
same "what it lists" 2 "$(grep -c "$here" out)"
usr/bin/mambyte -m zz -n 0 text || bad "a model in another place"
rm usr/bin/weights
if test "$("$MAMBYTE" --list-models | wc -l)" -eq 0; then
	same "the default is the first" "$weights/b.safetensors" \
		"$(usr/bin/mambyte --info | sed -n 's/^model  *//p')"
	cp "$tiny" "$weights/mambyte-27m.safetensors"
	same "but mambyte-27m comes first" "$weights/mambyte-27m.safetensors" \
		"$(usr/bin/mambyte --info | sed -n 's/^model  *//p')"
	mkdir alone
	cp "$MAMBYTE" alone/mambyte
	refuses 1 "no model is installed; name a weight file with --model or MAMBYTE_MODEL" \
		alone/mambyte text
fi

# The machine: the same result everywhere.
export MAMBYTE_MODEL="$tiny"
expected=$("$MAMBYTE" --perplexity text)
for options in --device=cpu --device=auto "-T 1" --threads=3 "-T 0"; do
	# shellcheck disable=SC2086
	same "$options" "$expected" "$("$MAMBYTE" $options --perplexity text)"
done
same "MAMBYTE_CPU=scalar" "$expected" \
	"$(MAMBYTE_CPU=scalar "$MAMBYTE" --device=cpu --perplexity text)"
MAMBYTE_CPU=abacus run "$MAMBYTE" --device=cpu --perplexity text
same "an unknown level" "2 2" "$status $(wc -l <err | xargs)"

# --device=cuda works, or says why it does not.
run "$MAMBYTE" --device=cuda --perplexity text
case $status in
0) same "cuda" "$expected" "$(cat out)" ;;
1) same "one sentence" "1 0" "$(wc -l <err | xargs) $(wc -c <out | xargs)" ;;
*) bad "--device=cuda: status $status" ;;
esac

# -v tells, -q and nothing do not.
run "$MAMBYTE" -v --device=cpu -T 1 --perplexity text
same "-v" "mambyte: model $tiny, mambyte: device cpu 1 thread mambyte: 5 bytes read" \
	"$(sed 's/, [0-9.]* M parameters/,/; s/cpu [a-z0-9]*,/cpu/; s/, 0 gen.*//' \
		err | xargs)"
run "$MAMBYTE" -q --perplexity text
same "-q" "$expected" "$(cat out err)"
run "$MAMBYTE" --quiet --verbose --quiet --perplexity text
same "the last of them wins" "$expected" "$(cat out err)"

# Progress: lines where stderr is not a terminal, only when asked for.
head -c 400000 /dev/zero >zeros
run "$MAMBYTE" -q --progress --perplexity zeros
same "-q --progress" "" "$(cat err)"

finish
