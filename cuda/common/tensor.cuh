/* tensor.cuh -- int8 products of a warp and asynchronous copies, for every
 * GPU from compute capability 7.5.
 *
 * A product of a warp is 16 x 8, 32 deep: c += a b with int32 sums.  With
 * g = lane / 4 and t = lane % 4 a lane holds, as the hardware wants it,
 *   a[0] row g, a[1] row g + 8: bytes 4 t .. 4 t + 3;  a[2], a[3]: those + 16
 *   b[0] column g: bytes 4 t .. 4 t + 3;               b[1]: those + 16
 *   c[0], c[1] row g, c[2], c[3] row g + 8: columns 2 t, 2 t + 1
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TENSOR_CUH
#define MAMBYTE_TENSOR_CUH

#include "cuda/common/device.cuh"

static __device__ __forceinline__ uint32_t shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* 16 bytes from global to shared memory; zeros when not valid. */
static __device__ __forceinline__ void copy16(void *to, const void *from,
                                              bool is_valid)
{
#if __CUDA_ARCH__ >= 800
    int n = is_valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                     shared_address(to)),
                 "l"(from), "r"(n));
#else
    *(int4 *)to = is_valid ? *(const int4 *)from : make_int4(0, 0, 0, 0);
#endif
}

/* n bytes: 4, 8 or 16. */
template <int n>
static __device__ __forceinline__ void copy_bytes(void *to, const void *from)
{
#if __CUDA_ARCH__ >= 800
    asm volatile(
        "cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(shared_address(to)),
        "l"(from), "n"(n));
#else
    memcpy(__builtin_assume_aligned(to, n), __builtin_assume_aligned(from, n),
           n);
#endif
}

/* Ends a group of copies of this thread. */
static __device__ __forceinline__ void copy_commit(void)
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;");
#endif
}

/* Waits until at most the last `pending` groups are under way. */
template <int pending> static __device__ __forceinline__ void copy_wait(void)
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#endif
}

/* Four 8 x 16-byte matrices; lane i gives the address of row i % 8 of matrix
 * i / 8, and gets bytes 4 t .. 4 t + 3 of row g of each. */
static __device__ __forceinline__ void load_matrices(uint32_t r[4],
                                                     const void *row)
{
    asm volatile(
        "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
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

/* ---- products of a warpgroup (Hopper) -----------------------------------
 *
 * Four warps multiply 64 x 128, both sides straight from shared memory: rows
 * of 128 bytes, the chunk c of row r at c ^ (r % 8), 1024-byte aligned.  Warp
 * i has rows 16 i .., held like the results of 16 products of a warp.
 */
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define HAVE_WARPGROUP_PRODUCT 1

/* The descriptor of rows that begin at p: the layout above, eight rows are
 * 1024 bytes. */
static __device__ __forceinline__ uint64_t group_rows(const void *p)
{
    uint64_t at = shared_address(p) & 0x3ffff;
    return at >> 4 | (uint64_t)1 << 16 | (uint64_t)(1024 >> 4) << 32 |
           (uint64_t)1 << 62;
}

/* What ordinary stores and copies brought to shared memory becomes visible
 * to the products; before a barrier. */
static __device__ __forceinline__ void group_publish(void)
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
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

/* c += a b, 32 deep; under way until group_wait. */
static __device__ __forceinline__ void
group_product_64x128x32(int32_t c[16][4], uint64_t a, uint64_t b)
{
    asm volatile(
        "{\n"
        ".reg .pred p;\n"
        "setp.ne.b32 p, 1, 0;\n"
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
        : "l"(a), "l"(b));
}
#endif

#endif
