// SPDX-License-Identifier: Apache-2.0

//go:build faults

package faulttest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// network is the way between the notebook and the proxy's sshd, in a namespace that is ours alone (build.sh). What nft
// drops nobody is told of: neither end's kernel gets an acknowledgement.
type network struct {
	t    testing.TB
	port int // sshd's
}

func newNetwork(t testing.TB, port int) *network {
	n := &network{t, port}
	n.nft("add table inet faults",
		"add counter inet faults dropped",
		"add set inet faults dead { type inet_service; }",
		"add chain inet faults way { type filter hook input priority 0; }",
		fmt.Sprintf("add rule inet faults way tcp dport %d tcp sport @dead counter name dropped drop", port),
		fmt.Sprintf("add rule inet faults way tcp sport %d tcp dport @dead counter name dropped drop", port),
		"add chain inet faults blocked { type filter hook input priority 1; }")
	t.Cleanup(func() { n.nft("delete table inet faults"); n.sources("127.0.0.1") })
	return n
}

// silence has these connections carry nothing more; new ones pass.
func (n *network) silence(links []link) {
	for _, l := range links {
		n.nft(fmt.Sprintf("add element inet faults dead { %d }", l.port))
	}
}

// recall undoes silence.
func (n *network) recall() { n.nft("flush set inet faults dead") }

// block has nothing pass, or answers with what is said: "drop", "reject with icmp type host-unreachable".
func (n *network) block(verdict string) {
	n.nft(fmt.Sprintf("add rule inet faults blocked tcp dport %d counter name dropped %s", n.port, verdict),
		fmt.Sprintf("add rule inet faults blocked tcp sport %d counter name dropped drop", n.port))
}

func (n *network) open() { n.nft("flush chain inet faults blocked") }

// dropped is what the kernel counted, "" if that is nothing.
func (n *network) dropped() string {
	m := regexp.MustCompile(`packets (\d+)`).FindStringSubmatch(n.run("nft", "list", "counter", "inet", "faults", "dropped"))
	if m == nil || m[1] == "0" {
		return ""
	}
	return fmt.Sprintf("nft: counter dropped packets %s", m[1])
}

// reset ends connections as a firewall does that sends both ends a reset.
func (n *network) reset(links []link) {
	for _, l := range links {
		n.run("ss", "-K", "state", "established", fmt.Sprintf("( sport = :%d and dport = :%d )", n.port, l.port))
	}
}

// sources has new connections come from another address of this machine.
func (n *network) sources(addr string) {
	n.run("ip", "route", "replace", "local", "127.0.0.1", "dev", "lo", "table", "local", "proto", "kernel", "scope", "host", "src", addr)
}

// link is an SSH connection: the client's port, and the processes of sshd that hold the other end.
type link struct {
	port int
	pids []int
}

var holder = regexp.MustCompile(`pid=(\d+)`)

// links are those that are up at both ends, for sshd has some whose client is long gone; the one that listens on a
// port comes first.
func (n *network) links(listens int) (all []link) {
	alive := map[string]bool{}
	for line := range strings.Lines(n.run("ss", "-Htn", "state", "established", fmt.Sprintf("( dport = :%d )", n.port))) {
		alive[strings.Fields(line)[2]] = true
	}
	for line := range strings.Lines(n.run("ss", "-Htnp", "state", "established", fmt.Sprintf("( sport = :%d )", n.port))) {
		client := strings.Fields(line)[3]
		_, port, _ := strings.Cut(client, ":")
		number, err := strconv.Atoi(port)
		must(n.t, err)
		if alive[client] {
			all = append(all, link{number, pidsOf(line)})
		}
	}
	serving := pidsOf(n.run("ss", "-Htlnp", fmt.Sprintf("( sport = :%d )", listens)))
	slices.SortStableFunc(all, func(a, b link) int { return b.holds(serving) - a.holds(serving) })
	return all
}

func (l link) holds(serving []int) int {
	if slices.ContainsFunc(l.pids, func(pid int) bool { return slices.Contains(serving, pid) }) {
		return 1
	}
	return 0
}

func pidsOf(text string) (pids []int) {
	for _, m := range holder.FindAllStringSubmatch(text, -1) {
		pid, _ := strconv.Atoi(m[1])
		pids = append(pids, pid)
	}
	return pids
}

func (n *network) nft(lines ...string) {
	n.t.Helper()
	n.run("nft", strings.Join(lines, "; "))
}

func (n *network) run(name string, args ...string) string {
	n.t.Helper()
	said, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		n.t.Fatalf("%s %q: %v %s", name, args, err, said)
	}
	return string(said)
}

// named are the processes with a name. All that we see are ours, for build.sh gives us a namespace of process numbers.
func named(names ...string) (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, path := range all {
		name, _ := os.ReadFile(path)
		if slices.Contains(names, strings.TrimSpace(string(name))) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}

func signal(pids []int, s syscall.Signal) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, s)
	}
}
