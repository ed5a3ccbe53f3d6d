# curve.awk -- draws training curves as SVG: a panel for each file, bits per
# byte over the megabytes that were seen.
#
# Files are weights/*.curve.tsv, with columns named in their first line.
# Where there is a column "run", each run is a line of its own, which begins
# where the one before it ended.
#
# SPDX-License-Identifier: MIT
BEGIN {
	FS = "\t"
	panel_width = 380
	panel_height = 260
	left = 48       # of a panel, for the numbers of its axis
	top = 40
	bottom = 44
	n_colors = split("#1f6fb4 #c2571a #2e8b57 #8254a8 #b03a5b", run_color, " ")
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
	return (file - 1) * panel_width + left + \
		value / x_most[file] * (panel_width - left - 16)
}

function place_y(file, value)
{
	return top + (high[file] - value) / (high[file] - low[file]) * \
		(panel_height - top - bottom)
}

function text_at(x, y, anchor, text)
{
	printf "<text x='%.0f' y='%.0f' text-anchor='%s'>%s</text>\n",
		x, y, anchor, text
}

function draw_axes(file,    tick, value, right, middle)
{
	right = place_x(file, x_most[file])
	middle = (place_x(file, 0) + right) / 2
	tick = tick_of(y_most[file] - y_least[file])
	low[file] = tick * int(y_least[file] / tick)
	high[file] = tick * (int(y_most[file] / tick) + 1)
	for (value = low[file]; value < high[file] + tick / 2; value += tick) {
		printf "<path d='M%.0f %.1fH%.0f' stroke='#d8d8d8'/>\n",
			place_x(file, 0), place_y(file, value), right
		text_at(place_x(file, 0) - 6, place_y(file, value) + 4, "end",
			sprintf(tick < 1 ? "%.1f" : "%d", value))
	}
	tick = tick_of(x_most[file])
	for (value = 0; value <= x_most[file]; value += tick)
		text_at(place_x(file, value), panel_height - bottom + 18,
			"middle", value)
	text_at(middle, panel_height - 8, "middle", "MB seen")
	text_at(middle, 18, "middle", title[file] ", bits per byte of training")
}

function draw_run(run,    file, i, color)
{
	file = file_of[run]
	color = run_color[(run - first[file]) % n_colors + 1]
	printf "<path fill='none' stroke-width='1.5' stroke='%s' d='", color
	for (i = 1; i <= n_points[run]; i++)
		printf "%s%.1f %.1f", i == 1 ? "M" : "L",
			place_x(file, x[run, i]), place_y(file, y[run, i])
	print "'/>"
}

END {
	printf "<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%d' " \
		"font-family='DejaVu Sans, Helvetica, sans-serif' " \
		"font-size='12' fill='#303030'>\n",
		n_files * panel_width, panel_height
	print "<title>Training curves of the models that ship</title>"
	print "<rect width='100%' height='100%' fill='#ffffff'/>"
	for (i = 1; i <= n_files; i++)
		draw_axes(i)
	for (i = 1; i <= n_runs; i++)
		draw_run(i)
	print "</svg>"
}
