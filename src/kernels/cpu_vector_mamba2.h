/* cpu_vector_mamba2.h -- the kernels of Mamba-2 in vectors, one text for every
 * level.
 *
 * Included by each of cpu_avx2.c, cpu_avx512.c and cpu_neon.c after
 * cpu_vector.h, product_row and product.  All sums of int8 products are those
 * of panels, as in cpu_vector.h but without scales: [n_groups][PANEL_ROWS][4],
 * xor-ed with V_WEIGHT_FLIP.  Of a state and a head or group,
 *
 *     x    x^, a panel for 16 channels, columns are the places of a chunk
 *     b    B^, a panel for 16 places, columns are states
 *     s_q  S^, a panel for 16 channels, columns are states
 *
 * and at the end of a chunk B^ is turned, a panel for 16 states, columns are
 * places.  So what a byte reads lies as the products want it, and is written
 * once.  Weights of places that are still to come are 0, hence so are m and
 * m^, and it does not matter what panels hold there.
 *
 * SPDX-License-Identifier: MIT
 */

enum {
    CHUNK_GROUPS = CHUNK / PANEL_GROUP,
    CHUNK_PANEL_SIZE = CHUNK_GROUPS * PANEL_GROUP_SIZE
};

/* Bytes of a panel whose columns are states. */
static size_t states_panel_size(const struct model_config *c)
{
    return (size_t)c->d_state / PANEL_GROUP * PANEL_GROUP_SIZE;
}

static uint8_t *x_panels(const struct mamba2_state *state,
                         const struct model_config *c, int h)
{
    return state->x + (size_t)h * mamba2_padded_headdim(c) * CHUNK;
}

static uint8_t *b_panels(const struct mamba2_state *state,
                         const struct model_config *c, int group)
{
    return state->b + (size_t)group * CHUNK * (size_t)c->d_state;
}

static uint8_t *s_panels(const struct mamba2_state *state,
                         const struct model_config *c, int h)
{
    return state->s_q +
           (size_t)h * mamba2_padded_headdim(c) * (size_t)c->d_state;
}

/* p, or 0 where it is below min. */
static inline vfloat v_or_zero(vfloat p, float min)
{
    return v_keep(p, p, v_set1(min));
}

/* ---- products of panels -------------------------------------------------- */

/* The sums of a pair of panels for one row of activations, int32. */
typedef vint pair_sums[2][PANEL_VECTORS];

enum { PAIR_ROWS = 2 * PANEL_ROWS };

/* x: [n_t][ld_x] int8, x_sum: [n_t] their sums; n_panels panels of panel_size
 * bytes.  The sums of pair i and row t go to out[i * ld + t]; those of an odd
 * panel come twice. */
struct panel_job {
    pair_sums *out;
    int ld;
    const uint8_t *panels;
    size_t panel_size;
    int n_panels;
    const int8_t *x;
    size_t ld_x;
    const int32_t *x_sum;
    int n_groups; /* a multiple of 4 */
    int n_t;
    const uint8_t *next; /* panels that are read next, or NULL */
    /* Of row t, only the first place + t + 1 columns are not 0; -1: all may be
     * something else. */
    int place;
};

static int32_t *sums_at(pair_sums *sums, int ld, int t, int row)
{
    return (int32_t *)sums[row / PAIR_ROWS * ld + t] + row % PAIR_ROWS;
}

static void fetch(const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i += 64)
        __builtin_prefetch(bytes + i);
}

/* What is read next is fetched meanwhile, a panel at a time: more at once
 * would only wait for room among the reads that are under way. */
static void multiply_panels_by_one(const struct panel_job *job)
{
    for (int p = 0; p < job->n_panels; p++) {
        const uint8_t *panel = job->panels + (size_t)p * job->panel_size;
        if (job->next)
            fetch(job->next + (size_t)p * job->panel_size,
                  (size_t)job->n_groups * PANEL_GROUP_SIZE);
        product_row(job->out[p / 2 * job->ld][p % 2], panel, job->x,
                    job->x_sum[0], job->n_groups);
    }
}

