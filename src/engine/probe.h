/* probe.h -- a look at what projections multiply, for calibration.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_PROBE_H
#define MAMBYTE_PROBE_H

/* The projections of a layer; and lm_head, of the layer after the last. */
enum projection_place { IN_PROJ, X_PROJ, DT_PROJ, OUT_PROJ, LM_HEAD };

/* Is shown what projections multiply, x: [n], now and then: once for each
 * batch of bytes that the engine chooses to read at a time. */
struct probe {
    void (*see)(void *arg, int layer, enum projection_place place,
                const float *x, int n);
    void *arg;
};

#endif
