/* samples.c -- finds, by samples, the parts that the model makes smaller.
 *
 *     regions   the literals in equal parts, of a megabyte or more
 *     excerpts  of each region, as far apart as they can be; those of a region
 *               make a slice, and the slices are coded side by side
 *     kinds     for each region the model or liblzma, so that the samples
 *               together are smallest, when a change of kind costs something
 *     parts     regions of one kind that follow each other
 *
 * SPDX-License-Identifier: MIT
 */
#include "compress/samples.h"

#include <stdlib.h>
#include <string.h>

#include "base/lzma2.h"
#include "base/sizes.h"
#include "compress/dedupe.h"

enum {
    RANDOM_MIN = 1 << 12,   /* bytes that can look random                   */
    SAMPLED_MIN = 1 << 16,  /* literals of which samples are worth the time */
    SAMPLED_PART = 16,      /* one literal in so many is sampled, at most   */
    REGION_BYTES = 1 << 20, /* the least, where there are two               */
    EXCERPT_BYTES = 1 << 11,
    SAMPLE_EXCERPTS = SLICE_BYTES / EXCERPT_BYTES, /* of a region, at most */

    /* What is weighed. */
    GAIN_PART = 32,                 /* one byte in so many has to be saved  */
    CHANGE_COST = SLICE_BYTES / 32, /* of a kind, in bytes of samples       */
    LOST_PART = 256 /* one byte in so many may repeat another part          */
};

/* The coder for a region; !kind is the other one. */
enum kind { KIND_LZMA, KIND_MODEL, N_KINDS };

struct region {
    size_t begin;         /* in the literals                      */
    bool is_random;       /* then it has no sample                */
    size_t cost[N_KINDS]; /* of the sample, in bytes              */
    int kind;
};

struct survey {
    const struct copy_list *copies;
    uint8_t *literals; /* [n_literals] */
    size_t n_literals;
    struct region regions[PARTS_MAX]; /* [n_regions] */
    size_t n_regions;
    size_t sample_bytes; /* of a region */
    uint8_t *samples;    /* [n_sampled][sample_bytes] */
    size_t n_sampled;
    uint8_t *code; /* [room] */
    size_t room;
};

bool samples_look_random(const uint8_t *bytes, size_t n)
{
    uint64_t counts[256] = {0}, squares = 0;
    if (n < RANDOM_MIN)
        return false;
    for (size_t i = 0; i < n; i++)
        counts[bytes[i]]++;
    for (int i = 0; i < 256; i++)
        squares += counts[i] * counts[i];
    return squares / n < n / 256 + n / 2048 + 1;
}

/* ---- taking samples ----------------------------------------------------- */

/* Where region i starts; for i = n_regions, where all end. */
static size_t region_begin(const struct survey *s, size_t i)
{
    return (size_t)((uint64_t)i * s->n_literals / s->n_regions);
}

static void take_excerpts(struct survey *s, size_t begin, size_t end)
{
    uint8_t *sample = s->samples + s->n_sampled++ * s->sample_bytes;
    size_t n_excerpts = s->sample_bytes / EXCERPT_BYTES;
    for (size_t i = 0; i < n_excerpts; i++) {
        size_t middle = begin + (2 * i + 1) * (end - begin) / (2 * n_excerpts);
        memcpy(sample + i * EXCERPT_BYTES,
               s->literals + middle - EXCERPT_BYTES / 2, EXCERPT_BYTES);
    }
}

static enum status take_samples(struct survey *s)
{
    s->n_regions = size_least(s->n_literals / REGION_BYTES, PARTS_MAX);
    if (s->n_regions == 0)
        s->n_regions = 1;
    s->sample_bytes =
        EXCERPT_BYTES *
        size_least(s->n_literals / s->n_regions / SAMPLED_PART / EXCERPT_BYTES,
                   SAMPLE_EXCERPTS);
    s->room = 2 * s->n_regions * s->sample_bytes;
    s->samples = malloc(s->n_regions * s->sample_bytes);
    s->code = malloc(s->room);
    if (!s->samples || !s->code)
        return fail_memory("the samples");
    for (size_t i = 0; i < s->n_regions; i++) {
        size_t begin = region_begin(s, i), end = region_begin(s, i + 1);
        s->regions[i].begin = begin;
        s->regions[i].is_random =
            samples_look_random(s->literals + begin, end - begin);
        if (!s->regions[i].is_random)
            take_excerpts(s, begin, end);
    }
    return OK;
}

/* ---- what they cost ----------------------------------------------------- */

/* side: what slices_encode() wrote, the lengths of the slices' codes; NULL when
 * the code was given up.  Without a length the model costs more than liblzma
 * can. */
static void note_lengths(struct survey *s, struct range_coder *side)
{
    struct integer_coder lengths;
    integer_coder_init(&lengths);
    for (size_t i = 0; i < s->n_regions; i++) {
        struct region *region = &s->regions[i];
        region->cost[KIND_MODEL] =
            side && !region->is_random
                ? (size_t)integer_coder_code(&lengths, side, 0)
                : s->sample_bytes + CHANGE_COST;
    }
}

static enum status ask_model(struct survey *s, struct slices *slices)
{
    struct range_coder side = range_encoder();
    size_t n_code = s->room + 1;
    enum status status = OK;
    if (s->n_sampled > 0)
        status =
            slices_encode(slices, s->samples, s->n_sampled * s->sample_bytes,
                          &side, s->code, s->room, &n_code);
    if (status == OK)
        status = range_finish(&side);
    if (status == OK) {
        struct range_coder decoder = range_decoder(side.code, side.n);
        note_lengths(s, n_code <= s->room ? &decoder : NULL);
    }
    range_free(&side);
    return status;
}

