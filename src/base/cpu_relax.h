/* cpu_relax.h -- what a loop that waits for memory to change does each turn.
 *
 * Tells the core that it is waiting, so that a sibling on the same core has
 * it meanwhile.  A hint: doing nothing is right too.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_CPU_RELAX_H
#define MAMBYTE_CPU_RELAX_H

static inline void cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

#endif
