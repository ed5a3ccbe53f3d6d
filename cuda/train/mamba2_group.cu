/* mamba2_group.cu -- whether products of a warpgroup can do for the chunks of
 * Mamba-2.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/mamba2_chunk.cuh"
#include "cuda/train/mamba2_group_tile.cuh"

/* Only the device's compiler knows. */
static __global__ void tell(int *has_products)
{
#if HAVE_WARPGROUP_PRODUCT
    *has_products = 1;
#else
    *has_products = 0;
#endif
}

static enum status has_products(bool *has)
{
    int *there, here = 0;
    CUDA_TRY(cudaMalloc(&there, sizeof *there), "a word");
    tell<<<1, 1>>>(there);
    cudaError_t error =
        cudaMemcpy(&here, there, sizeof here, cudaMemcpyDeviceToHost);
    cudaFree(there);
    *has = here == 1;
    return cuda_status(error, "asking for products of a warpgroup");
}

enum status group_prepare_device(const struct chunk_job *j, bool in_float,
                                 bool *suits)
{
    *suits = false;
    if (in_float || !j->imitates || j->headdim != SIDE || j->d_state != SIDE)
        return OK;
    TRY(has_products(suits));
    if (!*suits)
        return OK;
    TRY(group_output_prepare_device());
    return group_back_prepare_device();
}
