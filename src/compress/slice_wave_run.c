/* slice_wave_run.c -- codes the slices of a wave, a portion of each at a time.
 *
 * SPDX-License-Identifier: MIT
 */
#include "compress/slice_wave.h"

#include <string.h>

#include "base/sizes.h"

/* ---- portions ----------------------------------------------------------- */

/* Where portion p of a slice begins. */
static uint32_t portion_begin(const struct wave *w, uint32_t p)
{
    return p == 0 ? 0 : p * w->portion - w->lead;
}

/* Bytes that a slice has of portion p. */
static uint32_t portion_bytes(const struct wave *w, const struct slice *slice,
                              uint32_t p)
{
    size_t begin = portion_begin(w, p);
    size_t end = size_least(portion_begin(w, p + 1), slice->length);
    return begin < end ? (uint32_t)(end - begin) : 0;
}

/* How many portions there are; the first slice is as long as any. */
static uint32_t count_portions(const struct wave *w)
{
    return (uint32_t)size_ceil_div(w->slices[0].length + w->lead, w->portion);
}

/* Where a slice has its logits for portion p, in floats.  The first of them
 * come from the portion before. */
static size_t logits_at(const struct wave *w, uint32_t p)
{
    size_t place = p % (uint32_t)w->n_places;
    return place * (w->portion + (size_t)1) * 256;
}

/* ---- reading ------------------------------------------------------------ */

/* Makes the segments of portion p; returns how many there are.  What follows a
 * decoder's last byte need not be predicted. */
static size_t make_segments(struct wave *w, struct segment *segments,
                            uint32_t p)
{
    size_t n = 0, at = logits_at(w, p) + (w->is_decoder ? 0 : 256);
    uint32_t begin = portion_begin(w, p);
    for (uint32_t i = 0; i < w->n_slices; i++) {
        struct slice *slice = &w->slices[i];
        uint32_t k = portion_bytes(w, slice, p);
        bool is_over = w->is_decoder && begin + k == slice->length;
        if (k == 0 || is_over)
            continue;
        segments[n] = (struct segment){
            .state = slice->state,
            .bytes = slice->bytes + begin,
            .n = k,
            .logits = slice->logits + at,
        };
        n++;
    }
    return n;
}

static enum status feed(struct wave *w, uint32_t p)
{
    size_t n = make_segments(w, w->segments, p);
    return n > 0 ? engine_feed(w->engine, w->segments, n) : OK;
}

/* Starts to read portion p, if there is one.  When it returns, the portion
 * before it has been read. */
static enum status start_feed(struct wave *w, uint32_t p)
{
    struct segment *segments =
        w->segments + p % WAVE_CALLS * (size_t)w->n_slices_made;
    size_t n = make_segments(w, segments, p);
    return n > 0 ? engine_feed_start(w->engine, segments, n)
                 : engine_feed_finish(w->engine);
}

/* ---- coding ------------------------------------------------------------- */

/* Fetches logits into the cache, ahead of their use. */
static void fetch_logits(const float *logits)
{
    enum { CACHE_LINE = 64, N = 256 * sizeof *logits / CACHE_LINE };
    for (int i = 0; i < N; i++)
        __builtin_prefetch((const char *)logits + i * CACHE_LINE);
}

/* Whether the code of the first n bytes of each slice saves nothing. */
static bool is_no_gain(const struct slice_group *group, uint32_t n)
{
    size_t n_code = 0, n_plain = 0;
    for (uint32_t i = 0; i < group->n_slices; i++) {
        n_code += group->slices[i].coder.n;
        n_plain += size_least(n, group->slices[i].length);
    }
    return n_code >= n_plain;
}

/* Codes portion p of a group: a byte of each slice in turn. */
static void code_group(const struct wave *w, struct slice_group *group,
                       uint32_t p)
{
    size_t at = logits_at(w, p);
    uint32_t t = portion_begin(w, p), end = portion_begin(w, p + 1);
    for (; t < end; t++, at += 256) {
        for (uint32_t i = 0; i < group->n_slices; i++) {
            struct slice *slice = &group->slices[i];
            if (i + 1 < group->n_slices)
                fetch_logits(slice[1].logits + at);
            if (t < slice->length)
                predictor_code(group->predictor, &slice->history, &slice->coder,
                               slice->logits + at);
        }
        if (t + 1 == group->trial)
            group->has_failed = is_no_gain(group, group->trial);
    }
}

