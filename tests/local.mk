# local.mk -- the tests: unit tests, replayed fuzz inputs, command lines.
#
# SPDX-License-Identifier: MIT

# The model that a test uses when a tiny one will not do.
model = $(abs_top_srcdir)/weights/mambyte-27m.safetensors

unit_tests = \
  tests/check_adopt \
  tests/check_atomic_file \
  tests/check_backward \
  tests/check_byteio \
  tests/check_checkpoint \
  tests/check_compressor \
  tests/check_container \
  tests/check_cuda \
  tests/check_cuda_mamba2 \
  tests/check_cuda_memory \
  tests/check_cuda_soak \
  tests/check_cuda_trainer \
  tests/check_engine \
  tests/check_exact \
  tests/check_file_pair \
  tests/check_gram_file \
  tests/check_grams \
  tests/check_import \
  tests/check_kernels \
  tests/check_linear_classifier \
  tests/check_loader \
  tests/check_model \
  tests/check_options \
  tests/check_outlet \
  tests/check_pickle \
  tests/check_predictor \
  tests/check_range_coder \
  tests/check_records \
  tests/check_regression \
  tests/check_safetensors \
  tests/check_sampler \
  tests/check_sandbox \
  tests/check_slices \
  tests/check_snapshot \
  tests/check_team_choice \
  tests/check_threads \
  tests/check_torch_file \
  tests/check_trainer \
  tests/check_wrong_model
# Those that touch memory in ways worth a slow look.
valgrind_tests = \
  tests/check_adopt \
  tests/check_atomic_file \
  tests/check_byteio \
  tests/check_checkpoint \
  tests/check_file_pair \
  tests/check_gram_file \
  tests/check_grams \
  tests/check_linear_classifier \
  tests/check_loader \
  tests/check_model \
  tests/check_options \
  tests/check_pickle \
  tests/check_safetensors \
  tests/check_snapshot \
  tests/check_torch_file \
  tests/check_wrong_model
fuzz_programs = \
  tests/fuzz_checkpoint \
  tests/fuzz_container \
  tests/fuzz_examples \
  tests/fuzz_foreign \
  tests/fuzz_foreign_json \
  tests/fuzz_linear_classifier \
  tests/fuzz_options \
  tests/fuzz_pickle \
  tests/fuzz_safetensors \
  tests/fuzz_snapshot \
  tests/fuzz_torch_file \
  tests/fuzz_train_log
cli_tests = \
  tests/cli_classify.sh \
  tests/cli_completion.sh \
  tests/cli_compress.sh \
  tests/cli_errors.sh \
  tests/cli_faults.sh \
  tests/cli_figures.sh \
  tests/cli_generate.sh \
  tests/cli_import.sh \
  tests/cli_import_foreign.sh \
  tests/cli_limits.sh \
  tests/cli_model.sh \
  tests/cli_outputs.sh \
  tests/cli_next.sh \
  tests/cli_overflow.sh \
  tests/cli_perplexity.sh \
  tests/cli_score.sh \
  tests/cli_signals.sh \
  tests/cli_state.sh \
  tests/cli_terminal.sh \
  tests/cli_train.sh \
  tests/cli_train_errors.sh \
  tests/cli_train_head.sh \
  tests/cli_train_kept.sh \
  tests/examples_bytes.sh \
  tests/examples_logrotate.sh \
  tests/examples_parallel.sh \
  tests/examples_shell.sh \
  tests/examples_spark.sh \
  tests/lint_file_lists.sh \
  tests/lint_man.sh \
  tests/lint_rules.sh \
  tests/man_examples.sh \
  tests/man_import.sh \
  tests/man_readme.sh \
  tests/man_train.sh \
  tests/usage_sync.sh
bench_programs = tests/bench_engine

check_PROGRAMS = tests/make_model tests/write_logits $(fuzz_programs)
EXTRA_PROGRAMS = $(bench_programs)
TESTS = $(fuzz_programs) $(cli_tests)
if HAVE_CHECK
check_PROGRAMS += $(unit_tests)
TESTS += $(unit_tests)
endif
if HAVE_CUDA
bench_programs += tests/bench_cuda tests/bench_train
endif

