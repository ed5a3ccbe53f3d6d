/* names.h -- the names from an option that may be given several times.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_NAMES_H
#define MAMBYTE_NAMES_H

struct name_list {
    const char *items[32]; /* [n], not owned */
    int n;
};

#endif
