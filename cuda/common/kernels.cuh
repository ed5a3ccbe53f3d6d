/* kernels.cuh -- the batched path: what its kernels work on, and their
 * launches.
 *
 * Rows are bytes of streams.  A wave is up to ROWS_MAX rows, made of pieces:
 * consecutive bytes of one stream in consecutive rows.  In step k layer l
 * works on wave k - l, so that one launch serves all layers (blockIdx.z) and
 * a single long stream fills the chip.  Each layer has its own activations;
 * the residual stream h travels with its wave.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_KERNELS_CUH
#define MAMBYTE_KERNELS_CUH

#include "cuda/common/launch.cuh"

enum {
    ROWS_MAX = 4096, /* of a wave                                          */
    ROWS_UNIT = 128  /* memory for rows comes in multiples of it           */
};

/* Rows [row, row + n) of a wave: bytes of the stream whose state is image. */
struct piece {
    float *image;
    float *pooled; /* of its segment, on the device; NULL: not wanted */
    int row, n;
};

/* Rows [row, row + n), n <= SPAN, of one piece: what a block takes where
 * neighbouring rows matter. */
enum { SPAN = 8 };
struct span {
    int piece, row, n;
};

struct wave {
    int n_rows, n_pieces, n_spans;
    uint8_t bytes[ROWS_MAX];
    struct piece pieces[ROWS_MAX];
    struct span spans[ROWS_MAX];
};

/* All that the kernels read and write; passed by value.  A [layer] array has
 * `rows` rows for each layer; layer n_layer is the head: norm_f, lm_head. */
struct batch {
    int d_model, d_inner, d_state, d_conv, dt_rank, n_layer;
    bool has_norm_bias;
    float epsilon;
    struct image_layout image;
    const float *embedding;
    const struct cuda_layer *layers; /* [n_layer + 1]                      */

    int max_shared, n_processors; /* of the device: bytes for a block   */

    const struct wave *waves; /* [n_slots]                          */
    int n_slots, rows;
    float *h; /* [n_slots][rows][d_model]           */

    int x_stride, u_stride, dt_room, dtbc_stride; /* of x, u_q, dtbc       */
    int8_t *x;                  /* [layer][x_stride]: norm(h)         */
    float *x_scale;             /* [layer]                            */
    float *uz;                  /* [layer][2 d_inner]: silu(z)        */
    float *u;                   /* [layer][d_inner]; then y           */
    int8_t *u_q;                /* [layer][u_stride]; then y          */
    float *u_scale;             /* [layer]; then of y                 */
    float *dtbc;                /* [layer][dtbc_stride]: dt, room up
                                 * to dt_room, B, C                   */
    uint32_t *dt_amax, *y_amax; /* [layer]                            */

    bool has_pooled; /* some piece of the call has them    */
    int pooled_layers[POOLED_LAYERS], n_pooled;

    float *logits; /* [rows][256], of one wave           */
    float *bits;   /* [rows], of one wave                */
};

/* Layers [first, first + count) in step `number`. */
struct step {
    int number, first, count;
    int rows, pieces, spans; /* the most of any of their waves             */
};

enum product_kind { PRODUCT_IN, PRODUCT_X, PRODUCT_OUT, PRODUCT_HEAD };

/* Once for each device, before the others: they need shared memory. */
enum status products_prepare(const struct batch *b);
enum status scan_prepare(const struct batch *b);

/* x = norm(h), quantised; the maxima of the layer are set to 0.  For layer 0
 * h is made first, of the embeddings of the bytes. */
enum status launch_norm(struct queue q, const struct batch *b, struct step s);

/* uz (z through silu), dtbc, h or logits from x or u_q. */
enum status launch_product(struct queue q, const struct batch *b, struct step s,
                           enum product_kind kind);

/* u = silu(conv(uz)), u_q = u quantised. */
enum status launch_conv(struct queue q, const struct batch *b, struct step s);

/* y, in place of u, and the state: its s and its past inputs. */
enum status launch_scan(struct queue q, const struct batch *b, struct step s);

/* y is added to the pooled features of the pieces that have them. */
enum status launch_pooled(struct queue q, const struct batch *b, struct step s);

/* u_q = y quantised. */
enum status launch_quantise(struct queue q, const struct batch *b,
                            struct step s);

/* bits: what each byte cost; the last prediction of a piece to its state. */
enum status launch_deliver(struct queue q, const struct batch *b,
                           struct step s);

/* Where the wave of layer lies; the head has that of the last layer. */
static __device__ __forceinline__ int step_slot(const struct batch &b,
                                                const struct step &s, int layer)
{
    return (s.number - min(layer, b.n_layer - 1)) % b.n_slots;
}
#endif
