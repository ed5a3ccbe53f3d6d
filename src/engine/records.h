/* records.h -- the engine reads records, many together.
 *
 * Every record is read from the same start: from one state, for its pooled
 * features; or from several, one for each class, for its bits after each.  A
 * record may come in parts, over several calls.  Records that have ended are
 * set aside: the caller uses them while the engine reads others.
 *
 * A caller with many records starts some while others are being read.  Three
 * sets of records take turns: one is read next, one is being read, one is
 * aside.  A caller keeps its own data for a set under the set's index.
 *
 * Where the engine's memory ends, fewer records are read together.
 *
 * Features that are no finite numbers are an error (model_overflows).
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
    bool has_text; /* it is not blank: text_is_blank() */
    float *pooled; /* [pooled_floats()], or NULL; the next record's follow */
    double *bits;  /* [n_starts], or NULL */
};

struct record_set {
    struct record *items;   /* [n], of at most records->n */
    int n, n_together;      /* items; that are read together */
    struct state **streams; /* [n_streams]: n_starts for each of those */
    size_t n_streams;       /* that are made; a set that is not read may have
                             * none */
    float *pooled;          /* [n_pooled][pooled_floats()] */
    int n_pooled;
    double *bits;             /* [n_starts] for each item */
    struct segment *segments; /* [n_starts] for each item */
    float *costs;             /* [n_costs]: bits of the bytes of one call */
    size_t n_costs;
};

enum { RECORD_SETS = 3 };

struct records {
    struct engine *engine;
    struct state *const *starts; /* [n_starts] */
    int n_starts;
    int n; /* of a set, at most */
    bool has_pooled;
    bool is_short; /* the engine had no memory for more streams */
    struct record_set sets[RECORD_SETS];
    int next, reading, aside; /* indices of sets */
};

/* wants_pooled: else the bits.  The starts stay the caller's.  With n_starts 0
 * the bytes of records are counted; the engine reads nothing, and may be NULL.
 */
enum status records_open(struct records *records, struct engine *engine,
                         struct state *const *starts, int n_starts,
                         bool wants_pooled);
void records_close(struct records *records);

/* Item i of the next set reads parts[i], for n <= records->n parts.  Each item
 * starts a record, except item 0 when goes_on: it goes on with its record. */
enum status records_feed(struct records *records,
                         const struct record_part *parts, int n, bool goes_on);

/* Items [0, n) of the next set have ended, and are set aside; those that were
 * aside are given up.  When one_goes_on, item n becomes item 0 of the next
 * set. */
enum status records_set_aside(struct records *records, int n, bool one_goes_on);

/* Like records_feed, for records that all end; but it only starts the reading,
 * so their bytes have to stay until it has finished.  When this returns, the
 * records that were started before have been read. */
enum status records_start(struct records *records,
                          const struct record_part *parts, int n, bool goes_on);

/* After records_start: the records started last are now being read, and those
 * started before are aside. */
enum status records_turn(struct records *records);

/* Waits until all records that were started have been read; the last of them
 * are aside. */
enum status records_finish(struct records *records);

/* Divides the pooled features of records [begin, end) of those aside by the
 * numbers of their bytes; those of blank records become 0. */
void records_average(struct records *records, int begin, int end);

#endif
