// SPDX-License-Identifier: Apache-2.0

// Package proxyadmin is what an admin does with a proxy machine: SetUp makes one, or changes or removes what it
// made, and Look sees what is there.
//
//	script, err := proxyhost.Script(host)
//	m, err := proxyadmin.SetUp(ctx, destination.Config{Server: "root@203.0.113.7"}, proxyadmin.Change{Script: script, Said: func(line string) { fmt.Println(line) }})
//	rows, err := doctor.Machine(ctx, destination.Config{Server: m.Server("sales"), HostKey: m.HostKey}, "") // as its accounts have it
//
// Both log in by SSH and end with their call; they know no tunnel. Errors are a *tunnel.Error, or the
// context's own.
package proxyadmin

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/destination"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshlink"
)

// Machine is a proxy machine, as SetUp has left it.
type Machine struct {
	// HostKey is the fingerprint to pin, "SHA256:…": what the script says, else the one that was checked.
	HostKey string

	server *destination.Destination
}

// Server is what expose() calls server, for an account of the machine: "account@host", with the port unless
// that is 22. The host is the one that was logged in to, after ssh's configuration.
func (m *Machine) Server(account string) string {
	return m.server.ServerFor(account)
}

// shownHostKey is the script's last line.
var shownHostKey = regexp.MustCompile(`^taipy-tunnel: host key (SHA256:[A-Za-z0-9+/]{43})$`)

// Change is what SetUp does to a machine.
type Change struct {
	// Script is what runs there as root (proxyhost.Script). Required.
	Script string
	// Remove has the script undo what it made.
	Remove bool
	// Said is called with each line of output as it comes, freed of everything that is not to be printed, and no more when SetUp has
	// returned; while it does not return the script waits. Required.
	Said func(line string)
	// Password is asked for the account's password, where sudo wants one. Nil: that is an error.
	Password func(context.Context) (string, error)
}

// Before is a machine as it is before SetUp.
type Before struct {
	// HostKey is the fingerprint of the host key that was checked, "SHA256:…".
	HostKey string
	// Accounts are those that a script has made there, which it removes where its description has them no more.
	Accounts []string
}

// Look logs in to cfg.Server and looks at the machine, without a change. asks: a password for sudo can be had. Of a host key that is not known the
// error wraps a *fault.UnknownKey.
func Look(ctx context.Context, cfg destination.Config, asks bool) (b Before, err error) {
	srv, l, err := login(ctx, cfg)
	if err != nil {
		return b, err
	}
	defer func() { _ = l.Close() }()
	said, err := standing(ctx, l, srv)
	if err != nil {
		return b, err
	}
	if !said["uid 0"] && !said["sudo"] && !asks {
		return b, fault.NotRoot(srv.User, srv.Host, srv.Port)
	}
	b.HostKey = l.HostKey()
	for word := range said {
		if name, is := strings.CutPrefix(word, "account "); is {
			b.Accounts = append(b.Accounts, name)
		}
	}
	slices.Sort(b.Accounts)
	return b, nil
}

func login(ctx context.Context, cfg destination.Config) (*destination.Destination, *sshlink.Link, error) {
	srv, err := destination.Resolve(cfg)
	if err != nil {
		return nil, nil, err
	}
	ssh, err := srv.SSH()
	if err != nil {
		return nil, nil, err
	}
	l, err := sshlink.Dial(ctx, ssh)
	return srv, l, err
}

// SetUp logs in to cfg.Server and runs a script there as root, which the account is or becomes by sudo.
//
// The script is a file for as long as it takes to begin reading it, where only root gets. It sees
// no input. When ctx ends, or the link does, its processes get SIGHUP; SetUp then returns at once.
// A script that fails is an error.
func SetUp(ctx context.Context, cfg destination.Config, change Change) (*Machine, error) {
	srv, l, err := login(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer func() { _ = l.Close() }()
	become, password, err := rootBy(ctx, l, srv, change.Password)
	if err != nil {
		return nil, err
	}
	m := &Machine{HostKey: l.HostKey(), server: srv}
	do := "install"
	if change.Remove {
		do = "remove"
	}
	status, err := l.Exec(ctx, sshlink.Command{Line: become + runner(change.Script, do), Stdin: password + change.Script, Said: func(line string) {
		line = fault.Printable(line)
		if key := shownHostKey.FindStringSubmatch(line); key != nil {
			m.HostKey = key[1]
		}
		change.Said(line)
	}})
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, fault.ErrUnreachable):
		return nil, fault.ScriptLost(srv.Host, err)
	case errors.Is(err, sshlink.ErrNoSession):
		return nil, fault.NoCommands(srv.User, srv.Host, srv.Port, err)
	case err != nil || status != 0:
		return nil, fault.ScriptFailed(srv.Host, status, err)
	}
	return m, nil
}

// asRootTimeout is for the question how to become root: sudo may ask a directory service.
const asRootTimeout = 30 * time.Second

