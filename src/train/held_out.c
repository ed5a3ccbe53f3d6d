/* held_out.c -- what a run is validated on: data that it does not learn from.
 *
 * SPDX-License-Identifier: MIT
 */
#include "train/held_out.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/escape.h"

enum status held_out_open(struct held_out *held_out,
                          const struct name_list *paths,
                          const struct dataset *data,
                          const struct file_places *own)
{
    struct held_out *h = held_out;
    *h = (struct held_out){.dataset = data};
    if (paths->n > 0) {
        TRY(dataset_open(&h->own, paths->items, paths->n, own));
        h->dataset = &h->own;
    }
    size_t n = (size_t)h->dataset->n;
    h->begins = calloc(n, sizeof *h->begins);
    h->tallies = calloc(n, sizeof *h->tallies);
    h->bits = calloc(n, sizeof *h->bits);
    if (!h->begins || !h->tallies || !h->bits)
        return fail_memory("the list of sources");
    return OK;
}

void held_out_close(struct held_out *held_out)
{
    free(held_out->begins);
    free(held_out->tallies);
    free(held_out->bits);
    dataset_close(&held_out->own);
}

static enum status print_tally(struct sink *out, const char *name,
                               const struct tally *tally)
{
    TRY(escape_column(out, name));
    TRY(sink_format(out, "\t%" PRIu64 "\t", tally->n_bytes));
    TRY(sink_number(out, tally->bits));
    TRY(sink_text(out, "\t"));
    TRY(sink_number(out, tally_bits_per_byte(tally)));
    return sink_text(out, "\n");
}

enum status held_out_print(const struct held_out *held_out, struct sink *out)
{
    const struct dataset *dataset = held_out->dataset;
    struct tally all = {0};
    for (int i = 0; i < dataset->n; i++) {
        TRY(print_tally(out, dataset->sources[i].name, &held_out->tallies[i]));
        tally_join(&all, &held_out->tallies[i]);
    }
    return dataset->n > 1 ? print_tally(out, "total", &all) : OK;
}
