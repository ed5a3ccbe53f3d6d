/* carver.cuh -- deals out one allocation, part by part.
 *
 * Without a base it only counts: carve once to learn the size, allocate, and
 * carve again with the base.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_CARVER_CUH
#define MAMBYTE_CARVER_CUH

#include "cuda/common/device.cuh"

struct carver {
    char *base; /* NULL: count only */
    size_t n_bytes;
};

static inline size_t arena_align(size_t n)
{
    return (n + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
}

/* Room for n elements of size bytes, aligned to ARENA_ALIGN; NULL while
 * counting. */
static inline void *carve(struct carver *carver, size_t n, size_t size)
{
    void *room = carver->base ? carver->base + carver->n_bytes : NULL;
    carver->n_bytes += arena_align(n * size);
    return room;
}

static inline float *carve_floats(struct carver *carver, size_t rows,
                                  size_t cols)
{
    return (float *)carve(carver, rows * cols, sizeof(float));
}

#endif
