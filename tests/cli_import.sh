#!/bin/sh
# cli_import.sh -- what mambyte-import makes, what it says, what it refuses;
# and how mambyte runs models in floats.
#
# SPDX-License-Identifier: MIT
#
# shellcheck source=tests/cli.sh
. "${srcdir:?}/tests/cli.sh"
# shellcheck source=tests/imports.sh
. "$srcdir/tests/imports.sh"

# bits MODEL -- per byte of text
bits()
{
	"$MAMBYTE" -m "./$1" --device=cpu --perplexity text | cut -f 4
}

# ---- what is found

imports --quantize=none "$data/authors"
same "names" "the MambaByte authors" "$(value names)"
same "parameters" 36416 "$(value parameters)"
same "weights" F32 "$(value weights)"
same "norm" "LayerNorm, epsilon 1e-05" "$(value norm)"
same "lm_head" "of its own" "$(value lm_head)"
same "begin byte" none "$(value 'begin byte')"
cp model authors.float

imports --quantize=none "$data/transformers"
same "names" transformers "$(value names)"
same "d_state" 8 "$(value d_state)"
same "lm_head" "tied to the embedding" "$(value lm_head)"
cp model transformers.float
imports --quantize=none "$data/transformers/model.safetensors.index.json"
same_files "a folder and its index" transformers.float model

imports --quantize=none --begin-byte=10 "$data/authors/pytorch_model.bin"
same "begin byte" 10 "$(value 'begin byte')"

# ---- Mamba-2

imports --quantize=none "$data/mamba2-ssm"
same "names" mamba-ssm "$(value names)"
same "architecture" Mamba-2 "$(value architecture)"
same "groups" 2 "$(value n_groups)"
cp model mamba2.before
before="$data/mamba2-ssm/model.safetensors: has the norm before the gate,"
imports_not 1 "$before which int8 models cannot have: --quantize=none imports it" \
	"$data/mamba2-ssm"
imports_not 1 "mamba2.before: the model has a D for each channel, which the \
Mamba-2 of transformers lacks" --to=transformers -o folder3 mamba2.before
run "$MAMBYTE_TRAIN" --init=./mamba2.before --steps=1 -o model text
same "no training with a D for each channel" \
	"1 mambyte-train: ./mamba2.before: has a D for each channel, which \
mambyte-train does not support" "$status $(cat err)"

cp -R "$data/mamba2-ssm" after
chmod -R u+w after
sed 's/"norm_before_gate": true/"norm_before_gate": false/' \
	"$data/mamba2-ssm/config.json" >after/config.json
imports --calibrate=text after
run "$MAMBYTE" -n 5 -m ./model text
same "an int8 model with a D for each channel runs" "0 5" \
	"$status $(wc -c <out | xargs)"

imports --quantize=none "$data/mamba2-transformers"
same "names" transformers "$(value names)"
same "heads" 2 "$(value heads)"
cp model mamba2.float
imports --calibrate=text "$data/mamba2-transformers"
same "bits in float" "$(bits mamba2.float) bits per byte" "$(value float)"
same "limit of an int8 model" "time_step_limit = [0.05, 3.4028235e+38]" \
	"$("$MAMBYTE" --info -m ./model | sed -n 's/^metadata *\(time\)/\1/p')"
run "$MAMBYTE" -n 5 -m ./model text
same "the int8 model runs" "0 5" "$status $(wc -c <out | xargs)"

# ---- int8, and what it costs

imports "$data/authors"
same "written" "int8 as it is" "$(value written)"
cp model authors.int8
run "$MAMBYTE" -m ./model --info
same "quantization" "quantization = int8 as it is" \
	"$(sed -n 's/^metadata *\(quantization\)/\1/p' out)"
same "weights" int8 "$(value weights)"
imports --quantize=int8 --calibrate=text --calibrate-bytes=2000 -T 1 -M 1G --memlimit=2G \
	--threads=2 -v --verbose -q --quiet "$data/authors"
