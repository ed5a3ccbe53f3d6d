/* plot.h -- draws the log of a run, by gnuplot.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_PLOT_H
#define MAMBYTE_PLOT_H

#include "base/status.h"
#include "train/dataset.h"

/* E_USAGE or E_IO when path cannot become a plot: its kind is unknown, or
 * there is no gnuplot. */
enum status plot_check(const char *path);

/* Draws the log at log_path; valid: what has a column there. */
enum status plot_draw(const char *path, const char *log_path,
                      const struct dataset *valid);

#endif
