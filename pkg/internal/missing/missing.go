// SPDX-License-Identifier: Apache-2.0

// Package missing is for tests of what a machine may not have.
//
//	sshd, err := exec.LookPath("sshd")
//	if err != nil {
//		missing.Skip(t, "no sshd is installed (Debian: openssh-server)")
//	}
package missing

import (
	"os"
	"testing"
)

// Skip skips a test that this machine lacks something for. It fails it where the environment says CI=true: there all is to be had,
// and a test that is skipped shows nothing.
func Skip(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}