/* The groups of rows up to t of a job that have a place. */
static int groups_until(const struct panel_job *job, int t)
{
    int n = (job->place + t + PANEL_COLS_UNIT) / PANEL_COLS_UNIT *
            (PANEL_COLS_UNIT / PANEL_GROUP);
    return job->place < 0 || n > job->n_groups ? job->n_groups : n;
}

static void multiply_panels(const struct panel_job *job)
{
    if (job->n_t == 1) {
        multiply_panels_by_one(job);
        return;
    }
    for (int p = 0; p < job->n_panels; p += 2) {
        bool is_pair = p + 1 < job->n_panels;
        const uint8_t *panel = job->panels + (size_t)p * job->panel_size;
        struct tile tile = {
            .panel = {panel, panel + (is_pair ? job->panel_size : 0)},
            .ld = job->ld_x,
        };
        for (int t = 0; t < job->n_t; t += tile.n_t) {
            tile.x = job->x + (size_t)t * job->ld_x;
            tile.x_sum = job->x_sum + t;
            tile.n_t = job->n_t - t < V_TILE ? job->n_t - t : V_TILE;
            tile.n_groups = groups_until(job, t + tile.n_t - 1);
            product(job->out + p / 2 * job->ld + t, &tile);
        }
    }
}

/* ---- into panels --------------------------------------------------------- */

typedef uint8_t sixteen __attribute__((vector_size(16)));

/* Four rows of 16 bytes to 16 groups of four. */
static inline void interleave(uint8_t out[PANEL_GROUP_SIZE],
                              const uint8_t *const r[4])
{
    sixteen row[4], low[2], high[2];
    for (int i = 0; i < 4; i++)
        memcpy(&row[i], r[i], sizeof row[i]);
    for (int i = 0; i < 2; i++) {
        sixteen a = row[2 * i], b = row[2 * i + 1];
        low[i] = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4,
                                         20, 5, 21, 6, 22, 7, 23);
        high[i] = __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27,
                                          12, 28, 13, 29, 14, 30, 15, 31);
    }
    for (int i = 0; i < 2; i++) {
        sixteen a = i == 0 ? low[0] : high[0], b = i == 0 ? low[1] : high[1];
        row[2 * i] = __builtin_shufflevector(a, b, 0, 1, 16, 17, 2, 3, 18, 19,
                                             4, 5, 20, 21, 6, 7, 22, 23);
        row[2 * i + 1] = __builtin_shufflevector(
            a, b, 8, 9, 24, 25, 10, 11, 26, 27, 12, 13, 28, 29, 14, 15, 30, 31);
    }
    memcpy(out, row, sizeof row);
}

/* Rows q: [n_t][ld] of a head become columns [place, place + n_t) of x. */
static void put_columns(uint8_t *panels, const int8_t *q, size_t ld, int n,
                        int place, int n_t)
{
    for (int s = place; s < place + n_t;) {
        bool is_whole = s % 4 == 0 && s + 4 <= place + n_t;
        const int8_t *row = q + (size_t)(s - place) * ld;
        for (int p = 0; p < n; p += PANEL_ROWS) {
            uint8_t *out = panels +
                           (size_t)(p / PANEL_ROWS) * CHUNK_PANEL_SIZE +
                           (size_t)(s / 4) * PANEL_GROUP_SIZE;
            int some = n - p < PANEL_ROWS ? n - p : PANEL_ROWS;
            if (is_whole && some == PANEL_ROWS) {
                const uint8_t *rows[4];
                for (int i = 0; i < 4; i++)
                    rows[i] = (const uint8_t *)row + (size_t)i * ld + p;
                interleave(out, rows);
                for (int i = 0; i < PANEL_GROUP_SIZE; i++)
                    out[i] ^= V_WEIGHT_FLIP;
                continue;
            }
            for (int k = 0; k < (is_whole ? 4 : 1); k++) {
                for (int i = 0; i < some; i++)
                    out[i * 4 + (s + k) % 4] =
                        (uint8_t)row[(size_t)k * ld + (size_t)(p + i)] ^
                        V_WEIGHT_FLIP;
            }
        }
        s += is_whole ? 4 : 1;
    }
}