run "$MAMBYTE_IMPORT" --progress --calibrate=text -o model "$data/authors"
same "--progress" 0 "$status"
imports --calibrate=text "$data/authors"
same "bits in float" "$(bits authors.float) bits per byte" "$(value float)"
same "bits in int8" "$(bits authors.int8) bits per byte" "$(value int8)"

# ---- a checkpoint of our own trainer: weights in floats, and what a run needs

run "$MAMBYTE_TRAIN" -q --steps=4 --windows=2 --length=64 --d-model=16 \
	--n-layer=2 --imitate=none --checkpoint=run -o trained text
same "training" 0 "$status"
imports run
same "names of a checkpoint" mambyte-train "$(value names)"
same "a checkpoint as int8" "$(bits trained)" "$(bits model)"
imports --quantize=none run
same "begin byte of a checkpoint" 0 "$(value 'begin byte')"
same "a checkpoint of ours says what config.json would" "" \
	"$(value config.json)"

cp run run.damaged
printf '\377\377' | dd of=run.damaged bs=1 seek=9000 conv=notrunc 2>/dev/null
damaged="run.damaged: the file is damaged: its checksum differs"
imports_not 1 "$damaged" run.damaged
imports_not 1 "$damaged" --average=run.damaged trained
same "no mean of a damaged one" "" "$(value mean)"

# ---- means of models

run "$MAMBYTE_TRAIN" -q --steps=4 --windows=2 --length=64 --init=trained \
	-o further text
imports --average=./further trained
same "mean" "of 2 models" "$(value mean)"
run "$MAMBYTE" -m ./model --info
same "mean" "mean = of 2 models" "$(sed -n 's/^metadata *\(mean\)/\1/p' out)"
cp model mean
imports --average=trained ./further
same_files "a mean, the other way round" mean model
imports --average=trained ./trained
cmp -s model mean && bad "a mean is that of another"
same "the mean of a model and itself" "$(bits trained)" "$(bits model)"
imports --average=./trained --average=./trained --average=./trained trained
same "mean" "of 4 models" "$(value mean)"
run "$MAMBYTE_IMPORT" --to=mamba-ssm --average=./further -o folder trained
same "a mean in floats" "0 " "$status $(cat err)"
imports folder
same "names of the mean" mamba-ssm "$(value names)"
rm -rf folder
imports_not 1 "./authors.int8: has another shape: there is no mean of the two" \
	--average=./authors.int8 trained
imports_not 1 "./missing: No such file or directory" --average=./missing \
	trained
imports_not 1 "trained: is in int8 already, and mambyte runs it" trained
imports_not 2 "--average does not go with --calibrate" --average=./further \
	--calibrate=text trained
imports_not 2 "--average does not go with --quantize=none" \
	--average=./further --quantize=none trained

# ---- there and back

"$MAKE_MODEL" --d-model=64 --n-layer=2 --tied --begin-byte=0 tied
run "$MAMBYTE_TRAIN" -q --steps=2 --windows=2 --length=64 --d-model=32 \
	--head-dim=16 --groups=2 --n-layer=2 -o grouped text
for kind in "$tiny" tied authors.float transformers.float mamba2.before \
	mamba2.float grouped; do
	for to in mamba-ssm transformers; do
		case $kind$to in
		authors.floattransformers) continue ;;
		mamba2.beforetransformers) continue ;;
		mamba2.floatmamba-ssm) continue ;; # another epsilon
		esac
		rm -rf folder
		run "$MAMBYTE_IMPORT" --to=$to -o folder "$kind"
		same "$kind to $to" "0 " "$status $(cat err)"
		imports --quantize=none folder
		same "names of $to" $to "$(value names)"
		begin=none
		case $kind in "$tiny" | tied | grouped) begin=0 ;; esac
		same "begin byte of $kind to $to" $begin \
			"$(value 'begin byte')"
		run "$MAMBYTE_IMPORT" --to=$to -o folder2 model
		diff -r folder folder2 >&2 ||
			bad "$kind to $to, twice"
		rm -rf folder2
	done
