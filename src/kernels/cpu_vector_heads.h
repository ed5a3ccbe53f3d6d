/* cpu_vector_heads.h -- the recurrence of Mamba-2 in vectors, head by head.
 *
 * Included by cpu_vector_mamba2.h only, after cpu_vector_panels.h.
 *
 * SPDX-License-Identifier: MIT
 */
/* The bytes of a job, for one head. */
struct head_work {
    const struct mamba2_job *job;
    int h, group;
    bool is_last; /* of the heads */
    int n_places; /* those with a weight at the end, up to whole panels */
    size_t at, at_group;      /* of the first byte: [row][h], [row][group] */
    int8_t m_q[CHUNK][CHUNK]; /* [t][s] */
    float m_scale[CHUNK];
    int32_t m_sum[CHUNK], c_sum[CHUNK];
    float e[CHUNK];
    pair_sums near[HEADDIM_MAX / PAIR_ROWS * CHUNK]; /* m^ x^ */
    pair_sums far[HEADDIM_MAX / PAIR_ROWS * CHUNK];  /* S^ C^ */
};

/* w with k in lane i. */
static inline vfloat with_lane(vfloat w, float k, int i)
{
    static const int32_t lanes[] = {0, 1, 2,  3,  4,  5,  6,  7,
                                    8, 9, 10, 11, 12, 13, 14, 15};
    vint all;
    memcpy(&all, lanes, sizeof all);
    vint is = all == i;
    return (vfloat)(((vint)w & ~is) | ((vint)v_set1(k) & is));
}

/* Weights and m^ of a byte, the first n of them, a constant: those of place
 * are k, those before it decay, those after it are 0. */
static inline __attribute__((always_inline)) void
mix_byte(int8_t *m_q, float *m_scale, int32_t *m_sum, float *w, float alpha,
         float k, const int32_t *scores, int place, const int n)
{
    vfloat m[CHUNK / V_LANES];
    vint largest = {0};
#pragma GCC unroll 16
    for (int i = 0; i < n / V_LANES; i++) {
        int s = i * V_LANES;
        vint g;
        memcpy(&g, scores + s, sizeof g);
        vfloat weight =
            v_or_zero(v_load(w + s) * v_set1(alpha), EXACT_WEIGHT_MIN);
        if (place / V_LANES == i)
            weight = with_lane(weight, k, place % V_LANES);
        v_store(w + s, weight);
        m[i] = __builtin_convertvector(g, vfloat) * weight;
        largest = v_int_max(largest, v_magnitude(m[i]));
    }
    struct exact_scale scale = exact_scale_of_products(v_max_of(largest));
    *m_scale = scale.scale;
    *m_sum = 0;
    if (scale.scale == 0.0f)
        return;
    vint sums = {0};
#pragma GCC unroll 16
    for (int i = 0; i < n / V_LANES; i++) {
        vint rounded =
            (vint)v_fma(m[i], v_set1(scale.inverse), v_set1(EXACT_ROUND));
        v_store_bytes(m_q + i * V_LANES, rounded);
        sums += rounded - (vint)v_set1(EXACT_ROUND);
    }
    *m_sum = v_sum_of(sums);
}

/* Weights, E and m^ of all bytes, one after the other. */
static void mix(struct head_work *work)
{
    const struct mamba2_job *job = work->job;
    const struct mamba2_rows *rows = job->rows;
    size_t n_heads = (size_t)job->config->n_heads;
    size_t n_groups = (size_t)job->config->n_groups;
    float *w = job->state->w + (size_t)work->h * CHUNK;
    float e = job->state->e[work->h];
    memset(work->m_q, 0, (size_t)job->n_t * CHUNK);
    for (int t = 0; t < job->n_t; t++) {
        size_t at = work->at + (size_t)t * n_heads;
        size_t at_group = work->at_group + (size_t)t * n_groups;
        const int32_t *g = rows->scores + at_group * CHUNK;
        int place = job->place + t;
        int8_t *m_q = work->m_q[t];
        float *scale = &work->m_scale[t], alpha = rows->alpha[at];
        int32_t *sum = &work->m_sum[t];
        float k = exact_weight(rows->delta[at], rows->x_scale[at],
                               rows->b_scale[at_group]);
        e = place == 0 ? alpha : exact_or_zero(e * alpha, EXACT_DECAY_MIN);
        work->e[t] = e;
        work->c_sum[t] = rows->c_sum[at_group];
        if (place < 16)
            mix_byte(m_q, scale, sum, w, alpha, k, g, place, 16);
        else if (place < 32)
            mix_byte(m_q, scale, sum, w, alpha, k, g, place, 32);
        else if (place < 48)
            mix_byte(m_q, scale, sum, w, alpha, k, g, place, 48);
        else
            mix_byte(m_q, scale, sum, w, alpha, k, g, place, 64);
    }
    job->state->e[work->h] = e;
}

