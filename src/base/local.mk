# local.mk -- what every other folder may use: bytes, files, threads, errors.
#
# SPDX-License-Identifier: MIT

libmambyte_a_SOURCES += \
  src/base/array.c \
  src/base/array.h \
  src/base/atomic_file.c \
  src/base/atomic_file.h \
  src/base/byteio.c \
  src/base/byteio.h \
  src/base/carver.h \
  src/base/clock.c \
  src/base/clock.h \
  src/base/cpu_relax.h \
  src/base/escape.c \
  src/base/escape.h \
  src/base/exact.h \
  src/base/file_claim.c \
  src/base/file_claim.h \
  src/base/file_group.c \
  src/base/file_group.h \
  src/base/file_pair.c \
  src/base/file_pair.h \
  src/base/file_place.c \
  src/base/file_place.h \
  src/base/folder.c \
  src/base/folder.h \
  src/base/large_pages.c \
  src/base/large_pages.h \
  src/base/little_endian.h \
  src/base/lzma2.c \
  src/base/lzma2.h \
  src/base/memlimit.c \
  src/base/memlimit.h \
  src/base/memory_stream.c \
  src/base/memory_stream.h \
  src/base/message.c \
  src/base/message.h \
  src/base/names.h \
  src/base/number.c \
  src/base/number.h \
  src/base/printable.h \
  src/base/random.h \
  src/base/range_coder.c \
  src/base/range_coder.h \
  src/base/sandbox.c \
  src/base/sandbox.h \
  src/base/signals.c \
  src/base/signals.h \
  src/base/sizes.h \
  src/base/status.c \
  src/base/status.h \
  src/base/temporary.c \
  src/base/temporary.h \
  src/base/text.h \
  src/base/threads.c \
  src/base/threads.h \
  src/base/utf8.c \
  src/base/utf8.h
