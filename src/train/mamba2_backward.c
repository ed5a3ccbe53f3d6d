/* mamba2_backward.c -- the mixer of Mamba-2, backward.
 *
 * SPDX-License-Identifier: MIT
 */
#include <string.h>

#include "train/mamba2_parts.h"

static struct gate_pass gate_of(struct backward *b, int l)
{
    const struct model_config *c = config_of(b);
    const struct mamba2 *m = b->mamba2;
    return (struct gate_pass){
        .v = m->tapes[l].v,
        .weight = weight_at(b, l, P_GATE_NORM),
        .epsilon = c->norm_epsilon,
        .d = c->d_inner,
        .n_groups = c->n_groups,
        .r = m->r,
        .dy = b->dy,
        .dv = m->dv,
        .dweight = gradient_at(b, l, P_GATE_NORM),
    };
}

static struct chunk_pass chunk_of(struct backward *b, int thread, int l, int w,
                                  int head, int k)
{
    const struct model_config *c = config_of(b);
    const struct mamba2 *m = b->mamba2;
    const struct mamba2_tape *tape = &m->tapes[l];
    size_t row = mamba2_first_row(b, w, k), heads = (size_t)c->n_heads;
    size_t d_in = (size_t)b->d_in, channels = (size_t)conv_channels(c);
    size_t d_inner = (size_t)c->d_inner, n = (size_t)c->d_state;
    size_t first = (size_t)head * (size_t)c->headdim;
    size_t group = (size_t)(head / (c->n_heads / c->n_groups));
    const float *xbc = tape->xbc + row * channels;
    const float *in = b->tapes[l].in + row * d_in;
    float *din = b->din + row * d_in;
    float *dbc = m->dbc + (row * heads + (size_t)head) * 2 * n;
    float *dscalars = m->dscalars + ((size_t)w * heads + (size_t)head) * 3;
    size_t b_at = d_inner + group * n, dt_at = d_inner + channels;
    return (struct chunk_pass){
        .n_t = mamba2_chunk_bytes(b, k),
        .headdim = c->headdim,
        .d_state = c->d_state,
        .imitates = b->imitates,
        .x = xbc + first,
        .b = xbc + b_at,
        .c = xbc + b_at + (size_t)c->n_groups * n,
        .ld_xbc = channels,
        .z = in + first,
        .dt = in + dt_at + head,
        .ld_in = d_in,
        .s = mamba2_states_at(b, l, w, k) + first * n,
        .a_log2e = tape->a_log2e[head],
        .dt_bias = weight_at(b, l, P_DT_BIAS)[head],
        .d = weight_at(b, l, P_D)[head],
        .delta_min = c->delta_min,
        .delta_max = c->delta_max,
        .dv = m->dv + row * d_inner + first,
        .ld_dv = d_inner,
        .ds = m->ds + (size_t)thread * (size_t)c->headdim * n,
        .dx = m->dxbc + row * channels + first,
        .dz = din + first,
        .ddt = din + dt_at + head,
        .db = dbc,
        .dc = dbc + n,
        .ld_dbc = heads * 2 * n,
        .ddt_bias = dscalars,
        .da_log = dscalars + 1,
        .dd = dscalars + 2,
        .room = m->room +
                (size_t)thread * chunk_room_floats(c->headdim, c->d_state),
    };
}

/* A head of a window, from its last chunk to its first. */
static void head_backward(struct backward *b, int thread, int l, int w,
                          int head)
{
    const struct model_config *c = config_of(b);
    const struct mamba2 *m = b->mamba2;
    size_t n = (size_t)c->headdim * (size_t)c->d_state;
    size_t at = ((size_t)w * (size_t)c->n_heads + (size_t)head) * 3;
    memset(m->ds + (size_t)thread * n, 0, n * sizeof(float));
    memset(m->dscalars + at, 0, 3 * sizeof(float));
    for (int k = m->n_chunks - 1; k >= 0; k--) {
        struct chunk_pass job = chunk_of(b, thread, l, w, head, k);
        b->kernels->chunk_backward(&job);
    }
}

