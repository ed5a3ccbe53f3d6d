# local.mk -- array operations, an implementation an instruction set.
#
# SPDX-License-Identifier: MIT

libmambyte_a_SOURCES += \
  src/kernels/cpu_dispatch.c \
  src/kernels/cpu_kernels.h \
  src/kernels/cpu_reduce_x86.h \
  src/kernels/cpu_scalar.c \
  src/kernels/cpu_scalar_mamba2.c \
  src/kernels/cpu_vector.h \
  src/kernels/cpu_vector_channels.h \
  src/kernels/cpu_vector_cost.h \
  src/kernels/cpu_vector_floats.h \
  src/kernels/cpu_vector_heads.h \
  src/kernels/cpu_vector_mamba2.h \
  src/kernels/cpu_vector_panels.h \
  src/kernels/mamba2.h \
  src/kernels/mamba2_floats.h \
  src/kernels/mamba2_rows.h \
  src/kernels/scalar.h \
  src/kernels/train_dispatch.c \
  src/kernels/train_kernels.h \
  src/kernels/train_level.h
