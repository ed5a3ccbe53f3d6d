/* cpu_vector_panels.h -- a state of Mamba-2 in panels, and products of them.
 *
 * All sums of int8 products are those of panels, as in cpu_vector.h but without
 * scales: [n_groups][PANEL_ROWS][4], xor-ed with V_WEIGHT_FLIP.  Of a state and
 * a head or group,
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
 * Included by cpu_vector_mamba2.h only.
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
    /* Of row t, the columns after the first place + t + 1 are 0; -1: any column
     * may be something else. */
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
                    job->x_sum[0], job->n_groups, 0);
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

/* Four rows of 16 bytes to 16 groups of four, xor-ed with flip, a constant. */
static inline void interleave(uint8_t out[PANEL_GROUP_SIZE],
                              const uint8_t *const r[4], const uint8_t flip)
{
    sixteen row[4], low[2], high[2];
    for (int i = 0; i < 4; i++) {
        memcpy(&row[i], r[i], sizeof row[i]);
        row[i] ^= flip;
    }
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

/* 16 bytes or fewer become number k of each group of four. */
static inline void put_column(uint8_t out[PANEL_GROUP_SIZE], const int8_t *q,
                              int n, int k)
{
    if (n < PANEL_ROWS) {
        for (int i = 0; i < n; i++)
            out[i * PANEL_GROUP + k] = (uint8_t)q[i] ^ V_WEIGHT_FLIP;
        return;
    }
    for (int i = 0; i < PANEL_ROWS; i += V_LANES, out += V_LANES * 4) {
        vint four, byte = (v_load_bytes(q + i) ^ (int)V_WEIGHT_FLIP) & 0xff;
        memcpy(&four, out, sizeof four);
        four = (four & (int)~(0xffu << 8 * k)) | byte << 8 * k;
        memcpy(out, &four, sizeof four);
    }
}

/* Rows q: [n_t][ld] of a head become columns [place, place + n_t) of x. */
static void put_columns(uint8_t *panels, const int8_t *q, size_t ld, int n,
                        int place, int n_t)
{
    for (int p = 0; p < n; p += PANEL_ROWS, panels += CHUNK_PANEL_SIZE) {
        int some = n - p < PANEL_ROWS ? n - p : PANEL_ROWS;
        const int8_t *row = q + p;
        for (int s = place; s < place + n_t;) {
            uint8_t *out = panels + (size_t)(s / 4) * PANEL_GROUP_SIZE;
            if (s % 4 == 0 && s + 4 <= place + n_t && some == PANEL_ROWS) {
                const uint8_t *rows[4];
                for (int i = 0; i < 4; i++, row += ld)
                    rows[i] = (const uint8_t *)row;
                interleave(out, rows, V_WEIGHT_FLIP);
                s += 4;
                continue;
            }
            put_column(out, row, some, s % 4);
            row += ld;
            s++;
        }
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
                       rows, 0);
        }
    }
}
