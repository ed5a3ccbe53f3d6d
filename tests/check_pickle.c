/* check_pickle.c -- the pickle of a state dict is read, any other refused.
 *
 * Pickles are written by hand, an opcode at a time, with the names of Python's
 * pickletools beside them.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include "import/pickle.h"

#include "runner.h" /* last */

/* ---- pickles ------------------------------------------------------------ */

struct text {
    uint8_t bytes[1 << 16];
    size_t n;
};

static void put(struct text *p, const void *bytes, size_t n)
{
    ck_assert(p->n + n <= sizeof p->bytes);
    memcpy(p->bytes + p->n, bytes, n);
    p->n += n;
}

#define PUT(p, literal) put((p), (literal), sizeof(literal) - 1)

/* BINUNICODE */
static void put_string(struct text *p, const char *string)
{
    uint8_t head[5] = {'X', (uint8_t)strlen(string)};
    put(p, head, sizeof head);
    put(p, string, strlen(string));
}

#define FLOATS  "ctorch\nFloatStorage\n"
#define REBUILD "ctorch._utils\n_rebuild_tensor_v2\n"
#define ORDERED "ccollections\nOrderedDict\n"

/* name: a tensor [3][2] at element 4 of storage "0" of 16 */
static void put_tensor(struct text *p, const char *name, const char *type)
{
    put_string(p, name);
    PUT(p, REBUILD "((");
    put_string(p, "storage");
    put(p, type, strlen(type));
    put_string(p, "0");
    put_string(p, "cpu");
    PUT(p, "K\x10tQ");             /* BININT1 16, TUPLE, BINPERSID */
    PUT(p, "K\x04K\x03K\x02\x86"); /* 4, 3, 2, TUPLE2 */
    PUT(p, "K\x02K\x01\x86\x89");  /* 2, 1, TUPLE2, NEWFALSE */
    PUT(p, ORDERED ")RtR");        /* {}, TUPLE, REDUCE */
}

static struct pickled pickled;

static enum status read_pickle(const struct text *p)
{
    return pickle_read(&pickled, p->bytes, p->n);
}

/* The sentence contains a part. */
static void refused(const struct text *p, const char *part)
{
    ck_assert_int_eq(read_pickle(p), E_MODEL);
    ck_assert_msg(strstr(status_message(), part) != NULL, "%s",
                  status_message());
    ck_assert_ptr_null(pickled.tensors);
    ck_assert_uint_eq(pickled.n, 0);
}

/* ---- what is read ------------------------------------------------------- */

START_TEST(a_state_dict_is_read)
{
    struct text p = {.n = 0};
    PUT(&p, "\x80\x02" ORDERED ")R(");
    put_tensor(&p, "one", FLOATS);
    put_tensor(&p, "two", "ctorch\nBFloat16Storage\n");
    put_tensor(&p, "three", "ctorch\nHalfStorage\n");
    PUT(&p, "u}");
    put_string(&p, "_metadata");
    PUT(&p, "}sb."); /* EMPTY_DICT, SETITEM, BUILD */
    ck_assert_msg(read_pickle(&p) == OK, "%s", status_message());
    ck_assert_uint_eq(pickled.n, 3);
    const struct pickled_tensor *t = pickled.tensors;
    ck_assert_str_eq(t[0].name, "one");
    ck_assert_str_eq(t[0].key, "0");
    ck_assert_uint_eq(t[0].n_storage, 16);
    ck_assert_uint_eq(t[0].offset, 4);
    ck_assert_int_eq(t[0].n_dims, 2);
    ck_assert_uint_eq(t[0].shape[0], 3);
    ck_assert_uint_eq(t[0].shape[1], 2);
    ck_assert_uint_eq(t[0].stride[0], 2);
    ck_assert_uint_eq(t[0].stride[1], 1);
    ck_assert_int_eq(t[0].dtype, DTYPE_F32);
    ck_assert_int_eq(t[1].dtype, DTYPE_BF16);
    ck_assert_int_eq(t[2].dtype, DTYPE_F16);
    pickle_free(&pickled);
}
END_TEST

