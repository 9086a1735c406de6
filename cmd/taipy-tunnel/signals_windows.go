// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"syscall"
)

// passing are signals that pass to a program which is run, with those that give the command up; stays are those that do nothing then.
var (
	passing = []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP}
	stays   = []os.Signal{syscall.SIGPIPE}
)

// foreground reports whether a terminal's Ctrl-C reaches what this process has started: all of a console have it.
func foreground() bool { return true }
