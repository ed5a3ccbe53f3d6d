/* train_level.h -- what the files share that are compiled once for each level.
 *
 * TRAIN_LEVEL is the name of the level's table.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TRAIN_LEVEL_H
#define MAMBYTE_TRAIN_LEVEL_H

#include <math.h>
#include <string.h>

#include "base/exact.h"
#include "kernels/train_kernels.h"

#ifndef TRAIN_LEVEL
#define TRAIN_LEVEL      train_plain
#define TRAIN_LEVEL_NAME "plain"
#endif

#define TRAIN_PASTE(a, b) a##b
#define TRAIN_JOIN(a, b)  TRAIN_PASTE(a, b)

/* train_scan.c */
#define SCAN          TRAIN_JOIN(TRAIN_LEVEL, _scan)
#define SCAN_BACKWARD TRAIN_JOIN(TRAIN_LEVEL, _scan_backward)

void SCAN(const struct scan_pass *job, int index);
void SCAN_BACKWARD(const struct scan_pass *job, int index);

/* train_mamba2.c */
#define CHUNK_BACKWARD       TRAIN_JOIN(TRAIN_LEVEL, _chunk_backward)
#define GATE_BACKWARD        TRAIN_JOIN(TRAIN_LEVEL, _gate_backward)
#define GATE_BACKWARD_WEIGHT TRAIN_JOIN(TRAIN_LEVEL, _gate_backward_weight)

void CHUNK_BACKWARD(const struct chunk_pass *job);
void GATE_BACKWARD(const struct gate_pass *job, int t0, int t1);
void GATE_BACKWARD_WEIGHT(const struct gate_pass *job, int n_t, int i0, int i1);

#define LN2 0x1.62e430p-1f

static inline int least(int a, int b)
{
    return a < b ? a : b;
}

/* x[i] += x[i + s] for s = 8, 4, 2, 1 */
static inline float total(float x[LANES])
{
    for (int j = 0; j < 8; j++)
        x[j] += x[j + 8];
    for (int j = 0; j < 4; j++)
        x[j] += x[j + 4];
    return (x[0] + x[2]) + (x[1] + x[3]);
}

static inline float sigmoid(float x)
{
    return 1.0f / (1.0f + exact_exp(-x));
}

/* silu'(x) = sigmoid(x) (1 + x (1 - sigmoid(x))) */
static inline float silu_slope(float x)
{
    float s = sigmoid(x);
    return s * fmaf(x, 1.0f - s, 1.0f);
}

/* ---- blocks of channels ------------------------------------------------- */

/* The channels [c, c + n) of a block. */
struct block {
    int c, n;
};

static inline struct block block_of(int index, int d_inner)
{
    int c = index * LANES;
    return (struct block){c, least(LANES, d_inner - c)};
}

/* Lanes from a row of channels; zeros beyond the last channel. */
static inline void load(float x[LANES], const float *row, struct block block)
{
    if (block.n == LANES) {
        memcpy(x, row + block.c, sizeof(float) * LANES);
        return;
    }
    for (int j = 0; j < LANES; j++)
        x[j] = j < block.n ? row[block.c + j] : 0.0f;
}

static inline void store(float *row, const float x[LANES], struct block block)
{
    if (block.n == LANES)
        memcpy(row + block.c, x, sizeof(float) * LANES);
    else
        memcpy(row + block.c, x, sizeof(float) * (size_t)block.n);
}

static inline void add_to(float *row, const float x[LANES], struct block block)
{
    for (int j = 0; j < block.n; j++)
        row[block.c + j] += x[j];
}

#endif
