/* lanes.c -- bytes to and from a code, many places at a time.
 *
 * Groups are worked on in waves.  The work of a wave is the same in both
 * directions, a chunk of every lane at a time:
 *
 *     encoder    the engine reads the chunk, predicting what follows each
 *                byte of it; then the threads code it, a group each
 *     decoder    the threads decode one byte of every lane, a group each;
 *                then the engine reads it, predicting what follows
 *
 * Where the engine leaves the cores alone, an encoder has its wave in two
 * halves, which are read in turns, without a pause between them: while a chunk
 * of one is coded, that of the other, read before, comes in, and the next of
 * the first is begun.  A decoder has not: half as many lanes take the engine
 * more than half of the time.
 *
 * SPDX-License-Identifier: MIT
 */
#include "compress/lanes.h"

#include <stdlib.h>
#include <string.h>

#include "base/threads.h"
#include "compress/predictor.h"
#include "engine/state_image.h"

enum {
    CHUNK_MIN = 64,         /* bytes of a lane that an encoder takes at a   */
    CHUNK_APART = 128,      /* time; with an engine apart;                  */
    CHUNK_ROWS = 1024,      /* of all lanes, if they are few                */
    GIVE_UP_BYTES = 1 << 16 /* after which a code has to be worth it        */
};

struct lane {
    struct state *state;
    struct predictor_lane history;
    struct range_coder coder;
    uint8_t *bytes; /* [length]                                             */
    uint32_t length;
    float *logits; /* [n_turns][chunk + 1][256]: of the next byte, and of those
                      after it; a decoder has the first, which it uses again */
};

struct group {
    struct predictor *predictor;
    struct lane *lanes; /* [n_lanes] */
    uint32_t n_lanes;
    uint32_t trial;  /* bytes of each lane whose code has to be a gain, or 0 */
    bool has_failed; /* the trial                                           */
};

/* What is read, or coded, at a time: of the groups and lanes of the wave, from
 * the first to before the end.  The second half may be empty. */
struct half {
    uint32_t group, end_group;
    uint32_t lane, end_lane;
    uint32_t n_read; /* bytes of each lane that the engine was given  */
    uint32_t t;      /* bytes of each lane done                       */
};

/* How n bytes are cut.  The last lane, and group, may be shorter. */
struct cut {
    uint8_t *bytes;
    size_t n;
    uint32_t lane_bytes, n_lanes;
    uint32_t group_lanes, n_groups;
};

struct lanes {
    struct engine *engine;
    struct threads *team; /* NULL until there are two groups           */
    int n_threads;
    lanes_tick *tick;
    void *context;
    float fresh_logits[256]; /* of a stream that begins                  */

    struct lane *lanes;       /* [n_lanes_made]                            */
    struct segment *segments; /* [n_lanes_made]                            */
    uint32_t n_lanes_made;
    struct group *groups; /* [n_groups_made]                           */
    uint32_t n_groups_made;
    float *logits; /* of all lanes, the engine's                */
    size_t n_logits_made;

    /* The wave. */
    uint32_t n_lanes, n_groups;
    struct half halves[2];
    uint32_t chunk; /* bytes of each lane under way              */
    int n_turns;    /* chunks of a lane whose logits are kept    */
    bool is_decoder;
    bool is_hopeless;          /* an encoder's code, see lanes_encode()      */
    size_t n_plain;            /* bytes whose code was collected             */
    struct half *reading;      /* now, by the engine; or NULL                */
    const struct half *coding; /* now, by the threads; or NULL               */
    enum status status;        /* of the reading                             */
};

/* ---- cutting ------------------------------------------------------------ */

