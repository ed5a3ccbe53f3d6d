/* cuda_runtime.h -- stands in for CUDA's header of that name: the words of
 * CUDA C, vectors of numbers, and the functions of the runtime that cuda/ calls
 * (runtime.cpp).  No part of CUDA is needed.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef EMULATED_CUDA_RUNTIME_H
#define EMULATED_CUDA_RUNTIME_H

#include <functional>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <tuple>

#define CUDART_VERSION 13000
#ifndef __CUDA_ARCH__
#define __CUDA_ARCH__ 900
#endif
#if __CUDA_ARCH__ == 900
#define __CUDA_ARCH_FEAT_SM90_ALL 1
#endif
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__    __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))

/* ---- vectors ------------------------------------------------------------- */

#define VECTOR_2(type, name)                                                   \
    struct alignas(2 * sizeof(type)) name {                                    \
        type x, y;                                                             \
    };                                                                         \
    static inline name make_##name(type x, type y)                             \
    {                                                                          \
        return {x, y};                                                         \
    }
#define VECTOR_4(type, name)                                                   \
    struct alignas(4 * sizeof(type)) name {                                    \
        type x, y, z, w;                                                       \
    };                                                                         \
    static inline name make_##name(type x, type y, type z, type w)             \
    {                                                                          \
        return {x, y, z, w};                                                   \
    }
VECTOR_2(signed char, char2)
VECTOR_2(int, int2)
VECTOR_2(unsigned, uint2)
VECTOR_2(float, float2)
VECTOR_2(unsigned long long, ulonglong2)
VECTOR_4(int, int4)
VECTOR_4(unsigned, uint4)
VECTOR_4(float, float4)

static inline float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1)
        : x(x_), y(y_), z(z_)
    {
    }
};

/* Of the thread that runs. */
extern dim3 threadIdx, blockIdx, blockDim, gridDim;

/* ---- the runtime --------------------------------------------------------- */

enum cudaError_t {
    cudaSuccess,
    cudaErrorInvalidValue,
    cudaErrorMemoryAllocation,
    cudaErrorInsufficientDriver,
    cudaErrorNoDevice,
    cudaErrorNotReady
};
enum cudaMemcpyKind {
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice
};
enum cudaDeviceAttr {
    cudaDevAttrComputeCapabilityMajor,
    cudaDevAttrCooperativeLaunch,
    cudaDevAttrMaxSharedMemoryPerBlockOptin,
    cudaDevAttrMultiProcessorCount
};
enum cudaFuncAttribute {
    cudaFuncAttributeMaxDynamicSharedMemorySize,
    cudaFuncAttributeNonPortableClusterSizeAllowed
};
enum cudaLaunchAttributeID {
    cudaLaunchAttributeClusterDimension = 1,
    cudaLaunchAttributeCooperative,
    cudaLaunchAttributePriority,
    cudaLaunchAttributeProgrammaticStreamSerialization
};
enum cudaStreamCaptureMode { cudaStreamCaptureModeRelaxed };
enum {
    cudaDeviceScheduleBlockingSync = 4,
    cudaEventBlockingSync = 1,
    cudaEventDisableTiming = 2,
    cudaHostAllocMapped = 2,
    cudaHostRegisterDefault = 0,
    cudaInitDeviceFlagsAreValid = 1,
    cudaStreamNonBlocking = 1
};

typedef struct emulated_stream *cudaStream_t;
typedef struct emulated_event *cudaEvent_t;
typedef struct emulated_graph *cudaGraph_t;
typedef struct emulated_graph *cudaGraphExec_t;

struct cudaDeviceProp {
    char name[256];
    int major, minor, multiProcessorCount, warpSize, l2CacheSize;
    size_t sharedMemPerBlockOptin, totalGlobalMem;
};
struct cudaFuncAttributes {
    size_t sharedSizeBytes;
    int numRegs, maxThreadsPerBlock, ptxVersion;
};
struct cudaLaunchAttribute {
    cudaLaunchAttributeID id;
    struct {
        struct {
            unsigned x, y, z;
        } clusterDim;
        int cooperative, priority, programmaticStreamSerializationAllowed;
    } val;
};
struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes;
    cudaStream_t stream;
    cudaLaunchAttribute *attrs;
    unsigned numAttrs;
};

