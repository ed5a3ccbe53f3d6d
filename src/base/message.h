/* message.h -- what we say on stderr: errors, notes, progress.
 *
 * Nothing else writes there, and all of it is escaped (escape.h): sentences
 * quote names and keys from outside.  The progress line is for people: it
 * appears when stderr is a terminal and reading takes longer than a second, and
 * disappears when the work is done.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MESSAGE_H
#define MAMBYTE_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

enum verbosity { SILENT, NORMAL, VERBOSE };

/* name: argv[0], whose last part starts each line. */
void message_init(const char *name);

/* SILENT: errors only.  VERBOSE: notes too.  wants_progress: show progress even
 * if stderr is not a terminal, as lines. */
void message_set(enum verbosity verbosity, bool wants_progress);

const char *message_program(void);

void message_error(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

/* About work that was done nevertheless.  Not when SILENT. */
void message_warning(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

/* Only when VERBOSE. */
void message_note(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

/* "Try 'mambyte --help' for more information." */
void message_try_help(void);

/* Shows how much of name has been read: done of size bytes; size is 0 when it
 * is not known.  Call it often: it prints when it is time. */
void message_progress(const char *name, uint64_t done, uint64_t size);

/* Shows how far any other work is, in place of the last line.  Call it often:
 * it prints when it is time. */
void message_status(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

/* Removes the line.  Call it before other output to the terminal, and
 * between one piece of work and the next. */
void message_progress_end(void);

/* For signal handlers: path and text in one line. */
void message_last_words(const char *path, const char *text);

/* "1.5 MB" into text, in powers of 1000; returns text. */
const char *message_size(char text[16], double n_bytes);

#endif
