// SPDX-License-Identifier: Apache-2.0

// Package roottest is a test: the script that makes a prepared proxy runs in fresh Debian roots, and
// tunnels go through what it made. ./build.sh roots makes the roots and calls it,
// with the build tag "roots": without it there is nothing to skip.
package roottest
