/* json_file.h -- reads the JSON files that lie beside a checkpoint.
 *
 * They are as Python writes them: a byte-order mark is skipped, and Infinity,
 * which JSON lacks, is read as 1e300.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_JSON_FILE_H
#define MAMBYTE_JSON_FILE_H

#include <jansson.h>
#include <stddef.h>

#include "base/status.h"

/* Bytes of the largest file that is read. */
enum {
    CONFIG_BYTES_MAX = 1 << 20,
    INDEX_BYTES_MAX = 1 << 24,
    TOKENIZER_BYTES_MAX = 1 << 24
};

/* The object in a file of at most so many bytes; the caller frees it with
 * json_decref.  On failure *json is NULL and the sentence names path. */
enum status json_file_read(json_t **json, const char *path, size_t most);

/* The same from text: [n], which is changed; path is used in messages. */
enum status json_file_parse(json_t **json, const char *path, char *text,
                            size_t n);

#endif