static void sum_up(struct head_work *work)
{
    const struct mamba2_job *job = work->job;
    const struct model_config *c = job->config;
    int n_panels = (int)(mamba2_padded_headdim(c) / PANEL_ROWS);
    struct panel_job near = {
        .out = work->near,
        .ld = CHUNK,
        .panels = x_panels(job->state, c, work->h),
        .panel_size = CHUNK_PANEL_SIZE,
        .n_panels = n_panels,
        .x = work->m_q[0],
        .ld_x = CHUNK,
        .x_sum = work->m_sum,
        .n_groups = work->n_places / PANEL_GROUP,
        .n_t = job->n_t,
        .place = job->place,
        .next = work->is_last ? NULL : x_panels(job->state, c, work->h + 1),
    };
    multiply_panels(&near);
    struct panel_job far = {
        .out = work->far,
        .ld = CHUNK,
        .panels = s_panels(job->state, c, work->h),
        .panel_size = states_panel_size(c),
        .n_panels = n_panels,
        .x = job->rows->c + work->at_group * (size_t)c->d_state,
        .ld_x = (size_t)(c->n_groups * c->d_state),
        .x_sum = work->c_sum,
        .n_groups = c->d_state / PANEL_GROUP,
        .n_t = job->n_t,
        .place = -1,
        .next = work->is_last ? NULL : s_panels(job->state, c, work->h + 1),
    };
    multiply_panels(&far);
}

/* What v of a byte of a head is made of. */
struct head_terms {
    float near_scale, far_scale, x_scale;
    const int8_t *x;      /* x^ of the byte, [P] */
    const float *s_scale; /* [P], and so on */
    const float *d, *z, *weight;
    float *v;
};

static struct head_terms terms_of(const struct head_work *work, int t)
{
    const struct mamba2_job *job = work->job;
    const struct model_config *c = job->config;
    size_t at = work->at + (size_t)t * (size_t)c->n_heads;
    size_t at_group = work->at_group + (size_t)t * (size_t)c->n_groups;
    int first = work->h * c->headdim;
    float c_scale = job->rows->c_scale[at_group];
    return (struct head_terms){
        .near_scale = work->m_scale[t] * c_scale,
        .far_scale = c_scale * work->e[t],
        .x_scale = job->rows->x_scale[at],
        .x = job->rows->x + at * (size_t)c->headdim,
        .s_scale = job->state->s_scale + first,
        .d = job->layer->d + first,
        .z = mamba2_z(job, t) + first,
        .weight = job->layer->gate_norm + first,
        .v = mamba2_x(job, t) + first,
    };
}

/* v of V_LANES channels from p on. */
static inline vfloat read_vector(const struct head_terms *r,
                                 const int32_t *near, const int32_t *far, int p)
{
    vint n, f;
    memcpy(&n, near, sizeof n);
    memcpy(&f, far, sizeof f);
    vfloat y = __builtin_convertvector(n, vfloat) * v_set1(r->near_scale);
    y = v_fma(__builtin_convertvector(f, vfloat),
              v_load(r->s_scale + p) * v_set1(r->far_scale), y);
    vfloat x = __builtin_convertvector(v_load_bytes(r->x + p), vfloat);
    y = v_fma(v_load(r->d + p), x * v_set1(r->x_scale), y);
    y *= v_silu(v_load(r->z + p));
    v_store(r->v + p, y);
    return y;
}

static float read_one(const struct head_terms *r, int32_t near, int32_t far,
                      int p)
{
    float y = (float)near * r->near_scale;
    y = fmaf((float)far, r->s_scale[p] * r->far_scale, y);
    y = fmaf(r->d[p], (float)r->x[p] * r->x_scale, y);
    return r->v[p] = y * exact_silu(r->z[p]);
}

/* Adds the squares of x[first] to x[end - 1] to their lanes. */
static void add_squares(vfloat lane[LANE_VECTORS], const float *x, int first,
                        int end)
{
    float some[EXACT_LANES];
    memcpy(some, lane, sizeof some);
    for (int i = first; i < end; i++)
        some[i % EXACT_LANES] = fmaf(x[i], x[i], some[i % EXACT_LANES]);
    memcpy(lane, some, sizeof some);
}

