// SPDX-License-Identifier: Apache-2.0

package faulttest

import (
	"fmt"
	"html"
	"math"
	"strings"
)

const (
	width  = 900
	margin = 320 // left of the axis, for names
	font   = `font-family="system-ui, sans-serif" font-size="12"`
)

func svg(height int, body string) string {
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" %s><rect width="%[1]d" height="%[2]d" fill="#fff"/>%[4]s</svg>`+"\n", width, height, font, body)
}

func text(x, y float64, anchor, colour, s string) string {
	return fmt.Sprintf(`<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`+"\n", x, y, anchor, colour, html.EscapeString(s))
}

// legend has the systems side by side.
func legend(b *strings.Builder, y float64) {
	for i, s := range Systems {
		x := float64(margin + i*145)
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="5" fill="%s"/>`, x, y-4, s.Colour)
		b.WriteString(text(x+10, y, "start", "#222", s.Name))
	}
}

// onAxis is where a recovery stands: the axis is logarithmic, from 0.1 s and less to 100 s; never is beyond.
func onAxis(s float64) float64 {
	const span = width - margin - 80
	if s == never {
		return width - 40
	}
	return margin + span*(math.Log10(min(100, max(0.1, s)))+1)/3
}

// Recovery is an SVG: of each row and system the median, as a dot, and the extremes.
func Recovery(rows []Row, results []Result) string {
	const line, top = 14, 50
	var b, grid strings.Builder
	legend(&grid, 20)
	y := float64(top)
	for _, row := range rows {
		begin := y
		for _, s := range Systems {
			reps, _ := of(results, row.Name, s.ID)
			if len(reps) == 0 {
				continue
			}
			all := recoveries(reps)
			low, mid, high := onAxis(all[0]), onAxis(quantile(all, 0.5)), onAxis(all[len(all)-1])
			fmt.Fprintf(&b, `<line x1="%.1f" x2="%.1f" y1="%[3]g" y2="%[3]g" stroke="%s" stroke-width="2"/>`, low, high, y, s.Colour)
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%g" r="5" fill="%s"/>`, mid, y, s.Colour)
			y += line
		}
		if y > begin {
			b.WriteString(text(margin-12, (begin+y-line)/2+4, "end", "#222", row.Name))
			y += line
		}
	}
	for _, at := range []float64{0.1, 1, 10, 100, never} {
		label := map[float64]string{0.1: "≤ 0.1 s", 1: "1 s", 10: "10 s", 100: "100 s", never: "never"}[at]
		fmt.Fprintf(&grid, `<line x1="%.1f" x2="%[1]g" y1="%d" y2="%g" stroke="#ddd"/>`, onAxis(at), top-14, y-line)
		grid.WriteString(text(onAxis(at), top-18, "middle", "#666", label))
	}
	return svg(int(y), grid.String()+b.String())
}

// Outage is an SVG of one repetition with each system, as visitors see it: how many of those who come at a moment
// are served, late, or not at all.
func Outage(row string, results []Result) string {
	const lane, high, top = 70, 50, 30
	var b strings.Builder
	longest := 0
	for _, s := range Systems {
		if reps, _ := of(results, row, s.ID); len(reps) > 0 {
			longest = max(longest, len(reps[0].Timeline)-reps[0].BeforeFault)
		}
	}
	back := int(3 / Cell.Seconds())
	x := func(cell int) float64 {
		return margin + float64(cell+back)*(width-margin-20)/float64(max(1, longest+back))
	}
	b.WriteString(text(10, 18, "start", "#222", row+": of the visitors of each quarter of a second, those served (green), late (yellow), failed (red)"))
	for i, s := range Systems {
		bottom := float64(top + i*lane + high)
		b.WriteString(text(margin-12, bottom-high/2, "end", "#222", s.Name))
		reps, _ := of(results, row, s.ID)
		if len(reps) == 0 {
			continue
		}
		for n, c := range reps[0].Timeline {
			at, foot := n-reps[0].BeforeFault, bottom
			for k, colour := range []string{"#2da44e", "#d4a72c", "#cf222e"} {
				h := float64(c[k]) * high / math.Max(1, float64(c[0]+c[1]+c[2]))
				if h > 0 && at >= -back {
					fmt.Fprintf(&b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`, x(at), foot-h, x(at+1)-x(at), h, colour)
				}
				foot -= h
			}
		}
	}
	bottom := float64(top + len(Systems)*lane)
	for at := 0; at <= longest; at += int(10 / Cell.Seconds()) {
		b.WriteString(text(x(at), bottom, "middle", "#666", fmt.Sprintf("%d s", int(float64(at)*Cell.Seconds()))))
	}
	return svg(int(bottom)+12, b.String())
}
