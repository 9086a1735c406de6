// SPDX-License-Identifier: Apache-2.0

// Package rules holds the repository to what CONTRIBUTING.md says of it: its tests read the
// sources. It has no code of its own.
package rules
