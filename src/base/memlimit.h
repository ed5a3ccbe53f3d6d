/* memlimit.h -- how much memory a file may make us take (--memlimit).
 *
 * A file of a few bytes can ask for a great deal: by the size of a block that
 * it claims, by JSON of many small parts.  Code that allocates as much as a
 * file claims asks here first.
 *
 * The limit is 1 GiB, enough for every file that mambyte writes, or half of the
 * memory of the machine where that is less; or what the user asks for.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MEMLIMIT_H
#define MAMBYTE_MEMLIMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* n_bytes 0: the default. */
void memlimit_set(uint64_t n_bytes);

/* "16M", "1GiB", or "25%" of the memory of the machine, in bytes; "0" is the
 * default. */
bool memlimit_parse(const char *text, uint64_t *n_bytes);

/* E_LIMIT, with a sentence that says how much is needed and how to allow it,
 * when n_bytes are too much for what: "a block". */
enum status memlimit_check(uint64_t n_bytes, const char *what);

/* The same for what a file really holds, byte for byte: only a limit that the
 * user gave counts. */
enum status memlimit_check_content(uint64_t n_bytes, const char *what);

/* The same as memlimit_check for the tree that a JSON text becomes. */
enum status memlimit_check_json(const void *text, size_t n, const char *what);

#endif
