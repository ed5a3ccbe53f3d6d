/* state_dict.h -- finds the state dict in what a pickle holds.
 *
 * Programs that train save it as it is, or with other things: {"state_dict":
 * ..}, {"model": .., "optimizer": .., "step": ..}.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_STATE_DICT_H
#define MAMBYTE_STATE_DICT_H

#include "import/pickle_machine.h"

/* The dict, of those that root leads to by names, that has the embedding of a
 * model; where there are several, the one under the name that is used most.
 * Where there is none, *dict is root.  E_MODEL when names do not tell which one
 * is meant. */
enum status state_dict_find(const struct pickle_machine *m, int root,
                            int *dict);

#endif
