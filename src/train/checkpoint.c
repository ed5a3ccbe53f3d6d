/* checkpoint.c -- a run that was interrupted, to and from a file.
 *
 * SPDX-License-Identifier: MIT
 */
#include "train/checkpoint.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "model/metadata_list.h"
#include "model/safetensors_checksum.h"
#include "model/safetensors_write.h"

#define FORMAT      "mambyte-checkpoint-1"
#define STATES_NAME "states"

enum { NAME_CHARS = 96 };

/* Indexed by enum trainer_part. */
static const char *const prefixes[] = {"", "moment_1.", "moment_2."};

enum { N_FLOAT_PARTS = sizeof prefixes / sizeof prefixes[0] };

/* The arrays of a trainer in host memory. */
struct arrays {
    float *parts[N_PARTS]; /* owned */
};

static void free_arrays(struct arrays *arrays)
{
    for (int i = 0; i < N_PARTS; i++)
        free(arrays->parts[i]);
}

static enum status make_arrays(struct arrays *arrays,
                               const struct trainer *trainer)
{
    *arrays = (struct arrays){{NULL}};
    for (int i = 0; i < N_PARTS; i++) {
        size_t n = trainer_part_floats(trainer, (enum trainer_part)i);
        arrays->parts[i] = malloc(n * sizeof(float));
        if (!arrays->parts[i]) {
            free_arrays(arrays);
            return fail_memory("a checkpoint");
        }
    }
    return OK;
}

/* ---- saving ------------------------------------------------------------- */

struct tensor_list {
    struct tensor *tensors;    /* [n], owned */
    char (*names)[NAME_CHARS]; /* [n], owned */
    size_t n;
};

static enum status open_list(struct tensor_list *list,
                             const struct parameters *p)
{
    size_t room = p->n * N_FLOAT_PARTS + 1;
    *list = (struct tensor_list){
        .tensors = calloc(room, sizeof *list->tensors),
        .names = calloc(room, sizeof *list->names),
    };
    if (list->tensors && list->names)
        return OK;
    free(list->tensors);
    free(list->names);
    return fail_memory("a checkpoint");
}

static void close_list(struct tensor_list *list)
{
    free(list->tensors);
    free(list->names);
}

/* Adds a tensor under its name behind a prefix. */
static void add(struct tensor_list *list, const char *prefix,
                struct tensor tensor)
{
    char *full = list->names[list->n];
    snprintf(full, NAME_CHARS, "%s%s", prefix, tensor.name);
    tensor.name = full;
    list->tensors[list->n++] = tensor;
}

static void list_tensors(struct tensor_list *list,
                         const struct trainer *trainer,
                         const struct arrays *arrays)
{
    const struct parameters *p = trainer_parameters(trainer);
    for (int part = 0; part < N_FLOAT_PARTS; part++) {
        for (size_t i = 0; i < p->n; i++) {
            const struct parameter *from = &p->list[i];
            if (from->n == 0)
                continue;
            add(list, prefixes[part],
                parameter_tensor(from, DTYPE_F32,
                                 arrays->parts[part] + from->offset));
        }
    }
    struct tensor states = {
        .name = STATES_NAME,
        .dtype = DTYPE_F32,
        .n_dims = 2,
        .shape = {(uint64_t)trainer_windows(trainer),
                  trainer_state_floats(&p->config)},
        .data = arrays->parts[PART_STATES],
    };
    add(list, "", states);
}

/* Everything but the checksum, which is set later, has its value. */
static void describe(struct metadata_list *list,
                     const struct model_config *config,
                     const struct progress *progress, const char *run,
                     const char *checksum)
{
    metadata_list_add(list, "format", FORMAT);
    metadata_list_add(list, "run", run);
    metadata_list_print(list, "step", "%" PRIu64, progress->step);
    metadata_list_print(list, "bytes", "%" PRIu64, progress->n_bytes);
    metadata_list_print(list, "seconds", "%.17g", progress->seconds);
    metadata_list_print(list, "bits_per_byte", "%.17g",
                        progress->bits_per_byte);
    metadata_list_print(list, "norm_epsilon", "%.9g",
                        (double)config->norm_epsilon);
    metadata_list_add(list, SAFETENSORS_CHECKSUM, checksum);
    if (config->begin_byte >= 0)
        metadata_list_print(list, "begin_byte", "%d", config->begin_byte);
    if (config->mixer == MIXER_MAMBA2)
        metadata_list_print(list, "n_groups", "%d", config->n_groups);
}

