/* slices.c -- codes bytes, or decodes them, in slices side by side.
 *
 * SPDX-License-Identifier: MIT
 */
#include "compress/slices.h"

#include <stdlib.h>
#include <string.h>

#include "base/sizes.h"
#include "compress/slice_wave.h"

struct slices {
    struct wave wave; /* as many waves as it takes, one after another */

    /* An encoder's. */
    struct range_coder *side;
    struct integer_coder lengths;
    uint8_t *code; /* [room], of which n_code are used */
    size_t room, n_code;
    size_t n_plain; /* bytes whose code is there */
};

enum status slices_open(struct slices **slices, struct engine *engine,
                        int n_threads, slices_tick *tick, void *context)
{
    struct slices *s = *slices = calloc(1, sizeof *s);
    if (!s)
        return fail_memory("the slices");
    enum status status = wave_open(&s->wave, engine, n_threads, tick, context);
    if (status != OK) {
        slices_close(s);
        *slices = NULL;
    }
    return status;
}

void slices_close(struct slices *slices)
{
    if (slices)
        wave_close(&slices->wave);
    free(slices);
}

static struct slicing slicing_make(uint8_t *bytes, size_t n)
{
    size_t n_slices = n < SLICE_BYTES ? 1 : n / SLICE_BYTES;
    size_t slice_bytes = size_ceil_div(n, n_slices);
    n_slices = size_ceil_div(n, slice_bytes);
    size_t group_slices =
        size_ceil_div(n_slices, size_ceil_div(n_slices, GROUP_SLICES));
    return (struct slicing){
        .bytes = bytes,
        .n = n,
        .slice_bytes = (uint32_t)slice_bytes,
        .n_slices = (uint32_t)n_slices,
        .group_slices = (uint32_t)group_slices,
        .n_groups = (uint32_t)size_ceil_div(n_slices, group_slices),
    };
}

/* ---- encoding ----------------------------------------------------------- */

/* Appends the codes of a group. */
static enum status collect_group(struct slices *s,
                                 const struct slice_group *group)
{
    for (uint32_t i = 0; i < group->n_slices; i++) {
        struct range_coder *coder = &group->slices[i].coder;
        TRY(range_finish(coder));
        integer_coder_code(&s->lengths, s->side, coder->n);
        s->wave.is_hopeless = coder->n > s->room - s->n_code;
        if (s->wave.is_hopeless)
            return OK;
        if (coder->n > 0)
            memcpy(s->code + s->n_code, coder->code, coder->n);
        s->n_code += coder->n;
        s->n_plain += group->slices[i].length;
    }
    return OK;
}

/* Appends the codes of a wave.  Up to the end of every group, from
 * GIVE_UP_BYTES on, all code together has to be a gain. */
static enum status collect(struct slices *s)
{
    struct wave *w = &s->wave;
    for (uint32_t i = 0; i < w->n_groups && !w->is_hopeless; i++) {
        TRY(collect_group(s, &w->groups[i]));
        w->is_hopeless |=
            s->n_plain >= GIVE_UP_BYTES && s->n_code >= s->n_plain;
    }
    return OK;
}

static enum status encode(struct slices *s, const struct slicing *slicing)
{
    struct wave *w = &s->wave;
    w->is_decoder = w->is_hopeless = false;
    for (uint32_t i = 0; i < slicing->n_slices && !w->is_hopeless;
         i += w->n_slices) {
        TRY(wave_start(w, slicing, i));
        TRY(wave_run(w, s->room - s->n_code));
        if (!w->is_hopeless)
            TRY(collect(s));
    }
    return OK;
}

enum status slices_encode(struct slices *slices, uint8_t *bytes, size_t n,
                          struct range_coder *side, uint8_t *code, size_t room,
                          size_t *n_code)
{
    struct slices *s = slices;
    struct slicing slicing = slicing_make(bytes, n);
    integer_coder_init(&s->lengths);
    s->side = side;
    s->code = code;
    s->room = room;
    s->n_code = s->n_plain = 0;
    TRY(encode(s, &slicing));
    *n_code = s->wave.is_hopeless ? room + 1 : s->n_code;
    return OK;
}

/* ---- decoding ----------------------------------------------------------- */

/* Gives the slices of a wave their codes. */
static enum status distribute(struct wave *w, struct integer_coder *lengths,
                              struct range_coder *side, const uint8_t **code,
                              const uint8_t *end)
{
    for (uint32_t i = 0; i < w->n_slices; i++) {
        uint64_t n = integer_coder_code(lengths, side, 0);
        if (n > (uint64_t)(end - *code))
            return fail(E_FORMAT, "a slice does not fit its block");
        w->slices[i].coder = range_decoder(*code, (size_t)n);
        *code += n;
    }
    return OK;
}

enum status slices_decode(struct slices *slices, uint8_t *bytes, size_t n,
                          struct range_coder *side, const uint8_t *code,
                          size_t n_code)
{
    struct wave *w = &slices->wave;
    struct slicing slicing = slicing_make(bytes, n);
    const uint8_t *end = code + n_code;
    struct integer_coder lengths;
    integer_coder_init(&lengths);
    w->is_decoder = true;
    w->is_hopeless = false;
    for (uint32_t i = 0; i < slicing.n_slices; i += w->n_slices) {
        TRY(wave_start(w, &slicing, i));
        TRY(distribute(w, &lengths, side, &code, end));
        TRY(wave_run(w, 0));
    }
    if (code != end)
        return fail(E_FORMAT, "a block is longer than its slices");
    return OK;
}
