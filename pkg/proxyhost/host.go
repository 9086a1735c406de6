// SPDX-License-Identifier: Apache-2.0

package proxyhost

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// Host is a proxy machine as its admin wants it. Its zero values are the defaults; tenants have none.
type Host struct {
	// Tenants are the accounts that notebooks log in to.
	Tenants []Tenant `json:"tenants"`
	// TLS is how visitors are spoken to. Zero: plain HTTP.
	TLS TLS `json:"tls,omitzero"`
	// Access is what nginx asks of visitors, before the tunnel does. Zero: nothing.
	Access Access `json:"access,omitzero"`
	// Status is the admin's page. Zero: there is none.
	Status Status `json:"status,omitzero"`
	// HTTP and HTTPS are the ports that visitors reach. 0: 80 and 443.
	HTTP  int `json:"http,omitempty"`
	HTTPS int `json:"https,omitempty"`

	// Layout is where the files go. Zero: where Debian has them.
	Layout Layout `json:"layout,omitzero"`
}

// Tenant is an account of one owner or team. It has no shell and can do nothing but serve its apps.
type Tenant struct {
	// Name is that of the account: up to 32 letters (a-z), digits and dashes, a letter first.
	Name string `json:"name"`
	// Keys are public keys that may log in, as lines of authorized_keys(5) without options.
	Keys []string `json:"keys,omitempty"`
	// UserCA are public keys whose certificates may log in, if one of Principals is in them.
	UserCA     []string `json:"user_ca,omitempty"`
	Principals []string `json:"principals,omitempty"`
	// Revoked are public keys that may not, by themselves or in a certificate.
	Revoked []string `json:"revoked,omitempty"`
	// Apps are the declared ones.
	Apps []Declared `json:"apps,omitempty"`
	// Host is under which apps without a host of their own are reached by path, a DNS name or an
	// address: "proxy.example.com" for http://proxy.example.com/sales/.
	Host string `json:"host,omitempty"`
	// SelfService is a domain, all of whose names lead here, in which names are free:
	// "apps.example.com" for http://NAME--TENANT.apps.example.com/. "": only declared apps.
	SelfService string `json:"self_service,omitempty"`
	// Check is the port of 127.0.0.1 that the tenant may ask. 0: one that follows from its name.
	Check int `json:"check,omitempty"`
	// Access is in the place of the host's. Nil: that one.
	Access *Access `json:"access,omitempty"`
}

// Declared is an app that the admin declares.
type Declared struct {
	// Name is what expose(name=…) says.
	Name string `json:"name"`
	// Host is the app's own DNS name. "": it is reached below the tenant's Host, at /NAME/.
	Host string `json:"host,omitempty"`
}

// TLS says where the certificate comes from.
type TLS struct {
	// Mode is "none", "self-signed" (for trials), "files" or "certbot". "": "none".
	Mode string `json:"mode,omitempty"`
	// Certificate (with its chain) and Key are the paths of "files", PEM.
	Certificate string `json:"certificate,omitempty"`
	Key         string `json:"key,omitempty"`
}

// Access is what nginx asks of visitors. All that is given must hold.
type Access struct {
	// BasicAuth is the path of an htpasswd file. Visitors' requests then reach the app without
	// the header Authorization, so programs cannot send the tunnel's token in it.
	BasicAuth string `json:"basic_auth,omitempty"`
	// Allow are the networks and addresses of visitors. This machine itself never counts among them:
	// tenants' questions come from it. Nil: all.
	Allow []string `json:"allow,omitempty"`
	// AuthRequest is the URL that says whether a visitor may (2xx) or not (401, 403), such as oauth2-proxy's
	// http://127.0.0.1:4180/oauth2/auth; SignIn is where those go who get a 401.
	AuthRequest string `json:"auth_request,omitempty"`
	SignIn      string `json:"sign_in,omitempty"`
	// Identity is the header of AuthRequest's answer that says who the visitor is; apps get it
	// as X-Forwarded-User. "": X-Auth-Request-User.
	Identity string `json:"identity,omitempty"`
}

// Status is the page that says which names are up and since when their slots are held.
type Status struct {
	// Port is where it is served. 0: nowhere.
	Port int `json:"port,omitempty"`
	// Allow and BasicAuth are as in Access; one of them has to be given.
	Allow     []string `json:"allow,omitempty"`
	BasicAuth string   `json:"basic_auth,omitempty"`
}

// Layout is where files go: on a machine that has them elsewhere, or beside its own, as tests have them.
type Layout struct {
	// Etc and Run hold what is ours. "": /etc/taipy-tunnel and /run/taipy-tunnel.
	Etc string `json:"etc,omitempty"`
	Run string `json:"run,omitempty"`
	// SSHD is the drop-in of sshd, Site that of nginx, in its http block.
	// "": /etc/ssh/sshd_config.d/60-taipy-tunnel.conf, /etc/nginx/sites-enabled/zz-taipy-tunnel.conf.
	SSHD string `json:"sshd,omitempty"`
	Site string `json:"site,omitempty"`
	// Tmpfiles and Limits are files of tmpfiles.d(5) and limits.d (pam_limits(8)).
	// "": /etc/tmpfiles.d/taipy-tunnel.conf, /etc/security/limits.d/60-taipy-tunnel.conf.
	Tmpfiles string `json:"tmpfiles,omitempty"`
	Limits   string `json:"limits,omitempty"`
	// Unit is a service of systemd(1), which ends what sshd keeps of links that have gone silent.
	// "": /etc/systemd/system/taipy-tunnel-stale.service.
	Unit string `json:"unit,omitempty"`
	// Log is the directory of nginx's logs. "": /var/log/nginx.
	Log string `json:"log,omitempty"`
	// Cache is the directory of what nginx keeps. "": /var/cache/taipy-tunnel.
	Cache string `json:"cache,omitempty"`
	// Loopback has nginx listen on 127.0.0.1 only.
	Loopback bool `json:"loopback,omitempty"`
}

// hostMost is how long the text of a Host may be, in bytes.
const hostMost = 4 << 20

// ParseHost reads a Host from JSON. Fields that are not known are an error, lest a misspelt
// restriction be none.
func ParseHost(text []byte) (*Host, error) {
	if len(text) > hostMost {
		return nil, fault.Config("", "the description of the proxy machine is longer than %d bytes", hostMost)
	}
	var h Host
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(&h)
	if err != nil {
		err = fault.JSON(err)
	} else if _, more := d.Token(); !errors.Is(more, io.EOF) {
		err = errors.New("something follows it")
	}
	if err != nil {
		return nil, fault.Config("compare with the example in docs/proxy.md", "the description of the proxy machine is not understood: %w", err)
	}
	return &h, nil
}
