# mambyte_hardening.m4 -- flags that make a mistake of ours harder to exploit.
#
# SPDX-License-Identifier: MIT

# MAMBYTE_HARDENING
# -----------------
# Sets HARDENING_CFLAGS and HARDENING_LDFLAGS to those that this compiler and
# linker know: a canary in frames with arrays, no jump over the guard page of a
# stack, checked calls of libc, an address that changes from run to run, tables
# of functions that are read-only.  None with --disable-hardening, and none with
# sanitizers, which do more.
AC_DEFUN([MAMBYTE_HARDENING], [
AC_ARG_ENABLE([hardening],
  [AS_HELP_STRING([--disable-hardening],
    [leave out flags that harden the programs])],
  [], [enable_hardening=yes])
AS_CASE([" $CFLAGS "], [*-fsanitize*], [enable_hardening=no])
HARDENING_CFLAGS= HARDENING_LDFLAGS=
AS_IF([test "x$enable_hardening" != xno], [
  for mb_flag in -fstack-protector-strong -fstack-clash-protection \
                 -fcf-protection; do
    _MAMBYTE_HARDENING_TRY([$mb_flag], [])
  done
  _MAMBYTE_HARDENING_TRY([-fPIE], [-pie])
  for mb_flag in -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack; do
    _MAMBYTE_HARDENING_TRY([], [$mb_flag])
  done
  _MAMBYTE_HARDENING_FORTIFY])
AC_SUBST([HARDENING_CFLAGS])
AC_SUBST([HARDENING_LDFLAGS])
])

# _MAMBYTE_HARDENING_TRY(CFLAG, LDFLAG)
# -------------------------------------
# Adds both when a program is built with them.
AC_DEFUN([_MAMBYTE_HARDENING_TRY], [
AS_VAR_PUSHDEF([mb_cv], [mb_cv_hardening_$1$2])
AC_CACHE_CHECK([whether $CC takes $1 $2], [mb_cv], [
  mb_save_CFLAGS=$CFLAGS mb_save_LDFLAGS=$LDFLAGS
  CFLAGS="$CFLAGS -Werror $1" LDFLAGS="$LDFLAGS $2"
  AC_LINK_IFELSE([AC_LANG_PROGRAM([[#include <stdio.h>]],
                                  [[char a[64]; return fgets(a, 64, stdin) &&
                                                       puts(a) < 0;]])],
    [AS_VAR_SET([mb_cv], [yes])], [AS_VAR_SET([mb_cv], [no])])
  CFLAGS=$mb_save_CFLAGS LDFLAGS=$mb_save_LDFLAGS])
AS_VAR_IF([mb_cv], [yes], [
  AS_IF([test "x$1" != x], [AS_VAR_APPEND([HARDENING_CFLAGS], [" $1"])])
  AS_IF([test "x$2" != x], [AS_VAR_APPEND([HARDENING_LDFLAGS], [" $2"])])])
AS_VAR_POPDEF([mb_cv])
])

# _MAMBYTE_HARDENING_FORTIFY
# --------------------------
# Not where the compiler or the user chose a level, nor without optimisation,
# which it needs.
AC_DEFUN([_MAMBYTE_HARDENING_FORTIFY], [
AC_CACHE_CHECK([whether calls of libc can be checked], [mb_cv_fortify], [
  AC_COMPILE_IFELSE([AC_LANG_SOURCE([[
#if defined _FORTIFY_SOURCE || !defined __OPTIMIZE__
#error chosen already, or of no use
#endif
int main(void) { return 0; }]])],
    [mb_cv_fortify=yes], [mb_cv_fortify=no])])
AS_IF([test "$mb_cv_fortify" = yes],
  [_MAMBYTE_HARDENING_TRY([-D_FORTIFY_SOURCE=3], [])])
])