/* q: [n] becomes row r of panels of n columns. */
static void put_row(uint8_t *panels, const int8_t *q, int n, int r)
{
    uint8_t *out =
        panels +
        (size_t)(r / PANEL_ROWS * (n / PANEL_GROUP)) * PANEL_GROUP_SIZE +
        r % PANEL_ROWS * PANEL_GROUP;
    for (int i = 0; i < n; i += PANEL_GROUP, out += PANEL_GROUP_SIZE) {
        uint32_t four;
        memcpy(&four, q + i, sizeof four);
        four ^= V_WEIGHT_FLIP * 0x01010101u;
        memcpy(out, &four, sizeof four);
    }
}

/* Row r of panels of n columns, n a multiple of 4; still flipped. */
static void get_row(uint8_t *q, const uint8_t *panels, int n, int r)
{
    const uint8_t *in =
        panels +
        (size_t)(r / PANEL_ROWS * (n / PANEL_GROUP)) * PANEL_GROUP_SIZE +
        r % PANEL_ROWS * PANEL_GROUP;
    for (int i = 0; i < n; i += PANEL_GROUP, in += PANEL_GROUP_SIZE)
        memcpy(q + i, in, PANEL_GROUP);
}

/* B^ of a group with states as rows and places as columns. */
static void turn_b(uint8_t *turned, const uint8_t *b, int n_states)
{
    for (int s = 0; s < CHUNK; s += 4) {
        uint8_t row[4][MAMBA2_D_STATE_MAX];
        for (int i = 0; i < 4; i++)
            get_row(row[i], b, n_states, s + i);
        for (int n = 0; n < n_states; n += PANEL_ROWS) {
            const uint8_t *rows[4] = {row[0] + n, row[1] + n, row[2] + n,
                                      row[3] + n};
            interleave(turned + (size_t)(n / PANEL_ROWS) * CHUNK_PANEL_SIZE +
                           (size_t)(s / 4) * PANEL_GROUP_SIZE,
                       rows);
        }
    }
}

/* ---- before the recurrence ----------------------------------------------- */

/* delta and alpha of V_LANES heads. */
static inline void take_deltas(float *delta, float *alpha, const float *dt,
                               const float *bias, const float *a,
                               const struct model_config *c)
{
    vfloat d = v_softplus(v_load(dt) + v_load(bias));
    d = v_min(v_max(d, v_set1(c->delta_min)), v_set1(c->delta_max));
    v_store(delta, d);
    v_store(alpha, v_or_zero(v_exp2_neg(d * v_load(a)), EXACT_DECAY_MIN));
}

/* The same of n heads, fewer. */
static void take_some_deltas(float *delta, float *alpha, const float *dt,
                             const float *bias, const float *a,
                             const struct model_config *c, int n)
{
    float some[5][V_LANES] = {{0}};
    size_t size = (size_t)n * sizeof(float);
    memcpy(some[2], dt, size);
    memcpy(some[3], bias, size);
    memcpy(some[4], a, size);
    take_deltas(some[0], some[1], some[2], some[3], some[4], c);
    memcpy(delta, some[0], size);
    memcpy(alpha, some[1], size);
}

