/* tensor.cuh -- products on tensor cores, for every GPU from compute
 * capability 7.5.
 *
 * A product of a warp is 16 x 8, and 32 deep: c += a b with int32 sums.  The
 * hardware wants the numbers so, with g = lane / 4 and t = lane % 4:
 *   a[0] row g, a[1] row g + 8: bytes 4 t .. 4 t + 3;  a[2], a[3]: those + 16
 *   b[0] column g: bytes 4 t .. 4 t + 3;               b[1]: those + 16
 *   c[0], c[1] row g, c[2], c[3] row g + 8: columns 2 t, 2 t + 1
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TENSOR_CUH
#define MAMBYTE_TENSOR_CUH

#include "base/exact.h"
#include "cuda/common/ptx.cuh"

/* Loads four matrices of eight rows of 16 bytes.  Lane i gives the address of
 * row i % 8 of matrix i / 8, and gets bytes 4 t .. 4 t + 3 of row g of each. */
static __device__ __forceinline__ void load_matrices(uint32_t r[4],
                                                     const void *row)
{
    asm volatile(
        "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
        : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
        : "r"(shared_address(row)));
}

/* The same of the transposed matrices: of two-byte numbers, lane 4 g + t gets
 * numbers 2 t and 2 t + 1 of column g. */
static __device__ __forceinline__ void load_transposed(uint32_t r[4],
                                                       const void *row)
{
    asm volatile(
        "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, "
        "[%4];"
        : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
        : "r"(shared_address(row)));
}

#if __CUDA_ARCH__ < 800
static __device__ __forceinline__ void product_8x8x16(int32_t c[2], uint32_t a,
                                                      uint32_t b)
{
    asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 "
                 "{%0, %1}, {%2}, {%3}, {%0, %1};"
                 : "+r"(c[0]), "+r"(c[1])
                 : "r"(a), "r"(b));
}
#endif

static __device__ __forceinline__ void
product_16x8x32(int32_t c[4], const uint32_t a[4], const uint32_t b[2])
{
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]),
                   "r"(b[1]));
#else
    product_8x8x16(c, a[0], b[0]);
    product_8x8x16(c, a[2], b[1]);
    product_8x8x16(c + 2, a[1], b[0]);
    product_8x8x16(c + 2, a[3], b[1]);
#endif
}

/* c = start + a b. */
static __device__ __forceinline__ void product_16x8x32(int32_t c[4], int4 start,
                                                       const uint32_t a[4],
                                                       const uint32_t b[2])
{
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%10, %11, %12, %13};"
                 : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]),
                   "r"(b[1]), "r"(start.x), "r"(start.y), "r"(start.z),
                   "r"(start.w));
#else
    c[0] = start.x;
    c[1] = start.y;
    c[2] = start.z;
    c[3] = start.w;
    product_16x8x32(c, a, b);
#endif
}

/* c += a b, 16 x 8 and 16 deep, of bf16 with float sums.  Numbers lie as above,
 * two of bf16 in place of four bytes.  From compute capability 8.0 on. */
static __device__ __forceinline__ void
product_16x8x16(float c[4], const uint32_t a[4], const uint32_t b[2])
{
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]),
                   "r"(b[1]));
#endif
}

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
/* c += a b, 16 x 8 and 8 deep, in tf32.  With g = lane / 4 and t = lane % 4 a
 * lane holds a[0] row g, a[1] row g + 8 of column t, a[2] and a[3] those of
 * column t + 4; b[0] row t, b[1] row t + 4 of column g; c[0] and c[1] row g,
 * c[2] and c[3] row g + 8 of columns 2 t and 2 t + 1. */
static __device__ __forceinline__ void
product_16x8x8(float c[4], const float a[4], float b0, float b1)
{
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(exact_bits(a[0])), "r"(exact_bits(a[1])), "r"(exact_bits(a[2])),
          "r"(exact_bits(a[3])), "r"(exact_bits(b0)), "r"(exact_bits(b1)));
}
#endif

/* ---- products of a warpgroup (Hopper) -----------------------------------
 *
 * Four warps multiply 64 x 128 or 64 x 64, and take both sides from shared
 * memory: rows of 128 bytes from a multiple of 1024 on, cell c (16 bytes) of
 * row r at place c ^ (r % 8).  Warp i has rows 16 i to 16 i + 15 of the result,
 * held like those of several products of a warp.
 */
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define HAVE_WARPGROUP_PRODUCT 1

/* The descriptor of rows that begin at p, in the layout above. */
static __device__ __forceinline__ uint64_t group_rows(const void *p)
{
    uint64_t at = shared_address(p) & 0x3ffff;
    return at >> 4 | (uint64_t)1 << 16 | (uint64_t)(1024 >> 4) << 32 |
           (uint64_t)1 << 62;
}

static __device__ __forceinline__ void group_begin(void)
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

static __device__ __forceinline__ void group_commit(void)
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

static __device__ __forceinline__ void group_wait(void)
{
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
}

