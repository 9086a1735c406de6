// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshdtest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Children returns the processes that handle connections: all descendants of the server.
func (s *Server) Children() []int { return descendants(s.pid()) }

// KillLinks kills every process that handles a connection, as a proxy that loses them would, and
// returns when none of them has a socket any more. The server itself goes on.
func (s *Server) KillLinks() {
	for _, pid := range freeze(s.pid()) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// KillLink kills the processes that handle one connection, that of the lowest number, and reports
// whether there was one.
func (s *Server) KillLink() bool {
	links := children(s.pid())
	if len(links) == 0 {
		return false
	}
	killTree(slices.Min(links))
	return true
}

// Listener returns the process that takes new connections, 0 if there is none.
func (s *Server) Listener() int { return max(0, s.pid()) }

// Links returns the first process of each connection, in no order.
func (s *Server) Links() []int { return children(s.pid()) }

// EndLinks kills the processes that handle these connections.
func (s *Server) EndLinks(links []int) {
	for _, pid := range links {
		killTree(pid)
	}
}

// StopLinks lets every process that handles a connection say nothing more: their kernel still
// acknowledges what it has room for, and that is all.
func (s *Server) StopLinks() { freeze(s.pid()) }

// ContinueLinks undoes StopLinks.
func (s *Server) ContinueLinks() {
	for _, pid := range s.Children() {
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
}

// Slots returns the ports of 127.0.0.1 on which processes of connections listen.
func (s *Server) Slots() []int { return listening(s.Children()...) }

// AllListen reports whether each connection has a unix socket at which it listens (proc(5), /proc/net/unix: the flag SO_ACCEPTCON
// in the fourth field, the inode in the seventh).
func (s *Server) AllListen() bool {
	listens := map[string]bool{}
	text, _ := os.ReadFile("/proc/net/unix")
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 7 && fields[3] == "00010000" {
			listens["socket:["+fields[6]+"]"] = true
		}
	}
	for _, link := range s.Links() {
		if !slices.ContainsFunc(append(descendants(link), link), func(pid int) bool {
			return slices.ContainsFunc(sockets(pid), func(name string) bool { return listens[name] })
		}) {
			return false
		}
	}
	return true
}

// sessions returns what runs in sessions of this server, orphans too, by the variable SSH_CONNECTION (ssh(1)), which ends with the server's port.
func (s *Server) sessions() (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range all {
		text, _ := os.ReadFile(path)
		for variable := range strings.SplitSeq(string(text), "\x00") {
			if strings.HasPrefix(variable, "SSH_CONNECTION=") && strings.HasSuffix(variable, fmt.Sprint(" ", s.Port)) {
				pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// HoldsPort reports whether one of them listens on the port.
func (s *Server) HoldsPort(port int) bool { return slices.Contains(s.Slots(), port) }

// FreePort returns a port of 127.0.0.1 on which nobody listens, for a slot.
func (s *Server) FreePort() int { return FreePort() }

func (s *Server) pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return -1
	}
	return s.cmd.Process.Pid
}

// Ports for tests lie below those that the kernel hands out itself (ip(7), ip_local_port_range): any connection of this
// machine could take one of those before it is used. Tests of several processes run at the same time, and a port is free
// to all of them until it is bound: so each process has ports of its own.
const (
	firstPort = 12000
	portsEach = 600
	processes = 30
)

var ports struct {
	sync.Mutex
	first, given int
	claim        net.Listener
}

func init() { ports.first, ports.claim = claimPorts() } // early: what a test opens it must close

// claimPorts returns the first of portsEach ports that no other process has while the listener is open. Its address is
// in the abstract namespace (unix(7)), so that nothing is left of a process that dies. If there are too many processes
// it is nil, and the ports are anyone's.
func claimPorts() (first int, claim net.Listener) {
	for _, n := range rand.Perm(processes) {
		first = firstPort + n*portsEach
		if claim, err := net.Listen("unix", fmt.Sprintf("@taipy-tunnel-test-ports-%d", first)); err == nil {
			return first, claim
		}
	}
	return first, nil
}

// FreePort returns a port of 127.0.0.1 on which nobody listens. Each is given out once in portsEach times, since several
// servers may be about to use theirs.
func FreePort() int {
	ports.Lock()
	defer ports.Unlock()
	for {
		port := ports.first + ports.given%portsEach
		ports.given++
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		_ = l.Close()
		return port
	}
}

// killTree kills a process and its descendants.
func killTree(pid int) {
	_ = syscall.Kill(pid, syscall.SIGSTOP) // it forks no more
	for _, child := range freeze(pid) {
		_ = syscall.Kill(child, syscall.SIGKILL)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
}

// children returns the processes directly below pid.
func children(pid int) (below []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, stat := range stats {
		if self, parent, state := process(stat); parent == pid && state != "" && state != "Z" {
			below = append(below, self)
		}
	}
	return below
}

// freeze stops the descendants of a process, those that came meanwhile included: what is
// stopped cannot fork. It returns them, the youngest generation last.
func freeze(pid int) (stopped []int) {
	for {
		found := false
		for _, child := range descendants(pid) {
			if !slices.Contains(stopped, child) {
				found = true
				stopped = append(stopped, child)
				_ = syscall.Kill(child, syscall.SIGSTOP)
			}
		}
		if !found {
			return stopped
		}
	}
}

// descendants returns the processes below pid, by /proc; none where there is no /proc.
func descendants(pid int) (below []int) {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, stat := range stats {
		if self, parent, state := process(stat); state != "" && state != "Z" {
			children[parent] = append(children[parent], self)
		}
	}
	next := children[pid]
	for len(next) > 0 {
		below = append(below, next...)
		var after []int
		for _, p := range next {
			after = append(after, children[p]...)
		}
		next = after
	}
	return below
}

// process reads proc(5)'s stat: "pid (name) state ppid …", where the name may hold anything.
func process(stat string) (pid, parent int, state string) {
	b, err := os.ReadFile(stat)
	if err != nil {
		return 0, 0, ""
	}
	text := string(b)
	rest := strings.Fields(text[strings.LastIndex(text, ")")+1:])
	if len(rest) < 2 {
		return 0, 0, ""
	}
	pid, _ = strconv.Atoi(strings.Fields(text)[0])
	parent, _ = strconv.Atoi(rest[1])
	return pid, parent, rest[0]
}

func zombie(pid int) bool {
	_, _, state := process(fmt.Sprintf("/proc/%d/stat", pid))
	return state == "" || state == "Z"
}

// listening returns the ports of 127.0.0.1 and ::1 on which the processes listen.
func listening(pids ...int) (ports []int) {
	all := listeners()
	for _, pid := range pids {
		for _, name := range sockets(pid) {
			if port, ok := all[name]; ok && !slices.Contains(ports, port) {
				ports = append(ports, port)
			}
		}
	}
	return ports
}

// sockets returns the names of a process's sockets, as they stand in /proc/PID/fd.
func sockets(pid int) (names []string) {
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		if name, err := os.Readlink(fd); err == nil {
			names = append(names, name)
		}
	}
	return names
}

// listeners returns the ports of 127.0.0.1 and ::1 on which anybody listens, by the name that the socket
// has in /proc/PID/fd (proc(5), /proc/net/tcp: state 0A, the inode in the tenth field).
func listeners() map[string]int {
	sockets := map[string]int{}
	text, _ := os.ReadFile("/proc/net/tcp")
	six, _ := os.ReadFile("/proc/net/tcp6")
	for line := range strings.Lines(string(text) + string(six)) {
		fields := strings.Fields(line)
		if len(fields) < 10 || fields[3] != "0A" {
			continue
		}
		hex, local := strings.CutPrefix(fields[1], "0100007F:")
		if !local {
			hex, local = strings.CutPrefix(fields[1], "00000000000000000000000001000000:")
		}
		if port, err := strconv.ParseUint(hex, 16, 16); local && err == nil {
			sockets["socket:["+fields[9]+"]"] = int(port)
		}
	}
	return sockets
}
