// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshauth

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/compat"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/leak"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/sshdtest"
)

// lines is a log that may be read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lines) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// with logs in to s with keys from src, and returns those and why it failed.
func with(t testing.TB, s *sshdtest.Server, src KeySource) (*Keys, error) {
	t.Helper()
	keys, err := NewKeys(within(t, 20*time.Second), src)
	if err != nil {
		return nil, err
	}
	return keys, again(t, s, keys)
}

// again logs in to s, and leaves at once.
func again(t testing.TB, s *sshdtest.Server, keys *Keys) error {
	t.Helper()
	login, err := keys.Login(within(t, 20*time.Second))
	if err != nil {
		return err
	}
	defer login.Close()
	if err := connect(t, s, login); err != nil {
		return err
	}
	if id := login.Accepted(); id != keys.ID() {
		t.Errorf("let in by %s, want what ID says, %s", id, keys.ID())
	}
	return nil
}

// connect makes one connection of a login.
func connect(t testing.TB, s *sshdtest.Server, login *Login) error {
	t.Helper()
	tcp, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tcp.Close() }()
	_ = tcp.SetDeadline(time.Now().Add(20 * time.Second))
	conn, chans, reqs, err := ssh.NewClientConn(tcp, s.Addr(), &ssh.ClientConfig{User: s.User, AuthCallback: login.Begin(), HostKeyCallback: ssh.FixedHostKey(s.HostKey)})
	if err != nil {
		return login.Refused(s.User, s.Addr(), "", err)
	}
	return ssh.NewClient(conn, chans, reqs).Close()
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// wantFault asserts an error's class and whether it is permanent, and returns it.
func wantFault(t testing.TB, err, class error, permanent bool) *fault.Error {
	t.Helper()
	e, ok := errors.AsType[*fault.Error](err)
	if !ok || !errors.Is(err, class) || e.Permanent != permanent {
		t.Fatalf("error %v (%T), want class %v, permanent %v", err, err, class, permanent)
	}
	return e
}

// tries counts the keys that s was asked about.
func tries(s *sshdtest.Server) int { return strings.Count(s.Log(), "trying public key") / 2 }

func file(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	replace(t, path, text)
	return path
}

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func replace(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func fingerprintOfFile(t testing.TB, path string) string {
	t.Helper()
	keys, err := LoadKeys(path, "")
	if err != nil {
		t.Fatal(err)
	}
	return keys.ID()
}

// What the agent holds is used before the files, and the connection to it ends with the login.
func TestAgentLogsIn(t *testing.T) {
	leak.Check(t)
	home := t.TempDir()
	t.Setenv("HOME", home)
	s := sshdtest.Start(t, sshdtest.Options{})
	agent := sshdtest.StartAgent(t, sshdtest.NewKey(t, "ecdsa"), sshdtest.NewKey(t, "rsa"), s.KeyFile)
	keys, err := with(t, s, KeySource{Agent: agent.Socket})
	if err != nil {
		t.Fatal(err)
	}
	if want := fingerprintOfFile(t, s.KeyFile); keys.ID() != want {
		t.Errorf("ID %s, want that of the key that logged in, %s", keys.ID(), want)
	}
	login, err := keys.Login(within(t, 20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	login.Close()
	if _, err := login.offers[0].signer.Sign(rand.Reader, nil); err == nil {
		t.Error("the agent signs after the login")
	}
	if err := os.Symlink(agent.Socket, filepath.Join(home, "agent")); err != nil {
		t.Fatal(err)
	}
	if _, err := with(t, s, KeySource{Agent: "~/agent"}); err != nil {
		t.Errorf("by its path from the home directory: %v", err)
	}
	agent.Stop()
	if err := again(t, s, keys); err == nil {
		t.Error("logged in without the agent")
	} else {
		wantFault(t, err, fault.ErrConfig, false) // it may come back
	}
	_, err = NewKeys(within(t, 20*time.Second), KeySource{Agent: agent.Socket})
	if e := wantFault(t, err, fault.ErrConfig, true); !strings.Contains(e.Error(), "ssh-agent") {
		t.Errorf("%v", err)
	}
}

// A login may take several connections: each is offered the first key first.
func TestLoginBeginsAgain(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{})
	keys, err := NewKeys(t.Context(), KeySource{Files: []string{sshdtest.NewKey(t, "ecdsa"), s.KeyFile}})
	if err != nil {
		t.Fatal(err)
	}
	login, err := keys.Login(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer login.Close()
	for range 2 {
		if err := connect(t, s, login); err != nil || login.tried != 2 {
			t.Errorf("%v after %d tries, want 2", err, login.tried)
		}
	}
	if login.Accepted() != fingerprintOfFile(t, s.KeyFile) {
		t.Error("not let in by the second key")
	}
}

// A server may want something else than a key, or more: another key would not help.
func TestKeysAreNotEnough(t *testing.T) {
	leak.Check(t)
	for want, config := range map[string][]string{
		"password":             {"PubkeyAuthentication no", "PasswordAuthentication yes"},
		"keyboard-interactive": {"AuthenticationMethods publickey,keyboard-interactive", "KbdInteractiveAuthentication yes", "UsePAM yes"},
	} {
		s := sshdtest.Start(t, sshdtest.Options{Config: config})
		_, err := with(t, s, KeySource{Key: s.KeyFile})
		e := wantFault(t, err, fault.ErrAuth, true)
		if !strings.Contains(e.Error(), want) || strings.Contains(e.Hint.String(), "authorized_keys") || !strings.Contains(e.Hint.String(), "AuthenticationMethods") {
			t.Errorf("%s: %v, hint %s", want, e, e.Hint)
		}
		compat.Row(t, "accounts", "an sshd with "+strings.Join(config, ", "), compat.Outcome(err))
	}
}

// An agent that is dead, hangs or talks nonsense costs a moment; the files are still there.
func TestAgentsThatDoNotAnswer(t *testing.T) {
	leak.Check(t)
	home := t.TempDir()
	t.Setenv("HOME", home)
	s := sshdtest.Start(t, sshdtest.Options{})
	_ = os.Mkdir(filepath.Join(home, ".ssh"), 0o700)
	replace(t, filepath.Join(home, ".ssh", "id_ed25519"), read(t, s.KeyFile))
	frozen := sshdtest.StartAgent(t, s.KeyFile)
	frozen.Freeze()
	nonsense := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", nonsense)
	if err != nil {
		t.Fatal(err)
	}
	var task sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); task.Wait() })
	task.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write(bytes.Repeat([]byte{0, 0, 0, 5, 12, 0xff, 0xff, 0xff, 0xff}, 100))
			_ = c.Close()
		}
	})
	for name, socket := range map[string]string{"none there": filepath.Join(home, "none"), "a file": s.KeyFile,
		"frozen": frozen.Socket, "nonsense": nonsense, "empty": sshdtest.StartAgent(t).Socket} {
		t.Run(name, func(t *testing.T) {
			leak.Check(t)
			var log lines
			begin := time.Now()
			if _, err := with(t, s, KeySource{Agent: socket, Log: log.logger()}); err != nil {
				t.Error(err)
			}
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("took %v", took)
			}
			if !strings.Contains(log.String(), "the ssh-agent is passed over") {
				t.Errorf("log: %s", log.String())
			}
		})
	}
}

