# emulated.mk -- builds tests/check_cuda for an imitated GPU, and runs it.
#
# `make check-emulated' runs this in a build tree, after libmambyte.a, with
# top_srcdir, CC, CPPFLAGS and libraries.  All goes to emulated/.
#
#   sources   what the compiler reads, made from cuda/; comes first
#   check     case few passes with each seed
#   race      without one barrier it fails with one of them
#
# SPDX-License-Identifier: MIT

SEEDS = 1 2 3
RACE = cuda/prefill/elementwise.cu:1

here = $(top_srcdir)/tests/emulated
folders = common engine float prefill batch decode
kernels = $(patsubst $(top_srcdir)/%.cu,%, \
  $(wildcard $(folders:%=$(top_srcdir)/cuda/%/*.cu)))
racy = $(patsubst %.cu,%,$(firstword $(subst :, ,$(RACE))))

kernel_objects = $(kernels:%=emulated/%.o)
own_objects = $(patsubst $(here)/%.cpp,emulated/%.o,$(wildcard $(here)/*.cpp))
c_objects = emulated/src/engine/engine.o emulated/tests/check_cuda.o
objects = $(kernel_objects) $(own_objects) $(c_objects)
racy_objects = $(patsubst emulated/$(racy).o,emulated/racy.o,$(objects))

includes = -I. -I$(here) -I$(top_srcdir) -I$(top_srcdir)/src \
  -I$(top_srcdir)/tests
# -O1 takes least time, compilation included.
OPTIMISATION = -O1 -march=native
cxx = $(CXX) -std=c++17 -ffp-contract=off -fno-strict-aliasing \
  $(OPTIMISATION) -MMD -MP
cc = $(CC) -std=c11 -ffp-contract=off -D_GNU_SOURCE= -DHAVE_CONFIG_H \
  -DHAVE_CUDA=1 $(CPPFLAGS) -O1 -MMD -MP
run = env CK_FORK=no CK_RUN_CASE=few MAMBYTE_REQUIRE_GPU=1

check: emulated/check_cuda
	for seed in $(SEEDS); do \
	  echo "seed $$seed" && \
	  $(run) MAMBYTE_EMULATED_SEED=$$seed ./$< || exit 1; \
	done

race: emulated/racy
	for seed in $(SEEDS); do \
	  $(run) MAMBYTE_EMULATED_SEED=$$seed ./$< >$<.log 2>&1 || exit 0; \
	done; \
	echo 'check-emulated: nothing fails without the barrier $(RACE)'; exit 1

sources:
	$(here)/transform $(top_srcdir) emulated/source $(folders)
	$(here)/transform --without-barrier $(RACE) $(top_srcdir) \
	  emulated/racy-source $(folders)

# As nvcc does, these have the runtime's header before they ask for it.
$(kernel_objects): emulated/%.o: emulated/source/%.cpp
	@mkdir -p $(@D)
	$(cxx) -Iemulated/source $(includes) -include cuda_runtime.h -w -c -o $@ $<

emulated/racy.o: emulated/racy-source/$(racy).cpp
	$(cxx) -Iemulated/racy-source $(includes) -include cuda_runtime.h -w \
	  -c -o $@ $<

$(own_objects): emulated/%.o: $(here)/%.cpp
	$(cxx) $(includes) -Wall -Wextra -Werror -c -o $@ $<

# The library's engine.o knows no GPU; this one comes before it.
$(c_objects): emulated/%.o: $(top_srcdir)/%.c
	@mkdir -p $(@D)
	$(cc) $(includes) -c -o $@ $<

emulated/check_cuda: $(objects) libmambyte.a tests/libtest.a
	$(CXX) -pthread -o $@ $(objects) $(libraries)

emulated/racy: $(racy_objects) libmambyte.a tests/libtest.a
	$(CXX) -pthread -o $@ $(racy_objects) $(libraries)

-include $(objects:.o=.d) emulated/racy.d
.PHONY: check race sources
