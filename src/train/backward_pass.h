/* backward_pass.h -- what the files of the backward pass share.
 *
 *     backward.c   the walk over the layers, forward and back, and the memory
 *     linear.c     y = W x, in float32 or imitated in int8, and its gradients
 *     norm.c       the norm before each layer and before the prediction
 *     ends.c       the embedding; the prediction and its loss
 *     mamba1.c mamba2.c  the mixers: what a layer computes between its in_proj
 *                  and its out_proj (mamba2_parts.h has the files of mamba2)
 *
 * Row t of an array is a byte of the batch: row w * n_t + i is byte i of
 * window w.  A step runs inside one threads_run: every thread walks the
 * layers, takes its share of each phase by index, and meets the others at a
 * barrier where it needs what they wrote.  A share is a range of rows, of
 * channels, or of rows of a weight; each number is made by one thread, in one
 * order.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_BACKWARD_PASS_H
#define MAMBYTE_BACKWARD_PASS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/carver.h"
#include "base/threads.h"
#include "kernels/cpu_kernels.h"
#include "kernels/train_kernels.h"
#include "train/parameters.h"
#include "train/trainer.h"

/* A projection y = W x, made ready for a step. */
struct linear {
    const struct parameter *parameter;
    int rows, cols;
    const float *value; /* [rows][cols], as the forward pass multiplies */
    float *rounded;     /* the same when imitated: the int8 multiplied out */
    int8_t *q;          /* [rows][cols] */
    float *scale;       /* [rows] */
    struct projection projection;
    float *transposed; /* [cols][rows], when not imitated */
};

/* What the forward pass keeps of a layer; its mixer keeps more. */
struct tape {
    struct linear in_proj, out_proj;
    float *h;  /* [t][d_model], what the layer reads */
    float *in; /* [t][d_in], in_proj norm(h) */
    float *y;  /* [t][d_inner], what the mixer makes of it */
};

struct backward {
    const struct parameters *parameters;
    const struct train_kernels *kernels;
    const struct cpu_kernels *int8;
    struct threads *team;
    int n_windows, n_t, n_rows;
    int d_in; /* rows of in_proj */
    bool imitates;

    /* One step. */
    const float *weights;
    float *gradient;
    const struct windows *windows;

    void *arena; /* owned: all arrays below, and the mixer's */
    size_t n_bytes;
    struct tape *tapes; /* [n_layer + 1]; of the last only h is used */
    const struct mixer_pass *mixer; /* which of the two the layers have */
    struct mamba1 *mamba1;          /* the mixers of all layers; else NULL */
    struct mamba2 *mamba2;          /* likewise */
    struct linear lm_head;
    float *states, *after; /* [n_windows][trainer_state_floats()] */
    float *x;              /* [t][d_model], normed */
    float *mean, *r;       /* [t], of the norm */
    float *logits;         /* [t][256], then their gradient */
    float *loss;           /* [t] */
    int8_t *q;             /* [t][q_ld] */
    int q_ld;
    float *q_scale;  /* [t] */
    int32_t *q_sum;  /* [t] */
    float *seen;     /* [t][widest input], as the products saw it */
    float *dh, *dx;  /* [t][d_model] */
    float *din, *dy; /* [t][d_in], [t][d_inner] */
};

/* Activations or their gradients: row t begins at x + t * ld. */
struct activations {
    float *x;
    size_t ld;
};

/* The mixer of a model's layers: mamba1.h, mamba2.h. */
struct mixer_pass {
    /* The lists, without their arrays; false when memory ran out. */
    bool (*open)(struct backward *b);
    void (*close)(struct backward *b);

    /* The arrays. */
    void (*lay_out)(struct backward *b, struct carver *carver);

    /* Make layer l ready for a step: this thread's rows of projections; then,
     * by one thread, once all have done so, the rest. */
    void (*prepare)(struct backward *b, int thread, int l);
    void (*prepare_rest)(struct backward *b, int l);

    /* What output needs, from in, of which all rows have to be there, and the
     * states after the step.  All threads meet in here; when this returns,
     * others may still be at work. */
    void (*forward)(struct backward *b, int thread, int l);

