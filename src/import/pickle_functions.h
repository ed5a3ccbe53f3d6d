/* pickle_functions.h -- what a pickle calls: told by name, never executed.
 *
 * The functions that describe a tensor are followed.  Functions of use only to
 * an attacker are refused.  Any other makes an object, of which only the name
 * is known.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_PICKLE_FUNCTIONS_H
#define MAMBYTE_PICKLE_FUNCTIONS_H

#include "import/pickle_machine.h"

/* module, name: texts. */
enum status pickle_push_function(struct pickle_machine *m,
                                 const struct value *module,
                                 const struct value *name);

/* Replaces function and arguments by what the call would return: a dict, a
 * tensor, or an object. */
enum status pickle_call(struct pickle_machine *m);

/* ('storage', type, key, location, elements) becomes a storage; before PyTorch
 * 1.6 None follows. */
enum status pickle_make_storage(struct pickle_machine *m);

/* Takes the state of a dict or object, and forgets it: PyTorch attaches the
 * versions of its modules to a dict. */
enum status pickle_take_state(struct pickle_machine *m);

#endif
