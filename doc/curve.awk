# curve.awk -- draws training curves as SVG: a panel for each file, bits per
# byte over the megabytes that were seen.
#
# Files are weights/*.curve.tsv, with columns named in their first line.
# Where there is a column "run", each run is a line of its own, which begins
# where the one before it ended.
#
#     awk -f doc/panel.awk -f doc/curve.awk weights/*.curve.tsv >curve.svg
#
# SPDX-License-Identifier: MIT
BEGIN {
	FS = "\t"
	panel_width = 380
	panel_height = 260
	left = 48       # of a panel, for the numbers of its axis
	top = 40
	bottom = 44
	n_colors = split("#1f6fb4 #c2571a #2e8b57 #8254a8 #b03a5b #5f6b73", run_color, " ")
}

FNR == 1 {
	n_files++
	title[n_files] = FILENAME
	sub(/.*\//, "", title[n_files])
	sub(/\.curve.*/, "", title[n_files])
	split("", field)
	for (i = 1; i <= NF; i++)
		field[$i] = i
	seen_before = last_seen = 0
	run = first_run = n_runs + 1
	name = ""
	next
}

{
	if ("run" in field && $field["run"] != name) {
		if (name != "")
			run++
		name = $field["run"]
		seen_before = last_seen
	}
	n_runs = run
	file_of[run] = n_files
	first[n_files] = first_run
	last_seen = seen_before + $field["MB_seen"]
	n = ++n_points[run]
	x[run, n] = last_seen
	y[run, n] = $field["train_bits_per_byte"]
	if (last_seen > x_most[n_files])
		x_most[n_files] = last_seen
	if (y[run, n] > y_most[n_files])
		y_most[n_files] = y[run, n]
	if (!(n_files in y_least) || y[run, n] < y_least[n_files])
		y_least[n_files] = y[run, n]
}

# A round number that cuts range into 4 to 8 parts or so.
function tick_of(range,    unit)
{
	unit = 1
	while (unit * 10 > range)
		unit /= 10
	while (unit * 100 <= range)
		unit *= 10
	if (range / unit < 15)
		return range / unit < 25 / 10 ? unit / 2 : unit * 2
	return range / unit < 40 ? unit * 5 : unit * 10
}

function place_x(file, value)
{
	return panel_x(file, value / x_most[file])
}

function place_y(file, value)
{
	return panel_y((high[file] - value) / (high[file] - low[file]))
}

function draw_axes(file,    tick, value)
{
	tick = tick_of(y_most[file] - y_least[file])
	low[file] = tick * int(y_least[file] / tick)
	high[file] = tick * (int(y_most[file] / tick) + 1)
	for (value = low[file]; value < high[file] + tick / 2; value += tick)
		rule(file, place_y(file, value),
			sprintf(tick < 1 ? "%.1f" : "%d", value))
	tick = tick_of(x_most[file])
	for (value = 0; value <= x_most[file]; value += tick)
		mark(place_x(file, value), value)
	name_panel(file, "MB seen", title[file] ", bits per byte of training")
}

function draw_run(run,    file, i)
{
	file = file_of[run]
	start_line(run_color[(run - first[file]) % n_colors + 1])
	for (i = 1; i <= n_points[run]; i++)
		line_to(place_x(file, x[run, i]), place_y(file, y[run, i]))
	end_line()
}

END {
	start_picture(n_files, "Training curves of the models that ship")
	for (i = 1; i <= n_files; i++)
		draw_axes(i)
	for (i = 1; i <= n_runs; i++)
		draw_run(i)
	end_picture()
}
