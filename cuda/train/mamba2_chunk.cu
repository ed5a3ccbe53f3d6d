/* mamba2_chunk.cu -- which kernels compute the chunks of Mamba-2, and the
 * shared memory that they take.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/mamba2_chunk.cuh"
#include "cuda/train/mamba2_group_tile.cuh"

/* ---- heads in turn ------------------------------------------------------- */

enum status chunk_turns(struct turns *turns, const struct chunk_job *j,
                        turns_bytes *bytes)
{
    int device, most;
    CUDA_TRY(cudaGetDevice(&device), "asking for shared memory");
    CUDA_TRY(cudaDeviceGetAttribute(
                 &most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
             "asking for shared memory");
    turns->n = bytes(j, 2) <= (size_t)most ? 2 : 1;
    turns->n_bytes = bytes(j, turns->n);
    if (turns->n_bytes > (size_t)most)
        return fail(E_DEVICE,
                    "training %d states in heads of %d takes %zu KB of shared "
                    "memory; this GPU has %d KB",
                    j->d_state, j->headdim, turns->n_bytes >> 10, most >> 10);
    return OK;
}

enum status allow_turns(const void *kernel, const struct chunk_job *j,
                        turns_bytes *bytes)
{
    struct turns turns;
    TRY(chunk_turns(&turns, j, bytes));
    return allow_shared(kernel, turns.n_bytes);
}

enum status allow_shared(const void *kernel, size_t n_bytes)
{
    CUDA_TRY(cudaFuncSetAttribute(kernel,
                                  cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  (int)n_bytes),
             "shared memory for heads and states of this size");
    return OK;
}

/* ---- products of a warpgroup --------------------------------------------- */

/* Only the device's compiler knows. */
static __global__ void tell(int *has_products)
{
#if HAVE_WARPGROUP_PRODUCT
    *has_products = 1;
#else
    *has_products = 0;
#endif
}

static enum status ask(bool *has_products)
{
    int *there, here = 0;
    CUDA_TRY(cudaMalloc(&there, sizeof *there), "a word");
    tell<<<1, 1>>>(there);
    cudaError_t error =
        cudaMemcpy(&here, there, sizeof here, cudaMemcpyDeviceToHost);
    cudaFree(there);
    *has_products = here == 1;
    return cuda_status(error, "asking for products of a warpgroup");
}

enum status chunk_choose(struct chunk_job *j, bool in_float)
{
    int device, most;
    j->by_warpgroups = j->in_one_pass = false;
    if (in_float || j->headdim != SIDE || j->d_state != SIDE)
        return OK;
    CUDA_TRY(cudaGetDevice(&device), "asking for multiprocessors");
    CUDA_TRY(
        cudaDeviceGetAttribute(&most, cudaDevAttrMultiProcessorCount, device),
        "asking for multiprocessors");
    TRY(ask(&j->by_warpgroups));
    j->in_one_pass = j->by_warpgroups && j->n_windows * j->n_heads >= most;
    return OK;
}

enum status chunk_prepare_device(const struct chunk_job *j, bool in_float)
{
    if (j->by_warpgroups) {
        TRY(group_states_prepare_device());
        TRY(group_output_prepare_device());
        TRY(group_back_prepare_device());
    }
    TRY(parts_prepare_device(in_float));
    TRY(output_back_prepare_device(j, in_float));
    return output_prepare_device(j, in_float);
}
