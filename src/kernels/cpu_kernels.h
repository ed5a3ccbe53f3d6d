/* cpu_kernels.h -- the array operations that each instruction set provides.
 *
 * cpu_scalar.c defines every result; cpu_avx2.c, cpu_avx512.c and cpu_neon.c
 * give the same bits with other instructions, and check_kernels.c compares
 * them by memcmp.  Kernels never allocate, print or fail.  Each call works on
 * some rows or channels, so that threads can share the work.
 *
 * t counts bytes of a batch; buffers are row-major, with a row for each byte;
 * ld_ is the distance of rows in elements.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_CPU_KERNELS_H
#define MAMBYTE_CPU_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/exact.h"
#include "kernels/mamba2.h"
#include "model/model.h"

/* Vectors of floats in int8, one scale each; zeros from their length up to
 * the next multiple of CPU_PAD. */
#define CPU_PAD 64

static inline int cpu_padded(int n)
{
    return (n + CPU_PAD - 1) / CPU_PAD * CPU_PAD;
}

struct quantised {
    int8_t *q;    /* [t][ld] */
    int ld;       /* a multiple of CPU_PAD */
    float *scale; /* [t] */
    int32_t *sum; /* [t]: the sum of the row's q, for unsigned products */
};

/* A matrix and what a level has repacked it to; panels is NULL for a level
 * that reads the rows as they are. */
struct projection {
    struct matrix matrix;
    void *panels;
};

/* Vectors of floats. */
struct float_rows {
    const float *x; /* [t][ld] */
    size_t ld;
};

struct norm {
    const float *weight; /* [d] */
    const float *bias;   /* [d], LayerNorm; NULL: RMSNorm */
    float epsilon;
    int d;
};

/* The convolution of one segment: bytes t in [0, n_t) of one stream. */
struct conv_job {
    float *u; /* [t][ld]: in the inputs, out silu(conv) */
    size_t ld;
    int n_t;
    float *history;    /* [d_conv - 1][d_inner], updated */
    const float *conv; /* [d_conv][d_inner] */
    const float *bias; /* [d_inner] */
    int d_inner, d_conv;
    const float *next; /* the history that is read next, or NULL */
};

/* The selective scan of one segment. */
struct scan_job {
    float *y; /* [t][ld_y]: in dt_proj's product, out the
               * gated output */
    size_t ld_y;
    const float *u, *z; /* [t][ld_uz] */
    size_t ld_uz;
    const float *b, *c; /* [t][ld_bc], d_state floats each */
    size_t ld_bc;
    int n_t;
    float *s;             /* [d_state][d_inner], updated */
    const float *a_log2e; /* [d_state][d_inner] */
    const float *d;       /* [d_inner] */
    const float *dt_bias; /* [d_inner] */
    int d_inner, d_state;
};

struct cpu_kernels {
    const char *name;  /* "scalar", "avx2", "avx512vnni", "neon" */
    int rows_unit;     /* ranges of rows start at its multiples */
    int channels_unit; /* ranges of channels at multiples of this */

    /* Bytes that panels takes, a multiple of 64; 0: no repacking. */
    size_t (*panels_size)(const struct matrix *matrix);
    void (*pack)(void *panels, const struct matrix *matrix);

    /* q[t] <- x[t] for t in [t0, t1), x: [t][ld], n floats a row. */
    void (*quantise)(const struct quantised *out, const float *x, size_t ld,
                     int n, int t0, int t1);

    /* q[t] <- norm(h[t]), h: [t][norm->d]. */
    void (*norm_quantise)(const struct quantised *out, const float *h,
                          const struct norm *norm, int t0, int t1);

    /* y[t][r] <- x[t] . W[r] (added to y when accumulate), t in [t0, t1),
     * r in [r0, r1).  y: [t][ld]. */
    void (*matmul)(float *y, size_t ld, const struct projection *w,
                   const struct quantised *x, bool accumulate, int t0, int t1,
                   int r0, int r1);

    /* The same in floats, for a model of floats: x[t] <- norm(h[t]), x and h:
     * [t][norm->d]; y[t][r] <- x[t] . W[r]. */
    void (*norm)(float *x, const float *h, const struct norm *norm, int t0,
                 int t1);
    void (*float_matmul)(float *y, size_t ld, const struct matrix *w,
                         const struct float_rows *x, bool accumulate, int t0,
                         int t1, int r0, int r1);

    /* Channels c in [c0, c1). */
    void (*conv_silu)(const struct conv_job *job, int c0, int c1);
    void (*scan)(const struct scan_job *job, int c0, int c1);

    /* odds_cost() */
    float (*cost)(const float logits[256], uint8_t byte);

    const struct mamba2_kernels *mamba2;
};

extern const struct cpu_kernels cpu_scalar;
extern const struct cpu_kernels cpu_avx2;
extern const struct cpu_kernels cpu_avx512;
extern const struct cpu_kernels cpu_neon;
extern const struct mamba2_kernels cpu_scalar_mamba2;

/* The best level of this CPU, or the named one; NULL when this CPU or this
 * build has none of that name. */
const struct cpu_kernels *cpu_kernels_find(const char *name);

/* Every level of this CPU, best first, ended by NULL. */
const struct cpu_kernels *const *cpu_kernels_all(void);

/* Whether these are among them. */
bool cpu_has(const struct cpu_kernels *kernels);

#endif
