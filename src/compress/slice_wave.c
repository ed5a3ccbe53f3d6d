/* slice_wave.c -- makes waves: their states, groups and memory.
 *
 * SPDX-License-Identifier: MIT
 */
#include "compress/slice_wave.h"

#include <stdlib.h>
#include <string.h>

#include "base/sizes.h"
#include "engine/state_image.h"

/* An encoder's portion: bytes of a slice, or, when there are few slices, bytes
 * of all of them together.  One that is read ahead is a multiple of CHUNK. */
enum {
    PORTION = 64,
    PORTION_TOGETHER = 1024,
    PORTION_AHEAD = 256,
    PORTION_AHEAD_MOST = 1024,
    PORTION_AHEAD_TOGETHER = 8192,

    PLACES_AHEAD = WAVE_CALLS + 1
};

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
        realloc(w->segments, WAVE_CALLS * (size_t)n * sizeof *segments);
    if (segments)
        w->segments = segments;
    return states && slices && segments ? OK : fail_memory("the slices");
}

/* Makes *n slices; or, where the engine's memory ends, fewer: whole groups, and
 * one at least. */
static enum status make_slices(struct wave *w, uint32_t *n, uint32_t group)
{
    size_t had = w->n_slices_made, wanted = *n, n_made;
    size_t needed = size_least(wanted, group);
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
    TRY(threads_open(&w->team, wave_reads_ahead(w) ? n + 1 : n));
    if (engine_is_asynchronous(w->engine))
        threads_keep_pace(w->team);
    return OK;
}

static enum status make_groups(struct wave *w, uint32_t n)
{
    if ((n > 1 || wave_reads_ahead(w)) && !w->team)
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
    while (status == E_MEMORY && wave_reads_ahead(w) && w->portion > CHUNK) {
        w->portion = (uint32_t)size_ceil_div(w->portion / 2, CHUNK) * CHUNK;
        status = make_logits_of(w, n_slices);
    }
    return status;
}

/* Where slice i starts; for i = n_slices, where all end. */
static size_t slice_offset(const struct slicing *slicing, uint32_t i)
{
    return size_least((size_t)i * slicing->slice_bytes, slicing->n);
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

/* The next group of the wave. */
static enum status start_group(struct wave *w, const struct slicing *slicing,
                               uint32_t first_slice)
{
    struct slice_group *group = &w->groups[w->n_groups];
    uint32_t end = (uint32_t)size_least(first_slice + slicing->group_slices,
                                        slicing->n_slices);
    size_t begin = slice_offset(slicing, first_slice);
    group->slices = &w->slices[w->n_slices];
    group->n_slices = end - first_slice;
    TRY(predictor_new(&group->predictor, slicing->bytes + begin,
                      (uint32_t)(slice_offset(slicing, end) - begin),
                      slicing->slice_bytes));
    group->trial = first_slice > 0 ? 0
                                   : (uint32_t)size_ceil_div(GIVE_UP_BYTES,
                                                             group->n_slices);
    group->has_failed = false;
    w->n_groups++;
    for (uint32_t k = first_slice; k < end; k++)
        TRY(start_slice(w, &w->slices[w->n_slices++], slicing, k));
    return OK;
}

/* How many groups are worked on together. */
static uint32_t wave_groups(const struct wave *w, const struct slicing *slicing)
{
    uint32_t n =
        (uint32_t)engine_busy_streams(w->engine) / slicing->group_slices;
    return n < 1 ? 1 : (uint32_t)size_least(n, slicing->n_groups);
}

static uint32_t choose_portion(const struct wave *w, uint32_t n_slices)
{
    if (w->is_decoder)
        return 1;
    if (!wave_reads_ahead(w))
        return n_slices * PORTION < PORTION_TOGETHER
                   ? PORTION_TOGETHER / n_slices
                   : PORTION;
    size_t n = size_ceil_div(PORTION_AHEAD_TOGETHER, n_slices);
    n = size_ceil_div(n, CHUNK) * CHUNK;
    n = n > PORTION_AHEAD ? n : PORTION_AHEAD;
    return (uint32_t)size_least(n, PORTION_AHEAD_MOST);
}

/* Chunks of a stream are counted from its begin byte on. */
static uint32_t choose_lead(const struct wave *w)
{
    return wave_reads_ahead(w) &&
           engine_model(w->engine)->config.begin_byte >= 0;
}

enum status wave_start(struct wave *w, const struct slicing *slicing,
                       uint32_t first_slice)
{
    clear(w);
    uint32_t n_groups = wave_groups(w, slicing);
    uint32_t n_slices =
        (uint32_t)size_least((size_t)n_groups * slicing->group_slices,
                             slicing->n_slices - first_slice);
    TRY(make_slices(w, &n_slices, slicing->group_slices));
    n_groups = (uint32_t)size_ceil_div(n_slices, slicing->group_slices);
    w->portion = choose_portion(w, n_slices);
    w->lead = choose_lead(w);
    w->n_places = wave_reads_ahead(w) ? PLACES_AHEAD : 1;
    TRY(make_groups(w, n_groups));
    TRY(make_logits(w, n_slices));
    for (uint32_t i = 0; i < n_groups; i++)
        TRY(start_group(w, slicing, first_slice + i * slicing->group_slices));
    return OK;
}
