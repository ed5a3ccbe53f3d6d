/* upload.cu -- sends a model's arrays to one allocation on the device.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/common/upload.cuh"

const void *upload_rows(struct upload *up, const void *from, size_t rows,
                        size_t size, size_t stride)
{
    if (!from)
        return NULL;
    void *to = carve(&up->carver, rows, stride);
    if (to && up->status == OK)
        up->status = cuda_status(cudaMemcpy2D(to, stride, from, size, size,
                                              rows, cudaMemcpyHostToDevice),
                                 "sending the weights");
    return to;
}

const void *upload_bytes(struct upload *up, const void *from, size_t n)
{
    if (!from)
        return NULL;
    void *to = carve(&up->carver, n, 1);
    if (to && up->status == OK)
        up->status =
            cuda_status(cudaMemcpy(to, from, n, cudaMemcpyHostToDevice),
                        "sending the weights");
    return to;
}

const float *upload_floats(struct upload *up, const float *from, size_t n)
{
    return (const float *)upload_bytes(up, from, n * sizeof *from);
}

enum status upload_allocate(struct upload *up, void **arena)
{
    size_t n = up->carver.n_bytes;
    CUDA_TRY(cudaMalloc(arena, n), "memory for the weights");
    CUDA_TRY(cudaMemset(*arena, 0, n), "clearing the weights");
    up->carver.base = (char *)*arena;
    up->carver.n_bytes = 0;
    return OK;
}

enum status upload_finish(const struct upload *up)
{
    TRY(up->status);
    return cuda_status(cudaDeviceSynchronize(), "sending the weights");
}