// A server ends the connection at the sixth key that it refuses. Keys that were named come first,
// and what there was no room for is said.
func TestManyKeys(t *testing.T) {
	leak.Check(t)
	t.Setenv("HOME", t.TempDir())
	s := sshdtest.Start(t, sshdtest.Options{})
	agent := sshdtest.StartAgent(t)
	for range 7 {
		agent.Add(sshdtest.NewKey(t, "ed25519"))
	}
	_, err := with(t, s, KeySource{Agent: agent.Socket})
	e := wantFault(t, err, fault.ErrAuth, true)
	if !strings.Contains(e.Error(), "with 5 key(s)") || !strings.Contains(e.Error(), "2 more keys were not offered") || !strings.Contains(e.Hint.String(), "Config.Key") {
		t.Errorf("%v, hint %s", e, e.Hint)
	}
	if log := s.Log(); strings.Contains(log, "Too many") || strings.Count(log, "Connection from") != 2 { // one is the harness
		t.Errorf("more than one connection, or more tries than a server grants:\n%s", log)
	}
	agent.Add(s.KeyFile)
	if _, err := with(t, s, KeySource{Agent: agent.Socket, Files: []string{s.KeyFile + ".pub"}}); err != nil {
		t.Errorf("named by its public half: %v", err)
	}
	if _, err := with(t, s, KeySource{Agent: agent.Socket, Key: s.KeyFile}); err != nil {
		t.Errorf("given: %v", err)
	}
	other := sshdtest.NewKey(t, "ecdsa")
	_, err = with(t, s, KeySource{Agent: agent.Socket, Files: []string{other}, IdentitiesOnly: true})
	if e := wantFault(t, err, fault.ErrAuth, true); !strings.Contains(e.Error(), "with 1 key(s)") {
		t.Errorf("IdentitiesOnly: %v", e)
	}
	_, err = with(t, s, KeySource{Agent: agent.Socket, Key: other})
	if e := wantFault(t, err, fault.ErrAuth, true); !strings.Contains(e.Error(), "with 1 key(s)") {
		t.Errorf("the agent's keys were offered besides the given one: %v", e)
	}
}

// A key that is encrypted, without a passphrase for it, may be in the agent.
func TestEncryptedKeyInTheAgent(t *testing.T) {
	leak.Check(t)
	s := sshdtest.Start(t, sshdtest.Options{})
	agent := sshdtest.StartAgent(t, sshdtest.NewKey(t, "ed25519"), s.KeyFile)
	private, err := ssh.ParseRawPrivateKey([]byte(read(t, s.KeyFile)))
	if err != nil {
		t.Fatal(err)
	}
	sealed := file(t, openSSH(t, *private.(*ed25519.PrivateKey), passphrase))
	_, err = with(t, s, KeySource{Key: sealed, Agent: agent.Socket})
	if err != nil {
		t.Error(err)
	}
	compat.Row(t, "keys", "a key with a passphrase that is not given, which ssh-agent holds", compat.Outcome(err))
	_, err = with(t, s, KeySource{Key: sealed})
	if e := wantFault(t, err, fault.ErrConfig, true); !strings.Contains(e.Hint.String(), "Config.KeyPassphrase") {
		t.Errorf("%v", e)
	}
}

func TestKindsOfUserKeys(t *testing.T) {
	leak.Check(t)
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		key := sshdtest.NewKey(t, kind)
		s := sshdtest.Start(t, sshdtest.Options{AuthorizedKeys: read(t, key+".pub"), Config: []string{"PubkeyAcceptedAlgorithms -ssh-rsa"}})
		if _, err := with(t, s, KeySource{Key: key}); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		agent := sshdtest.StartAgent(t, key)
		if _, err := with(t, s, KeySource{Agent: agent.Socket, Files: []string{}}); err != nil {
			t.Errorf("%s, agent: %v", kind, err)
		}
	}
}
