/* train_muon.cuh -- Muon: muon.c says what it computes.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TRAIN_MUON_CUH
#define MAMBYTE_TRAIN_MUON_CUH

#include "base/carver.h"
extern "C" {
#include "train/trainer.h"
}

struct replica;

enum { MUON_GROUPS_MAX = 4 };

/* Matrices of one shape, and where they are. */
struct muon_group {
    int rows, cols, n;
    const unsigned long long *offsets; /* [n] in the parameters, device     */
};

/* What Muon updates. */
struct muon_table {
    struct muon_group groups[MUON_GROUPS_MAX];
    int n;
};

void muon_count(struct muon_table *table, const struct parameters *p);
void muon_carve(struct muon_table *table, struct carver *carver);
enum status muon_fill(const struct replica *r);

/* Bytes of r->muon_room that the update needs at least: one matrix of the
 * largest shape. */
size_t muon_least_bytes(const struct replica *r);
void run_muon(const struct replica *r, const struct update *update);

#endif
