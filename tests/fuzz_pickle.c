/* fuzz_pickle.c -- any bytes as a pickle: read, or refused with a sentence.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include "import/pickle.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void require(int is_true)
{
    if (!is_true)
        abort();
}

/* What torch_file.c relies on. */
static void check(const struct pickled_tensor *t)
{
    require(strlen(t->name) <= PICKLED_NAME_MAX);
    require(t->key[0] != '\0' &&
            strspn(t->key, "0123456789") == strlen(t->key));
    require(t->n_dims >= 0 && t->n_dims <= TENSOR_MAX_DIMS);
    require(dtype_is_float(t->dtype));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct pickled pickled;
    enum status status = pickle_read(&pickled, bytes, n);
    require(status == OK || status == E_MODEL);
    if (status != OK)
        require(status_message()[0] != '\0' && pickled.n == 0);
    for (size_t i = 0; i < pickled.n; i++)
        check(&pickled.tensors[i]);
    pickle_free(&pickled);
    return 0;
}
