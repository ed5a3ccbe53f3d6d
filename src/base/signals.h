/* signals.h -- what the program does about signals.
 *
 *   SIGINT, SIGTERM, SIGHUP    set a flag that loops look at; main cleans up
 *                              and dies of that very signal, so that the shell
 *                              sees the cause; a second one kills at once,
 *                              unless we are patient, and the first one does
 *                              while we are hasty
 *   SIGPIPE, SIGXFSZ, SIGQUIT  kill, as if we did nothing about them
 *   SIGBUS                     see signals_guard_mapping()
 *
 * Unfinished files are removed before any of them kills.  What the caller of
 * the program has ignored stays ignored.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_SIGNALS_H
#define MAMBYTE_SIGNALS_H

#include <stdbool.h>

#include "base/status.h"

enum status signals_init(void);

/* E_INTERRUPTED when a signal came, else OK. */
enum status signals_check(void);

/* Readable once a signal came; -1 before signals_init. */
int signals_fd(void);

/* While patient, a second SIGINT, SIGTERM or SIGHUP does not kill: what the
 * first one stopped can still be saved.  SIGQUIT does. */
void signals_be_patient(bool patient);

/* While hasty, the first of them kills: where nobody looks at the flag for
 * long, and there is nothing to be saved. */
void signals_be_hasty(bool hasty);

/* From now on SIGPIPE and SIGXFSZ do not kill: the write fails. */
void signals_fail_writes(void);

/* clean is called before a signal kills, in its handler. */
void signals_before_death(void (*clean)(void));

/* text is written to fd, where that need not wait, before a signal ends the
 * program or SIGTSTP stops it: it gives a terminal its own colour back.  text
 * must stay.  fd -1: nothing is written. */
void signals_set_farewell(int fd, const char *text);

/* How often the program was stopped since it set a farewell. */
unsigned signals_count_stops(void);

/* From now on a mapped file that shrinks (SIGBUS) ends the program with a
 * sentence that names path, and status 1. */
void signals_guard_mapping(const char *path);

/* Dies of the signal that came, with everything else left as it is; returns
 * when none did. */
void signals_exit(void);

#endif
