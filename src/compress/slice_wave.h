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
 * reads ahead there: the threads code a portion while the engine reads the two
 * after it.  These portions end where chunks of Mamba-2 end, so that the engine
 * reads no chunk in two pieces.  A decoder could decode one half of its slices
 * while the engine reads the other; but for half as many slices the engine
 * takes more than half the time.
 *
 * For slices.c only.  slice_wave.c makes waves, slice_wave_run.c runs them.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_SLICE_WAVE_H
#define MAMBYTE_SLICE_WAVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/range_coder.h"
#include "base/status.h"
#include "base/threads.h"
#include "compress/predictor.h"
#include "compress/slices.h"
#include "engine/engine.h"

enum {
    GIVE_UP_BYTES = 1 << 16, /* from here on a code has to be a gain */
    WAVE_CALLS = 2           /* of an asynchronous engine, under way together */
};

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
    float *logits; /* [n_places][portion + 1][256]: of the next byte, then of
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

struct wave {
    struct engine *engine;
    struct threads *team; /* NULL until there is work for two */
    int n_threads;
    slices_tick *tick;
    void *context;
    float fresh_logits[256]; /* of a stream at its start */

    /* Kept from one wave to the next. */
    struct state **states;    /* [n_slices_made] */
    struct slice *slices;     /* [n_slices_made] */
    struct segment *segments; /* [WAVE_CALLS][n_slices_made] */
    uint32_t n_slices_made;
    struct slice_group *groups; /* [n_groups_made] */
    uint32_t n_groups_made;
    float *logits; /* [n_logits_made], the engine's: of all slices */
    size_t n_logits_made;

    /* Of this wave. */
    uint32_t n_slices, n_groups;
    uint32_t portion; /* bytes of each slice that are taken at a time; of the
                       * first portion, lead fewer */
    uint32_t lead;    /* bytes that a stream has read before its slice */
    int n_places;     /* portions of a slice whose logits are kept */
    bool is_decoder;
    bool is_hopeless;   /* an encoder's code: see slices_encode() */
    uint32_t reading;   /* the portion that the engine starts to read */
    uint32_t coding;    /* the one that the threads code */
    enum status status; /* of the reading */
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

/* Whether the threads code one portion while the engine reads others. */
static inline bool wave_reads_ahead(const struct wave *wave)
{
    return !wave->is_decoder && engine_is_asynchronous(wave->engine);
}

#endif
