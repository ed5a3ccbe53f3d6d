/* status.c -- the sentence that goes with a failure.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char message[STATUS_CHARS];

enum status fail(enum status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return status;
}

enum status fail_memory(const char *what)
{
    return fail(E_MEMORY, "out of memory for %s", what);
}

const char *status_message(void)
{
    return message;
}

enum status status_prefix(enum status status, const char *prefix)
{
    char rest[STATUS_CHARS];
    strcpy(rest, message);
    if (snprintf(message, sizeof message, "%s: %s", prefix, rest) < 0)
        strcpy(message, rest);
    return status;
}
