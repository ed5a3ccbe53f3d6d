/* decode_mamba2_heads.cuh -- Mamba-2's recurrence for a byte: v of a block's
 * channels.
 *
 * A warp has some channels of a head.  It computes for itself all that they
 * share: B^, C^, g, the weights w and m^.  Handing those on would take longer.
 * A lane has bytes s = lane and lane + 32 of the chunk, or states n = 2 lane
 * and 2 lane + 1, and so on 64 further.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_DECODE_MAMBA2_HEADS_CUH
#define MAMBYTE_DECODE_MAMBA2_HEADS_CUH

#include "cuda/decode/decode_mamba2_rows.cuh"

/* A warp's part of a head: channels first, first + stride, .. before end, of
 * the block's. */
struct unit {
    int head;
    int first, end, stride;
    bool keeps; /* it stores what all parts of the head have */
    struct mamba2_senders senders;
};

/* Part i of all that a block has. */
template <class S>
static __device__ __forceinline__ struct unit
unit_at(const struct decode_block *block, int i)
{
    const struct mamba2_block *m = &block->mamba2;
    const int part = i & ((1 << m->unit_bits) - 1);
    struct unit u;
    u.head = m->share.first_head + (i >> m->unit_bits);
    const int first = u.head * S::headdim(block) - block->c0;
    u.first = max(first, 0) + part;
    u.end = min(first + S::headdim(block), block->n_channels);
    u.stride = 1 << m->unit_bits;
    u.keeps = part == 0;
    u.senders = m->senders;
    if (i >= N_WARPS)
        u.senders = senders_of(block->plan, &m->share, u.head);
    return u;
}

static __device__ __forceinline__ int n_units(const struct decode_block *block)
{
    const struct mamba2_share *s = &block->mamba2.share;
    return (s->end_head - s->first_head) << block->mamba2.unit_bits;
}

/* ---- int8 ---------------------------------------------------------------- */

/* Two numbers, quantised, in the low bytes. */
static __device__ __forceinline__ uint32_t pair_of(float x, float y,
                                                   struct exact_scale s)
{
    const uint32_t a = exact_bits(fmaf(x, s.inverse, EXACT_ROUND));
    const uint32_t b = exact_bits(fmaf(y, s.inverse, EXACT_ROUND));
    return s.scale == 0.0f ? 0 : __byte_perm(a, b, 0x0040) & 0xffff;
}

/* The sum of the products of two such pairs. */
static __device__ __forceinline__ int32_t dot_pair(uint32_t a, uint32_t b)
{
    return __dp4a((int)a, (int)b, 0);
}

/* B or C of a group, int8; pair k of a lane is its states 2 lane + 64 k. */
template <class S>
static __device__ __forceinline__ float
quantise_words(uint32_t q[S::pairs], const struct decode_block *block,
               const uint64_t *words, uint32_t epoch)
{
    float2 x[S::pairs];
    uint32_t amax = 0;
#pragma unroll
    for (int k = 0; k < S::pairs; k++) {
        const int n = 2 * block->lane + 2 * WARP * k;
        x[k] = make_float2(0.0f, 0.0f);
        if (n < S::d_state(block))
            x[k] = cluster_pair_wait(words + n, epoch);
        amax = max(amax, max(magnitude_bits(x[k].x), magnitude_bits(x[k].y)));
    }
    const struct exact_scale scale = scale_of(warp_max(amax));
#pragma unroll
    for (int k = 0; k < S::pairs; k++)
        q[k] = pair_of(x[k].x, x[k].y, scale);
    return scale.scale;
}

/* ---- a group ------------------------------------------------------------- */

/* What a warp knows of the group of its head at this byte. */
template <class S> struct group_byte {
    uint32_t c[S::pairs]; /* C^ */
    float b_scale, c_scale;
    int32_t g[2]; /* of the lane's bytes; 0 after this byte */
};

