/* safetensors_entry.h -- an entry of the header: one tensor, checked.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_SAFETENSORS_ENTRY_H
#define MAMBYTE_SAFETENSORS_ENTRY_H

#include <jansson.h>
#include <stdint.h>

#include "base/status.h"
#include "model/tensor.h"

/* Fills in tensor from "name": entry; data: [n_data], what the offsets count
 * in.  name has to stay.  E_MODEL with a sentence that starts with the name. */
enum status safetensors_read_entry(struct tensor *tensor, const char *name,
                                   const json_t *entry, const uint8_t *data,
                                   uint64_t n_data);

#endif
