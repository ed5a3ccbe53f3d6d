/* scan_feed.cuh -- what a block of the scan fetches: dt, B and C, tile after
 * tile, and once the weights of its channels.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_SCAN_FEED_CUH
#define MAMBYTE_SCAN_FEED_CUH

#include "cuda/common/exact_vector.cuh"
#include "cuda/prefill/scan_shape.cuh"

/* What a thread fetches for its block, tile after tile: fours of B and C, and
 * fours of dt of the row own_t, which it shares with T::threads / TIME - 1
 * neighbours.  A thread quantises the dt that it fetched itself, so that no
 * barrier is needed in between. */
template <class T> struct feed {
    static constexpr int fours = 2 * T::states / 4; /* of a row */
    static constexpr int bc_rows = T::threads / fours, each = T::threads / TIME;
    const float *bc, *dt;
    const uint32_t *amax;
    int bc_left, dt_left; /* rows of the span from the thread's first on  */
    int own_t, first;
    uint32_t next_amax; /* of dt, in the tile that is fetched */
};

template <class T>
static __device__ __forceinline__ feed<T> feed_of(const struct prefill_batch &b,
                                                  const struct scan_place &k)
{
    feed<T> f;
    int row = threadIdx.x / f.fours;
    f.own_t = threadIdx.x / f.each;
    f.first = threadIdx.x % f.each * 4;
    f.bc = b.dtbc + (k.row + row) * b.dtbc_stride + b.dt_room +
           threadIdx.x % f.fours * 4;
    f.dt = b.dtbc + (k.row + f.own_t) * b.dtbc_stride + f.first;
    f.amax = b.dt_amax + k.row + f.own_t;
    f.bc_left = k.n - row;
    f.dt_left = k.n - f.own_t;
    return f;
}

/* Starts to fetch B and C of the next tile. */
template <class T>
static __device__ __forceinline__ void fetch_bc(feed<T> &f, float *to,
                                                int stride)
{
    to += threadIdx.x * 4;
#pragma unroll
    for (int i = 0; i < TIME; i += f.bc_rows) {
        if (i < f.bc_left && (int)threadIdx.x / f.fours + i < TIME)
            copy16(to + i * 2 * T::states, f.bc + i * stride, true);
    }
    f.bc += TIME * stride;
    f.bc_left -= TIME;
}

/* The same for dt.  A row past the span gets a maximum that makes it zeros. */
template <class T>
static __device__ __forceinline__ void fetch_dt(feed<T> &f, float *to,
                                                const struct prefill_batch &b)
{
    f.next_amax = EXACT_INF_BITS;
    if (f.dt_left > 0) {
        f.next_amax = *f.amax;
        to += f.own_t * b.dt_room;
#pragma unroll 1
        for (int i = f.first; i < b.dt_room; i += f.each * 4)
            copy16(to + i, f.dt + (i - f.first), true);
    }
    f.dt += TIME * b.dtbc_stride;
    f.amax += TIME;
    f.dt_left -= TIME;
}

/* dt_q of what this thread has fetched, and the scale of its row. */
template <class T>
static __device__ __forceinline__ void
quantise_dt(const feed<T> &f, float *dt_scale, int8_t *dt_q, const float *dt,
            int rank, int room)
{
    int padded = rank_padded(rank);
    if (f.first >= padded)
        return;
    struct exact_scale s = scale_of(f.next_amax);
    dt += f.own_t * room;
    dt_q += f.own_t * (padded + 16);
#pragma unroll 1
    for (int i = f.first; i < padded; i += f.each * 4) {
        uint32_t q = 0;
        if (i < rank && s.scale != 0.0f)
            q = quantise4(*(const float4 *)(dt + i), s.inverse);
        *(uint32_t *)(dt_q + i) = q;
    }
    if (f.first == 0)
        dt_scale[f.own_t] = s.scale;
}

/* Starts to fetch the weights of a block's channels, and their rows of dt_proj.
 * Channels past the model's repeat the last one. */
template <class T>
static __device__ __forceinline__ void
fetch_channel_weights(channel_weights<T> &of, int8_t *dt_proj,
                      const struct prefill_batch &b, const struct scan_place &k)
{
    const struct cuda_layer *l = k.layer;
    constexpr int each = T::threads / T::channels; /* threads a row */
    int pitch = rank_pitch(b.dt_rank), depth = rank_padded(b.dt_rank);
    int row = threadIdx.x / each;
    const int8_t *from =
        l->dt_proj.q +
        (size_t)min(k.channel + row, b.d_inner - 1) * l->dt_proj.stride;
    for (int i = threadIdx.x % each * 16; i < depth; i += each * 16)
        copy16(dt_proj + row * pitch + i, from + i, true);
    for (int c = threadIdx.x; c < T::channels; c += T::threads) {
        int at = min(k.channel + c, b.d_inner - 1);
        copy_bytes<4>(&of.dt_scale[c], l->dt_proj.scale + at);
        copy_bytes<4>(&of.dt_bias[c], l->dt_bias + at);
        copy_bytes<4>(&of.d[c], l->d + at);
    }
}

#endif
