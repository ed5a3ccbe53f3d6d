/* vocabulary.h -- whether the tokens of a checkpoint are the bytes.
 *
 * They are the first 256 rows of the embedding.  Further rows are padding to a
 * round number, or special tokens; nothing tells them from each other, and
 * neither is of use.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_VOCABULARY_H
#define MAMBYTE_VOCABULARY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "import/foreign.h"

/* rows: of the embedding; said: by config.json, or 0.  E_MODEL when a tokenizer
 * beside the checkpoint says that its tokens are not bytes, or when there are
 * rows that nothing explains; neither if insists, as long as there are 256. */
enum status vocabulary_check(const struct foreign *foreign, uint64_t rows,
                             uint64_t said, bool insists);

#endif
