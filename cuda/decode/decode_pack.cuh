/* decode_pack.cuh -- copies a share of the weights to where a block reads it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_DECODE_PACK_CUH
#define MAMBYTE_DECODE_PACK_CUH

#include "cuda/decode/decode_plan.cuh"

enum { PACK_THREADS = 256 };

/* Rows [first, end) of a matrix, then zeros up to n_rows. */
static __device__ void pack_rows(uint8_t *to, const struct cuda_matrix *from,
                                 int first, int end, int n_rows, int stride)
{
    const int words = stride / COPY_ALIGN;
    for (int i = threadIdx.x; i < n_rows * words; i += blockDim.x) {
        const int row = first + i / words, word = i % words;
        uint4 x = {0, 0, 0, 0};
        if (row < end)
            x = ((const uint4 *)(from->q + (size_t)row * from->stride))[word];
        ((uint4 *)to)[i] = x;
    }
}

/* Elements [first, end), then zeros up to n; returns where the next go. */
static __device__ float *pack_floats(float *to, const float *from, int first,
                                     int end, int n)
{
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        to[i] = first + i < end ? from[first + i] : 0.0f;
    return to + n;
}

/* Packs what each block has of the layers of Mamba-2, and the norms before
 * out_proj. */
enum status pack_mamba2(const struct decode_plan *plan,
                        const struct cuda_model *model, cudaStream_t stream);

#endif