    /* y, and out_proj y added to next: this thread's rows. */
    void (*output)(struct backward *b, int thread, int l,
                   struct activations next);

    /* din from dy, of which all rows have to be there, and the gradients of
     * the mixer.  All threads meet in here, the last time at the end. */
    void (*backward)(struct backward *b, int thread, int l);

    /* Brings gradients from the order of the kernels to that of the
     * parameters; by one thread, once the layer's backward pass is done. */
    void (*finish)(struct backward *b, int l);
};

/* ---- who does what ------------------------------------------------------ */

static inline struct range share_of(const struct backward *b, int n, int thread)
{
    return threads_split(n, thread, threads_count(b->team));
}

static inline struct range rows_of(const struct backward *b, int thread)
{
    return share_of(b, b->n_rows, thread);
}

static inline void meet(struct backward *b)
{
    threads_barrier(b->team);
}

/* ---- where things are --------------------------------------------------- */

static inline const struct model_config *config_of(const struct backward *b)
{
    return &b->parameters->config;
}

static inline const float *weight_at(const struct backward *b, int l,
                                     enum place place)
{
    return b->weights + parameters_at(b->parameters, l, place)->offset;
}

static inline float *gradient_at(const struct backward *b, int l,
                                 enum place place)
{
    return b->gradient + parameters_at(b->parameters, l, place)->offset;
}

/* from: [rows][cols]; to: [cols][rows].  Weights of channels have the channels
 * first in a file, last where channels are computed side by side. */
static inline void transpose(float *to, const float *from, int rows, int cols)
{
    for (size_t r = 0; r < (size_t)rows; r++) {
        for (size_t c = 0; c < (size_t)cols; c++)
            to[c * (size_t)rows + r] = *from++;
    }
}

/* The state of window w, before the step and after it. */
static inline float *state_before(const struct backward *b, int w)
{
    return b->states + (size_t)w * trainer_state_floats(config_of(b));
}

static inline float *state_after(const struct backward *b, int w)
{
    return b->after + (size_t)w * trainer_state_floats(config_of(b));
}

/* ---- linear.c ----------------------------------------------------------- */

void linear_lay_out(struct backward *b, struct carver *carver,
                    struct linear *linear, const struct parameter *parameter);

/* Makes this thread's rows of W ready for the step. */
void linear_prepare(struct backward *b, int thread, struct linear *linear);

/* The rest of it, by one thread, once all rows are ready. */
void linear_pack(struct backward *b, struct linear *linear);

/* y = W x (added to y when accumulate), this thread's rows. */
void linear_forward(struct backward *b, int thread, struct activations y,
                    const struct linear *linear, struct activations x,
                    bool accumulate);

/* The same from what is in int8 already, in this room for n numbers a row, of
 * which this thread's begin at first. */
struct quantised linear_room(struct backward *b, int n, int first);
void linear_multiply(struct backward *b, int thread, struct activations y,
                     const struct linear *linear, const struct quantised *q,
                     bool accumulate);

/* dx = dy W (added to dx when accumulate), this thread's rows; dW += dy^T x.
 * All threads meet in here, once before dW and once after it. */
void linear_backward(struct backward *b, int thread,
                     const struct linear *linear, struct activations dx,
                     struct activations dy, struct activations x,
                     bool accumulate);

/* ---- norm.c ------------------------------------------------------------- */

/* x = norm(h), this thread's rows: of layer l, or of norm_f when l is
 * n_layer. */
void norm_forward(struct backward *b, int thread, int l);

/* Adds to dh, this thread's rows, and to the gradients of the norm.  All rows
 * of dx have to be there; others may still read them, and mean, r and h, when
 * this returns. */
void norm_backward(struct backward *b, int thread, int l);

/* ---- ends.c ------------------------------------------------------------- */

/* The first h, this thread's rows. */
void embed(struct backward *b, int thread);

/* The gradient of the embedding, this thread's columns, from all rows of dh. */
void embed_backward(struct backward *b, int thread);

/* loss, and dh of what the last layer makes.  All threads meet in here. */
void predict(struct backward *b, int thread);

#endif
