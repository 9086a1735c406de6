// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
)

const (
	// stalePath is where a machine says what its program that ends stale links does (proxyhost.Description.EndsStale).
	stalePath = "/.well-known/taipy-tunnel/stale"
	// looksEach is how old its word may be: it looks twice a second, and a busy machine is slower.
	looksEach = 30 * time.Second
	// wordsMost bounds what it says, in bytes.
	wordsMost = 200
)

// stale sees whether the machine ends what sshd keeps of links that have gone silent.
func (i *inspection) stale(ctx context.Context, d *proxyhost.Description) {
	const step, without = "stale links", "visitors wait for a minute when a link goes silent: "
	const restart = "on the machine, as root: systemctl enable --now taipy-tunnel-stale, journalctl -u taipy-tunnel-stale; without systemd: sh /etc/taipy-tunnel/stale.sh, always"
	if !d.EndsStale {
		i.warn(step, setUpAgain, without+"an older version has set the machine up, which ends no stale links")
		return
	}
	said, age, err := i.lastLook(ctx, d.Check)
	switch {
	case err != nil:
		i.warn(step, restart, without+"nothing ends stale links: %v", err)
	case age > looksEach:
		i.warn(step, restart, without+"what ends stale links last looked %v ago", age)
	case said != "looks":
		i.warn(step, restart, without+"what ends stale links does not work: %s", said)
	default:
		i.ok(step, "they are ended within seconds")
	}
}

// lastLook returns what the program said last, and how long ago by the machine's own clock.
func (i *inspection) lastLook(ctx context.Context, check string) (said string, age time.Duration, err error) {
	c, err := i.link.Dial(ctx, check)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = c.Close() }()
	if until, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(until)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+check+stalePath, nil)
	if err != nil {
		return "", 0, err
	}
	req.Close = true
	if err := req.Write(c); err != nil {
		return "", 0, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), req)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusNotFound {
		return "", 0, fmt.Errorf("it has not run since the machine's start")
	}
	now, err := strconv.ParseFloat(resp.Header.Get("X-Taipy-Tunnel-Time"), 64)
	if err != nil || resp.StatusCode != http.StatusOK {
		return "", 0, fmt.Errorf("%s, without a time", resp.Status)
	}
	at, err := http.ParseTime(resp.Header.Get("Last-Modified"))
	if err != nil {
		return "", 0, fmt.Errorf("%s, without a time", resp.Status)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, wordsMost))
	return strings.TrimSpace(string(text)), max(0, time.Duration(now)*time.Second-time.Duration(at.Unix())*time.Second), err
}