/* c = a b, or c += a b where it adds, 32 deep; under way until group_wait(). */
static __device__ __forceinline__ void
group_product_64x128x32(int32_t c[16][4], uint64_t a, uint64_t b, bool adds)
{
    asm volatile(
        "{\n"
        ".reg .pred p;\n"
        "setp.ne.b32 p, %66, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k32.s32.s8.s8 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, "
        "%8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, "
        "%24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, "
        "%40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, "
        "%56, %57, %58, %59, %60, %61, %62, %63"
        "}, %64, %65, p;\n"
        "}\n"
        : "+r"(c[0][0]), "+r"(c[0][1]), "+r"(c[0][2]), "+r"(c[0][3]),
          "+r"(c[1][0]), "+r"(c[1][1]), "+r"(c[1][2]), "+r"(c[1][3]),
          "+r"(c[2][0]), "+r"(c[2][1]), "+r"(c[2][2]), "+r"(c[2][3]),
          "+r"(c[3][0]), "+r"(c[3][1]), "+r"(c[3][2]), "+r"(c[3][3]),
          "+r"(c[4][0]), "+r"(c[4][1]), "+r"(c[4][2]), "+r"(c[4][3]),
          "+r"(c[5][0]), "+r"(c[5][1]), "+r"(c[5][2]), "+r"(c[5][3]),
          "+r"(c[6][0]), "+r"(c[6][1]), "+r"(c[6][2]), "+r"(c[6][3]),
          "+r"(c[7][0]), "+r"(c[7][1]), "+r"(c[7][2]), "+r"(c[7][3]),
          "+r"(c[8][0]), "+r"(c[8][1]), "+r"(c[8][2]), "+r"(c[8][3]),
          "+r"(c[9][0]), "+r"(c[9][1]), "+r"(c[9][2]), "+r"(c[9][3]),
          "+r"(c[10][0]), "+r"(c[10][1]), "+r"(c[10][2]), "+r"(c[10][3]),
          "+r"(c[11][0]), "+r"(c[11][1]), "+r"(c[11][2]), "+r"(c[11][3]),
          "+r"(c[12][0]), "+r"(c[12][1]), "+r"(c[12][2]), "+r"(c[12][3]),
          "+r"(c[13][0]), "+r"(c[13][1]), "+r"(c[13][2]), "+r"(c[13][3]),
          "+r"(c[14][0]), "+r"(c[14][1]), "+r"(c[14][2]), "+r"(c[14][3]),
          "+r"(c[15][0]), "+r"(c[15][1]), "+r"(c[15][2]), "+r"(c[15][3])
        : "l"(a), "l"(b), "r"((int)adds));
}

#define GROUP_ACCUMULATORS(c)                                                  \
    "+f"(c[0][0]), "+f"(c[0][1]), "+f"(c[0][2]), "+f"(c[0][3]), "+f"(c[1][0]), \
        "+f"(c[1][1]), "+f"(c[1][2]), "+f"(c[1][3]), "+f"(c[2][0]),            \
        "+f"(c[2][1]), "+f"(c[2][2]), "+f"(c[2][3]), "+f"(c[3][0]),            \
        "+f"(c[3][1]), "+f"(c[3][2]), "+f"(c[3][3]), "+f"(c[4][0]),            \
        "+f"(c[4][1]), "+f"(c[4][2]), "+f"(c[4][3]), "+f"(c[5][0]),            \
        "+f"(c[5][1]), "+f"(c[5][2]), "+f"(c[5][3]), "+f"(c[6][0]),            \
        "+f"(c[6][1]), "+f"(c[6][2]), "+f"(c[6][3]), "+f"(c[7][0]),            \
        "+f"(c[7][1]), "+f"(c[7][2]), "+f"(c[7][3])

/* The compiler knows nothing of products under way: c is touched neither before
 * this nor after it, but on the side of it where it is in the text. */
static __device__ __forceinline__ void group_hold(float (&c)[8][4])
{
    asm volatile("" : GROUP_ACCUMULATORS(c)::"memory");
}

/* Waits until at most the last `pending` commits are under way. */
template <int pending> static __device__ __forceinline__ void group_wait_for()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}

/* c = a b, or c += a b where adds: 64 x 64, 16 deep, of bf16; under way until
 * waited for.  Rows are those of a side, or, where it is TRANSPOSED, those of
 * the terms. */
template <bool A_TRANSPOSED, bool B_TRANSPOSED>
static __device__ __forceinline__ void
group_product_64x64x16(float (&c)[8][4], uint64_t a, uint64_t b, bool adds)
{
    asm volatile("{\n"
                 ".reg .pred p;\n"
                 "setp.ne.b32 p, %34, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
                 "{%0, %1, %2, %3, %4, %5, %6, %7, "
                 "%8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, "
                 "%24, %25, %26, %27, %28, %29, %30, %31}, "
                 "%32, %33, p, 1, 1, %35, %36;\n"
                 "}\n"
                 : GROUP_ACCUMULATORS(c)
                 : "l"(a), "l"(b), "r"((int)adds), "n"((int)A_TRANSPOSED),
                   "n"((int)B_TRANSPOSED));
}

/* The same with the left side in registers, as products of a warp take it. */
template <bool B_TRANSPOSED>
static __device__ __forceinline__ void
group_product_64x64x16(float (&c)[8][4], const uint32_t a[4], uint64_t b,
                       bool adds)
{
    asm volatile("{\n"
                 ".reg .pred p;\n"
                 "setp.ne.b32 p, %37, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
                 "{%0, %1, %2, %3, %4, %5, %6, %7, "
                 "%8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, "
                 "%24, %25, %26, %27, %28, %29, %30, %31}, "
                 "{%32, %33, %34, %35}, %36, p, 1, 1, %38;\n"
                 "}\n"
                 : GROUP_ACCUMULATORS(c)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b),
                   "r"((int)adds), "n"((int)B_TRANSPOSED));
}
#endif

#endif
