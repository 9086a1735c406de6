// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// kin is how near a process is to this one.
type kin int

const (
	itself kin = iota
	below      // this process, or one that it has started, has started it
	other
)

// listener is a socket that takes connections.
type listener struct {
	inode   string
	target  string // as Near.Addr
	dial    string
	port    int
	pid     int
	program string
	kin     kin
}

// interpreters are the programs of which other processes' sockets are asked: what else a user runs (databases, agents,
// an sshd) is no app of theirs.
var interpreters = []string{"python", "pypy", "node", "bun", "deno", "ruby", "R", "julia", "php", "dotnet"}

// debugger is an argument of debugpy's adapter, which a debugger's client talks to, or of pydevd.
var debugger = regexp.MustCompile(`(^|/)debugpy[./]adapter|(^|/)pydevd(\.py)?$`)

// listeners returns the sockets of this user's processes that may be an app's, the nearest first. of is a process: all sockets of that and of
// those that it has started; 0: there is none.
func listeners(never []int, of int) (found []listener) {
	open := map[string]listener{}
	me := strconv.Itoa(os.Geteuid())
	for _, table := range []string{"tcp", "tcp6"} {
		text, _ := os.ReadFile("/proc/self/net/" + table)
		for line := range strings.Lines(string(text)) {
			if l, ok := listening(strings.Fields(line), me); ok && !slices.Contains(never, l.port) {
				open[l.inode] = l
			}
		}
	}
	if len(open) == 0 {
		return nil
	}
	processes := all()
	var kernels []int
	for _, p := range processes {
		if of != 0 {
			p.hidden = !p.isOf(of, processes) || slices.ContainsFunc(p.args, debugger.MatchString)
			continue
		}
		ports, known := p.kernelPorts()
		if kernels = append(kernels, ports...); !known || !p.mayBeApp(p.kin(processes)) {
			p.hidden = true
		}
	}
	for pid, p := range processes {
		if p.hidden {
			continue
		}
		near := p.kin(processes)
		for inode := range p.sockets() {
			l, is := open[inode]
			if !is || slices.Contains(kernels, l.port) {
				continue
			}
			l.pid, l.program, l.kin = pid, p.program, near
			found = append(found, l)
		}
	}
	slices.SortFunc(found, func(a, b listener) int {
		return cmp.Or(cmp.Compare(a.kin, b.kin), cmp.Compare(a.port, b.port), cmp.Compare(a.pid, b.pid))
	})
	return slices.CompactFunc(found, func(a, b listener) bool { return a.inode == b.inode }) // forked processes share it
}

// listening reads a row of /proc/net/tcp (proc(5)): one of this user's sockets that listen.
func listening(row []string, user string) (l listener, ok bool) {
	if len(row) < 10 || row[3] != "0A" || row[7] != user {
		return l, false
	}
	host, port, _ := strings.Cut(row[1], ":")
	raw, err := hex.DecodeString(host)
	n, perr := strconv.ParseUint(port, 16, 16)
	if err != nil || perr != nil {
		return l, false
	}
	for word := range slices.Chunk(raw, 4) { // in the machine's order of bytes, which is little-endian where notebooks run
		slices.Reverse(word)
	}
	addr, ok := netip.AddrFromSlice(raw)
	if !ok {
		return l, false
	}
	addr = addr.Unmap()
	l = listener{inode: row[9], port: int(n), target: net.JoinHostPort(addr.String(), strconv.Itoa(int(n)))}
	l.dial = l.target
	switch {
	case addr == netip.IPv6Unspecified():
		l.dial = net.JoinHostPort("::1", strconv.Itoa(l.port))
	case addr.IsUnspecified():
		l.dial = net.JoinHostPort("127.0.0.1", strconv.Itoa(l.port))
	}
	if addr.IsUnspecified() || addr.String() == "127.0.0.1" || addr == netip.IPv6Loopback() {
		l.target = net.JoinHostPort("localhost", strconv.Itoa(l.port))
	}
	return l, true
}

// process is one of this user's.
type process struct {
	pid, parent int
	program     string // the base name of what runs
	args        []string
	hidden      bool
}