/* Heads [h0, h1) of byte t. */
static void take_all_deltas(const struct mamba2_job *job, int t, int h0, int h1)
{
    const struct model_config *c = job->config;
    size_t row = (size_t)(job->row + t) * (size_t)c->n_heads;
    for (int h = h0; h < h1; h += V_LANES) {
        float *delta = job->rows->delta + row + h;
        float *alpha = job->rows->alpha + row + h;
        const float *dt = mamba2_dt(job, t) + h;
        const float *bias = job->layer->dt_bias + h;
        const float *a = job->layer->a_log2e + h;
        if (h1 - h >= V_LANES)
            take_deltas(delta, alpha, dt, bias, a, c);
        else
            take_some_deltas(delta, alpha, dt, bias, a, c, h1 - h);
    }
}

/* q <- x, both [n], n <= 256; returns the scale, *sum is that of q. */
static inline float to_bytes(int8_t *q, int32_t *sum, const float *x, int n,
                             struct exact_scale s)
{
    int n_used = s.scale != 0.0f ? n : 0;
    *sum = round_to_bytes(q, x, s.inverse, n_used);
    memset(q + n_used, 0, (size_t)(n - n_used));
    return s.scale;
}

static void heads_in(const struct mamba2_job *job, int h0, int h1)
{
    const struct model_config *c = job->config;
    size_t n_heads = (size_t)c->n_heads, headdim = (size_t)c->headdim;
    size_t first = (size_t)job->row * n_heads;
    for (int t = 0; t < job->n_t; t++) {
        for (int h = h0; h < h1; h++) {
            size_t at = first + (size_t)t * n_heads + (size_t)h;
            const float *x = mamba2_x(job, t) + h * c->headdim;
            int32_t sum;
            job->rows->x_scale[at] =
                to_bytes(job->rows->x + at * headdim, &sum, x, c->headdim,
                         exact_scale_of(amax_of(x, c->headdim)));
        }
        take_all_deltas(job, t, h0, h1);
    }
    for (int h = h0; h < h1; h++)
        put_columns(x_panels(job->state, c, h),
                    job->rows->x + (first + (size_t)h) * headdim,
                    n_heads * headdim, c->headdim, job->place, job->n_t);
}

static void group_in(const struct mamba2_job *job, int group)
{
    const struct model_config *c = job->config;
    const struct mamba2_rows *rows = job->rows;
    size_t n_groups = (size_t)c->n_groups, n = (size_t)c->d_state;
    size_t first = (size_t)job->row * n_groups + (size_t)group;
    uint8_t *b = b_panels(job->state, c, group);
    int32_t c_sum[CHUNK];
    for (int t = 0; t < job->n_t; t++) {
        size_t at = first + (size_t)t * n_groups;
        const float *x = mamba2_b(job, t) + (size_t)group * n;
        int8_t q[MAMBA2_D_STATE_MAX];
        int32_t sum;
        rows->b_scale[at] = to_bytes(q, &sum, x, c->d_state,
                                     exact_scale_of(amax_of(x, c->d_state)));
        put_row(b, q, c->d_state, job->place + t);

        x = mamba2_c(job, t) + (size_t)group * n;
        rows->c_scale[at] = to_bytes(rows->c + at * n, &c_sum[t], x, c->d_state,
                                     exact_scale_of(amax_of(x, c->d_state)));
        rows->c_sum[at] = c_sum[t];
    }
    pair_sums sums[CHUNK / PAIR_ROWS * CHUNK];
    struct panel_job scores = {
        .out = sums,
        .ld = CHUNK,
        .panels = b,
        .panel_size = states_panel_size(c),
        .n_panels = (job->place + job->n_t + PANEL_ROWS - 1) / PANEL_ROWS,
        .x = rows->c + first * n,
        .ld_x = n_groups * n,
        .x_sum = c_sum,
        .n_groups = c->d_state / PANEL_GROUP,
        .n_t = job->n_t,
        .place = -1,
    };
    multiply_panels(&scores);
    for (int t = 0; t < job->n_t; t++) {
        int32_t *out = rows->scores + (first + (size_t)t * n_groups) * CHUNK;
        for (int s = 0; s < scores.n_panels * PANEL_ROWS; s += PAIR_ROWS)
            memcpy(out + s, sums_at(sums, CHUNK, t, s),
                   PAIR_ROWS * sizeof *out);
    }
}

