/* fuzz_snapshot.c -- any bytes as a state snapshot.
 *
 * As they are, and once more with checksums that fit, read for the model and
 * the number of floats that they claim: no fuzzer guesses a checksum.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/little_endian.h"
#include "engine/snapshot.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

/* Places of mambyte.5. */
enum { AT_MODEL = 16, AT_N_FLOATS = 40, AT_CHECKSUM = 48, AT_FLOATS = 56 };

static void store_checksum(uint8_t *bytes, size_t n)
{
    store_le(bytes + n, XXH3_64bits(bytes, n), 8);
}

static void parse(const uint8_t *bytes, size_t n,
                  const struct fingerprint *model, size_t n_floats)
{
    struct snapshot snapshot;
    if (snapshot_parse(&snapshot, bytes, n, model, n_floats) == OK) {
        if (n != AT_FLOATS + 4 * snapshot.n_floats + 8 ||
            memcmp(snapshot.model.bytes, bytes + AT_MODEL, 16) != 0)
            abort();
    } else if (snapshot.floats) {
        abort();
    }
    snapshot_free(&snapshot);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct fingerprint model = {{0}};
    parse(bytes, n, &model, 5);
    if (n < AT_FLOATS + 8)
        return 0;
    uint8_t *whole = malloc(n);
    if (!whole)
        return 0;
    memcpy(whole, bytes, n);
    memcpy(model.bytes, whole + AT_MODEL, sizeof model.bytes);
    store_checksum(whole, AT_CHECKSUM);
    store_checksum(whole, n - 8);
    parse(whole, n, &model, whole[AT_N_FLOATS] + 256u * whole[AT_N_FLOATS + 1]);
    free(whole);
    return 0;
}
