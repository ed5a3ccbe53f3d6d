/* small_gpu.cu -- makes the GPU of a test program seem smaller than it is.
 *
 * Linked with --wrap, it stands between the library and CUDA's runtime, and
 * MAMBYTE_SMALL_GPU says what the GPU has, as in "shared=64,memory=8192":
 *
 *     shared=N      KB of shared memory for a block
 *     processors=N  multiprocessors
 *     memory=N      MB of memory
 *     fails=N       allocation N fails, from 1 on; counted since the variable
 *                   was changed
 *     from=N        so do all from N on
 *
 * What is not named stays as it is.  What asks for more fails as it would on
 * such a GPU: an allocation, a launch, the attribute of a kernel.  Where memory
 * or allocations were limited, a program that ends without freeing all exits
 * with 1.
 *
 * SPDX-License-Identifier: MIT
 */
#include <cuda_runtime.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ALLOCATIONS_MAX = 1 << 16, VARIABLE_CHARS = 128 };

/* ---- what the variable says ---------------------------------------------- */

/* The number after name, or 0. */
static size_t limit(const char *name)
{
    const char *at = getenv("MAMBYTE_SMALL_GPU");
    size_t n = strlen(name);
    while (at && *at) {
        if (strncmp(at, name, n) == 0 && at[n] == '=')
            return strtoul(at + n + 1, NULL, 10);
        at = strchr(at, ',');
        at = at ? at + 1 : NULL;
    }
    return 0;
}

static size_t limited(const char *name, size_t unit, size_t is)
{
    size_t most = limit(name) * unit;
    return most > 0 && most < is ? most : is;
}

static int limited_shared(int is)
{
    return (int)limited("shared", 1024, (size_t)is);
}

static int limited_processors(int is)
{
    return (int)limited("processors", 1, (size_t)is);
}

/* ---- memory -------------------------------------------------------------- */

static struct {
    void *p;
    size_t n; /* bytes; 0: the host's */
} live[ALLOCATIONS_MAX];
static size_t n_live, n_used; /* allocations; bytes of the device */
static bool was_limited;

/* Counts an allocation; whether it is one that fails. */
static bool is_to_fail(void)
{
    static char before[VARIABLE_CHARS];
    static size_t n;
    const char *now = getenv("MAMBYTE_SMALL_GPU");
    now = now ? now : "";
    if (strncmp(now, before, VARIABLE_CHARS - 1) != 0) {
        n = 0;
        strncpy(before, now, VARIABLE_CHARS - 1);
    }
    n++;
    was_limited =
        was_limited || limit("fails") || limit("from") || limit("memory");
    return n == limit("fails") || (limit("from") > 0 && n >= limit("from"));
}

static void note(void *p, size_t n)
{
    if (!p)
        return;
    if (n_live == ALLOCATIONS_MAX) {
        fprintf(stderr, "small_gpu: too many allocations\n");
        exit(1);
    }
    live[n_live].p = p;
    live[n_live++].n = n;
    n_used += n;
}

static void forget(void *p)
{
    for (size_t i = n_live; i-- > 0;) {
        if (live[i].p == p) {
            n_used -= live[i].n;
            live[i] = live[--n_live];
            return;
        }
    }
}

__attribute__((destructor)) static void check_all_is_free(void)
{
    if (!was_limited || n_live == 0)
        return;
    fprintf(stderr, "small_gpu: %zu allocations were not freed\n", n_live);
    _exit(1);
}

extern "C" {
cudaError_t __real_cudaMalloc(void **p, size_t n);
cudaError_t __real_cudaFree(void *p);
cudaError_t __real_cudaHostAlloc(void **p, size_t n, unsigned flags);
cudaError_t __real_cudaFreeHost(void *p);
cudaError_t __real_cudaMemGetInfo(size_t *is_free, size_t *total);

cudaError_t __wrap_cudaMalloc(void **p, size_t n)
{
    size_t most = limit("memory") << 20;
    *p = NULL;
    if (is_to_fail() || (most > 0 && n_used + n > most))
        return cudaErrorMemoryAllocation;
    cudaError_t error = __real_cudaMalloc(p, n);
    if (error == cudaSuccess)
        note(*p, n);
    return error;
}

cudaError_t __wrap_cudaFree(void *p)
{
    forget(p);
    return __real_cudaFree(p);
}

cudaError_t __wrap_cudaHostAlloc(void **p, size_t n, unsigned flags)
{
    *p = NULL;
    if (is_to_fail())
        return cudaErrorMemoryAllocation;
    cudaError_t error = __real_cudaHostAlloc(p, n, flags);
    if (error == cudaSuccess)
        note(*p, 0);
    return error;
}

cudaError_t __wrap_cudaMallocHost(void **p, size_t n)
{
    return __wrap_cudaHostAlloc(p, n, 0);
}

cudaError_t __wrap_cudaFreeHost(void *p)
{
    forget(p);
    return __real_cudaFreeHost(p);
}

cudaError_t __wrap_cudaMemGetInfo(size_t *is_free, size_t *total)
{
    cudaError_t error = __real_cudaMemGetInfo(is_free, total);
    size_t most = limit("memory") << 20;
    if (error != cudaSuccess || most == 0)
        return error;
    *total = most < *total ? most : *total;
    most = most > n_used ? most - n_used : 0;
    *is_free = most < *is_free ? most : *is_free;
    return error;
}

/* ---- what the device says of itself -------------------------------------- */

cudaError_t __real_cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr what,
                                          int device);
