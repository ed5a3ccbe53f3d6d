/* sparse.c -- a matrix with few elements that are not zero, row after row.
 *
 * SPDX-License-Identifier: MIT
 */
#include "classify/sparse.h"

#include <stdlib.h>
#include <string.h>

enum { STRIP = 16 }; /* elements of a row of c that stay in registers */

static enum status need_row(struct sparse *s)
{
    if (s->starts && s->n_rows < s->rows_room)
        return OK;
    size_t room = 2 * s->rows_room + 64;
    size_t *starts = realloc(s->starts, (room + 1) * sizeof *starts);
    if (!starts)
        return fail_memory("a matrix");
    if (!s->starts)
        starts[0] = 0;
    s->starts = starts;
    s->rows_room = room;
    return OK;
}

/* Makes room for n elements after those of all rows. */
static enum status need_room(struct sparse *s, size_t n)
{
    size_t used = s->starts[s->n_rows], room = used + used / 2 + n + 1024;
    if (s->values && s->room - used >= n)
        return OK;
    uint32_t *columns = realloc(s->columns, room * sizeof *columns);
    if (!columns)
        return fail_memory("a matrix");
    s->columns = columns;
    float *values = realloc(s->values, room * sizeof *values);
    if (!values)
        return fail_memory("a matrix");
    s->values = values;
    s->room = room;
    return OK;
}

enum status sparse_add_row(struct sparse *sparse, const uint32_t *columns,
                           size_t n, float **values)
{
    struct sparse *s = sparse;
    TRY(need_row(s));
    TRY(need_room(s, n));
    size_t begin = s->starts[s->n_rows];
    if (n > 0)
        memcpy(s->columns + begin, columns, n * sizeof *columns);
    *values = s->values + begin;
    s->starts[++s->n_rows] = begin + n;
    return OK;
}

void sparse_clear(struct sparse *sparse)
{
    sparse->n_rows = 0;
    if (sparse->starts)
        sparse->starts[0] = 0;
}

void sparse_free(struct sparse *sparse)
{
    free(sparse->starts);
    free(sparse->columns);
    free(sparse->values);
    *sparse = (struct sparse){0};
}

static enum status allocate(struct sparse *s, size_t n_rows, size_t n)
{
    *s = (struct sparse){.n_rows = n_rows, .rows_room = n_rows, .room = n};
    s->starts = calloc(n_rows + 2, sizeof *s->starts);
    s->columns = malloc((n + 1) * sizeof *s->columns);
    s->values = malloc((n + 1) * sizeof *s->values);
    if (s->starts && s->columns && s->values)
        return OK;
    sparse_free(s);
    return fail_memory("a matrix");
}

enum status sparse_transpose(struct sparse *transpose,
                             const struct sparse *sparse, size_t n_rows,
                             size_t n_columns)
{
    struct sparse *t = transpose;
    size_t n = n_rows > 0 ? sparse->starts[n_rows] : 0;
    TRY(allocate(t, n_columns, n));
    size_t *next = t->starts + 1; /* filling moves them to the ends */
    for (size_t i = 0; i < n; i++)
        next[sparse->columns[i] + 1]++;
    for (size_t j = 0; j < n_columns; j++)
        next[j + 1] += next[j];
    for (size_t i = 0; i < n_rows; i++) {
        for (size_t e = sparse->starts[i]; e < sparse->starts[i + 1]; e++) {
            size_t to = next[sparse->columns[e]]++;
            t->columns[to] = (uint32_t)i;
            t->values[to] = sparse->values[e];
        }
    }
    return OK;
}

/* Adds to n elements of one row of c. */
static void add_strip(float *c, const struct sparse *a, size_t row,
                      const float *b, size_t ld_b, int n)
{
    for (size_t e = a->starts[row]; e < a->starts[row + 1]; e++) {
        const float *from = b + (size_t)a->columns[e] * ld_b;
        for (int j = 0; j < n; j++)
            c[j] += a->values[e] * from[j];
    }
}

/* The same for STRIP elements, a number that the compiler knows. */
static void add_whole_strip(float *c, const struct sparse *a, size_t row,
                            const float *b, size_t ld_b)
{
    float sums[STRIP];
    memcpy(sums, c, sizeof sums);
    for (size_t e = a->starts[row]; e < a->starts[row + 1]; e++) {
        const float *from = b + (size_t)a->columns[e] * ld_b;
        float value = a->values[e];
        for (int j = 0; j < STRIP; j++)
            sums[j] += value * from[j];
    }
    memcpy(c, sums, sizeof sums);
}

void sparse_add_product(float *c, const struct sparse *a, size_t begin,
                        size_t end, const float *b, int n_j)
{
    size_t ld = (size_t)n_j;
    for (size_t i = begin; i < end; i++, c += ld) {
        int j = 0;
        for (; j + STRIP <= n_j; j += STRIP)
            add_whole_strip(c + j, a, i, b + j, ld);
        add_strip(c + j, a, i, b + j, ld, n_j - j);
    }
}
