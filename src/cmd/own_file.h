/* own_file.h -- recognises our kinds of files by their content.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_OWN_FILE_H
#define MAMBYTE_OWN_FILE_H

#include "base/status.h"

enum own_file {
    OWN_NONE, /* none of these */
    OWN_MODEL,
    OWN_HEAD,
    OWN_CHECKPOINT,
    OWN_STATE,
    OWN_LOG, /* of mambyte-train */
    OWN_PLOT /* any picture of the kinds that --plot draws */
};

/* The failure where the file cannot be read: E_IO, or E_LIMIT where only
 * --memlimit forbids it. */
enum status own_file_find(enum own_file *kind, const char *path);

/* The same, but OWN_NONE where the file cannot be read. */
enum own_file own_file_of(const char *path);

/* Where a model is expected: E_MODEL if the file is a head, a checkpoint or a
 * saved state, with a sentence that says which program or option takes it. */
enum status own_file_check_model(const char *path);

/* "a model" */
const char *own_file_name(enum own_file kind);

#endif