/* g of byte s < place. */
template <class S>
static __device__ __forceinline__ int32_t
score(const struct decode_block *block, const int8_t *b, const int8_t *c, int s)
{
    const int8_t *row = b + s * block->plan->deal.b_stride;
    int32_t sum = 0;
#pragma unroll
    for (int i = 0; i < S::d_state(block); i += COPY_ALIGN)
        sum = dot16(*(const int4 *)(row + i), *(const int4 *)(c + i), sum);
    return sum;
}

/* keeps: this warp stores B^ of the byte. */
template <class S>
static __device__ __forceinline__ struct group_byte<S>
group_in(const struct decode_block *block, int group, bool keeps, int layer,
         uint32_t epoch) {
    const struct decode_plan *p = block->plan;
    const struct mamba2_share *s = &block->mamba2.share;
    const int n_states = S::d_state(block), place = block->mamba2.place;
    const uint64_t *words = memory_words(block, p->memory.mamba2.bc_words) +
                            2 * (group - s->g0) * n_states;
    int8_t *c = (int8_t *)block->memory + p->memory.mamba2.c_q +
                block->warp * p->memory.mamba2.c_stride;
    const int b_at = (group - s->first_group) * CHUNK * p->deal.b_stride;
    int8_t *b = state_at(block, layer).b + b_at;
    struct group_byte<S> byte;
    uint32_t b_q[S::pairs];
    byte.b_scale = quantise_words<S>(b_q, block, words, epoch);
    byte.c_scale = quantise_words<S>(byte.c, block, words + n_states, epoch);
    int32_t own = 0;
#pragma unroll
    for (int k = 0; k < S::pairs; k++) {
        const int n = 2 * block->lane + 2 * WARP * k;
        own += dot_pair(byte.c[k], b_q[k]);
        if (n < n_states)
            *(uint16_t *)(c + n) = (uint16_t)byte.c[k];
        if (n < n_states && keeps) {
            const int at = place * p->deal.b_stride + n;
            *(uint16_t *)(b + at) = (uint16_t)b_q[k];
            *(uint16_t *)(state_kept(block, layer).b + b_at + at) =
                (uint16_t)b_q[k];
        }
    }
    own = (int32_t)warp_sum((uint32_t)own);
    __syncwarp(); /* every lane reads all of C^ */
#pragma unroll
    for (int k = 0; k < 2; k++) {
        const int at = block->lane + k * WARP;
        byte.g[k] = at == place ? own : 0;
        if (at < place)
            byte.g[k] = score<S>(block, b, c, at);
    }
    __syncwarp(); /* C^ is read, and may be overwritten */
    return byte;
}

/* ---- a head -------------------------------------------------------------- */

/* What a warp knows of its head at this byte. */
struct head_byte {
    struct exact_scale x_scale;
    float decay; /* E */
    float m_scale;
    uint32_t m;  /* m^ of the lane's bytes, without this byte's */
    int32_t own; /* m^ of this byte */
};

static __device__ __forceinline__ float
word_of_cluster(const struct decode_block *block, int offset, int i,
                uint32_t epoch)
{
    return cluster_word_wait(memory_words(block, offset) + i, epoch);
}

/* The scale of x^ of a head, from what its blocks sent. */
static __device__ __forceinline__ struct exact_scale
head_x_scale(const struct decode_block *block, int head,
             struct mamba2_senders from, uint32_t epoch)
{
    const int slot =
        (head - block->mamba2.share.h0) * block->plan->cluster + from.first;
    uint32_t amax = 0;
    if (from.first + block->lane <= from.last)
        amax =
            exact_bits(word_of_cluster(block, block->plan->memory.mamba2.maxima,
                                       (slot + block->lane) * N_WARPS, epoch));
    return scale_of(warp_max(amax));
}

