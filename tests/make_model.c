/* make_model.c -- writes a random model, for tests and benchmarks.
 *
 *     make_model --d-model=64 --n-layer=2 [OPTION]... OUT
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tiny_model.h"

enum {
    D_MODEL = 1,
    N_LAYER,
    D_INNER,
    D_STATE,
    D_CONV,
    DT_RANK,
    ARCHITECTURE,
    HEADDIM,
    N_GROUPS,
    CHANNEL_D,
    NORM_BIAS,
    TIED,
    BEGIN_BYTE,
    SEED,
    WEIGHTS,
    OVERFLOW
};

static const struct option options[] = {
    {"d-model", required_argument, NULL, D_MODEL},
    {"n-layer", required_argument, NULL, N_LAYER},
    {"d-inner", required_argument, NULL, D_INNER},
    {"d-state", required_argument, NULL, D_STATE},
    {"d-conv", required_argument, NULL, D_CONV},
    {"dt-rank", required_argument, NULL, DT_RANK},
    {"architecture", required_argument, NULL, ARCHITECTURE},
    {"headdim", required_argument, NULL, HEADDIM},
    {"n-groups", required_argument, NULL, N_GROUPS},
    {"channel-d", no_argument, NULL, CHANNEL_D},
    {"norm-bias", no_argument, NULL, NORM_BIAS},
    {"tied", no_argument, NULL, TIED},
    {"begin-byte", required_argument, NULL, BEGIN_BYTE},
    {"seed", required_argument, NULL, SEED},
    {"weights", required_argument, NULL, WEIGHTS},
    {"overflow", required_argument, NULL, OVERFLOW},
    {NULL, 0, NULL, 0},
};

static int usage(void)
{
    fputs("usage: make_model --d-model=N --n-layer=N [--d-inner=N] "
          "[--d-state=N] [--d-conv=N]\n                  [--dt-rank=N] "
          "[--architecture=mamba1|mamba2] [--headdim=N]\n"
          "                  [--n-groups=N] [--channel-d] "
          "[--norm-bias] [--tied] [--begin-byte=N] [--seed=N]\n"
          "                  [--weights=I8|F32|BF16|F16] "
          "[--overflow=logits|features] OUT\n",
          stderr);
    return 2;
}

/* Every number fits int and is at least -1. */
static int number(const char *text)
{
    char *end;
    errno = 0;
    long n = strtol(text, &end, 10);
    if (errno != 0 || *end != '\0' || end == text || n < -1 || n > INT_MAX)
        exit(usage());
    return (int)n;
}

static enum dtype type(const char *text)
{
    enum dtype type;
    if (!dtype_find(&type, text) || (type != DTYPE_I8 && !dtype_is_float(type)))
        exit(usage());
    return type;
}

static enum mixer mixer(const char *text)
{
    if (strcmp(text, "mamba1") == 0)
        return MIXER_MAMBA1;
    if (strcmp(text, "mamba2") != 0)
        exit(usage());
    return MIXER_MAMBA2;
}

static enum overflow overflow(const char *text)
{
    if (strcmp(text, "logits") == 0)
        return LOGITS_OVERFLOW;
    if (strcmp(text, "features") != 0)
        exit(usage());
    return FEATURES_OVERFLOW;
}

/* Where the number of an option goes, or NULL. */
static int *place(struct tiny_spec *spec, int option)
{
    switch (option) {
    case D_MODEL:
        return &spec->d_model;
    case N_LAYER:
        return &spec->n_layer;
    case D_INNER:
        return &spec->d_inner;
    case D_STATE:
        return &spec->d_state;
    case D_CONV:
        return &spec->d_conv;
    case DT_RANK:
        return &spec->dt_rank;
    case HEADDIM:
        return &spec->headdim;
    case N_GROUPS:
        return &spec->n_groups;
    case BEGIN_BYTE:
        return &spec->begin_byte;
    default:
        return NULL;
    }
}

/* The sizes that follow from others are kept at 0 until all is read. */
static void read_option(struct tiny_spec *spec, int option)
{
    int *at = place(spec, option);
    if (at) {
        *at = number(optarg);
        return;
    }
    switch (option) {
    case ARCHITECTURE:
        spec->mixer = mixer(optarg);
        break;
    case CHANNEL_D:
        spec->has_channel_d = true;
        break;
    case NORM_BIAS:
        spec->has_norm_bias = true;
        break;
    case TIED:
        spec->is_tied = true;
        break;
    case SEED:
        spec->seed = (uint64_t)number(optarg);
        break;
    case WEIGHTS:
        spec->weights = type(optarg);
        break;
    case OVERFLOW:
        spec->overflow = overflow(optarg);
        break;
    default:
        exit(usage());
    }
}

/* Sizes that no option gave. */
static void fill_in(struct tiny_spec *spec)
{
    struct tiny_spec usual =
        spec->mixer == MIXER_MAMBA2
            ? tiny_spec_mamba2(spec->d_model, spec->n_layer, 0)
            : tiny_spec_make(spec->d_model, spec->n_layer, 0);
    if (spec->d_inner == 0)
        spec->d_inner = usual.d_inner;
    if (spec->d_state == 0)
        spec->d_state = usual.d_state;
    if (spec->dt_rank == 0)
        spec->dt_rank = usual.dt_rank;
    if (spec->headdim == 0)
        spec->headdim = usual.headdim;
    if (spec->n_groups == 0)
        spec->n_groups = usual.n_groups;
}

int main(int argc, char **argv)
{
    struct tiny_spec spec = {.d_conv = 4};
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        read_option(&spec, option);
    if (optind + 1 != argc || spec.d_model < 1 || spec.n_layer < 1)
        return usage();

    fill_in(&spec);
    if (tiny_model_write(&spec, argv[optind]) != OK) {
        fprintf(stderr, "make_model: %s\n", status_message());
        return 1;
    }
    return 0;
}
