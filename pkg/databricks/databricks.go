// SPDX-License-Identifier: Apache-2.0

// Package databricks asks a Databricks workspace what a tunnel needs to know: secrets, facts of the
// cluster, who the user is. It is the only importer of Databricks' SDK, and few of that.
//
//	w, err := databricks.Open(databricks.Config{Host: "https://….cloud.databricks.com", Token: token})
//	defer w.Close()
//	found, err := w.Secrets(ctx, databricks.DefaultScope, []string{"server", "key", "host_key"})
//	cfg.Server = []string{string(found["server"])}
//
// Promises
//   - With Host and Token nothing else is looked at: no environment variable, no ~/.databrickscfg.
//   - Each call ends with its context, and each request of it within 9 s, whatever the workspace
//     does: it hangs, is busy, breaks off, or is something else that answers web pages or megabytes.
//   - The token goes to the workspace's own address, over TLS, and nowhere else: no redirect is
//     followed.
//   - Formatting any type of this package shows no token, key or value of a secret, nor do errors.
//   - Nothing is logged. To that end the SDK's own logger, which is one for the whole program and
//     writes to standard error, is replaced when this package is loaded.
//
// Errors are of class ErrWorkspace, or ErrConfig where nothing was sent.
package databricks

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/databricks/databricks-sdk-go/client"
	"github.com/databricks/databricks-sdk-go/config"
	"github.com/databricks/databricks-sdk-go/config/credentials"
	"github.com/databricks/databricks-sdk-go/logger"
	"github.com/databricks/databricks-sdk-go/useragent"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// version is that of the whole project, for the workspace's audit log.
const version = "0.1.0"

func init() {
	logger.DefaultLogger = silent{}
	useragent.WithProduct("taipy-tunnel", version)
}

// Error is an error that a person reads.
type Error = fault.Error

// The classes of errors, for errors.Is.
var (
	ErrConfig    = fault.ErrConfig    // an argument that cannot be used; nothing was sent
	ErrWorkspace = fault.ErrWorkspace // the workspace refuses, or does not answer as one does
)

// ErrNoScope marks that there is no secret scope of that name: an error of class ErrWorkspace too.
var ErrNoScope = fault.ErrNoScope

// A TokenSource gives the token to log in with. It is asked for each request, for notebooks' tokens
// last about an hour.
type TokenSource func(context.Context) (string, error)

// Config says where the workspace is and how to log in there.
type Config struct {
	// Host is the workspace's address, "https://…"; plain http only on this machine. With Token.
	// "": what Profile says.
	Host string
	// Token gives the token. Nil: what Profile says.
	Token TokenSource
	// Profile is a profile of ~/.databrickscfg. "": the SDK's own order, the variables
	// DATABRICKS_HOST, DATABRICKS_TOKEN, …, then the file's default profile; OAuth, the Databricks
	// CLI's and the clouds' logins included. Not with Host.
	Profile string
}

const (
	patience    = 9 * time.Second // for a request and its repetitions: a person waits less than 10 s
	retrying    = 4               // seconds for which the SDK repeats what a busy workspace refuses, and refused connections
	perSecond   = 100             // requests
	maxAnswer   = 4 << 20         // bytes; a secret has at most 128 KiB
	maxTogether = 16              // requests at a time
)

// A Workspace is one that can be asked. Its methods may be called from several goroutines.
type Workspace struct {
	cfg    *config.Config
	client *client.DatabricksClient
	wire   *wire
	name   string // of the host; the SDK writes cfg while it logs in, under a lock of its own
}

