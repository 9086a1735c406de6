// SPDX-License-Identifier: Apache-2.0

//go:build unix

package fault

import (
	"strconv"
	"syscall"
)

// descriptors is how many this process may have, in words.
func descriptors() string {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return "unknown"
	}
	return strconv.FormatUint(uint64(limit.Cur), 10) // int64 on FreeBSD
}

// full is the error of taking a descriptor, nil if there is one.
func full() error {
	fd, err := syscall.Open("/", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return syscall.Close(fd)
}
