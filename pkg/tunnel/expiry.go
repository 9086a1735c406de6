// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// expiryLook is how long a change of the clock, or a suspend, in which timers stand still, may hide that
// the token has ended.
const expiryLook = time.Minute

// expiryChanged: the gate has another token, or its end may have come. The gate counts in whole seconds of the
// wall clock, as they are signed into the token; so does this.
func (s *supervisor) expiryChanged() {
	ends := s.door.ends()
	s.expiry.Stop()
	ended := false
	if !ends.IsZero() {
		left := time.Until(time.Unix(ends.Unix(), 0))
		ended = left <= 0
		if ended || left > expiryLook {
			left = expiryLook
		}
		s.expiry.Reset(left)
	}
	before, was := s.ends, s.ended
	s.ends, s.ended = ends, ended
	if ended != was || !ends.Equal(before) {
		s.show()
	}
	switch {
	case ended && !was:
		s.door.cutOff()
		told := fault.Expired(ends)
		s.log.Warn(told.Error(), "hint", told.Hint)
	case was && !ended:
		s.log.Info("the link admits visitors again")
	}
}
