// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"strconv"
	"strings"
)

// ExposedHeader carries in a question which tunnel asks ([Exposed.String]), and in the answer of
// another tunnel what that one is: [SaysNewer], [SaysOlder] or [SaysUnknown].
const ExposedHeader = "X-Taipy-Tunnel-Exposed"

// What a tunnel says of itself in the answer to another tunnel's question.
const (
	SaysNewer   = "newer"
	SaysOlder   = "older"
	SaysUnknown = "unknown" // one of the two does not know its time yet
)

// OpeningHeader is in the answer of another tunnel that is being opened, and may fail.
const OpeningHeader = "X-Taipy-Tunnel-Opening"

// idMost is the length of the longest ID that is understood. crypto/rand.Text gives 26 letters.
const idMost = 64

// Exposed orders the tunnels of one address: the newest one has the visitors. All tunnels take the
// time from the same clock, the proxy's, so their own clocks need not agree and may stand still: a
// laptop's monotonic clock does while it is suspended.
type Exposed struct {
	// At is when the tunnel was exposed, in milliseconds since 1970 by the proxy's clock. 0: the
	// tunnel does not know it yet.
	At int64
	// ID decides between equal times: letters and digits, random for each tunnel.
	ID string
}

// Newer reports whether e was exposed after o. Of two different tunnels exactly one is the newer.
func (e Exposed) Newer(o Exposed) bool {
	return e.At > o.At || e.At == o.At && e.ID > o.ID
}

// String is the value of ExposedHeader in a question.
func (e Exposed) String() string { return strconv.FormatInt(e.At, 10) + " " + e.ID }

// ParseExposed reads what String writes. Anybody may have sent the text; ok is false if it is
// something else.
func ParseExposed(text string) (e Exposed, ok bool) {
	at, id, _ := strings.Cut(text, " ")
	n, err := strconv.ParseUint(at, 10, 63) // no sign
	if err != nil || id == "" || len(id) > idMost || strings.ContainsFunc(id, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) {
		return Exposed{}, false
	}
	return Exposed{At: int64(n), ID: id}, true
}

// Says is how e answers a question with the given ExposedHeader: SaysNewer, SaysOlder, SaysUnknown, or "" if
// the text is not another tunnel's.
func (e Exposed) Says(asker string) string {
	o, ok := ParseExposed(asker)
	switch {
	case !ok || o == e:
		return ""
	case e.At == 0 || o.At == 0:
		return SaysUnknown
	case e.Newer(o):
		return SaysNewer
	}
	return SaysOlder
}
