/* cuda_states.cuh -- the states of the GPU engine, and their copies.
 *
 * Records start by the thousand, each with a copy of a state.  Copies are
 * gathered: cuda_states_settle enqueues those that wait as one kernel, and the
 * engine calls it before it does anything else with a state.
 *
 * While a copy waits, cuda_states_copy settles before it adds one that would
 * conflict with it:
 *
 *     a state that waits as   must not be copied   because
 *     a target                to                   two blocks would write it
 *     a target                from                 it is not written yet
 *     a source                to                   it is not read yet
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_CUDA_STATES_CUH
#define MAMBYTE_CUDA_STATES_CUH

#include "cuda/common/device.cuh"

enum { COPIES_MAX = 128 }; /* that wait */

struct cuda_states {
    const struct model_config *config;
    size_t n_image;      /* bytes of an image                              */
    size_t n_bytes;      /* of a state, a multiple of 4                    */
    cudaStream_t stream; /* of the copies, not owned */
    struct state *unused;
    struct state *targets[COPIES_MAX], *sources[COPIES_MAX];
    int n_copies;
};

/* The config outlives them. */
void cuda_states_open(struct cuda_states *states,
                      const struct model_config *config, cudaStream_t stream);
void cuda_states_close(struct cuda_states *states);

enum status cuda_states_new(struct cuda_states *states, struct state **state);

/* Keeps it for the next cuda_states_new: allocating on a GPU is slow. */
void cuda_states_free(struct cuda_states *states, struct state *state);

/* Gives the memory of those back; false where there are none. */
bool cuda_states_release(struct cuda_states *states);

enum status cuda_states_copy(struct cuda_states *states, struct state *to,
                             struct state *from);
enum status cuda_states_settle(struct cuda_states *states);

/* Copies an image to or from the host, and waits.  E_FORMAT when it is no
 * state. */
enum status cuda_states_get(struct cuda_states *states,
                            const struct state *state, float *image);
enum status cuda_states_set(struct cuda_states *states, struct state *state,
                            const float *image);

#endif
