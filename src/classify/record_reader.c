/* record_reader.c -- reads records, and counts their grams meanwhile.
 *
 * SPDX-License-Identifier: MIT
 */
#include "classify/record_reader.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/signals.h"

enum { RECORDS_TO_SHARE = 16 }; /* fewer are not worth sharing */

enum status record_reader_open(struct record_reader *reader,
                               struct engine *engine,
                               struct state *const *starts, int n_starts,
                               bool wants_pooled, struct grams *grams,
                               int n_threads)
{
    *reader = (struct record_reader){.grams = grams, .n_threads = n_threads};
    TRY(records_open(&reader->records, engine, starts, n_starts, wants_pooled));
    for (int i = 0; i < RECORD_SETS && grams; i++) {
        size_t n = (size_t)reader->records.n;
        reader->bags[i] = calloc(n, sizeof *reader->bags[i]);
        if (!reader->bags[i]) {
            record_reader_close(reader);
            return fail_memory("records");
        }
    }
    return OK;
}

void record_reader_close(struct record_reader *reader)
{
    threads_close(reader->team);
    for (int k = 0; k < RECORD_SETS; k++) {
        for (int i = 0; reader->bags[k] && i < reader->records.n; i++)
            gram_bag_free(&reader->bags[k][i]);
        free(reader->bags[k]);
    }
    records_close(&reader->records);
    *reader = (struct record_reader){0};
}

/* ---- work that is shared ------------------------------------------------ */

struct team_work {
    shared_work *work;
    void *context;
    int n_members;
};

static void do_share(void *context, int index)
{
    const struct team_work *team_work = context;
    team_work->work(team_work->context, index, team_work->n_members);
}

enum status record_reader_share(struct record_reader *reader, int n,
                                shared_work *work, void *context)
{
    struct record_reader *r = reader;
    if (n < RECORDS_TO_SHARE || r->n_threads == 1 || r->is_at_work) {
        work(context, 0, 1);
        return OK;
    }
    if (!r->team)
        TRY(threads_open(&r->team, r->n_threads));
    struct team_work team_work = {work, context, threads_count(r->team)};
    r->is_at_work = true;
    threads_run(r->team, do_share, &team_work);
    r->is_at_work = false;
    return OK;
}

/* ---- reading ------------------------------------------------------------ */

/* Records that are read together. */
struct reading {
    struct record_reader *reader;
    const struct record_parts *parts;
    bool only_starts;
    record_reader_meanwhile *meanwhile;
    void *context;
    enum status engine, grams, caller; /* what came of the work of each */
    char sentence[STATUS_CHARS];       /* of the engine, when it failed */
};

static enum status fill_bags(const struct reading *reading)
{
    struct record_reader *r = reading->reader;
    const struct record_parts *p = reading->parts;
    struct gram_bag *bags = r->bags[r->records.next];
    for (int i = 0; bags && i < p->n; i++) {
        if (i > 0 || !p->goes_on)
            gram_bag_begin(&bags[i]);
        TRY(grams_feed(r->grams, &bags[i], p->parts[i].bytes, p->parts[i].n));
        if (i < p->n_ended)
            TRY(grams_end(r->grams, &bags[i]));
    }
    return OK;
}

static void drive_engine(struct reading *reading)
{
    struct records *r = &reading->reader->records;
    const struct record_parts *p = reading->parts;
    reading->engine = reading->only_starts
                          ? records_start(r, p->parts, p->n, p->goes_on)
                          : records_feed(r, p->parts, p->n, p->goes_on);
    if (reading->engine != OK)
        snprintf(reading->sentence, sizeof reading->sentence, "%s",
                 status_message());
}

/* Member 0 is the caller's thread.  The engine and the grams have a member
 * each, if the team is large enough. */
static void read_share(void *context, int index, int n_members)
{
    struct reading *reading = context;
    int for_engine = n_members > 1 ? 1 : 0, for_grams = n_members > 2 ? 2 : 0;
    if (index == 0)
        reading->caller = reading->meanwhile(reading->context);
    if (index == for_engine)
        drive_engine(reading);
    if (index == for_grams)
        reading->grams = fill_bags(reading);
}

/* A thread's sentence is its own: that of the engine was kept, and that of the
 * grams is said again. */
static enum status read_parts(struct reading *reading)
{
    TRY(record_reader_share(reading->reader, reading->parts->n, read_share,
                            reading));
    TRY(reading->caller);
    if (reading->engine != OK)
        return fail(reading->engine, "%s", reading->sentence);
    if (reading->grams == E_MODEL)
        return fail(E_MODEL, GRAMS_DAMAGED);
    return reading->grams == OK ? OK : fail_memory("a record");
}

enum status record_reader_feed(struct record_reader *reader,
                               const struct record_parts *parts,
                               record_reader_meanwhile *meanwhile,
                               void *context)
{
    struct reading reading = {.reader = reader,
                              .parts = parts,
                              .meanwhile = meanwhile,
                              .context = context};
    return read_parts(&reading);
}

enum status record_reader_start(struct record_reader *reader,
                                const struct record_parts *parts,
                                record_reader_meanwhile *meanwhile,
                                void *context)
{
    struct reading reading = {.reader = reader,
                              .parts = parts,
                              .only_starts = true,
                              .meanwhile = meanwhile,
                              .context = context};
    return read_parts(&reading);
}

enum status record_reader_set_aside(struct record_reader *reader, int n,
                                    bool one_goes_on)
{
    struct record_reader *r = reader;
    TRY(records_set_aside(&r->records, n, one_goes_on));
    struct gram_bag *ended = r->bags[r->records.aside];
    struct gram_bag *bags = r->bags[r->records.next];
    if (ended && one_goes_on) {
        struct gram_bag kept = ended[n];
        ended[n] = bags[0];
        bags[0] = kept;
    }
    return OK;
}

/* ---- examples ----------------------------------------------------------- */

/* parts: [records.n], for the use of this function. */
static enum status read_all(struct record_reader *r, const struct examples *e,
                            struct record_part *parts,
                            record_reader_meanwhile *take, void *context)
{
    size_t most = (size_t)r->records.n;
    record_reader_aside(r)->n = 0; /* of what was read before */
    for (size_t i = 0, size; i < e->n; i += size) {
        size = e->n - i < most ? e->n - i : most;
        for (size_t j = 0; j < size; j++)
            parts[j] =
                (struct record_part){e->items[i + j].text, e->items[i + j].n};
        TRY(signals_check());
        struct record_parts all = {parts, (int)size, (int)size, false};
        TRY(record_reader_start(r, &all, take, context));
        TRY(records_turn(&r->records));
    }
    TRY(take(context));
    TRY(records_finish(&r->records));
    return take(context);
}

enum status record_reader_read(struct record_reader *reader,
                               const struct examples *examples,
                               record_reader_meanwhile *take, void *context)
{
    size_t n = (size_t)reader->records.n;
    struct record_part *parts = calloc(n, sizeof *parts);
    if (!parts)
        return fail_memory("the examples");
    enum status status = read_all(reader, examples, parts, take, context);
    if (status != OK)
        engine_feed_finish(reader->records.engine); /* it has the examples */
    free(parts);
    return status;
}