# What several tests share.
check_LIBRARIES = tests/libtest.a tests/libreplay.a
tests_libtest_a_SOURCES = \
  tests/late_engine.c \
  tests/late_engine.h \
  tests/runner.h \
  tests/scarce_engine.c \
  tests/scarce_engine.h \
  tests/tiny_model.c \
  tests/tiny_model.h
tests_libreplay_a_SOURCES = tests/fuzz_replay.c
training_run = \
  tests/recorded_run.c tests/recorded_run.h \
  tests/training_run.c tests/training_run.h
own_folder = tests/own_folder.c tests/own_folder.h
model_image = tests/model_image.c tests/model_image.h
kernels_compare = tests/kernels_compare.c tests/kernels_compare.h
test_libs = tests/libtest.a $(LDADD)
# Programs that can be told that the GPU is smaller.
if HAVE_CUDA
small_gpu = tests/small_gpu.cu
small_gpu_flags = $(AM_LDFLAGS) $(small_gpu_wraps)
-include tests/small_gpu.d
MOSTLYCLEANFILES += tests/small_gpu.d
else
small_gpu =
small_gpu_flags = $(AM_LDFLAGS)
endif
small_gpu_wraps = \
  -Wl,--wrap=cudaDeviceGetAttribute,--wrap=cudaFree,--wrap=cudaFreeHost \
  -Wl,--wrap=cudaFuncSetAttribute,--wrap=cudaGetDeviceProperties \
  -Wl,--wrap=cudaHostAlloc,--wrap=cudaLaunchKernelExC,--wrap=cudaMalloc \
  -Wl,--wrap=cudaMallocHost,--wrap=cudaMemGetInfo \
  -Wl,--wrap=cudaOccupancyMaxActiveClusters

tests_make_model_LDADD = $(test_libs)
tests_write_logits_LDADD = $(test_libs)
tests_bench_engine_LDADD = $(test_libs)
tests_bench_cuda_LDADD = $(test_libs)
tests_bench_train_LDADD = $(test_libs)

AM_TESTS_ENVIRONMENT = \
  MAMBYTE='$(abs_top_builddir)/mambyte$(EXEEXT)'; export MAMBYTE; \
  MAMBYTE_TRAIN='$(abs_top_builddir)/mambyte-train$(EXEEXT)'; \
  export MAMBYTE_TRAIN; \
  MAMBYTE_IMPORT='$(abs_top_builddir)/mambyte-import$(EXEEXT)'; \
  export MAMBYTE_IMPORT; \
  MAMBYTE_MODEL='$(model)'; export MAMBYTE_MODEL; \
  MAKE_MODEL='$(abs_top_builddir)/tests/make_model$(EXEEXT)'; \
  export MAKE_MODEL; \
  FAULTS='$(abs_top_builddir)/tests/faults.so'; export FAULTS; \
  srcdir='$(abs_top_srcdir)'; export srcdir; \
  HARDENING='$(HARDENING_CFLAGS) $(HARDENING_LDFLAGS)'; export HARDENING; \
  CK_DEFAULT_TIMEOUT=120; export CK_DEFAULT_TIMEOUT; \
  LC_ALL=C; export LC_ALL;
TEST_EXTENSIONS = .sh
SH_LOG_COMPILER = $(SHELL)

# A library for tests/cli_faults.sh, which the programs do not know.
check_DATA = tests/faults.so
mostlyclean-local:
	rm -f tests/faults.so
tests/faults.so: tests/faults.c
	$(AM_V_CC)$(MKDIR_P) tests && $(CC) -std=c11 -D_GNU_SOURCE= \
	  $(WARN_CFLAGS) -O1 -fPIC -shared -o $@ $(srcdir)/tests/faults.c -ldl

# Every fault of every mode: minutes.
check-faults: $(bin_PROGRAMS) tests/make_model$(EXEEXT) tests/faults.so
	MAMBYTE_FAULTS=all; export MAMBYTE_FAULTS; \
	  $(MAKE) $(AM_MAKEFLAGS) check TESTS=tests/cli_faults.sh

