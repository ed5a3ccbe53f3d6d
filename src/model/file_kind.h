/* file_kind.h -- files that are not models, recognised by their first bytes.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_FILE_KIND_H
#define MAMBYTE_FILE_KIND_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* E_MODEL, with what a file is (the sentence does not name it), when its first
 * bytes are those of one that people often have in place of safetensors: a
 * pointer of git-lfs, a page of HTML, GGUF, an archive. */
enum status file_kind_check(const uint8_t *bytes, size_t n);

/* E_IO when path does not exist, or is not a regular file. */
enum status file_kind_check_regular(const char *path);

#endif
