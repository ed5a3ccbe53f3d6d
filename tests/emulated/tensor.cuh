/* tensor.cuh -- stands in for the products of cuda/common/tensor.cuh: int8 and
 * bf16, of a warp and of a warpgroup; tf32, of a warp.  Where the numbers lie
 * is said there.
 *
 * A product of a warpgroup is computed when it is asked for, or when it is
 * waited for: drawn, each thread for itself.  So it shows when its operands are
 * overwritten too early, or its sums are read too early.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TENSOR_CUH
#define MAMBYTE_TENSOR_CUH

#include "base/exact.h"
#include "cuda/common/ptx.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define HAVE_WARPGROUP_PRODUCT 1
#endif

static inline const emulated::slot *emulated_rows(const void *row)
{
    emulated::check_aligned(row, 16);
    return emulated::warp_exchange("load_matrices", &row, sizeof row);
}

static inline void load_matrices(uint32_t r[4], const void *row)
{
    const emulated::slot *rows = emulated_rows(row);
    int g = emulated::lane() / 4, t = emulated::lane() % 4;
    for (int m = 0; m < 4; m++) {
        const char *of = emulated::taken<const char *>(rows, 8 * m + g);
        memcpy(&r[m], of + 4 * t, 4);
    }
    __syncwarp();
}

static inline void load_transposed(uint32_t r[4], const void *row)
{
    const emulated::slot *rows = emulated_rows(row);
    int g = emulated::lane() / 4, t = emulated::lane() % 4;
    for (int m = 0; m < 4; m++) {
        uint16_t x[2];
        for (int k = 0; k < 2; k++) {
            int from = 8 * m + 2 * t + k;
            memcpy(&x[k], emulated::taken<const char *>(rows, from) + 2 * g, 2);
        }
        r[m] = x[0] | (uint32_t)x[1] << 16;
    }
    __syncwarp();
}

/* What a lane gives to a product: a, then b. */
struct emulated_operands {
    int a[4], b[2];
};

/* c += a b, 16 x 8: lane 4 g + t gives what it has of rows g and g + 8 of a and
 * of column g of b, and gets columns 2 t and 2 t + 1 of these rows.  dot
 * multiplies what two lanes give in a place. */
template <class Sum, class Operands, class Dot>
static inline void emulated_product(Sum c[4], const Operands &own, Dot dot)
{
    const emulated::slot *all =
        emulated::warp_exchange("product", &own, sizeof own);
    int g = emulated::lane() / 4, t = emulated::lane() % 4;
    for (int k = 0; k < 4; k++) {
        auto x = emulated::taken<Operands>(all, 4 * g + k);
        for (int j = 0; j < 2; j++) {
            auto y = emulated::taken<Operands>(all, 4 * (2 * t + j) + k);
            for (int i = 0; i < 2; i++)
                c[2 * i + j] += dot(x.a[i], y.b[0]) + dot(x.a[i + 2], y.b[1]);
        }
    }
}

static inline void product_16x8x32(int32_t c[4], const uint32_t a[4],
                                   const uint32_t b[2])
{
    emulated_operands own;
    memcpy(own.a, a, sizeof own.a);
    memcpy(own.b, b, sizeof own.b);
    emulated_product(c, own, [](int x, int y) { return __dp4a(x, y, 0); });
}

static inline void product_16x8x32(int32_t c[4], int4 start,
                                   const uint32_t a[4], const uint32_t b[2])
{
    c[0] = start.x;
    c[1] = start.y;
    c[2] = start.z;
    c[3] = start.w;
    product_16x8x32(c, a, b);
}

/* ---- products of floats -------------------------------------------------- */

static inline float emulated_bf16_dot(int a, int b)
{
    float sum = 0;
    for (int shift = 0; shift < 32; shift += 16)
        sum += exact_float((uint32_t)a >> shift << 16) *
               exact_float((uint32_t)b >> shift << 16);
    return sum;
}

static inline void product_16x8x16(float c[4], const uint32_t a[4],
                                   const uint32_t b[2])
{
    emulated_operands own;
    memcpy(own.a, a, sizeof own.a);
    memcpy(own.b, b, sizeof own.b);
    emulated_product(c, own, emulated_bf16_dot);
}

static inline float emulated_tf32(float x)
{
    return exact_float((exact_bits(x) + 0x1000) & 0xffffe000u);
}

static inline void product_16x8x8(float c[4], const float a[4], float b0,
                                  float b1)
{
    struct operands {
        float a[4], b[2];
    } own = {{a[0], a[1], a[2], a[3]}, {b0, b1}};
    emulated_product(c, own, [](float x, float y) {
        return emulated_tf32(x) * emulated_tf32(y);
    });
}

