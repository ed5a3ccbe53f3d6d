# local.mk -- the training of models.
#
# SPDX-License-Identifier: MIT

libmambyte_a_SOURCES += \
  src/train/adamw.c \
  src/train/adamw.h \
  src/train/autosave.c \
  src/train/autosave.h \
  src/train/backward.c \
  src/train/backward.h \
  src/train/backward_pass.h \
  src/train/checkpoint.c \
  src/train/checkpoint.h \
  src/train/cpu_trainer.c \
  src/train/dataset.c \
  src/train/dataset.h \
  src/train/ends.c \
  src/train/export.c \
  src/train/export.h \
  src/train/held_out.c \
  src/train/held_out.h \
  src/train/linear.c \
  src/train/loader.c \
  src/train/loader.h \
  src/train/mamba1.c \
  src/train/mamba1.h \
  src/train/mamba2.c \
  src/train/mamba2.h \
  src/train/mamba2_backward.c \
  src/train/mamba2_forward.c \
  src/train/mamba2_parts.h \
  src/train/muon.c \
  src/train/muon.h \
  src/train/norm.c \
  src/train/parameters.c \
  src/train/parameters.h \
  src/train/parameters_init.c \
  src/train/parameters_load.c \
  src/train/plot.c \
  src/train/plot.h \
  src/train/schedule.h \
  src/train/train.c \
  src/train/train.h \
  src/train/train_log.c \
  src/train/train_log.h \
  src/train/trainer.c \
  src/train/trainer.h \
  src/train/trainer_ops.h \
  src/train/validate.c \
  src/train/validate.h