static size_t ceil_div(size_t a, size_t b)
{
    return (a + b - 1) / b;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static struct cut make_cut(uint8_t *bytes, size_t n)
{
    size_t n_lanes = n < LANE_BYTES ? 1 : n / LANE_BYTES;
    size_t lane_bytes = ceil_div(n, n_lanes);
    n_lanes = ceil_div(n, lane_bytes);
    size_t group_lanes = ceil_div(n_lanes, ceil_div(n_lanes, GROUP_LANES));
    return (struct cut){
        .bytes = bytes,
        .n = n,
        .lane_bytes = (uint32_t)lane_bytes,
        .n_lanes = (uint32_t)n_lanes,
        .group_lanes = (uint32_t)group_lanes,
        .n_groups = (uint32_t)ceil_div(n_lanes, group_lanes),
    };
}

/* Where lane i begins, the end of all for i = n_lanes. */
static size_t lane_begin(const struct cut *cut, uint32_t i)
{
    return least((size_t)i * cut->lane_bytes, cut->n);
}

/* ---- opening and closing ------------------------------------------------ */

static enum status get_fresh_logits(struct lanes *lanes)
{
    const struct model_config *config = &engine_model(lanes->engine)->config;
    struct state *state;
    TRY(engine_state_new(lanes->engine, &state));
    float *image = malloc(model_state_size(config));
    enum status status = image ? engine_state_get(lanes->engine, state, image)
                               : fail_memory("a state");
    if (status == OK)
        memcpy(lanes->fresh_logits, state_logits(config, image),
               sizeof lanes->fresh_logits);
    free(image);
    engine_state_free(lanes->engine, state);
    return status;
}

enum status lanes_open(struct lanes **lanes, struct engine *engine,
                       int n_threads, lanes_tick *tick, void *context)
{
    struct lanes *l = *lanes = calloc(1, sizeof *l);
    if (!l)
        return fail_memory("the lanes");
    l->engine = engine;
    l->n_threads = n_threads;
    l->tick = tick;
    l->context = context;
    enum status status = get_fresh_logits(l);
    if (status != OK) {
        lanes_close(l);
        *lanes = NULL;
    }
    return status;
}

/* Frees what a wave leaves behind, however it ended. */
static void clear_wave(struct lanes *l)
{
    for (uint32_t i = 0; i < l->n_lanes; i++)
        range_free(&l->lanes[i].coder);
    for (uint32_t i = 0; i < l->n_groups; i++)
        predictor_free(l->groups[i].predictor);
    l->n_lanes = l->n_groups = 0;
}

static void free_logits(struct lanes *l)
{
    if (l->logits)
        engine_floats_free(l->engine, l->logits);
    l->logits = NULL;
    l->n_logits_made = 0;
}

void lanes_close(struct lanes *lanes)
{
    if (!lanes)
        return;
    clear_wave(lanes);
    for (uint32_t i = 0; i < lanes->n_lanes_made; i++)
        engine_state_free(lanes->engine, lanes->lanes[i].state);
    threads_close(lanes->team);
    free(lanes->lanes);
    free(lanes->segments);
    free(lanes->groups);
    free_logits(lanes);
    free(lanes);
}

/* ---- a wave ------------------------------------------------------------- */

static enum status make_lanes(struct lanes *l, uint32_t n)
{
    if (n <= l->n_lanes_made)
        return OK;
    struct lane *lanes = realloc(l->lanes, n * sizeof *lanes);
    if (lanes)
        l->lanes = lanes;
    struct segment *segments = realloc(l->segments, n * sizeof *segments);
    if (segments)
        l->segments = segments;
    if (!lanes || !segments)
        return fail_memory("the lanes");
    for (; l->n_lanes_made < n; l->n_lanes_made++) {
        struct lane *lane = &lanes[l->n_lanes_made];
        *lane = (struct lane){.state = NULL};
        TRY(engine_state_new(l->engine, &lane->state));
    }
    return OK;
}

/* Its pauses are the engine's steps. */
static enum status open_team(struct lanes *l)
{
    TRY(threads_open(&l->team, l->n_threads));
    if (engine_is_asynchronous(l->engine))
        threads_keep_pace(l->team);
    return OK;
}

static enum status make_groups(struct lanes *l, uint32_t n)
{
    if (n > 1 && !l->team)
        TRY(open_team(l));
    if (n <= l->n_groups_made)
        return OK;
    struct group *groups = realloc(l->groups, n * sizeof *groups);
    if (!groups)
        return fail_memory("the lanes");
    l->groups = groups;
    l->n_groups_made = n;
    return OK;
}

static enum status make_logits(struct lanes *l, uint32_t n_lanes)
{
    size_t rows =
        l->is_decoder ? 1 : (l->chunk + (size_t)1) * (size_t)l->n_turns;
    size_t n = n_lanes * rows * 256;
    if (n > l->n_logits_made) {
        free_logits(l);
        TRY(engine_floats_new(l->engine, &l->logits, n));
        l->n_logits_made = n;
    }
    for (uint32_t i = 0; i < n_lanes; i++)
        l->lanes[i].logits = l->logits + i * rows * 256;
    return OK;
}

static enum status begin_lane(struct lanes *l, struct lane *lane,
                              const struct cut *cut, uint32_t i)
{
    size_t begin = lane_begin(cut, i);
    lane->bytes = cut->bytes + begin;
    lane->length = (uint32_t)(lane_begin(cut, i + 1) - begin);
    lane->history = (struct predictor_lane){
        .start = i % cut->group_lanes * cut->lane_bytes,
    };
    lane->coder = range_encoder();
    memcpy(lane->logits, l->fresh_logits, sizeof l->fresh_logits);
    return engine_state_begin(l->engine, lane->state);
}

static enum status begin_group(struct lanes *l, const struct cut *cut,
                               uint32_t i, uint32_t first_lane)
{
    struct group *group = &l->groups[l->n_groups];
    uint32_t end = (uint32_t)least(first_lane + cut->group_lanes, cut->n_lanes);
    size_t begin = lane_begin(cut, first_lane);
    group->lanes = &l->lanes[l->n_lanes];
    group->n_lanes = end - first_lane;
    TRY(predictor_new(&group->predictor, cut->bytes + begin,
                      (uint32_t)(lane_begin(cut, end) - begin),
                      cut->lane_bytes));
    group->trial =
        first_lane > 0 ? 0 : (uint32_t)ceil_div(GIVE_UP_BYTES, group->n_lanes);
    group->has_failed = false;
    l->n_groups = i + 1;
    for (uint32_t k = first_lane; k < end; k++)
        TRY(begin_lane(l, &l->lanes[l->n_lanes++], cut, k));
    return OK;
}

/* How many groups are worked on together. */
static uint32_t wave_groups(const struct lanes *l, const struct cut *cut)
{
    uint32_t n = (uint32_t)engine_busy_streams(l->engine) / cut->group_lanes;
    return n < 1 ? 1 : (uint32_t)least(n, cut->n_groups);
}

static uint32_t choose_chunk(const struct lanes *l, uint32_t n_lanes)
{
    uint32_t least_bytes =
        engine_is_asynchronous(l->engine) ? CHUNK_APART : CHUNK_MIN;
    if (l->is_decoder)
        return 1;
    return n_lanes * least_bytes < CHUNK_ROWS ? CHUNK_ROWS / n_lanes
                                              : least_bytes;
}

/* With halves, a lane has logits that are coded and others that come in. */
static int choose_turns(const struct lanes *l, uint32_t n_groups)
{
    bool has_halves = !l->is_decoder && engine_is_asynchronous(l->engine) &&
                      n_groups > 1 && threads_count(l->team) > 1;
    return has_halves ? 2 : 1;
}

/* Where the groups of the wave have begun. */
static void make_halves(struct lanes *l)
{
    uint32_t n = l->n_groups, first = l->n_turns == 2 ? (n + 1) / 2 : n;
    uint32_t lane =
        first < n ? (uint32_t)(l->groups[first].lanes - l->lanes) : l->n_lanes;
    l->halves[0] = (struct half){.end_group = first, .end_lane = lane};
    l->halves[1] = (struct half){
        .group = first, .end_group = n, .lane = lane, .end_lane = l->n_lanes};
}

/* The wave that begins with a lane; encoders are ready then. */
static enum status begin_wave(struct lanes *l, const struct cut *cut,
                              uint32_t first_lane)
{
    clear_wave(l);
    uint32_t n_groups = wave_groups(l, cut);
    uint32_t n_lanes = (uint32_t)least((size_t)n_groups * cut->group_lanes,
                                       cut->n_lanes - first_lane);
    n_groups = (uint32_t)ceil_div(n_lanes, cut->group_lanes);
    l->chunk = choose_chunk(l, n_lanes);
    TRY(make_lanes(l, n_lanes));
    TRY(make_groups(l, n_groups));
    l->n_turns = choose_turns(l, n_groups);
    TRY(make_logits(l, n_lanes));
    for (uint32_t i = 0; i < n_groups; i++)
        TRY(begin_group(l, cut, i, first_lane + i * cut->group_lanes));
    make_halves(l);
    return OK;
}

/* Bytes of the chunk at t that a lane has. */
static uint32_t chunk_bytes(const struct lanes *l, const struct lane *lane,
                            uint32_t t)
{
    return lane->length <= t ? 0 : (uint32_t)least(l->chunk, lane->length - t);
}

/* Where a lane has its logits for the chunk at t, in floats; the first of them
 * is left by the chunk before. */
static size_t logits_at(const struct lanes *l, uint32_t t)
{
    size_t turn = t / l->chunk % (uint32_t)l->n_turns;
    return turn * (l->chunk + (size_t)1) * 256;
}

/* What the engine reads next; a decoder's last byte needs no more.  How many
 * segments that are. */
static size_t make_segments(struct lanes *l, struct half *half)
{
    struct segment *segments = l->segments + half->lane;
    size_t n = 0, at = logits_at(l, half->n_read) + (l->is_decoder ? 0 : 256);
    for (uint32_t i = half->lane; i < half->end_lane; i++) {
        struct lane *lane = &l->lanes[i];
        uint32_t k = chunk_bytes(l, lane, half->n_read);
        bool is_over = l->is_decoder && half->n_read + k == lane->length;
        if (k == 0 || is_over)
            continue;
        segments[n] = (struct segment){
            .state = lane->state,
            .bytes = lane->bytes + half->n_read,
            .n = k,
            .logits = lane->logits + at,
        };
        n++;
    }
    half->n_read += l->chunk;
    return n;
}

static enum status feed(struct lanes *l, struct half *half)
{
    size_t n = make_segments(l, half);
    return n > 0 ? engine_feed(l->engine, l->segments + half->lane, n) : OK;
}

/* When it returns, what was begun before has been read; half: or NULL. */
static enum status begin_feed(struct lanes *l, struct half *half)
{
    size_t n = half ? make_segments(l, half) : 0;
    return n > 0 ? engine_feed_start(l->engine, l->segments + half->lane, n)
                 : engine_feed_finish(l->engine);
}

/* Asks for logits ahead. */
static void fetch_logits(const float *logits)
{
    enum { CACHE_LINE = 64, N = 256 * sizeof *logits / CACHE_LINE };
    for (int i = 0; i < N; i++)
        __builtin_prefetch((const char *)logits + i * CACHE_LINE);
}

/* Whether the code of the first n bytes of each lane is no gain. */
static bool is_no_gain(const struct group *group, uint32_t n)
{
    size_t n_code = 0, n_plain = 0;
    for (uint32_t i = 0; i < group->n_lanes; i++) {
        n_code += group->lanes[i].coder.n;
        n_plain += least(n, group->lanes[i].length);
    }
    return n_code >= n_plain;
}

/* Codes the chunk of a group at t: a byte of each lane in turns. */
static void code_group(const struct lanes *l, struct group *group, uint32_t t)
{
    size_t at = logits_at(l, t);
    for (uint32_t k = 0; k < l->chunk; k++, at += 256) {
        for (uint32_t i = 0; i < group->n_lanes; i++) {
            struct lane *lane = &group->lanes[i];
            if (i + 1 < group->n_lanes)
                fetch_logits(lane[1].logits + at);
            if (k < chunk_bytes(l, lane, t))
                predictor_code(group->predictor, &lane->history, &lane->coder,
                               lane->logits + at);
        }
        if (t + k + 1 == group->trial)
            group->has_failed = is_no_gain(group, group->trial);
    }
}

/* Member index of n codes its share. */
static void code_share(const struct lanes *l, int index, int n)
{
    const struct half *half = l->coding;
    int begin, end;
    threads_split(&begin, &end, (int)(half->end_group - half->group), index, n);
    for (int i = begin; i < end; i++)
        code_group(l, &l->groups[half->group + (uint32_t)i], half->t);
}

static void code_together(void *context, int index)
{
    struct lanes *l = context;
    code_share(l, index, threads_count(l->team));
}

static void code(struct lanes *l, const struct half *half)
{
    l->coding = half;
    if (half->end_group - half->group > 1)
        threads_run(l->team, code_together, l);
    else
        code_share(l, 0, 1);
}

/* The caller has the engine to itself: no other thread uses it. */
static void read_and_code(void *context, int index)
{
    struct lanes *l = context;
    if (index == 0)
        l->status = begin_feed(l, l->reading);
    else if (l->coding)
        code_share(l, index - 1, threads_count(l->team) - 1);
}

/* To the next chunk: the last prediction of each lane becomes the first. */
static enum status advance(struct lanes *l, struct half *half)
{
    size_t n = 0, at = logits_at(l, half->t);
    size_t next = logits_at(l, half->t + l->chunk);
    for (uint32_t i = half->lane; i < half->end_lane; i++) {
        struct lane *lane = &l->lanes[i];
        uint32_t k = chunk_bytes(l, lane, half->t);
        if (k > 0 && !l->is_decoder)
            memcpy(lane->logits + next, lane->logits + at + 256 * k,
                   sizeof l->fresh_logits);
        n += k;
    }
    half->t += l->chunk;
    return l->tick(l->context, n);
}

/* Bytes of the code of a wave so far. */
static size_t code_bytes(const struct lanes *l)
{
    size_t n = 0;
    for (uint32_t i = 0; i < l->n_lanes; i++)
        n += l->lanes[i].coder.n;
    return n;
}

/* Whether an encoder's code does not fit, or was no gain in its trial.  When
 * this is asked depends on the engine, what comes of it must not: code only
 * grows, and there is one trial, at a place that the input alone decides. */
static bool is_hopeless(const struct lanes *l, size_t room)
{
    return code_bytes(l) > room || l->groups[0].has_failed;
}

static uint32_t count_chunks(const struct lanes *l)
{
    return (uint32_t)ceil_div(l->lanes[0].length, l->chunk);
}

/* The engine and the threads take turns. */
static enum status run_in_turns(struct lanes *l, size_t room)
{
    struct half *all = &l->halves[0];
    for (uint32_t i = count_chunks(l); i > 0 && !l->is_hopeless; i--) {
        if (l->is_decoder)
            code(l, all);
        TRY(feed(l, all));
        if (!l->is_decoder)
            code(l, all);
        TRY(advance(l, all));
        l->is_hopeless = !l->is_decoder && is_hopeless(l, room);
    }
    return OK;
}

/* A step begins to read a chunk of one half while the one before it, of the
 * same half, is coded; that of the other half is read meanwhile. */
static enum status run_ahead(struct lanes *l, size_t room)
{
    uint32_t n = 2 * count_chunks(l);
    for (uint32_t step = 0; step < n + 2 && !l->is_hopeless; step++) {
        struct half *half = &l->halves[step % 2];
        l->reading = step < n ? half : NULL;
        l->coding = step > 1 ? half : NULL;
        threads_run(l->team, read_and_code, l);
        TRY(l->status);
        if (!l->coding)
            continue;
        TRY(advance(l, half));
        l->is_hopeless = is_hopeless(l, room);
    }
    return OK;
}

static enum status run_wave(struct lanes *l, size_t room)
{
    if (l->n_turns == 1)
        return run_in_turns(l, room);
    enum status status = run_ahead(l, room);
    enum status finished = engine_feed_finish(l->engine);
    return status == OK ? finished : status;
}

/* ---- encoding ----------------------------------------------------------- */

/* Appends the codes of a group. */
static enum status collect_group(struct lanes *l, const struct group *group,
                                 struct integer_coder *lengths,
                                 struct range_coder *side, uint8_t *code,
                                 size_t room, size_t *n_code)
{
    for (uint32_t i = 0; i < group->n_lanes; i++) {
        struct range_coder *coder = &group->lanes[i].coder;
        TRY(range_finish(coder));
        integer_coder_code(lengths, side, coder->n);
        l->is_hopeless = coder->n > room - *n_code;
        if (l->is_hopeless)
            return OK;
        if (coder->n > 0)
            memcpy(code + *n_code, coder->code, coder->n);
        *n_code += coder->n;
        l->n_plain += group->lanes[i].length;
    }
    return OK;
}

/* The same of a wave.  All code up to the end of a group has to be a gain. */
static enum status collect(struct lanes *l, struct integer_coder *lengths,
                           struct range_coder *side, uint8_t *code, size_t room,
                           size_t *n_code)
{
    for (uint32_t i = 0; i < l->n_groups && !l->is_hopeless; i++) {
        TRY(collect_group(l, &l->groups[i], lengths, side, code, room, n_code));
        l->is_hopeless |= l->n_plain >= GIVE_UP_BYTES && *n_code >= l->n_plain;
    }
    return OK;
}

enum status lanes_encode(struct lanes *lanes, uint8_t *bytes, size_t n,
                         struct range_coder *side, uint8_t *code, size_t room,
                         size_t *n_code)
{
    struct lanes *l = lanes;
    struct cut cut = make_cut(bytes, n);
    struct integer_coder lengths;
    integer_coder_init(&lengths);
    l->is_decoder = l->is_hopeless = false;
    l->n_plain = 0;
    *n_code = 0;
    for (uint32_t i = 0; i < cut.n_lanes; i += l->n_lanes) {
        TRY(begin_wave(l, &cut, i));
        TRY(run_wave(l, room - *n_code));
        if (!l->is_hopeless)
            TRY(collect(l, &lengths, side, code, room, n_code));
        if (l->is_hopeless) {
            *n_code = room + 1;
            return OK;
        }
    }
    return OK;
}

/* ---- decoding ----------------------------------------------------------- */

/* Gives the lanes of a wave their codes. */
static enum status distribute(struct lanes *l, struct integer_coder *lengths,
                              struct range_coder *side, const uint8_t **code,
                              const uint8_t *end)
{
    for (uint32_t i = 0; i < l->n_lanes; i++) {
        uint64_t n = integer_coder_code(lengths, side, 0);
        if (n > (uint64_t)(end - *code))
            return fail(E_FORMAT, "a lane does not fit its block");
        l->lanes[i].coder = range_decoder(*code, (size_t)n);
        *code += n;
    }
    return OK;
}

enum status lanes_decode(struct lanes *lanes, uint8_t *bytes, size_t n,
                         struct range_coder *side, const uint8_t *code,
                         size_t n_code)
{
    struct lanes *l = lanes;
    struct cut cut = make_cut(bytes, n);
    const uint8_t *end = code + n_code;
    struct integer_coder lengths;
    integer_coder_init(&lengths);
    l->is_decoder = true;
    l->is_hopeless = false;
    for (uint32_t i = 0; i < cut.n_lanes; i += l->n_lanes) {
        TRY(begin_wave(l, &cut, i));
        TRY(distribute(l, &lengths, side, &code, end));
        TRY(run_wave(l, 0));
    }
    if (code != end)
        return fail(E_FORMAT, "a block is longer than its lanes");
    return OK;
}
