/* memory_stream.c -- a stream whose bytes end up in memory, all or none.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/memory_stream.h"

#include <stdbool.h>
#include <stdlib.h>

FILE *memory_stream_open(char **bytes, size_t *n)
{
    *bytes = NULL;
    *n = 0;
    return open_memstream(bytes, n);
}

enum status memory_stream_close(FILE *stream, char **bytes, const char *what)
{
    bool is_whole = fflush(stream) == 0 && !ferror(stream);
    if (fclose(stream) == 0 && is_whole && *bytes)
        return OK;
    free(*bytes);
    *bytes = NULL;
    return fail_memory(what);
}
