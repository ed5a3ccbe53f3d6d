/* device.cu -- errors of the GPU, and which GPUs there are.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/common/device.cuh"

enum status cuda_status(cudaError_t error, const char *what)
{
    if (error == cudaSuccess)
        return OK;
    cudaGetLastError(); /* clears what can be cleared */
    if (error == cudaErrorMemoryAllocation)
        return fail(E_MEMORY, "the GPU is out of memory: %s", what);
    return fail(E_DEVICE, "the GPU failed: %s: %s", what,
                cudaGetErrorString(error));
}

static enum status fail_driver(void)
{
    int driver = 0;
    cudaDriverGetVersion(&driver);
    if (driver == 0)
        return fail(E_DEVICE, "no NVIDIA driver is installed");
    return fail(E_DEVICE,
                "the NVIDIA driver is too old: it supports CUDA %d.%d, "
                "this build needs %d.%d",
                driver / 1000, driver % 100 / 10, CUDART_VERSION / 1000,
                CUDART_VERSION % 100 / 10);
}

enum status cuda_find_device(int index)
{
    int n = 0;
    cudaError_t error = cudaGetDeviceCount(&n);
    cudaGetLastError();
    if (error == cudaErrorInsufficientDriver)
        return fail_driver();
    if (error == cudaErrorNoDevice || (error == cudaSuccess && n == 0))
        return fail(E_DEVICE, "no NVIDIA GPU is visible");
    if (error != cudaSuccess)
        return cuda_status(error, "looking for devices");
    if (index < 0 || index >= n)
        return fail(E_DEVICE, "there is no GPU %d: the machine has %d", index,
                    n);
    return OK;
}

static __global__ void nothing(void)
{
}

enum status cuda_has_clusters(bool *has_clusters)
{
    const char *what = "asking for the device's capability";
    int device, major;
    struct cudaFuncAttributes code;
    CUDA_TRY(cudaGetDevice(&device), what);
    CUDA_TRY(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor,
                                    device),
             what);
    CUDA_TRY(cudaFuncGetAttributes(&code, (const void *)nothing), what);
    *has_clusters = major >= 9 && code.ptxVersion >= 90;
    return OK;
}
