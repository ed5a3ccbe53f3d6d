/* scan_shape.cuh -- the shape of a block of the scan, and its shared memory.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_SCAN_SHAPE_CUH
#define MAMBYTE_SCAN_SHAPE_CUH

#include "cuda/common/reduce.cuh"
#include "cuda/common/tensor.cuh"
#include "cuda/prefill/prefill_batch.cuh"

enum {
    TIME = 16,
    MAX_SHARE = 4 /* blocks a multiprocessor that are dealt out evenly */
};

/* Its states, those of a thread, and the channels of a block. */
template <int states_, int per_thread_, int channels_> struct scan_shape {
    static constexpr int states = states_, per_thread = per_thread_;
    static constexpr int channels = channels_;
    static constexpr int split = states / per_thread;
    static constexpr int groups = per_thread / EXACT_GROUP;
    static constexpr int threads = channels * split;
    static constexpr int warps = threads / WARP;
    static constexpr int lanes = WARP / split;       /* channels of a warp */
    static constexpr int columns = channels / warps; /* of its products    */
    static constexpr int tiles = columns / 8;
    static constexpr int pitch = channels + 8; /* no bank conflicts  */
    static constexpr int y_pitch = TIME * pitch + lanes;
    static_assert(columns == lanes, "a warp prepares its own recurrences");
};

/* The weights of a block's channels, before and after the recurrence. */
template <class T> struct channel_weights {
    float dt_scale[T::channels], dt_bias[T::channels], d[T::channels];
    float limit[T::channels]; /* a delta above it may be too steep */
};

/* A block's shared memory; dt_rank decides the rest of its size.  delta and bc
 * have a row more, as the recurrence reads one ahead. */
template <class T> struct __align__(16) scan_shared
{
    float2 delta[TIME + 1][T::pitch]; /* delta, delta u */
    float y[T::split][T::y_pitch];    /* [TIME][pitch]: sums of some states */
    float bc[2][TIME + 1][2 * T::states]; /* B, C */
    channel_weights<T> of;
    float dt_scale[2][TIME];
    float *image[TIME]; /* where spans are single bytes: of each */
    /* then: float dt[TIME][dt_room], int8_t dt_q[2][TIME][rank_pitch],
     * int8_t dt_proj[channels][rank_pitch] */
};

static __host__ __device__ __forceinline__ int rank_padded(int dt_rank)
{
    return round_up(dt_rank, ROW_ALIGN);
}

static __host__ __device__ __forceinline__ int rank_pitch(int dt_rank)
{
    return rank_padded(dt_rank) + 16; /* rows g in different banks */
}

template <class T> static size_t scan_shared_size(const struct prefill_batch *b)
{
    return sizeof(scan_shared<T>) + TIME * b->dt_room * sizeof(float) +
           (2 * TIME + T::channels) * rank_pitch(b->dt_rank);
}

/* Where this block stands: at a span, or at TIME spans of a byte each. */
struct scan_place {
    const struct cuda_layer *layer;
    const struct span *spans;
    int n;       /* rows */
    size_t row;  /* the first in the [layer] arrays */
    int channel; /* the first */
};

#endif
