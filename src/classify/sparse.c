/* sparse.c -- a matrix of which few elements are not zero, row after row.
 *
 * SPDX-License-Identifier: MIT
 */
#include "classify/sparse.h"

#include <stdlib.h>
#include <string.h>

enum { STRIP = 16 }; /* elements of a row of c that stay in registers */

static enum status need_row(struct sparse *s)
{
    if (s->begins && s->n_rows < s->rows_room)
        return OK;
    size_t room = 2 * s->rows_room + 64;
    size_t *begins = realloc(s->begins, (room + 1) * sizeof *begins);
    if (!begins)
        return fail_memory("a matrix");
    if (!s->begins)
        begins[0] = 0;
    s->begins = begins;
    s->rows_room = room;
    return OK;
}

/* For n elements after those of all rows. */
static enum status need_room(struct sparse *s, size_t n)
{
    size_t used = s->begins[s->n_rows], room = used + used / 2 + n + 1024;
    if (s->room - used >= n)
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
    size_t begin = s->begins[s->n_rows];
    if (n > 0)
        memcpy(s->columns + begin, columns, n * sizeof *columns);
    *values = s->values + begin;
    s->begins[++s->n_rows] = begin + n;
    return OK;
}

void sparse_clear(struct sparse *sparse)
{
    sparse->n_rows = 0;
    if (sparse->begins)
        sparse->begins[0] = 0;
}

void sparse_free(struct sparse *sparse)
{
    free(sparse->begins);
    free(sparse->columns);
    free(sparse->values);
    *sparse = (struct sparse){0};
}

static enum status allocate(struct sparse *s, size_t n_rows, size_t n)
{
    *s = (struct sparse){.n_rows = n_rows, .rows_room = n_rows, .room = n};
    s->begins = calloc(n_rows + 2, sizeof *s->begins);
    s->columns = malloc((n + 1) * sizeof *s->columns);
    s->values = malloc((n + 1) * sizeof *s->values);
    if (s->begins && s->columns && s->values)
        return OK;
    sparse_free(s);
    return fail_memory("a matrix");
}

enum status sparse_transpose(struct sparse *transpose,
                             const struct sparse *sparse, size_t n_rows,
                             size_t n_columns)
{
    struct sparse *t = transpose;
    size_t n = n_rows > 0 ? sparse->begins[n_rows] : 0;
    TRY(allocate(t, n_columns, n));
    size_t *next = t->begins + 1; /* becomes the ends, by filling */
    for (size_t i = 0; i < n; i++)
        next[sparse->columns[i] + 1]++;
    for (size_t j = 0; j < n_columns; j++)
        next[j + 1] += next[j];
    for (size_t i = 0; i < n_rows; i++) {
        for (size_t e = sparse->begins[i]; e < sparse->begins[i + 1]; e++) {
            size_t to = next[sparse->columns[e]]++;
            t->columns[to] = (uint32_t)i;
            t->values[to] = sparse->values[e];
        }
    }
    return OK;
}

/* n elements of one row of c. */
static void add_strip(float *c, const struct sparse *a, size_t row,
                      const float *b, size_t ld_b, int n)
{
    for (size_t e = a->begins[row]; e < a->begins[row + 1]; e++) {
        const float *from = b + (size_t)a->columns[e] * ld_b;
        for (int j = 0; j < n; j++)
            c[j] += a->values[e] * from[j];
    }
}

/* The same of STRIP: a number that the compiler knows. */
static void add_whole_strip(float *c, const struct sparse *a, size_t row,
                            const float *b, size_t ld_b)
{
    float sums[STRIP];
    memcpy(sums, c, sizeof sums);
    for (size_t e = a->begins[row]; e < a->begins[row + 1]; e++) {
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
