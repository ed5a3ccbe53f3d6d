/* vocabulary.h -- whether the tokens of a checkpoint are the bytes.
 *
 * They are the first 256 rows of the embedding.  Further rows are padding to a
 * round number, or special tokens; the two look alike, and neither is of use.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_VOCABULARY_H
#define MAMBYTE_VOCABULARY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "import/foreign.h"

/* rows: of the embedding; said: by config.json, or 0.  E_MODEL when there are
 * fewer than 256 tokens; and, unless insists, when a tokenizer beside the
 * checkpoint says that its tokens are not bytes, or nothing explains the
 * further rows. */
enum status vocabulary_check(const struct foreign *foreign, uint64_t rows,
                             uint64_t said, bool insists);

#endif
