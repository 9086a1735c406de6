// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"syscall"
)

var passing = []os.Signal{syscall.SIGHUP}
