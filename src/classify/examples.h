/* examples.h -- records with their labels, from a file.
 *
 * A line is a record: its label, a tab, its text; or, as fastText has it,
 * "__label__" with the label, a space, and the text.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_EXAMPLES_H
#define MAMBYTE_EXAMPLES_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { LABEL_MAX = 255, LABELS_MAX = 1024 }; /* bytes of one; how many */

struct example {
    const uint8_t *text; /* [n], without label and newline */
    size_t n;
    int label;
    float weight; /* in a fit: 1, or less for what was cut short */
};

struct examples {
    struct example *items; /* [n], in the order of the file */
    size_t n;
    const char **labels; /* [n_labels], by bytes; no two alike */
    int n_labels;
    size_t n_empty;      /* left out: records without text */
    size_t n_duplicates; /* by examples_drop: left out, as another has the
                          * same label and text */
    size_t n_conflicts;  /* likewise: texts with several labels, kept */
    uint8_t *bytes;      /* owned: all of the file */
};

/* Reads path ("-" is standard input) to its end.  E_FORMAT with the number of
 * the line when a line has neither form; on failure *examples is all zero. */
enum status examples_read(struct examples *examples, const char *path);

/* Leaves out records that are there twice, and counts them. */
enum status examples_drop(struct examples *examples);
void examples_free(struct examples *examples);

/* OK when label can be a label: 1 to LABEL_MAX bytes of UTF-8, without control
 * characters, and not "-", which stands for no label. */
enum status label_check(const char *label);

#endif
