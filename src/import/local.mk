# local.mk -- published checkpoints to models, and back.
#
# SPDX-License-Identifier: MIT

libmambyte_a_SOURCES += \
  src/import/adopt.c \
  src/import/adopt.h \
  src/import/average.c \
  src/import/average.h \
  src/import/config_json.c \
  src/import/config_json.h \
  src/import/config_keys.c \
  src/import/config_keys.h \
  src/import/equalise.c \
  src/import/equalise.h \
  src/import/families.c \
  src/import/families.h \
  src/import/foreign.c \
  src/import/foreign.h \
  src/import/import.c \
  src/import/import.h \
  src/import/json_file.c \
  src/import/json_file.h \
  src/import/outliers.c \
  src/import/outliers.h \
  src/import/pickle.c \
  src/import/pickle.h \
  src/import/pickle_functions.c \
  src/import/pickle_functions.h \
  src/import/pickle_machine.c \
  src/import/pickle_machine.h \
  src/import/pickle_stack.c \
  src/import/pickle_stack.h \
  src/import/publish.c \
  src/import/publish.h \
  src/import/publish_place.c \
  src/import/publish_place.h \
  src/import/state_dict.c \
  src/import/state_dict.h \
  src/import/tensor_names.c \
  src/import/tensor_names.h \
  src/import/tokenizer_json.c \
  src/import/tokenizer_json.h \
  src/import/torch_archive.c \
  src/import/torch_archive.h \
  src/import/torch_file.c \
  src/import/torch_file.h \
  src/import/torch_legacy.c \
  src/import/torch_legacy.h \
  src/import/torch_write.c \
  src/import/torch_write.h \
  src/import/vocabulary.c \
  src/import/vocabulary.h \
  src/import/zip_output.c \
  src/import/zip_output.h
