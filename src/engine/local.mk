# local.mk -- a model reads bytes: engines, and what is made of predictions.
#
# SPDX-License-Identifier: MIT

libmambyte_a_SOURCES += \
  src/engine/cpu_batch.c \
  src/engine/cpu_engine.c \
  src/engine/cpu_engine.h \
  src/engine/cpu_mamba1.c \
  src/engine/cpu_mamba2.c \
  src/engine/device.h \
  src/engine/engine.c \
  src/engine/engine.h \
  src/engine/engine_ops.h \
  src/engine/on_cpu.h \
  src/engine/measure.c \
  src/engine/measure.h \
  src/engine/pace.c \
  src/engine/pace.h \
  src/engine/pooled.h \
  src/engine/probe.h \
  src/engine/records.c \
  src/engine/records.h \
  src/engine/sampler.c \
  src/engine/sampler.h \
  src/engine/scorer.c \
  src/engine/scorer.h \
  src/engine/snapshot.c \
  src/engine/snapshot.h \
  src/engine/state_image.c \
  src/engine/state_image.h \
  src/engine/team_choice.c \
  src/engine/team_choice.h
