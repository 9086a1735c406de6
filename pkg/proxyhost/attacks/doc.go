// SPDX-License-Identifier: Apache-2.0

// Package attacks is a test: it tries on a proxy, as proxyhost renders it, everything that docs/security.md says
// was tried, and writes that page.
package attacks