/* The opcodes of protocol 4, and a parameter around a tensor. */
START_TEST(a_newer_protocol_is_read)
{
    struct text p = {.n = 0};
    PUT(&p, "\x80\x04\x95\0\0\0\0\0\0\0\0}\x94(\x8c\x01w\x94");
    PUT(&p, "\x8c\x0ctorch._utils\x8c\x12_rebuild_parameter\x93(");
    PUT(&p, "\x8c\x0ctorch._utils\x8c\x12_rebuild_tensor_v2\x93((");
    PUT(&p, "\x8c\x07storage\x8c\x05torch\x8c\x0c"
            "FloatStorage\x93");
    PUT(&p, "\x8c\x02"
            "12\x8c\x06"
            "cuda:0M\x00\x01tQ");
    PUT(&p, "\x8a\x01\x05J\x06\0\0\0\x85K\x01\x85\x89}tR\x88}tRu.");
    ck_assert_msg(read_pickle(&p) == OK, "%s", status_message());
    ck_assert_uint_eq(pickled.n, 1);
    ck_assert_str_eq(pickled.tensors[0].key, "12");
    ck_assert_uint_eq(pickled.tensors[0].n_storage, 256);
    ck_assert_uint_eq(pickled.tensors[0].offset, 5);
    ck_assert_uint_eq(pickled.tensors[0].shape[0], 6);
    pickle_free(&pickled);
}
END_TEST

/* BINPUT and BINGET: how Python writes a value that comes twice. */
START_TEST(what_is_kept_is_recalled)
{
    struct text p = {.n = 0};
    PUT(&p, "\x80\x02}q\x00(");
    put_tensor(&p, "one", FLOATS);
    PUT(&p, "r\x01\0\0\0");
    put_string(&p, "tied");
    PUT(&p, "j\x01\0\0\0u.");
    ck_assert_msg(read_pickle(&p) == OK, "%s", status_message());
    ck_assert_uint_eq(pickled.n, 2);
    ck_assert_str_eq(pickled.tensors[1].name, "tied");
    ck_assert_str_eq(pickled.tensors[1].key, pickled.tensors[0].key);
    pickle_free(&pickled);
}
END_TEST

/* ---- what is refused ---------------------------------------------------- */

#define CALL(module, name) "c" module "\n" name "\n"

