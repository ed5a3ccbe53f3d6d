/* records.c -- the engine reads records, many together.
 *
 * SPDX-License-Identifier: MIT
 */
#include "engine/records.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "engine/pooled.h"

/* How many streams are read together, and how much memory their states may
 * take, when engine_busy_bytes() is 0. */
enum { STREAMS = 64 };
#define STREAMS_BYTES ((size_t)1 << 30)

/* ---- opening ------------------------------------------------------------ */

static int count_items(const struct records *r)
{
    int n = STREAMS;
    if (r->n_starts == 0)
        return n;
    size_t state = model_state_size(&engine_model(r->engine)->config);
    if (engine_busy_bytes(r->engine) > 0)
        n = engine_busy_bytes(r->engine) / 2; /* others are read meanwhile */
    else if (STREAMS_BYTES / state < STREAMS)
        n = (int)(STREAMS_BYTES / state);
    return n > r->n_starts ? n / r->n_starts : 1;
}

static size_t pooled_each(const struct records *r)
{
    return pooled_floats(&engine_model(r->engine)->config);
}

static enum status open_set(const struct records *r, struct record_set *set)
{
    size_t n = (size_t)r->n, n_streams = n * (size_t)r->n_starts;
    set->items = calloc(n, sizeof *set->items);
    set->streams =
        (struct state **)calloc(n_streams + 1, sizeof(struct state *));
    set->segments = calloc(n_streams + 1, sizeof *set->segments);
    if (!r->has_pooled)
        set->bits = calloc(n_streams + 1, sizeof *set->bits);
    if (!set->items || !set->streams || !set->segments ||
        (!r->has_pooled && !set->bits))
        return fail_memory("records");
    for (int i = 0; i < r->n && set->bits; i++)
        set->items[i].bits = set->bits + (size_t)i * (size_t)r->n_starts;
    return OK;
}

static void close_set(const struct records *r, struct record_set *set)
{
    for (size_t i = 0; i < set->n_streams; i++)
        engine_state_free(r->engine, set->streams[i]);
    if (set->pooled)
        engine_floats_free(r->engine, set->pooled);
    free(set->items);
    free(set->streams);
    free(set->bits);
    free(set->segments);
    free(set->costs);
}

enum status records_open(struct records *records, struct engine *engine,
                         struct state *const *starts, int n_starts,
                         bool wants_pooled)
{
    *records = (struct records){.engine = engine,
                                .starts = starts,
                                .n_starts = n_starts,
                                .has_pooled = wants_pooled,
                                .next = 0,
                                .reading = 1,
                                .aside = 2};
    records->n = count_items(records);
    enum status status = OK;
    for (int i = 0; i < RECORD_SETS && status == OK; i++)
        status = open_set(records, &records->sets[i]);
    if (status != OK)
        records_close(records);
    return status;
}

void records_close(struct records *records)
{
    engine_feed_finish(records->engine);
    for (int i = 0; i < RECORD_SETS; i++)
        close_set(records, &records->sets[i]);
    *records = (struct records){0};
}

/* ---- streams ------------------------------------------------------------ */

static void swap_streams(struct record_set *a, struct record_set *b)
{
    struct state **streams = a->streams;
    size_t n = a->n_streams;
    a->streams = b->streams;
    a->n_streams = b->n_streams;
    b->streams = streams;
    b->n_streams = n;
}

static void swap_states(struct state **a, struct state **b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct state *state = a[i];
        a[i] = b[i];
        b[i] = state;
    }
}

/* Those of item i. */
static struct state **streams_of(const struct records *r,
                                 const struct record_set *set, int i)
{
    return set->streams + (size_t)(i % set->n_together) * (size_t)r->n_starts;
}

/* Makes streams until the set has n of them, or the engine's memory ends; but
 * least in any case. */
static enum status make_streams(struct records *r, struct record_set *set,
                                size_t n, size_t least)
{
    size_t had = set->n_streams, n_made;
    if (n <= had || (r->is_short && least <= had))
        return OK;
    enum status status =
        engine_states_new(r->engine, set->streams + had, n - had,
                          least > had ? least - had : 0, &n_made);
    set->n_streams += n_made;
    r->is_short = r->is_short || set->n_streams < n;
    return status;
}

/* Gives the next set streams for n items, or for fewer where the engine's
 * memory ends.  Those of the set that is being read are taken, when that has
 * ended, if they are more. */
