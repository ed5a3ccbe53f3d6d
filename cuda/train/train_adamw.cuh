/* train_adamw.cuh -- the size of a gradient, and AdamW: adamw.c says what it
 * computes.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TRAIN_ADAMW_CUH
#define MAMBYTE_TRAIN_ADAMW_CUH

#include "base/carver.h"
extern "C" {
#include "train/trainer.h"
}

struct replica;

enum {
    NORM_PARTS = 1024,  /* partial sums of the gradient's squares   */
    ADAMW_FLOATS = 4096 /* at most, that a block updates            */
};

/* Consecutive floats of the parameters, up to ADAMW_FLOATS. */
struct adamw_range {
    unsigned long long start;
    int n;
    float decays; /* 1 or 0 */
};

/* What AdamW updates. */
struct adamw_table {
    const struct adamw_range *ranges; /* [n], device */
    int n;
};

void adamw_count(struct adamw_table *table, const struct parameters *p);
void adamw_carve(struct adamw_table *table, struct carver *carver);
enum status adamw_fill(const struct replica *r);

/* r->sums: the root of the gradient's sum of squares is the last. */
void launch_gradient_norm(const struct replica *r);
void launch_adamw(const struct replica *r, const struct update *update);

#endif
