#!/bin/sh
# lint_rules.sh -- build-aux/arrows, build-lists and function-lengths pass our
# tree, and each fails on a small tree that breaks one of its rules.
#
# SPDX-License-Identifier: MIT
#
# shellcheck source=tests/cli.sh
. "${srcdir:?}/tests/cli.sh"

tools=$srcdir/build-aux

for tool in arrows build-lists function-lengths; do
	run sh "$tools/$tool" "$srcdir"
	same "$tool of our tree" "0 " "$status $(cat out err)"
done

# tree FILE INCLUDED -- a tree whose FILE includes one other file.
tree()
{
	rm -rf tree
	mkdir -p tree/src/base tree/src/model tree/src/engine \
		tree/src/compress tree/src/classify tree/cuda/common \
		tree/cuda/decode tree/cuda/prefill tree/cuda/batch tree/tests
	echo "#include \"$2\"" >"tree/$1"
}

# arrows WHAT STATUS SENTENCE
arrows()
{
	run sh "$tools/arrows" tree
	same "$1" "$2 $3" "$status $(cat out err)"
}

tree src/engine/engine.c base/status.h
arrows "an include that points down" 0 ""

tree src/engine/engine.c engine/engine.h
arrows "an include of the same folder" 0 ""

tree src/base/clock.c engine/engine.h
arrows "an include that points up" 1 \
	"arrows: src/base/clock.c includes src/engine/engine.h: src/engine is not below src/base"

tree src/compress/block.c classify/grams.h
arrows "an include that points sideways" 1 \
	"arrows: src/compress/block.c includes src/classify/grams.h: src/classify is not below src/compress"

tree cuda/decode/decode.cu cuda/batch/batch.cuh
arrows "an include that points up in cuda/" 1 \
	"arrows: cuda/decode/decode.cu includes cuda/batch/batch.cuh: cuda/batch is not below cuda/decode"

tree cuda/decode/decode.cu cuda/prefill/prefill.cuh
arrows "an include that points sideways in cuda/" 1 \
	"arrows: cuda/decode/decode.cu includes cuda/prefill/prefill.cuh: cuda/prefill is not below cuda/decode"

tree cuda/decode/decode.cu compress/block.h
arrows "an include of what engines are for" 1 \
	"arrows: cuda/decode/decode.cu includes src/compress/block.h: src/compress is above engines"

tree src/base/clock.c cuda/common/device.cuh
arrows "an include of a kernel by the CPU's sources" 1 \
	"arrows: src/base/clock.c includes cuda/common/device.cuh: src/ knows nothing of cuda/"

tree src/engine/engine.c status.h
arrows "an include without a folder" 1 \
	"arrows: src/engine/engine.c includes status.h: name its folder"

tree src/engine/a.h engine/b.h
echo '#include "engine/c.h"' >tree/src/engine/b.h
echo '#include "engine/a.h"' >tree/src/engine/c.h
arrows "a circle" 1 \
	"arrows: a circle: src/engine/a.h src/engine/b.h src/engine/c.h src/engine/a.h"

# lists WHAT STATUS SENTENCE
lists()
{
	run sh "$tools/build-lists" tree
	same "$1" "$2 $3" "$status $(cat out err)"
}

tree src/base/clock.h base/exact.h
echo 'include $(top_srcdir)/src/base/local.mk' >tree/Makefile.am
printf 'sources = \\\n  src/base/clock.c \\\n  src/base/clock.h\n' \
	>tree/src/base/local.mk
lists "a header that is listed" 0 ""

: >tree/src/base/clock.c
lists "a source and its header that are listed" 0 ""

echo 'sources = src/base/clock.h' >tree/src/base/local.mk
lists "a source whose header alone is listed" 1 \
	"build-lists: src/base/clock.c is in no list of the build"

printf 'sources = src/base/clock.cu src/base/clock.h xsrc/base/clock.c\n' \
	>tree/src/base/local.mk
lists "a source with names like it" 1 \
	"build-lists: src/base/clock.c is in no list of the build"

echo 'sources = src/base/clock.h src/base/clock.c' >tree/src/base/local.mk
: >tree/Makefile.am
lists "a list that nothing includes" 1 \
	"build-lists: src/base/local.mk is in no list of the build"

# define NAME LINES [MARGIN]
define()
{
	echo "${3-}static void __launch_bounds__(THREADS, (N > 8 ? 3 : 4) / 2)"
	echo "${3-}    $1(int x)"
	echo "${3-}{"
	for _ in $(seq "$2"); do
		echo "${3-}    work(x);"
	done
	echo "${3-}}"
}

# lengths WHAT STATUS SENTENCE
lengths()
{
	run sh "$tools/function-lengths" tree
	same "$1" "$2 $3" "$status $(cat out err)"
}

tree src/base/clock.c base/clock.h
define short 50 >>tree/src/base/clock.c
lengths "a function of 50 lines" 0 ""

define long 51 >>tree/src/base/clock.c
lengths "a function of 51 lines" 1 \
	"function-lengths: src/base/clock.c:58: long has 51 lines, 50 at most"

tree cuda/decode/decode.cuh cuda/decode/decode_plan.cuh
{
	echo 'struct stream {'
	define member 51 '    '
	echo '};'
} >>tree/cuda/decode/decode.cuh
lengths "a member of 51 lines" 1 \
	"function-lengths: cuda/decode/decode.cuh:5: member has 51 lines, 50 at most"

tree cuda/decode/decode_kernel.cu cuda/decode/decode_plan.cuh
define decode_layer 70 >>tree/cuda/decode/decode_kernel.cu
lengths "a function with leave to have 70 lines" 0 ""

tree cuda/decode/decode_kernel.cu cuda/decode/decode_plan.cuh
define decode_layer 71 >>tree/cuda/decode/decode_kernel.cu
lengths "one of 71" 1 \
	"function-lengths: cuda/decode/decode_kernel.cu:4: decode_layer has 71 lines, 70 at most"

tree cuda/decode/decode_kernel.cu cuda/decode/decode_plan.cuh
define decode_layer 50 >>tree/cuda/decode/decode_kernel.cu
lengths "one that got short" 1 \
	"function-lengths: cuda/decode/decode_kernel.cu decode_layer has no need to be longer"

finish