static const struct {
    const char *bytes;
    size_t n;
    const char *part;
} bad[] = {
#define BAD(literal, part)                                                     \
    {                                                                          \
        (literal), sizeof(literal) - 1, (part)                                 \
    }
    BAD("\x80\x02" CALL("os", "system") "X\x02\0\0\0ls\x85R.",
        "names os.system"),
    BAD("\x80\x02" CALL("posix", "system") ".", "names posix.system"),
    BAD("\x80\x02" CALL("builtins", "eval") ".", "names builtins.eval"),
    BAD("\x80\x02" CALL("os", "\x1b[2Js") ".", "names os.?[2Js"),
    BAD("\x80\x02" CALL("torch", "LongStorage") ".",
        "has a function where a dict belongs"),
    BAD("\x80\x02" CALL("argparse", "Namespace") ")\x81.",
        "has an object where a dict belongs"),
    BAD("\x80\x04\x8c\x02os\x8c\x06system\x93.", "names os.system"),
    BAD("\x80\x02"
        "cos",
        "ends in the middle"),
    BAD("\x80\x02ios\nsystem\n.", "opcode 0x69"),
    BAD("\x80\x02]", "ends in the middle"),
    BAD("\x80\x02].", "has a list where a dict belongs"),
    BAD("\x80\x02}Na.", "adds to something that is not a list"),
    BAD("\x80\x02Na.", "adds to something that is not a list"),
    BAD("\x80\x02(e.", "adds to something that is not a list"),
    BAD("\x80\x02"
        "1.",
        "end without a start"),
    BAD("\x80\x02"
        "0.",
        "empty stack"),
    BAD("\x80\x02"
        "B\xff\xff\xff\xff.",
        "ends in the middle"),
    BAD("\x80\x02\x8e\xff\xff\xff\xff\xff\xff\xff\xff.", "ends in the middle"),
    BAD("\x80\x02G\0\0.", "ends in the middle"),
    BAD("\x80\x02(l.", "opcode 0x6c"),
    BAD("\x80\x02\x82\x01", "opcode 0x82"),
    BAD("", "ends in the middle"),
    BAD("\x80\x02}", "ends in the middle"),
    BAD("\x80\x02X\xff\xff\xff\xff"
        "a.",
        "ends in the middle"),
    BAD("\x80\x02\x8c\x09"
        "a.",
        "ends in the middle"),
    BAD("\x80\x02.", "empty stack"),
    BAD("\x80\x02R.", "empty stack"),
    BAD("\x80\x02u.", "end without a start"),
    BAD("\x80\x02(u.", "something that is not a dict"),
    BAD("\x80\x02}(Nu.", "a name without a value"),
    BAD("\x80\x02NNNs.", "something that is not a dict"),
    BAD("\x80\x02NNs.", "something that is not a dict"),
    BAD("\x80\x02K\x01.", "has a number where a dict belongs"),
    BAD("\x80\x02NNR.", "has None where a tuple belongs"),
    BAD("\x80\x02N)R.", "has None where a function belongs"),
    BAD("\x80\x02" ORDERED "N\x85R.", "arguments that it does not take"),
    BAD("\x80\x02" REBUILD ")R.", "arguments that it does not take"),
    BAD("\x80\x02" FLOATS ")R.", "arguments that it does not take"),
    BAD("\x80\x02)Q.", "malformed storage"),
    BAD("\x80\x02h\x00.", "recalls what it never kept"),
    BAD("\x80\x02j\xff\xff\xff\xff.", "recalls what it never kept"),
    BAD("\x80\x02}q\x07.", "leaves gaps in its memory"),
    BAD("\x80\x02}r\xff\xff\xff\xff.", "leaves gaps in its memory"),
    BAD("\x80\x02\x8a\x08\1\1\1\1\1\1\1\1.",
        "has a number where a dict belongs"),
    BAD("\x80\x02}.", "is an empty dict"),
    BAD("\x80\x02}X\x01\0\0\0aK\x01s.", "a is a number, expected a tensor"),
    BAD("\x80\x02}X\x01\0\0\0a}s.", "a is a dict, expected a tensor"),
    BAD("\x80\x02}K\x01}s.", "whose name is a number"),
    BAD("\x80\x02N}b.", "sets the state"),
#undef BAD
};

START_TEST(a_bad_pickle_is_refused)
{
    ck_assert_int_eq(
        pickle_read(&pickled, (const uint8_t *)bad[_i].bytes, bad[_i].n),
        E_MODEL);
    ck_assert_msg(strstr(status_message(), bad[_i].part) != NULL, "%s",
                  status_message());
    ck_assert_ptr_null(pickled.tensors);
}
END_TEST

/* {"w": a tensor, up to the key and the place of its storage. */
static void put_storage(struct text *p, const char *key)
{
    PUT(p, "\x80\x02}");
    put_string(p, "w");
    PUT(p, REBUILD "((");
    put_string(p, "storage");
    PUT(p, FLOATS);
    put_string(p, key);
    put_string(p, "cpu");
}

/* One tensor whose storage has a key that is a path. */
START_TEST(a_path_is_no_key)
{
    struct text p = {.n = 0};
    put_storage(&p, "../../etc/passwd");
    PUT(&p, "K\x10tQK\0K\x01\x85K\x01\x85\x89}tRs.");
    refused(&p, "w has a storage without a number");
}
END_TEST

