// SPDX-License-Identifier: Apache-2.0

package command

import (
	"cmp"
	"context"
	"encoding/json"
	"time"

	"github.com/spf13/cobra"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/guard"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// appArgument is where the app listens, which expose() calls app, and the engine the target.
var appArgument = [2]string{"target", "APP"}

func (r *run) expose() *cobra.Command {
	c := takes(&cobra.Command{Use: "expose",
		Short: "show an app of this machine to visitors, until Ctrl-C",
		Long: "Shows an app that listens on this machine to the visitors of a proxy machine, and prints the link that admits them. APP is its port, " +
			"HOST:PORT, or the URL that it prints. The tunnel is kept open until Ctrl-C: a connection that is lost comes back, and an app that is started " +
			"again is taken up.\n\nEach option has a variable as well, TAIPY_TUNNEL_SERVER and so on, and so have the token and the key's passphrase, " +
			"which are no options: TAIPY_TUNNEL_TOKEN, " + passphrase + ". TAIPY_TUNNEL_ACCESS may hold users, user:password,….",
	}, appArgument)
	s := settings{c, r.Getenv}
	s.options()
	c.RunE = func(c *cobra.Command, args []string) error {
		r.inLine = true
		cfg, timeout, err := s.config(cmp.Or(args[0], " "))
		if err != nil {
			return err
		}
		t, err := r.open(c.Context(), cfg, timeout)
		if err != nil {
			return err
		}
		defer func() { _ = t.Close() }()
		return r.keep(c, t)
	}
	return c
}

// open opens a tunnel, within a time.
func (r *run) open(ctx context.Context, cfg tunnel.Config, timeout time.Duration) (*tunnel.Tunnel, error) {
	cfg.Control = r.Control
	r.Show(Event{Kind: Notice, Text: "connecting"})
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	t, err := tunnel.Expose(ctx, cfg)
	return t, pointed(err)
}

// drainFor is how long requests that are under way may go on after Ctrl-C.
const drainFor = time.Second

// keep shows what becomes of a tunnel until the command is given up, or the tunnel ends.
func (r *run) keep(c *cobra.Command, t *tunnel.Tunnel) error {
	ctx := c.Context()
	r.Show(Event{Kind: GivenUp, Text: "the tunnel is closed"})
	if r.inJSON {
		r.json(map[string]string{"url": t.URL()})
	} else {
		r.text(t.URL())
	}
	setting, told := words(c), ""
	view := newView(t, setting)
	again := time.NewTicker(time.Second)
	defer again.Stop()
	changes := make(chan tunnel.Status)
	watching, stop := context.WithCancel(ctx)
	var tasks guard.Group
	defer tasks.Wait()
	defer stop()
	tasks.Go(func() {
		defer close(changes)
		watch(watching, t, changes)
	})
	for {
		select {
		case s, open := <-changes:
			if !open {
				drained, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainFor)
				defer cancel()
				_ = t.Shutdown(drained)
				return ctx.Err()
			}
			if line := brief(s); line != told {
				told = line
				r.changed(s, line, setting)
			}
			if s.State == tunnel.Replaced { // what is under way goes on for a while
				drained, cancel := context.WithTimeout(ctx, time.Minute)
				defer cancel()
				_ = t.Shutdown(drained)
			}
			if s.State == tunnel.Failed || s.State == tunnel.Replaced || s.State == tunnel.StateClosed {
				return ended(s)
			}
		case <-again.C:
		}
		if r.Terminal && !r.inJSON {
			r.Show(Event{Kind: View, Text: view.text(time.Now())})
		}
	}
}

// ended is why a tunnel has ended by itself.
func ended(s tunnel.Status) error {
	if s.LastError != nil {
		return s.LastError
	}
	return fault.Closed()
}

// changed tells of a change of state where no view shows it.
func (r *run) changed(s tunnel.Status, line string, setting func(name, value string) string) {
	if r.inJSON {
		r.json(worded(s, setting))
	} else if !r.Terminal {
		r.Show(Event{Kind: Notice, Text: time.Now().Format(time.DateTime) + " " + line})
	}
}

// worded is a status with hints in the command's words.
func worded(s tunnel.Status, setting func(name, value string) string) map[string]any {
	var fields map[string]any
	text, err := json.Marshal(s)
	if err == nil {
		err = json.Unmarshal(text, &fields)
	}
	if err != nil {
		panic(err) // it is a type of ours
	}
	for name, e := range map[string]*tunnel.Error{"last_error": s.LastError, "warning": s.Warning} {
		if e != nil {
			fields[name] = failed(e, setting)
		}
	}
	return fields
}
