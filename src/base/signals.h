/* signals.h -- a flag for signals that ask us to stop, and a true end.
 *
 * SIGINT, SIGTERM and SIGHUP (unless the caller has them ignored) set a flag
 * that loops look at; main cleans up and then dies of that very signal, so
 * that the shell sees the cause.  A second one kills at once.  SIGPIPE keeps
 * its default: silent death.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_SIGNALS_H
#define MAMBYTE_SIGNALS_H

#include "base/status.h"

enum status signals_init(void);

/* E_INTERRUPTED when a signal came, else OK. */
enum status signals_check(void);

/* Readable once a signal came; -1 before signals_init. */
int signals_fd(void);

/* From now on a mapped file that shrinks (SIGBUS) ends the program with a
 * sentence that names path, and status 1.  path must stay. */
void signals_guard_mapping(const char *path);

/* Dies of the signal that came, with everything else left as it is; returns
 * when none did. */
void signals_exit(void);

#endif