START_TEST(dimensions_are_few_and_not_negative)
{
    struct text p = {.n = 0};
    put_storage(&p, "0");
    PUT(&p, "K\x10tQK\0");
    struct text many = p, negative = p;
    PUT(&many, "(NNNNNNNNNt(NNNNNNNNNt\x89}tRs.");
    refused(&many, "w has 9 dimensions and 9 strides");
    PUT(&negative, "J\xff\xff\xff\xff\x85K\x01\x85\x89}tRs.");
    refused(&negative, "not whole numbers");
}
END_TEST

/* ---- dicts in dicts ----------------------------------------------------- */

#define ADAM "ctorch.optim.adam\nAdam\n"

/* {"model": {..}, "optimizer": {"state": {0: {"exp_avg": ..}}, "groups":
 * [1e-3]}, "step": 5, "args": an object, "names": {"a", b"b"}} */
static void put_training(struct text *p, const char *model, const char *ema)
{
    PUT(p, "\x80\x02}(");
    put_string(p, model);
    PUT(p, "}(");
    put_tensor(p, "backbone.embedding.weight", FLOATS);
    put_tensor(p, "odd", FLOATS);
    put_string(p, "_extra_state");
    PUT(p, "N"
           "K\x07K\x08u");
    put_string(p, "optimizer");
    PUT(p, "}(");
    put_string(p, "state");
    PUT(p, "}K\0}(");
    put_tensor(p, "exp_avg", "ctorch\nDoubleStorage\n");
    PUT(p, "us");
    put_string(p, "groups");
    PUT(p, "]G\0\0\0\0\0\0\0\0a(NNeu");
    put_string(p, "step");
    put_tensor(p, "x", "ctorch\nLongStorage\n");
    PUT(p, "\x86"
           "0K\x05");
    put_string(p, "args");
    PUT(p, ADAM ")\x81}(");
    put_string(p, "lr");
    PUT(p, "K\x01ub");
    put_string(p, "names");
    PUT(p, "\x8f(X\1\0\0\0aC\1b\x90");
    if (ema) {
        put_string(p, ema);
        PUT(p, "}(");
        put_tensor(p, "embedding.weight", FLOATS);
        PUT(p, "u");
    }
    PUT(p, "u.");
}

START_TEST(the_model_is_found_in_a_run_of_training)
{
    static const char *const names[] = {"model", "state_dict", "net", "x"};
    struct text p = {.n = 0};
    put_training(&p, names[_i], NULL);
    ck_assert_msg(read_pickle(&p) == OK, "%s", status_message());
    ck_assert_uint_eq(pickled.n, 2);
    ck_assert_str_eq(pickled.tensors[0].name, "backbone.embedding.weight");
    ck_assert_str_eq(pickled.tensors[1].name, "odd");
    pickle_free(&pickled);
}
END_TEST

START_TEST(of_two_models_the_usual_one_is_taken)
{
    struct text p = {.n = 0}, unclear = {.n = 0};
    put_training(&p, "model", "ema");
    ck_assert_msg(read_pickle(&p) == OK, "%s", status_message());
    ck_assert_uint_eq(pickled.n, 2);
    pickle_free(&pickled);
    p.n = 0;
    put_training(&p, "average", "state_dict");
    ck_assert_msg(read_pickle(&p) == OK, "%s", status_message());
    ck_assert_str_eq(pickled.tensors[0].name, "embedding.weight");
    pickle_free(&pickled);
    put_training(&unclear, "net", "net2");
    refused(&unclear, "two models, net and net2: save one by itself");
}
END_TEST

START_TEST(other_types_of_numbers_are_named)
{
    struct text p = {.n = 0};
    PUT(&p, "\x80\x02}(");
    put_tensor(&p, "embedding.weight", "ctorch\nDoubleStorage\n");
    PUT(&p, "u.");
    refused(&p, "embedding.weight is of DoubleStorage, expected F32, F16 or "
                "BF16");
}
END_TEST

