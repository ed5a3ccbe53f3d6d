/* sparse.h -- a matrix of which few elements are not zero, row after row.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_SPARSE_H
#define MAMBYTE_SPARSE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Row i is elements begins[i] up to begins[i + 1]. */
struct sparse {
    size_t *begins;    /* [n_rows + 1]; NULL where nothing was added yet */
    uint32_t *columns; /* [begins[n_rows]] */
    float *values;     /* likewise */
    size_t n_rows;
    size_t rows_room, room; /* that is allocated: rows, elements */
};

/* Adds a row of n elements, whose columns are given, and leaves the place of
 * its values to be filled. */
enum status sparse_add_row(struct sparse *sparse, const uint32_t *columns,
                           size_t n, float **values);

/* Rows are taken away, their memory stays. */
void sparse_clear(struct sparse *sparse);
void sparse_free(struct sparse *sparse);

/* The transpose of the first n_rows rows, of columns below n_columns: what is
 * in a row of it has the order of the rows. */
enum status sparse_transpose(struct sparse *transpose,
                             const struct sparse *sparse, size_t n_rows,
                             size_t n_columns);

/* c += a b for rows [begin, end) of a and c; b: [..][n_j], c: [..][n_j], the
 * first row of c being begin.  An element of c is added up in the order of
 * the elements of a row. */
void sparse_add_product(float *c, const struct sparse *a, size_t begin,
                        size_t end, const float *b, int n_j);

#endif
