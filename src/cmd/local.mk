# local.mk -- the three programs: options, tasks, main.
#
# SPDX-License-Identifier: MIT

libmambyte_a_SOURCES += \
  src/cmd/import_options.c \
  src/cmd/import_options.h \
  src/cmd/json.c \
  src/cmd/json.h \
  src/cmd/machine_options.c \
  src/cmd/machine_options.h \
  src/cmd/model_choice.c \
  src/cmd/model_choice.h \
  src/cmd/option_table.c \
  src/cmd/option_table.h \
  src/cmd/options.c \
  src/cmd/options.h \
  src/cmd/outlet.c \
  src/cmd/outlet.h \
  src/cmd/outputs.c \
  src/cmd/outputs.h \
  src/cmd/own_file.c \
  src/cmd/own_file.h \
  src/cmd/program.c \
  src/cmd/program.h \
  src/cmd/task.h \
  src/cmd/task_classify.c \
  src/cmd/task_color.c \
  src/cmd/task_compress.c \
  src/cmd/task_embed.c \
  src/cmd/task_evaluate.c \
  src/cmd/task_generate.c \
  src/cmd/task_info.c \
  src/cmd/task_io.c \
  src/cmd/task_io.h \
  src/cmd/task_list.c \
  src/cmd/task_next.c \
  src/cmd/task_perplexity.c \
  src/cmd/task_records.c \
  src/cmd/task_records.h \
  src/cmd/task_score.c \
  src/cmd/task_surprisal.c \
  src/cmd/train_options.c \
  src/cmd/train_options.h
