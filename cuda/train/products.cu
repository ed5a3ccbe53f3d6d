/* products.cu -- the products of training, by cuBLAS.
 *
 * cuBLAS is loaded when a trainer is opened on a GPU: no program needs it to
 * start.  It stores matrices by columns and we by rows, so that it is told the
 * transposes: y^T = W x^T.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/products.cuh"

#include <cublas_v2.h>
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>

#include "cuda/train/number.cuh"
extern "C" {
#include "train/muon.h"
}

enum { WORKSPACE = 64 << 20 };

/* cublasGemmEx and cublasGemmStridedBatchedEx, which C++ overloads. */
typedef cublasStatus_t gemm_ex(cublasHandle_t, cublasOperation_t,
                               cublasOperation_t, int m, int n, int k,
                               const void *alpha, const void *a, cudaDataType,
                               int lda, const void *b, cudaDataType, int ldb,
                               const void *beta, void *c, cudaDataType, int ldc,
                               cublasComputeType_t, cublasGemmAlgo_t);
typedef cublasStatus_t
gemm_batch_ex(cublasHandle_t, cublasOperation_t, cublasOperation_t, int m,
              int n, int k, const void *alpha, const void *a, cudaDataType,
              int lda, long long, const void *b, cudaDataType, int ldb,
              long long, const void *beta, void *c, cudaDataType, int ldc,
              long long, int count, cublasComputeType_t, cublasGemmAlgo_t);

struct products {
    void *library;
    cublasHandle_t handle;
    void *workspace;
    cudaStream_t stream;
    cudaDataType number;
    cublasStatus_t status; /* the first failure */
    __typeof__(&cublasCreate) create;
    __typeof__(&cublasDestroy) destroy;
    __typeof__(&cublasSetStream) set_stream;
    __typeof__(&cublasSetWorkspace) set_workspace;
    gemm_ex *gemm;
    gemm_batch_ex *gemm_batch;
    __typeof__(&cublasGetStatusString) describe;
};

/* ---- loading ------------------------------------------------------------ */

static void *load_library(void)
{
    char name[32];
    snprintf(name, sizeof name, "libcublas.so.%d", CUDART_VERSION / 1000);
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    return library ? library : dlopen("libcublas.so", RTLD_NOW | RTLD_LOCAL);
}

static bool load(void **function, void *library, const char *name)
{
    *function = dlsym(library, name);
    return *function != NULL;
}

static bool load_functions(struct products *p)
{
    void *l = p->library;
    return load((void **)&p->create, l, "cublasCreate_v2") &&
           load((void **)&p->destroy, l, "cublasDestroy_v2") &&
           load((void **)&p->set_stream, l, "cublasSetStream_v2") &&
           load((void **)&p->set_workspace, l, "cublasSetWorkspace_v2") &&
           load((void **)&p->gemm, l, "cublasGemmEx") &&
           load((void **)&p->gemm_batch, l, "cublasGemmStridedBatchedEx") &&
           load((void **)&p->describe, l, "cublasGetStatusString");
}

static enum status set_up(struct products *p)
{
    p->library = load_library();
    if (!p->library)
        return fail(E_DEVICE,
                    "training on a GPU needs cuBLAS, which cannot be loaded: "
                    "%s (LD_LIBRARY_PATH may name its folder)",
                    dlerror());
    if (!load_functions(p))
        return fail(E_DEVICE, "this cuBLAS is too old: %s", dlerror());
    CUDA_TRY(cudaMalloc(&p->workspace, WORKSPACE), "room for cuBLAS");
    if (p->create(&p->handle) != CUBLAS_STATUS_SUCCESS)
        return fail(E_DEVICE, "cuBLAS does not start");
    p->set_stream(p->handle, p->stream);
    p->set_workspace(p->handle, p->workspace, WORKSPACE);
    return OK;
}

