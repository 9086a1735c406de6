// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attacks

import (
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/security.md anew")

const document = "../../../docs/security.md"

// TestAttacks tries everything that docs/security.md says was tried, on a proxy as it is rendered, and holds the page
// to it: the attacks and their answers, and with the same OpenSSH and nginx the lines of their logs.
func TestAttacks(t *testing.T) {
	a := newScene(t, func(_, text string) string { return text })
	page := intro(t)
	for _, group := range a.everything() {
		page += fmt.Sprintf("\n## %s\n\n%s\n\n| tried | answer | logged |\n|---|---|---|\n", group.title, a.normal(group.about))
		for _, r := range group.rows {
			proof, refused := a.try(r)
			if !refused {
				t.Errorf("%s: %s: it is not refused: %s\n%s", group.title, r.tried, proof, a.since())
			}
			if proof = "`" + clip(a.normal(proof)) + "`"; r.log == "" {
				proof = "the kernel: " + proof
			}
			page += fmt.Sprintf("| %s | %s | %s |\n", cell(a.normal(r.tried)), cell(a.normal(r.got)), cell(proof))
		}
	}
	page += leftOver
	a.unharmed()
	if t.Failed() {
		return
	}
	if *update {
		must(t, os.WriteFile(document, []byte(page), 0o644))
	}
	text, err := os.ReadFile(document)
	must(t, err)
	committed := string(text)
	if versions(committed) != versions(page) {
		committed, page = withoutLogs(committed), withoutLogs(page)
	}
	for _, side := range []struct{ sign, these, those string }{{"-", committed, page}, {"+", page, committed}} {
		for line := range strings.Lines(side.these) {
			if !strings.Contains(side.those, line) {
				t.Errorf("docs/security.md differs; look at it, then: go test ./pkg/proxyhost/attacks -run TestAttacks -update\n%s%s", side.sign, line)
			}
		}
	}
}

func (a *scene) everything() []attacks {
	return []attacks{a.loginAttacks(), a.sessionAttacks(), a.fileAttacks(), a.outAttacks(), a.listenAttacks(), a.tenantAttacks(), a.staleAttacks(), a.visitorAttacks(), a.excesses()}
}

func intro(t testing.TB) string {
	ssh, _ := exec.Command(client(t, "ssh"), "-V").CombinedOutput()
	web, err := exec.LookPath("nginx")
	if err != nil {
		web = "/usr/sbin/nginx"
	}
	nginx, _ := exec.Command(web, "-v").CombinedOutput()
	openssh, _, _ := strings.Cut(string(ssh), ",")
	_, engine, _ := strings.Cut(strings.TrimSpace(string(nginx)), "nginx version: ")
	return fmt.Sprintf(introText, openssh, engine)
}

// versions is the line that says what was attacked.
func versions(page string) string {
	_, rest, _ := strings.Cut(page, "\nTried on ")
	line, _, _ := strings.Cut(rest, "\n")
	return line
}

// withoutLogs leaves out what other versions of OpenSSH and nginx say otherwise.
func withoutLogs(page string) string {
	page = strings.Replace(page, versions(page), "", 1)
	return regexp.MustCompile("(?m)^(\\|.*\\|.*\\|) `.*` \\|$").ReplaceAllString(page, "$1")
}

func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

func clip(text string) string {
	const most = 150
	if short := []rune(text); len(short) > most {
		return string(short[:most]) + "…"
	}
	return text
}

// normal has a line be the same at each run, as on a machine whose tenants are "tenant" and "neighbour".
func (a *scene) normal(line string) string {
	_, sshd, _ := net.SplitHostPort(a.Addr())
	_, stranger, _ := net.SplitHostPort(a.stranger)
	outside := filepath.Join(os.TempDir(), filepath.Base(a.Layout.Run)+".sock")
	line = strings.NewReplacer(outside, "/tmp/x.sock", a.Layout.Etc, "/etc/taipy-tunnel", a.Layout.Run, "/run/taipy-tunnel").Replace(line)
	for _, c := range [][2]string{
		{`^<\d+>\w+ +\d+ [\d:]+ `, ""}, // of syslog
		{`internal-sftp\[\d+\]`, "internal-sftp"},
		{`(from|originator) 127\.0\.0\.1 port \d+`, "$1 127.0.0.1 port …"},
		{`SHA256:[A-Za-z0-9+/]{43}`, "SHA256:…"},
		{`\[\d{4}-[^\]]*\]`, "[…]"},
		{`" (\d{3}) \d+ [\d.]+ `, `" $1 … `},
		{` id=[0-9a-f]{32}`, " id=…"},
		{`board\.\d\.sock`, "board.0.sock"}, // of four
		{`process \d+`, "process …"},
		{`x{20,}`, "xxx…"},
		{fmt.Sprintf(`\b%d\b`, a.Check()), "20000"}, {fmt.Sprintf(`\b%d\b`, a.others), "20001"},
		{`\b` + sshd + `\b`, "22"}, {`\b` + stranger + `\b`, "9000"}, {fmt.Sprintf(`\b%d\b`, a.HTTP), "80"}, {fmt.Sprintf(`\b%d\b`, a.status), "8090"},
		{`\b` + a.User + `\b`, "tenant"}, {`\b` + neighbour + `\b`, "neighbour"},
	} {
		line = regexp.MustCompile(c[0]).ReplaceAllString(line, c[1])
	}
	return line
}

const introText = `# What a thief gets

For the admin of a prepared proxy. Each row is an attack that a test makes on a proxy as
` + "`taipy-tunnel proxy render`" + ` makes it: a real sshd with the rendered drop-in, a real nginx with the rendered
site. The thief has a tenant's private key, or an account of the machine, or is a visitor. A row says what was tried
(a command is OpenSSH's own client; else it is one that sends what it is told), what came back, and the line of sshd's or
nginx's log that was written meanwhile. The test writes this page:

    go test ./pkg/proxyhost/attacks -run TestAttacks           tries all, as root, and compares with this page
    go test ./pkg/proxyhost/attacks -run TestAttacks -update   writes it
    go test ./pkg/proxyhost/attacks -run TestDefences          leaves out one defence after another, and sees an attack succeed
    ./build.sh roots                                           tries all, among others, with the programs of fresh Debian 12 and 13 roots

Tried on %s and %s.

Lines that begin with ` + "`debug`" + ` sshd writes with ` + "`LogLevel DEBUG3`" + ` only, where VERBOSE is rendered; those of ` + "`internal-sftp`" + ` it
writes with ` + "`-l VERBOSE`" + ` and a syslog socket in the tenant's directory. That is all that is not as rendered. The machine's ports
are written as 22, 80, 8090 (the status page) and 20000 (the tenant's check port), its accounts as ` + "`tenant`" + ` and ` + "`neighbour`" + `.
`

const leftOver = `
## What is left over

- **The tenant's own names.** Whoever has its key takes its slots, as any new ` + "`expose()`" + ` does, and shows visitors what he likes
  there. The owner's tunnel goes to state ` + "`replaced`" + ` within 10 s and says so. Take the key out and run the script: it ends the links.
- **Sockets of any name in ` + "`/s`" + `**, up to 8192 open files a link and 400 processes: sshd has no list of permitted sockets. Their files
  stay when the link ends, each an inode of ` + "`/run`" + `, so that a thief with time can use these up. (An age in tmpfiles.d is no remedy: it tells
  sockets in use by their path, which is another one in a chroot.) ` + "`ls /run/taipy-tunnel/*/s | wc -l`" + ` tells.
- **Lines of sshd's log.** A socket's name may hold a line feed. By syslog sshd writes it escaped; with ` + "`sshd -e`" + `, as nobody should run it, not.
- **Many links** at once: sshd's ` + "`MaxStartups`" + ` and (from 9.8) ` + "`PerSourcePenalties`" + ` are the machine's, and the limit of processes counts them.
- **Reading what is in the tenant's own directory**: ` + "`/proxy.json`" + `, and the names of its sockets. Neither is a secret; the first is readable by all accounts.
- **Programs of nginx's group** (` + "`www-data`" + `) reach all slots. The tunnel asks their visitors for the token all the same; an app with ` + "`raw=True`" + ` does not.
- **Apps below one host** (` + "`/a/` and `/b/`" + `) can act for each other's visitors; a host belongs to one tenant. Hosts below one domain can set cookies
  for all of it (` + "`Domain=`" + `), as free names of several tenants can for their domain: give tenants domains of their own where that matters.
- **The question ` + "`/.well-known/taipy-tunnel`" + `** is answered without ` + "`access`" + `: an app with ` + "`raw=True`" + ` sees it from anybody. The check
  port passes it to each slot by itself, and any account of the machine may connect there.
- **Other headers of visitors** than those above reach the app. It must believe none but ` + "`X-Forwarded-*` and `X-Real-IP`" + `.
- **Large requests.** Over HTTP/2 a body whose length is not told is kept on disk while it comes, up to 1 GB a request.
  One address may have 4000 connections.
- **A removed key's links** end when the script has run, not before: ` + "`./build.sh roots`" + ` shows that they do.
- **A silent link of the thief's** is ended as anybody's, and its end a line of the journal. The program that does it is root's and looks
  twice a second, which takes about 1 % of a processor, however many links there are that nothing is amiss with.
- **The machine's other services** are not ours: a default server of nginx that is not ours gets names that are nobody's.
`