/* ---- products of a warpgroup --------------------------------------------- */

/* The descriptor of rows: the number of their address, in units of 16 bytes. */
static inline uint64_t group_rows(const void *p)
{
    emulated::check_aligned(p, 1024);
    return shared_address(p) >> 4;
}

static inline void group_begin(void)
{
}

static inline void group_commit(void)
{
    emulated::end_product_group();
}

static inline void group_wait(void)
{
    emulated::wait_for_products(-1);
}

template <int pending> static inline void group_wait_for()
{
    emulated::wait_for_products(pending);
}

/* Cell c of row r lies at place c ^ (r % 8). */
static inline const int8_t *emulated_cell(uint64_t rows, int r, int c)
{
    uint32_t first = (uint32_t)rows << 4;
    int cell = (int)(first % 128 / 16) + c;
    return (const int8_t *)emulated::dynamic_shared() + first / 1024 * 1024 +
           r * 128 + ((cell ^ r) % 8) * 16;
}

static inline int emulated_dot(uint64_t a, int row, uint64_t b, int column)
{
    int sum = 0;
    for (int k = 0; k < 2; k++) {
        const int8_t *x = emulated_cell(a, row, k);
        const int8_t *y = emulated_cell(b, column, k);
        for (int i = 0; i < 16; i++)
            sum += x[i] * y[i];
    }
    return sum;
}

static inline void group_product_64x128x32(int32_t (*c)[4], uint64_t a,
                                           uint64_t b, bool adds)
{
    int row = (int)threadIdx.x % 128 / 32 * 16 + emulated::lane() / 4;
    int column = 2 * (emulated::lane() % 4);
    if (!adds)
        memset(c, 0, 16 * sizeof *c);
    emulated::multiply_late([=] {
        for (int n = 0; n < 16; n++) {
            for (int i = 0; i < 4; i++)
                c[n][i] +=
                    emulated_dot(a, row + i / 2 * 8, b, 8 * n + column + i % 2);
        }
    });
}

/* ---- products of a warpgroup, of floats ---------------------------------- */

static inline void group_hold(float (&)[8][4])
{
}

/* Term k of row r of a side. */
template <bool TRANSPOSED>
static inline float emulated_term(uint64_t rows, int r, int k)
{
    int row = TRANSPOSED ? k : r, col = TRANSPOSED ? r : k;
    uint16_t x;
    memcpy(&x, emulated_cell(rows, row, col / 8) + col % 8 * 2, 2);
    return exact_float((uint32_t)x << 16);
}

/* c = a b, or c += a b: a(i, k) are terms of the rows g + 8 i of a warp. */
template <bool B_TRANSPOSED, class Left>
static inline void emulated_group_product(float (*c)[4], uint64_t b, bool adds,
                                          Left a)
{
    int column = 2 * (emulated::lane() % 4);
    emulated::multiply_late([=] {
        for (int n = 0; n < 8; n++) {
            for (int i = 0; i < 4; i++) {
                float sum = adds ? c[n][i] : 0.0f;
                for (int k = 0; k < 16; k++)
                    sum += a(i / 2, k) * emulated_term<B_TRANSPOSED>(
                                             b, 8 * n + column + i % 2, k);
                c[n][i] = sum;
            }
        }
    });
}

template <bool A_TRANSPOSED, bool B_TRANSPOSED>
static inline void group_product_64x64x16(float (&c)[8][4], uint64_t a,
                                          uint64_t b, bool adds)
{
    int row = (int)threadIdx.x % 128 / 32 * 16 + emulated::lane() / 4;
    emulated_group_product<B_TRANSPOSED>(c, b, adds, [=](int i, int k) {
        return emulated_term<A_TRANSPOSED>(a, row + 8 * i, k);
    });
}

template <bool B_TRANSPOSED>
static inline void group_product_64x64x16(float (&c)[8][4], const uint32_t a[4],
                                          uint64_t b, bool adds)
{
    struct left {
        uint32_t x[4];
    } own, row[4];
    memcpy(own.x, a, sizeof own.x);
    const emulated::slot *all =
        emulated::warp_exchange("group_product", &own, sizeof own);
    for (int q = 0; q < 4; q++)
        row[q] = emulated::taken<left>(all, emulated::lane() / 4 * 4 + q);
    auto term = [=](int i, int k) {
        uint32_t two = row[k % 8 / 2].x[i + k / 8 * 2];
        return exact_float(k % 2 ? two & 0xffff0000u : two << 16);
    };
    emulated_group_product<B_TRANSPOSED>(c, b, adds, term);
}

#endif
