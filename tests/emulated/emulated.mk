# emulated.mk -- builds tests of the GPU engine for an imitated GPU, and runs
# them.
#
# `make check-emulated' runs this in a build tree, after libmambyte.a, with
# top_srcdir, CC, CPPFLAGS, libraries and wraps.  All goes to emulated/ or out.
#
#   sources   what the compiler reads, made from cuda/; comes first
#   check     case few of check_cuda passes with each seed, and case signal
#   small     and on GPUs that are smaller, or run out of memory
#   race      without one barrier it fails with one of them
#   train     with PART=train: case few of the trainer's tests passes
#
# ARCH is the architecture that the kernels are compiled for: 900, or one
# without clusters and products of a warpgroup; the trainer takes 800 or more.
#
# SPDX-License-Identifier: MIT

SEEDS = 1 2 3
ARCH = 900
out = emulated
# - for =, which cannot be in names of targets.
SMALL = shared-99 shared-64 processors-2 shared-64,processors-1
RACE = cuda/prefill/elementwise.cu:1

here = $(top_srcdir)/tests/emulated
# The GPU engine, or the trainer.
PART = engine
folders = common engine float prefill batch decode
folders.engine = $(folders)
folders.train = common train
kernels = $(patsubst $(top_srcdir)/%.cu,%, \
  $(wildcard $(folders.$(PART):%=$(top_srcdir)/cuda/%/*.cu)))
racy = $(patsubst %.cu,%,$(firstword $(subst :, ,$(RACE))))

kernel_objects = $(kernels:%=$(out)/%.o)
own_objects = $(patsubst $(here)/%.cpp,$(out)/%.o,$(wildcard $(here)/*.cpp)) \
  $(out)/small_gpu.o
c_objects.engine = $(out)/src/engine/engine.o
c_objects.train = $(out)/src/train/trainer.o \
  $(patsubst %,$(out)/tests/%.o,mamba2_reference recorded_run training_run)
c_objects = $(c_objects.$(PART))
programs.engine = $(out)/tests/check_cuda.o $(out)/tests/check_cuda_memory.o
programs.train = $(out)/tests/check_cuda_mamba2.o \
  $(out)/tests/check_cuda_trainer.o
programs = $(programs.$(PART))
objects = $(kernel_objects) $(own_objects) $(c_objects)
racy_objects = $(patsubst $(out)/$(racy).o,$(out)/racy.o,$(objects))

includes = -I. -I$(here) -I$(top_srcdir) -I$(top_srcdir)/src \
  -I$(top_srcdir)/tests
# -O1 takes least time, compilation included.
OPTIMISATION = -O1 -march=native
cxx = $(CXX) -std=c++17 -ffp-contract=off -fno-strict-aliasing \
  $(OPTIMISATION) -D__CUDA_ARCH__=$(ARCH) -MMD -MP
cc = $(CC) -std=c11 -ffp-contract=off -D_GNU_SOURCE= -DHAVE_CONFIG_H \
  -DHAVE_CUDA=1 $(CPPFLAGS) -O1 -MMD -MP
# The trainer loads cuBLAS, and has code that only a compiler of CUDA sees.
flags.train = -D__CUDACC__ -Ddlopen=emulated_dlopen -Ddlsym=emulated_dlsym
run = env CK_FORK=no CK_RUN_CASE=few MAMBYTE_REQUIRE_GPU=1 srcdir=$(top_srcdir)

check: $(SEEDS:%=seed-%) signal
small: $(SMALL:%=gpu-%) memory

seed-%: $(out)/check_cuda
	$(run) MAMBYTE_EMULATED_SEED=$* ./$<

gpu-%: $(out)/check_cuda
	$(run) MAMBYTE_SMALL_GPU=$(subst -,=,$*) ./$<

train: train-mamba2 train-trainer

train-%: $(out)/check_cuda_%
	$(run) ./$<

signal: $(out)/check_cuda
	$(run) CK_RUN_CASE=signal ./$<

memory: $(out)/check_cuda_memory
	$(run) CK_RUN_CASE=tests ./$<
	$(run) CK_RUN_CASE=records ./$<
	$(run) CK_RUN_CASE=small ./$<

race: $(out)/racy
	for seed in $(SEEDS); do \
	  $(run) MAMBYTE_EMULATED_SEED=$$seed ./$< >$<.log 2>&1 || exit 0; \
	done; \
	echo 'check-emulated: nothing fails without the barrier $(RACE)'; exit 1

sources:
	$(here)/transform $(top_srcdir) emulated/source $(folders) train
	$(here)/transform --without-barrier $(RACE) $(top_srcdir) \
	  emulated/racy-source $(folders)

# As nvcc does, these have the runtime's header before they ask for it.
$(kernel_objects): $(out)/%.o: emulated/source/%.cpp
	@mkdir -p $(@D)
	$(cxx) -Iemulated/source $(includes) $(flags.$(PART)) \
	  -include cuda_runtime.h -w -c -o $@ $<

$(out)/racy.o: emulated/racy-source/$(racy).cpp
	$(cxx) -Iemulated/racy-source $(includes) -include cuda_runtime.h -w \
	  -c -o $@ $<

$(out)/small_gpu.o: $(top_srcdir)/tests/small_gpu.cu
	$(cxx) $(includes) -Wall -Wextra -Werror -x c++ -c -o $@ $<

$(out)/%.o: $(here)/%.cpp
	@mkdir -p $(@D)
	$(cxx) $(includes) -Wall -Wextra -Werror -c -o $@ $<

# The library's own engine.o or trainer.o knows no GPU; this comes before it.
$(c_objects) $(programs): $(out)/%.o: $(top_srcdir)/%.c
	@mkdir -p $(@D)
	$(cc) $(includes) -c -o $@ $<

$(out)/check_%: $(out)/tests/check_%.o $(objects) libmambyte.a tests/libtest.a
	$(CXX) -pthread $(wraps) -o $@ $< $(objects) $(libraries)

$(out)/racy: $(out)/tests/check_cuda.o $(racy_objects) libmambyte.a \
  tests/libtest.a
	$(CXX) -pthread $(wraps) -o $@ $< $(racy_objects) $(libraries)

-include $(objects:.o=.d) $(programs:.o=.d) $(out)/racy.d
.PHONY: check memory race signal small sources train
.SECONDARY: $(programs) $(programs:$(out)/tests/%.o=$(out)/%)
