/* status.h -- what can go wrong, and the sentence that says so.
 *
 * What can fail returns enum status.  The place that notices a failure calls
 * fail() with one sentence for the user, naming the file and what was
 * expected; everyone above hands the status up with TRY; main prints it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_STATUS_H
#define MAMBYTE_STATUS_H

enum status {
    OK = 0,
    E_USAGE,       /* the command line is wrong: exit 2 */
    E_IO,          /* a file could not be read or written */
    E_MODEL,       /* a weight file is not what it has to be */
    E_FORMAT,      /* a snapshot or another file of ours is damaged */
    E_MEMORY,      /* out of memory, host or device */
    E_LIMIT,       /* a file needs more memory than it may take */
    E_DEVICE,      /* no such device, or it failed */
    E_INTERRUPTED, /* a signal asked us to stop */
    E_REPORTED,    /* files failed, each with its message on stderr */
    E_SKIPPED,     /* a file was left out, with a warning: exit 2 */
    E_CLOSED       /* nobody reads our output any more: not an error */
};

enum { STATUS_CHARS = 1024 }; /* of a sentence, its NUL included */

/* Records the sentence (no newline, no program name) for this thread and
 * returns its first argument. */
enum status fail(enum status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* fail() when memory cannot be had for what: "the weights". */
enum status fail_memory(const char *what);

/* The sentence of the last failure on this thread; "" when there is none.
 * Valid until the next fail(). */
const char *status_message(void);

/* Puts "prefix: " before the recorded sentence, and returns status. */
enum status status_prefix(enum status status, const char *prefix);

#define TRY(expression)                                                        \
    do {                                                                       \
        enum status try_status_ = (expression);                                \
        if (try_status_ != OK)                                                 \
            return try_status_;                                                \
    } while (0)

#endif
