#!/bin/sh
# cli_import_foreign.sh -- what others put into config.json and beside it, and
# files that are taken for a checkpoint.
#
# SPDX-License-Identifier: MIT
#
# shellcheck source=tests/cli.sh
. "${srcdir:?}/tests/cli.sh"
# shellcheck source=tests/imports.sh
. "$srcdir/tests/imports.sh"

# copy FROM TO -- a checkpoint that may be changed.
copy()
{
	rm -rf "$2"
	cp -R "$data/$1" "$2"
	chmod -R u+w "$2"
}

# ---- values of config.json

# wrong SENTENCE JSON -- of Mamba-1 and of Mamba-2.
copy authors one
copy mamba2-ssm two
wrong()
{
	echo "$2" >one/config.json
	echo "$2" >two/config.json
	imports_not 1 "one/pytorch_model.bin: config.json: $1" one
	imports_not 1 "two/model.safetensors: config.json: $1" two
}
above_0="expected a number above 0 and at most 1"
from_1="expected a whole number from 1 up"
for value in 0 -1 2 '"1e-6"' true null '[]' '{}' Infinity; do
	json=$(echo "$value" | sed 's/Infinity/1e300/')
	wrong "layer_norm_epsilon is $json, $above_0" \
		"{\"layer_norm_epsilon\": $value}"
done
wrong "norm_epsilon is -1, $above_0" '{"norm_epsilon": -1}'
for value in '"16"' 0 -16 16.5 true '[]' null 99999999999; do
	wrong "hidden_size is $value, $from_1" "{\"hidden_size\": $value}"
	wrong "d_state is $value, $from_1" "{\"ssm_cfg\": {\"d_state\": $value}}"
done
wrong "vocab_size is \"256\", $from_1" '{"vocab_size": "256"}'
wrong 'dt_rank is "full", expected a whole number from 1 up or "auto"' \
	'{"ssm_cfg": {"dt_rank": "full"}}'
wrong "n_groups is 9, expected a whole number from 1 to 8" '{"n_groups": 9}'
wrong "expand is \"2\", expected a number above 0" '{"expand": "2"}'
wrong "rms_norm is 1, expected true or false" '{"rms_norm": 1}'
wrong "model_type is 2, expected a string" '{"model_type": 2}'
wrong "ssm_cfg is [], expected an object" '{"ssm_cfg": []}'
wrong "attn_layer_idx is {}, expected an array" '{"attn_layer_idx": {}}'
wrong "d_intermediate is -1, expected a whole number from 0 up" \
	'{"d_intermediate": -1}'
wrong "bos_token_id is \"a\", expected a whole number from 0 up" \
	'{"bos_token_id": "a"}'
limit="expected an array of the least, from 0 up, and the largest step"
for value in '[]' '[0]' '[1,0]' '[-1,1]' '["0",1]' '0' '[0,"a"]' \
	'[0,{"__float__":"NaN"}]'; do
	wrong "time_step_limit is $value, $limit" \
		"{\"time_step_limit\": $value}"
done
printf '[]' >one/config.json
imports_not 1 "one/config.json: is not a JSON object" one
printf '{"d_model": NaN}' >one/config.json
imports_not 1 "one/config.json: is not valid JSON in line 1" one
head -c 1100000 /dev/zero | tr '\0' ' ' >one/config.json
imports_not 1 "one/config.json: is larger than 1048576 bytes" one

# What was refused above is not what others write.
copy mamba2-transformers good
imports --quantize=none good
cp model expected
printf '\357\273\277' >bom
cat bom "$data/mamba2-transformers/config.json" >good/config.json
imports --quantize=none good
same_files "a byte-order mark" expected model
sed 's/Infinity/{"__float__": "Infinity"}/' \
	"$data/mamba2-transformers/config.json" >good/config.json
imports --quantize=none good
same_files "infinity as transformers 5 writes it" expected model
sed 's/"silu"/"swish"/' "$data/mamba2-transformers/config.json" \
	>good/config.json
imports --quantize=none good
same_files "swish is silu" expected model
sed 's/"silu"/"gelu"/' "$data/mamba2-transformers/config.json" \
	>good/config.json
imports_not 1 "good/model.safetensors: config.json says that hidden_act is \
gelu: mambyte has silu only" good
sed 's/"use_bias": false/"use_bias": true/' \
	"$data/mamba2-transformers/config.json" >good/config.json
imports_not 1 "good/model.safetensors: config.json: the model has biases of \
in_proj and out_proj (use_bias), which mambyte does not support" good
sed 's/"use_conv_bias": true/"use_conv_bias": false/' \
	"$data/mamba2-transformers/config.json" >good/config.json
imports_not 1 "good/model.safetensors: config.json says that use_conv_bias is \
false, the tensors that it is not" good
sed 's/"expand": 2/"expand": 1.5/' "$data/mamba2-transformers/config.json" \
	>good/config.json
imports_not 1 "good/model.safetensors: config.json says that expand is 1.5, \
the tensors that it is 2" good
rm good/config.json
imports --quantize=none good
same "without config.json" "is not there: an unusual epsilon, and norms \
without weights, would go unseen" "$(value config.json)"
"$MAKE_MODEL" --d-model=32 --n-layer=1 --weights=F32 own
imports --quantize=none ./own
same "a model of ours needs none" "" "$(value config.json)"

# ---- other families, and files that are no checkpoint

