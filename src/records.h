/* records.h -- the engine reads records, many in company.
 *
 * Every record is read from the same begin: from one state, for its sums, or
 * from several, one for each class, for what it costs after each.  A record
 * may come in parts, over several calls.  Records that have ended are set
 * aside, so that others can be read while something is made of them.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_RECORDS_H
#define MAMBYTE_RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine.h"
#include "status.h"

struct record_part {
    const uint8_t *bytes; /* [n] */
    size_t n;
};

/* A record that is being read, or has been. */
struct record {
    uint64_t n_bytes;
    float *sums;            /* [sums_floats()], or NULL */
    double *bits;           /* [n_begins], or NULL */
    struct state **streams; /* [n_begins] */
};

/* One that has been set aside. */
struct record_aside {
    uint64_t n_bytes;
    float *sums;        /* [sums_floats()], or NULL; those of the next behind */
    const double *bits; /* [n_begins], or NULL: until others are read         */
};

struct records {
    struct engine *engine;
    struct state *const *begins; /* [n_begins] */
    int n_begins;
    struct record *items; /* [n]: so many are read together */
    int n;
    struct record_aside *aside; /* [n_aside] */
    int n_aside;
    bool has_sums;
    float *sums[2]; /* [n_sums][sums_floats()]: of items, of those aside */
    int n_sums[2];
    struct segment *segments; /* [n][n_begins] */
    float *costs;             /* [n_costs], of bytes, in one call */
    size_t n_costs;
};

/* wants_sums: else the bits.  The begins stay the caller's. */
enum status records_open(struct records *records, struct engine *engine,
                         struct state *const *begins, int n_begins,
                         bool wants_sums);
void records_close(struct records *records);

/* Item i reads parts[i], i below n <= records->n, from its begin; but item 0
 * from where it is when goes_on. */
enum status records_feed(struct records *records,
                         const struct record_part *parts, int n, bool goes_on);

/* Items [0, n) have ended, and are set aside in place of others that were;
 * item n goes on, as item 0, when one_goes_on. */
enum status records_set_aside(struct records *records, int n, bool one_goes_on);

/* The mean over the bytes of records [begin, end) of those aside, in place of
 * their sums. */
void records_average(struct records *records, int begin, int end);

#endif
