# mambyte_cuda.m4 -- finds nvcc, what it compiles for, and the runtime.
#
# No tables of toolkits and GPUs: what nvcc can do is found by asking it.
#
# SPDX-License-Identifier: MIT

# MAMBYTE_CUDA
# ------------
# --with-cuda[=DIR]: yes = must be found, no = leave out, auto (default).
# --with-cuda-arch=LIST: compute capabilities that must compile.
# Sets NVCC, NVCCFLAGS, NVCC_GENCODE, NVCC_CPPFLAGS, NVCC_HARDENING,
# CUDA_CPPFLAGS, CUDA_LDFLAGS, CUDA_LIBS, the conditional HAVE_CUDA and config.h's
# HAVE_CUDA.
AC_DEFUN([MAMBYTE_CUDA], [
AC_ARG_WITH([cuda],
  [AS_HELP_STRING([--with-cuda@<:@=DIR@:>@],
    [build the GPU engine, CUDA Toolkit in DIR @<:@auto@:>@])],
  [], [with_cuda=auto])
AC_ARG_WITH([cuda-arch],
  [AS_HELP_STRING([--with-cuda-arch=LIST],
    [comma-separated compute capabilities, such as 80,90
     @<:@7.5 and later, as far as nvcc can@:>@])],
  [], [with_cuda_arch=auto])
AC_ARG_VAR([NVCC], [CUDA compiler])
AC_ARG_VAR([NVCCFLAGS], [flags for NVCC])

mb_cuda=no mb_cuda_why= mb_cuda_dir=
AS_CASE([$with_cuda],
  [no], [mb_cuda_why="(--without-cuda)"],
  [yes|auto], [],
  [mb_cuda_dir=$with_cuda
   AS_IF([test ! -x "$mb_cuda_dir/bin/nvcc"],
     [AC_MSG_ERROR([--with-cuda=$mb_cuda_dir: there is no bin/nvcc in it])])])

AS_IF([test "x$with_cuda" != xno],
  [_MAMBYTE_CUDA_TOOLKIT
   AS_IF([test "$mb_cuda" = no && test "x$with_cuda" != xauto],
     [AC_MSG_ERROR([--with-cuda was asked for: $mb_cuda_why; see
                    config.log])])])

AS_IF([test "$mb_cuda" = yes],
  [AC_DEFINE([HAVE_CUDA], [1], [Define to 1 if the GPU engine is built.])
   AC_SUBST([CUDA_CPPFLAGS]) AC_SUBST([CUDA_LDFLAGS]) AC_SUBST([CUDA_LIBS])
   AC_SUBST([NVCC_GENCODE])])
AM_CONDITIONAL([HAVE_CUDA], [test "$mb_cuda" = yes])
])

# _MAMBYTE_CUDA_TOOLKIT
# ---------------------
# mb_cuda=yes when all is there, else mb_cuda_why.
AC_DEFUN([_MAMBYTE_CUDA_TOOLKIT], [
AS_IF([test "x$mb_cuda_dir" != x],
  [: ${NVCC="$mb_cuda_dir/bin/nvcc"}],
  [AC_PATH_PROG([NVCC], [nvcc], [],
    [$PATH$PATH_SEPARATOR${CUDA_HOME-/usr/local/cuda}/bin])
   mb_cuda_dir=`AS_DIRNAME(["$NVCC"])`/..])
: ${NVCCFLAGS="-O3 -lineinfo"}
AS_IF([test "x$NVCC" = x],
  [mb_cuda_why="(nvcc not found)"],
  [_MAMBYTE_CUDA_ARCH
   AS_IF([test "x$NVCC_GENCODE" = x && test "x$with_cuda_arch" != xauto],
     [AC_MSG_ERROR([nvcc does not compile for $with_cuda_arch; see
                    config.log])],
     [test "x$NVCC_GENCODE" = x], [mb_cuda_why="(nvcc does not compile)"],
     [_MAMBYTE_CUDA_CPPFLAGS
      _MAMBYTE_CUDA_HARDENING
      _MAMBYTE_CUDA_RUNTIME])])
])

# _MAMBYTE_CUDA_CPPFLAGS
# ----------------------
# NVCC_CPPFLAGS: CPPFLAGS without what nvcc does not take, and without checked
# calls of libc (see below).
AC_DEFUN([_MAMBYTE_CUDA_CPPFLAGS], [
NVCC_CPPFLAGS=
for mb_flag in $CPPFLAGS; do
  AS_CASE([$mb_flag],
    [-[[DU]]_FORTIFY_SOURCE*|-W*|-f*|-m*], [],
    [AS_VAR_APPEND([NVCC_CPPFLAGS], [" $mb_flag"])])
done
AC_SUBST([NVCC_CPPFLAGS])
])