/* v of byte t; returns the sum of squares, and the bits of the largest |u|. */
static float read_head(struct head_work *work, int t, uint32_t *amax)
{
    struct head_terms r = terms_of(work, t);
    int headdim = work->job->config->headdim, p = 0;
    vfloat lane[LANE_VECTORS] = {{0}};
    vint largest = {0};
    for (; p + EXACT_LANES <= headdim; p += EXACT_LANES) {
#pragma GCC unroll 16
        for (int i = 0; i < LANE_VECTORS; i++) {
            int at = p + i * V_LANES;
            vfloat v = read_vector(&r, sums_at(work->near, CHUNK, t, at),
                                   sums_at(work->far, CHUNK, t, at), at);
            lane[i] = v_fma(v, v, lane[i]);
            largest =
                v_int_max(largest, v_magnitude(v * v_load(r.weight + at)));
        }
    }
    for (; p + V_LANES <= headdim; p += V_LANES) {
        vfloat v = read_vector(&r, sums_at(work->near, CHUNK, t, p),
                               sums_at(work->far, CHUNK, t, p), p);
        vfloat *sum = &lane[p % EXACT_LANES / V_LANES];
        *sum = v_fma(v, v, *sum);
        largest = v_int_max(largest, v_magnitude(v * v_load(r.weight + p)));
    }
    *amax = v_max_of(largest);
    int first = p;
    for (; p < headdim; p++) {
        float v = read_one(&r, *sums_at(work->near, CHUNK, t, p),
                           *sums_at(work->far, CHUNK, t, p), p);
        uint32_t u = exact_bits(v * r.weight[p]) & EXACT_ABS_MASK;
        *amax = u > *amax ? u : *amax;
    }
    if (first < headdim)
        add_squares(lane, r.v, first, headdim);
    return lanes_total(lane);
}

/* S of a row after a chunk; returns the bits of the largest. */
static uint32_t add_chunk(float *s, pair_sums *sums, float e, float scale,
                          int n)
{
    vint largest = {0};
    for (int i = 0; i < n; i += V_LANES) {
        vint sum;
        memcpy(&sum, sums_at(sums, PANEL_ROWS, 0, i), sizeof sum);
        vfloat x = v_fma(v_set1(e), v_load(s + i),
                         __builtin_convertvector(sum, vfloat) * v_set1(scale));
        x = v_keep(x, (vfloat)v_magnitude(x), v_set1(EXACT_WEIGHT_MIN));
        v_store(s + i, x);
        largest = v_int_max(largest, v_magnitude(x));
    }
    return v_max_of(largest);
}

/* v^ of the channels of a panel of x^.  On the way to it, the lanes of a vector
 * are four places of some channels, as the panel has them. */
struct weighed {
    int8_t q[PANEL_ROWS][CHUNK];
    float scale[PANEL_ROWS];
    int32_t sum[PANEL_ROWS];
};

enum { GROUP_VECTORS = PANEL_GROUP_SIZE / V_LANES };

/* x w of a panel, in its order; returns the bits of the largest of each place
 * in a group. */
static void weigh(float v[CHUNK_PANEL_SIZE], uint32_t amax[PANEL_GROUP_SIZE],
                  const uint8_t *panel, const float *w)
{
    uint8_t x[CHUNK_PANEL_SIZE];
    for (int i = 0; i < CHUNK_PANEL_SIZE; i++)
        x[i] = panel[i] ^ V_WEIGHT_FLIP;
    vint largest[GROUP_VECTORS] = {{0}};
    for (int g = 0; g < CHUNK_GROUPS; g++) {
        vfloat weights = v_repeat_four(w + g * PANEL_GROUP);
#pragma GCC unroll 16
        for (int i = 0; i < GROUP_VECTORS; i++) {
            int at = g * PANEL_GROUP_SIZE + i * V_LANES;
            vint q = v_load_bytes((const int8_t *)x + at);
            vfloat product = __builtin_convertvector(q, vfloat) * weights;
            v_store(v + at, product);
            largest[i] = v_int_max(largest[i], v_magnitude(product));
        }
    }
    memcpy(amax, largest, sizeof largest);
}

/* q <- v inverse, in the same order; sum is that of each place in a group. */
static void round_panel(int8_t q[CHUNK_PANEL_SIZE],
                        int32_t sum[PANEL_GROUP_SIZE],
                        const float v[CHUNK_PANEL_SIZE],
                        const float inverse[PANEL_GROUP_SIZE])
{
    vint sums[GROUP_VECTORS] = {{0}};
    for (int g = 0; g < CHUNK_GROUPS; g++) {
#pragma GCC unroll 16
        for (int i = 0; i < GROUP_VECTORS; i++) {
            int at = g * PANEL_GROUP_SIZE + i * V_LANES;
            vint rounded =
                (vint)v_fma(v_load(v + at), v_load(inverse + i * V_LANES),
                            v_set1(EXACT_ROUND));
            v_store_bytes(q + at, rounded);
            sums[i] += rounded - (vint)v_set1(EXACT_ROUND);
        }
    }
    memcpy(sum, sums, sizeof sums);
}

/* No product is infinite, so that an inverse of 0, which that of zeros is,
 * makes all q 0. */
