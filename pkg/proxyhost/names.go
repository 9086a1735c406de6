// SPDX-License-Identifier: Apache-2.0

package proxyhost

// Names are what expose(name=…) is to say for each declared app, in their order: "" for the only one, which
// needs no name.
func (t Tenant) Names() []string {
	if len(t.Apps) == 1 {
		return []string{""}
	}
	names := []string{}
	for _, app := range t.Apps {
		names = append(names, app.Name)
	}
	return names
}