cudaError_t __real_cudaGetDeviceProperties(struct cudaDeviceProp *p,
                                           int device);
cudaError_t
__real_cudaOccupancyMaxActiveClusters(int *n, const void *kernel,
                                      const cudaLaunchConfig_t *config);

cudaError_t __wrap_cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr what,
                                          int device)
{
    cudaError_t error = __real_cudaDeviceGetAttribute(value, what, device);
    if (what == cudaDevAttrMaxSharedMemoryPerBlockOptin)
        *value = limited_shared(*value);
    if (what == cudaDevAttrMultiProcessorCount)
        *value = limited_processors(*value);
    return error;
}

cudaError_t __wrap_cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
    cudaError_t error = __real_cudaGetDeviceProperties(p, device);
    p->multiProcessorCount = limited_processors(p->multiProcessorCount);
    p->sharedMemPerBlockOptin =
        limited("shared", 1024, p->sharedMemPerBlockOptin);
    p->totalGlobalMem = limited("memory", 1 << 20, p->totalGlobalMem);
    return error;
}

/* ---- kernels ------------------------------------------------------------- */

cudaError_t __real_cudaFuncSetAttribute(const void *kernel,
                                        enum cudaFuncAttribute what, int n);
cudaError_t __real_cudaLaunchKernelExC(const cudaLaunchConfig_t *config,
                                       const void *kernel, void **args);

static __global__ void nothing()
{
}

/* Bytes of a kernel's arrays in shared memory.  The system may have some of a
 * block's, also of one that has no arrays. */
static size_t own_shared(const void *kernel)
{
    struct cudaFuncAttributes its, least;
    if (cudaFuncGetAttributes(&its, kernel) != cudaSuccess ||
        cudaFuncGetAttributes(&least, (const void *)nothing) != cudaSuccess)
        return 0;
    return its.sharedSizeBytes - least.sharedSizeBytes;
}

/* Whether a block of the kernel may have so much dynamic shared memory. */
static bool has_room(const void *kernel, size_t dynamic)
{
    size_t most = limit("shared") * 1024;
    return most == 0 || own_shared(kernel) + dynamic <= most;
}

cudaError_t __wrap_cudaFuncSetAttribute(const void *kernel,
                                        enum cudaFuncAttribute what, int n)
{
    if (what == cudaFuncAttributeMaxDynamicSharedMemorySize &&
        !has_room(kernel, (size_t)n))
        return cudaErrorInvalidValue;
    return __real_cudaFuncSetAttribute(kernel, what, n);
}

static unsigned cluster_of(const cudaLaunchConfig_t *config)
{
    for (unsigned i = 0; i < config->numAttrs; i++) {
        if (config->attrs[i].id == cudaLaunchAttributeClusterDimension)
            return config->attrs[i].val.clusterDim.x;
    }
    return 1;
}

cudaError_t
__wrap_cudaOccupancyMaxActiveClusters(int *n, const void *kernel,
                                      const cudaLaunchConfig_t *config)
{
    if (!has_room(kernel, config->dynamicSmemBytes))
        return cudaErrorInvalidValue;
    cudaError_t error =
        __real_cudaOccupancyMaxActiveClusters(n, kernel, config);
    size_t most = limit("processors");
    if (most > 0 && *n > (int)(most / cluster_of(config)))
        *n = (int)(most / cluster_of(config));
    return error;
}

/* Blocks that wait for each other are one on a multiprocessor here. */
static bool are_resident(const cudaLaunchConfig_t *config)
{
    size_t most = limit("processors");
    for (unsigned i = 0; i < config->numAttrs && most > 0; i++) {
        if (config->attrs[i].id == cudaLaunchAttributeCooperative &&
            config->gridDim.x > most)
            return false;
    }
    return true;
}

cudaError_t __wrap_cudaLaunchKernelExC(const cudaLaunchConfig_t *config,
                                       const void *kernel, void **args)
{
    if (!has_room(kernel, config->dynamicSmemBytes) || !are_resident(config))
        return cudaErrorInvalidValue;
    return __real_cudaLaunchKernelExC(config, kernel, args);
}
} // extern "C"