/* By liblzma a sample costs a thirty-second less than it takes: what the model
 * saves has to be worth its time. */
static enum status ask_lzma(struct survey *s)
{
    const uint8_t *sample = s->samples;
    for (size_t i = 0; i < s->n_regions; i++) {
        size_t *cost = &s->regions[i].cost[KIND_LZMA];
        *cost = s->sample_bytes;
        if (s->regions[i].is_random)
            continue;
        TRY(lzma2_pack(sample, s->sample_bytes, s->code, s->room, cost));
        *cost = size_least(*cost, s->sample_bytes);
        *cost -= *cost / GAIN_PART;
        sample += s->sample_bytes;
    }
    return OK;
}

/* ---- kinds and parts ---------------------------------------------------- */

/* A shortest path.  total: what the regions so far cost at least, when the
 * last of them is of a kind. */
static void choose_kinds(struct survey *s)
{
    size_t total[N_KINDS] = {0, 0};
    bool changes[PARTS_MAX][N_KINDS];
    for (size_t i = 0; i < s->n_regions; i++) {
        size_t before[N_KINDS] = {total[0], total[1]};
        for (int kind = 0; kind < N_KINDS; kind++) {
            size_t changed = before[!kind] + CHANGE_COST;
            changes[i][kind] = i > 0 && changed < before[kind];
            total[kind] = (changes[i][kind] ? changed : before[kind]) +
                          s->regions[i].cost[kind];
        }
    }
    int kind = total[KIND_MODEL] < total[KIND_LZMA];
    for (size_t i = s->n_regions; i-- > 0;) {
        s->regions[i].kind = kind;
        kind = changes[i][kind] ? !kind : kind;
    }
}

/* Where a literal stands in the bytes. */
static size_t literal_offset(const struct copy_list *copies, size_t literal)
{
    size_t at = literal, n_literals = 0;
    for (size_t i = 0; i < copies->n; i++) {
        n_literals += copies->all[i].run;
        if (n_literals > literal)
            break;
        at += copies->all[i].length;
    }
    return at;
}

static size_t make_parts(const struct survey *s, size_t n,
                         struct block_part *parts)
{
    size_t n_parts = 0, begin = 0;
    for (size_t i = 0; i < s->n_regions; i++) {
        const struct region *region = &s->regions[i];
        if (i > 0 && region->kind == region[-1].kind)
            continue;
        if (i > 0) {
            size_t end = literal_offset(s->copies, region->begin);
            parts[n_parts - 1].n = end - begin;
            begin = end;
        }
        parts[n_parts++].is_for_model = region->kind == KIND_MODEL;
    }
    parts[n_parts - 1].n = n - begin;
    return n_parts;
}

/* How many bytes of copies come from another part. */
static size_t count_lost(const struct copy_list *copies,
                         const struct block_part *part)
{
    size_t at = 0, begin = 0, n_lost = 0;
    for (size_t i = 0; i < copies->n; i++) {
        const struct copy *copy = &copies->all[i];
        at += copy->run;
        while (at >= begin + part->n)
            begin += part++->n;
        if (at - copy->distance < begin)
            n_lost += size_least(copy->length, begin - (at - copy->distance));
        at += copy->length;
    }
    return n_lost;
}

/* The kind of all together. */
static struct block_part join(const struct survey *s, size_t n)
{
    size_t total[N_KINDS] = {0, 0};
    for (size_t i = 0; i < s->n_regions; i++) {
        total[KIND_LZMA] += s->regions[i].cost[KIND_LZMA];
        total[KIND_MODEL] += s->regions[i].cost[KIND_MODEL];
    }
    return (struct block_part){n, total[KIND_MODEL] < total[KIND_LZMA]};
}

static enum status survey(struct survey *s, struct slices *slices, size_t n,
                          struct block_part *parts, size_t *n_parts)
{
    TRY(take_samples(s));
    TRY(ask_model(s, slices));
    TRY(ask_lzma(s));
    choose_kinds(s);
    *n_parts = make_parts(s, n, parts);
    if (count_lost(s->copies, parts) > n / LOST_PART) {
        *n_parts = 1;
        parts[0] = join(s, n);
    }
    return OK;
}

static enum status take_literals(struct survey *s, const uint8_t *bytes,
                                 size_t n)
{
    s->n_literals = n - s->copies->n_copied;
    s->literals = malloc(s->n_literals);
    if (!s->literals)
        return fail_memory("the samples");
    dedupe_take(s->copies, s->literals, bytes, n);
    return OK;
}

enum status samples_cut(struct slices *slices, const uint8_t *bytes, size_t n,
                        const struct copy_list *copies,
                        struct block_part parts[PARTS_MAX], size_t *n_parts)
{
    *n_parts = 1;
    parts[0] = (struct block_part){n, true};
    if (n < SAMPLED_MIN)
        return OK;
    struct survey *s = calloc(1, sizeof *s);
    if (!s)
        return fail_memory("the samples");
    s->copies = copies;
    enum status status = take_literals(s, bytes, n);
    if (status == OK && s->n_literals >= SAMPLED_MIN)
        status = survey(s, slices, n, parts, n_parts);
    free(s->literals);
    free(s->samples);
    free(s->code);
    free(s);
    return status;
}
