/* slice_wave.c -- slices of a block that are coded together.
 *
 * SPDX-License-Identifier: MIT
 */
#include "compress/slice_wave.h"

#include <stdlib.h>
#include <string.h>

#include "engine/state_image.h"

/* An encoder's portion: bytes of a slice, or, when there are few slices, bytes
 * of all of them together.  One that is read ahead is a multiple of CHUNK. */
enum {
    PORTION = 64,
    PORTION_TOGETHER = 1024,
    PORTION_AHEAD = 256,
    PORTION_AHEAD_MOST = 1024,
    PORTION_AHEAD_TOGETHER = 8192,

    N_CALLS = 2, /* under way, while the second is started */
    N_PLACES_AHEAD = N_CALLS + 1
};

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Whether the threads code one portion while the engine reads another. */
static bool reads_ahead(const struct wave *w)
{
    return !w->is_decoder && engine_is_asynchronous(w->engine);
}

/* ---- opening and closing ------------------------------------------------ */

static enum status get_fresh_logits(struct wave *w)
{
    const struct model_config *config = &engine_model(w->engine)->config;
    struct state *state;
    TRY(engine_state_new(w->engine, &state));
    float *image = malloc(model_state_size(config));
    enum status status = image ? engine_state_get(w->engine, state, image)
                               : fail_memory("a state");
    if (status == OK)
        memcpy(w->fresh_logits, state_logits(config, image),
               sizeof w->fresh_logits);
    free(image);
    engine_state_free(w->engine, state);
    return status;
}

enum status wave_open(struct wave *wave, struct engine *engine, int n_threads,
                      slices_tick *tick, void *context)
{
    *wave = (struct wave){.engine = engine,
                          .n_threads = n_threads,
                          .tick = tick,
                          .context = context};
    return get_fresh_logits(wave);
}

/* Frees what the last wave left, however it ended. */
static void clear(struct wave *w)
{
    for (uint32_t i = 0; i < w->n_slices; i++)
        range_free(&w->slices[i].coder);
    for (uint32_t i = 0; i < w->n_groups; i++)
        predictor_free(w->groups[i].predictor);
    w->n_slices = w->n_groups = 0;
}

static void free_logits(struct wave *w)
{
    if (w->logits)
        engine_floats_free(w->engine, w->logits);
    w->logits = NULL;
    w->n_logits_made = 0;
}

void wave_close(struct wave *w)
{
    clear(w);
    for (uint32_t i = 0; i < w->n_slices_made; i++)
        engine_state_free(w->engine, w->states[i]);
    threads_close(w->team);
    free(w->states);
    free(w->slices);
    free(w->segments);
    free(w->groups);
    free_logits(w);
}

/* ---- starting a wave ---------------------------------------------------- */

static enum status need_room(struct wave *w, uint32_t n)
{
    struct state **states =
        (struct state **)realloc(w->states, n * sizeof(struct state *));
    if (states)
        w->states = states;
    struct slice *slices = realloc(w->slices, n * sizeof *slices);
    if (slices)
        w->slices = slices;
    struct segment *segments =
        realloc(w->segments, N_CALLS * (size_t)n * sizeof *segments);
    if (segments)
        w->segments = segments;
    return states && slices && segments ? OK : fail_memory("the slices");
}

/* Makes *n slices; or, where the engine's memory ends, fewer: whole groups, and
 * one at least. */
static enum status make_slices(struct wave *w, uint32_t *n, uint32_t group)
{
    size_t had = w->n_slices_made, wanted = *n, n_made;
    size_t needed = least(wanted, group);
    if (wanted <= had)
        return OK;
    TRY(need_room(w, *n));
    enum status status =
        engine_states_new(w->engine, w->states + had, wanted - had,
                          needed > had ? needed - had : 0, &n_made);
    for (size_t i = had; i < had + n_made; i++)
        w->slices[i] = (struct slice){.state = w->states[i]};
    w->n_slices_made += (uint32_t)n_made;
    if (w->n_slices_made < wanted)
        *n = w->n_slices_made / group * group;
    return status;
}

/* Of a team that codes while the engine reads ahead, one more member drives the
 * engine, and hardly needs a core.  Others pause while an asynchronous engine
 * computes. */
static enum status open_team(struct wave *w)
{
    int n = w->n_threads > 0 ? w->n_threads : threads_cores();
    TRY(threads_open(&w->team, reads_ahead(w) ? n + 1 : n));
    if (engine_is_asynchronous(w->engine))
        threads_keep_pace(w->team);
    return OK;
}

static enum status make_groups(struct wave *w, uint32_t n)
{
    if ((n > 1 || reads_ahead(w)) && !w->team)
        TRY(open_team(w));
    if (n <= w->n_groups_made)
        return OK;
    struct slice_group *groups = realloc(w->groups, n * sizeof *groups);
    if (!groups)
        return fail_memory("the slices");
    w->groups = groups;
    w->n_groups_made = n;
    return OK;
}

static enum status make_logits_of(struct wave *w, uint32_t n_slices)
{
    size_t rows =
        w->is_decoder ? 1 : (w->portion + (size_t)1) * (size_t)w->n_places;
    size_t n = n_slices * rows * 256;
    if (n > w->n_logits_made) {
        free_logits(w);
        TRY(engine_floats_new(w->engine, &w->logits, n));
        w->n_logits_made = n;
    }
    for (uint32_t i = 0; i < n_slices; i++)
        w->slices[i].logits = w->logits + i * rows * 256;
    return OK;
}

