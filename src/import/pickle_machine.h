/* pickle_machine.h -- the stack machine that a pickle is a program for.
 *
 * Values live in one array and are known by their index; tuples are ranges
 * of a second array, entries of dicts are links in a third.  A value never
 * changes, except a dict or list, which grows.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_PICKLE_MACHINE_H
#define MAMBYTE_PICKLE_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/printable.h"
#include "base/status.h"

enum { NO_VALUE = -1 };

enum value_kind {
    K_MARK,
    K_NONE,
    K_BOOL,
    K_INT,
    K_NUMBER, /* any other, whose value is not kept */
    K_BYTES,  /* not kept either */
    K_TEXT,
    K_TUPLE,
    K_LIST, /* or a set */
    K_DICT,
    K_FUNCTION, /* or a type */
    K_OBJECT,   /* what a function that we do not know made */
    K_STORAGE,  /* what a persistent id names */
    K_TENSOR
};

/* "a string": for messages. */
const char *value_kind_name(enum value_kind kind);

/* The functions and types that we know. */
enum function {
    F_DICT,
    F_TENSOR,
    F_PARAMETER,
    F_F32,
    F_F16,
    F_BF16,
    N_FUNCTIONS,
    F_OTHER = N_FUNCTIONS
};

struct pickle_text {
    const char *at; /* in the pickle, without a NUL */
    size_t n;
};

struct value {
    enum value_kind kind;
    union {
        int64_t number; /* of a truth value: 1 or 0 */
        struct pickle_text text;
        struct {
            enum function id;
            struct pickle_text module, name;
        } function; /* also of what an object was made by */
        struct {
            int first, n; /* of the items: of a tuple, and of what made a
                           * storage or a tensor */
        } tuple;
        struct {
            int first, last; /* of the entries, or NO_VALUE */
        } dict;              /* or list */
    };
};

struct dict_entry {
    int key, value; /* key: NO_VALUE in a list */
    int next;       /* NO_VALUE after the last */
};

struct index_list {
    int *at; /* [n] */
    int n, room;
};

struct pickle_machine {
    const uint8_t *at, *end;
    struct value *values; /* [n_values] */
    int n_values, values_room;
    struct index_list stack, items, memo;
    struct dict_entry *entries; /* [n_entries] */
    int n_entries, entries_room;
};

/* Runs the pickle up to its full stop; *root is the value that is left, and
 * machine->at is after the stop.  bytes have to stay.  The machine is to be
 * freed after a failure too. */
enum status pickle_machine_run(struct pickle_machine *machine,
                               const uint8_t *bytes, size_t n, int *root);

/* E_MODEL when a value is of another kind. */
enum status pickle_machine_expect(const struct pickle_machine *machine,
                                  int value, enum value_kind kind);
void pickle_machine_free(struct pickle_machine *machine);

/* Item i of a tuple, or of what made a storage or a tensor. */
const struct value *pickle_item(const struct pickle_machine *machine,
                                const struct value *tuple, int i);

bool pickle_text_is(const struct pickle_text *text, const char *word);

/* The start of a text, with '?' for all that a terminal could mistake. */
const char *pickle_show(char shown[PRINTABLE_CHARS],
                        const struct pickle_text *text);

#endif
