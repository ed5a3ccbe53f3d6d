/* decode_state.cuh -- the state of a block's channels during a launch.
 *
 * It is in shared memory where the states of all layers fit.  Else it stays in
 * the image, and shared memory has room for one layer, loaded ahead.  A thread
 * reads and writes only what belongs to its channel, or to its group of states,
 * in both places.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_DECODE_STATE_CUH
#define MAMBYTE_DECODE_STATE_CUH

#include "cuda/decode/decode_block.cuh"

/* The past of channel c is at k * n_channels + c, oldest first. */
static __device__ __forceinline__ float *
state_past(const struct decode_block *block, int layer)
{
    return block->state +
           (state_stays(block) ? layer * block->plan->state_floats : 0);
}

/* State k of group t of all channels is at k * scan_threads + t. */
template <class S>
static __device__ __forceinline__ float *
state_s(const struct decode_block *block, int layer)
{
    return state_past(block, layer) +
           (S::d_conv(block) - 1) * block->plan->n_channels;
}

/* Where the past of the thread's channel begins in the image. */
static __device__ __forceinline__ float *
image_past(const struct decode_block *block, float *image, int layer)
{
    return image + layer * block->plan->image.layer + block->c0 + block->thread;
}

/* Where group t of states begins there. */
template <class S>
static __device__ __forceinline__ float *
image_s(const struct decode_block *block, float *image, int layer, int t)
{
    const int bits = S::state_bits(block);
    const int g = t & ((1 << bits) - 1);
    return image + layer * block->plan->image.layer + block->plan->image.s +
           g * EXACT_GROUP * S::d_inner(block) + block->c0 + (t >> bits);
}

/* Starts to load the past of the block's channels. */
template <class S>
static __device__ __forceinline__ void
fetch_past(const struct decode_block *block, float *image, int layer)
{
    if (block->thread >= block->n_channels)
        return;
    for (int k = 0; k < S::d_conv(block) - 1; k++)
        copy_bytes<4>(state_past(block, layer) + k * block->plan->n_channels +
                          block->thread,
                      image_past(block, image, layer) + k * S::d_inner(block));
}

/* Starts to load group t of states. */
template <class S>
static __device__ __forceinline__ void
fetch_states(const struct decode_block *block, float *image, int layer, int t)
{
    if (t >= block->n_channels << S::state_bits(block))
        return;
#pragma unroll
    for (int k = 0; k < EXACT_GROUP; k++)
        copy_bytes<4>(
            state_s<S>(block, layer) + k * block->plan->scan_threads + t,
            image_s<S>(block, image, layer, t) + k * S::d_inner(block));
}

/* Before the first byte of a launch: loads the state that stays, or that of the
 * first layer. */
template <class S>
static __device__ void state_load(const struct decode_block *block,
                                  float *image)
{
    const int n_layer = state_stays(block) ? block->plan->config.n_layer : 1;
#pragma unroll 1
    for (int l = 0; l < n_layer; l++) {
        if (state_stays(block))
            fetch_past<S>(block, image, l);
        for (int t = block->scan_thread; t < block->plan->scan_threads;
             t += N_THREADS)
            fetch_states<S>(block, image, l, t);
    }
    copy_wait_all();
}

/* After the last byte of a launch: stores the state that has stayed. */
template <class S>
static __device__ void state_store(const struct decode_block *block,
                                   float *image)
{
    if (!state_stays(block))
        return;
    const struct decode_plan *p = block->plan;
    for (int l = 0; l < p->config.n_layer; l++) {
        if (block->thread < block->n_channels) {
            for (int k = 0; k < S::d_conv(block) - 1; k++)
                image_past(block, image, l)[k * S::d_inner(block)] =
                    state_past(block, l)[k * p->n_channels + block->thread];
        }
        for (int t = block->scan_thread;
             t < block->n_channels << S::state_bits(block); t += N_THREADS) {
            for (int k = 0; k < EXACT_GROUP; k++)
                image_s<S>(block, image, l, t)[k * S::d_inner(block)] =
                    state_s<S>(block, l)[k * p->scan_threads + t];
        }
    }
}

#endif
