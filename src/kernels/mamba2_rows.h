/* mamba2_rows.h -- room for the rows of Mamba-2.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MAMBA2_ROWS_H
#define MAMBYTE_MAMBA2_ROWS_H

#include "base/carver.h"
#include "kernels/mamba2.h"

/* The arrays for n bytes; ld is the caller's to set. */
static inline void mamba2_rows_carve(struct mamba2_rows *rows,
                                     struct carver *carver,
                                     const struct model_config *c, size_t n)
{
    size_t heads = (size_t)c->n_heads, groups = (size_t)c->n_groups;
    struct mamba2_rows *r = rows;
    r->zx = carve_floats(carver, n, r->ld);
    r->x = carve(carver, n * (size_t)c->d_inner, 1);
    r->x_scale = carve_floats(carver, n, heads);
    r->c = carve(carver, n * groups * (size_t)c->d_state, 1);
    r->c_scale = carve_floats(carver, n, groups);
    r->c_sum = carve(carver, n * groups, sizeof(int32_t));
    r->b_scale = carve_floats(carver, n, groups);
    r->scores = carve(carver, n * groups * CHUNK, sizeof(int32_t));
    r->delta = carve_floats(carver, n, heads);
    r->alpha = carve_floats(carver, n, heads);
    r->squares = carve_floats(carver, n, heads);
    r->largest = carve_floats(carver, n, heads);
}

#endif
