// SPDX-License-Identifier: Apache-2.0

package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/databricks"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/destination"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/doctor"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/userfile"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/probe"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyadmin"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshauth"
)

// starting is a machine that becomes a prepared proxy, with one account and one app more.
type starting struct {
	*run
	to          login
	name        string
	domain      string
	certbot     bool
	selfService bool
	file        string
	databricks  bool
	profile     string
}

func (r *run) quickstart() *cobra.Command {
	s := &starting{run: r}
	c := takes(&cobra.Command{Use: "quickstart",
		Short: "make a machine the proxy, from nothing to a link",
		Long: "Turns a Debian or Ubuntu machine that you can log in to into a prepared proxy for one app, and says what to write in the notebook. It makes a key for the " +
			"notebook to log in with (~/.ssh/taipy-tunnel-NAME), writes down what the machine is (FILE), has the machine set up accordingly, and looks at it as the " +
			"notebook will. Run it again at any time: what is there stays. With another NAME the machine gets one more account and app. " +
			"Further changes: edit FILE, then taipy-tunnel proxy setup.\n\n" +
			"USER is root, or an account with sudo, whose password is asked for at a terminal; MACHINE may be an alias of ~/.ssh/config. A host key that is not " +
			"known is shown, and you are asked; without a terminal --host-key has to name it.",
	}, serverArgument)
	s.to.options(c)
	f := c.Flags()
	f.StringVar(&s.name, "name", "app", "a `NAME` for the notebook's account and its app")
	f.StringVar(&s.domain, "domain", "", "the `NAME` under which visitors open the app, which leads to the machine; default: the machine's, as you log in to it")
	f.BoolVar(&s.certbot, "certbot", false, "https, with a certificate of Let's Encrypt for --domain, by a command that is printed at the end; default: http")
	f.BoolVar(&s.selfService, "self-service", false, "let the account choose further names, below --domain, all of whose names have to lead to the machine")
	f.StringVar(&s.file, "file", "", "the `FILE` that describes the machine; default: taipy-tunnel/MACHINE.json below your directory of configurations")
	f.BoolVar(&s.databricks, "databricks", false, "make the key in the secret scope "+defaultScope+" of a Databricks workspace, with all that its notebooks need, readable by everybody in the workspace, and not on this machine")
	f.StringVar(&s.profile, "profile", "", "for --databricks, a `PROFILE` of ~/.databrickscfg; default: as Databricks' own tools choose")
	c.RunE = func(c *cobra.Command, args []string) error {
		if (s.certbot || s.selfService) && s.domain == "" {
			return &usageError{"--certbot and --self-service want --domain"}
		}
		if s.certbot && s.selfService {
			return &usageError{"--certbot gives no certificate for the names of --self-service: see docs/proxy.md, mode \"files\""}
		}
		ctx, cancel := context.WithTimeout(c.Context(), setUpTimeout)
		defer cancel()
		return s.start(ctx, c, s.destination(s.to, args[0]))
	}
	return c
}

// start goes from nothing to a link.
func (s *starting) start(ctx context.Context, c *cobra.Command, to destination.Config) error {
	s.notice("connecting")
	srv, before, err := s.look(ctx, &to)
	if _, is := unknownKey(err); is && s.Ask == nil {
		s.code = Usage
		s.fail(failed(fault.From(err), words(c)))
		return nil
	}
	if err != nil {
		return err
	}
	d, err := s.description(srv)
	if err != nil {
		return err
	}
	if err := d.describes(before.Accounts); err != nil {
		return err
	}
	account, err := s.account(d.host, srv.Host)
	if err != nil {
		return err
	}
	key, public, err := s.keys(ctx, srv.ServerFor(s.name), before.HostKey)
	if err != nil {
		return err
	}
	admit(account, public)
	url, err := d.host.URL(s.name, s.app(d.host))
	if err != nil {
		return err
	}
	if err := d.keep(); err != nil {
		return err
	}
	m, err := s.change(ctx, to, d.host, false)
	if err != nil {
		d.undo(err)
		return err
	}
	as := to
	as.Server, as.HostKey, as.Key, as.KeyPassphrase = m.Server(s.name), m.HostKey, key, ""
	s.notice("looking at it as the notebook will")
	checked, err := reloaded(ctx, reloading, func() ([]probe.Checked, error) { return doctor.Machine(ctx, as, "") })
	if err != nil {
		return err
	}
	if s.databricks {
		key = ""
	}
	return s.tell(started{App: s.app(d.host), Server: as.Server, HostKey: m.HostKey, Key: key, File: d.file, URL: url, Certbot: d.host.TLS.Mode == "certbot", Rows: s.rows(c, checked)})
}

