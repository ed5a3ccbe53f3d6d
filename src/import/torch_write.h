/* torch_write.h -- writes a state dict as torch.save does.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TORCH_WRITE_H
#define MAMBYTE_TORCH_WRITE_H

#include <stddef.h>
#include <stdio.h>

#include "base/status.h"
#include "model/safetensors.h"

/* tensors: [n], F32, in the byte order of this machine.  Data that several
 * share, as tied weights do, are stored once.  out can be sought in; sentences
 * name no file. */
enum status torch_write(FILE *out, const struct tensor *tensors, size_t n);

#endif
