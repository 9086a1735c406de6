// SPDX-License-Identifier: Apache-2.0

package sshauth

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/userfile"
)

// maxOffers is how many keys a login offers. sshd ends the connection at the sixth that it refuses
// (sshd_config(5), MaxAuthTries), x/crypto's first question, for no key at all, not counted; and a
// key and its certificate are two.
const maxOffers = 5

// offer is one key or certificate that a login may offer.
type offer struct {
	signer ssh.Signer
	cert   *ssh.Certificate // nil: the key alone
}

// Login is what one login has to offer, for one connection to a server, or for several one after another until one is let in.
// It is used by one goroutine at a time.
type Login struct {
	keys    *Keys
	offers  []offer
	tried   int      // offers that the server was asked about
	wants   []string // methods that the server wanted in place of a key, or after it took one
	omitted int      // that there was no room for
	notes   []string // about certificates that were passed over
	mute    error    // why the agent did not sign with a key that the server takes; nil: it was not asked to, or did
	close   func()   // ends the connection to the agent
}

// Begin returns ssh.ClientConfig's AuthCallback for the next connection (publickey, RFC 4252, section 7). It offers one key
// after the other, from the first on, so that an agent that does not sign with one costs no more than that.
func (l *Login) Begin() func(*ssh.ClientAuthContext) (ssh.AuthMethod, error) {
	l.tried, l.wants, l.mute = 0, nil, nil
	return l.method
}

// Accepted notes that the server let the last connection in, and returns the fingerprint of the key that did it (Keys.ID).
func (l *Login) Accepted() string {
	if l.tried > 0 {
		l.keys.worked(l.offers[l.tried-1])
	}
	return l.keys.ID()
}

// Close ends the connection to the agent, if there is one.
func (l *Login) Close() { l.close() }

func (l *Login) method(ctx *ssh.ClientAuthContext) (ssh.AuthMethod, error) {
	if !slices.Contains(ctx.AllowedMethods, "publickey") {
		if l.tried == 0 || len(ctx.PartialSuccessMethods) > 0 {
			l.wants = ctx.AllowedMethods
		}
		return nil, nil
	}
	if l.tried == len(l.offers) {
		if len(ctx.PartialSuccessMethods) > 0 { // a further key, after one that it took
			l.wants = ctx.AllowedMethods
		}
		return nil, nil
	}
	l.tried++
	return ssh.PublicKeys(l.offers[l.tried-1].signer), nil
}

// Unsigned reports whether the server has said that it takes a key, and the agent did not sign with it.
func (l *Login) Unsigned() bool { return l.mute != nil }

