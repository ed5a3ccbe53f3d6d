/* file_claim.h -- names of files that one process at a time writes.
 *
 * A file that is replaced is a new one each time, so a claim is on its name: a
 * lock of one byte of its folder, at a hash of the name.  It leaves nothing
 * behind, ends with the process however that ends, and needs no right to write.
 * Other machines that share the folder need not see it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_FILE_CLAIM_H
#define MAMBYTE_FILE_CLAIM_H

#include <stdbool.h>

/* Claims the file that path leads to, there or not, until the process ends.
 * False when another process has it; two that ask in the same moment may both
 * be refused.  A folder that cannot be opened or locked refuses nobody. */
bool file_claim(const char *path);

#endif