// standing is what the account is on the machine, and which accounts there are ours: "uid N", "sudo", "account NAME".
func standing(ctx context.Context, l *sshlink.Link, srv *destination.Destination) (map[string]bool, error) {
	asking, cancel := context.WithTimeout(ctx, asRootTimeout)
	defer cancel()
	// A shell's start-up files may say something before.
	text, err := l.Run(asking, `exec sh -c 'echo; echo "taipy-tunnel uid $(id -u)"; g=$(getent group taipy-tunnel | cut -d: -f3); `+
		`[ -z "$g" ] || getent passwd | while IFS=: read -r n x u i y; do [ "$i" != "$g" ] || echo "taipy-tunnel account $n"; done; `+
		`sudo -n sh -c : >/dev/null 2>&1 && echo "taipy-tunnel sudo"; echo "taipy-tunnel end"'`)
	said := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if word, is := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "taipy-tunnel "); is {
			said[word] = true
		}
	}
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, fault.ErrUnreachable):
		return nil, err
	case errors.Is(err, net.ErrClosed):
		return nil, fault.LinkLost(err)
	case err != nil:
		return nil, fault.NoCommands(srv.User, srv.Host, srv.Port, err)
	case !said["end"]: // accounts that were not heard of would be removed
		return nil, fault.NoCommands(srv.User, srv.Host, srv.Port, fmt.Errorf("it answers %.80q", fault.Printable(string(text))))
	}
	return said, nil
}

// rootBy returns what is written before a command that is to run as root, and before its input: the password, where sudo wants one.
func rootBy(ctx context.Context, l *sshlink.Link, srv *destination.Destination, ask func(context.Context) (string, error)) (become, password string, err error) {
	said, err := standing(ctx, l, srv)
	switch {
	case err != nil:
		return "", "", err
	case said["uid 0"]:
		return "exec ", "", nil
	case said["sudo"]:
		return "exec sudo -n ", "", nil
	case ask == nil:
		return "", "", fault.NotRoot(srv.User, srv.Host, srv.Port)
	}
	password, err = passwordOf(ctx, l, srv, ask)
	return byPassword, password, err
}

// byPassword has sudo read the password from its input, one byte at a time, and leave what follows to the command; -k: whatever it has let pass
// before (sudo(8)).
const byPassword = "exec sudo -k -S -p '' "

const (
	// passwordTrial tells whether sudo takes a password, of which it reads one line and then the end of its input: otherwise it would ask again, and
	// wait. It ends with unread where sudo has let the command pass without reading it.
	passwordTrial = `exec sh -c 'head -n 1 | sudo -k -S -p "" sh -c "IFS= read -r x && exit 99; :"'`
	unread        = 99
)

// passwordOf asks for the account's password until sudo takes it, three times at most, and returns it with the end of its line; "" where sudo
// reads none.
func passwordOf(ctx context.Context, l *sshlink.Link, srv *destination.Destination, ask func(context.Context) (string, error)) (string, error) {
	said := ""
	for range 3 {
		password, err := ask(ctx)
		if err != nil {
			return "", err
		}
		password, _, _ = strings.Cut(password, "\n")
		trying, cancel := context.WithTimeout(ctx, asRootTimeout)
		status, err := l.Exec(trying, sshlink.Command{Line: passwordTrial, Stdin: password + "\n", Said: func(line string) { said = fault.Printable(line) }})
		cancel()
		switch {
		case ctx.Err() != nil:
			return "", ctx.Err()
		case errors.Is(err, fault.ErrUnreachable):
			return "", err
		case err != nil:
			return "", fault.NoCommands(srv.User, srv.Host, srv.Port, err)
		case status == 0:
			return password + "\n", nil
		case status == unread:
			return "", nil
		case status == 126 || status == 127: // there is no sudo (POSIX, sh(1), "Exit Status for Commands")
			return "", fault.PasswordRefused(srv.User, srv.Host, srv.Port, said)
		}
	}
	return "", fault.PasswordRefused(srv.User, srv.Host, srv.Port, said)
}

// scriptRunner is a command, for any shell, that runs the script of so many bytes on its input, with an argument.
// A script that is not what was sent, in part or with something else before it, is not run. It is removed once it is open, so that not even
// SIGKILL leaves it. It and what it runs are a process group, which is hung up when the input
// ends, as a terminal's would be: shells run a trap only when their command has ended, and apt lets dpkg
// finish. More than once, for a command that began in that instant would go on (1 of 10 runs of a test).
const scriptRunner = `sh -c 'exec 2>&1; umask 077; d=$(mktemp -d /run/taipy-tunnel.XXXXXXXX) || exit; trap "rm -rf $d" EXIT; ` +
	`head -c %[1]d >$d/script; echo "%[3]x  $d/script" | sha256sum -c --status || exit 1; exec 3<$d/script 4<&0 </dev/null; rm -rf $d; ` +
	`setsid sh /dev/fd/3 %[2]s 4<&- & p=$!; ` +
	`{ exec 3<&-; read x <&4; while kill -HUP -$p || kill -HUP $p; do sleep 1; done; } >/dev/null 2>&1 & w=$!; ` +
	`exec 3<&- 4<&-; wait $p; s=$?; kill $w; exit $s'`

func runner(script, do string) string {
	return fmt.Sprintf(scriptRunner, len(script), do, sha256.Sum256([]byte(script)))
}
