/* fuzz_examples.c -- any bytes as a file of labelled records.
 *
 * What is accepted has labels in order, records of its own bytes, and after
 * dropping no record twice.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "classify/examples.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

enum { FEW = 200 }; /* records of which each is compared with each */

static void require(int is_true)
{
    if (!is_true)
        abort();
}

static void check_labels(const struct examples *e)
{
    require(e->n > 0 && e->n_labels > 0 && e->n_labels <= LABELS_MAX);
    for (int i = 0; i < e->n_labels; i++) {
        require(label_check(e->labels[i]) == OK);
        require(i == 0 || strcmp(e->labels[i - 1], e->labels[i]) < 0);
    }
}

static void check_items(const struct examples *e, size_t n_bytes)
{
    size_t n = 0;
    for (size_t i = 0; i < e->n; i++) {
        const struct example *item = &e->items[i];
        require(item->label >= 0 && item->label < e->n_labels);
        require(item->n > 0 && item->text > e->bytes &&
                item->text + item->n <= e->bytes + n_bytes + 1);
        require(!memchr(item->text, '\n', item->n));
        n += item->n;
    }
    require(n <= n_bytes);
}

static void check_dropped(const struct examples *e)
{
    for (size_t i = 0; e->n <= FEW && i < e->n; i++) {
        for (size_t k = 0; k < i; k++) {
            const struct example *x = &e->items[i], *y = &e->items[k];
            require(x->label != y->label || x->n != y->n ||
                    memcmp(x->text, y->text, x->n) != 0);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    char path[32];
    struct examples e;
    int fd = memfd_create("fuzz", 0);
    require(fd >= 0 && write(fd, bytes, n) == (ssize_t)n);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (examples_read(&e, path) == OK) {
        check_labels(&e);
        check_items(&e, n);
        require(examples_drop(&e) == OK);
        check_items(&e, n);
        check_dropped(&e);
    } else {
        require(*status_message() != '\0' && !e.items && !e.bytes);
    }
    examples_free(&e);
    close(fd);
    return 0;
}