// all are this user's processes.
func all() map[int]*process {
	found := map[int]*process{}
	me := strconv.Itoa(os.Geteuid())
	dirs, _ := os.ReadDir("/proc")
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		status, _ := os.ReadFile("/proc/" + d.Name() + "/status")
		p := &process{pid: pid}
		user := ""
		for line := range strings.Lines(string(status)) {
			name, value, _ := strings.Cut(line, ":")
			switch fields := strings.Fields(value); {
			case len(fields) == 0:
			case name == "PPid":
				p.parent, _ = strconv.Atoi(fields[0])
			case name == "Uid" && len(fields) > 1:
				user = fields[1] // the effective one
			}
		}
		if user != me {
			continue
		}
		exe, _ := os.Readlink("/proc/" + d.Name() + "/exe")
		p.program = strings.TrimSuffix(filepath.Base(exe), " (deleted)")
		line, _ := os.ReadFile("/proc/" + d.Name() + "/cmdline")
		p.args = strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
		found[pid] = p
	}
	return found
}

func (p *process) kin(all map[int]*process) kin {
	me := os.Getpid()
	if p.pid == me {
		return itself
	}
	if p.isOf(me, all) {
		return below
	}
	return other
}

// isOf reports whether a process is another one, or that one has started it.
func (p *process) isOf(pid int, all map[int]*process) bool {
	for up, steps := p, 0; up != nil && steps < 100; up, steps = all[up.parent], steps+1 {
		if up.pid == pid || up.parent == pid {
			return true
		}
	}
	return false
}

// mayBeApp reports whether what a process listens on may be a web app of this user.
func (p *process) mayBeApp(near kin) bool {
	if near == itself {
		return true
	}
	if p.program == "java" { // Spark's and Py4J's
		return false
	}
	for i, arg := range p.args {
		name := filepath.Base(arg)
		if debugger.MatchString(arg) || strings.HasPrefix(arg, "pyspark.") || i < 3 && (strings.HasPrefix(name, "jupyter") || strings.HasPrefix(name, "pylsp")) {
			return false
		}
	}
	return near == below || slices.ContainsFunc(interpreters, func(name string) bool { return strings.HasPrefix(p.program, name) })
}

// kernelPorts are those of a Jupyter kernel, by its connection file (jupyter_client, "Connection files"), which kernels
// name in ways of their own: -f FILE (Python), --args FILE (R), --conn FILE (Deno), FILE (Julia). It is false if the
// process is a kernel of which they are not known.
func (p *process) kernelPorts() (ports []int, known bool) {
	known = p.pid == os.Getpid() || !slices.ContainsFunc(p.args, func(arg string) bool { return strings.Contains(arg, "ipykernel") })
	for _, arg := range p.args {
		if _, value, is := strings.Cut(arg, "="); is {
			arg = value
		}
		if !strings.HasSuffix(arg, ".json") {
			continue
		}
		var connection map[string]any
		path := p.file(arg)
		if st, err := os.Stat(path); err != nil || !st.Mode().IsRegular() { // to open a FIFO may take for ever
			continue
		}
		file, err := os.Open(path)
		if err != nil {
			continue
		}
		err = json.NewDecoder(io.LimitReader(file, 1<<16)).Decode(&connection)
		_ = file.Close()
		if err != nil {
			continue
		}
		for name, value := range connection {
			if port, ok := value.(float64); ok && strings.HasSuffix(name, "_port") {
				ports, known = append(ports, int(port)), true
			}
		}
	}
	return ports, known
}

// file is the path of a file as the process has it, be it in a directory or a container of its own.
func (p *process) file(path string) string {
	at := "/proc/" + strconv.Itoa(p.pid)
	if filepath.IsAbs(path) {
		return at + "/root" + path
	}
	return at + "/cwd/" + path
}

// sockets are the inodes of the process's sockets.
func (p *process) sockets() map[string]bool {
	found := map[string]bool{}
	dir := "/proc/" + strconv.Itoa(p.pid) + "/fd"
	descriptors, _ := os.ReadDir(dir)
	for _, d := range descriptors {
		to, _ := os.Readlink(dir + "/" + d.Name())
		if inode, is := strings.CutPrefix(to, "socket:["); is {
			found[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return found
}