static enum status need_streams(struct records *r, int n, bool goes_on)
{
    struct record_set *set = &r->sets[r->next], *other = &r->sets[r->reading];
    size_t each = (size_t)r->n_starts, wanted = (size_t)n * each;
    TRY(make_streams(r, set, wanted, other->n_streams < each ? each : 0));
    if (set->n_streams < wanted && set->n_streams < other->n_streams) {
        TRY(engine_feed_finish(r->engine));
        swap_streams(set, other);
        if (goes_on)
            swap_states(set->streams, other->streams, each);
    }
    set->n_together =
        set->n_streams < wanted ? (int)(set->n_streams / each) : n;
    return OK;
}

/* ---- reading ------------------------------------------------------------ */

/* Makes room for the features of n items; those of item 0 are kept. */
static enum status need_pooled(struct records *r, struct record_set *set, int n)
{
    int room = 1;
    float *pooled;
    if (!r->has_pooled || n <= set->n_pooled)
        return OK;
    size_t each = pooled_each(r);
    while (room < n)
        room *= 2;
    room = room < r->n ? room : r->n;
    TRY(engine_floats_new(r->engine, &pooled, (size_t)room * each));
    if (set->pooled) {
        memcpy(pooled, set->pooled, each * sizeof *pooled);
        engine_floats_free(r->engine, set->pooled);
    }
    set->pooled = pooled;
    set->n_pooled = room;
    for (int i = 0; i < room; i++)
        set->items[i].pooled = pooled + (size_t)i * each;
    return OK;
}

/* Starts a record in item i. */
static void begin_item(const struct records *r, struct record_set *set, int i)
{
    struct record *item = &set->items[i];
    item->n_bytes = 0;
    item->has_text = false;
    if (item->pooled)
        memset(item->pooled, 0, pooled_each(r) * sizeof(float));
    for (int j = 0; item->bits && j < r->n_starts; j++)
        item->bits[j] = 0;
}

/* Makes room for the bits of every byte, once for each start. */
static enum status need_costs(const struct records *r, struct record_set *set,
                              const struct record_part *parts, int n)
{
    size_t n_bytes = 1; /* never 0, for realloc */
    for (int i = 0; i < n; i++)
        n_bytes += parts[i].n * (size_t)r->n_starts;
    if (r->has_pooled || n_bytes <= set->n_costs)
        return OK;
    float *costs = realloc(set->costs, n_bytes * sizeof *costs);
    if (!costs)
        return fail_memory("records");
    set->costs = costs;
    set->n_costs = n_bytes;
    return OK;
}

static void make_segments(const struct records *r, struct record_set *set,
                          const struct record_part *parts)
{
    struct segment *s = set->segments;
    float *costs = set->costs;
    for (int i = 0; i < set->n; i++) {
        struct state **streams = streams_of(r, set, i);
        for (int j = 0; j < r->n_starts; j++, s++) {
            *s = (struct segment){.state = streams[j],
                                  .bytes = parts[i].bytes,
                                  .n = parts[i].n,
                                  .pooled = set->items[i].pooled};
            if (set->bits) {
                s->bits = costs;
                costs += parts[i].n;
            }
        }
    }
}

/* Makes the segments of the next set, which is to read parts. */
static enum status prepare(struct records *r, const struct record_part *parts,
                           int n, bool goes_on)
{
    struct record_set *set = &r->sets[r->next];
    TRY(need_streams(r, n, goes_on));
    TRY(need_pooled(r, set, n));
    for (int i = goes_on ? 1 : 0; i < n; i++)
        begin_item(r, set, i);
    TRY(need_costs(r, set, parts, n));
    set->n = n;
    make_segments(r, set, parts);
    for (int i = 0; i < n; i++) {
        set->items[i].n_bytes += parts[i].n;
        if (!set->items[i].has_text)
            set->items[i].has_text = !text_is_blank(parts[i].bytes, parts[i].n);
    }
    return OK;
}

/* Reads items [first, end) of the next set, each from the start of its record;
 * item 0, when it goes on, from where it is. */
static enum status read_items(struct records *r, int first, int end,
                              bool goes_on, bool only_starts)
{
    struct record_set *set = &r->sets[r->next];
    size_t n_starts = (size_t)r->n_starts, n = (size_t)(end - first) * n_starts;
    const struct segment *segments = set->segments + (size_t)first * n_starts;
    for (int i = goes_on && first == 0 ? 1 : first; i < end; i++) {
        for (int j = 0; j < r->n_starts; j++)
            TRY(engine_state_copy(r->engine, streams_of(r, set, i)[j],
                                  r->starts[j]));
    }
    return only_starts ? engine_feed_start(r->engine, segments, n)
                       : engine_feed(r->engine, segments, n);
}

