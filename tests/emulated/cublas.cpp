/* cublas.cpp -- cuBLAS, emulated: a product is a kernel of one thread.  The
 * trainer asks dlopen and dlsym for it, as it does for the real one; nothing
 * else is found by them.
 *
 * SPDX-License-Identifier: MIT
 */
#include <dlfcn.h>
#include <string.h>
#include <vector>

#include "tests/emulated/cublas_v2.h"
#include "tests/emulated/cuda_bf16.h"

struct emulated_cublas {
    cudaStream_t stream;
};

/* A matrix in memory, by columns. */
struct matrix {
    void *x;
    cudaDataType type;
    int ld;
    bool is_transposed;
};

struct product {
    matrix a, b, c;
    int m, n, k;
    float alpha, beta;
};

/* ---- products ------------------------------------------------------------ */

static float get(const matrix &a, int row, int column)
{
    size_t i = a.is_transposed ? column + (size_t)row * a.ld
                               : row + (size_t)column * a.ld;
    return a.type == CUDA_R_32F ? ((float *)a.x)[i]
                                : __bfloat162float(((__nv_bfloat16 *)a.x)[i]);
}

static void put(const matrix &c, int row, int column, float value)
{
    size_t i = row + (size_t)column * c.ld;
    if (c.type == CUDA_R_32F)
        ((float *)c.x)[i] = value;
    else
        ((__nv_bfloat16 *)c.x)[i] = __float2bfloat16(value);
}

/* c = alpha a b + beta c, a column at a time. */
static void multiply(product p)
{
    std::vector<float> a((size_t)p.m * p.k), sums(p.m);
    for (int k = 0; k < p.k; k++) {
        for (int i = 0; i < p.m; i++)
            a[(size_t)k * p.m + i] = get(p.a, i, k);
    }
    for (int j = 0; j < p.n; j++) {
        for (int i = 0; i < p.m; i++)
            sums[i] = 0;
        for (int k = 0; k < p.k; k++) {
            float b = get(p.b, k, j);
            const float *column = &a[(size_t)k * p.m];
            for (int i = 0; i < p.m; i++)
                sums[i] += column[i] * b;
        }
        for (int i = 0; i < p.m; i++) {
            float old = p.beta == 0 ? 0 : p.beta * get(p.c, i, j);
            put(p.c, i, j, p.alpha * sums[i] + old);
        }
    }
}

static cublasStatus_t gemm(cublasHandle_t handle, cublasOperation_t a_as,
                           cublasOperation_t b_as, int m, int n, int k,
                           const void *alpha, const void *a,
                           cudaDataType a_type, int lda, const void *b,
                           cudaDataType b_type, int ldb, const void *beta,
                           void *c, cudaDataType c_type, int ldc,
                           cublasComputeType_t, cublasGemmAlgo_t)
{
    product p = {{(void *)a, a_type, lda, a_as == CUBLAS_OP_T},
                 {(void *)b, b_type, ldb, b_as == CUBLAS_OP_T},
                 {c, c_type, ldc, false},
                 m,
                 n,
                 k,
                 *(const float *)alpha,
                 *(const float *)beta};
    emulated::launch(multiply, 1, 1, 0, handle->stream, p);
    return CUBLAS_STATUS_SUCCESS;
}

static char *at(const void *x, cudaDataType type, long long i)
{
    return (char *)x + i * (type == CUDA_R_32F ? 4 : 2);
}

static cublasStatus_t
gemm_batch(cublasHandle_t handle, cublasOperation_t a_as,
           cublasOperation_t b_as, int m, int n, int k, const void *alpha,
           const void *a, cudaDataType a_type, int lda, long long a_stride,
           const void *b, cudaDataType b_type, int ldb, long long b_stride,
           const void *beta, void *c, cudaDataType c_type, int ldc,
           long long c_stride, int count, cublasComputeType_t compute,
           cublasGemmAlgo_t algorithm)
{
    for (int i = 0; i < count; i++)
        gemm(handle, a_as, b_as, m, n, k, alpha, at(a, a_type, i * a_stride),
             a_type, lda, at(b, b_type, i * b_stride), b_type, ldb, beta,
             at(c, c_type, i * c_stride), c_type, ldc, compute, algorithm);
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- the rest ------------------------------------------------------------ */

static cublasStatus_t create(cublasHandle_t *handle)
{
    *handle = new emulated_cublas();
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t destroy(cublasHandle_t handle)
{
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t set_stream(cublasHandle_t handle, cudaStream_t stream)
{
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t set_workspace(cublasHandle_t, void *, size_t)
{
    return CUBLAS_STATUS_SUCCESS;
}

static const char *describe(cublasStatus_t)
{
    return "emulated";
}

static const struct {
    const char *name;
    void *function;
} functions[] = {{"cublasCreate_v2", (void *)create},
                 {"cublasDestroy_v2", (void *)destroy},
                 {"cublasSetStream_v2", (void *)set_stream},
                 {"cublasSetWorkspace_v2", (void *)set_workspace},
                 {"cublasGetStatusString", (void *)describe},
                 {"cublasGemmEx", (void *)gemm},
                 {"cublasGemmStridedBatchedEx", (void *)gemm_batch}};

/* What emulated.mk has the trainer call in place of those of C. */
extern "C" void *emulated_dlopen(const char *name, int)
{
    static char library;
    return strncmp(name, "libcublas.so", 12) == 0 ? &library : nullptr;
}

extern "C" void *emulated_dlsym(void *, const char *name)
{
    for (const auto &f : functions) {
        if (strcmp(f.name, name) == 0)
            return f.function;
    }
    return nullptr;
}
