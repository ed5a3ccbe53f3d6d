/* pickle.h -- reads the pickle of a state dict, and executes nothing.
 *
 * A pickle is a program for a stack machine that may name any function of
 * Python and call it.  This reader follows only the functions that describe a
 * tensor: a name with the storage, the offset, the shape and the strides of its
 * elements.  What other functions make is left out, and functions of use only
 * to an attacker are refused: both are known by name.  Memory is proportional
 * to the opcodes, whose number is bounded.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_PICKLE_H
#define MAMBYTE_PICKLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "model/safetensors.h"

enum {
    PICKLE_BYTES_MAX = 1 << 24,
    STORAGE_KEY_CHARS = 24,
    PICKLED_NAME_MAX = 255
};

/* A tensor as the pickle describes it, not yet checked against its storage. */
struct pickled_tensor {
    char *name;
    enum dtype dtype;            /* F32, BF16 or F16 */
    char key[STORAGE_KEY_CHARS]; /* of the storage: decimal digits */
    uint64_t n_storage;          /* its elements */
    uint64_t offset;             /* of the first element */
    int n_dims;
    uint64_t shape[TENSOR_MAX_DIMS];
    uint64_t stride[TENSOR_MAX_DIMS]; /* in elements */
};

struct pickled {
    struct pickled_tensor *tensors; /* [n], in the order of the dict */
    size_t n;
};

struct pickle_machine;

/* On success *pickled is the caller's to free; on failure it is empty. */
enum status pickle_read(struct pickled *pickled, const uint8_t *bytes,
                        size_t n);

/* The same from a dict of a pickle that a machine has run. */
enum status pickle_read_dict(struct pickled *pickled,
                             const struct pickle_machine *machine, int root);
void pickle_free(struct pickled *pickled);

#endif
