// SPDX-License-Identifier: Apache-2.0

// Command listen serves a Go handler on a proxy machine, with no port on this one. Listen asks visitors for nothing, whatever
// Config says of access: a handler that is not for everybody must check who is asking.
//
//	go run ./examples/listen -server me@203.0.113.7 -host-key SHA256:…
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

func main() {
	server := flag.String("server", "", "the proxy, user@host[:port]")
	hostKey := flag.String("host-key", "", "its host key, SHA256:…")
	key := flag.String("key", "", "private key file (default: ssh-agent, then ~/.ssh/id_*)")
	name := flag.String("name", "", "the app's public name on a prepared proxy (default: the account's only one)")
	remote := flag.Int("remote", 0, fmt.Sprintf("port on a plain proxy's loopback (default: what a prepared proxy says, else %d)", tunnel.DefaultRemote))
	url := flag.String("url", "", "what visitors open (default: what a prepared proxy says, else http://HOST/)")
	flag.Parse()
	if err := run(tunnel.Config{Server: []string{*server}, HostKey: *hostKey, Key: *key, Name: *name, Remote: *remote, URL: *url,
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}); err != nil {
		fmt.Fprintln(os.Stderr, "listen:", err)
		os.Exit(1)
	}
}

func run(cfg tunnel.Config) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	t, err := tunnel.Listen(ctx, cfg)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, tunnel.AsError(err).Hint)
	}
	defer func() { _ = t.Close() }()
	fmt.Println(t.Status().URL)
	srv := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello from behind the tunnel, %s\n", r.URL.Path)
	})}
	return srv.Serve(t)
}
