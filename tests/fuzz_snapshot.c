/* fuzz_snapshot.c -- any bytes as a state snapshot.
 *
 * As they are, and once more with checksums that fit, read for the model and
 * the number of floats that they claim: no fuzzer guesses a checksum.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/little_endian.h"
#include "engine/snapshot.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

/* Places of mambyte.5. */
enum { AT_VERSION = 8, AT_MODEL = 16, AT_N_FLOATS = 40, AT_N_INT8S = 48 };

static void store_checksum(uint8_t *bytes, size_t n)
{
    store_le(bytes + n, XXH3_64bits(bytes, n), 8);
}

static void parse(const uint8_t *bytes, size_t n,
                  const struct fingerprint *model, size_t n_floats,
                  size_t n_int8s)
{
    struct snapshot snapshot;
    size_t header = n_int8s > 0 ? 64 : 56;
    if (snapshot_parse(&snapshot, bytes, n, model, n_floats, n_int8s) == OK) {
        if (n != header + 4 * snapshot.n_floats + snapshot.n_int8s + 8 ||
            memcmp(snapshot.model.bytes, bytes + AT_MODEL, 16) != 0)
            abort();
    } else if (snapshot.floats) {
        abort();
    }
    snapshot_free(&snapshot);
}

static size_t number_at(const uint8_t *bytes, size_t at)
{
    return (size_t)load_le(bytes + at, 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct fingerprint model = {{0}};
    parse(bytes, n, &model, 5, 0);
    parse(bytes, n, &model, 5, 7);
    if (n < 64 + 8)
        return 0;
    uint8_t *whole = malloc(n);
    if (!whole)
        return 0;
    memcpy(whole, bytes, n);
    memcpy(model.bytes, whole + AT_MODEL, sizeof model.bytes);
    bool has_int8s = whole[AT_VERSION] == 2;
    store_checksum(whole, has_int8s ? 56 : 48);
    store_checksum(whole, n - 8);
    parse(whole, n, &model, number_at(whole, AT_N_FLOATS),
          has_int8s ? number_at(whole, AT_N_INT8S) : 0);
    free(whole);
    return 0;
}
