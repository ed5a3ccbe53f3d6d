/* sparse.h -- a matrix with few elements that are not zero, row after row.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_SPARSE_H
#define MAMBYTE_SPARSE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Row i is elements starts[i] up to starts[i + 1]. */
struct sparse {
    size_t *starts;    /* [n_rows + 1]; NULL before the first row is added */
    uint32_t *columns; /* [starts[n_rows]] */
    float *values;     /* likewise */
    size_t n_rows;
    size_t rows_room, room; /* that is allocated: rows, elements */
};

/* Adds a row of n elements in the given columns; the caller fills in *values,
 * [n]. */
enum status sparse_add_row(struct sparse *sparse, const uint32_t *columns,
                           size_t n, float **values);

/* Removes all rows, but keeps their memory. */
void sparse_clear(struct sparse *sparse);
void sparse_free(struct sparse *sparse);

/* The transpose of the first n_rows rows, which has n_columns rows.  The
 * elements of a row are in the order of the rows they came from. */
enum status sparse_transpose(struct sparse *transpose,
                             const struct sparse *sparse, size_t n_rows,
                             size_t n_columns);

/* c += a b for rows [begin, end) of a and c; b: [..][n_j], c: [..][n_j], from
 * row begin on.  An element of c is added up in the order of the elements of
 * the row of a. */
void sparse_add_product(float *c, const struct sparse *a, size_t begin,
                        size_t end, const float *b, int n_j);

#endif
