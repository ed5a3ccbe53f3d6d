/* prefill_parts.cuh -- what a prefill is made of; private to prefill.cu, which
 * runs it, results.cu, and prefill_open.cu, which sets it up.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_PREFILL_PARTS_CUH
#define MAMBYTE_PREFILL_PARTS_CUH

#include "cuda/prefill/backlog.cuh"
#include "cuda/prefill/call.cuh"
#include "cuda/prefill/mamba2_batch.cuh"
#include "cuda/prefill/prefill.cuh"
#include "cuda/prefill/recording.cuh"

enum {
    GROUPS = 2, /* of layers, each with a stream, at most             */
    RESULTS = 4 /* microbatches whose results may wait for the host   */
};

struct layer_group {
    cudaStream_t stream;
    cudaEvent_t done; /* its last tick                                     */
    int first, end;   /* layers                                            */
};

/* The results of a microbatch on the way to the host. */
struct delivery {
    cudaEvent_t done;
    float *bits;    /* pinned [rows]                                       */
    float *logits;  /* pinned [rows][256]                                  */
    bool is_direct; /* the logits go to the callers' memory instead        */
    struct segment_share shares[ROWS_MAX];
    int n_shares;
};

struct prefill {
    struct prefill_batch batch;
    bool is_mamba2;
    struct mamba2_batch mamba2; /* zeros for Mamba-1                       */
    int least; /* rows of a stream in a microbatch, where it has them    */
    bool overlaps;
    void *memory;             /* owned, device: the arrays of batch       */
    void *pinned;             /* owned, host: bits and logits             */
    struct microbatch *slots; /* owned, pinned [n_slots]                  */
    uint32_t *overflow;       /* owned, pinned: see overflow.cuh          */
    const struct model *model;
    struct layer_group groups[GROUPS];
    int n_groups; /* of the calls under way                                */
    cudaStream_t head;
    cudaStream_t copies; /* of microbatches, beside the work               */
    cudaEvent_t copied;
    struct recording recording;
    struct delivery deliveries[RESULTS];
    struct backlog backlog;                   /* of the newest call        */
    const struct host_floats *floats;         /* pinned, while it starts   */
    struct segment_share (*shares)[ROWS_MAX]; /* owned [n_slots]           */

    /* What is under way: microbatches since there was nothing, and how far
     * they are.  Microbatch number m enters at tick m. */
    int n_microbatches;
    int n_ticks; /* that were launched                                     */
    int n_taken; /* microbatches whose results the host has                */
    struct call calls[2];
    int n_calls; /* under way: two while the second is started             */
    int newest;  /* of the calls                                           */
};

static inline int prefill_slot(const struct prefill *p, int microbatch)
{
    return microbatch % p->batch.n_slots;
}

/* ---- results.cu --------------------------------------------------------- */

/* Of these, the one that holds what the logits of a share go to; NULL: none
 * does. */
const struct host_floats *results_memory(const struct host_floats *floats,
                                         const struct segment_share *share);

/* Enqueues the copy of the results of a microbatch. */
enum status results_send(struct prefill *prefill, cudaStream_t stream,
                         int number);

/* Takes the results of all microbatches before number end, which were sent. */
enum status results_take(struct prefill *prefill, int end);

#endif
