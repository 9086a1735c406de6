// SPDX-License-Identifier: Apache-2.0

package proxyhost

import "github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"

// CheckName refuses what no app can be called; "" is the only one of its account.
func CheckName(name string) error {
	if name != "" && !NamePattern.MatchString(name) {
		return fault.Config("take up to 40 letters (a-z), digits and dashes, such as sales-2", "name %s is none", fault.Quote(name))
	}
	return nil
}

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

// URLs are what visitors open of the apps that are declared, by their tenants.
func (h Host) URLs() (map[string][]string, error) {
	urls := map[string][]string{}
	for _, t := range h.Tenants {
		for _, app := range t.Apps {
			url, err := h.URL(t.Name, app.Name)
			if err != nil {
				return nil, err
			}
			urls[t.Name] = append(urls[t.Name], url)
		}
	}
	return urls, nil
}

// URL is what visitors open of a tenant's app; with "" of its only one.
func (h Host) URL(tenant, app string) (string, error) {
	p, err := prepare(h)
	if err != nil {
		return "", err
	}
	for _, t := range p.Tenants {
		if t.Name != tenant {
			continue
		}
		d, err := ParseDescription([]byte(p.description(t)))
		if err != nil {
			return "", fault.Internal(err)
		}
		found, err := d.Find(app)
		return found.URL, err
	}
	return "", fault.Config("", "there is no tenant %s", fault.Quote(tenant))
}
