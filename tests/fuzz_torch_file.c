/* fuzz_torch_file.c -- any bytes as a file of torch.save.
 *
 * What is accepted is read to its last byte, and may not be more than the
 * file has.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "import/torch_file.h"
#include "import/torch_legacy.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

/* Keeps the compiler from leaving out a read. */
static volatile uint8_t last_seen;

static void read_tensor(const struct tensor *t, size_t n)
{
    if (t->n_bytes != t->n_elements * dtype_size(t->dtype) || t->n_bytes > n)
        abort();
    for (uint64_t k = 0; k < t->n_bytes; k++)
        last_seen = ((const uint8_t *)t->data)[k];
}

/* An old file is read from a file only. */
static enum status open_bytes(struct torch_file **file, const uint8_t *bytes,
                              size_t n)
{
    char path[64];
    if (!torch_legacy_is(bytes, n))
        return torch_file_open_memory(file, "fuzz", bytes, n);
    int fd = memfd_create("fuzz", 0);
    if (fd < 0 || write(fd, bytes, n) != (ssize_t)n)
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    enum status status = torch_file_open(file, path);
    close(fd);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct torch_file *file;
    if (open_bytes(&file, bytes, n) != OK)
        return 0;
    for (size_t i = 0; i < torch_file_count(file); i++)
        read_tensor(torch_file_at(file, i), n);
    torch_file_close(file);
    return 0;
}
