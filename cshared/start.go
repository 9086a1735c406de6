// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"runtime/debug"
)

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
