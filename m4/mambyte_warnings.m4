# mambyte_warnings.m4 -- the warnings that this compiler knows.
#
# SPDX-License-Identifier: MIT

# MAMBYTE_WARNINGS
# ----------------
# Sets WARN_CFLAGS: never CFLAGS, which is the user's.
AC_DEFUN([MAMBYTE_WARNINGS], [
AC_ARG_ENABLE([werror],
  [AS_HELP_STRING([--enable-werror], [make warnings of the compiler errors])],
  [], [enable_werror=no])
WARN_CFLAGS=
mb_save_CFLAGS=$CFLAGS
for mb_flag in -Wall -Wextra -Wshadow -Wstrict-prototypes \
               -Wmissing-prototypes -Wpointer-arith -Wvla; do
  AS_VAR_PUSHDEF([mb_cv], [mb_cv_cc_$mb_flag])
  AC_CACHE_CHECK([whether $CC takes $mb_flag], [mb_cv], [
    CFLAGS="$mb_save_CFLAGS -Werror $mb_flag"
    AC_COMPILE_IFELSE([AC_LANG_SOURCE([int main(void) { return 0; }])],
      [AS_VAR_SET([mb_cv], [yes])], [AS_VAR_SET([mb_cv], [no])])])
  AS_VAR_IF([mb_cv], [yes], [AS_VAR_APPEND([WARN_CFLAGS], [" $mb_flag"])])
  AS_VAR_POPDEF([mb_cv])
done
CFLAGS=$mb_save_CFLAGS
AS_IF([test "x$enable_werror" = xyes],
  [AS_VAR_APPEND([WARN_CFLAGS], [" -Werror"])])
AC_SUBST([WARN_CFLAGS])
])
