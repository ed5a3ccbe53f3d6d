/* mamba2_chunk.cuh -- the state-space product of Mamba-2 by chunks of 64
 * bytes: what its kernels share.
 *
 * With ^ for what was rounded to int8 (or left as it is, without imitation),
 * for every head, s <= t places of a chunk, and L[t][s] the decay from s to t:
 *
 *     g[t][s]  = sum over n of C^[t][n] B^[s][n]
 *     w[s]     = delta[s] x_scale[s] B_scale[s]
 *     m[t][s]  = g[t][s] L[t][s] w[s];               m^ over s
 *     v[p][s]  = x^[s][p] L[63][s] w[s];             v^ over s
 *     part     = sum over s of v^[p][s] B^[s][n]
 *     S        = E S + part, after the chunk;        S^ over n
 *     y[t][p]  = C_scale[t] (sum over s of m^[t][s] x^[s][p]
 *                + E[t] sum over n of S^[p][n] C^[t][n]) + D x_scale[t]
 * x^[t][p]
 *
 * where E[t] is the decay from the start of the chunk to t, t included, and S
 * that at the chunk's start.  Decays are kept as `cum`, the sum of the binary
 * logarithms from the start of the chunk: L[t][s] = 2^(cum[t] - cum[s]).
 *
 * A chunk is counted from the start of its window.  A place is a byte of a
 * chunk: chunk k of the batch has places 64 k .. 64 k + 63, of which those
 * past the end of a window have delta 0 and decay 1.
 *
 * Backward the gradient passes every rounding as if it were not there, and
 * scales are constants.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MAMBA2_CHUNK_CUH
#define MAMBYTE_MAMBA2_CHUNK_CUH

#include "cuda/train/fast_math.cuh"
#include "cuda/train/mamba2_tile.cuh"
extern "C" {
#include "model/model.h"
}

static_assert((int)CHUNK == (int)SIDE, "a chunk is a side of a tile");

struct chunk_job {
    int n_t, n_windows, n_chunks; /* n_chunks: of a window                 */
    int n_heads, headdim, n_groups, d_state;
    int ld; /* of xbc: d_inner + 2 n_groups d_state                        */
    bool imitates;
    bool by_warpgroups; /* by products of a warpgroup                      */
    bool in_one_pass;   /* and states without parts                        */

    const void *xbc;       /* [t][ld] numbers: x^ | B^ | C^                 */
    const float *x_scale;  /* [head][place]                                 */
    const float *bc_scale; /* [2][group][place]: of B, of C                 */
    const float *delta;    /* [head][place]                                 */
    const float *cum;      /* [head][place]                                 */
    const float *d;        /* [head]                                        */
    void *states;          /* [chunk][head][headdim][d_state] numbers: S^   */
    float *state_scale;    /* [chunk][head][headdim]                        */
    void *parts;           /* like states, numbers: part                    */
    float *m_largest;      /* [head][place]: the largest m of a row         */
    float *v_largest;      /* [chunk][head][headdim]: the largest v         */
    void *y;               /* [t][d_inner] numbers                          */

    /* The states before and after a window: S at window * stride. */
    const float *start;
    float *end;
    size_t stride;

    const void *dy; /* [t][d_inner] numbers                                 */
    void *dstates;  /* like parts: dS after the chunk                       */
    void *dxbc;     /* [t][ld] numbers                                      */
    float *dcum;    /* [tile of n][head][place]: to be added up             */
    float *ddelta;  /* [head][place], but for what passes cum               */
    float *dd;      /* [chunk][dd_ld], by head                              */
    int dd_ld;
};

static inline __host__ __device__ int state_tiles(const struct chunk_job *j)
{
    return ceil_div(j->d_state, SIDE);
}

static inline __host__ __device__ int head_tiles(const struct chunk_job *j)
{
    return ceil_div(j->headdim, SIDE);
}

/* Chunks of all windows. */
static inline __host__ __device__ int all_chunks(const struct chunk_job *j)
{
    return j->n_windows * j->n_chunks;
}

/* ---- mamba2_chunk.cu ----------------------------------------------------- */

/* Sets by_warpgroups and in_one_pass, for the current device: heads of 64
 * channels, 64 states, bf16, a GPU with products of a warpgroup; for one pass
 * also as many heads of windows as it has multiprocessors. */
enum status chunk_choose(struct chunk_job *j, bool in_float);

/* Tells the current device how much shared memory blocks will take.  E_DEVICE
 * when it cannot give what chunks of this shape need. */
