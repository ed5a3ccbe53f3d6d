/* slice_wave.c -- slices of a block that are coded together.
 *
 * SPDX-License-Identifier: MIT
 */
#include "compress/slice_wave.h"

#include <stdlib.h>
#include <string.h>

#include "engine/state_image.h"

/* An encoder's portion: bytes of a slice, or, when there are few slices, bytes
 * of all of them together. */
enum {
    PORTION_SYNCHRONOUS = 64,
    PORTION_ASYNCHRONOUS = 128,
    PORTION_TOGETHER = 1024
};

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
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
    struct segment *segments = realloc(w->segments, n * sizeof *segments);
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

/* The team pauses while the engine computes. */
static enum status open_team(struct wave *w)
{
    TRY(threads_open(&w->team, w->n_threads));
    if (engine_is_asynchronous(w->engine))
        threads_keep_pace(w->team);
    return OK;
}

static enum status make_groups(struct wave *w, uint32_t n)
{
    if (n > 1 && !w->team)
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

static enum status make_logits(struct wave *w, uint32_t n_slices)
{
    size_t rows =
        w->is_decoder ? 1 : (w->portion + (size_t)1) * (size_t)w->n_turns;
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
    uint32_t least_bytes = engine_is_asynchronous(w->engine)
                               ? PORTION_ASYNCHRONOUS
                               : PORTION_SYNCHRONOUS;
    if (w->is_decoder)
        return 1;
    return n_slices * least_bytes < PORTION_TOGETHER
               ? PORTION_TOGETHER / n_slices
               : least_bytes;
}

/* With halves, a slice has logits that are being coded, and others that the
 * engine is writing. */
static int choose_turns(const struct wave *w, uint32_t n_groups)
{
    bool has_halves = !w->is_decoder && engine_is_asynchronous(w->engine) &&
                      n_groups > 1 && threads_count(w->team) > 1;
    return has_halves ? 2 : 1;
}

static void make_halves(struct wave *w)
{
    uint32_t n = w->n_groups, first = w->n_turns == 2 ? (n + 1) / 2 : n;
    uint32_t slice = first < n ? (uint32_t)(w->groups[first].slices - w->slices)
                               : w->n_slices;
    w->halves[0] = (struct half){.end_group = first, .end_slice = slice};
    w->halves[1] = (struct half){.group = first,
                                 .end_group = n,
                                 .slice = slice,
                                 .end_slice = w->n_slices};
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
    TRY(make_groups(w, n_groups));
    w->n_turns = choose_turns(w, n_groups);
    TRY(make_logits(w, n_slices));
    for (uint32_t i = 0; i < n_groups; i++)
        TRY(start_group(w, slicing, i,
                        first_slice + i * slicing->group_slices));
    make_halves(w);
    return OK;
}

/* ---- reading ------------------------------------------------------------ */

/* Bytes that a slice has of the portion at t. */
static uint32_t portion_bytes(const struct wave *w, const struct slice *slice,
                              uint32_t t)
{
    return slice->length <= t ? 0
                              : (uint32_t)least(w->portion, slice->length - t);
}

/* Where a slice has its logits for the portion at t, in floats.  The first of
 * them come from the portion before. */
static size_t logits_at(const struct wave *w, uint32_t t)
{
    size_t turn = t / w->portion % (uint32_t)w->n_turns;
    return turn * (w->portion + (size_t)1) * 256;
}

/* Makes the segments that the engine reads next; returns how many there are.
 * What follows a decoder's last byte need not be predicted. */
static size_t make_segments(struct wave *w, struct half *half)
{
    struct segment *segments = w->segments + half->slice;
    size_t n = 0, at = logits_at(w, half->n_read) + (w->is_decoder ? 0 : 256);
    for (uint32_t i = half->slice; i < half->end_slice; i++) {
        struct slice *slice = &w->slices[i];
        uint32_t k = portion_bytes(w, slice, half->n_read);
        bool is_over = w->is_decoder && half->n_read + k == slice->length;
        if (k == 0 || is_over)
            continue;
        segments[n] = (struct segment){
            .state = slice->state,
            .bytes = slice->bytes + half->n_read,
            .n = k,
            .logits = slice->logits + at,
        };
        n++;
    }
    half->n_read += w->portion;
    return n;
}

static enum status feed(struct wave *w, struct half *half)
{
    size_t n = make_segments(w, half);
    return n > 0 ? engine_feed(w->engine, w->segments + half->slice, n) : OK;
}

/* Starts to read a portion of half, or of none.  When it returns, the portion
 * that was started before has been read. */
static enum status start_feed(struct wave *w, struct half *half)
{
    size_t n = half ? make_segments(w, half) : 0;
    return n > 0 ? engine_feed_start(w->engine, w->segments + half->slice, n)
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

/* Codes the portion of a group at t: a byte of each slice in turn. */
static void code_group(const struct wave *w, struct slice_group *group,
                       uint32_t t)
{
    size_t at = logits_at(w, t);
    for (uint32_t k = 0; k < w->portion; k++, at += 256) {
        for (uint32_t i = 0; i < group->n_slices; i++) {
            struct slice *slice = &group->slices[i];
            if (i + 1 < group->n_slices)
                fetch_logits(slice[1].logits + at);
            if (k < portion_bytes(w, slice, t))
                predictor_code(group->predictor, &slice->history, &slice->coder,
                               slice->logits + at);
        }
        if (t + k + 1 == group->trial)
            group->has_failed = is_no_gain(group, group->trial);
    }
}

/* Codes the share of member index, of n. */
static void code_share(const struct wave *w, int index, int n)
{
    const struct half *half = w->coding;
    int begin, end;
    threads_split(&begin, &end, (int)(half->end_group - half->group), index, n);
    for (int i = begin; i < end; i++)
        code_group(w, &w->groups[half->group + (uint32_t)i], half->t);
}

static void code_together(void *context, int index)
{
    struct wave *w = context;
    code_share(w, index, threads_count(w->team));
}

static void code(struct wave *w, const struct half *half)
{
    w->coding = half;
    if (half->end_group - half->group > 1)
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
    else if (w->coding)
        code_share(w, index - 1, threads_count(w->team) - 1);
}

/* ---- running a wave ----------------------------------------------------- */

/* Goes to the next portion: the last prediction of each slice is its first. */
static enum status advance(struct wave *w, struct half *half)
{
    size_t n = 0, at = logits_at(w, half->t);
    size_t next = logits_at(w, half->t + w->portion);
    for (uint32_t i = half->slice; i < half->end_slice; i++) {
        struct slice *slice = &w->slices[i];
        uint32_t k = portion_bytes(w, slice, half->t);
        if (k > 0 && !w->is_decoder)
            memcpy(slice->logits + next, slice->logits + at + 256 * k,
                   sizeof w->fresh_logits);
        n += k;
    }
    half->t += w->portion;
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

static uint32_t count_portions(const struct wave *w)
{
    return (uint32_t)ceil_div(w->slices[0].length, w->portion);
}

/* The engine and the threads take turns. */
static enum status run_in_turns(struct wave *w, size_t room)
{
    struct half *all = &w->halves[0];
    for (uint32_t i = count_portions(w); i > 0 && !w->is_hopeless; i--) {
        if (w->is_decoder)
            code(w, all);
        TRY(feed(w, all));
        if (!w->is_decoder)
            code(w, all);
        TRY(advance(w, all));
        w->is_hopeless = !w->is_decoder && is_hopeless(w, room);
    }
    return OK;
}

/* The halves take turns.  Portion p of a half, with its logits in place p % 2:
 *
 *     round  the engine starts to read   it still reads      the threads code
 *      0     half 0, portion 0
 *      1     half 1, portion 0           half 0, portion 0
 *      2     half 0, portion 1           half 1, portion 0   half 0, portion 0
 *      3     half 1, portion 1           half 0, portion 1   half 1, portion 0
 *
 * and so on.  Who may write to the logits of a slice:
 *
 *     place               reused by             ordered by
 *     p % 2, but the      the engine, for       its reading starts two rounds
 *     first logits        portion p + 2         after p was coded
 *     p % 2, the first    advance(), for        it runs between rounds, and the
 *     logits              portion p + 2         engine never writes there
 *     p % 2, all          read by the threads   the start of the next reading
 *                                               returns when p has been read
 */
static enum status run_ahead(struct wave *w, size_t room)
{
    uint32_t n = 2 * count_portions(w);
    for (uint32_t round = 0; round < n + 2 && !w->is_hopeless; round++) {
        struct half *half = &w->halves[round % 2];
        w->reading = round < n ? half : NULL;
        w->coding = round > 1 ? half : NULL;
        threads_run(w->team, read_and_code, w);
        TRY(w->status);
        if (!w->coding)
            continue;
        TRY(advance(w, half));
        w->is_hopeless = is_hopeless(w, room);
    }
    return OK;
}

enum status wave_run(struct wave *w, size_t room)
{
    if (w->n_turns == 1)
        return run_in_turns(w, room);
    enum status status = run_ahead(w, room);
    enum status finished = engine_feed_finish(w->engine);
    return status == OK ? finished : status;
}
