/* tensor_names.h -- the tensors of others, under our names.
 *
 * mamba-ssm, transformers and the MambaByte authors name the parts of a model
 * in ways of their own.  Whatever stands before all of them ("model.", nothing
 * in place of "backbone.") is replaced; what PyTorch puts around modules
 * ("module.", "_orig_mod.") is left out wherever it is.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TENSOR_NAMES_H
#define MAMBYTE_TENSOR_NAMES_H

#include <stddef.h>

#include "base/status.h"

enum { TENSOR_NAME_CHARS = 256 };

/* names: [n], theirs on entry, ours on return.  *project is who named them, or
 * NULL when there is no embedding.  E_MODEL when there are two embeddings, or
 * two tensors of a name. */
enum status tensor_names_adopt(char (*names)[TENSOR_NAME_CHARS], size_t n,
                               const char **project);

#endif
