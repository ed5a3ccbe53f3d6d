/* torch_write.h -- writes a state dict as torch.save does.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TORCH_WRITE_H
#define MAMBYTE_TORCH_WRITE_H

#include <stddef.h>

#include "base/status.h"
#include "model/safetensors.h"

/* tensors: [n], F32, in the order of this machine; equal data are stored
 * once, as of tied weights.  Replaces path at once, or leaves what is there
 * as it was. */
enum status torch_write(const char *path, const struct tensor *tensors,
                        size_t n);

#endif
