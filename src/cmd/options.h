/* options.h -- what the command line asks for.
 *
 * One table in options.c gives the parser, --help, and the modes that each
 * option goes with.  The environment is read here and nowhere else.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_OPTIONS_H
#define MAMBYTE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/message.h"
#include "base/status.h"
#include "cmd/option_table.h"
#include "engine/engine.h"

enum mode {
    MODE_GENERATE, /* the default */
    MODE_PERPLEXITY,
    MODE_SCORE,
    MODE_SURPRISAL,
    MODE_NEXT,
    MODE_COLOR,
    MODE_CLASSIFY,
    MODE_EMBED,
    MODE_COMPRESS,
    MODE_DECOMPRESS,
    MODE_TEST,
    MODE_LIST,
    MODE_INFO,
    MODE_LIST_MODELS,
    MODE_HELP,
    MODE_VERSION
};

enum { STOPS_MAX = 32, STOP_BYTES_MAX = 4096 };

struct options {
    enum mode mode;
    const char *const *files; /* [n_files], at least "-" */
    int n_files;

    /* generate */
    uint64_t n_bytes;
    const char *stops[STOPS_MAX];
    int n_stops;
    bool echo;
    bool utf8;
    double temperature;
    uint64_t top_k;
    double top_p;
    double min_p;
    uint64_t seed;
    bool is_seed_random; /* the seed is drawn */

    int n_next; /* bytes that --next writes; also temperature */

    /* score, perplexity, surprisal */
    bool is_null_terminated; /* records, in and out */
    bool resets_context;     /* after each record */
    double threshold;        /* bits, or a probability; 0 passes all */
    bool words;
    bool json;

    /* classify, embed; also is_null_terminated, threshold and json */
    const char *classify; /* a head, or states separated by commas */
    const char *prior;    /* of the states; NULL: all are alike */
    uint64_t top;         /* labels of a record */
    bool hides_text;
    bool whole_files; /* the records are whole files */
    bool eval;
    bool binary;

    /* state */
    const char *load_state; /* NULL: none */
    const char *save_state;

    /* compress, decompress */
    bool to_stdout;
    bool keep;
    bool force;
    uint64_t block_bytes;
    bool has_range;
    uint64_t range_offset;
    uint64_t range_length;

    /* model and machine */
    const char *model; /* NULL: the default */
    struct engine_options engine;
    uint64_t memlimit; /* bytes; 0: the default */
    enum verbosity verbosity;
    bool progress;
};

/* E_USAGE with the sentence when the command line is wrong.  The options point
 * into argv, whose operands may be reordered, and into the environment. */
enum status options_parse(struct options *options, int argc, char **argv);

/* MAMBYTE_MODEL; NULL when it is not set. */
const char *options_environment_model(void);

extern const struct option_table options_table;

#endif
