// SPDX-License-Identifier: Apache-2.0

package databricks

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/databricks/databricks-sdk-go/apierr"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/guard"
)

// refusals are the words for what a route refuses; said is the workspace's own. Nil: general ones.
type refusals struct {
	missing, forbidden, bad func(said string) *fault.Error
	// sent are names that the workspace may repeat; one that may be a secret is taken out.
	sent []string
	// quiet leaves out the workspace's own words: they may repeat what was sent.
	quiet bool
}

// ask has the SDK ask. It ends with ctx and within patience, even where the SDK looks for credentials
// without a context: the Databricks CLI may be run for them.
func ask[T any](ctx context.Context, w *Workspace, words refusals, f func(context.Context) (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	started := time.Now()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	done := make(chan answer, 1)
	g := guard.Group{Panicked: func(err error) { done <- answer{err: fault.Internal(err)} }}
	g.Go(func() {
		value, err := f(ctx)
		done <- answer{value, err}
	})
	var got answer
	select {
	case got = <-done:
	case <-ctx.Done():
		select { // what the SDK knows by then is the better reason
		case got = <-done:
		case <-time.After(200 * time.Millisecond):
			got.err = ctx.Err()
		}
	}
	return got.value, w.explain(ctx, words, started, got.err)
}

// explain gives an error of the SDK its class and words. Those of the SDK are shown of refusals
// only: others may hold a dump of the answer, or a line of the file that holds the token.
func (w *Workspace) explain(ctx context.Context, words refusals, started time.Time, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*fault.Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*apierr.APIError](err); ok {
		return w.refused(words, e)
	}
	if ended := ctx.Err(); ended != nil || errors.Is(err, context.DeadlineExceeded) {
		if ended == nil {
			ended = context.DeadlineExceeded
		}
		return fault.WorkspaceSilent(w.name, time.Since(started), ended)
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		return fault.WorkspaceUnreachable(w.name, e.Err)
	}
	if !w.wire.asked.Load() { // it never came to a login
		return fault.NoWorkspace(w.cfg.Profile)
	}
	return fault.NotWorkspace(w.name, "something that is not what was asked for")
}

func (w *Workspace) refused(words refusals, e *apierr.APIError) error {
	said := w.said(words, e)
	or := func(f func(string) *fault.Error) error {
		if f == nil {
			return fault.WorkspaceRefused(w.name, said)
		}
		return f(said)
	}
	switch {
	case e.StatusCode == http.StatusTooManyRequests || e.StatusCode >= 500:
		return fault.WorkspaceBusy(w.name, said)
	case e.StatusCode == http.StatusUnauthorized,
		e.StatusCode == http.StatusForbidden && e.ErrorCode != "PERMISSION_DENIED":
		return fault.TokenRefused(w.name, said)
	case e.StatusCode == http.StatusForbidden:
		return or(words.forbidden)
	case errors.Is(e, apierr.ErrResourceDoesNotExist):
		return or(words.missing)
	case e.StatusCode == http.StatusNotFound:
		return fault.NotWorkspace(w.name, said)
	case e.StatusCode == http.StatusBadRequest:
		return or(words.bad)
	}
	return or(nil)
}

// said is the workspace's answer for people: status, code and words, on one line, without the token.
func (w *Workspace) said(words refusals, e *apierr.APIError) string {
	text := fmt.Sprintf("%d %s", e.StatusCode, http.StatusText(e.StatusCode))
	switch e.ErrorCode {
	case "", "UNKNOWN", "<nil>": // not in the workspace's own format
		return text
	}
	if words.quiet {
		return text
	}
	all := fmt.Sprintf("%s (%s)", e.Message, e.ErrorCode)
	if token := w.wire.token.Load(); token != nil {
		all = strings.ReplaceAll(all, *token, hidden) // before it is cut: half a token is one too
	}
	for _, name := range words.sent {
		if fault.Keylike(name) {
			all = strings.ReplaceAll(all, name, hidden)
		}
	}
	said := []rune(all)
	if len(said) > 300 {
		said = append(said[:300], '…')
	}
	return text + ": " + string(said)
}
