# context.awk -- draws what a million bytes of context cost and give, as SVG: a
# panel for each kind of line, as examples/long-context.sh writes them.
#
#     key    DISTANCE RIGHT    of ten keys, so many bytes back
#     place  END BITS          a byte, from half of END up to END
#     size   BYTES SECONDS MEMORY    a file, the memory in KiB
#
# All axes but that of bits are logarithmic.
#
# SPDX-License-Identifier: MIT
BEGIN {
	FS = "\t"
	panel_width = 250
	panel_height = 220
	left = 44       # of a panel, for the numbers of its axis
	top = 40
	bottom = 40
	split("key place size", kinds, " ")
	title["key"] = "keys found, of 10"
	title["place"] = "bits a byte, by place"
	title["size"] = "seconds, GiB"
	label["key"] = "bytes back"
	label["place"] = "bytes before"
	label["size"] = "bytes read"
	least["key"] = 0
	most["key"] = 10
	least["place"] = 0
	most["place"] = 3
	least["size"] = log(0.01)
	most["size"] = log(100)
}

$1 in title {
	n = ++n_points[$1]
	x[$1, n] = log($2) / log(2)
	y[$1, n] = $1 == "size" ? log($3) : $3
	if ($1 == "size")
		memory[n] = log($4 / 1024 / 1024)
	if (n == 1)
		first[$1] = x[$1, n]
	last[$1] = x[$1, n]
}

function length_of(array,    key, n)
{
	for (key in array)
		n++
	return n
}

function place_x(panel, kind, value)
{
	return (panel - 1) * panel_width + left + (value - first[kind]) / \
		(last[kind] - first[kind]) * (panel_width - left - 16)
}

function place_y(kind, value)
{
	return top + (most[kind] - value) / (most[kind] - least[kind]) * \
		(panel_height - top - bottom)
}

function text_at(x, y, anchor, text)
{
	printf "<text x='%.0f' y='%.0f' text-anchor='%s'>%s</text>\n",
		x, y, anchor, text
}

function size_name(power)
{
	return 2 ^ (power % 10) substr(" KMG", int(power / 10) + 1, 1)
}

function rule(panel, kind, value, text)
{
	printf "<path d='M%.0f %.1fH%.0f' stroke='#d8d8d8'/>\n",
		place_x(panel, kind, first[kind]), place_y(kind, value),
		place_x(panel, kind, last[kind])
	text_at(place_x(panel, kind, first[kind]) - 6, place_y(kind, value) + 4,
		"end", text)
}

function draw_axes(panel, kind,    value, middle)
{
	middle = (place_x(panel, kind, first[kind]) + \
		place_x(panel, kind, last[kind])) / 2
	if (kind == "size")
		for (value = 0.01; value < 150; value *= 10)
			rule(panel, kind, log(value), value)
	else
		for (value = 0; value <= most[kind]; value += kind == "key" ? 5 : 1)
			rule(panel, kind, value, value)
	for (value = first[kind]; value <= last[kind]; value++)
		if (value % 5 == 0 || value == last[kind] && value % 5 > 1)
			text_at(place_x(panel, kind, value),
				panel_height - bottom + 18, "middle",
				size_name(value))
	text_at(middle, panel_height - 6, "middle", label[kind])
	text_at(middle, 18, "middle", title[kind])
}

function draw_line(panel, kind, what, color,    i, value)
{
	printf "<path fill='none' stroke-width='1.5' stroke='%s' d='", color
	for (i = 1; i <= n_points[kind]; i++) {
		value = what == "memory" ? memory[i] : y[kind, i]
		printf "%s%.1f %.1f", i == 1 ? "M" : "L",
			place_x(panel, kind, x[kind, i]), place_y(kind, value)
	}
	print "'/>"
}

END {
	printf "<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%d' " \
		"font-family='DejaVu Sans, Helvetica, sans-serif' " \
		"font-size='12' fill='#303030'>\n", length_of(first) * panel_width,
		panel_height
	print "<title>A million bytes of context</title>"
	print "<rect width='100%' height='100%' fill='#ffffff'/>"
	for (i = 1; i <= 3; i++) {
		kind = kinds[i]
		if (!(kind in first))
			continue
		panel++
		draw_axes(panel, kind)
		draw_line(panel, kind, "", "#1f6fb4")
		if (kind == "size") {
			draw_line(panel, kind, "memory", "#c2571a")
			text_at(place_x(panel, kind, last[kind]),
				place_y(kind, memory[n_points[kind]]) - 6,
				"end", "memory")
		}
	}
	print "</svg>"
}
