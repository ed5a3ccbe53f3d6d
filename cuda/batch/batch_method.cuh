/* batch_method.cuh -- a way to decode a batch: what each kind of mixer has of
 * its own.  batch.cu has what they share: the host's side.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_BATCH_METHOD_CUH
#define MAMBYTE_BATCH_METHOD_CUH

#include "cuda/common/device.cuh"

/* Rows are streams.  images to bytes and host_logits are pinned memory of the
 * host, which kernels read.  Team i has the tiles i, i + n_teams, ... */
struct batch_job {
    int n_rows, tile_rows;
    float *const *images; /* [n_rows], the host's                          */
    const uint8_t *bytes; /* [n_rows], the host's                          */
    float *logits;        /* [n_rows][256], of this GPU                    */
    float *const *host_logits; /* [n_rows], where the host wants them, NULL
                                  where not                                */
    float *host_bits;   /* [n_rows]                                      */
    uint32_t *overflow; /* the host's: see overflow.cuh                  */
};

/* self is private to the method. */
struct batch_method {
    int rows_max; /* of a launch */

    /* *self is NULL where the shape does not fit the device. */
    enum status (*open)(void **self, const struct cuda_model *model,
                        cudaStream_t stream);
    void (*close)(void *self); /* NULL is accepted */

    /* Launches of n rows that have the same form take about the same time. */
    int (*form)(const void *self, int n);

    /* Enqueues a launch.  tile_rows is the method's to set. */
    enum status (*launch)(void *self, const struct batch_job *job,
                          cudaStream_t stream);
};

extern const struct batch_method batch_team;  /* Mamba-1 */
extern const struct batch_method batch_chain; /* Mamba-2 */

#endif
