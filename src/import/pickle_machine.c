/* pickle_machine.c -- the stack machine that a pickle is a program for.
 *
 * SPDX-License-Identifier: MIT
 */
#include "import/pickle_machine.h"

#include <stdlib.h>
#include <string.h>

#include "base/little_endian.h"
#include "import/pickle_functions.h"
#include "import/pickle_stack.h"

/* ---- operands ----------------------------------------------------------- */

static enum status take_bytes(struct pickle_machine *m, const uint8_t **bytes,
                              uint64_t n)
{
    if (n > (uint64_t)(m->end - m->at))
        return fail(E_MODEL, "the pickle ends in the middle");
    *bytes = m->at;
    m->at += n;
    return OK;
}

/* Without a sign. */
static enum status take_number(struct pickle_machine *m, uint64_t *number,
                               int n_bytes)
{
    const uint8_t *bytes = NULL;
    TRY(take_bytes(m, &bytes, (uint64_t)n_bytes));
    *number = load_le(bytes, n_bytes);
    return OK;
}

static enum status push_number(struct pickle_machine *m, int n_bytes,
                               bool has_sign)
{
    uint64_t number;
    TRY(take_number(m, &number, n_bytes));
    int64_t value = (int64_t)number;
    if (has_sign && number >> (8 * n_bytes - 1))
        value -= (int64_t)1 << 8 * n_bytes;
    return pickle_push(m, (struct value){.kind = K_INT, .number = value});
}

/* A value that is not kept, of n bytes. */
static enum status push_skipped(struct pickle_machine *m, enum value_kind kind,
                                uint64_t n)
{
    const uint8_t *bytes;
    TRY(take_bytes(m, &bytes, n));
    return pickle_push(m, (struct value){.kind = kind});
}

/* Of a length in length_bytes. */
static enum status push_bytes(struct pickle_machine *m, enum value_kind kind,
                              int length_bytes)
{
    uint64_t n;
    TRY(take_number(m, &n, length_bytes));
    return push_skipped(m, kind, n);
}

/* LONG1: a length, then so many bytes in two's complement. */
static enum status push_long(struct pickle_machine *m)
{
    uint64_t n;
    TRY(take_number(m, &n, 1));
    if (n > 7)
        return push_skipped(m, K_NUMBER, n);
    if (n == 0)
        return pickle_push(m, (struct value){.kind = K_INT});
    return push_number(m, (int)n, true);
}

static enum status push_text(struct pickle_machine *m, int length_bytes)
{
    uint64_t n;
    const uint8_t *bytes = NULL;
    TRY(take_number(m, &n, length_bytes));
    TRY(take_bytes(m, &bytes, n));
    struct value value = {.kind = K_TEXT};
    value.text.at = (const char *)bytes;
    value.text.n = (size_t)n;
    return pickle_push(m, value);
}

static enum status take_line(struct pickle_machine *m, struct value *text)
{
    const uint8_t *end = memchr(m->at, '\n', (size_t)(m->end - m->at));
    if (!end)
        return fail(E_MODEL, "the pickle ends in the middle");
    *text = (struct value){.kind = K_TEXT};
    text->text.at = (const char *)m->at;
    text->text.n = (size_t)(end - m->at);
    m->at = end + 1;
    return OK;
}

bool pickle_text_is(const struct pickle_text *text, const char *word)
{
    return text->n == strlen(word) && memcmp(text->at, word, text->n) == 0;
}

const char *pickle_show(char shown[PRINTABLE_CHARS],
                        const struct pickle_text *text)
{
    return printable_start(shown, text->at, text->n);
}

/* ---- opcodes ------------------------------------------------------------ */

static enum status do_global(struct pickle_machine *m)
{
    struct value module, name;
    TRY(take_line(m, &module));
    TRY(take_line(m, &name));
    return pickle_push_function(m, &module, &name);
}

static enum status do_stack_global(struct pickle_machine *m)
{
    int module, name;
    TRY(pickle_pop_kind(m, &name, K_TEXT));
    TRY(pickle_pop_kind(m, &module, K_TEXT));
    struct value module_text = m->values[module], name_text = m->values[name];
    return pickle_push_function(m, &module_text, &name_text);
}

static enum status put_memo(struct pickle_machine *m, uint64_t index)
{
    if (m->stack.n == 0)
        return fail(E_MODEL, "the pickle takes from an empty stack");
    if (index > (uint64_t)m->memo.n)
        return fail(E_MODEL, "the pickle leaves gaps in its memory");
    int value = m->stack.at[m->stack.n - 1];
    if (index == (uint64_t)m->memo.n)
        return pickle_append(&m->memo, value);
    m->memo.at[index] = value;
    return OK;
}

static enum status put_memo_at(struct pickle_machine *m, int n_bytes)
{
    uint64_t index;
    TRY(take_number(m, &index, n_bytes));
    return put_memo(m, index);
}

static enum status get_memo(struct pickle_machine *m, int n_bytes)
{
    uint64_t index;
    TRY(take_number(m, &index, n_bytes));
    if (index >= (uint64_t)m->memo.n)
        return fail(E_MODEL, "the pickle recalls what it never kept");
    return pickle_append(&m->stack, m->memo.at[index]);
}

static enum status push_kind(struct pickle_machine *m, enum value_kind kind)
{
    return pickle_push(m, (struct value){.kind = kind});
}

static enum status skip(struct pickle_machine *m, int n_bytes)
{
    const uint8_t *bytes;
    return take_bytes(m, &bytes, (uint64_t)n_bytes);
}