// public returns the lines for authorized_keys of the keys that were offered.
func (l *Login) public() (lines []string) {
	for _, o := range l.offers[:l.tried] {
		key, _, err := base(o.signer.PublicKey())
		if err != nil {
			continue
		}
		line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
		if !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return lines
}

// Refused is the error for a connection that the server let in with none of the offers; err is x/crypto's, and
// banner what the server said meanwhile (RFC 4252, section 5.4), "": nothing. It is a *fault.Error of class fault.ErrAuth, and
// permanent, but where an agent does not sign after a key has worked before. How many more there were is said, since the right one may
// be among them.
func (l *Login) Refused(user, addr, banner string, err error) error {
	if l.mute != nil { // a signature is asked for when the server has said that the key will do (RFC 4252, section 7)
		return fault.NotSigned(user, addr, banner, l.mute, !l.keys.hasWorked(), l.notes...)
	}
	if l.wants != nil {
		return fault.KeysNotEnough(user, addr, banner, l.wants)
	}
	var notes []string
	if n := len(l.offers) - l.tried + l.omitted; n > 0 {
		notes = append(notes, fmt.Sprintf("%d tries of at most %d were made, %d more keys were not offered", l.tried, maxOffers, n))
	}
	e := fault.LoginRefused(user, addr, banner, l.public(), err, append(notes, l.notes...)...)
	if len(notes) > 0 {
		e.Hint = "name the right key: {key}, or IdentityFile in ~/.ssh/config. If it was offered, " + e.Hint
	}
	return e
}

// candidate is a key with everything that is known of it.
type candidate struct {
	name   string
	public ssh.PublicKey
	signer ssh.Signer // nil: only a certificate is at hand
	certs  []offer
}

// candidates are in the order in which they are offered.
type candidates []*candidate

func (c *candidates) of(key ssh.PublicKey, name string) *candidate {
	for _, have := range *c {
		if sameKey(have.public, key) {
			return have
		}
	}
	*c = append(*c, &candidate{name: name, public: key})
	return (*c)[len(*c)-1]
}

// certified adds a certificate, once.
func (c *candidate) certified(cert *ssh.Certificate, signer ssh.Signer) {
	if !slices.ContainsFunc(c.certs, func(o offer) bool { return sameKey(o.cert, cert) }) {
		c.certs = append(c.certs, offer{signer, cert})
	}
}

// Login reads the files again, asks the agent and decides what is offered, in this order: keys that
// were named (Key, Files), then other keys of the agent, those first of which there is a default
// file, then default files; of each key its certificates first; five in all. An agent that is dead or
// hangs is passed over, after a second or when ctx ends. The caller closes the Login.
//
// Errors are a *fault.Error: of class fault.ErrConfig where there is no key to offer, fault.ErrAuth where its
// certificate has expired, fault.ErrLimit where no file can be opened. The first two are permanent until one of the keys
// has logged in, for it may come back.
func (k *Keys) Login(ctx context.Context) (*Login, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	named := k.src.Key != "" || k.src.Files != nil
	l := &Login{keys: k, close: func() {}}
	held, silent := k.ask(ctx, l)
	files, problems := k.read()
	if errors.Is(silent, fault.ErrLimit) {
		problems = append(problems, silent)
	}
	var order candidates
	if named {
		order = files
	} else {
		for _, f := range files {
			if slices.ContainsFunc(held, func(h *candidate) bool { return sameKey(h.public, f.public) }) {
				order = append(order, f)
			}
		}
	}
	for _, h := range held {
		at := slices.IndexFunc(files, func(f *candidate) bool { return sameKey(f.public, h.public) })
		if at < 0 && (k.src.IdentitiesOnly || k.src.Key != "") {
			continue
		}
		c := order.of(h.public, h.name)
		if c.signer == nil {
			c.signer = h.signer
		}
		for _, o := range h.certs {
			c.certified(o.cert, o.signer)
		}
	}
	for _, f := range files {
		if !slices.Contains(order, f) {
			order = append(order, f)
		}
	}
	k.certificates(order)
	expired := k.choose(l, order, time.Now())
	if len(l.offers) > 0 {
		return l, nil
	}
	l.close()
	if expired == nil {
		expired = k.nothing(problems)
	}
	expired.Permanent = !k.proven && !errors.Is(expired, fault.ErrLimit) // a file or an agent that was there before may come back
	return nil, expired
}

// ask returns what the agent holds, and why that is not known.
func (k *Keys) ask(ctx context.Context, l *Login) (held candidates, silent error) {
	if k.src.Agent == "" {
		return nil, nil
	}
	signers, closer, err := agentKeys(ctx, k.src.Agent, func(err error) { l.mute = err })
	if err != nil {
		k.src.Log.Debug("the ssh-agent is passed over", "socket", fault.Quote(userfile.Expand(k.src.Agent)), "reason", fault.Reason(err).Error())
		return nil, fault.Config("start it, or pass {key}", "the ssh-agent cannot be asked: %w", fault.Reason(err))
	}
	l.close = closer
	for _, s := range signers {
		key, cert, err := base(s.PublicKey())
		if err != nil {
			continue
		}
		c := held.of(key, "a key of the ssh-agent")
		if cert == nil {
			c.signer = s
		} else if cert.CertType == ssh.UserCert {
			c.certified(cert, s)
		}
	}
	return held, nil
}

// read reads the files again; what cannot be used now but could before is used as it was.
func (k *Keys) read() (files candidates, problems []error) {
	for _, f := range k.files {
		err := f.read(k.src.Passphrase, k.src.Log)
		absent := !f.required && errors.Is(err, os.ErrNotExist)
		if err != nil && f.signer != nil {
			k.once("kept "+f.name, func() {
				k.src.Log.Warn("a key cannot be read again; it is used as it was", "file", fault.Quote(userfile.Expand(f.path)), "reason", err.Error())
			})
		} else if err != nil && !absent {
			problems = append(problems, err)
		}
		if f.public == nil {
			continue
		}
		c := files.of(f.public, f.name)
		if c.signer == nil {
			c.signer = f.signer
		}
		if f.cert != nil {
			c.certified(f.cert, nil)
		}
	}
	return files, problems
}

// certificates adds those of the source's own list to the keys that they are for.
func (k *Keys) certificates(order candidates) {
	for _, path := range k.src.Certificates {
		cert, err := readCert(path)
		if err != nil {
			k.once("unread "+path, func() {
				k.src.Log.Warn("a certificate is passed over", "file", fault.Quote(userfile.Expand(path)), "reason", err.Error())
			})
			continue
		}
		for _, c := range order {
			if sameKey(c.public, cert.Key) {
				c.certified(cert, nil)
			}
		}
	}
}

// choose fills in the offers. A certificate that has expired is not offered, its key alone is,
// unless the server took the certificate before: then the key would only cost a try. It returns
// an error for the case that nothing is left because of that.
func (k *Keys) choose(l *Login, order candidates, now time.Time) (expired *fault.Error) {
	var all []offer
	for _, c := range order {
		stale := false
		for _, o := range c.certs {
			if err := certStands(o.cert, now); err != nil {
				stale = true
				l.notes = append(l.notes, "certificate "+err.Error())
				expired = fault.Certificate(c.name, err)
				continue
			}
			if o.signer == nil && c.signer != nil {
				o.signer, _ = certSigner(o.cert, c.signer)
			}
			if o.signer != nil {
				all = append(all, o)
				k.warn(c.name, o.cert, now)
			}
		}
		if c.signer != nil && !(stale && k.certified) {
			all = append(all, offer{signer: c.signer})
		}
	}
	l.offers = all[:min(len(all), maxOffers)]
	l.omitted = len(all) - len(l.offers)
	if expired != nil && len(all) > 0 {
		k.once(expired.Error(), func() { k.src.Log.Warn(expired.Error(), "hint", expired.Hint) })
	}
	return expired
}

// warn tells of a certificate that is about to expire, once of each.
func (k *Keys) warn(name string, cert *ssh.Certificate, now time.Time) {
	if end := certEnd(cert); !end.IsZero() && end.Sub(now) < certSoon {
		k.once(fmt.Sprint("soon ", cert.Serial, end), func() {
			k.src.Log.Warn("the certificate of "+name+" expires soon; its file is read again at each login", "expires", moment(end))
		})
	}
}

func (k *Keys) once(what string, f func()) {
	if !k.told[what] {
		k.told[what] = true
		f()
	}
}

// nothing is why there is no key to offer.
func (k *Keys) nothing(problems []error) *fault.Error {
	for _, p := range problems {
		if errors.Is(p, fault.ErrLimit) { // whether there is a key is not known
			return fault.From(p)
		}
	}
	if len(problems) > 0 {
		if k.src.Key != "" {
			return fault.From(problems[0])
		}
		var texts []string
		for _, p := range problems {
			if e, ok := errors.AsType[*fault.Error](p); ok {
				p = e.Err
			}
			texts = append(texts, p.Error())
		}
		return fault.Config("pass {key} (and {key_passphrase})", "no usable key: %s", strings.Join(texts, "; "))
	}
	where := "~/.ssh/" + strings.Join(defaultKeys, ", ~/.ssh/")
	if k.src.Files != nil {
		where = strings.Join(k.src.Files, ", ")
	}
	if where == "" {
		where = "IdentityFile in ssh's configuration that can be used here: its tokens and variables have to be known (the log names them)"
	}
	if k.src.Agent != "" {
		where += ", nor a key in the ssh-agent"
	}
	return fault.Config("pass {key} (a path or the key's text), or make one: ssh-keygen -t ed25519",
		"no private key: none was given and there is no %s", where)
}
