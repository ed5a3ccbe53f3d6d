# context.awk -- draws what a million bytes of context cost and give, as SVG: a
# panel for each kind of line, as examples/long-context.sh writes them.
#
#     key    DISTANCE RIGHT    of ten keys, so many bytes back
#     place  END BITS          a byte, from half of END up to END
#     size   BYTES SECONDS MEMORY    a file, the memory in KiB
#     gpu    BYTES SECONDS           a file on a GPU, in the panel of size
#
# All axes but that of bits are logarithmic.
#
#     awk -f doc/panel.awk -f doc/context.awk context.tsv >context.svg
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

$1 in title || $1 == "gpu" {
	n = ++n_points[$1]
	x[$1, n] = log($2) / log(2)
	y[$1, n] = $1 == "size" || $1 == "gpu" ? log($3) : $3
	if ($1 == "size")
		memory[n] = log($4 / 1024 / 1024)
	panel_of = $1 == "gpu" ? "size" : $1
	if (!(panel_of in first))
		first[panel_of] = x[$1, n]
	if (x[$1, n] > last[panel_of])
		last[panel_of] = x[$1, n]
}

function length_of(array,    key, n)
{
	for (key in array)
		n++
	return n
}

function place_x(panel, kind, value)
{
	return panel_x(panel, (value - first[kind]) / (last[kind] - first[kind]))
}

function place_y(kind, value)
{
	return panel_y((most[kind] - value) / (most[kind] - least[kind]))
}

function size_name(power)
{
	return 2 ^ (power % 10) substr(" KMG", int(power / 10) + 1, 1)
}

function draw_axes(panel, kind,    value)
{
	if (kind == "size")
		for (value = 0.01; value < 150; value *= 10)
			rule(panel, place_y(kind, log(value)), value)
	else
		for (value = 0; value <= most[kind]; value += kind == "key" ? 5 : 1)
			rule(panel, place_y(kind, value), value)
	for (value = first[kind]; value <= last[kind]; value++)
		if (value % 5 == 0 || value == last[kind] && value % 5 > 1)
			mark(place_x(panel, kind, value), size_name(value))
	name_panel(panel, label[kind], title[kind])
}

# The points of a series, in the panel of a kind.
function draw_line(panel, kind, series, what, color,    i, value)
{
	start_line(color)
	for (i = 1; i <= n_points[series]; i++) {
		value = what == "memory" ? memory[i] : y[series, i]
		line_to(place_x(panel, kind, x[series, i]), place_y(kind, value))
	}
	end_line()
}

# What a line of the panel of size is, above its end.
function name_line(panel, series, value, text,    n)
{
	n = n_points[series]
	text_at(place_x(panel, "size", x[series, n]), place_y("size", value) - 6,
		"end", text)
}

END {
	start_picture(length_of(first), "A million bytes of context")
	for (i = 1; i <= 3; i++) {
		kind = kinds[i]
		if (!(kind in first))
			continue
		panel++
		draw_axes(panel, kind)
		draw_line(panel, kind, kind, "", "#1f6fb4")
		if (kind == "size") {
			draw_line(panel, kind, "size", "memory", "#c2571a")
			name_line(panel, "size", memory[n_points["size"]], "memory")
		}
		if (kind == "size" && "gpu" in n_points) {
			draw_line(panel, kind, "gpu", "", "#3a8f3a")
			name_line(panel, "gpu", y["gpu", n_points["gpu"]], "H200")
			name_line(panel, "size", y["size", n_points["size"]], "a core")
		}
	}
	end_picture()
}
