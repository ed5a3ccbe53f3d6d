/* temporary.h -- names of unfinished files, which vanish with the program.
 *
 * A name lies in a folder that its owner holds open, cannot be guessed, and is
 * short whatever the file is to be called.  A signal that kills the program
 * removes what has such a name first (signals.h); only SIGKILL leaves it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TEMPORARY_H
#define MAMBYTE_TEMPORARY_H

struct temporary;

/* A new name in folder, a descriptor that has to stay open.  No file has that
 * name yet.  NULL when there are too many, or no random numbers. */
struct temporary *temporary_new(int folder);

const char *temporary_name(const struct temporary *temporary);

/* The file has another name now. */
void temporary_forget(struct temporary *temporary);

/* Removes the file, if there is one. */
void temporary_remove(struct temporary *temporary);

#endif