static enum status write_file(const char *path, const struct tensor_list *list,
                              const struct model_config *config,
                              const struct progress *progress, const char *run)
{
    char checksum[CHECKSUM_CHARS] = "";
    struct metadata_list metadata = {.n = 0};
    describe(&metadata, config, progress, run, checksum);
    struct safetensors_content content = {metadata.items, metadata.n,
                                          list->tensors, list->n};
    safetensors_checksum(checksum, &content);
    return safetensors_write(path, &content);
}

enum status checkpoint_save(const char *path, struct trainer *trainer,
                            const struct progress *progress, const char *run)
{
    struct arrays arrays;
    struct tensor_list list;
    TRY(make_arrays(&arrays, trainer));
    enum status status = open_list(&list, trainer_parameters(trainer));
    if (status != OK) {
        free_arrays(&arrays);
        return status;
    }
    for (int i = 0; status == OK && i < N_PARTS; i++)
        status = trainer_get(trainer, (enum trainer_part)i, arrays.parts[i]);
    if (status == OK) {
        list_tensors(&list, trainer, &arrays);
        status = write_file(path, &list, &trainer_parameters(trainer)->config,
                            progress, run);
    }
    close_list(&list);
    free_arrays(&arrays);
    return status;
}

/* ---- loading ------------------------------------------------------------ */

bool is_checkpoint(const struct safetensors *file)
{
    const char *format = safetensors_metadata(file, "format");
    return format && strcmp(format, FORMAT) == 0;
}

bool is_checkpoint_weight(const char *name)
{
    for (int part = 1; part < N_FLOAT_PARTS; part++) {
        if (text_starts_with(name, prefixes[part]))
            return false;
    }
    return strcmp(name, STATES_NAME) != 0;
}

static enum status check_file(const struct safetensors *file, const char *run)
{
    const char *saved_run = safetensors_metadata(file, "run");
    if (!is_checkpoint(file))
        return fail(E_FORMAT, "not a checkpoint of this program");
    TRY(safetensors_check_checksum(file, false));
    if (!saved_run || strcmp(saved_run, run) != 0)
        return fail(E_FORMAT,
                    "the checkpoint is of another run: of '%s', not '%s'",
                    saved_run ? saved_run : "", run);
    return OK;
}

/* The checksum has been found right, so these are as we wrote them. */
static double number_of(const struct safetensors *file, const char *key)
{
    const char *text = safetensors_metadata(file, key);
    return text ? strtod(text, NULL) : 0;
}

static uint64_t count_of(const struct safetensors *file, const char *key)
{
    const char *text = safetensors_metadata(file, key);
    return text ? strtoull(text, NULL, 10) : 0;
}

static enum status read_states(float *states, size_t n,
                               const struct safetensors *file)
{
    const struct tensor *t = safetensors_find(file, STATES_NAME);
    if (!t || t->dtype != DTYPE_F32 || t->n_elements != n)
        return fail(E_FORMAT, "the checkpoint has other states");
    memcpy(states, t->data, n * sizeof *states);
    return OK;
}

static enum status read_arrays(struct arrays *arrays,
                               const struct trainer *trainer,
                               const struct safetensors *file)
{
    for (int part = 0; part < N_FLOAT_PARTS; part++)
        TRY(parameters_load(trainer_parameters(trainer), arrays->parts[part],
                            file, prefixes[part]));
    return read_states(arrays->parts[PART_STATES],
                       trainer_part_floats(trainer, PART_STATES), file);
}

static enum status restore(struct trainer *trainer,
                           const struct safetensors *file)
{
    struct arrays arrays;
    TRY(make_arrays(&arrays, trainer));
    enum status status = read_arrays(&arrays, trainer, file);
    for (int i = 0; status == OK && i < N_PARTS; i++)
        status = trainer_set(trainer, (enum trainer_part)i, arrays.parts[i]);
    free_arrays(&arrays);
    return status;
}

enum status checkpoint_load(const char *path, struct trainer *trainer,
                            struct progress *progress, const char *run)
{
    struct safetensors *file;
    TRY(safetensors_open(&file, path));
    enum status status = check_file(file, run);
    if (status != OK)
        status_prefix(status, path);
    else
        status = restore(trainer, file);
    if (status == OK)
        *progress = (struct progress){
            .step = count_of(file, "step"),
            .n_bytes = count_of(file, "bytes"),
            .seconds = number_of(file, "seconds"),
            .bits_per_byte = number_of(file, "bits_per_byte"),
        };
    safetensors_close(file);
    return status;
}
