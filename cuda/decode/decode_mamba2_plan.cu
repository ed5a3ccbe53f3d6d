/* decode_mamba2_plan.cu -- deals Mamba-2 out to the blocks of the decode
 * kernel.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/decode/decode_mamba2_plan.cuh"

enum {
    CHANNELS_MAX = 2 * WARP, /* of a block: two a lane of a warp        */
    EXTRA_MAX = 2 * WARP,    /* rows of B, C and dt: a thread each      */
    ROWS_MAX = 16,           /* of a warp                               */
    SENDERS_MAX = WARP / 4   /* blocks that have channels of a head     */
};

static int more(int a, int b)
{
    return a > b ? a : b;
}

/* What the busiest block has. */
static void find_most(struct decode_plan *p)
{
    struct mamba2_deal *d = &p->deal;
    for (int i = 0; i < p->n_blocks; i++) {
        struct mamba2_share s = mamba2_share_of(p, i);
        p->n_channels = more(p->n_channels, s.n_channels);
        p->in.rows = more(p->in.rows, 2 * s.n_channels + s.n_extra);
        d->n_extra = more(d->n_extra, s.n_extra);
        d->n_heads = more(d->n_heads, s.end_head - s.first_head);
        d->n_groups = more(d->n_groups, s.end_group - s.first_group);
    }
}

/* ---- rows of warps --------------------------------------------------------
 */

/* Whether row k of a warp with n channels is of x or z. */
static bool is_channel_row(const struct mamba2_deal *d, int k, int n)
{
    return k < n || (k >= d->warp_channels && k < d->warp_channels + n);
}

/* Lists the rows of in_proj of a block whose warps have rows; false when some
 * extra rows find no place. */
static bool list_warp_rows(const struct decode_plan *p, int block, int *rows)
{
    const struct model_config *c = &p->config;
    const struct mamba2_deal *d = &p->deal;
    const struct mamba2_share s = mamba2_share_of(p, block);
    int e = 0;
    for (int i = 0; i < d->warp_rows * N_WARPS; i++) {
        const int k = i / N_WARPS;
        const struct mamba2_unit u =
            mamba2_unit_of(&s, c->headdim, i % N_WARPS);
        const int slot = k % d->warp_channels;
        const int channel = s.channel0 + s.c0 + u.first + slot * u.stride;
        if (is_channel_row(d, k, mamba2_unit_channels(&u)))
            rows[i] = k < d->warp_channels ? c->d_inner + channel : channel;
        else if (e < s.n_extra)
            rows[i] = mamba2_extra_row(c, &s, s.e0 + e++);
        else
            rows[i] = -1;
    }
    return e == s.n_extra;
}

static void list_rows(const struct decode_plan *p, int block, int *rows)
{
    const struct mamba2_share s = mamba2_share_of(p, block);
    const int c0 = s.channel0 + s.c0, n = s.n_channels;
    if (p->deal.warp_rows > 0) {
        int all[ROWS_MAX * N_WARPS];
        list_warp_rows(p, block, all);
        memcpy(rows, all, p->in.rows * sizeof *rows);
        return;
    }
    for (int i = 0; i < p->in.rows; i++) {
        rows[i] = i < n ? c0 + i : p->config.d_inner + c0 + i - n;
        if (i >= 2 * n)
            rows[i] = i < 2 * n + s.n_extra
                          ? mamba2_extra_row(&p->config, &s, s.e0 + i - 2 * n)
                          : -1;
    }
}

int *mamba2_list_rows(const struct decode_plan *p)
{
    int *rows = (int *)malloc((size_t)p->n_blocks * p->in.rows * sizeof *rows);
    for (int i = 0; rows != NULL && i < p->n_blocks; i++)
        list_rows(p, i, rows + (size_t)i * p->in.rows);
    return rows;
}

/* The rows up to the last one that a block has. */
static int count_rows(const int *rows, int n)
{
    while (n > 0 && rows[n - 1] < 0)
        n--;
    return n;
}

/* Gives each warp channels and rows; false when this does not fit. */
static bool deal_to_warps(struct decode_plan *p)
{
    struct mamba2_deal *d = &p->deal;
    int rows[ROWS_MAX * N_WARPS];
    int most = 0, least = CHANNELS_MAX, far = 0;
    for (int i = 0; i < p->n_blocks; i++) {
        struct mamba2_share s = mamba2_share_of(p, i);
        for (int w = 0; w < N_WARPS; w++) {
            struct mamba2_unit u = mamba2_unit_of(&s, p->config.headdim, w);
            struct mamba2_senders from = senders_of(p, &s, u.head);
            int n = mamba2_unit_channels(&u);
            most = more(most, n);
            least = n < least ? n : least;
            far = more(far, from.last - from.first + 1);
        }
    }
    d->warp_channels = most;
    if (least == 0 || far > SENDERS_MAX ||
        most > mamba2_unit_most(&p->config) || d->n_heads > 2)
        return false;
    for (d->warp_rows = 2 * most; d->warp_rows <= ROWS_MAX; d->warp_rows++) {
        bool fits = true;
        p->in.rows = 0;
        for (int i = 0; i < p->n_blocks && fits; i++) {
            fits = list_warp_rows(p, i, rows);
            p->in.rows =
                more(p->in.rows, count_rows(rows, d->warp_rows * N_WARPS));
        }
        if (fits)
            return true;
    }
    return false;
}