// Open prepares for asking a workspace. Nothing is sent yet.
func Open(cfg Config) (*Workspace, error) {
	w := &Workspace{wire: newWire()}
	w.cfg = &config.Config{
		HTTPTransport:       w.wire,
		RetryTimeoutSeconds: retrying,
		HTTPTimeoutSeconds:  int(patience/time.Second) + 1, // of inactivity: the context of a request ends before
		RateLimitPerSecond:  perSecond,
		// The SDK would ask the host what it is, for up to five minutes, without a context.
		HostMetadataResolver: func(context.Context, string) (*config.HostMetadata, error) { return nil, nil },
	}
	switch {
	case cfg.Host == "" && cfg.Token == nil:
		w.cfg.Profile = cfg.Profile
	case cfg.Host == "" || cfg.Token == nil || cfg.Profile != "":
		return nil, fault.Config("give both, or a profile", "the workspace's host and token belong together")
	default:
		host, err := address(cfg.Host)
		if err != nil {
			return nil, err
		}
		w.cfg.Host = host
		w.cfg.Loaders = []config.Loader{nothing{}}
		w.cfg.Credentials = strategy{cfg.Token}
	}
	c, err := client.New(w.cfg)
	if err != nil || w.cfg.Host == "" && w.cfg.AzureResourceID == "" {
		return nil, fault.NoWorkspace(cfg.Profile)
	}
	w.client, w.name = c, "the workspace"
	if u, err := url.Parse(w.cfg.Host); err == nil && strings.ContainsAny(u.Host, ".:") && fault.Showable(u.Host) { // without either it may be what a token has before its slash
		w.name = u.Host
	}
	return w, nil
}

// Close ends the idle connections. The workspace may be asked again all the same.
func (w *Workspace) Close() { w.wire.base.CloseIdleConnections() }

// String is the workspace's address.
func (w *Workspace) String() string { return w.name }

// GoString is String, for %#v.
func (w *Workspace) GoString() string { return w.name }

// address checks that of a workspace. Its query may say which one of several at that address.
func address(host string) (string, error) {
	text := strings.TrimSpace(host)
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	const hint = "write it as the browser shows it: https://….cloud.databricks.com"
	if err != nil || u.Hostname() == "" || u.User != nil { // not quoted: a token may stand in the wrong place
		return "", fault.Config(hint, "the workspace's host is not an address")
	}
	loopback := u.Hostname() == "localhost"
	if ip := net.ParseIP(u.Hostname()); ip != nil {
		loopback = ip.IsLoopback()
	}
	if u.Scheme != "https" && !(u.Scheme == "http" && loopback) {
		return "", fault.Config(hint, "the workspace's host %s has no https: the token would cross the network in the clear", fault.Quote(host))
	}
	return text, nil
}

// strategy has the token source asked for each request.
type strategy struct{ token TokenSource }

func (strategy) Name() string { return "pat" }

func (s strategy) Configure(context.Context, *config.Config) (credentials.CredentialsProvider, error) {
	return credentials.CredentialsProviderFn(func(r *http.Request) error {
		token, err := s.token(r.Context())
		if err != nil {
			return fault.NoToken(err)
		}
		token = strings.TrimSpace(token)
		if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return fault.Config("", "the workspace's token is empty, or holds a character that no token has")
		}
		r.Header.Set("Authorization", "Bearer "+token)
		return nil
	}), nil
}

// nothing reads no variables and no file.
type nothing struct{}

func (nothing) Name() string                   { return "nothing" }
func (nothing) Configure(*config.Config) error { return nil }

// silent logs nothing.
type silent struct{}

func (silent) Enabled(context.Context, logger.Level) bool { return false }
func (silent) Tracef(context.Context, string, ...any)     {}
func (silent) Debugf(context.Context, string, ...any)     {}
func (silent) Infof(context.Context, string, ...any)      {}
func (silent) Warnf(context.Context, string, ...any)      {}
func (silent) Errorf(context.Context, string, ...any)     {}

// A Value is that of a secret: string(v) tells it, formatting or marshalling it does not.
type Value string

const hidden = "(secret)"

// Format writes a word in the place of the value, whatever the verb.
func (Value) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(hidden)) }

// String is the same word.
func (Value) String() string { return hidden }

// MarshalText gives the same word.
func (Value) MarshalText() ([]byte, error) { return []byte(hidden), nil }
