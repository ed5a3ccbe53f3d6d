/* file_kind.h -- files that are no checkpoint, known by their first bytes.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_FILE_KIND_H
#define MAMBYTE_FILE_KIND_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* So many first bytes are enough to know one. */
enum { FILE_KIND_BYTES = 512 };

/* E_MODEL, naming what path is, when its first bytes are those of a file that
 * people often have in place of a checkpoint: a pointer of git-lfs, a page of
 * HTML, GGUF, an archive. */
enum status file_kind_check(const char *path, const uint8_t *bytes, size_t n);

/* E_IO when path is not there, or is no regular file. */
enum status file_kind_check_regular(const char *path);

#endif
