/* carver.h -- one allocation, cut into arrays.
 *
 * The code that lays the arrays out runs twice: without memory, to count the
 * bytes that all of them take, and with it, to learn where each one is.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_CARVER_H
#define MAMBYTE_CARVER_H

#include <stddef.h>

enum { CARVER_ALIGNMENT = 256 }; /* bytes: what a GPU wants */

struct carver {
    char *base;     /* aligned to CARVER_ALIGNMENT; NULL: only count */
    size_t n_bytes; /* given out so far */
};

/* Room for n elements of size bytes; NULL while counting. */
static inline void *carve(struct carver *carver, size_t n, size_t size)
{
    void *room = carver->base ? carver->base + carver->n_bytes : NULL;
    carver->n_bytes +=
        (n * size + CARVER_ALIGNMENT - 1) / CARVER_ALIGNMENT * CARVER_ALIGNMENT;
    return room;
}

static inline float *carve_floats(struct carver *carver, size_t rows,
                                  size_t cols)
{
    return (float *)carve(carver, rows * cols, sizeof(float));
}

#endif