enum status chunk_prepare_device(const struct chunk_job *j, bool in_float);

/* Heads that a block has in shared memory in turn: two where the current
 * device gives a block what two take, so that one is copied while the other is
 * worked on.  E_DEVICE where not even one fits. */
struct turns {
    int n;
    size_t n_bytes;
};
typedef size_t turns_bytes(const struct chunk_job *j, int n_turns);
enum status chunk_turns(struct turns *turns, const struct chunk_job *j,
                        turns_bytes *bytes);
enum status allow_turns(const void *kernel, const struct chunk_job *j,
                        turns_bytes *bytes);
enum status allow_shared(const void *kernel, size_t n_bytes);

/* Each is a part of chunk_prepare_device(). */
enum status parts_prepare_device(bool in_float);
enum status output_prepare_device(const struct chunk_job *j, bool in_float);
enum status output_back_prepare_device(const struct chunk_job *j,
                                       bool in_float);
enum status group_states_prepare_device(void);
enum status group_output_prepare_device(void);
enum status group_back_prepare_device(void);

/* ---- launches ------------------------------------------------------------ */

/* mamba2_states.cu: parts; states, state_scale and end. */
void launch_chunk_parts(const struct chunk_job *j, bool in_float,
                        cudaStream_t stream);
void launch_chunk_states(const struct chunk_job *j, bool in_float,
                         cudaStream_t stream);

/* dstates. */
void launch_chunk_dparts(const struct chunk_job *j, bool in_float,
                         cudaStream_t stream);
void launch_chunk_dstates(const struct chunk_job *j, bool in_float,
                          cudaStream_t stream);

/* mamba2_output.cu: y. */
void launch_chunk_output(const struct chunk_job *j, bool in_float,
                         cudaStream_t stream);

/* mamba2_output_back.cu: dxbc, dcum, ddelta, dd. */
void launch_chunk_output_back(const struct chunk_job *j, bool in_float,
                              cudaStream_t stream);

/* mamba2_group_states.cu: states, state_scale and end, or dstates, without
 * parts.  mamba2_group_output.cu, mamba2_group_back.cu: y, and what is
 * backward. The functions above call them. */
void launch_group_states(const struct chunk_job *j, cudaStream_t stream);
void launch_group_dstates(const struct chunk_job *j, cudaStream_t stream);
void launch_group_output(const struct chunk_job *j, cudaStream_t stream);
void launch_group_back(const struct chunk_job *j, cudaStream_t stream);

#ifdef __CUDACC__

/* A chunk of the batch, as a kernel sees it. */
struct chunk_place {
    size_t row;   /* of its first byte, in the batch                       */
    size_t place; /* the same of places                                    */
    int rows;     /* bytes that there are                                  */
};

static __device__ __forceinline__ struct chunk_place
chunk_at(const struct chunk_job &j, int chunk)
{
    int w = chunk / j.n_chunks, first = chunk % j.n_chunks * CHUNK;
    return {(size_t)w * j.n_t + first, (size_t)chunk * CHUNK,
            min(CHUNK, j.n_t - first)};
}

static __device__ __forceinline__ size_t all_places(const struct chunk_job &j)
{
    return (size_t)j.n_windows * j.n_chunks * CHUNK;
}

/* Where a state of a chunk and head lies. */
static __device__ __forceinline__ size_t state_at(const struct chunk_job &j,
                                                  int chunk, int head)
{
    return ((size_t)chunk * j.n_heads + head) * j.headdim * j.d_state;
}

/* The scale of x, B or C of a place. */
static __device__ __forceinline__ float
scale_at(const struct chunk_job &j, const float *scales, int row, size_t place)
{
    return j.imitates ? scales[row * all_places(j) + place] : 1.0f;
}

/* What a vector whose largest magnitude is amax is divided by, and multiplied
 * with: as exact_scale_of, down to vectors far smaller. */
static __device__ __forceinline__ struct exact_scale small_scale(float amax)
{
    amax = fmaxf(amax, 1e-30f);
    return {amax * (1.0f / 127.0f), 127.0f / amax};
}

/* The same of a kept number, where it is there; without imitation 1. */
static __device__ __forceinline__ struct exact_scale
scale_of_largest(const struct chunk_job &j, const float *largest, bool is_there)
{
    struct exact_scale one = {1.0f, 1.0f};
    return j.imitates && is_there ? small_scale(*largest) : one;
}

#endif
#endif