static enum status pop_mark(struct pickle_machine *m)
{
    return pickle_find_mark(m, &m->stack.n);
}

/* Fills what is below the topmost mark with what is above it. */
static enum status fill_marked(struct pickle_machine *m,
                               enum status (*fill)(struct pickle_machine *, int,
                                                   int))
{
    int mark = 0;
    TRY(pickle_find_mark(m, &mark));
    return fill(m, mark - 1, mark + 1);
}

/* Numbers, strings, bytes. */
static enum status execute_value(struct pickle_machine *m, uint8_t opcode)
{
    switch (opcode) {
    case 'N':
        return push_kind(m, K_NONE);
    case 0x88: /* True */
    case 0x89: /* False */
        return pickle_push(
            m, (struct value){.kind = K_BOOL, .number = opcode == 0x88});
    case 'K':
        return push_number(m, 1, false);
    case 'M':
        return push_number(m, 2, false);
    case 'J':
        return push_number(m, 4, true);
    case 0x8a: /* LONG1 */
        return push_long(m);
    case 0x8b: /* LONG4 */
        return push_bytes(m, K_NUMBER, 4);
    case 'G': /* BINFLOAT */
        return push_skipped(m, K_NUMBER, 8);
    case 'X':
    case 'T': /* BINSTRING, of Python 2 */
        return push_text(m, 4);
    case 'U':  /* SHORT_BINSTRING */
    case 0x8c: /* SHORT_BINUNICODE */
        return push_text(m, 1);
    case 'C': /* SHORT_BINBYTES */
        return push_bytes(m, K_BYTES, 1);
    case 'B': /* BINBYTES */
        return push_bytes(m, K_BYTES, 4);
    case 0x8e: /* BINBYTES8 */
    case 0x96: /* BYTEARRAY8 */
        return push_bytes(m, K_BYTES, 8);
    default:
        return fail(E_MODEL,
                    "the pickle has opcode 0x%02x, which a checkpoint has no "
                    "use for",
                    opcode);
    }
}

/* Tuples, lists, dicts. */
static enum status execute_container(struct pickle_machine *m, uint8_t opcode)
{
    switch (opcode) {
    case ')':
        return pickle_make_tuple(m, 0);
    case 0x85: /* TUPLE1 */
    case 0x86:
    case 0x87:
        return pickle_make_tuple(m, opcode - 0x84);
    case 't':
    case 0x91: /* FROZENSET */
        return pickle_close_tuple(m);
    case ']':
    case 0x8f: /* EMPTY_SET */
        return pickle_push_empty(m, K_LIST);
    case 'a':
        return pickle_add_items(m, m->stack.n - 2, m->stack.n - 1);
    case 'e':
    case 0x90: /* ADDITEMS */
        return fill_marked(m, pickle_add_items);
    case '}':
        return pickle_push_empty(m, K_DICT);
    case 's':
        return pickle_set_items(m, m->stack.n - 3, m->stack.n - 2);
    case 'u':
        return fill_marked(m, pickle_set_items);
    default:
        return execute_value(m, opcode);
    }
}

static enum status execute(struct pickle_machine *m, uint8_t opcode)
{
    int unused;
    switch (opcode) {
    case 0x80: /* PROTO */
        return skip(m, 1);
    case 0x95: /* FRAME */
        return skip(m, 8);
    case '(':
        return push_kind(m, K_MARK);
    case '0': /* POP */
        return pickle_pop(m, &unused);
    case '1': /* POP_MARK */
        return pop_mark(m);
    case 'c':
        return do_global(m);
    case 0x93: /* STACK_GLOBAL */
        return do_stack_global(m);
    case 'Q':
        return pickle_make_storage(m);
    case 'R':
    case 0x81: /* NEWOBJ */
        return pickle_call(m);
    case 0x92: /* NEWOBJ_EX, with a dict of further arguments */
        TRY(pickle_pop(m, &unused));
        return pickle_call(m);
    case 'b':
        return pickle_take_state(m);
    case 'q':
        return put_memo_at(m, 1);
    case 'r':
        return put_memo_at(m, 4);
    case 0x94: /* MEMOIZE */
        return put_memo(m, (uint64_t)m->memo.n);
    case 'h':
        return get_memo(m, 1);
    case 'j':
        return get_memo(m, 4);
    default:
        return execute_container(m, opcode);
    }
}

enum status pickle_machine_run(struct pickle_machine *machine,
                               const uint8_t *bytes, size_t n, int *root)
{
    struct pickle_machine *m = machine;
    *m = (struct pickle_machine){.at = bytes, .end = bytes + n};
    *root = NO_VALUE;
    while (m->at < m->end) {
        uint8_t opcode = *m->at++;
        if (opcode == '.')
            return pickle_pop(m, root);
        TRY(execute(m, opcode));
    }
    return fail(E_MODEL, "the pickle ends in the middle");
}

enum status pickle_machine_expect(const struct pickle_machine *machine,
                                  int value, enum value_kind kind)
{
    enum value_kind found = machine->values[value].kind;
    if (found == kind)
        return OK;
    return fail(E_MODEL, "the pickle has %s where %s belongs",
                value_kind_name(found), value_kind_name(kind));
}

void pickle_machine_free(struct pickle_machine *machine)
{
    free(machine->values);
    free(machine->entries);
    free(machine->stack.at);
    free(machine->items.at);
    free(machine->memo.at);
}