/* Where memory ends, portions that are read ahead get shorter. */
static enum status make_logits(struct wave *w, uint32_t n_slices)
{
    enum status status = make_logits_of(w, n_slices);
    while (status == E_MEMORY && reads_ahead(w) && w->portion > CHUNK) {
        w->portion = (uint32_t)ceil_div(w->portion / 2, CHUNK) * CHUNK;
        status = make_logits_of(w, n_slices);
    }
    return status;
}

/* Where slice i starts; for i = n_slices, where all end. */
static size_t slice_offset(const struct slicing *slicing, uint32_t i)
{
    return least((size_t)i * slicing->slice_bytes, slicing->n);
}

static enum status start_slice(struct wave *w, struct slice *slice,
                               const struct slicing *slicing, uint32_t i)
{
    size_t begin = slice_offset(slicing, i);
    slice->bytes = slicing->bytes + begin;
    slice->length = (uint32_t)(slice_offset(slicing, i + 1) - begin);
    slice->history =
        predictor_slice_make(i % slicing->group_slices * slicing->slice_bytes);
    slice->coder = range_encoder();
    memcpy(slice->logits, w->fresh_logits, sizeof w->fresh_logits);
    return engine_state_begin(w->engine, slice->state);
}

static enum status start_group(struct wave *w, const struct slicing *slicing,
                               uint32_t i, uint32_t first_slice)
{
    struct slice_group *group = &w->groups[w->n_groups];
    uint32_t end =
        (uint32_t)least(first_slice + slicing->group_slices, slicing->n_slices);
    size_t begin = slice_offset(slicing, first_slice);
    group->slices = &w->slices[w->n_slices];
    group->n_slices = end - first_slice;
    TRY(predictor_new(&group->predictor, slicing->bytes + begin,
                      (uint32_t)(slice_offset(slicing, end) - begin),
                      slicing->slice_bytes));
    group->trial = first_slice > 0
                       ? 0
                       : (uint32_t)ceil_div(GIVE_UP_BYTES, group->n_slices);
    group->has_failed = false;
    w->n_groups = i + 1;
    for (uint32_t k = first_slice; k < end; k++)
        TRY(start_slice(w, &w->slices[w->n_slices++], slicing, k));
    return OK;
}

/* How many groups are worked on together. */
static uint32_t wave_groups(const struct wave *w, const struct slicing *slicing)
{
    uint32_t n =
        (uint32_t)engine_busy_streams(w->engine) / slicing->group_slices;
    return n < 1 ? 1 : (uint32_t)least(n, slicing->n_groups);
}

static uint32_t choose_portion(const struct wave *w, uint32_t n_slices)
{
    if (w->is_decoder)
        return 1;
    if (!reads_ahead(w))
        return n_slices * PORTION < PORTION_TOGETHER
                   ? PORTION_TOGETHER / n_slices
                   : PORTION;
    size_t n = ceil_div(PORTION_AHEAD_TOGETHER, n_slices);
    n = ceil_div(n, CHUNK) * CHUNK;
    n = n > PORTION_AHEAD ? n : PORTION_AHEAD;
    return (uint32_t)least(n, PORTION_AHEAD_MOST);
}

/* Chunks of a stream are counted from its begin byte on. */
static uint32_t choose_lead(const struct wave *w)
{
    return reads_ahead(w) && engine_model(w->engine)->config.begin_byte >= 0;
}

enum status wave_start(struct wave *w, const struct slicing *slicing,
                       uint32_t first_slice)
{
    clear(w);
    uint32_t n_groups = wave_groups(w, slicing);
    uint32_t n_slices =
        (uint32_t)least((size_t)n_groups * slicing->group_slices,
                        slicing->n_slices - first_slice);
    TRY(make_slices(w, &n_slices, slicing->group_slices));
    n_groups = (uint32_t)ceil_div(n_slices, slicing->group_slices);
    w->portion = choose_portion(w, n_slices);
    w->lead = choose_lead(w);
    w->n_places = reads_ahead(w) ? N_PLACES_AHEAD : 1;
    TRY(make_groups(w, n_groups));
    TRY(make_logits(w, n_slices));
    for (uint32_t i = 0; i < n_groups; i++)
        TRY(start_group(w, slicing, i,
                        first_slice + i * slicing->group_slices));
    return OK;
}

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
    size_t end = least(portion_begin(w, p + 1), slice->length);
    return begin < end ? (uint32_t)(end - begin) : 0;
}

/* How many portions there are; the first slice is as long as any. */
static uint32_t count_portions(const struct wave *w)
{
    return (uint32_t)ceil_div(w->slices[0].length + w->lead, w->portion);
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
        w->segments + p % N_CALLS * (size_t)w->n_slices_made;
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
        n_plain += least(n, group->slices[i].length);
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
    int begin, end;
    threads_split(&begin, &end, (int)w->n_groups, index, n);
    for (int i = begin; i < end; i++)
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
    else if (w->reading >= N_CALLS)
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
    for (uint32_t p = 0; p < n + N_CALLS && !w->is_hopeless; p++) {
        w->reading = p;
        w->coding = p - N_CALLS;
        threads_run(w->team, read_and_code, w);
        TRY(w->status);
        if (p < N_CALLS)
            continue;
        TRY(finish_portion(w, w->coding));
        w->is_hopeless = is_hopeless(w, room);
    }
    return OK;
}

enum status wave_run(struct wave *w, size_t room)
{
    if (!reads_ahead(w))
        return run_in_turns(w, room);
    enum status status = run_ahead(w, room);
    enum status finished = engine_feed_finish(w->engine);
    return status == OK ? finished : status;
}
