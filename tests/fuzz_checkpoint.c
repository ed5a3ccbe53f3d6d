/* fuzz_checkpoint.c -- any bytes as the checkpoint of a run.
 *
 * As they are, and once more with a checksum that fits, for the run that they
 * claim: no fuzzer guesses a checksum.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "model/safetensors_checksum.h"
#include "model/safetensors_write.h"
#include "train/checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

enum { ENTRIES_MAX = 256 };

static struct parameters parameters;
static struct trainer *trainer;

static void require(int is_true)
{
    if (!is_true)
        abort();
}

/* The shape of the files in the corpus. */
static void open_trainer(void)
{
    const struct model_config config = {.mixer = MIXER_MAMBA1,
                                        .d_model = 4,
                                        .n_layer = 1,
                                        .d_inner = 8,
                                        .d_state = 4,
                                        .d_conv = 2,
                                        .dt_rank = 1,
                                        .delta_max = INFINITY,
                                        .is_tied = true,
                                        .begin_byte = 0,
                                        .norm_epsilon = 1e-5f};
    const struct trainer_options options = {
        .device = DEVICE_CPU, .n_threads = 1, .n_windows = 1, .n_t = 8};
    require(parameters_open(&parameters, &config) == OK);
    require(trainer_open(&trainer, &parameters, &options) == OK);
}

static void load(const uint8_t *bytes, size_t n, const char *run)
{
    char path[64];
    struct progress progress;
    int fd = memfd_create("fuzz", 0);
    require(fd >= 0 && write(fd, bytes, n) == (ssize_t)n);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    enum status status = checkpoint_load(path, trainer, &progress, run);
    require(status == OK || status_message()[0] != '\0');
    close(fd);
}

/* metadata: [ENTRIES_MAX]; returns how many there are, with the checksum to
 * come into text. */
static size_t list_metadata(struct metadata *metadata, const char *text,
                            const struct safetensors *file)
{
    const char *key;
    size_t n = 0;
    for (size_t i = 0;
         (key = safetensors_metadata_key(file, i)) && n < ENTRIES_MAX - 1;
         i++) {
        if (strcmp(key, "checksum") != 0)
            metadata[n++] =
                (struct metadata){key, safetensors_metadata(file, key)};
    }
    metadata[n++] = (struct metadata){"checksum", text};
    return n;
}

static void load_repaired(const struct safetensors *file)
{
    static struct metadata metadata[ENTRIES_MAX];
    static struct tensor list[ENTRIES_MAX];
    char text[CHECKSUM_CHARS] = "";
    const char *run = safetensors_metadata(file, "run");
    size_t n = safetensors_count(file), n_bytes;
    uint8_t *bytes;
    if (n > ENTRIES_MAX)
        return;
    for (size_t i = 0; i < n; i++)
        list[i] = *safetensors_at(file, i);
    struct safetensors_content content = {
        metadata, list_metadata(metadata, text, file), list, n};
    safetensors_checksum(text, &content);
    require(safetensors_write_memory(&bytes, &n_bytes, &content) == OK);
    load(bytes, n_bytes, run ? run : "");
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct safetensors *file;
    if (!trainer)
        open_trainer();
    load(bytes, n, "");
    if (safetensors_open_memory(&file, "fuzz", bytes, n) == OK)
        load_repaired(file);
    safetensors_close(file);
    return 0;
}
