// SPDX-License-Identifier: Apache-2.0

package command

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// settings are the arguments of Python's expose(), as options of a command, or as the variables that expose() reads, too.
type settings struct {
	command *cobra.Command
	getenv  func(string) string
}

// inVariables marks, among a command's annotations, that a setting without an option is a variable.
const inVariables = "variables"

func (s settings) options() {
	f := s.command.Flags()
	s.command.Annotations[inVariables] = "yes"
	for name, usage := range map[string]string{
		"server":        "the proxy, `USER@HOST[:PORT]`, or an alias of ~/.ssh/config",
		"name":          "the app's public `NAME` on a prepared proxy; default: the account's only one",
		"connections":   "how `MANY` links to hold; default: 2",
		"key":           "a private key to log in with, a `FILE`; default: the ssh-agent's, then ~/.ssh/id_*",
		"host-key":      "the proxy's host `KEY`, \"SHA256:…\", a known_hosts line or file; default: the known_hosts files",
		"remote":        "`PORT` to take on a plain proxy, or the path of a unix socket there; default: 8080",
		"url":           "the `URL` that visitors open; default: what a prepared proxy says, else http://HOST/",
		"check":         "`WHO` tests that the URL leads here: url, link or off; default: this machine, else the proxy",
		"access":        "`WHO` is admitted: token, those who have the link, or public, everybody; default: token",
		"token-version": "count this `NUMBER` up, and earlier links admit nobody; default: 1",
		"expires":       "when the link ends: after a `TIME` such as 90m or 8h, or at one such as 2026-12-31T18:00:00Z; default: never",
		"allow":         "`NETWORKS` of visitors, separated by commas, on a prepared proxy; default: all",
		"via":           "the `URL` of an egress proxy; default: HTTPS_PROXY, ALL_PROXY; none: no proxy",
		"jump":          "machines on the way, `USER@BASTION`; default: ProxyJump of ~/.ssh/config; none: no machine",
		"timeout":       "`TIME` after which a set-up that does not succeed is given up; default: 30s",
	} {
		f.String(name, "", usage)
	}
	f.Bool("raw", false, "carry bytes of any kind instead of HTTP; only with --access public")
}

// Variables is how the names of all settings begin in the environment.
const Variables = "TAIPY_TUNNEL_"

// variable is the name of a setting in the environment.
func variable(name string) string { return Variables + strings.ToUpper(name) }

// text is a setting, "" if it is neither an option nor a variable.
func (s settings) text(name string) string {
	if f := s.command.Flags().Lookup(strings.ReplaceAll(name, "_", "-")); f != nil && f.Changed {
		return f.Value.String()
	}
	return s.getenv(variable(name))
}

func (s settings) number(name string) (int, error) {
	text := s.text(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		return 0, fault.Config("", "%s is %s, want a whole number", name, fault.Quote(text))
	}
	return n, nil
}

