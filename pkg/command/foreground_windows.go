// SPDX-License-Identifier: Apache-2.0

package command

// foreground reports whether a terminal's Ctrl-C reaches this process, and so what it has started: all of a console have it.
func foreground() bool { return true }
