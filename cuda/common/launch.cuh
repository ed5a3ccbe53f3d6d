/* launch.cuh -- how the kernels of a CUDA stream follow each other.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_LAUNCH_CUH
#define MAMBYTE_LAUNCH_CUH

#include "cuda/common/device.cuh"

struct queue {
    cudaStream_t stream;
    bool overlaps; /* the device can start a kernel while the last one ends */
    int priority = 0; /* of blocks over those of other kernels: 0, or below for
                       * more, as CUDA has it */
};

/* Where kernels overlap, a kernel waits here for the one before it.  Before
 * this call it may read the model and the microbatch, but nothing that a kernel
 * wrote.  Every block that has work calls this, so when a kernel is done, all
 * kernels before it are done too. */
static __device__ __forceinline__ void await_previous(void)
{
#if __CUDA_ARCH__ >= 900
    cudaTriggerProgrammaticLaunchCompletion();
    cudaGridDependencySynchronize();
#endif
}

template <typename... Args>
static enum status launch(const char *what, struct queue q, dim3 grid,
                          int threads, size_t shared, void (*kernel)(Args...),
                          Args... args)
{
    cudaLaunchConfig_t config = {};
    cudaLaunchAttribute attributes[2] = {}, *next = attributes;
    if (q.overlaps) {
        next->id = cudaLaunchAttributeProgrammaticStreamSerialization;
        next++->val.programmaticStreamSerializationAllowed = 1;
    }
    if (q.priority != 0) {
        next->id = cudaLaunchAttributePriority;
        next++->val.priority = q.priority;
    }
    config.gridDim = grid;
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared;
    config.stream = q.stream;
    config.attrs = attributes;
    config.numAttrs = (unsigned)(next - attributes);
    return cuda_status(cudaLaunchKernelEx(&config, kernel, args...), what);
}

#endif
