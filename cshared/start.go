// SPDX-License-Identifier: Apache-2.0

package main

// void tt__own(int fd);
import "C"

import (
	"fmt"
	"runtime/debug"
	"syscall"
)

// own has a connection to a proxy closed in processes that are forked from this one.
func own(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) { C.tt__own(C.int(fd)) })
}

// start runs f in a goroutine that a panic does not take the process with. It is the one place
// of this package with a go statement.
func start(handle int64, f func()) {
	go func() {
		defer func() {
			if p := recover(); p != nil {
				events.defect(handle, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
			}
		}()
		f()
	}()
}