/* ---- the plan ------------------------------------------------------------ */

/* No more blocks than rows of h: whoever has all of h then knows that all
 * blocks have read all of v. */
static bool mamba2_deal_out(struct decode_plan *p,
                            const struct decode_limits *limits)
{
    const struct model_config *c = &p->config;
    const int size = limits->cluster;
    if (size == 0 || !limits->has_ring || c->d_model / 4 < size)
        return false;
    int n = limits->n_blocks / size;
    n = n < c->d_model / size ? n : c->d_model / size;
    n = n < c->n_heads ? n : c->n_heads;
    if (n == 0 || c->n_heads / n * c->headdim < size)
        return false;
    p->cluster = size;
    p->deal.n_clusters = n;
    p->n_blocks = n * size;
    p->n_parts = 1;
    find_most(p);
    if (p->n_channels > CHANNELS_MAX || p->deal.n_extra > EXTRA_MAX)
        return false;
    return !mamba2_has_kernel(c) || deal_to_warps(p);
}

/* Where the parts of a block's state begin in a layer. */
static void size_state(struct decode_plan *p)
{
    const struct model_config *c = &p->config;
    struct mamba2_deal *d = &p->deal;
    int n = (c->d_conv - 1) * p->in.rows * (int)sizeof(float);
    d->w = round_up(n, COPY_ALIGN);
    d->e = d->w + 2 * d->n_heads * CHUNK * (int)sizeof(float);
    n = d->e + 2 * d->n_heads * (int)sizeof(float);
    d->s_scale = round_up(n, COPY_ALIGN);
    n = d->s_scale + p->n_channels * (int)sizeof(float);
    d->s_q = round_up(n, COPY_ALIGN);
    d->x = d->s_q + p->n_channels * c->d_state;
    d->b = d->x + p->n_channels * CHUNK;
    d->b_stride = c->d_state + B_GAP;
    d->state_bytes = d->b + d->n_groups * CHUNK * d->b_stride;
    p->state_floats = d->state_bytes / (int)sizeof(float);
}

static void mamba2_size(struct decode_plan *p)
{
    const struct model_config *c = &p->config;
    const int n = p->in.rows;
    p->in = share_make(n, c->d_model, (2 + c->d_conv) * n);
    p->rows_unit = p->deal.warp_rows > 0 ? 4 * N_WARPS : 1;
    p->scan = share_make(0, 0, p->n_channels);
    p->x = share_make(0, 0, c->d_inner);
    p->out_before = p->x.bytes;
    p->layout = mamba2_layout_of(c);
    p->deal.conv_channels = conv_channels(c);
    p->deal.has_strips = mamba2_has_strips(c);
    p->deal.has_out_strips = mamba2_has_kernel(c);
    size_state(p);
}

static void mamba2_lay_out(struct decode_plan *p, int *offset)
{
    const struct model_config *c = &p->config;
    struct mamba2_memory *m = &p->memory.mamba2;
    int heads = 0, groups = 0;
    for (int i = 0; i < p->n_blocks; i += p->cluster) {
        struct mamba2_share s = mamba2_share_of(p, i);
        heads = more(heads, s.n_heads);
        groups = more(groups, s.n_groups);
    }
    m->c_stride = round_up(more(c->d_state, CHUNK), COPY_ALIGN);
    m->c_q = memory_take(offset, (size_t)N_WARPS * m->c_stride);
    m->out_sums = memory_take(offset, p->n_rows * sizeof(int32_t));
    m->squares = memory_take(offset, c->n_heads * sizeof(float));
    m->largest = memory_take(offset, c->n_heads * sizeof(uint32_t));
    m->groups = memory_take(offset, 2 * MAMBA2_GROUPS_MAX * sizeof(float));
    m->bc_words =
        memory_take(offset, 2 * (size_t)groups * c->d_state * sizeof(uint64_t));
    m->steps = memory_take(offset, 2 * (size_t)heads * sizeof(uint64_t));
    m->maxima = memory_take(offset, (size_t)heads * p->cluster * N_WARPS *
                                        sizeof(uint64_t));
}

const struct plan_mixer plan_mamba2 = {mamba2_deal_out, mamba2_size,
                                       mamba2_lay_out, 5, 2};
