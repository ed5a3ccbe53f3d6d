/* record_reader.h -- reads records, and counts their grams meanwhile.
 *
 * What records.h does, on up to three threads: one drives the engine, one
 * counts grams, and the caller's is free for other work.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_RECORD_READER_H
#define MAMBYTE_RECORD_READER_H

#include <stdbool.h>

#include "base/status.h"
#include "base/threads.h"
#include "classify/examples.h"
#include "classify/grams.h"
#include "engine/records.h"

struct record_reader {
    struct records records;
    struct grams *grams; /* NULL: none are counted */

    /* [records.n], of each set of records; NULL where no grams are counted */
    struct gram_bag *bags[RECORD_SETS];

    int n_threads;
    struct threads *team; /* NULL until there are records for several */
    bool is_at_work;      /* the team */
};

/* starts, n_starts, wants_pooled: as in records_open.  The grams, too, stay the
 * caller's.  n_threads: as in threads_open; with 1 the caller's thread does
 * everything.  On failure the reader is closed. */
enum status record_reader_open(struct record_reader *reader,
                               struct engine *engine,
                               struct state *const *starts, int n_starts,
                               bool wants_pooled, struct grams *grams,
                               int n_threads);
void record_reader_close(struct record_reader *reader);

/* Parts of records that are read together. */
struct record_parts {
    const struct record_part *parts; /* [n]: part i is of item i */
    int n, n_ended;                  /* the first n_ended end their records */
    bool goes_on;                    /* item 0 goes on with its record */
};

/* Work of the caller while records are read: on those set aside, say. */
typedef enum status record_reader_meanwhile(void *context);

/* records_feed, and the grams too.  The caller's thread calls meanwhile before
 * this returns. */
enum status record_reader_feed(struct record_reader *reader,
                               const struct record_parts *parts,
                               record_reader_meanwhile *meanwhile,
                               void *context);

/* Like record_reader_feed, by records_start, for records that all end; call
 * records_turn or records_finish afterwards. */
enum status record_reader_start(struct record_reader *reader,
                                const struct record_parts *parts,
                                record_reader_meanwhile *meanwhile,
                                void *context);

/* records_set_aside, and the grams too. */
enum status record_reader_set_aside(struct record_reader *reader, int n,
                                    bool one_goes_on);

/* Reads all examples, a batch at a time, and calls take for each batch when
 * its records are aside, in the order of the examples; at times none is
 * aside.  A signal ends the reading with E_INTERRUPTED. */
enum status record_reader_read(struct record_reader *reader,
                               const struct examples *examples,
                               record_reader_meanwhile *take, void *context);

/* The set of records that are aside, and their bags. */
static inline struct record_set *
record_reader_aside(struct record_reader *reader)
{
    return &reader->records.sets[reader->records.aside];
}

static inline struct gram_bag *record_reader_bags(struct record_reader *reader)
{
    return reader->bags[reader->records.aside];
}

/* Does one member's share of some work. */
typedef void shared_work(void *context, int index, int n_members);

/* Does work on n records: all members of the team, or, when the records are
 * few or the team is at other work, the caller as the only member. */
enum status record_reader_share(struct record_reader *reader, int n,
                                shared_work *work, void *context);

#endif