/* dB and dC of this thread's rows: the sums over the heads of each group. */
static void sum_heads(struct backward *b, int thread)
{
    const struct model_config *c = config_of(b);
    const struct mamba2 *m = b->mamba2;
    struct range t = rows_of(b, thread);
    int n = c->d_state, a_group = c->n_heads / c->n_groups;
    for (int row = t.begin; row < t.end; row++) {
        float *db =
            m->dxbc + (size_t)row * (size_t)conv_channels(c) + c->d_inner;
        float *dc = db + c->n_groups * n;
        const float *from = m->dbc + (size_t)row * (size_t)(2 * c->n_heads * n);
        memset(db, 0, sizeof(float) * (size_t)(2 * c->n_groups * n));
        for (int h = 0; h < c->n_heads; h++, from += 2 * n) {
            int at = h / a_group * n;
            for (int i = 0; i < n; i++) {
                db[at + i] += from[i];
                dc[at + i] += from[n + i];
            }
        }
    }
}

/* dt_bias, A_log and D get the sums over the windows. */
static void sum_windows(struct backward *b, int l)
{
    static const enum place places[] = {P_DT_BIAS, P_A_LOG, P_D};
    int n_heads = config_of(b)->n_heads;
    const float *from = b->mamba2->dscalars;
    for (int w = 0; w < b->n_windows; w++) {
        for (int h = 0; h < n_heads; h++) {
            for (int i = 0; i < 3; i++)
                gradient_at(b, l, places[i])[h] += *from++;
        }
    }
}

static void convolve_backward(struct backward *b, int thread, int l)
{
    const struct model_config *c = config_of(b);
    const struct mamba2 *m = b->mamba2;
    const struct mamba2_tape *tape = &m->tapes[l];
    size_t channels = (size_t)conv_channels(c), d_in = (size_t)b->d_in;
    struct range mine = share_of(b, blocks_of((int)channels), thread);
    for (int block = mine.begin; block < mine.end; block++) {
        for (int w = 0; w < b->n_windows; w++) {
            size_t row = mamba2_first_row(b, w, 0);
            struct conv_pass job = {
                .in = b->tapes[l].in + row * d_in + c->d_inner,
                .ld_in = d_in,
                .history = mamba2_conv_state(b, state_before(b, w), l),
                .conv = tape->conv,
                .bias = weight_at(b, l, P_CONV_BIAS),
                .n_t = b->n_t,
                .d_inner = (int)channels,
                .d_conv = c->d_conv,
                .du = m->dxbc + row * channels,
                .din = b->din + row * d_in + c->d_inner,
                .dconv = tape->dconv,
                .dbias = gradient_at(b, l, P_CONV_BIAS),
                .da = m->da + (size_t)thread * (size_t)b->n_t * LANES,
            };
            b->kernels->conv_backward(&job, block);
        }
    }
}

void mamba2_backward(struct backward *b, int thread, int l)
{
    const struct model_config *c = config_of(b);
    struct range t = rows_of(b, thread);
    struct range heads = share_of(b, b->n_windows * c->n_heads, thread);
    struct range columns = share_of(b, c->d_inner, thread);
    struct gate_pass gate = gate_of(b, l);

    b->kernels->gate_backward(&gate, t.begin, t.end);
    meet(b);
    b->kernels->gate_backward_weight(&gate, b->n_rows, columns.begin,
                                     columns.end);
    for (int i = heads.begin; i < heads.end; i++)
        head_backward(b, thread, l, i / c->n_heads, i % c->n_heads);
    meet(b);
    sum_heads(b, thread);
    if (thread == 0)
        sum_windows(b, l);
    meet(b);
    convolve_backward(b, thread, l);
    meet(b);
}
