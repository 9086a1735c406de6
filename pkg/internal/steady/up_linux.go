// SPDX-License-Identifier: Apache-2.0

package steady

import (
	"time"

	"golang.org/x/sys/unix"
)

// up is for how long this machine has been up, with the time that it slept (CLOCK_BOOTTIME of clock_gettime(2)); 0: it does not tell.
func up() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