enum status products_open(struct products **products, bool in_float,
                          cudaStream_t stream)
{
    *products = NULL;
    struct products *p = (struct products *)calloc(1, sizeof *p);
    if (!p)
        return fail_memory("cuBLAS");
    p->stream = stream;
    p->number = in_float ? CUDA_R_32F : CUDA_R_16BF;
    enum status status = set_up(p);
    if (status != OK) {
        products_close(p);
        return status;
    }
    *products = p;
    return OK;
}

void products_close(struct products *products)
{
    if (!products)
        return;
    if (products->handle)
        products->destroy(products->handle);
    cudaFree(products->workspace);
    free(products);
}

enum status products_status(const struct products *products)
{
    if (products->status == CUBLAS_STATUS_SUCCESS)
        return OK;
    return fail(E_DEVICE, "cuBLAS failed: %s",
                products->describe(products->status));
}

/* ---- products ----------------------------------------------------------- */

/* A matrix as cuBLAS sees it. */
struct operand {
    const void *x;
    int ld;
    cublasOperation_t as;
};

struct output {
    void *x;
    int ld;
    bool is_float;
    float keep; /* what was there is multiplied by it, and added */
};

static void note(struct products *p, cublasStatus_t status)
{
    if (p->status == CUBLAS_STATUS_SUCCESS)
        p->status = status;
}

