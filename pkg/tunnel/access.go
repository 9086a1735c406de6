// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"encoding/json"
	"net/netip"
	"strings"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/gate"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// Access says whom a tunnel's gate admits. Its fields are those of gate.Access: Access{Public: true} admits
// everybody, Access{Passwords: map[string]string{"ann": "…"}} those who know a password of at least 8
// characters, and the zero value those who have the token. In JSON "token", "public", or an object of users
// and their passwords.
type Access gate.Access

// Request is a request that a tunnel's gate answered.
type Request = gate.Request

// MarshalJSON writes what UnmarshalJSON reads.
func (a Access) MarshalJSON() ([]byte, error) {
	if a.Passwords != nil {
		return json.Marshal(a.Passwords)
	}
	return json.Marshal(a.String())
}

// UnmarshalJSON accepts "token", "public" and {"user": "password"}.
func (a *Access) UnmarshalJSON(b []byte) error {
	var word string
	if json.Unmarshal(b, &word) != nil {
		return json.Unmarshal(b, &a.Passwords)
	}
	switch word {
	case "", "token":
		*a = Access{}
	case "public":
		*a = Access{Public: true}
	default:
		return fault.Config("", `access is none of "token", "public" and users with their passwords`)
	}
	return nil
}

// String is the kind of access, without its secrets.
func (a Access) String() string {
	switch {
	case a.Public:
		return "public"
	case a.Passwords != nil:
		return "password"
	}
	return "token"
}

// GoString is String, for %#v.
func (a Access) GoString() string { return a.String() }

const passwordLeast = 8 // characters

// checkAccess refuses what would leave the app open by mistake.
func (cfg *Config) checkAccess() error {
	switch {
	case cfg.Access.Public && cfg.Access.Passwords != nil:
		return fault.Config("choose one", "access is public and has passwords")
	case cfg.Access.Passwords != nil:
		if err := checkPasswords(cfg.Access.Passwords); err != nil {
			return err
		}
	}
	if _, err := cfg.allowed(); err != nil {
		return err
	}
	if cfg.Raw && !cfg.Access.Public {
		return fault.Config(`pass access="public" as well to open the port to everybody who can reach it, or leave raw= out`,
			"raw carries bytes of any kind, where nobody can be asked for a token or a password")
	}
	if cfg.Token != "" && cfg.Access.String() != "token" {
		return fault.Config("leave token= out, or access=", "a token is given, but access is %q", cfg.Access.String())
	}
	if cfg.TokenVersion == 0 {
		cfg.TokenVersion = 1
	}
	if cfg.TokenVersion < 1 {
		return fault.Config("count token_version= up from 1 to make earlier links invalid", "token_version %d is not a number from 1 on", cfg.TokenVersion)
	}
	if !cfg.Expires.IsZero() && !cfg.Expires.After(time.Now()) {
		return fault.Config("pass a moment to come, or the seconds until then", "expires is in the past: the link would admit nobody")
	}
	if cfg.Token != "" {
		if _, err := gate.GivenToken(cfg.Token, cfg.Expires); err != nil {
			return fault.Config(`leave token= out, or make one: python -c "import secrets; print(secrets.token_urlsafe(24))"`, "%w", err)
		}
	}
	return nil
}

// allowed reads Allow.
func (cfg *Config) allowed() (nets []netip.Prefix, err error) {
	for _, text := range cfg.Allow {
		if !strings.Contains(text, "/") {
			if addr, err := netip.ParseAddr(text); err == nil {
				nets = append(nets, netip.PrefixFrom(addr, addr.BitLen()))
				continue
			}
		}
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fault.Config(`write allow=["10.0.0.0/8"]`, "allow has %s, which is not a network", fault.Quote(text))
		}
		nets = append(nets, network.Masked())
	}
	return nets, nil
}

func checkPasswords(users map[string]string) error {
	if len(users) == 0 {
		return fault.Config(`pass access=("user", "password")`, "access names no user")
	}
	for user, password := range users {
		if user == "" || strings.ContainsAny(user, ":\r\n\x00") {
			return fault.Config(`pass access=("user", "password")`, "access has a user name that is empty or holds a colon")
		}
		if len([]rune(password)) < passwordLeast {
			return fault.Config("take a longer one: anybody on the network may try", "access has a password of less than %d characters", passwordLeast)
		}
	}
	return nil
}