/* Also stores w and E, where that is the warp's. */
template <class S>
static __device__ __forceinline__ struct head_byte
head_in(const struct decode_block *block, const struct group_byte<S> *group,
        const struct unit *unit, int layer, uint32_t epoch)
{
    const struct decode_plan *p = block->plan;
    const int place = block->mamba2.place, n_heads = p->deal.n_heads;
    const int h = unit->head - block->mamba2.share.first_head;
    const int steps = p->memory.mamba2.steps;
    const int step = 2 * (unit->head - block->mamba2.share.h0);
    const int read = parity_read(block) * n_heads + h;
    const int left = parity_left(block) * n_heads + h;
    const struct mamba2_parts old = state_at(block, layer);
    float w[2] = {old.w[read * CHUNK + block->lane],
                  old.w[read * CHUNK + block->lane + WARP]};
    const float e = old.e[read];
    struct head_byte byte;
    byte.x_scale = head_x_scale(block, unit->head, unit->senders, epoch);
    const float delta = word_of_cluster(block, steps, step, epoch);
    const float alpha = word_of_cluster(block, steps, step + 1, epoch);
    byte.decay = place == 0 ? alpha : exact_or_zero(e * alpha, EXACT_DECAY_MIN);
    const float weight =
        exact_weight(delta, byte.x_scale.scale, group->b_scale);
    float m[2];
#pragma unroll
    for (int k = 0; k < 2; k++) {
        const int s = block->lane + k * WARP;
        w[k] = exact_or_zero(w[k] * alpha, EXACT_WEIGHT_MIN);
        w[k] = s < place ? w[k] : s == place ? weight : 0.0f;
        m[k] = (float)group->g[k] * w[k];
    }
    const struct exact_scale scale = scale_of_products(
        warp_max(max(magnitude_bits(m[0]), magnitude_bits(m[1]))));
    byte.m_scale = scale.scale;
    const uint32_t q = pair_of(m[0], m[1], scale);
    const uint32_t own = __shfl_sync(WHOLE_WARP, q, place % WARP);
    byte.own = (int8_t)(uint8_t)(own >> place / WARP * 8);
    byte.m = block->lane < place ? q & 0xff : 0;
    byte.m |= block->lane + WARP < place ? q & 0xff00 : 0;
    if (unit->keeps) {
        const struct mamba2_parts kept = state_kept(block, layer);
        kept.w[left * CHUNK + block->lane] = w[0];
        kept.w[left * CHUNK + block->lane + WARP] = w[1];
        if (block->lane == 0)
            kept.e[left] = byte.decay;
    }
    return byte;
}

/* ---- channels ------------------------------------------------------------ */

/* Some channels: channel k's for all lanes, and for lane k what else it is to
 * know of channel k; then lane 4 + k has the same, and so on. */
template <class S, int n> struct some_channels {
    uint32_t s[n][S::pairs]; /* S^ of the lane's states */
    uint32_t x[n];           /* x^ of the lane's bytes */
    int c;                   /* the lane's own channel */
    bool is_mine;            /* the lane finishes that */
    float own_x, gate, d, s_scale;
};

template <class S, int n>
static __device__ __forceinline__ struct some_channels<S, n>
channels_load(const struct decode_block *block, const struct unit *unit,
              int first, weight_place d, int layer) {
    const struct mamba2_parts state = state_at(block, layer);
    const int n_states = S::d_state(block);
    struct some_channels<S, n> some;
#pragma unroll
    for (int i = 0; i < n; i++) {
        const int next = first + i * unit->stride;
        const int c = next < unit->end ? next : first; /* no other warp's */
        some.x[i] = *(const uint16_t *)(state.x + c * CHUNK + 2 * block->lane);
#pragma unroll
        for (int k = 0; k < S::pairs; k++) {
            const int at = 2 * block->lane + 2 * WARP * k;
            some.s[i][k] = 0;
            if (at < n_states)
                some.s[i][k] =
                    *(const uint16_t *)(state.s_q + c * n_states + at);
        }
    }
    const int mine = first + block->lane % n * unit->stride;
    some.is_mine = block->lane < n && mine < unit->end;
    some.c = mine < unit->end ? mine : first;
    some.own_x = block->u[some.c];
    some.gate = block->gate[some.c];
    some.s_scale = state.s_scale[some.c];
    some.d = share_float(block, d, some.c);
    return some;
}