// config is what the settings say, for an app at target, "" where it is not known yet.
func (s settings) config(target string) (cfg tunnel.Config, timeout time.Duration, err error) {
	cfg = tunnel.Config{Server: tunnel.Servers{s.text("server")}, Name: s.text("name"), Key: s.text("key"), KeyPassphrase: s.text("key_passphrase"),
		HostKey: s.text("host_key"), URL: s.text("url"), Check: tunnel.Check(s.text("check")), Token: s.text("token"), Via: s.text("via"), Jump: s.text("jump")}
	if cfg.Connections, err = s.number("connections"); err != nil {
		return cfg, 0, err
	}
	if cfg.TokenVersion, err = s.number("token_version"); err != nil {
		return cfg, 0, err
	}
	if remote := s.text("remote"); strings.HasPrefix(remote, "/") {
		cfg.RemoteSocket = remote
	} else if cfg.Remote, err = s.number("remote"); err != nil {
		return cfg, 0, err
	}
	if raw := s.text("raw"); raw != "" {
		is, known := truths[strings.ToLower(strings.TrimSpace(raw))]
		if !known {
			return cfg, 0, fault.Config("", "raw is %s, want true or false", fault.Quote(raw))
		}
		cfg.Raw = is
	}
	if allow := s.text("allow"); allow != "" {
		for network := range strings.SplitSeq(allow, ",") {
			if network = strings.TrimSpace(network); network != "" {
				cfg.Allow = append(cfg.Allow, network)
			}
		}
	}
	if f := s.command.Flags().Lookup("access"); f.Changed && strings.Contains(f.Value.String(), ":") {
		return cfg, 0, &usageError{"--access takes no password, which whoever lists processes would see: set " + variable("access")}
	}
	if cfg.Access, err = access(s.text("access")); err != nil {
		return cfg, 0, err
	}
	if cfg.Expires, err = expires(s.text("expires"), time.Now()); err != nil {
		return cfg, 0, err
	}
	timeout = 30 * time.Second
	if text := s.text("timeout"); text != "" {
		if timeout, err = duration(text); err != nil || timeout <= 0 || timeout > time.Hour {
			return cfg, 0, fault.Config("write a time such as 30s", "timeout is %s, want more than 0 and at most an hour", fault.Quote(text))
		}
	}
	if target != "" {
		cfg.Target, err = address(target, cfg.Raw)
	}
	return cfg, timeout, err
}

// truths are what a variable may say for true and false, as python/taipy_tunnel/_settings.py reads it.
var truths = map[string]bool{"1": true, "true": true, "yes": true, "on": true, "0": false, "false": false, "no": false, "off": false}

// access is a word, or users and their passwords, "user:password,…", which only a variable may hold.
func access(text string) (tunnel.Access, error) {
	switch {
	case text == "", text == "token":
		return tunnel.Access{}, nil
	case text == "public":
		return tunnel.Access{Public: true}, nil
	case !strings.Contains(text, ":"):
		return tunnel.Access{}, fault.Config(`write {access="token"} or {access="public"}`, "access is a text of %d characters that is neither", len([]rune(text))) // perhaps a password
	}
	users := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		user, password, _ := strings.Cut(pair, ":")
		users[user] = password
	}
	return tunnel.Access{Passwords: users}, nil
}

// duration is a time as Go writes it, or in seconds.
func duration(text string) (time.Duration, error) {
	if seconds, err := strconv.ParseFloat(text, 64); err == nil && seconds >= 0 && seconds < 1e9 {
		return time.Duration(seconds * float64(time.Second)), nil
	}
	return time.ParseDuration(text)
}

func expires(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := duration(text); err == nil && d > 0 {
		return now.Add(d), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, fault.Config("write a time such as 8h, or 2026-12-31T18:00:00Z", "expires is %s, want a time from now or a moment", fault.Quote(text))
	}
	return at, nil
}

// address is where an app listens: a port, "host:port", or the URL that a framework prints; if raw, one of https as well.
func address(app string, raw bool) (string, error) {
	text := app
	if strings.Contains(app, "@") {
		return "", fault.TargetAccount()
	}
	if u, err := url.Parse(app); err == nil && u.Host != "" && (u.Scheme == "http" || raw && u.Scheme == "https") && u.User == nil {
		text = u.Host
		if u.Port() == "" {
			text = net.JoinHostPort(u.Hostname(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
		}
	}
	if n, err := strconv.ParseUint(text, 10, 16); err == nil && n > 0 {
		return fmt.Sprintf("localhost:%d", n), nil
	}
	if host, port, err := net.SplitHostPort(text); err == nil && (host == "0.0.0.0" || host == "::") {
		text = net.JoinHostPort("localhost", port)
	}
	if strings.HasPrefix(strings.ToLower(text), "https://") {
		return "", fault.TargetTLS(text)
	}
	if _, port, err := net.SplitHostPort(text); err != nil || port == "" {
		return "", fault.Config(`write its port, or {target="127.0.0.1:5000"}`, "%s is no address of an app", fault.Quote(app))
	}
	return text, nil
}
