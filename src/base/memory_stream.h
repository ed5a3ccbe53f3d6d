/* memory_stream.h -- a stream whose bytes end up in memory, all or none.
 *
 * open_memstream(3) may silently lose its bytes when memory runs out in
 * fclose(3).
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MEMORY_STREAM_H
#define MAMBYTE_MEMORY_STREAM_H

#include <stddef.h>
#include <stdio.h>

#include "base/status.h"

/* *bytes and *n are set by memory_stream_close().  NULL: no memory. */
FILE *memory_stream_open(char **bytes, size_t *n);

/* *bytes is the caller's to free.  E_MEMORY, and *bytes NULL, when not all was
 * kept: there was no memory for what. */
enum status memory_stream_close(FILE *stream, char **bytes, const char *what);

#endif