/* Names of C, for tests/small_gpu.cu. */
extern "C" {
cudaError_t cudaGetLastError();
const char *cudaGetErrorString(cudaError_t);
cudaError_t cudaDriverGetVersion(int *);
cudaError_t cudaGetDeviceCount(int *);
cudaError_t cudaGetDevice(int *);
cudaError_t cudaSetDevice(int);
cudaError_t cudaInitDevice(int, unsigned, unsigned);
cudaError_t cudaDeviceGetAttribute(int *, cudaDeviceAttr, int);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *, int);
cudaError_t cudaDeviceGetStreamPriorityRange(int *, int *);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaMemGetInfo(size_t *, size_t *);

cudaError_t cudaFuncSetAttribute(const void *, cudaFuncAttribute, int);
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *, const void *);
cudaError_t cudaOccupancyMaxActiveClusters(int *, const void *,
                                           const cudaLaunchConfig_t *);

cudaError_t cudaMalloc(void **, size_t);
cudaError_t cudaFree(void *);
cudaError_t cudaHostAlloc(void **, size_t, unsigned);
cudaError_t cudaFreeHost(void *);
cudaError_t cudaHostRegister(void *, size_t, unsigned);
cudaError_t cudaHostUnregister(void *);
cudaError_t cudaHostGetDevicePointer(void **, void *, unsigned);
cudaError_t cudaMemcpy(void *, const void *, size_t, cudaMemcpyKind);
cudaError_t cudaMemcpyAsync(void *, const void *, size_t, cudaMemcpyKind,
                            cudaStream_t);
cudaError_t cudaMemcpy2D(void *, size_t, const void *, size_t, size_t, size_t,
                         cudaMemcpyKind);
cudaError_t cudaMemcpy2DAsync(void *, size_t, const void *, size_t, size_t,
                              size_t, cudaMemcpyKind, cudaStream_t);
cudaError_t cudaMemset(void *, int, size_t);
cudaError_t cudaMemsetAsync(void *, int, size_t, cudaStream_t);

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *, unsigned);
cudaError_t cudaStreamDestroy(cudaStream_t);
cudaError_t cudaStreamSynchronize(cudaStream_t);
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned = 0);
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode);
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t *);
cudaError_t cudaEventCreate(cudaEvent_t *);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *, unsigned);
cudaError_t cudaEventElapsedTime(float *, cudaEvent_t, cudaEvent_t);
cudaError_t cudaEventDestroy(cudaEvent_t);
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t);
cudaError_t cudaEventQuery(cudaEvent_t);
cudaError_t cudaEventSynchronize(cudaEvent_t);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *, cudaGraph_t,
                                 unsigned long long = 0);
cudaError_t cudaGraphDestroy(cudaGraph_t);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t);
cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t);

/* In place of arguments, args has a std::function<void()> that runs a thread
 * of the kernel. */
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config,
                                const void *kernel, void **args);
} // extern "C"

template <class T> cudaError_t cudaMalloc(T **p, size_t n)
{
    return cudaMalloc((void **)p, n);
}

template <class T> cudaError_t cudaMallocHost(T **p, size_t n)
{
    return cudaHostAlloc((void **)p, n, 0);
}

template <class T>
cudaError_t cudaFuncSetAttribute(T *kernel, cudaFuncAttribute what, int value)
{
    return cudaFuncSetAttribute((const void *)kernel, what, value);
}

template <class T>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, T *kernel)
{
    return cudaFuncGetAttributes(attributes, (const void *)kernel);
}

template <class T>
cudaError_t cudaOccupancyMaxActiveClusters(int *n, T *kernel,
                                           const cudaLaunchConfig_t *config)
{
    return cudaOccupancyMaxActiveClusters(n, (const void *)kernel, config);
}

template <class... Args, class... Given>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config,
                               void (*kernel)(Args...), Given &&...given)
{
    std::tuple<Args...> args(given...);
    std::function<void()> run = [=] { std::apply(kernel, args); };
    void *list[] = {&run};
    return cudaLaunchKernelExC(config, (const void *)kernel, list);
}

namespace emulated
{
/* What the transforming script makes of k<<<grid, block, shared, stream>>>().
 */
template <class... Args, class... Given>
void launch(void (*kernel)(Args...), dim3 grid, dim3 block, size_t shared,
            cudaStream_t stream, Given &&...given)
{
    cudaLaunchConfig_t config = {grid, block, shared, stream, nullptr, 0};
    cudaLaunchKernelEx(&config, kernel, given...);
}
} // namespace emulated

#include "tests/emulated/intrinsics.h"
#include "tests/emulated/warp.h"

#endif
