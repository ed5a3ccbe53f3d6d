/* write_logits.c -- the logits of a checkpoint, for build-aux/check-torch.
 *
 *     write_logits CHECKPOINT <BYTES >LOGITS
 *
 * LOGITS: [bytes][256] binary32 in the byte order of this machine, after each
 * byte, from an empty state: the begin byte of the checkpoint is not read.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>

#include "engine/engine.h"
#include "import/adopt.h"

enum { BYTES_MAX = 1 << 16 };

static uint8_t bytes[BYTES_MAX];

static void require(enum status status)
{
    if (status == OK)
        return;
    fprintf(stderr, "write_logits: %s\n", status_message());
    exit(EXIT_FAILURE);
}

static void write_logits(const struct model *model, size_t n)
{
    const struct engine_options options = {.device = DEVICE_CPU};
    float *logits = malloc(n * N_BYTES_VOCAB * sizeof *logits);
    struct engine *engine;
    struct state *state;
    if (!logits)
        exit(EXIT_FAILURE);
    require(engine_open(&engine, model, &options));
    require(engine_state_new(engine, &state));
    struct segment segment = {
        .state = state, .bytes = bytes, .n = n, .logits = logits};
    require(engine_feed(engine, &segment, 1));
    engine_state_free(engine, state);
    engine_close(engine);
    if (fwrite(logits, N_BYTES_VOCAB * sizeof *logits, n, stdout) != n)
        exit(EXIT_FAILURE);
    free(logits);
}

int main(int argc, char **argv)
{
    const struct adopt_options options = {.begin_byte = BEGIN_BYTE_NONE};
    struct foreign foreign;
    struct adopted adopted;
    if (argc != 2) {
        fprintf(stderr, "usage: write_logits CHECKPOINT <BYTES >LOGITS\n");
        return EXIT_FAILURE;
    }
    size_t n = fread(bytes, 1, BYTES_MAX, stdin);
    require(foreign_open(&foreign, argv[1]));
    require(adopt(&adopted, &foreign, &options));
    write_logits(adopted.model, n);
    adopted_close(&adopted);
    foreign_close(&foreign);
    return EXIT_SUCCESS;
}
