/* stopwatch.cuh -- where the time of a step goes, for benchmarks.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_STOPWATCH_CUH
#define MAMBYTE_STOPWATCH_CUH

#include "cuda/train/replica.cuh"

/* Parts of a step; what a mixer does between its products is one of the
 * parts from PHASE_CONV to PHASE_QUANTISE. */
enum phase {
    PHASE_PREPARE,
    PHASE_NORM,
    PHASE_PRODUCTS,
    PHASE_CONV,
    PHASE_DTBC,
    PHASE_PARTS,
    PHASE_STATES,
    PHASE_SCAN,
    PHASE_QUANTISE,
    PHASE_HEAD,
    PHASE_PRODUCTS_BACK,
    PHASE_GATE_BACK,
    PHASE_PARTS_BACK,
    PHASE_STATES_BACK,
    PHASE_SCAN_BACK,
    PHASE_DTBC_BACK,
    PHASE_CONV_BACK,
    PHASE_NORM_BACK,
    PHASE_EMBEDDING,
    PHASE_ADAMW,
    PHASE_MUON,
    N_PHASES
};

/* NULL when there is no memory: nothing is measured then. */
struct stopwatch *stopwatch_open(void);
void stopwatch_close(struct stopwatch *watch); /* NULL is accepted */

/* What was enqueued since the last mark belongs to phase. */
void mark(const struct replica *r, enum phase phase);

/* Waits, and reads the times since the last call: 0 without a stopwatch.
 * What came before the first mark of a call is not seen. */
enum status stopwatch_read(const struct replica *r,
                           struct trainer_time times[TRAINER_TIMES]);

#endif