# _MAMBYTE_CUDA_HARDENING
# -----------------------
# NVCC_HARDENING: those of HARDENING_CFLAGS that nvcc's compiler for the host
# takes; it may be another than CC.  Checked calls of libc are left out: nvcc
# compiles the kernels with the same headers, and their code would change.
AC_DEFUN([_MAMBYTE_CUDA_HARDENING], [
AC_CACHE_CHECK([how $NVCC hardens the code of the host],
  [mb_cv_nvcc_hardening], [
  mb_cv_nvcc_hardening=
  AS_ECHO(["#include <stdio.h>"]) >conftest.cu
  for mb_flag in $HARDENING_CFLAGS; do
    AS_CASE([$mb_flag], [-D*], [continue])
    AS_IF([$NVCC $NVCC_GENCODE $NVCCFLAGS -Xcompiler=-Werror,$mb_flag -c \
             -o conftest.$OBJEXT conftest.cu >&AS_MESSAGE_LOG_FD 2>&1],
      [AS_VAR_APPEND([mb_cv_nvcc_hardening], [" -Xcompiler=$mb_flag"])])
  done
  rm -f conftest.cu conftest.$OBJEXT])
NVCC_HARDENING=$mb_cv_nvcc_hardening
AC_SUBST([NVCC_HARDENING])
])

# _MAMBYTE_CUDA_ARCH
# ------------------
# NVCC_GENCODE: code for each capability, and PTX of the last, so that a
# newer GPU can still run us.  By default one of each major version: what is
# compiled for 8.0 runs on 8.6 and 8.9 too; 9.0a has the products of a
# warpgroup that 9.0 lacks, and runs on all of 9.0.
AC_DEFUN([_MAMBYTE_CUDA_ARCH], [
AC_CACHE_CHECK([what $NVCC compiles for], [mb_cv_cuda_arch], [
  mb_cv_cuda_arch=
  mb_save_IFS=$IFS; IFS=,
  AS_IF([test "x$with_cuda_arch" = xauto],
    [set x 75,80,90a,100,120], [set x "$with_cuda_arch"])
  shift
  for mb_sm in $[1]; do
    IFS=$mb_save_IFS
    echo '__global__ void k(float *x) { *x = 1; }' > conftest.cu
    AS_IF([$NVCC -gencode=arch=compute_$mb_sm,code=sm_$mb_sm \
             -c conftest.cu -o conftest.$OBJEXT >&AS_MESSAGE_LOG_FD 2>&1],
      [mb_cv_cuda_arch="$mb_cv_cuda_arch $mb_sm"],
      [test "x$with_cuda_arch" != xauto],
      [mb_cv_cuda_arch=no; break])
  done
  IFS=$mb_save_IFS
  rm -f conftest.cu conftest.$OBJEXT])
NVCC_GENCODE=
AS_IF([test "x$mb_cv_cuda_arch" != x && test "x$mb_cv_cuda_arch" != xno], [
  for mb_sm in $mb_cv_cuda_arch; do
    AS_VAR_APPEND([NVCC_GENCODE],
      [" -gencode=arch=compute_$mb_sm,code=sm_$mb_sm"])
  done
  mb_sm=${mb_sm%a}
  AS_VAR_APPEND([NVCC_GENCODE],
    [" -gencode=arch=compute_$mb_sm,code=compute_$mb_sm"])])
])

# _MAMBYTE_CUDA_RUNTIME
# ---------------------
# The static runtime, so that the program starts where there is no CUDA.
AC_DEFUN([_MAMBYTE_CUDA_RUNTIME], [
for mb_lib in lib64 lib targets/x86_64-linux/lib targets/sbsa-linux/lib; do
  AS_IF([test -d "$mb_cuda_dir/$mb_lib"], [break])
done
CUDA_CPPFLAGS="-isystem $mb_cuda_dir/include"
CUDA_LDFLAGS="-L$mb_cuda_dir/$mb_lib"
CUDA_LIBS="-lcudart_static -lrt -lpthread -ldl"
mb_save_CPPFLAGS=$CPPFLAGS mb_save_LDFLAGS=$LDFLAGS mb_save_LIBS=$LIBS
CPPFLAGS="$CPPFLAGS $CUDA_CPPFLAGS"
LDFLAGS="$LDFLAGS $CUDA_LDFLAGS"
LIBS="$CUDA_LIBS $LIBS"
AC_CACHE_CHECK([for the static CUDA runtime], [mb_cv_cudart], [
  AC_LINK_IFELSE([AC_LANG_PROGRAM([[#include <cuda_runtime_api.h>]],
                                  [[int n; return cudaGetDeviceCount(&n);]])],
    [mb_cv_cudart=yes], [mb_cv_cudart=no])])
CPPFLAGS=$mb_save_CPPFLAGS LDFLAGS=$mb_save_LDFLAGS LIBS=$mb_save_LIBS
AS_IF([test "$mb_cv_cudart" = no],
  [mb_cuda_why="(libcudart_static not found)"],
  [mb_cuda=yes mb_cuda_why="(`echo $mb_cv_cuda_arch`)"])
])