START_TEST(names_are_whole)
{
    static char name[300];
    struct text p = {.n = 0};
    uint8_t head[5] = {'X', 255};
    memset(name, 'n', sizeof name);
    PUT(&p, "\x80\x02}(");
    put_tensor(&p, "short", FLOATS);
    put(&p, head, sizeof head);
    put(&p, name, 255);
    struct text tail = {.n = 0};
    put_tensor(&tail, "", FLOATS);
    put(&p, tail.bytes + 5, tail.n - 5);
    PUT(&p, "u.");
    ck_assert_msg(read_pickle(&p) == OK, "%s", status_message());
    ck_assert_uint_eq(strlen(pickled.tensors[1].name), 255);
    pickle_free(&pickled);
    p.n = 0;
    PUT(&p, "\x80\x02}(");
    put_tensor(&p, "a\x1b[2J", FLOATS);
    PUT(&p, "u.");
    refused(&p, "a?[2J..: a tensor's name is not 1 to 255 printable");
}
END_TEST

/* ---- limits -------------------------------------------------------------- */

/* Two million marks, or the same kept value again and again. */
START_TEST(values_are_counted)
{
    enum { N = 1 << 21 };
    uint8_t *bytes = malloc(N);
    memset(bytes, '(', N);
    bytes[0] = '\x80';
    ck_assert_int_eq(pickle_read(&pickled, bytes, N), E_MODEL);
    ck_assert_str_eq(status_message(),
                     "the pickle has more than 1048576 values");
    memcpy(bytes, "}q\0", 3);
    for (size_t i = 3; i + 1 < N; i += 2)
        memcpy(bytes + i, "h\0", 2);
    ck_assert_int_eq(pickle_read(&pickled, bytes, N - 1), E_MODEL);
    memset(bytes, 'N', N);
    ck_assert_int_eq(pickle_read(&pickled, bytes, PICKLE_BYTES_MAX + 1),
                     E_MODEL);
    ck_assert_ptr_nonnull(strstr(status_message(), "at most 16777216"));
    free(bytes);
}
END_TEST

/* A dict in itself, tuples of tuples: nothing is expanded. */
START_TEST(depth_costs_nothing)
{
    struct text p = {.n = 0};
    PUT(&p, "\x80\x02}q\x00");
    for (int i = 0; i < 10000; i++)
        PUT(&p, "\x85");
    PUT(&p, "q\x01h\x00");
    put_string(&p, "self");
    PUT(&p, "h\x00s.");
    refused(&p, "self is a dict, expected a tensor");
}
END_TEST

/* Every prefix of a good one. */
START_TEST(truncations_are_refused)
{
    struct text p = {.n = 0};
    PUT(&p, "\x80\x02}q\x00(");
    put_tensor(&p, "one", FLOATS);
    PUT(&p, "u.");
    for (size_t n = 0; n < p.n; n++) {
        struct text part = p;
        part.n = n;
        refused(&part, "the pickle");
    }
    ck_assert_int_eq(read_pickle(&p), OK);
    pickle_free(&pickled);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pickle");
    TCase *tcase = tcase_create("pickle");
    tcase_add_test(tcase, a_state_dict_is_read);
    tcase_add_test(tcase, a_newer_protocol_is_read);
    tcase_add_test(tcase, what_is_kept_is_recalled);
    tcase_add_loop_test(tcase, a_bad_pickle_is_refused, 0,
                        sizeof bad / sizeof bad[0]);
    tcase_add_test(tcase, a_path_is_no_key);
    tcase_add_test(tcase, dimensions_are_few_and_not_negative);
    tcase_add_loop_test(tcase, the_model_is_found_in_a_run_of_training, 0, 4);
    tcase_add_test(tcase, of_two_models_the_usual_one_is_taken);
    tcase_add_test(tcase, other_types_of_numbers_are_named);
    tcase_add_test(tcase, names_are_whole);
    tcase_add_test(tcase, values_are_counted);
    tcase_add_test(tcase, depth_costs_nothing);
    tcase_add_test(tcase, truncations_are_refused);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