/* ---- the recurrence ------------------------------------------------------ */

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
 * are k, those before it decay, those behind it are 0. */
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
        memcpy(&sum, sums_at(sums, V_TILE, 0, i), sizeof sum);
        vfloat x = v_fma(v_set1(e), v_load(s + i),
                         __builtin_convertvector(sum, vfloat) * v_set1(scale));
        x = v_keep(x, (vfloat)v_magnitude(x), v_set1(EXACT_WEIGHT_MIN));
        v_store(s + i, x);
        largest = v_int_max(largest, v_magnitude(x));
    }
    return v_max_of(largest);
}

/* v^ of row p of a head: [CHUNK]; returns its scale. */
static float weigh_chunk(int8_t *v_q, int32_t *v_sum,
                         const struct head_work *work, int p)
{
    const struct mamba2_state *state = work->job->state;
    const float *w = state->w + (size_t)work->h * CHUNK;
    int8_t x_q[CHUNK];
    float v[CHUNK];
    vint largest = {0};
    get_row((uint8_t *)x_q, x_panels(state, work->job->config, work->h), CHUNK,
            p);
    for (int i = 0; i < CHUNK; i++)
        x_q[i] = (int8_t)((uint8_t)x_q[i] ^ V_WEIGHT_FLIP);
    for (int s = 0; s < CHUNK; s += V_LANES) {
        vfloat x = __builtin_convertvector(v_load_bytes(x_q + s), vfloat) *
                   v_load(w + s);
        v_store(v + s, x);
        largest = v_int_max(largest, v_magnitude(x));
    }
    return to_bytes(v_q, v_sum, v, CHUNK,
                    exact_scale_of_products(v_max_of(largest)));
}

/* Adds a chunk to rows [p, p + n_p) of the states of a head. */
static void end_chunk_rows(const struct head_work *work, const uint8_t *turned,
                           int p, int n_p)
{
    const struct model_config *c = work->job->config;
    const struct mamba2_state *state = work->job->state;
    int8_t v_q[V_TILE][CHUNK], s_q[MAMBA2_D_STATE_MAX];
    pair_sums sums[MAMBA2_D_STATE_MAX / PAIR_ROWS * V_TILE];
    int32_t v_sum[V_TILE], sum;
    float v_scale[V_TILE];
    for (int i = 0; i < n_p; i++)
        v_scale[i] = weigh_chunk(v_q[i], &v_sum[i], work, p + i);
    struct panel_job job = {
        .out = sums,
        .ld = V_TILE,
        .panels = turned,
        .panel_size = CHUNK_PANEL_SIZE,
        .n_panels = c->d_state / PANEL_ROWS,
        .x = v_q[0],
        .ld_x = CHUNK,
        .x_sum = v_sum,
        .n_groups = CHUNK_GROUPS,
        .n_t = n_p,
        .place = -1,
    };
    multiply_panels(&job);
    for (int i = 0; i < n_p; i++) {
        size_t channel = (size_t)(work->h * c->headdim + p + i);
        float *s = state->s + channel * (size_t)c->d_state;
        uint32_t amax =
            add_chunk(s, sums + i, state->e[work->h], v_scale[i], c->d_state);
        state->s_scale[channel] =
            to_bytes(s_q, &sum, s, c->d_state, exact_scale_of_products(amax));
        put_row(s_panels(state, c, work->h), s_q, c->d_state, p + i);
    }
}