# The GPU engine against the CPU's, on a GPU that is imitated; x86-64 only.
# The second time its code is that for GPUs without clusters.
emulated = $(MAKE) $(AM_MAKEFLAGS) -f $(top_srcdir)/tests/emulated/emulated.mk \
  top_srcdir='$(top_srcdir)' CC='$(CC)' \
  CPPFLAGS='$(AM_CPPFLAGS) $(CPPFLAGS) $(CHECK_CFLAGS)' \
  libraries='$(unit_libs) $(LIBS)' wraps='$(small_gpu_wraps)'
check-emulated: libmambyte.a tests/libtest.a
	+$(emulated) sources
	+$(emulated) check small race
	+$(emulated) ARCH=750 out=emulated/750 SEEDS=1 check small
	+$(emulated) PART=train out=emulated/train train
	+$(emulated) PART=train ARCH=800 out=emulated/train-800 train-mamba2
.PHONY: check-emulated check-faults

EXTRA_DIST += \
  $(cli_tests) \
  tests/cli.sh \
  tests/data \
  tests/emulated/block.h \
  tests/emulated/cublas.cpp \
  tests/emulated/cublas_v2.h \
  tests/emulated/cuda_bf16.h \
  tests/emulated/cuda_fp16.h \
  tests/emulated/cuda_runtime.h \
  tests/emulated/emulated.mk \
  tests/emulated/fibers.cpp \
  tests/emulated/fibers.h \
  tests/emulated/grid.cpp \
  tests/emulated/intrinsics.h \
  tests/emulated/late.cpp \
  tests/emulated/ptx.cuh \
  tests/emulated/runtime.cpp \
  tests/emulated/tensor.cuh \
  tests/emulated/transform \
  tests/emulated/warp.h \
  tests/faults.c \
  tests/fuzz_corpus \
  tests/fuzz_uninstrumented \
  tests/golden \
  tests/imports.sh \
  tests/kernels_selftest.c \
  tests/text

# Unit tests, each of one file.
unit_libs = $(test_libs) $(CHECK_LIBS)
tests_check_adopt_LDADD = $(unit_libs)
tests_check_atomic_file_SOURCES = tests/check_atomic_file.c $(own_folder)
tests_check_atomic_file_LDADD = $(unit_libs)
tests_check_backward_SOURCES = tests/check_backward.c $(training_run)
tests_check_backward_LDADD = $(unit_libs)
tests_check_byteio_LDADD = $(unit_libs)
tests_check_checkpoint_LDADD = $(unit_libs)
tests_check_compressor_LDADD = $(unit_libs)
tests_check_container_LDADD = $(unit_libs)
tests_check_cuda_SOURCES = tests/check_cuda.c $(small_gpu)
tests_check_cuda_LDADD = $(unit_libs)
tests_check_cuda_LDFLAGS = $(small_gpu_flags)
tests_check_cuda_memory_SOURCES = tests/check_cuda_memory.c $(small_gpu)
tests_check_cuda_memory_LDADD = $(unit_libs)
tests_check_cuda_memory_LDFLAGS = $(small_gpu_flags)
tests_check_cuda_mamba2_SOURCES = tests/check_cuda_mamba2.c \
  tests/mamba2_reference.c tests/mamba2_reference.h $(training_run) $(small_gpu)
tests_check_cuda_mamba2_LDFLAGS = $(small_gpu_flags)
tests_check_cuda_mamba2_LDADD = $(unit_libs)
tests_check_cuda_soak_LDADD = $(unit_libs)
tests_check_cuda_trainer_SOURCES = tests/check_cuda_trainer.c \
  $(training_run) $(small_gpu)
