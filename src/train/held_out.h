/* held_out.h -- what a run is validated on: data that it does not learn from.
 *
 * These are files of their own (--valid), or the end of each data source,
 * which the loader then holds out.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_HELD_OUT_H
#define MAMBYTE_HELD_OUT_H

#include <stdint.h>

#include "base/byteio.h"
#include "base/names.h"
#include "base/status.h"
#include "engine/scorer.h"
#include "train/dataset.h"

struct held_out {
    const struct dataset *dataset; /* own, or the data of the run */
    struct dataset own;            /* empty: the ends of the data */
    uint64_t *begins;              /* [dataset->n]: where they begin */
    struct tally *tallies;         /* [dataset->n], of the last validation */
    double *bits;                  /* [dataset->n], the same a byte */
};

/* paths: of --valid, perhaps none; data must outlive it; own: see dataset_open.
 * All begins are 0.
 * To be closed after a failure too. */
enum status held_out_open(struct held_out *held_out,
                          const struct name_list *paths,
                          const struct dataset *data,
                          const struct file_places *own);
void held_out_close(struct held_out *held_out);

/* A line a source: name, bytes, bits, bits per byte; and their total where
 * there are several. */
enum status held_out_print(const struct held_out *held_out, struct sink *out);

#endif