static void end_chunk(const struct head_work *work, const uint8_t *turned)
{
    const struct mamba2_state *state = work->job->state;
    int headdim = work->job->config->headdim;
    for (int p = 0; p < headdim; p += V_TILE)
        end_chunk_rows(work, turned, p,
                       headdim - p < V_TILE ? headdim - p : V_TILE);
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

/* ---- the norm before out_proj -------------------------------------------- */

/* q <- x weight inverse, all [n]; returns the sum of q. */
static int32_t round_products(int8_t *q, const float *x, const float *weight,
                              float inverse, int n)
{
    vint sums = {0};
    int i = 0;
    for (; i + V_LANES <= n; i += V_LANES) {
        vfloat u = v_load(x + i) * v_load(weight + i);
        vint rounded = (vint)v_fma(u, v_set1(inverse), v_set1(EXACT_ROUND));
        v_store_bytes(q + i, rounded);
        sums += rounded - (vint)v_set1(EXACT_ROUND);
    }
    int32_t sum = v_sum_of(sums);
    for (; i < n; i++) {
        q[i] = exact_quantise(x[i] * weight[i], inverse);
        sum += q[i];
    }
    return sum;
}

static void gate_norm_row(const struct quantised *out,
                          const struct mamba2_rows *rows,
                          const struct layer *layer,
                          const struct model_config *c, int t)
{
    float r[MAMBA2_GROUPS_MAX], largest[MAMBA2_GROUPS_MAX];
    int each = c->n_heads / c->n_groups, n = each * c->headdim;
    for (int g = 0; g < c->n_groups; g++) {
        size_t at = (size_t)t * (size_t)c->n_heads + (size_t)(g * each);
        float mean = sum_of(rows->squares + at, each) / (float)n;
        r[g] = 1.0f / sqrtf(mean + c->norm_epsilon);
        largest[g] = exact_float(amax_of(rows->largest + at, each)) * r[g];
    }
    struct exact_scale s = exact_scale_of(amax_of(largest, c->n_groups));
    const float *v = rows->zx + (size_t)t * rows->ld + c->d_inner;
    int8_t *q = out->q + (size_t)t * (size_t)out->ld;
    int n_used = s.scale != 0.0f ? c->d_inner : 0;
    int32_t sum = 0;
    for (int g = 0; g < c->n_groups && n_used > 0; g++)
        sum += round_products(q + g * n, v + g * n, layer->gate_norm + g * n,
                              r[g] * s.inverse, n);
    memset(q + n_used, 0, (size_t)(out->ld - n_used));
    out->scale[t] = s.scale;
    out->sum[t] = sum;
}

static void gate_norm_quantise(const struct quantised *out,
                               const struct mamba2_rows *rows,
                               const struct layer *layer,
                               const struct model_config *config, int t0,
                               int t1)
{
    for (int t = t0; t < t1; t++)
        gate_norm_row(out, rows, layer, config, t);
}

/* ---- images -------------------------------------------------------------- */

static void load(const struct mamba2_state *state, const int8_t *x,
                 const int8_t *b, const struct model_config *c)
{
    size_t n_b = (size_t)(c->n_groups * c->d_state);
    for (int h = 0; h < c->n_heads; h++)
        put_columns(x_panels(state, c, h), x + h * c->headdim,
                    (size_t)c->d_inner, c->headdim, 0, CHUNK);
    for (int s = 0; s < CHUNK; s++) {
        for (int g = 0; g < c->n_groups; g++)
            put_row(b_panels(state, c, g),
                    b + (size_t)s * n_b + (size_t)(g * c->d_state), c->d_state,
                    s);
    }
    for (int i = 0; i < c->d_inner; i++) {
        const float *s = state->s + (size_t)i * (size_t)c->d_state;
        int8_t q[MAMBA2_D_STATE_MAX];
        int32_t sum;
        uint32_t amax = amax_of(s, c->d_state);
        state->s_scale[i] =
            to_bytes(q, &sum, s, c->d_state, exact_scale_of_products(amax));
        put_row(s_panels(state, c, i / c->headdim), q, c->d_state,
                i % c->headdim);
    }
}

static void save(int8_t *x, int8_t *b, const struct mamba2_state *state,
                 const struct model_config *c, int place)
{
    size_t n_b = (size_t)(c->n_groups * c->d_state);
    memset(x, 0, (size_t)CHUNK * (size_t)c->d_inner);
    memset(b, 0, (size_t)CHUNK * n_b);
    for (int i = 0; i < c->d_inner; i++) {
        uint8_t row[CHUNK];
        get_row(row, x_panels(state, c, i / c->headdim), CHUNK, i % c->headdim);
        for (int s = 0; s < place; s++)
            x[(size_t)s * (size_t)c->d_inner + (size_t)i] =
                (int8_t)(row[s] ^ V_WEIGHT_FLIP);
    }
    for (int s = 0; s < place; s++) {
        for (int g = 0; g < c->n_groups; g++) {
            uint8_t *row =
                (uint8_t *)b + (size_t)s * n_b + (size_t)(g * c->d_state);
            get_row(row, b_panels(state, c, g), c->d_state, s);
            for (int n = 0; n < c->d_state; n++)
                row[n] ^= V_WEIGHT_FLIP;
        }
    }
}

/* ---- models of floats ---------------------------------------------------- */

/* s <- alpha s + dx b; returns the sum of s c.  All [n]. */
static float float_row(float *s, float alpha, float dx, const float *b,
                       const float *c, int n)
{
    vfloat sums[FLOAT_VECTORS] = {{0}};
    for (int i = 0; i < n; i += EXACT_FLOAT_LANES) {
#pragma GCC unroll 4
        for (int j = 0; j < FLOAT_VECTORS; j++) {
            int at = i + j * V_LANES;
            vfloat x = v_fma(v_set1(alpha), v_load(s + at),
                             v_set1(dx) * v_load(b + at));
            v_store(s + at, x);
            sums[j] = v_fma(x, v_load(c + at), sums[j]);
        }
    }
    float lane[EXACT_FLOAT_LANES];
    memcpy(lane, sums, sizeof lane);
    for (int s0 = EXACT_FLOAT_LANES / 2; s0 > 0; s0 /= 2) {
        for (int i = 0; i < s0; i++)
            lane[i] += lane[i + s0];
    }
    return lane[0];
}

static void float_head(const struct mamba2_job *job, int h, int t)
{
    const struct model_config *c = job->config;
    int group = h / (c->n_heads / c->n_groups), n = c->d_state;
    const float *b = mamba2_b(job, t) + group * n;
    const float *cc = mamba2_c(job, t) + group * n;
    float dt = mamba2_dt(job, t)[h] + job->layer->dt_bias[h];
    float delta = exact_delta(dt, c->delta_min, c->delta_max);
    float alpha = exact_exp2_neg(delta * job->layer->a_log2e[h]);
    for (int p = 0; p < c->headdim; p++) {
        int channel = h * c->headdim + p;
        float *s = job->state->s + (size_t)channel * (size_t)n;
        float *x = mamba2_x(job, t) + channel;
        float y = float_row(s, alpha, delta * *x, b, cc, n);
        y = fmaf(job->layer->d[channel], *x, y);
        if (!c->has_norm_before_gate)
            y *= exact_silu(mamba2_z(job, t)[channel]);
        *x = y;
    }
}

static void float_heads(const struct mamba2_job *job, int h0, int h1)
{
    for (int h = h0; h < h1; h++) {
        for (int t = 0; t < job->n_t; t++)
            float_head(job, h, t);
    }
}

static void float_norm(const struct mamba2_rows *rows,
                       const struct layer *layer,
                       const struct model_config *config, int t0, int t1)
{
    cpu_scalar_mamba2.float_norm(rows, layer, config, t0, t1);
}

static const struct mamba2_kernels vector_mamba2 = {
    .load = load,
    .save = save,
    .heads_in = heads_in,
    .group_in = group_in,
    .heads = heads,
    .norm_quantise = gate_norm_quantise,
    .float_heads = float_heads,
    .float_norm = float_norm,
};
