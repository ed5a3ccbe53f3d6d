/* records.c -- the engine reads records, many in company.
 *
 * SPDX-License-Identifier: MIT
 */
#include "records.h"

#include <stdlib.h>
#include <string.h>

enum {
    STREAMS = 64 /* together, where the engine has no wish */
};

/* Of memory that their states may take. */
#define STREAMS_BYTES ((size_t)1 << 30)

/* ---- opening ------------------------------------------------------------ */

static int count_items(const struct records *r)
{
    const struct model_config *c = &r->engine->model->config;
    size_t state = model_state_floats(c) * sizeof(float);
    int n = STREAMS;
    if (r->engine->n_together > 0)
        n = r->engine->n_together;
    else if (STREAMS_BYTES / state < STREAMS)
        n = (int)(STREAMS_BYTES / state);
    return n > r->n_begins ? n / r->n_begins : 1;
}

static size_t sums_each(const struct records *r)
{
    return sums_floats(&r->engine->model->config);
}

enum status records_open(struct records *records, struct engine *engine,
                         struct state *const *begins, int n_begins,
                         bool wants_sums)
{
    *records = (struct records){.engine = engine,
                                .begins = begins,
                                .n_begins = n_begins,
                                .has_sums = wants_sums};
    records->n = count_items(records);
    size_t n = (size_t)records->n;
    records->items = calloc(n, sizeof *records->items);
    records->aside = calloc(n, sizeof *records->aside);
    records->segments = calloc(n * (size_t)n_begins, sizeof *records->segments);
    if (records->items && records->aside && records->segments)
        return OK;
    records_close(records);
    return fail_memory("records");
}

void records_close(struct records *records)
{
    for (int i = 0; records->items && i < records->n; i++) {
        struct record *item = &records->items[i];
        for (int j = 0; item->streams && j < records->n_begins; j++)
            engine_state_free(records->engine, item->streams[j]);
        free(item->streams);
        free(item->bits);
    }
    for (int i = 0; i < 2; i++) {
        if (records->sums[i])
            engine_floats_free(records->engine, records->sums[i]);
    }
    free(records->items);
    free(records->aside);
    free(records->segments);
    free(records->costs);
    *records = (struct records){0};
}

/* ---- reading ------------------------------------------------------------ */

/* An item gets what it needs when it is first used. */
static enum status need_item(struct records *r, struct record *item)
{
    size_t n = (size_t)r->n_begins;
    if (item->streams)
        return OK;
    item->streams = calloc(n, sizeof(struct state *));
    if (!r->has_sums)
        item->bits = calloc(n, sizeof(double));
    if (!item->streams || (!r->has_sums && !item->bits))
        return fail_memory("records");
    for (size_t i = 0; i < n; i++)
        TRY(engine_state_new(r->engine, &item->streams[i]));
    return OK;
}

static void place_sums(struct records *r)
{
    for (int i = 0; i < r->n_sums[0]; i++)
        r->items[i].sums = r->sums[0] + (size_t)i * sums_each(r);
}

/* Sums for n items, at least; those of item 0 are kept. */
static enum status need_sums(struct records *r, int n)
{
    size_t each = sums_each(r);
    int room = 1;
    float *sums;
    if (!r->has_sums || n <= r->n_sums[0])
        return OK;
    while (room < n)
        room *= 2;
    room = room < r->n ? room : r->n;
    TRY(engine_floats_new(r->engine, &sums, (size_t)room * each));
    if (r->sums[0]) {
        memcpy(sums, r->sums[0], each * sizeof *sums);
        engine_floats_free(r->engine, r->sums[0]);
    }
    r->sums[0] = sums;
    r->n_sums[0] = room;
    place_sums(r);
    return OK;
}

static enum status begin_item(struct records *r, struct record *item)
{
    TRY(need_item(r, item));
    item->n_bytes = 0;
    if (item->sums)
        memset(item->sums, 0, sums_each(r) * sizeof(float));
    for (int j = 0; j < r->n_begins; j++) {
        if (item->bits)
            item->bits[j] = 0;
        TRY(engine_state_copy(r->engine, item->streams[j], r->begins[j]));
    }
    return OK;
}