/* Reads the next set, as many items together as have streams.  only_starts: the
 * last of them are only started. */
static enum status read_set(struct records *r, bool goes_on, bool only_starts)
{
    const struct record_set *set = &r->sets[r->next];
    int end = 0;
    do {
        int first = end, left = set->n - first;
        end += left < set->n_together ? left : set->n_together;
        TRY(read_items(r, first, end, goes_on, only_starts && end == set->n));
    } while (end < set->n);
    return OK;
}

static void add_costs(const struct records *r, struct record_set *set)
{
    for (int i = 0; set->bits && i < set->n * r->n_starts; i++) {
        const struct segment *s = &set->segments[i];
        for (size_t t = 0; t < s->n; t++)
            set->bits[i] += (double)s->bits[t];
    }
}

/* The features of a model that overflows are no numbers. */
static enum status check_pooled(const struct records *r,
                                const struct record_set *set)
{
    size_t n = r->has_pooled ? (size_t)set->n * pooled_each(r) : 0;
    float sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += 0.0f * set->pooled[i];
    return sum == 0.0f ? OK : model_overflows(engine_model(r->engine));
}

/* Takes the results of a set that has been read. */
static enum status take_results(const struct records *r, struct record_set *set)
{
    add_costs(r, set);
    return check_pooled(r, set);
}

enum status records_feed(struct records *records,
                         const struct record_part *parts, int n, bool goes_on)
{
    struct records *r = records;
    TRY(prepare(r, parts, n, goes_on));
    TRY(read_set(r, goes_on, false));
    return take_results(r, &r->sets[r->next]);
}

enum status records_start(struct records *records,
                          const struct record_part *parts, int n, bool goes_on)
{
    TRY(prepare(records, parts, n, goes_on));
    return read_set(records, goes_on, true);
}

/* ---- turns -------------------------------------------------------------- */

static void swap(int *a, int *b)
{
    int c = *a;
    *a = *b;
    *b = c;
}

/* Item n of those aside becomes item 0 of the next set, which has all streams
 * already. */
static enum status keep(struct records *r, int n)
{
    struct record_set *from = &r->sets[r->aside], *to = &r->sets[r->next];
    struct record *item = &from->items[n];
    size_t n_starts = (size_t)r->n_starts;
    TRY(need_pooled(r, to, 1));
    to->items[0].n_bytes = item->n_bytes;
    to->items[0].has_text = item->has_text;
    if (r->has_pooled)
        memcpy(to->pooled, item->pooled, pooled_each(r) * sizeof(float));
    else
        memcpy(to->bits, item->bits, n_starts * sizeof *to->bits);
    size_t place = (size_t)(n % from->n_together);
    swap_states(to->streams, to->streams + place * n_starts, n_starts);
    return OK;
}

enum status records_set_aside(struct records *records, int n, bool one_goes_on)
{
    struct records *r = records;
    swap(&r->next, &r->aside);
    swap_streams(&r->sets[r->next], &r->sets[r->aside]);
    r->sets[r->aside].n = n;
    return one_goes_on ? keep(r, n) : OK;
}

/* Gives the set that is read next the streams of another.  An asynchronous
 * engine needs two sets of streams, as it reads one set of records while the
 * next is started; another engine needs one. */
static void take_streams(struct records *r)
{
    struct record_set *next = &r->sets[r->next];
    for (int i = 0; i < RECORD_SETS && next->n_streams == 0; i++) {
        if (i != r->reading || !engine_is_asynchronous(r->engine))
            swap_streams(next, &r->sets[i]);
    }
}

enum status records_turn(struct records *records)
{
    struct records *r = records;
    swap(&r->next, &r->aside);
    swap(&r->aside, &r->reading);
    take_streams(r);
    return take_results(r, &r->sets[r->aside]);
}

enum status records_finish(struct records *records)
{
    struct records *r = records;
    TRY(engine_feed_finish(r->engine));
    swap(&r->aside, &r->reading);
    r->sets[r->reading].n = 0;
    take_streams(r);
    return take_results(r, &r->sets[r->aside]);
}

void records_average(struct records *records, int begin, int end)
{
    size_t n = pooled_each(records);
    for (int i = begin; i < end; i++) {
        struct record *record = &records->sets[records->aside].items[i];
        if (!record->has_text)
            memset(record->pooled, 0, n * sizeof *record->pooled);
        float n_bytes = record->n_bytes > 0 ? (float)record->n_bytes : 1.0f;
        for (size_t j = 0; j < n; j++)
            record->pooled[j] /= n_bytes;
    }
}
