// SPDX-License-Identifier: Apache-2.0

package probe

import "github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"

// Checked is what was seen of one step of the chain between the app and its visitors.
type Checked struct {
	// Step is "app", "link", "exposure" (of a plain proxy's port), "url" or "visitor"; package doctor has others.
	Step string `json:"step"`
	// OK: visitors get past it, and it is as safe as it should be.
	OK bool `json:"ok"`
	// Warn: OK, but somebody should look at it.
	Warn bool `json:"warn,omitempty"`
	// Skipped: it was not looked at, because of a step before it. It is not OK then.
	Skipped bool `json:"skipped,omitempty"`
	// Seen is what was seen, in a few words; Hint what to do, "" if nothing.
	Seen string     `json:"seen"`
	Hint fault.Hint `json:"hint"`
}
