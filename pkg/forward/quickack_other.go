// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package forward

import "net"

// quick is for Linux, where notebooks run.
func quick(c net.Conn) net.Conn { return c }
