// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package relay

import "syscall"

func small(string, string, syscall.RawConn) error { return nil }
