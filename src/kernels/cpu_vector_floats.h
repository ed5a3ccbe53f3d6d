/* cpu_vector_floats.h -- products of floats in vectors, for models of floats.
 *
 * Weights are read as the file has them.  Vectors lie along the columns:
 * FLOAT_VECTORS of them are the lanes of exact.h.
 *
 * Included by cpu_vector.h only.
 *
 * SPDX-License-Identifier: MIT
 */

enum {
    FLOAT_VECTORS = EXACT_FLOAT_LANES / V_LANES,
    FLOAT_ROWS_OF_ONE = 8, /* rows of weights that meet one of activations */
    FLOAT_SUMS = V_FLOAT_ROWS * V_FLOAT_TILE > FLOAT_ROWS_OF_ONE
                     ? V_FLOAT_ROWS *V_FLOAT_TILE
                     : FLOAT_ROWS_OF_ONE
};

/* Rows of weights and of activations, and the place for their products. */
struct float_tile {
    float *y; /* [t][ld] */
    size_t ld;
    struct tensor w; /* [r][cols] */
    const float *x;  /* [t][ld_x] */
    size_t ld_x;
    int cols;
    bool accumulate;
};

static inline __attribute__((always_inline)) vfloat
v_load_weights(const uint8_t *w, const enum dtype dtype)
{
    vfloat x;
    if (dtype == DTYPE_F32) {
        memcpy(&x, w, sizeof x);
        return x;
    }
    vint half = v_load_halves(w);
    if (dtype == DTYPE_BF16)
        return (vfloat)(half << 16);
    const vint magnitude = (vint)v_set1(exact_float(0x7fff));
    x = (vfloat)((half & magnitude) << 13) * v_set1(EXACT_HALF_SCALE);
    return (vfloat)((vint)x | (half & ~magnitude) << 16);
}

/* What the lanes sum to, with columns from first on. */
static float float_total(float lane[EXACT_FLOAT_LANES],
                         const struct float_tile *tile, int r, const float *x,
                         int first)
{
    for (int k = first; k < tile->cols; k++) {
        float weight, *sum = &lane[k % EXACT_FLOAT_LANES];
        size_t at = (size_t)r * (size_t)tile->cols + (size_t)k;
        tensor_read_floats(&weight, &tile->w, at, 1);
        *sum = fmaf(weight, x[k], *sum);
    }
#pragma GCC unroll 4
    for (int s = EXACT_FLOAT_LANES / 2; s > 0; s /= 2) {
#pragma GCC unroll 8
        for (int i = 0; i < s; i++)
            lane[i] += lane[i + s];
    }
    return lane[0];
}

/* y[t][r] <- x[t] . w[r] for n_t rows of activations and n_r of weights; all
 * three are constants. */
static inline __attribute__((always_inline)) void
float_product(const struct float_tile *tile, const int n_r, const int n_t,
              const enum dtype dtype)
{
    size_t size = dtype == DTYPE_F32 ? 4 : 2, cols = (size_t)tile->cols;
    vfloat sum[FLOAT_SUMS][FLOAT_VECTORS] = {{{0}}};
    int n = tile->cols - tile->cols % EXACT_FLOAT_LANES;
    for (int k = 0; k < n; k += EXACT_FLOAT_LANES) {
#pragma GCC unroll 4
        for (int v = 0; v < FLOAT_VECTORS; v++) {
            size_t at = (size_t)(k + v * V_LANES);
            const uint8_t *w = (const uint8_t *)tile->w.data + at * size;
            vfloat x[V_FLOAT_TILE];
#pragma GCC unroll 8
            for (int t = 0; t < n_t; t++)
                x[t] = v_load(tile->x + (size_t)t * tile->ld_x + at);
#pragma GCC unroll 8
            for (int r = 0; r < n_r; r++) {
                vfloat weights =
                    v_load_weights(w + (size_t)r * cols * size, dtype);
#pragma GCC unroll 8
                for (int t = 0; t < n_t; t++)
                    sum[r * n_t + t][v] =
                        v_fma(weights, x[t], sum[r * n_t + t][v]);
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < n_r; r++) {
#pragma GCC unroll 8
        for (int t = 0; t < n_t; t++) {
            float lane[EXACT_FLOAT_LANES];
            memcpy(lane, sum[r * n_t + t], sizeof lane);
            const float *x = tile->x + (size_t)t * tile->ld_x;
            float total = float_total(lane, tile, r, x, n);
            float *y = tile->y + (size_t)t * tile->ld + r;
            *y = tile->accumulate ? *y + total : total;
        }
    }
}

/* The part of the tile from row r and t on. */
static struct float_tile float_part(const struct float_tile *tile, int r, int t)
{
    struct float_tile part = *tile;
    part.y += (size_t)t * tile->ld + (size_t)r;
    part.x += (size_t)t * tile->ld_x;
    part.w.data = (const uint8_t *)tile->w.data +
                  (size_t)r * (size_t)tile->cols * dtype_size(tile->w.dtype);
    return part;
}

/* n_r rows of weights, n_t of activations. */
static inline __attribute__((always_inline)) void
float_products(const struct float_tile *tile, int n_r, int n_t,
               const enum dtype dtype)
{
    int t = 0, r = 0;
    for (; t + V_FLOAT_TILE <= n_t; t += V_FLOAT_TILE) {
        for (r = 0; r < n_r; r += r + V_FLOAT_ROWS <= n_r ? V_FLOAT_ROWS : 1) {
            struct float_tile part = float_part(tile, r, t);
            if (r + V_FLOAT_ROWS <= n_r)
                float_product(&part, V_FLOAT_ROWS, V_FLOAT_TILE, dtype);
            else
                float_product(&part, 1, V_FLOAT_TILE, dtype);
        }
    }
    for (; t < n_t; t++) {
        for (r = 0; r < n_r;
             r += r + FLOAT_ROWS_OF_ONE <= n_r ? FLOAT_ROWS_OF_ONE : 1) {
            struct float_tile part = float_part(tile, r, t);
            if (r + FLOAT_ROWS_OF_ONE <= n_r)
                float_product(&part, FLOAT_ROWS_OF_ONE, 1, dtype);
            else
                float_product(&part, 1, 1, dtype);
        }
    }
}

/* In blocks of rows of weights, which stay in the cache while all activations
 * pass. */
enum { FLOAT_BLOCK_ROWS = 32 };

static void float_matmul(float *y, size_t ld, const struct matrix *w,
                         const struct float_rows *x, bool accumulate, int t0,
                         int t1, int r0, int r1)
{
    struct float_tile all = {
        y,       ld,        {.dtype = w->dtype, .data = w->floats}, x->x, x->ld,
        w->cols, accumulate};
    for (int r = r0; r < r1; r += FLOAT_BLOCK_ROWS) {
        struct float_tile part = float_part(&all, r, t0);
        int n = r1 - r < FLOAT_BLOCK_ROWS ? r1 - r : FLOAT_BLOCK_ROWS;
        if (w->dtype == DTYPE_F32)
            float_products(&part, n, t1 - t0, DTYPE_F32);
        else if (w->dtype == DTYPE_BF16)
            float_products(&part, n, t1 - t0, DTYPE_BF16);
        else
            float_products(&part, n, t1 - t0, DTYPE_F16);
    }
}
