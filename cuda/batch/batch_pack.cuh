/* batch_pack.cuh -- the weights of a model as the blocks of a team use them.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_BATCH_PACK_CUH
#define MAMBYTE_BATCH_PACK_CUH

#include "cuda/batch/batch_job.cuh"

/* Allocates *weights, which the caller frees, even after a failure; fills them,
 * and sets m->shares and m->heads. */
enum status batch_pack(void **weights, struct batch_model *m,
                       const struct cuda_model *from, int channels,
                       cudaStream_t stream);

#endif
