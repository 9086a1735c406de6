// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// limited returns err as what it is where this process, or its machine, has no file descriptors left; nil for
// any other. What was to be reached, or read, is not the cause. It comes first wherever an error of the
// system enters.
func limited(op string, err error) *Error {
	e := &Error{Op: op, Class: ErrLimit}
	switch {
	case errors.Is(err, syscall.EMFILE):
		e.Err = fmt.Errorf("this process has no file descriptors left (limit %s): %w", descriptors(), err)
		e.Hint = Hintf("close files and connections that are not needed (ls -l /proc/%d/fd shows them), or raise the limit: "+
			"resource.setrlimit(resource.RLIMIT_NOFILE, …) in Python, ulimit -n before it starts", os.Getpid())
	case errors.Is(err, syscall.ENFILE):
		e.Err = fmt.Errorf("this machine has no file descriptors left: %w", err)
		e.Hint = "end programs that hold many files open, or have its admin raise fs.file-max"
	default:
		return nil
	}
	return e
}
