/* device.h -- where to compute.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_DEVICE_H
#define MAMBYTE_DEVICE_H

enum device { DEVICE_AUTO, DEVICE_CPU, DEVICE_CUDA };

#endif
