/* cpu_engine.h -- what the files of the CPU engine share.
 *
 * Private to cpu_engine.c, which owns states and the weights; cpu_batch.c, the
 * layer loop; and cpu_mamba1.c and cpu_mamba2.c, what a layer does between its
 * norm and out_proj.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_CPU_ENGINE_H
#define MAMBYTE_CPU_ENGINE_H

#include "base/carver.h"
#include "base/threads.h"
#include "engine/engine_ops.h"
#include "engine/probe.h"
#include "engine/team_choice.h"
#include "kernels/cpu_kernels.h"

/* Rows of a batch: enough to read the weights rarely, few enough for its
 * activations to stay in the cache. */
enum {
    BATCH = 96,
    BATCH_SIZES = 7 /* 1 row, 2 and 3, and so on, to 64 to 96 */
};

/* Between rows of floats: without it, rows of a power of two floats would
 * all meet in a few sets of the cache where a loop walks along time. */
enum { ROW_GAP = 16 };

/* The floats are those of an image (state_image.h), in its order. */
struct state {
    float *floats;
    uint8_t *derived; /* of Mamba-2, as its mixer lays it out; or NULL */
    int place;        /* of the next byte in its chunk; Mamba-2 only */
};

/* The bytes of one segment in a batch: rows [row, row + n). */
struct span {
    const struct segment *segment;
    size_t offset; /* of the first byte in the segment */
    int row, n;
};

/* Mamba-1 has all four, Mamba-2 in_proj and out_proj. */
struct cpu_layer {
    struct projection in_proj, x_proj, dt_proj, out_proj;
};

/* What a projection multiplies: vectors in int8, or as they are in a model of
 * floats. */
struct cpu_input {
    struct quantised q;
    struct float_rows floats;
};

/* The inputs of one thread, [t][..]. */
struct cpu_inputs {
    struct cpu_input x;     /* of the norms */
    struct cpu_input inner; /* of out_proj; of Mamba-1's x_proj before */
    struct cpu_input dt;    /* of dt_proj */
    float *normed;          /* [t][d_model], what x.floats shows */
    bool has_overflown;     /* a prediction of the batch is not finite */
};

struct cpu_engine;

/* What a layer does between its norm and out_proj. */
struct cpu_mixer {
    /* Makes and frees e->mixing. */
    enum status (*open)(struct cpu_engine *e);
    void (*close)(struct cpu_engine *e);

    /* From inputs.x of this thread to inputs.inner, for layer l.  Every thread
     * calls it; all have met since h was written. */
    void (*run)(struct cpu_engine *e, int thread, int l);

    /* Before and after a batch, on one thread; NULL: nothing to do. */
    void (*plan)(struct cpu_engine *e);
    void (*finish)(struct cpu_engine *e);

    /* state->derived: its bytes, and its content from and to the int8 of an
     * image.  NULL: there is none. */
    size_t (*derived_size)(const struct model_config *config);
    void (*derive)(struct cpu_engine *e, struct state *state,
                   const int8_t *int8s);
    void (*save)(const struct cpu_engine *e, const struct state *state,
                 int8_t *int8s);
};

extern const struct cpu_mixer cpu_mamba1;
extern const struct cpu_mixer cpu_mamba2;

struct cpu_engine {
    struct engine base;
    const struct cpu_kernels *kernels;
    const struct cpu_mixer *mixer;
    const struct probe *probe; /* or NULL */
    struct threads *team;
    bool splits_all; /* for tests: no batch is for one thread */
    struct team_choice choices[BATCH_SIZES];
    struct team_choice *choice; /* of the batch, or NULL */
    struct cpu_layer *layers;   /* [n_layer] */
    struct projection lm_head;
    void *panels; /* owned: everything repacked */

    /* One batch; row t is a byte. */
    struct span spans[BATCH];
    int n_spans, n_rows;
    bool is_long;
    void *scratch;             /* owned: h, logits, arrays of the inputs */
    float *h;                  /* [t][d_model] */
    float *logits;             /* [t][256] */
    struct cpu_inputs *inputs; /* [threads] */
    void *mixing;              /* the mixer's own */
};

static inline const struct model_config *config_of(const struct cpu_engine *e)
{
    return &e->base.model->config;
}

/* ---- cpu_batch.c, for the mixers ---------------------------------------- */

/* Reads the bytes of all segments. */
enum status cpu_feed(struct engine *engine, const struct segment *segments,
                     size_t n_segments);

/* This thread's part of [0, n), in whole units. */
struct range cpu_split(const struct cpu_engine *e, int n, int unit, int thread);

/* The rows of the batch that this thread quantises and projects. */
struct range cpu_rows_of(const struct cpu_engine *e, int thread);

/* The channels that this thread convolves and scans in Mamba-1, and the rows
 * of a matrix that it multiplies in a short batch.  Of n = d_inner both are
 * the same, whatever the units of the level. */
struct range cpu_channels_of(const struct cpu_engine *e, int n, int thread);

/* y <- x W, this thread's part; nobody waits. */
void cpu_project(struct cpu_engine *e, int thread, float *y, size_t ld,
                 const struct projection *w, const struct cpu_input *x,
                 bool accumulate);

/* n floats of each row, as the input of a projection. */
void cpu_take_input(struct cpu_engine *e, int thread, struct cpu_input *input,
                    const float *x, size_t ld, int n);

/* Shows the probe the last row of what a projection multiplies. */
void cpu_show(const struct cpu_engine *e, int l, enum projection_place place,
              const struct cpu_input *input, int n);

/* A barrier of all threads if has_to: whether a phase needs what other threads
 * wrote in the one before depends on how the batch is split, so callers pass
 * is_long or !is_long. */
void cpu_meet_if(struct cpu_engine *e, bool has_to);

/* Adds channels [c0, c1) of n rows y of layer l to the pooled features of the
 * span's segment, if it wants them. */
void cpu_add_to_pooled(const struct cpu_engine *e, const struct span *span,
                       int l, const float *y, size_t ld, int n,
                       struct range channels);

/* ---- cpu_engine.c ------------------------------------------------------- */

/* Zeros for all arrays that lay_out carves: it is called to count, and then to
 * place them.  To be freed; NULL without memory. */
typedef void cpu_layout(struct cpu_engine *e, struct carver *carver);
void *cpu_carve(struct cpu_engine *e, cpu_layout *lay_out);

#endif