/* Codes the share of member index, of n. */
static void code_share(const struct wave *w, int index, int n)
{
    struct range mine = threads_split((int)w->n_groups, index, n);
    for (int i = mine.begin; i < mine.end; i++)
        code_group(w, &w->groups[i], w->coding);
}

static void code_together(void *context, int index)
{
    struct wave *w = context;
    code_share(w, index, threads_count(w->team));
}

static void code(struct wave *w, uint32_t p)
{
    w->coding = p;
    if (w->n_groups > 1)
        threads_run(w->team, code_together, w);
    else
        code_share(w, 0, 1);
}

/* Member 0, the caller, drives the engine; no other thread uses it. */
static void read_and_code(void *context, int index)
{
    struct wave *w = context;
    if (index == 0)
        w->status = start_feed(w, w->reading);
    else if (w->reading >= WAVE_CALLS)
        code_share(w, index - 1, threads_count(w->team) - 1);
}

/* ---- running a wave ----------------------------------------------------- */

/* Portion p is done: the last prediction of each slice is the first of the next
 * portion. */
static enum status finish_portion(struct wave *w, uint32_t p)
{
    size_t n = 0, at = logits_at(w, p), next = logits_at(w, p + 1);
    for (uint32_t i = 0; i < w->n_slices; i++) {
        struct slice *slice = &w->slices[i];
        uint32_t k = portion_bytes(w, slice, p);
        if (k > 0 && !w->is_decoder)
            memcpy(slice->logits + next, slice->logits + at + 256 * k,
                   sizeof w->fresh_logits);
        n += k;
    }
    return w->tick(w->context, n);
}

/* Bytes of the code of a wave so far. */
static size_t code_bytes(const struct wave *w)
{
    size_t n = 0;
    for (uint32_t i = 0; i < w->n_slices; i++)
        n += w->slices[i].coder.n;
    return n;
}

/* Whether an encoder's code does not fit, or saved nothing in its trial.  How
 * often this is asked depends on the engine, but the answer in the end does
 * not: code only grows, and the input alone decides where the one trial is. */
static bool is_hopeless(const struct wave *w, size_t room)
{
    return code_bytes(w) > room || w->groups[0].has_failed;
}

/* The engine and the threads take turns. */
static enum status run_in_turns(struct wave *w, size_t room)
{
    uint32_t n = count_portions(w);
    for (uint32_t p = 0; p < n && !w->is_hopeless; p++) {
        if (w->is_decoder)
            code(w, p);
        TRY(feed(w, p));
        if (!w->is_decoder)
            code(w, p);
        TRY(finish_portion(w, p));
        w->is_hopeless = !w->is_decoder && is_hopeless(w, room);
    }
    return OK;
}

/* In each round the engine starts to read a portion, while it still reads the
 * one before it and the threads code the one before that.  Portion p has its
 * logits in place p % 3:
 *
 *     place               reused by             ordered by
 *     p % 3, but the      the engine, for       its reading starts a round
 *     first logits        portion p + 3         after p was coded
 *     p % 3, the first    finish_portion(),     it runs between rounds, and
 *     logits              for portion p + 3     the engine never writes there
 *     p % 3, all          read by the threads   the start of reading p + 1
 *                                               returns when p has been read
 */
static enum status run_ahead(struct wave *w, size_t room)
{
    uint32_t n = count_portions(w);
    for (uint32_t p = 0; p < n + WAVE_CALLS && !w->is_hopeless; p++) {
        w->reading = p;
        w->coding = p - WAVE_CALLS;
        threads_run(w->team, read_and_code, w);
        TRY(w->status);
        if (p < WAVE_CALLS)
            continue;
        TRY(finish_portion(w, w->coding));
        w->is_hopeless = is_hopeless(w, room);
    }
    return OK;
}

enum status wave_run(struct wave *w, size_t room)
{
    if (!wave_reads_ahead(w))
        return run_in_turns(w, room);
    enum status status = run_ahead(w, room);
    enum status finished = engine_feed_finish(w->engine);
    return status == OK ? finished : status;
}