only="mambyte supports only Mamba-1 and Mamba-2"
# family TYPE NAME
family()
{
	echo "{\"model_type\": \"$1\", \"num_heads\": [1]}" >one/config.json
	imports_not 1 "one/pytorch_model.bin: the model is $2, as \
config.json shows: $only" one
}
family falcon_mamba "a FalconMamba, which has norms of B, C and dt"
family mamba3 "a Mamba-3, which has another recurrence"
family jamba "a Jamba, which has attention layers"
family rwkv7 "an RWKV, which is not a Mamba"
echo '{"ssm_cfg": {"layer": "Mamba3"}}' >one/config.json
imports_not 1 "one/pytorch_model.bin: the model is a Mamba-3, which has another \
recurrence, as config.json shows: $only" one

# named FROM TO NAME -- a tensor of another family, in as many characters.
named()
{
	sed "s/$1/$2/g" "$data/mamba2-ssm/model.safetensors" >other
	imports_not 1 "other: the model is $3 shows: $only" other
}
named mixer.dt_bias mixer.B_bias1 "a Mamba-3, which has another recurrence, as \
backbone.layers.0.mixer.B_bias1"
named layers.0.mixer.norm layers.0.self_attn. "a transformer, which is not \
a Mamba, as backbone.layers.0.self_attn..weight"
named mixer.conv1d.bias att.x_r.conv.bias "an RWKV, which is not a Mamba, as \
backbone.layers.0.att.x_r.conv.bias"

# kind SENTENCE -- of the file other, and of a config.json like it.
kind()
{
	imports_not 1 "other: $1" other
	copy authors one
	cp other one/config.json
	imports_not 1 "one/config.json: $1" one
}
cat >other <<'END'
version https://git-lfs.github.com/spec/v1
oid sha256:4665a0000000000000000000000000000000000000000000000000000000000a
size 112345
END
kind "is a pointer of git-lfs, not the file: 'git lfs pull' fetches it"
printf '\n<!DOCTYPE HTML>\n<title>404</title>' >other
kind "is an HTML page, not the file: the download failed"
printf '<html lang="en">' >other
kind "is an HTML page, not the file: the download failed"
printf 'GGUF\3\0\0\0' >other
kind "is GGUF, which mambyte does not read: import the checkpoint that it was \
made from"
printf '\037\213\010\0' >other
kind "is compressed by gzip: unpack it first"
copy transformers one
cp other one/model.safetensors.index.json
imports_not 1 "one/model.safetensors.index.json: is compressed by gzip: unpack \
it first" one

# ---- names

rm other
copy mamba2-ssm other
imports --quantize=none other
cp model expected
for prefix in my.model. module.m. a.b.c.de.; do
	sed "s/backbone\\./$prefix/g" "$data/mamba2-ssm/model.safetensors" \
		>other/model.safetensors
	imports --quantize=none other
	same "names with $prefix" mamba-ssm "$(value names)"
	same_files "names with $prefix" expected model
done

# ---- vocabularies

copy authors bytes
printf '{"version": "1.0", "added_tokens": [{"id": 256, "content": "<pad>"}], 
"model": {"type": "BPE", "vocab": {"a": 97, "<0x62>": 98, "\\u0100": 0, 
"\\u00e9": 233, "\\u0120": 32, "b": 98}, "merges": []}}' >bytes/tokenizer.json
imports --quantize=none bytes

# tokens NAME SENTENCE JSON -- that are not the bytes; --vocabulary=cut insists.
tokens()
{
	copy authors other
	echo "$3" >"other/$1"
	imports_not 1 "other/pytorch_model.bin: $1 $2" other
	imports --quantize=none --vocabulary=cut other
}
numbers="its tokens are not the bytes of their numbers"
tokens tokenizer.json "says that token 0 is <pad>: $numbers" \
	'{"model": {"vocab": {"<pad>": 0}}}'
tokens tokenizer.json "says that token 100 is a: $numbers" \
	'{"model": {"vocab": {"a": 100}}}'
tokens tokenizer.json "says that token 2 is <unk>: $numbers" \
	'{"added_tokens": [{"id": 2, "content": "<unk>"}]}'
tokens tokenizer.json "joins bytes: its tokens are not bytes" \
	'{"model": {"vocab": {}, "merges": ["a b"]}}'
tokens vocab.json "says that token 97 is b: $numbers" '{"b": 97}'
tokens added_tokens.json "says that token 1 is <s>: $numbers" '{"<s>": 1}'
tokens tokenizer_config.json "says that token 1 is </s>: $numbers" \
	'{"added_tokens_decoder": {"1": {"content": "</s>"}}}'
tokens tokenizer_config.json "says that the tokenizer is ByT5Tokenizer: its \
tokens are bytes plus 3" '{"tokenizer_class": "ByT5Tokenizer"}'

# ---- the begin byte

copy transformers begin
# begin EXPECTED TOKENS -- of config.json
begin()
{
	sed "s/\"torch_dtype\"/$2, \"torch_dtype\"/" \
		"$data/transformers/config.json" >begin/config.json
	imports --quantize=none begin
	same "begin byte of $2" "$1" "$(value 'begin byte')"
}
none='"eos_token_id": null, "pad_token_id": null'
begin none '"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0'
begin none '"bos_token_id": 0'
begin 7 "\"bos_token_id\": 7, $none"
begin none "\"bos_token_id\": 256, $none"
begin 7 "\"bos_token_id\": 7, $none"
imports --quantize=none --begin-byte=none begin
same "no begin byte" none "$(value 'begin byte')"
imports --quantize=none --begin-byte=9 begin
same "another begin byte" 9 "$(value 'begin byte')"

# ---- options that would do nothing

imports_not 2 "--vocabulary: 'all' is not 'cut'" --vocabulary=all one
imports_not 2 "--calibrate-bytes needs --calibrate" --calibrate-bytes=9 one
imports_not 2 "--to does not go with --quantize: it writes floats" \
	--to=transformers --quantize=none one

finish
