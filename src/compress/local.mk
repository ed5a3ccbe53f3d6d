# local.mk -- lossless compression, from files down to bits.
#
# SPDX-License-Identifier: MIT

libmambyte_a_SOURCES += \
  src/compress/bit_history.c \
  src/compress/bit_history.h \
  src/compress/block.c \
  src/compress/block.h \
  src/compress/compressed_streams.c \
  src/compress/compressed_streams.h \
  src/compress/compressor.c \
  src/compress/compressor.h \
  src/compress/container.c \
  src/compress/container.h \
  src/compress/context_lines.h \
  src/compress/correction.h \
  src/compress/counter.h \
  src/compress/dedupe.c \
  src/compress/dedupe.h \
  src/compress/integer_coder.c \
  src/compress/integer_coder.h \
  src/compress/logistic.c \
  src/compress/logistic.h \
  src/compress/match.h \
  src/compress/odds_tree.h \
  src/compress/predictor.c \
  src/compress/predictor.h \
  src/compress/predictor_dispatch.c \
  src/compress/predictor_state.h \
  src/compress/samples.c \
  src/compress/samples.h \
  src/compress/slice_wave.c \
  src/compress/slice_wave.h \
  src/compress/slice_wave_run.c \
  src/compress/slices.c \
  src/compress/slices.h \
  src/compress/text_place.h
