#!/bin/sh
# cli_completion.sh -- what bash and zsh complete, from functions made of
# --help.
#
# SPDX-License-Identifier: MIT
# shellcheck source=tests/cli.sh
. "${srcdir:?}/tests/cli.sh"
: "${MAMBYTE_IMPORT:?}" "${MAMBYTE_TRAIN:?}"

# As if they were installed, with two models and a head.
mkdir -p bin share/mambyte/weights bash zsh files
cp "$MAMBYTE" "$MAMBYTE_TRAIN" "$MAMBYTE_IMPORT" bin
PATH=$dir/bin:$PATH
cp "$tiny" share/mambyte/weights/tiny-a.safetensors
cp "$tiny" share/mambyte/weights/tiny-b.safetensors
: >share/mambyte/weights/topics.head
for program in mambyte mambyte-train mambyte-import; do
	sh "$srcdir/build-aux/completion" bash "bin/$program" \
		>bash/$program || bad "completion bash $program"
	sh "$srcdir/build-aux/completion" zsh "bin/$program" \
		>zsh/_$program || bad "completion zsh $program"
done

cd files || exit 99
mkdir folder
: >book.txt
: >'two words.mbz'
: >archive.mbz
: >prose.state
: >code.state
: >own.head
: >own.safetensors
unset MAMBYTE_MODEL

# ---- bash

# completes WORDS... -- what bash offers for the last of the words, in one
# line.  Words are cut at "=", as bash does.
completes()
{
	bash --norc -c '
		. "../bash/$1"
		COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
		compopt() { [[ $* != "-o default" ]] || echo "(any file)"; }
		"_${1//-/_}"
		printf "%s\n" "${COMPREPLY[@]}"' bash "$@" | sort | xargs
}

if command -v bash >/dev/null; then
	for program in mambyte mambyte-train mambyte-import; do
		"$program" --help |
			sed -n 's/^  ....\(--[a-z0-9-]*\)\(\[*=*\).*/\1\2/p' |
			sed 's/\[=*$//' | sort >../options
		same "options of $program" "$(xargs <../options)" \
			"$(completes $program -- | tr ' ' '\n' | grep -v '^--next=' |
				xargs)"
	done
	same "short options" "$(mambyte --help |
			sed -n 's/^  \(-[A-Za-z]\), .*/\1/p' | sort | xargs)" \
		"$(completes mambyte - | tr ' ' '\n' | grep '^-[A-Za-z]$' |
			xargs)"
	same "--perp" --perplexity "$(completes mambyte --perp)"
	same "--load" --load-state= "$(completes mambyte --load)"

	same "--context=" "carry reset" "$(completes mambyte --context =)"
	same "--context re" reset "$(completes mambyte --context re)"
	same "--device=c" "cpu cuda" "$(completes mambyte --device = c)"
	same "--seed" random "$(completes mambyte --seed '')"
	same "--architecture" "mamba1 mamba2" \
		"$(completes mambyte-train --architecture = '')"
	same "--quantize" "int8 none" "$(completes mambyte-import --quantize =)"
	same "-n" "" "$(completes mambyte -n '')"
	same "--next=" "" "$(completes mambyte --next =)"

	same "-m" "folder own.safetensors tiny-a tiny-b" \
		"$(completes mambyte -m '')"
	same "--model=tiny" "tiny-a tiny-b" "$(completes mambyte --model = tiny)"
	same "-m of mambyte-train" "tiny-a tiny-b" \
		"$(completes mambyte-train -m tiny)"
	same "--classify=" \
		"code.state folder own.head prose.state topics" \
		"$(completes mambyte --classify =)"
	same "the second state" "prose.state,code.state" \
		"$(completes mambyte --classify = prose.state,co)"
	same "--load-state=" "code.state folder prose.state" \
		"$(completes mambyte --load-state =)"

	for option in -d -kd -t -l --decompress --test --list; do
		same "$option" "archive.mbz folder two words.mbz" \
			"$(completes mambyte $option '')"
	done
	same "-d a" archive.mbz "$(completes mambyte -d -c a)"
	for option in -z -q --score --next; do
		same "$option" "(any file)" "$(completes mambyte $option '')"
	done
	same "-n5 is no -t" "(any file)" "$(completes mambyte -mtiny '')"
	same "mambyte-train" "(any file)" "$(completes mambyte-train '')"
	same "mambyte-import" "(any file)" "$(completes mambyte-import '')"
	same "how it is registered" "complete -F _mambyte_train mambyte-train" \
		"$(bash --norc -c '. ../bash/mambyte-train; complete -p mambyte-train')"
	shellcheck ../bash/* 2>/dev/null >../found || test $? -eq 127 ||
		bad "shellcheck: $(cat ../found)"
fi

# ---- zsh

# zsh asks for a terminal, which it makes itself.  There it gets the words and
# TAB; the command that comes of it writes its arguments to a file.
cat >../.zshrc <<END
unsetopt beep
fpath=("$dir/zsh" \$fpath)
autoload -Uz compinit && compinit -D -u
for program in mambyte mambyte-train mambyte-import; do
	functions[\$program]='
		[[ \$1 == --list-models ]] && { command mambyte \$1; return }
		print -r -- "\$@" >"$dir/typing" && mv "$dir/typing" "$dir/typed"'
done
: >"$dir/ready"
END
cat >../type.zsh <<'END'
zmodload zsh/zpty zsh/zselect
wait_for() { repeat 400 { [[ -e $1 ]] && return; zselect -t 5 } }
zpty -b shell "TERM=vt100 ZDOTDIR=${(q)1} zsh -i"
wait_for $1/ready
zpty -w -n shell "$2"$'\t\n'
wait_for $1/typed
cat $1/typed
zpty -d shell
END

# zsh_completes ARGUMENTS WORDS -- what the words become.
zsh_completes()
{
	rm -f ../ready ../typed
	same "zsh: $2" "$1" "$(zsh -f ../type.zsh "$dir" "$2" 2>&1)"
}

if command -v zsh >/dev/null; then
	zsh_completes --perplexity 'mambyte --perp'
	zsh_completes --architecture 'mambyte-train --arch'
	zsh_completes --context=reset 'mambyte --context=re'
	zsh_completes "--device cpu" 'mambyte --device cp'
	rm ../share/mambyte/weights/tiny-a.safetensors
	zsh_completes "--model=tiny-b" 'mambyte --model=ti'
	zsh_completes "-m tiny-b" 'mambyte-train -m ti'
	zsh_completes "--classify=topics" 'mambyte --classify=to'
	zsh_completes "--classify=prose.state,code.state" \
		'mambyte --classify=prose.state,c'
	zsh_completes "--load-state=prose.state" 'mambyte --load-state=p'
	zsh_completes "-n5 -kd archive.mbz" 'mambyte -n5 -kd a'
	zsh_completes "--score archive.mbz book.txt" \
		'mambyte --score archive.mbz b'
	zsh_completes "--to=transformers" 'mambyte-import --to=t'
fi

finish
