/* batch_kernel.cuh -- the kernel of batch decode, in its variants.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_BATCH_KERNEL_CUH
#define MAMBYTE_BATCH_KERNEL_CUH

#include "cuda/batch/batch_job.cuh"

typedef void batch_kernel(const struct batch_model, const struct batch_job);

/* The kernel for tiles of few rows or of many; the fields of batch_shape that
 * the host needs. */
struct batch_variant {
    batch_kernel *kernel;
    int rows_max, uz_pitch;
    bool has_ring;
    int rows; /* of a tile, at most, on this device; 0: none fits          */
};

/* Those for blocks of so many channels; their rows are 0. */
void batch_choose_variants(struct batch_variant *few,
                           struct batch_variant *many, int channels);

#endif