/* Room for the cost of every byte, once for each begin. */
static enum status need_costs(struct records *r,
                              const struct record_part *parts, int n)
{
    size_t n_bytes = 0;
    for (int i = 0; i < n; i++)
        n_bytes += parts[i].n * (size_t)r->n_begins;
    if (r->has_sums || n_bytes <= r->n_costs)
        return OK;
    float *costs = realloc(r->costs, n_bytes * sizeof *costs);
    if (!costs)
        return fail_memory("records");
    r->costs = costs;
    r->n_costs = n_bytes;
    return OK;
}

static void make_segments(struct records *r, const struct record_part *parts,
                          int n)
{
    struct segment *s = r->segments;
    float *costs = r->costs;
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < r->n_begins; j++, s++) {
            *s = (struct segment){.state = r->items[i].streams[j],
                                  .bytes = parts[i].bytes,
                                  .n = parts[i].n,
                                  .sums = r->items[i].sums};
            if (r->items[i].bits) {
                s->bits = costs;
                costs += parts[i].n;
            }
        }
    }
}

static void add_costs(struct record *item, int n_begins,
                      const struct segment *segments)
{
    for (int j = 0; j < n_begins; j++) {
        for (size_t t = 0; t < segments[j].n; t++)
            item->bits[j] += (double)segments[j].bits[t];
    }
}

enum status records_feed(struct records *records,
                         const struct record_part *parts, int n, bool goes_on)
{
    struct records *r = records;
    TRY(need_sums(r, n));
    for (int i = goes_on ? 1 : 0; i < n; i++)
        TRY(begin_item(r, &r->items[i]));
    TRY(need_costs(r, parts, n));
    make_segments(r, parts, n);
    TRY(engine_feed(r->engine, r->segments, (size_t)n * (size_t)r->n_begins));
    for (int i = 0; i < n; i++) {
        r->items[i].n_bytes += parts[i].n;
        if (r->items[i].bits)
            add_costs(&r->items[i], r->n_begins,
                      r->segments + (size_t)i * (size_t)r->n_begins);
    }
    return OK;
}

/* ---- setting aside ------------------------------------------------------ */

/* Sums change places with those that were aside. */
static void swap_sums(struct records *r)
{
    float *sums = r->sums[0];
    int n = r->n_sums[0];
    r->sums[0] = r->sums[1];
    r->n_sums[0] = r->n_sums[1];
    r->sums[1] = sums;
    r->n_sums[1] = n;
    place_sums(r);
}

/* Item n, whose sums are aside, becomes item 0. */
static enum status keep(struct records *r, int n)
{
    struct record item = r->items[n];
    if (r->has_sums) {
        TRY(need_sums(r, 1));
        size_t each = sums_each(r);
        memcpy(r->sums[0], r->sums[1] + (size_t)n * each, each * sizeof(float));
        item.sums = r->sums[0];
    }
    r->items[n] = r->items[0];
    r->items[0] = item;
    place_sums(r);
    return OK;
}

enum status records_set_aside(struct records *records, int n, bool one_goes_on)
{
    struct records *r = records;
    for (int i = 0; i < n; i++)
        r->aside[i] = (struct record_aside){r->items[i].n_bytes,
                                            r->items[i].sums, r->items[i].bits};
    r->n_aside = n;
    swap_sums(r);
    return one_goes_on ? keep(r, n) : OK;
}

void records_average(struct records *records, int begin, int end)
{
    size_t n = sums_each(records);
    for (int i = begin; i < end; i++) {
        const struct record_aside *record = &records->aside[i];
        float n_bytes = record->n_bytes > 0 ? (float)record->n_bytes : 1.0f;
        for (size_t j = 0; j < n; j++)
            record->sums[j] /= n_bytes;
    }
}
