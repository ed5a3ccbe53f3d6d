/* train_memory.cuh -- what a GPU keeps of a step, and where.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TRAIN_MEMORY_CUH
#define MAMBYTE_TRAIN_MEMORY_CUH

#include "base/carver.h"
#include "cuda/train/replica.cuh"

/* Takes the arena.  Where the activations of all layers do not fit, layers
 * are computed twice; E_MEMORY says how many windows would fit.  Some memory
 * is left for the engine, which validates. */
enum status replica_allocate(struct replica *r);

/* Lays out the arena, zero but for what is constant. */
enum status replica_fill(struct replica *r);

/* ---- for mixers ---------------------------------------------------------- */

/* [t][cols] numbers. */
void *carve_numbers(const struct replica *r, struct carver *carver,
                    size_t cols);

/* Scales of rows; r->ones without imitation. */
struct row_scale carve_scale(const struct replica *r, struct carver *carver);

#endif
