// SPDX-License-Identifier: Apache-2.0

// Package proxyhost knows the prepared proxy machine: what it says of itself to its tenants
// (Description), and how one is made (Host).
//
//	h, err := proxyhost.ParseHost(text)
//	files, err := proxyhost.Render(*h)
//
// It renders text and runs nothing. What a Host says is checked before a template sees it: nothing in
// it means anything to the programs that read the files.
package proxyhost
