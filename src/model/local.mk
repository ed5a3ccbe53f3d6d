# local.mk -- weight files, and the model that is bound from them.
#
# SPDX-License-Identifier: MIT

libmambyte_a_SOURCES += \
  src/model/binder.c \
  src/model/binder.h \
  src/model/catalog.c \
  src/model/catalog.h \
  src/model/describe.c \
  src/model/describe.h \
  src/model/file_kind.c \
  src/model/file_kind.h \
  src/model/fingerprint.c \
  src/model/json_text.c \
  src/model/json_text.h \
  src/model/layer.c \
  src/model/metadata_list.c \
  src/model/metadata_list.h \
  src/model/model.c \
  src/model/model.h \
  src/model/odds.c \
  src/model/odds.h \
  src/model/quantise.h \
  src/model/safetensors.c \
  src/model/safetensors.h \
  src/model/safetensors_checksum.c \
  src/model/safetensors_checksum.h \
  src/model/safetensors_entry.c \
  src/model/safetensors_entry.h \
  src/model/safetensors_write.c \
  src/model/safetensors_write.h \
  src/model/shape.c \
  src/model/tensor.c \
  src/model/tensor.h