done

run "$MAMBYTE_IMPORT" --to=transformers -o folder2 mamba2.float
same "no largest step, as PyTorch reads it" "0.05, 1e38" \
	"$(grep -A 2 time_step_limit folder2/config.json | tail -n 2 | xargs)"
rm -rf folder2

# ---- models in floats, as mambyte runs them

for type in F32 BF16 F16; do
	"$MAKE_MODEL" --d-model=60 --n-layer=2 --norm-bias --weights=$type $type
	MAMBYTE_CPU=scalar "$MAMBYTE" -m ./$type --device=cpu -T 1 \
		--surprisal text >one
	"$MAMBYTE" -m ./$type --device=cpu -T 2 --surprisal text >two
	same_files "$type by scalar code and by vectors" one two
	"$MAMBYTE" -m ./$type -n 50 text >out || bad "generating by $type"
	same "bytes by $type" 50 "$(wc -c <out | xargs)"
	imports --quantize=none "./$type"
	"$MAMBYTE" -m ./model --device=cpu --surprisal text >two
	same_files "$type and imported" one two
	imports "./$type"
	"$MAMBYTE" -m ./model -zc text | "$MAMBYTE" -m ./model -dc >out
	same_files "compressed by $type made int8" text out
done
needs="F32 has float weights, and % needs int8: 'mambyte-import"
needs="$needs --quantize=int8 -o NEW ./F32' makes such a model of it"
refuses 1 "./$(echo "$needs" | sed 's/%/compression/')" \
	"$MAMBYTE" -m ./F32 -zc text
refuses 1 "./$(echo "$needs" | sed 's/%/a saved state/')" \
	"$MAMBYTE" -m ./F32 -n 1 --save-state=state text
test ! -e state || bad "a state of a model of floats"

# ---- the command

imports_not 2 "there is no DIR or FILE to import"
imports_not 2 "only one DIR or FILE can be imported" a b
run "$MAMBYTE_IMPORT" "$data/authors"
same "no --output" "2 mambyte-import: --output needs a FILE for the model" \
	"$status $(head -n 1 err)"
imports_not 2 "unknown option '--frobnicate'" --frobnicate
imports_not 2 "--quantize: 'int4' is neither 'int8' nor 'none'" --quantize=int4
imports_not 2 "--to: 'x' is neither 'mamba-ssm' nor 'transformers'" --to=x
imports_not 2 "--begin-byte: '256' is neither a number from 0 to 255 nor \
'none'" --begin-byte=256
imports_not 2 "--to does not go with --calibrate" --to=mamba-ssm \
	--calibrate=text "$tiny"
run "$MAMBYTE_IMPORT" --help
same "--help" "0 Usage: mambyte-import [OPTION]..." \
	"$status $(head -n 1 out | cut -d ' ' -f 1-3)"
"$MAMBYTE_IMPORT" -h >help
same_files "-h and --help" out help
run "$MAMBYTE_IMPORT" --version
same "--version" "0 mambyte-import" "$status $(cut -d ' ' -f 1 out)"
"$MAMBYTE_IMPORT" -V >version
same_files "-V and --version" out version

# ---- input that is not there, or no Mamba of bytes

mkdir none
imports_not 1 "none: the folder has no model.safetensors and no \
pytorch_model.bin, nor an index of one" none
mkdir loop
ln -s model.safetensors loop/model.safetensors
imports_not 1 "loop/model.safetensors: Too many levels of symbolic links" loop
imports_not 1 "missing: No such file or directory" missing
imports_not 1 "$tiny: is in int8 already, and mambyte runs it" "$tiny"
imports_not 1 "missing: No such file or directory" \
	--calibrate=missing "$data/authors"
: >empty
imports_not 1 "empty: is empty, there is nothing to measure on" \
	--calibrate=empty "$data/authors"
