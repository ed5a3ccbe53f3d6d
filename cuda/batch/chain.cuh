/* chain.cuh -- batch decode of Mamba-2: what the kernels of a chain work on,
 * and their launches.
 *
 * A layer is four kernels, of which each starts while the one before it ends:
 * a norm and the two products are those of prefill; between the products a
 * block takes a stream's byte through all of the mixer (chain_heads.cu).  The
 * states of the streams whose chunk ends are updated once, behind the last
 * layer (chain_states.cu).
 *
 * Layers share their activations, so that these stay in the L2 cache.  Kernels
 * of prefill have activations for each layer, and make h of embeddings in
 * layer 0: so layer 0 has the first ones here, and every other layer is layer
 * 1 to them.  See chain_tick().
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_CHAIN_CUH
#define MAMBYTE_CHAIN_CUH

#include "cuda/batch/batch_method.cuh"
#include "cuda/prefill/mamba2_batch.cuh"

enum {
    CHAIN_ROWS = 2048,  /* of a launch, at most                             */
    CHAIN_HEADDIM = 64, /* channels of a head: the only ones                */
    CHAIN_TAPS = 4
};

/* Of the launch, on the device. */
struct chain_rows {
    int *places;    /* [rows]: of the stream's byte in its chunk           */
    int *ended;     /* [1 + rows]: how many streams end a chunk, and which */
    float **wanted; /* [rows]: where the host wants the logits, or NULL    */
    int part_heads; /* heads of a stream that a block takes at once; 0:
                     * see launch_chain_streams()                          */
};

/* Layer `layer`, or lm_head as the layer after the last.  `number` is the
 * layer; *b has its weights as those of layer `first`. */
static inline struct tick chain_tick(struct prefill_batch *b, int layer,
                                     int rows)
{
    b->layers += layer > 0 ? layer - 1 : 0;
    return {layer, layer > 0, 1, rows, rows, rows, 0};
}

/* Whether a block has the shared memory. */
bool chain_heads_fit(const struct prefill_batch *b,
                     const struct mamba2_batch *m);

/* Once for each device.  part_heads: for chain_rows. */
enum status chain_heads_prepare(const struct prefill_batch *b,
                                const struct mamba2_batch *m);
enum status chain_streams_prepare(const struct prefill_batch *b,
                                  const struct mamba2_batch *m,
                                  int *part_heads);

/* The microbatch and the rest of *rows, from the host. */
enum status launch_chain_enter(struct queue q, const struct prefill_batch *b,
                               const struct mamba2_batch *m,
                               const struct chain_rows *rows,
                               const struct batch_job *job);

/* u_q, what out_proj multiplies, from zx; of the states all but S and S^.
 * layer: the host's description. */
enum status launch_chain_heads(struct queue q, const struct prefill_batch *b,
                               const struct mamba2_batch *m,
                               const struct chain_rows *rows,
                               const struct cuda_layer *layer,
                               struct tick tick);

/* The same, faster, where part_heads is not 0: the device has bulk copies, and
 * shared memory for some heads. */
enum status launch_chain_streams(struct queue q, const struct prefill_batch *b,
                                 const struct mamba2_batch *m,
                                 const struct chain_rows *rows,
                                 const struct cuda_layer *layer,
                                 struct tick tick);

/* S and S^ of the streams whose chunk ends, in all layers. */
enum status launch_chain_states(struct queue q, const struct prefill_batch *b,
                                const struct mamba2_batch *m,
                                const struct chain_rows *rows);

/* Costs and predictions, to the states and to the host. */
enum status launch_chain_deliver(struct queue q, const struct prefill_batch *b,
                                 const struct chain_rows *rows,
                                 const struct batch_job *job);

#endif
