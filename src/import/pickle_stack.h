/* pickle_stack.h -- the values of a pickle machine, and its stack.
 *
 * Private to pickle_machine.c and pickle_functions.c.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_PICKLE_STACK_H
#define MAMBYTE_PICKLE_STACK_H

#include "import/pickle_machine.h"

enum status pickle_append(struct index_list *list, int value);
enum status pickle_push(struct pickle_machine *m, struct value value);
enum status pickle_pop(struct pickle_machine *m, int *value);

/* E_MODEL when what is on top is of another kind. */
enum status pickle_pop_kind(struct pickle_machine *m, int *value,
                            enum value_kind kind);

/* The place of the topmost mark. */
enum status pickle_find_mark(const struct pickle_machine *m, int *place);

/* Replaces the n values on top, or the mark and those above it, by a tuple of
 * these. */
enum status pickle_make_tuple(struct pickle_machine *m, int n);
enum status pickle_close_tuple(struct pickle_machine *m);

/* A list or dict. */
enum status pickle_push_empty(struct pickle_machine *m, enum value_kind kind);

/* Puts the values on the stack from first on into the dict or list at place,
 * and takes them off.  Those of an object are forgotten. */
enum status pickle_set_items(struct pickle_machine *m, int place, int first);
enum status pickle_add_items(struct pickle_machine *m, int place, int first);

#endif