tests_check_cuda_trainer_LDFLAGS = $(small_gpu_flags)
tests_check_cuda_trainer_LDADD = $(unit_libs)
tests_check_engine_LDADD = $(unit_libs)
tests_check_exact_LDADD = $(unit_libs)
tests_check_file_pair_SOURCES = tests/check_file_pair.c $(own_folder)
tests_check_file_pair_LDADD = $(unit_libs)
tests_check_gram_file_LDADD = $(unit_libs)
tests_check_grams_LDADD = $(unit_libs)
tests_check_import_LDADD = $(unit_libs)
tests_check_kernels_SOURCES = tests/check_kernels.c $(kernels_compare)
tests_check_kernels_LDADD = $(unit_libs)
tests_check_linear_classifier_LDADD = $(unit_libs)
tests_check_loader_SOURCES = tests/check_loader.c $(own_folder)
tests_check_loader_LDADD = $(unit_libs)
tests_check_model_SOURCES = tests/check_model.c $(model_image)
tests_check_model_LDADD = $(unit_libs)
tests_check_options_LDADD = $(unit_libs)
tests_check_outlet_LDADD = $(unit_libs)
tests_check_pickle_LDADD = $(unit_libs)
tests_check_predictor_LDADD = $(unit_libs)
tests_check_range_coder_LDADD = $(unit_libs)
tests_check_records_LDADD = $(unit_libs)
tests_check_regression_LDADD = $(unit_libs)
tests_check_safetensors_LDADD = $(unit_libs)
tests_check_sampler_LDADD = $(unit_libs)
tests_check_sandbox_SOURCES = tests/check_sandbox.c $(own_folder)
tests_check_sandbox_LDADD = $(unit_libs)
tests_check_slices_LDADD = $(unit_libs)
tests_check_snapshot_SOURCES = tests/check_snapshot.c $(own_folder)
tests_check_snapshot_LDADD = $(unit_libs)
tests_check_team_choice_LDADD = $(unit_libs)
tests_check_threads_LDADD = $(unit_libs)
tests_check_torch_file_LDADD = $(unit_libs)
tests_check_trainer_SOURCES = tests/check_trainer.c $(training_run)
tests_check_trainer_LDADD = $(unit_libs)
tests_check_wrong_model_SOURCES = tests/check_wrong_model.c $(model_image)
tests_check_wrong_model_LDADD = $(unit_libs)

# Fuzz targets: with FUZZ_ENGINE=-fsanitize=fuzzer they search (make fuzz),
# else they replay tests/fuzz_corpus.
FUZZ_ENGINE = tests/libreplay.a
fuzz_libs = $(FUZZ_ENGINE) $(test_libs)
fuzz_dependencies = $(check_LIBRARIES) libmambyte.a
tests_fuzz_checkpoint_LDADD = $(fuzz_libs)
tests_fuzz_checkpoint_DEPENDENCIES = $(fuzz_dependencies)
tests_fuzz_container_LDADD = $(fuzz_libs)
tests_fuzz_container_DEPENDENCIES = $(fuzz_dependencies)
tests_fuzz_examples_LDADD = $(fuzz_libs)
tests_fuzz_examples_DEPENDENCIES = $(fuzz_dependencies)
tests_fuzz_foreign_LDADD = $(fuzz_libs)
tests_fuzz_foreign_DEPENDENCIES = $(fuzz_dependencies)
tests_fuzz_foreign_json_LDADD = $(fuzz_libs)
tests_fuzz_foreign_json_DEPENDENCIES = $(fuzz_dependencies)
tests_fuzz_linear_classifier_LDADD = $(fuzz_libs)
tests_fuzz_linear_classifier_DEPENDENCIES = $(fuzz_dependencies)
tests_fuzz_options_LDADD = $(fuzz_libs)
tests_fuzz_options_DEPENDENCIES = $(fuzz_dependencies)
tests_fuzz_pickle_LDADD = $(fuzz_libs)
tests_fuzz_pickle_DEPENDENCIES = $(fuzz_dependencies)
tests_fuzz_safetensors_LDADD = $(fuzz_libs)
tests_fuzz_safetensors_DEPENDENCIES = $(fuzz_dependencies)
tests_fuzz_snapshot_LDADD = $(fuzz_libs)
tests_fuzz_snapshot_DEPENDENCIES = $(fuzz_dependencies)
tests_fuzz_torch_file_LDADD = $(fuzz_libs)
tests_fuzz_torch_file_DEPENDENCIES = $(fuzz_dependencies)
tests_fuzz_train_log_LDADD = $(fuzz_libs)
tests_fuzz_train_log_DEPENDENCIES = $(fuzz_dependencies)
