/* slice_wave.h -- slices of a block that are coded together.
 *
 * A wave has as many groups of slices as the engine has use for.  All of its
 * slices are coded side by side, a portion of each at a time:
 *
 *     encoder    the engine reads the portion, and predicts what follows each
 *                byte of it; then the threads code it, a group each
 *     decoder    the threads decode one byte of every slice, a group each;
 *                then the engine reads it, and predicts what follows
 *
 * While an asynchronous engine computes, the cores are free.  So an encoder
 * cuts its wave in two halves: the threads code a portion of one half while the
 * engine reads a portion of the other.  A decoder does not: for half as many
 * slices the engine takes more than half the time.
 *
 * For slices.c only.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_SLICE_WAVE_H
#define MAMBYTE_SLICE_WAVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "base/threads.h"
#include "compress/predictor.h"
#include "base/range_coder.h"
#include "compress/slices.h"
#include "engine/engine.h"

enum { GIVE_UP_BYTES = 1 << 16 }; /* from here on a code has to be a gain */

/* How n bytes are cut.  The last slice may be shorter; the last group may have
 * fewer slices. */
struct slicing {
    uint8_t *bytes;
    size_t n;
    uint32_t slice_bytes, n_slices;
    uint32_t group_slices, n_groups;
};

struct slice {
    struct state *state; /* the wave's */
    struct predictor_slice history;
    struct range_coder coder;
    uint8_t *bytes; /* [length] */
    uint32_t length;
    float *logits; /* [n_turns][portion + 1][256]: of the next byte, then of
                    * those after it; a decoder has the first alone */
};

/* Slices that share a predictor. */
struct slice_group {
    struct predictor *predictor;
    struct slice *slices; /* [n_slices] */
    uint32_t n_slices;
    uint32_t trial;  /* bytes of each slice whose code has to be a gain, or 0 */
    bool has_failed; /* the trial */
};

/* Groups [group, end_group) and slices [slice, end_slice) of a wave.  The
 * second half may be empty. */
struct half {
    uint32_t group, end_group;
    uint32_t slice, end_slice;
    uint32_t n_read; /* bytes of each slice that the engine was given */
    uint32_t t;      /* bytes of each slice that are done */
};

struct wave {
    struct engine *engine;
    struct threads *team; /* NULL until there are two groups */
    int n_threads;
    slices_tick *tick;
    void *context;
    float fresh_logits[256]; /* of a stream at its start */

    /* Kept from one wave to the next. */
    struct state **states;    /* [n_slices_made] */
    struct slice *slices;     /* [n_slices_made] */
    struct segment *segments; /* [n_slices_made] */
    uint32_t n_slices_made;
    struct slice_group *groups; /* [n_groups_made] */
    uint32_t n_groups_made;
    float *logits; /* [n_logits_made], the engine's: of all slices */
    size_t n_logits_made;

    /* Of this wave. */
    uint32_t n_slices, n_groups;
    struct half halves[2];
    uint32_t portion; /* bytes of each slice that are taken at a time */
    int n_turns;      /* portions of a slice whose logits are kept */
    bool is_decoder;
    bool is_hopeless;          /* an encoder's code: see slices_encode() */
    struct half *reading;      /* now, by the engine; or NULL */
    const struct half *coding; /* now, by the threads; or NULL */
    enum status status;        /* of the reading */
};

/* On failure the caller closes the wave all the same. */
enum status wave_open(struct wave *wave, struct engine *engine, int n_threads,
                      slices_tick *tick, void *context);
void wave_close(struct wave *wave);

/* Makes a wave of the slices from first on, as many as there is use and room
 * for: they are wave->n_slices.  A decoder's slices still need their codes. */
enum status wave_start(struct wave *wave, const struct slicing *slicing,
                       uint32_t first);

/* Codes the slices to their ends; or, as is_hopeless says, an encoder gives up
 * when its code takes more than room bytes or fails its trial. */
enum status wave_run(struct wave *wave, size_t room);

static inline size_t ceil_div(size_t a, size_t b)
{
    return (a + b - 1) / b;
}

#endif
