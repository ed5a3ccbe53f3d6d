/* recording.cuh -- the launches of a single microbatch, recorded as a graph.
 *
 * Many streams that read a byte each make the same launches again and again;
 * to launch a graph of them costs the host less.  The driver may refuse to
 * record: then the launches are made one by one.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_RECORDING_CUH
#define MAMBYTE_RECORDING_CUH

#include "cuda/common/device.cuh"

/* What the launches of a microbatch depend on. */
struct launch_form {
    int rows, spans, strips, chunks;
    bool has_pooled;
};

struct recording {
    struct launch_form form;
    bool is_wanted;         /* the form has come once: record the next     */
    bool is_refused;        /* by the driver: never again                  */
    cudaGraphExec_t launch; /* NULL: not recorded                          */
};

/* Takes note of a form.  Returns whether to record its launches now: when it
 * comes a second time, and there is no recording of it. */
bool recording_meets(struct recording *recording,
                     const struct launch_form *form);

/* Around the launches, which are recorded, not made.  False: the driver
 * refuses, and nothing is to be ended.  is_ok: the launches did not fail. */
bool recording_start(struct recording *recording, cudaStream_t stream);
void recording_end(struct recording *recording, cudaStream_t stream,
                   bool is_ok);

void recording_free(struct recording *recording);

#endif