/* Of S^ C^, lane k gets channel k's. */
template <class S, int n>
static __device__ __forceinline__ int32_t
channels_read(const struct some_channels<S, n> *some,
              const struct group_byte<S> *group, int lane)
{
    int32_t sum[n];
#pragma unroll
    for (int i = 0; i < n; i++) {
        sum[i] = 0;
#pragma unroll
        for (int k = 0; k < S::pairs; k++)
            sum[i] += dot_pair(some->s[i][k], group->c[k]);
    }
    return warp_sum_each<n>(sum, lane % n);
}

/* v of the channels, to all blocks; their x^ of this byte is kept. */
template <class S, int n>
static __device__ __forceinline__ void
channels_finish(const struct decode_block *block,
                const struct some_channels<S, n> *some,
                const struct group_byte<S> *group, const struct head_byte *head,
                int32_t read, int layer, uint32_t epoch)
{
    const int place = block->mamba2.place;
    int32_t sum[n];
#pragma unroll
    for (int i = 0; i < n; i++)
        sum[i] = dot_pair(some->x[i], head->m);
    int8_t x = exact_quantise(some->own_x, head->x_scale.inverse);
    x = head->x_scale.scale == 0.0f ? 0 : x;
    const int32_t mixed =
        warp_sum_each<n>(sum, block->lane % n) + head->own * x;
    float y = (float)mixed * (head->m_scale * group->c_scale);
    y = fmaf((float)read, some->s_scale * (group->c_scale * head->decay), y);
    y = fmaf(some->d, (float)x * head->x_scale.scale, y);
    if (!some->is_mine)
        return;
    word_publish(block->plan->y_words + block->c0 + some->c, y * some->gate,
                 epoch);
    const int at = some->c * CHUNK + x_place(place);
    state_at(block, layer).x[at] = x;
    state_kept(block, layer).x[at] = x;
}

/* n channels at a time. */
template <class S, int n>
static __device__ __forceinline__ void
run_unit(const struct decode_block *block, const struct unit *unit,
         weight_place d, int layer, uint32_t epoch)
{
    const int index = S::group_of(block, unit->head);
    const bool is_first = unit->head == block->mamba2.share.first_head ||
                          S::group_of(block, unit->head - 1) != index;
    struct some_channels<S, n> some =
        channels_load<S, n>(block, unit, unit->first, d, layer);
    const struct group_byte<S> group =
        group_in<S>(block, index, unit->keeps && is_first, layer, epoch);
    int32_t read = channels_read<S, n>(&some, &group, block->lane);
    const struct head_byte head = head_in<S>(block, &group, unit, layer, epoch);
    channels_finish<S, n>(block, &some, &group, &head, read, layer, epoch);
#pragma unroll 1
    for (int first = unit->first + n * unit->stride; first < unit->end;
         first += n * unit->stride) {
        some = channels_load<S, n>(block, unit, first, d, layer);
        read = channels_read<S, n>(&some, &group, block->lane);
        channels_finish<S, n>(block, &some, &group, &head, read, layer, epoch);
    }
}

/* v of the block's channels.  d: where D begins. */
template <class S>
static __device__ __forceinline__ void
run_heads(const struct decode_block *block, weight_place d, int layer,
          uint32_t epoch)
{
#pragma unroll 1
    for (int i = block->warp; i < n_units(block); i += N_WARPS) {
        const struct unit unit = unit_at<S>(block, i);
        if (unit.first >= unit.end)
            continue;
        if (unit.first + 2 * unit.stride >= unit.end)
            run_unit<S, 2>(block, &unit, d, layer, epoch);
        else
            run_unit<S, 4>(block, &unit, d, layer, epoch);
    }
}

#endif
