# color.awk -- draws a terminal: text with the escape sequences of
# mambyte --color becomes SVG, with a scale of the colours below it.
#
# Of the escape sequences only ESC [ 38;5;N m and ESC [ 0 m are known.
#
# SPDX-License-Identifier: MIT
BEGIN {
	width = 9       # of a character, in pixels
	height = 20     # of a line
	margin = 16
	font = "font-family='DejaVu Sans Mono, Menlo, Consolas, monospace'"
	color = own = "#d0d0d0"
	put("$ mambyte --color notes.txt", own)
	end_line()
}

# Red, green or blue of the cube of 6 * 6 * 6 colours.
function of_cube(i)
{
	return i == 0 ? 0 : 55 + 40 * i
}

# What a terminal shows for color n, 16 to 255.
function rgb(n,    grey)
{
	if (n >= 232) {
		grey = 8 + 10 * (n - 232)
		return sprintf("#%02x%02x%02x", grey, grey, grey)
	}
	n -= 16
	return sprintf("#%02x%02x%02x", of_cube(int(n / 36)),
		of_cube(int(n / 6) % 6), of_cube(n % 6))
}

# Adds text at the end of the line.  Each word has its own place, so that
# columns are right whatever the font.
function put(text, fill,    word)
{
	while (match(text, /[^ ]+/)) {
		column += RSTART - 1
		word = substr(text, RSTART, RLENGTH)
		text = substr(text, RSTART + RLENGTH)
		gsub(/&/, "\\&amp;", word)
		gsub(/</, "\\&lt;", word)
		spans = spans sprintf("<tspan x='%d' fill='%s'>%s</tspan>",
			margin + width * column, fill, word)
		column += RLENGTH
	}
	column += length(text)
	if (column > columns)
		columns = column
}

function end_line()
{
	lines[++n_lines] = spans
	spans = ""
	column = 0
}

{
	n = split($0, part, "\033")
	put(part[1], color)
	for (i = 2; i <= n; i++) {
		code = part[i]
		sub(/m.*/, "", code)
		sub(/^[^m]*m/, "", part[i])
		color = code == "[0" ? own : rgb(substr(code, 7) + 0)
		put(part[i], color)
	}
	if ($0 != "\033[0m")
		end_line()
}

# The scale, as in src/cmd/task_color.c.
function put_scale(    n, i, fill, name)
{
	n = split("245 67 72 71 106 178 172 202 196", fill)
	split("0 0.5 1 2 3 4 6 8 12", name)
	end_line()
	put("bits from ", own)
	for (i = 1; i <= n; i++)
		put(name[i] "  ", rgb(fill[i]))
	end_line()
}

END {
	put_scale()
	total = 2 * margin + height * n_lines
	printf "<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%d'>\n",
		2 * margin + width * columns, total
	print "<title>mambyte --color on a terminal: surprising bytes stand " \
		"out</title>"
	print "<rect width='100%' height='100%' rx='8' fill='#1c1c1c'/>"
	for (i = 1; i <= n_lines; i++)
		printf "<text y='%d' font-size='15' %s>%s</text>\n",
			margin + height * i - 6, font, lines[i]
	print "</svg>"
}
