// SPDX-License-Identifier: Apache-2.0

package proxyhost

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

const (
	// DescriptionPath is where a tenant's login reads the description of its proxy.
	DescriptionPath = "/proxy.json"
	// DescriptionMost is how large it may be, in bytes.
	DescriptionMost = 256 << 10

	descriptionVersion = 1
	mostSlots          = 64
)

// Description is what a prepared proxy says of itself to one of its tenants. It is JSON; fields that
// are not known here are passed over, so that a newer proxy may say more.
type Description struct {
	// Version is 1; another one is not understood.
	Version int `json:"version"`
	// Tenant is the account.
	Tenant string `json:"tenant"`
	// Check is the one TCP address that the tenant may open, "127.0.0.1:port": it answers questions
	// at the apps' own addresses (/.well-known/taipy-tunnel) over plain HTTP.
	Check string `json:"check"`
	// CheckSlots: at the check port /.well-known/taipy-tunnel/slots/N below an app's address asks the
	// app's slot N alone (from 0, over a new connection), and nginx answers 502 if nothing listens there,
	// 504 if that says nothing for 10 s. Each answer of the port tells the proxy's time, in the header
	// X-Taipy-Tunnel-Time; that of /.well-known/taipy-tunnel/time tells nothing else. A machine that an
	// older version has prepared does not say so, and answers 404.
	CheckSlots bool `json:"check_slots,omitempty"`
	// EndsStale: a program of root's ends what sshd keeps of a link some 3 s after the first bytes that the silent
	// link did not acknowledge. At the check port /.well-known/taipy-tunnel/stale says what it does ("looks", else
	// why it does not), and by Last-Modified when it last did. False: sshd notices by itself, after 67 to 77 s.
	EndsStale bool `json:"ends_stale,omitempty"`
	// RepeatWithin is how many seconds after a request has come in nginx may send it to another link although it may not run
	// twice. A machine that says so tells in X-Taipy-Tunnel-Passed when it first passed each on. 0: an older version has
	// prepared it, and it may do so for 100 s.
	RepeatWithin int `json:"repeat_within,omitempty"`
	// Apps are those that were declared by the admin.
	Apps []App `json:"apps"`
	// SelfService, if the admin allows names that were not declared.
	SelfService *SelfService `json:"self_service,omitempty"`
}

// App is a name, and where it leads.
type App struct {
	Name string `json:"name"`
	// URL is what visitors open.
	URL string `json:"url"`
	// Slots are the paths of unix sockets, as the tenant sees them, to all of which nginx sends visitors.
	Slots []string `json:"slots"`
}

// SelfService says how a name of the tenant's choice becomes an App: {name} stands for it.
type SelfService struct {
	URL   string   `json:"url"`
	Slots []string `json:"slots"`
}

// NamePattern is that of names and tenants.
var NamePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)

// ParseDescription reads a description, which a server may have made up.
func ParseDescription(text []byte) (*Description, error) {
	var d Description
	if len(text) > DescriptionMost {
		return nil, errors.New("it is too large")
	}
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, errors.New("it is not the JSON of a description")
	}
	if d.Version != descriptionVersion {
		return nil, fmt.Errorf("it has version %d, and %d is understood", d.Version, descriptionVersion)
	}
	if d.Check != "" {
		if host, port, err := net.SplitHostPort(d.Check); err != nil || host != "127.0.0.1" || port == "" {
			return nil, fmt.Errorf("its check is not a port of 127.0.0.1")
		}
	}
	for _, app := range d.Apps {
		if err := app.check(); err != nil {
			return nil, err
		}
	}
	if d.SelfService != nil {
		if err := d.SelfService.app("name").check(); err != nil {
			return nil, err
		}
	}
	return &d, nil
}

func (a App) check() error {
	if !NamePattern.MatchString(a.Name) {
		return errors.New("an app has a name that is none")
	}
	u, err := url.Parse(a.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("the app %s has no http or https address", a.Name)
	}
	if len(a.Slots) == 0 || len(a.Slots) > mostSlots {
		return fmt.Errorf("the app %s has %d slots", a.Name, len(a.Slots))
	}
	for _, slot := range a.Slots {
		if !path.IsAbs(slot) || path.Clean(slot) != slot || len(slot) > 107 || strings.ContainsFunc(slot, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return fmt.Errorf("the app %s has a slot that is not the path of a socket", a.Name)
		}
	}
	return nil
}

func (s SelfService) app(name string) App {
	fill := func(text string) string { return strings.ReplaceAll(text, "{name}", name) }
	a := App{Name: name, URL: fill(s.URL)}
	for _, slot := range s.Slots {
		a.Slots = append(a.Slots, fill(slot))
	}
	return a
}

// Find returns the app of that name; with "" the only one. Otherwise the error says which there are.
func (d *Description) Find(name string) (App, error) {
	var names []string
	for _, app := range d.Apps {
		if app.Name == name || name == "" && len(d.Apps) == 1 {
			return app, nil
		}
		names = append(names, app.Name)
	}
	slices.Sort(names)
	switch {
	case name != "" && !NamePattern.MatchString(name):
		return App{}, fmt.Errorf("name %s is none: up to 40 letters (a-z), digits and dashes", fault.Quote(name))
	case name != "" && d.SelfService != nil:
		return d.SelfService.app(name), nil
	case name == "" && len(names) > 1:
		return App{}, fmt.Errorf("there are several names: %s", strings.Join(names, ", "))
	case name == "" && d.SelfService != nil:
		return App{}, errors.New("the proxy has names of your own choice, and none was given")
	case len(names) == 0:
		return App{}, errors.New("the admin has declared no app")
	}
	return App{}, fmt.Errorf("there is no app %s; there is %s", fault.Quote(name), strings.Join(names, ", "))
}
