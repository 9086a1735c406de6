// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"syscall"
)

var passing = []os.Signal{syscall.SIGHUP}

// foreground reports whether a terminal's Ctrl-C reaches what this process has started: all of a console have it.
func foreground() bool { return true }
