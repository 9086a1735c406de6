// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/guard"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/sshlink"
)

// A live tunnel gives its slot back by itself, without cutting what is under way, if it learns that a newer one of its key
// is there. It learns it through its mark: the newer one sends that a signal, and the mark says so on its session. Only the
// account can do that, and it is a hint all the same: what counts is what the marks say.

const (
	// waits is the command of a mark. It ends with its input, and prints question for each SIGURG, which does nothing to a
	// program that does not catch it. A signal may end read (dash, busybox) or not (zsh). Where a shell runs no trap
	// while it reads (mksh, yash), nobody is asked.
	waits    = `trap "a=1; echo ` + question + `" URG; while a=; read x || [ "$a" ]; do :; done`
	question = "asked"

	// askTimes is how often the others are asked before they are ended: one that is itself about to take the slot may have
	// it a moment later. One that was exposed later, as it seems, is asked more often: it is about to ask this one, which has
	// not had the slot yet, and may do so on a busy machine or by a slow way.
	askTimes      = 2
	askTimesLater = 6
	// askFor is how long each time: at a round trip of 300 ms it takes 1.1 s until one has read the marks and left. So a link
	// whose other end is dead is ended 2.5 s after it was found, 7.5 s if its tunnel seems to be a later one.
	askFor = 1250 * time.Millisecond
	// askSoon is the wait before a port is asked for again, or a twentieth of the time that it has taken so far: that and a
	// round trip is how long the port is nobody's. sshd logs each refusal.
	askSoon = 20 * time.Millisecond
	// lookEvery is the wait before the marks are read again at a socket, which is ours by then.
	lookEvery = 250 * time.Millisecond
)

// dismiss has other links leave the slot, by one script: while one after the other ended, the standby link of the older
// tunnel took the port from the one that had it. Links of this tunnel are ended. Those of other tunnels are, too, unless
// they have not been asked often enough: then they are asked. It reports whether any was.
func (c *Lease) dismiss(ctx context.Context, proxy runner, stale []mark, before int) (asked bool, err error) {
	var commands []string
	for _, m := range slices.Backward(stale) { // the one that has the port is the oldest, in most cases
		if m.tunnel != c.tunnel && (before < askTimes || m.later && before < askTimesLater) {
			asked = true
			commands = append(commands, m.ask())
		} else {
			commands = append(commands, m.end())
		}
	}
	return asked, c.command(ctx, func(ctx context.Context) error {
		_, err := proxy.Script(ctx, tell+strings.Join(commands, ""))
		return err
	})
}

// Hears takes a line that the mark of a link printed: another tunnel may ask for the slot. The error is an ErrReplaced if
// the marks show a newer one. An older one that asks is asked in its turn, and learns it so.
func (c *Lease) Hears(ctx context.Context, proxy runner, link int, line string) error {
	if line != question {
		return nil
	}
	c.hearing.Lock()
	defer c.hearing.Unlock()
	c.heard++
	older, err := c.look(ctx, proxy, link, true)
	if errors.Is(err, fault.ErrReplaced) {
		return err
	}
	older = slices.DeleteFunc(older, func(m mark) bool { return m.tunnel == c.tunnel })
	if len(older) > 0 {
		_, _ = c.dismiss(ctx, proxy, older, 0)
	}
	return nil
}

// Rival returns a newer tunnel that the marks show at the slot, by a name that means nothing else, "" for none. told: they
// could be read.
func (c *Lease) Rival(ctx context.Context, proxy runner) (name string, told bool) {
	_, err := c.look(ctx, proxy, 0, true)
	if told = !errors.Is(err, errNoMarks); told && !errors.Is(err, fault.ErrReplaced) {
		c.meets("", true)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rival, told
}

// claim has a port that was refused given back by other links of our key, and asks for it all the time, for the moment in
// which they do. It returns the slot if it got it; nil and nil if the port is about to be free; otherwise busy, or what is
// known of who has it.
func (c *Lease) claim(ctx context.Context, l Machine, link int, busy error) (*sshlink.Listener, error) {
	var tasks guard.Group
	defer tasks.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cleared := make(chan error, 1)
	tasks.Go(func() {
		err := busy
		defer func() { cleared <- err }()
		err = c.clear(ctx, l, link, busy)
	})
	for begin := time.Now(); ; {
		select {
		case err := <-cleared:
			return nil, err
		case <-time.After(max(askSoon, time.Since(begin)/20)):
		}
		if slot, err := c.listen(ctx, l.ListenAgain); !errors.Is(err, fault.ErrForward) {
			return slot, err
		}
	}
}

// clear dismisses the links of our key that may hold a port which was refused: those of other tunnels are asked, and in
// the end not any more. It returns nil if the port is about to be free, otherwise busy or what is known of the holder.
func (c *Lease) clear(ctx context.Context, proxy runner, link int, busy error) error {
	again := time.NewTicker(askFor)
	defer again.Stop()
	for before := 0; ; before++ {
		asked, err := c.clearOnce(ctx, proxy, link, busy, before)
		if err != nil || !asked {
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return busy
		}
	}
}

// clearOnce is a round of clear, after so many before. It reports whether a tunnel was asked.
func (c *Lease) clearOnce(ctx context.Context, proxy runner, link int, busy error, before int) (asked bool, err error) {
	var stale []mark
	for heard := -1; heard != c.questions(); { // one that has just come may be a newer tunnel's, which is not ended
		heard = c.questions()
		if stale, err = c.look(ctx, proxy, link, false); before < askTimes {
			break
		}
	}
	if err != nil && !errors.Is(err, errNoMarks) {
		busy = err
	}
	if len(stale) == 0 {
		return false, busy
	}
	if asked, err = c.dismiss(ctx, proxy, stale, before); err != nil {
		return false, busy
	}
	return asked, nil
}

// questions counts those that were looked into.
func (c *Lease) questions() int {
	c.hearing.Lock()
	defer c.hearing.Unlock()
	return c.heard
}

// outlast waits until the links that may still have a socket have left, which are asked to, and ends those that do not.
func (c *Lease) outlast(ctx context.Context, l Machine, link int, stale []mark) error {
	for begin := time.Now(); len(stale) > 0; {
		asked, err := c.dismiss(ctx, l, stale, int(time.Since(begin)/askFor))
		if err != nil || !asked {
			return err
		}
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
		if stale, err = c.look(ctx, l, link, false); err != nil {
			return err
		}
	}
	return nil
}
