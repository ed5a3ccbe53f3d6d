/* muon.c -- momentum, orthogonalised: the optimiser of the large projections.
 *
 * SPDX-License-Identifier: MIT
 */
#include "train/muon.h"

#include <math.h>
#include <stdlib.h>

#include "kernels/train_kernels.h"

struct muon {
    struct threads *team;
    const struct train_kernels *kernels;
    float *arena;      /* owned: what follows, for the largest matrix */
    float *x, *next;   /* [m][n], m <= n */
    float *transposed; /* [n][m] */
    float *gram;       /* [m][m]: X X^T */
    float *square;     /* [m][m]: its square, then b gram + c square */
    int m, n;
    bool is_wide; /* m are the rows of the matrix, not its columns */
};

struct size {
    size_t m, n;
};

/* Of one part, the smaller side first. */
static struct size part_size(const struct parameter *p)
{
    size_t rows = (size_t)p->muon_rows;
    size_t cols = (size_t)p->shape[1];
    return rows < cols ? (struct size){rows, cols} : (struct size){cols, rows};
}

enum status muon_open(struct muon **muon, const struct parameters *parameters,
                      struct threads *team)
{
    *muon = NULL;
    struct size most = {0, 0};
    for (size_t i = 0; i < parameters->n; i++) {
        const struct parameter *p = &parameters->list[i];
        struct size size = {0, 0};
        if (p->muon_parts > 0)
            size = part_size(p);
        most.m = size.m > most.m ? size.m : most.m;
        most.n = size.n > most.n ? size.n : most.n;
    }
    struct muon *mu = calloc(1, sizeof *mu);
    size_t area = most.m * most.n, square = most.m * most.m;
    float *arena = malloc((3 * area + 2 * square) * sizeof *arena);
    if (!mu || !arena) {
        free(mu);
        free(arena);
        return fail_memory("the optimiser");
    }
    mu->team = team;
    mu->kernels = train_kernels_find();
    mu->arena = arena;
    mu->x = arena;
    mu->next = mu->x + area;
    mu->transposed = mu->next + area;
    mu->gram = mu->transposed + area;
    mu->square = mu->gram + square;
    *muon = mu;
    return OK;
}

void muon_close(struct muon *muon)
{
    if (muon)
        free(muon->arena);
    free(muon);
}

/* ---- one part ----------------------------------------------------------- */

/* X = G / |G|, or its transpose when G has more rows than columns. */
static void normalise(struct muon *mu, const float *g, int rows, int cols)
{
    double sum = 0;
    size_t n = (size_t)rows * (size_t)cols;
    for (size_t i = 0; i < n; i++)
        sum += (double)g[i] * (double)g[i];
    float factor = (float)(1.0 / (sqrt(sum) + 1e-7));
    mu->is_wide = rows <= cols;
    mu->m = mu->is_wide ? rows : cols;
    mu->n = mu->is_wide ? cols : rows;
    for (int r = 0; r < rows; r++) {
        for (int c = 0; c < cols; c++) {
            size_t at = mu->is_wide ? (size_t)r * (size_t)cols + (size_t)c
                                    : (size_t)c * (size_t)rows + (size_t)r;
            mu->x[at] = *g++ * factor;
        }
    }
}

/* c = a b, this thread's rows; b and c have n_j columns. */
static void multiply(const struct muon *mu, float *c, const float *a,
                     const float *b, int n_j, int n_k, struct range mine)
{
    struct product job = {
        .c = c,
        .ld_c = (size_t)n_j,
        .a = a,
        .a_i = (size_t)n_k,
        .a_k = 1,
        .b = b,
        .ld_b = (size_t)n_j,
        .n_j = n_j,
        .n_k = n_k,
    };
    mu->kernels->product(&job, mine.begin, mine.end);
}

/* Rows [first, last) of X become columns, a line of the cache at a time. */
static void transpose(const struct muon *mu, size_t first, size_t last)
{
    enum { LINE = 16 };
    size_t m = (size_t)mu->m, n = (size_t)mu->n;
    for (size_t i0 = first; i0 < last; i0 += LINE) {
        size_t end = last - i0 < LINE ? last : i0 + LINE;
        for (size_t j = 0; j < n; j++) {
            for (size_t i = i0; i < end; i++)
                mu->transposed[j * m + i] = mu->x[i * n + j];
        }
    }
}

/* One iteration, on every thread: its rows of all arrays that have m rows. */
static void newton_schulz(void *context, int thread)
{
    struct muon *mu = context;
    size_t m = (size_t)mu->m, n = (size_t)mu->n;
    struct range mine = threads_split(mu->m, thread, threads_count(mu->team));
    size_t first = (size_t)mine.begin, last = (size_t)mine.end;

    transpose(mu, first, last);
    threads_barrier(mu->team);
    multiply(mu, mu->gram, mu->x, mu->transposed, mu->m, mu->n, mine);
    threads_barrier(mu->team);
    multiply(mu, mu->square, mu->gram, mu->gram, mu->m, mu->m, mine);
    for (size_t i = first * m; i < last * m; i++)
        mu->square[i] = MUON_B * mu->gram[i] + MUON_C * mu->square[i];
    multiply(mu, mu->next, mu->square, mu->x, mu->n, mu->m, mine);
    for (size_t i = first * n; i < last * n; i++)
        mu->next[i] += MUON_A * mu->x[i];
}

/* w -= rate (weight_decay w + 0.2 sqrt(larger side) O) */
static void apply(const struct muon *mu, float *w, int rows, int cols,
                  float size, const struct update *update)
{
    float rate = (float)update->learning_rate;
    float keep = 1.0f - rate * (float)update->weight_decay;
    float factor = rate * size;
    for (int r = 0; r < rows; r++) {
        for (int c = 0; c < cols; c++, w++) {
            size_t at = mu->is_wide ? (size_t)r * (size_t)cols + (size_t)c
                                    : (size_t)c * (size_t)rows + (size_t)r;
            *w = *w * keep - factor * mu->x[at];
        }
    }
}

/* m = momentum m + g, then g + momentum m into the room of next. */
static const float *nesterov(struct muon *mu, float *momentum,
                             const float *gradient, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++) {
        float g = gradient[i] * scale;
        momentum[i] = MUON_MOMENTUM * momentum[i] + g;
        mu->next[i] = g + MUON_MOMENTUM * momentum[i];
    }
    return mu->next;
}

void muon_update(struct muon *muon, const struct parameter *parameter,
                 float *weights, float *momentum, const float *gradient,
                 const struct update *update)
{
    int rows = parameter->muon_rows;
    int cols = parameter->shape[1];
    int larger = rows > cols ? rows : cols;
    size_t n = (size_t)rows * (size_t)cols;
    for (int part = 0; part < parameter->muon_parts; part++) {
        size_t at = parameter->offset + (size_t)part * n;
        const float *g = nesterov(muon, momentum + at, gradient + at, n,
                                  (float)update->gradient_scale);
        normalise(muon, g, rows, cols);
        for (int i = 0; i < MUON_ITERATIONS; i++) {
            threads_run(muon->team, newton_schulz, muon);
            float *x = muon->x;
            muon->x = muon->next;
            muon->next = x;
        }
        apply(muon, weights + at, rows, cols, 0.2f * sqrtf((float)larger),
              update);
    }
}
