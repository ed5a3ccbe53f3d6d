/* records.h -- the engine reads records, many in company.
 *
 * Every record is read from the same start: from one state, for its features,
 * or from several, one for each class, for what it costs after each.  A record
 * may come in parts, over several calls.  Records that have ended are set
 * aside, so that others can be read while something is made of them.
 *
 * Who has many starts to read some while others are under way: three sets of
 * records take turns, one that is read next, one that is being read, and one
 * aside.  What belongs to a set elsewhere has its index.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_RECORDS_H
#define MAMBYTE_RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/engine.h"

struct record_part {
    const uint8_t *bytes; /* [n] */
    size_t n;
};

/* A record that is being read, or has been. */
struct record {
    uint64_t n_bytes;
    float *pooled; /* [sums_floats()], or NULL; those of the next behind */
    double *bits;  /* [n_begins], or NULL */
};

struct record_set {
    struct record *items; /* [n], of records->n that there may be */
    int n;
    struct state **streams; /* [n_begins] for each item, NULL until made; a set
                             * that is not read may have none */
    float *pooled;          /* [n_sums][sums_floats()] */
    int n_pooled;
    double *bits;             /* [n_begins] for each item */
    struct segment *segments; /* [n_begins] for each item */
    float *costs;             /* [n_costs], of bytes, in one call */
    size_t n_costs;
};

enum { RECORD_SETS = 3 };

struct records {
    struct engine *engine;
    struct state *const *begins; /* [n_begins] */
    int n_begins;
    int n; /* so many are read together */
    bool has_pooled;
    struct record_set sets[RECORD_SETS];
    int next, reading, aside; /* of the sets */
};

/* wants_sums: else the bits.  The begins stay the caller's. */
enum status records_open(struct records *records, struct engine *engine,
                         struct state *const *begins, int n_begins,
                         bool wants_pooled);
void records_close(struct records *records);

/* Of the next set, item i reads parts[i], i below n <= records->n, from its
 * begin; but item 0 from where it is when goes_on. */
enum status records_feed(struct records *records,
                         const struct record_part *parts, int n, bool goes_on);

/* Items [0, n) of it have ended, and are set aside in place of others that
 * were; item n goes on, as item 0 of the next, when one_goes_on. */
enum status records_set_aside(struct records *records, int n, bool one_goes_on);

/* The same for records of which all end: they are only begun, and their bytes
 * stay in place.  When it returns, those begun before have been read. */
enum status records_start(struct records *records,
                          const struct record_part *parts, int n, bool goes_on);

/* Those that were begun last are being read; those before are aside. */
void records_turn(struct records *records);

/* All that were begun have been read, and the last of them are aside. */
enum status records_finish(struct records *records);

/* The mean over the bytes of records [begin, end) of those aside, in place of
 * their sum. */
void records_average(struct records *records, int begin, int end);

#endif
