# panel.awk -- what context.awk and curve.awk share: panels beside each other,
# each with axes and lines, as SVG.
#
# The caller sets panel_width, panel_height, left, top and bottom: the size of a
# panel in pixels, and its margins, which the numbers of the axes need.
#
# SPDX-License-Identifier: MIT

# Where a value lies in a panel, counted from 1.  share: of the way from the left
# margin to the right one, or from the top down.
function panel_x(panel, share)
{
	return (panel - 1) * panel_width + left + \
		share * (panel_width - left - 16)
}

function panel_y(share)
{
	return top + share * (panel_height - top - bottom)
}

function text_at(x, y, anchor, text)
{
	printf "<text x='%.0f' y='%.0f' text-anchor='%s'>%s</text>\n",
		x, y, anchor, text
}

# A line of the grid, and its value in front of it.
function rule(panel, y, value)
{
	printf "<path d='M%.0f %.1fH%.0f' stroke='#d8d8d8'/>\n",
		panel_x(panel, 0), y, panel_x(panel, 1)
	text_at(panel_x(panel, 0) - 6, y + 4, "end", value)
}

# A value of the axis below.
function mark(x, value)
{
	text_at(x, panel_height - bottom + 18, "middle", value)
}

# What the axis below counts, and what the panel shows.
function name_panel(panel, label, title,    middle)
{
	middle = (panel_x(panel, 0) + panel_x(panel, 1)) / 2
	text_at(middle, panel_height - 6, "middle", label)
	text_at(middle, 18, "middle", title)
}

# A line through n points: start_line, n times line_to, end_line.
function start_line(color)
{
	printf "<path fill='none' stroke-width='1.5' stroke='%s' d='", color
	is_started = 0
}

function line_to(x, y)
{
	printf "%s%.1f %.1f", is_started ? "L" : "M", x, y
	is_started = 1
}

function end_line()
{
	print "'/>"
}

function start_picture(n_panels, title)
{
	printf "<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%d' " \
		"font-family='DejaVu Sans, Helvetica, sans-serif' " \
		"font-size='12' fill='#303030'>\n",
		n_panels * panel_width, panel_height
	print "<title>" title "</title>"
	print "<rect width='100%' height='100%' fill='#ffffff'/>"
}

function end_picture()
{
	print "</svg>"
}