/* c = a b + keep c, where c is [m][n] by columns and a sum has k terms. */
static void multiply(struct products *p, struct operand a, struct operand b,
                     struct output c, int m, int n, int k)
{
    const float one = 1.0f;
    cudaDataType type = c.is_float ? CUDA_R_32F : p->number;
    note(p, p->gemm(p->handle, a.as, b.as, m, n, k, &one, a.x, p->number, a.ld,
                    b.x, p->number, b.ld, &c.keep, c.x, type, c.ld,
                    CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
}

void product_forward(struct products *p, const struct train_weight *w,
                     struct number_rows x, struct number_rows y,
                     bool y_is_float, int n)
{
    struct operand a = {w->q, w->ld, CUBLAS_OP_T};
    struct operand b = {x.x, x.ld, CUBLAS_OP_N};
    struct output c = {y.x, y.ld, y_is_float, 0.0f};
    multiply(p, a, b, c, w->rows, n, w->cols);
}

void product_backward(struct products *p, const struct train_weight *w,
                      struct number_rows dy, struct number_rows dx,
                      bool dx_is_float, int n)
{
    struct operand a = {w->seen, w->ld, CUBLAS_OP_N};
    struct operand b = {dy.x, dy.ld, CUBLAS_OP_N};
    struct output c = {dx.x, dx.ld, dx_is_float, 0.0f};
    multiply(p, a, b, c, w->cols, n, w->rows);
}

void product_gradient(struct products *p, const struct train_weight *w,
                      struct number_rows dy, struct number_rows x,
                      float *gradient, bool adds, int n)
{
    struct operand a = {x.x, x.ld, CUBLAS_OP_N};
    struct operand b = {dy.x, dy.ld, CUBLAS_OP_T};
    struct output c = {gradient, w->cols, true, adds ? 1.0f : 0.0f};
    multiply(p, a, b, c, w->cols, w->rows, n);
}

/* ---- Muon --------------------------------------------------------------- */

/* Matrices, `stride` numbers apart. */
struct operands {
    void *x;
    int ld;
    long long stride;
    cublasOperation_t as;
};

static void multiply_batch(struct products *p, struct operands a,
                           struct operands b, struct operands c, int m, int n,
                           int k, float factor, int count)
{
    const float zero = 0.0f;
    note(p, p->gemm_batch(p->handle, a.as, b.as, m, n, k, &factor, a.x,
                          p->number, a.ld, a.stride, b.x, p->number, b.ld,
                          b.stride, &zero, c.x, p->number, c.ld, c.stride,
                          count, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
}

/* x [n][m][m] += value on the diagonals. */
template <typename T>
static __global__ void add_diagonal(T *x, int m, float value)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    T *to = x + ((size_t)blockIdx.y * m + i) * m + i;
    if (i < m)
        put(to, get(*to) + value);
}

static void add_diagonals(struct products *p, void *x, int m, int n,
                          float value)
{
    enum { THREADS = 256 };
    dim3 grid(ceil_div(m, THREADS), n);
    if (p->number == CUDA_R_32F)
        add_diagonal<float>
            <<<grid, THREADS, 0, p->stream>>>((float *)x, m, value);
    else
        add_diagonal<__nv_bfloat16>
            <<<grid, THREADS, 0, p->stream>>>((__nv_bfloat16 *)x, m, value);
}

/* next = (a + b G + c G^2) X with G = X X^T.  Where there are more rows than
 * columns, X (a + b G + c G^2) with G = X^T X is the same.  The square is
 * completed, so that no product adds to what was where it writes:
 *     a + b G + c G^2 = K^2 + a - b^2 / 4c
 *     K = sqrt(c) G + b / (2 sqrt(c)) */
void product_newton_schulz(struct products *p, const struct newton_schulz *s)
{
    const float root = sqrtf(MUON_C), half = MUON_B / (2 * root);
    bool is_wide = s->rows <= s->cols;
    int m = is_wide ? s->rows : s->cols, n = is_wide ? s->cols : s->rows;
    long long area = (long long)m * n, square = (long long)m * m;
    struct operands x = {s->x, s->cols, area, CUBLAS_OP_N};
    struct operands x_t = {s->x, s->cols, area, CUBLAS_OP_T};
    struct operands next = {s->next, s->cols, area, CUBLAS_OP_N};
    struct operands gram = {s->gram, m, square, CUBLAS_OP_N};
    struct operands both = {s->square, m, square, CUBLAS_OP_N};
    if (is_wide)
        multiply_batch(p, x_t, x, gram, m, m, n, root, s->n);
    else
        multiply_batch(p, x, x_t, gram, m, m, n, root, s->n);
    add_diagonals(p, s->gram, m, s->n, half);
    multiply_batch(p, gram, gram, both, m, m, m, 1.0f, s->n);
    add_diagonals(p, s->square, m, s->n, MUON_A - half * half);
    if (is_wide)
        multiply_batch(p, x, both, next, n, m, m, 1.0f, s->n);
    else
        multiply_batch(p, both, x, next, m, n, m, 1.0f, s->n);
}

/* ---- the rate ------------------------------------------------------------ */

static __global__ void fill_random(__nv_bfloat16 *x, size_t n)
{
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    uint32_t bits = (uint32_t)i * 2654435761u;
    if (i < n)
        x[i] = __float2bfloat16((float)(bits >> 8) * 0x1p-23f - 1.0f);
}

double products_rate(struct products *p, void *room)
{
    enum { TURNS = 4, THREADS = 256 };
    const float one = 1.0f, zero = 0.0f;
    size_t area = (size_t)RATE_SIDE * RATE_SIDE;
    __nv_bfloat16 *x = (__nv_bfloat16 *)room;
    cudaEvent_t start, end;
    float ms = 0.0f;
    if (cudaEventCreate(&start) != cudaSuccess ||
        cudaEventCreate(&end) != cudaSuccess)
        return 0;
    fill_random<<<(unsigned)(2 * area / THREADS), THREADS, 0, p->stream>>>(
        x, 2 * area);
    for (int i = 0; i <= TURNS; i++) {
        if (i == 1)
            cudaEventRecord(start, p->stream);
        note(p,
             p->gemm(p->handle, CUBLAS_OP_T, CUBLAS_OP_N, RATE_SIDE, RATE_SIDE,
                     RATE_SIDE, &one, x, CUDA_R_16BF, RATE_SIDE, x + area,
                     CUDA_R_16BF, RATE_SIDE, &zero, x + 2 * area, CUDA_R_16BF,
                     RATE_SIDE, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
    }
    cudaEventRecord(end, p->stream);
    cudaEventSynchronize(end);
    cudaEventElapsedTime(&ms, start, end);
    cudaEventDestroy(start);
    cudaEventDestroy(end);
    return ms > 0 ? 2e3 * TURNS * RATE_SIDE * (double)area / ms : 0;
}
