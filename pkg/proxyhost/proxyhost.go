// SPDX-License-Identifier: Apache-2.0

// Package proxyhost knows the prepared proxy machine: what it says of itself to its tenants.
package proxyhost
