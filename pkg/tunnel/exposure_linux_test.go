// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/missing"
)

// Where the account may open no connection from the proxy, this machine asks the port itself.
func TestSlotThatThisMachineReaches(t *testing.T) {
	if os.Getuid() == 0 && !inOwnNetwork() && runInOwnNetwork(t) {
		return
	}
	host := address(t)
	listener, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	tun := plainAt(host, listener.Addr().(*net.TCPAddr).Port)
	defer func() { tun.end(); tun.tasks.Wait() }()
	web := ""
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if web != "" {
			w.Header().Set("Server", web)
		}
		tun.check.Serve(w, r)
	})}
	go func() { _ = s.Serve(listener) }()
	defer s.Close()
	forbidden := func(context.Context, string) (net.Conn, error) { return nil, errors.New("prohibited") }
	if found := tun.lookPast(t.Context(), forbidden); found != exposed {
		t.Errorf("%v", found)
	}
	web = "nginx" // listens on the same port, at other addresses
	if found := tun.lookPast(t.Context(), forbidden); found != untold {
		t.Errorf("by way of a web server: %v", found)
	}
}

// A machine may have no address but its loopback. Root gives the test a network of its own, with one (RFC 5737).
const ownNetwork, ownAddress = "TAIPY_TUNNEL_OWN_NETWORK", "192.0.2.1"

func inOwnNetwork() bool { return os.Getenv(ownNetwork) != "" }

// runInOwnNetwork runs the test once more, in a process of that network. It reports false where not even root may make one.
func runInOwnNetwork(t *testing.T) bool {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v", "-test.count=1")
	c.Env = append(os.Environ(), ownNetwork+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	said, err := c.CombinedOutput()
	if errors.Is(err, syscall.EPERM) { // a container's root
		return false
	}
	if err != nil || !strings.Contains(string(said), "--- PASS: "+t.Name()) {
		t.Errorf("in a network of its own: %v\n%s", err, said)
	}
	return true
}

// address is one of this machine's that is not its loopback's.
func address(t *testing.T) string {
	t.Helper()
	if inOwnNetwork() {
		addLoopback(t)
	}
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if ip := a.(*net.IPNet).IP; ip.To4() != nil && !ip.IsLoopback() {
			return ip.String()
		}
	}
	missing.Skip(t, "this machine has no address but its loopback")
	return ""
}

// addLoopback has the loopback interface of a new network, which is down, be up and have another address (netdevice(7)).
func addLoopback(t *testing.T) {
	t.Helper()
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(socket) }()
	set := func(name string, request uint, fill func(*unix.Ifreq) error) {
		r, err := unix.NewIfreq(name)
		if err == nil {
			err = fill(r)
		}
		if err == nil {
			err = unix.IoctlIfreq(socket, request, r)
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	set("lo", unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil })
	set("lo:1", unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(net.ParseIP(ownAddress).To4()) })
}