static void weigh_panel(struct weighed *out, const uint8_t *panel,
                        const float *w)
{
    float v[CHUNK_PANEL_SIZE], inverse[PANEL_GROUP_SIZE];
    uint32_t amax[PANEL_GROUP_SIZE];
    int8_t q[CHUNK_PANEL_SIZE];
    int32_t sum[PANEL_GROUP_SIZE];
    weigh(v, amax, panel, w);
    for (int i = 0; i < PANEL_ROWS; i++) {
        uint32_t largest = 0;
        for (int k = i * PANEL_GROUP; k < (i + 1) * PANEL_GROUP; k++)
            largest = amax[k] > largest ? amax[k] : largest;
        struct exact_scale s = exact_scale_of_products(largest);
        out->scale[i] = s.scale;
        for (int k = i * PANEL_GROUP; k < (i + 1) * PANEL_GROUP; k++)
            inverse[k] = s.inverse;
    }
    round_panel(q, sum, v, inverse);
    for (int i = 0; i < PANEL_ROWS; i++) {
        const int32_t *four = sum + i * PANEL_GROUP;
        out->sum[i] = four[0] + four[1] + four[2] + four[3];
        for (int g = 0; g < CHUNK_GROUPS; g++)
            memcpy(out->q[i] + g * PANEL_GROUP,
                   q + g * PANEL_GROUP_SIZE + i * PANEL_GROUP, PANEL_GROUP);
    }
}

/* Adds a chunk to rows [p, p + n_p) of the states of a head, those of a panel
 * of x^. */
static void end_chunk_rows(const struct head_work *work, const uint8_t *turned,
                           int p, int n_p)
{
    const struct model_config *c = work->job->config;
    const struct mamba2_state *state = work->job->state;
    struct weighed v;
    int8_t s_q[MAMBA2_D_STATE_MAX];
    pair_sums sums[MAMBA2_D_STATE_MAX / PAIR_ROWS * PANEL_ROWS];
    int32_t sum;
    weigh_panel(&v, x_panels(state, c, work->h) + (size_t)p * CHUNK,
                state->w + (size_t)work->h * CHUNK);
    struct panel_job job = {
        .out = sums,
        .ld = PANEL_ROWS,
        .panels = turned,
        .panel_size = CHUNK_PANEL_SIZE,
        .n_panels = c->d_state / PANEL_ROWS,
        .x = v.q[0],
        .ld_x = CHUNK,
        .x_sum = v.sum,
        .n_groups = CHUNK_GROUPS,
        .n_t = n_p,
        .place = -1,
    };
    multiply_panels(&job);
    for (int i = 0; i < n_p; i++) {
        size_t channel = (size_t)(work->h * c->headdim + p + i);
        float *s = state->s + channel * (size_t)c->d_state;
        uint32_t amax =
            add_chunk(s, sums + i, state->e[work->h], v.scale[i], c->d_state);
        state->s_scale[channel] =
            to_bytes(s_q, &sum, s, c->d_state, exact_scale_of_products(amax));
        put_row(s_panels(state, c, work->h), s_q, c->d_state, p + i);
    }
}

static void end_chunk(const struct head_work *work, const uint8_t *turned)
{
    const struct mamba2_state *state = work->job->state;
    int headdim = work->job->config->headdim;
    for (int p = 0; p < headdim; p += PANEL_ROWS)
        end_chunk_rows(work, turned, p,
                       headdim - p < PANEL_ROWS ? headdim - p : PANEL_ROWS);
    memset(state->w + (size_t)work->h * CHUNK, 0, CHUNK * sizeof(float));
    state->e[work->h] = 0.0f;
}

static void heads(const struct mamba2_job *job, int h0, int h1)
{
    const struct model_config *c = job->config;
    int each = c->n_heads / c->n_groups, turned_group = -1;
    uint8_t turned[MAMBA2_D_STATE_MAX * CHUNK];
    struct head_work work;
    for (int h = h0; h < h1; h++) {
        work.job = job;
        work.h = h;
        work.group = h / each;
        work.n_places =
            (job->place + job->n_t + PANEL_ROWS - 1) / PANEL_ROWS * PANEL_ROWS;
        work.at = (size_t)job->row * (size_t)c->n_heads + (size_t)h;
        work.at_group =
            (size_t)job->row * (size_t)c->n_groups + (size_t)work.group;
        work.is_last = h + 1 == h1;
        mix(&work);
        sum_up(&work);
        for (int t = 0; t < job->n_t; t++) {
            size_t at = work.at + (size_t)t * (size_t)c->n_heads;
            uint32_t amax;
            job->rows->squares[at] = read_head(&work, t, &amax);
            job->rows->largest[at] = exact_float(amax);
        }
        if (job->place + job->n_t < CHUNK)
            continue;
        if (turned_group != work.group)
            turn_b(turned, b_panels(job->state, c, work.group), c->d_state);
        turned_group = work.group;
        end_chunk(&work, turned);
    }
}