imports_not 1 "empty: not a safetensors file: empty" empty
imports_not 1 "authors.float: the model has LayerNorm with a bias, the Mamba \
of transformers only RMSNorm" --to=transformers -o folder3 authors.float

# config SENTENCE JSON -- a config.json that the tensors belie.
cp -R "$data/authors" wrong
chmod -R u+w wrong
config()
{
	echo "$2" >wrong/config.json
	imports_not 1 "wrong/pytorch_model.bin: $1" wrong
}
config "config.json says that d_model is 64, the tensors that it is 32" \
	'{"d_model": 64}'
config "config.json says that state_size is 8, the tensors that it is 16" \
	'{"state_size": 8}'
config "config.json says that d_conv is 3, the tensors that it is 4" \
	'{"ssm_cfg": {"d_conv": 3}}'
config "config.json says that rms_norm is true, the tensors that it is not" \
	'{"rms_norm": true}'
config "config.json says that tie_embeddings is true, the tensors that it is \
not" '{"tie_embeddings": true}'
config "config.json says that layer is Mamba2; for this model it would be \
Mamba1" '{"ssm_cfg": {"layer": "Mamba2"}}'
config "config.json says that model_type is mamba2; for this model it would be \
mamba" '{"model_type": "mamba2"}'
config "config.json: the model has MLP layers" '{"d_intermediate": 64}'
config "config.json: the model has attention layers" \
	'{"attn_layer_idx": [1]}'
config "the vocabulary has 50277 tokens, which are not the 256 bytes: mambyte \
reads bytes, and has no tokenizer" '{"vocab_size": 50277}'
cp "$data/mamba2-ssm/model.safetensors" wrong
config2()
{
	echo "$2" >wrong/config.json
	imports_not 1 "wrong/model.safetensors: $1" wrong
}
config2 "config.json: ngroups is 0, expected a whole number from 1 to 8" \
	'{"ssm_cfg": {"ngroups": 0}}'
config2 "config.json says that headdim is 16, the tensors that it is 8" \
	'{"ssm_cfg": {"ngroups": 2, "headdim": 16}}'
config2 "config.json says that layer is Mamba1; for this model it would be \
Mamba2" '{"ssm_cfg": {"layer": "Mamba1"}}'
config2 "config.json: the model has no norm before out_proj (rmsnorm is \
false)" '{"ssm_cfg": {"rmsnorm": false}}'
sed 's/layers.1.mixer.A_log/layers.1.mixer.A_LOG/' wrong/model.safetensors \
	>attention
imports_not 1 "attention: the model has attention layers: \
backbone.layers.1.mixer.out_proj.weight has no A_log" attention
sed 's/layers.1.mixer.conv1d.bias/layers.1.mlp.conv1d.bias12/' \
	wrong/model.safetensors >mlp
imports_not 1 "mlp: the model has MLP layers: \
backbone.layers.1.mlp.conv1d.bias12" mlp
rm wrong/model.safetensors
echo '{' >wrong/config.json
imports_not 1 "wrong/config.json: is not valid JSON in line 2" wrong
rm wrong/config.json
imports -q wrong
echo '{"weight_map": {"lm_head.weight": "pytorch_model.bin"}}' \
	>wrong/pytorch_model.bin.index.json
imports --quantize=none wrong
same_files "an index of files of PyTorch" authors.float model
echo '{"weight_map": {}}' >wrong/pytorch_model.bin.index.json
imports_not 1 "wrong/pytorch_model.bin.index.json: has no weight_map" \
	wrong

# ---- shards

cp -R "$data/transformers" shards
chmod -R u+w shards
index=shards/model.safetensors.index.json
sed -i.old 's/model-00002-of/..\/model-00002-of/' $index
imports_not 1 "$index: a shard is not the name of a file beside it" \
	shards
mv $index.old $index
mv shards/model-00002-of-00002.safetensors shards/moved
imports_not 1 "shards/model-00002-of-00002.safetensors: No such file or \
directory" shards

finish
