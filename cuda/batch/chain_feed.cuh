/* chain_feed.cuh -- the warp that feeds those with heads, where a block takes a
 * stream after the other: all but S^ comes by bulk copies of whole rows, and
 * the past inputs go back by others.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_CHAIN_FEED_CUH
#define MAMBYTE_CHAIN_FEED_CUH

#include "cuda/batch/chain_streams.cuh"

#ifdef HAS_CLUSTER

struct feeder {
    const struct byte_block &k;
    const struct feed_signals &signals;
    int first, heads; /* of the part */

    __device__ __forceinline__ uint32_t row_bytes(void) const
    {
        return (uint32_t)heads * HEADDIM * sizeof(float);
    }
    __device__ __forceinline__ char *row(int i) const
    {
        return k.shared + k.at.ahead + i * k.at.ahead_row;
    }
    __device__ __forceinline__ void fetch_row(int i, const float *from) const
    {
        bulk_copy(row(i), from + first * HEADDIM, row_bytes(), signals.numbers);
    }

    /* By one thread: what is known before in_proj has ended, and the rest. */
    __device__ __forceinline__ void fetch_state(bool with_taps) const
    {
        const int rows = with_taps ? (int)AHEAD_ROWS : (int)AHEAD_TAPS;
        mbarrier_expect(signals.numbers, (uint32_t)rows * row_bytes());
#pragma unroll 1
        for (int j = 0; j < PAST_ROWS; j++)
            fetch_row(j, k.state.past + j * k.m.conv_channels);
        fetch_row(AHEAD_W, k.state.w);
        fetch_row(AHEAD_S_SCALE, k.state.s_scale);
        if (!with_taps)
            return;
#pragma unroll 1
        for (int j = 0; j < TAPS; j++)
            fetch_row(AHEAD_TAPS + j, k.layer.conv + j * k.m.conv_channels);
        fetch_row(AHEAD_BIAS, k.layer.conv_bias);
    }
    __device__ __forceinline__ void fetch_zx(void) const
    {
        fetch_row(AHEAD_X, k.zx + k.b.d_inner);
        fetch_row(AHEAD_Z, k.zx);
    }

    /* x^ of the chunk so far, a byte a lane. */
    __device__ __forceinline__ void fetch_x(void) const
    {
        const uint32_t bytes = (uint32_t)heads * HEADDIM;
        if (k.lane == 0)
            mbarrier_expect(signals.x, bytes * (uint32_t)k.place);
        __syncwarp(); /* the bytes are known before they come */
#pragma unroll 1
        for (int i = k.lane; i < k.place; i += WARP)
            bulk_copy_once(k.bytes(k.at.x) + i * k.at.x_row,
                           k.state.x + (size_t)i * k.b.d_inner +
                               first * HEADDIM,
                           bytes, signals.x);
    }

    /* The past moves on, by one thread. */
    __device__ __forceinline__ void store_past(void) const
    {
#pragma unroll 1
        for (int j = 0; j < PAST_ROWS; j++)
            bulk_store(k.state.past + j * k.m.conv_channels + first * HEADDIM,
                       row(j + 1), row_bytes());
        bulk_store_commit();
    }
};

/* Says where a part lies, by one thread. */
static __device__ __forceinline__ void
tell_part(const struct feed_signals &signals, int i,
          const struct stream_part &part)
{
    signals.parts[i % 2] = {part.stream.image, part.stream.place,
                            (short)part.first, (short)part.number};
}

/* No lane may be a phase behind when another one lets the next phase end. */
static __device__ __forceinline__ void await_together(uint64_t *which, int part)
{
    feed_signals::await(which, part);
    __syncwarp();
}

/* One part after the other. */
template <class job_type>
static __device__ __forceinline__ void feed(const job_type &job)
{
    const bool is_whole = job.rows.part_heads == job.m.n_heads;
    const struct feed_signals signals = job.feed();
    struct stream_part now = job.first_part();
#pragma unroll 1
    for (int i = 0; now.first < job.m.n_heads; i++) {
        const struct stream_part next = job.after(now);
        const struct byte_block k = job.block(now, 0, job.rows.part_heads);
        const struct feeder f = {
            k, signals, now.first,
            min(job.rows.part_heads, job.m.n_heads - now.first)};
        if (i > 0)
            await_together(signals.numbers_read, i - 1);
        if (k.lane == 0) {
            if (i == 0)
                tell_part(signals, i, now);
            tell_part(signals, i + 1, next);
            bulk_store_wait_read(); /* the past is read, too */
            f.fetch_state(i == 0 || !is_whole);
            if (i > 0)
                f.fetch_zx();
        }
        if (i > 0) {
            await_together(signals.x_read, i - 1);
            fence_async_proxy(); /* warps have written there, too */
        }
        f.fetch_x();
        if (i == 0) {
            await_previous();
            if (k.lane == 0)
                f.fetch_zx();
        }
        await_together(signals.numbers, i);
        if (k.lane == 0)
            f.store_past();
        now = next;
    }
    bulk_store_wait();
}

#endif

#endif