// look looks at the machine. A host key of it that is not known is shown to a person, and pinned if they say that it is the machine's; one of a
// machine on the way is not.
func (s *starting) look(ctx context.Context, to *destination.Config) (*destination.Destination, proxyadmin.Before, error) {
	srv, err := destination.Resolve(*to)
	if err != nil {
		return nil, proxyadmin.Before{}, err
	}
	before, err := proxyadmin.Look(ctx, *to, s.Ask != nil)
	unknown, is := unknownKey(err)
	if !is || s.Ask == nil || to.HostKey != "" {
		return srv, before, err
	}
	if to.HostKey, err = s.accept(ctx, unknown); err == nil {
		before, err = proxyadmin.Look(ctx, *to, true)
	}
	return srv, before, err
}

// unknownKey is the machine's own host key, if that is what is not known: of one on the way fault.Hop says so.
func unknownKey(err error) (u *fault.UnknownKey, is bool) {
	u, is = errors.AsType[*fault.UnknownKey](err)
	return u, is && fault.From(err).Op == "host key"
}

// reloading is how long nginx may take to read its files again: until then those that it had answer.
const (
	reloading = 10 * time.Second
	lookTwice = 700 * time.Millisecond
)

// reloaded is what is seen of a machine that was set up just now: twice the same, for its nginx may be about to read its files again.
func reloaded(ctx context.Context, within time.Duration, look func() ([]probe.Checked, error)) (rows []probe.Checked, err error) {
	var before []probe.Checked
	for end := time.Now().Add(within); ; before = rows {
		rows, err = look()
		failing := slices.ContainsFunc(rows, func(row probe.Checked) bool { return !row.OK })
		if err != nil || !failing && slices.Equal(rows, before) || time.Now().After(end) {
			return rows, err
		}
		select {
		case <-time.After(lookTwice):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (r *run) notice(text string) { r.Show(Event{Kind: Notice, Text: text}) }

// accept shows a host key, and has a person say whether it is the machine's.
func (s *starting) accept(ctx context.Context, u *fault.UnknownKey) (string, error) {
	answer, err := s.ask(ctx, fmt.Sprintf("The host key of %s is not known. It shows\n    %s %s\nCompare it with what the machine itself shows, at its console or in its provider's page:\n    %s\n"+
		"Is it the same? (yes, no, or the fingerprint) ", u.Addr, u.Algorithm, u.Seen, u.ShownBy), false)
	if err != nil {
		return "", err
	}
	if answer = strings.TrimSpace(answer); strings.EqualFold(answer, "yes") || answer == u.Seen {
		return u.Seen, nil
	}
	return "", fault.Config("run it again when you have compared it", "the host key was not accepted; nothing was done")
}

// keyPath is where the key of an account is.
func keyPath(name string) string { return "~/.ssh/taipy-tunnel-" + name }

// keys are the account's key, or where it is, and its public half.
func (s *starting) keys(ctx context.Context, server, hostKey string) (key, public string, err error) {
	if !s.databricks {
		return s.key()
	}
	w, err := s.workspace(s.profile)
	if err != nil {
		return "", "", err
	}
	defer w.Close()
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	held, err := w.Secrets(ctx, defaultScope, []string{"server"})
	if err != nil && !errors.Is(err, databricks.ErrNoScope) {
		return "", "", err
	}
	if other := string(held["server"]); other != "" && other != server {
		return "", "", fault.Config("leave --databricks out, and store what this one needs in another scope: taipy-tunnel databricks store --scope SCOPE",
			"the notebooks of that workspace use another account already, %s", fault.Quote(other))
	}
	stored, err := w.Store(ctx, databricks.StoreConfig{Server: server, HostKey: hostKey})
	if err != nil {
		return "", "", err
	}
	secret, err := w.Secret(ctx, stored.Scope, "key")
	if err == nil {
		public, err = sshauth.PublicKey(string(secret))
	}
	if err == nil {
		s.notice("the key is in secret scope " + stored.Scope)
	}
	return string(secret), public, err
}

// key is the account's key on this machine, made if it is not there.
func (s *starting) key() (path, public string, err error) {
	path = keyPath(s.name)
	full := userfile.Expand(path)
	if _, missing := os.Lstat(full); !errors.Is(missing, os.ErrNotExist) { // first: another run may make it at any time
		text, err := userfile.Read(full, mostRead)
		if err != nil {
			return "", "", fault.Config("move it away, and a new one is made", "the key %s cannot be read: %w", path, err)
		}
		public, err = sshauth.PublicKey(string(text))
		return path, public, err
	}
	private, public, err := sshauth.NewKeyPair("taipy-tunnel " + s.name)
	if err != nil {
		return "", "", fault.Internal(err)
	}
	err = os.MkdirAll(filepath.Dir(full), 0o700)
	if err == nil {
		err = whole(full, private, 0o600, os.Link)
	}
	if errors.Is(err, os.ErrExist) { // another run has made one meanwhile
		return s.key()
	}
	if err == nil {
		err = whole(full+".pub", []byte(public+"\n"), 0o644, os.Rename)
	}
	if err != nil {
		return "", "", fault.Config("", "the key %s cannot be written: %w", path, fault.Reason(err))
	}
	s.notice("made a key, " + path)
	return path, public, nil
}

// account is that of the name, added to a description if it is not there.
func (s *starting) account(h *proxyhost.Host, machine string) (*proxyhost.Tenant, error) {
	if err := proxyhost.CheckTenant(s.name); err != nil {
		return nil, err
	}
	switch mode := h.TLS.Mode; {
	case s.certbot && (mode == "" || mode == "none"):
		h.TLS = proxyhost.TLS{Mode: "certbot"}
	case s.certbot && mode != "certbot":
		return nil, fault.Config("leave --certbot out", "the machine has a certificate of another kind, %s", fault.Quote(mode))
	}
	address := cmp.Or(s.domain, strings.ToLower(machine))
	for i := range h.Tenants {
		t := &h.Tenants[i]
		switch {
		case t.Name == s.name && (s.domain == "" || leads(t, s.domain)):
			return t, nil
		case t.Name == s.name && len(t.Apps) == 1 && t.Apps[0].Host == strings.ToLower(machine): // until it got a name
			t.Apps[0].Host = s.domain
			return t, nil
		case t.Name == s.name:
			return nil, fault.Config("choose another name, --name NAME, or edit the file and run taipy-tunnel proxy setup", "account %s is there already, with another address", fault.Quote(s.name))
		case leads(t, address):
			return nil, fault.Config(fault.Hintf("give another name that leads to the machine, --domain NAME; for that account: --name %s", t.Name),
				"visitors of %s come to account %s already", address, fault.Quote(t.Name))
		}
	}
	t := proxyhost.Tenant{Name: s.name, Apps: []proxyhost.Declared{{Name: s.name, Host: address}}}
	if s.selfService {
		t.SelfService, t.Apps = s.domain, nil
	}
	h.Tenants = append(h.Tenants, t)
	return &h.Tenants[len(h.Tenants)-1], nil
}

// admit has a key log in to an account.
func admit(t *proxyhost.Tenant, public string) {
	if !slices.ContainsFunc(t.Keys, func(line string) bool { return sameLine(line, public) }) {
		t.Keys = append(t.Keys, public)
	}
}

// leads reports whether an address is that of an account, or of one of its apps.
func leads(t *proxyhost.Tenant, address string) bool {
	return t.SelfService == address || t.Host == address || slices.ContainsFunc(t.Apps, func(a proxyhost.Declared) bool { return a.Host == address })
}

// app is the name of the account's app; "": it has one alone.
func (s *starting) app(h *proxyhost.Host) string {
	for _, t := range h.Tenants {
		if t.Name == s.name && len(t.Apps) == 1 && t.SelfService == "" {
			return ""
		}
	}
	return s.name
}

// sameLine: two lines of authorized_keys(5) hold the same key, whatever their comments.
func sameLine(a, b string) bool {
	one, other := strings.Fields(a), strings.Fields(b)
	return len(one) > 1 && len(other) > 1 && one[0] == other[0] && one[1] == other[1]
}

// started is what came of it.
type started struct {
	Server  string `json:"server"`
	HostKey string `json:"host_key"`
	App     string `json:"name"`          // what expose() calls name; "": nothing need be said
	Key     string `json:"key,omitempty"` // the path of the file; "": it is in a secret scope
	File    string `json:"file"`
	URL     string `json:"url"`
	Certbot bool   `json:"-"`
	Rows    []Row  `json:"rows"`
}

func (s *starting) tell(d started) error {
	return s.answer(d, func() {
		s.Show(Event{Kind: Table, Rows: d.Rows})
		if s.code != OK {
			s.text("", "The machine is set up, and something is missing: see the rows that FAIL.")
		}
		s.text("", "In the notebook:", "    import taipy_tunnel; "+d.call())
		if !s.databricks {
			s.text("The key has to be on the notebook's machine: copy "+d.Key+" there, or for all notebooks of a Databricks workspace:",
				"    taipy-tunnel databricks store --server "+d.Server+" --host-key "+d.HostKey+" --key "+d.Key)
		}
		s.text("Visitors open the link that it shows, at " + d.URL)
		switch {
		case d.Certbot:
			s.text("Its certificate is self-signed until the certbot command has run that the machine has printed above; then run this again.")
		case strings.HasPrefix(d.URL, "http://"):
			s.text("Without https the link can be read on the way: --domain NAME --certbot have it protected, where NAME leads to the machine.")
		}
		s.text("What the machine is, for taipy-tunnel proxy setup, with --host-key "+d.HostKey+":", "    "+d.File)
	})
}
