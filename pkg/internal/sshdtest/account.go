// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sshdtest

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/missing"
)

// The account of Options.Shell, Home, Account and Shadow. This machine does not have it: the server sees files of its own
// in the place of /etc/passwd and /etc/shadow, by mounts that nobody else sees.
const (
	accountName = "proxyuser"
	accountID   = 4242
)

// ownAccount reports whether the server lets in an account of its own.
func (o *Options) ownAccount() bool {
	return o.Account != "" || o.Shell != "" || o.BusyBox || o.Home != nil || o.Shadow != ""
}

// account makes the account's home and the files that say of it, and has the server started among them.
func (s *Server) account(o Options) {
	s.t.Helper()
	if o.BusyBox {
		o.Shell, o.InPlace = "/bin/sh", s.busyBox()
	}
	if !o.ownAccount() && o.InPlace == nil && o.Root == "" {
		return
	}
	if _, err := os.Stat(o.Shell); o.Shell != "" && err != nil {
		missing.Skip(s.t, "no %s is installed", o.Shell)
	}
	if os.Getuid() != 0 || exec.Command("unshare", "--mount", "true").Run() != nil {
		missing.Skip(s.t, "an account of the server's own needs root and namespaces")
	}
	if o.Root != "" {
		s.inRoot(o)
		return
	}
	var mounts strings.Builder
	for file, other := range o.InPlace {
		fmt.Fprintf(&mounts, "mount --bind '%s' '%s'\n", other, file)
	}
	if o.ownAccount() {
		s.ownAccount(o, &mounts)
	}
	s.args = append([]string{"unshare", "--mount", "sh", "-euc", mounts.String() + `exec "$@"`, "sh"}, s.args...)
}

// ownAccount makes the account's home, and the files that say of it.
func (s *Server) ownAccount(o Options, mounts io.Writer) {
	s.t.Helper()
	s.User = cmp.Or(o.Account, accountName)
	at := s.HomeFile("")
	switch {
	case o.NoHome:
		at = filepath.Join(s.dir, "away")
	case o.homeAt != "":
		at = o.homeAt
		_, _ = fmt.Fprintf(mounts, "mount --bind '%s' '%s'\n", s.HomeFile(""), at)
	}
	s.etc(o.Root, "passwd", fmt.Sprintf("%s:x:%d:%d::%s:%s", s.User, accountID, accountID, at, cmp.Or(o.Shell, "/bin/bash")), 0o644)
	s.etc(o.Root, "shadow", s.User+":"+cmp.Or(o.Shadow, "*:20000:0:99999:7:::"), 0o600)
	// Not a mount for each file: one that somebody replaces (useradd of another test) loses it, in all namespaces.
	_, _ = fmt.Fprintf(mounts, `mkdir -p '%[1]s/top'; mount -t tmpfs tmpfs '%[1]s/top'; mkdir '%[1]s/top/etc' '%[1]s/top/work'
		cp -p '%[1]s/passwd' '%[1]s/shadow' '%[1]s/top/etc'
		mount -t overlay overlay -o 'lowerdir=/etc,upperdir=%[1]s/top/etc,workdir=%[1]s/top/work' /etc
		`, s.dir)
	s.must(os.Chmod(s.dir, 0o711)) // it reads the list of keys as that account
	s.must(os.Mkdir(s.HomeFile(""), 0o755))
	for name, text := range o.Home {
		s.must(os.MkdirAll(filepath.Dir(s.HomeFile(name)), 0o755))
		s.must(os.WriteFile(s.HomeFile(name), []byte(text), 0o644))
	}
	s.must(filepath.WalkDir(s.HomeFile(""), func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, accountID, accountID)
	}))
}

// HomeFile is the path of a file in the home of the server's own account; "": of that home.
func (s *Server) HomeFile(name string) string { return filepath.Join(s.dir, "home", name) }

// Trixie is the path of a Debian 13, for Options.Root: that of ./build.sh roots, which names it. "": there is none.
func Trixie() string {
	for _, root := range filepath.SplitList(os.Getenv("TAIPY_TUNNEL_ROOTS")) {
		if filepath.Base(root) == "trixie" {
			return root
		}
	}
	return ""
}

// inRoot has the server be that of another Debian, which stays as it is.
func (s *Server) inRoot(o Options) {
	s.t.Helper()
	if o.ownAccount() {
		s.ownAccount(o, io.Discard)
	}
	s.args = append([]string{"unshare", "--mount", "sh", "-euc", `
		top=$2/top; mkdir "$top"; mount -t tmpfs tmpfs "$top"; mkdir "$top/upper" "$top/work" "$top/root"
		mount -t overlay overlay -o "lowerdir=$1,upperdir=$top/upper,workdir=$top/work" "$top/root"
		[ ! -e "$2/passwd" ] || cp -p "$2/passwd" "$2/shadow" "$top/root/etc"
		mount --rbind /proc "$top/root/proc"; mount --rbind /dev "$top/root/dev"
		mkdir -p "$top/root/run/sshd" "$top/root$2"; mount --bind "$2" "$top/root$2"
		shift 2; exec chroot "$top/root" "$@"`, "sh", o.Root, s.dir}, s.args...)
}

// dropbear has the server be Dropbear's. Its list of keys is where it looks for it, in the account's home.
func (s *Server) dropbear(o *Options) {
	s.t.Helper()
	convert, err := exec.LookPath("dropbearconvert")
	if err != nil {
		missing.Skip(s.t, "no dropbear is installed (Debian: dropbear-bin)")
	}
	key := filepath.Join(s.dir, "host_dropbear")
	if said, err := exec.Command(convert, "openssh", "dropbear", filepath.Join(s.dir, "host_"+hostKeyKinds(*o)[0]), key).CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %s", err, said)
	}
	list, err := os.ReadFile(filepath.Join(s.dir, "authorized_keys"))
	s.must(err)
	home := map[string]string{".ssh/authorized_keys": string(list)}
	maps.Copy(home, o.Home)
	o.Home = home
	s.args = []string{"/usr/sbin/dropbear", "-F", "-E", "-s", "-r", key, "-P", "", "-p"}
}

// etc writes what /etc of a root ("": this machine's) has of a name, and one more line.
func (s *Server) etc(root, name, line string, mode os.FileMode) {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "/etc", name))
	s.must(err)
	s.must(os.WriteFile(filepath.Join(s.dir, name), []byte(strings.TrimSpace(string(text))+"\n"+line+"\n"), mode))
}

// busyBox is Options.InPlace for Options.BusyBox.
func (s *Server) busyBox() map[string]string {
	s.t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		missing.Skip(s.t, "no busybox is installed (Debian: busybox)")
	}
	places := map[string]string{}
	for _, name := range []string{"sh", "ps", "id", "date", "sed", "tr", "cut", "kill", "sleep", "env", "cat", "grep"} {
		if path, err := exec.LookPath(name); err == nil {
			if path, err = filepath.EvalSymlinks(path); err == nil {
				places[path] = busybox
			}
		}
	}
	return places
}
