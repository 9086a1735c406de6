// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/tunnel"
)

// asks are the questions that have a handle.
var asks = asked{entries: map[int64]*question{}}

type asked struct {
	mu      sync.Mutex
	entries map[int64]*question
}

// question is one from tt_ask to tt_release.
type question struct {
	stop context.CancelFunc

	mu     sync.Mutex
	answer answer
}

// answer is what tt_answer gives.
type answer struct {
	Done  bool            `json:"done"`
	Value json.RawMessage `json:"value,omitempty"`
	Error *tunnel.Error   `json:"error,omitempty"`
}

// answers are the questions that can be asked. A function takes the JSON object of the question and
// returns what becomes JSON.
var answers = map[string]func(context.Context, []byte) (any, error){
	"databricks.secrets": secretsOf,
	"databricks.secret":  secretOf,
	"databricks.cluster": clusterOf,
	"databricks.me":      userOf,
	"databricks.store":   store,
	"tunnel.doctor":      doctor,
	"proxy.render":       proxyRender,
	"proxy.script":       proxyScript,
	"proxy.cloud-init":   proxyCloudInit,
}

// begin starts to answer and returns the question's handle, of the same numbers as the tunnels'.
func (a *asked) begin(text []byte, timeout time.Duration) int64 {
	ctx, stop := context.WithTimeout(context.Background(), timeout)
	q := &question{stop: stop}
	handle := tunnels.next()
	a.mu.Lock()
	a.entries[handle] = q
	a.mu.Unlock()
	start(handle, func() {
		defer stop()
		got := reply(ctx, text)
		clear(text) // it may hold a token
		q.mu.Lock()
		q.answer = got
		q.mu.Unlock()
		if a.find(handle) != nil {
			events.add(record{Handle: handle, Type: "answer"})
		}
	})
	return handle
}

// reply answers a question, whatever comes in between.
func reply(ctx context.Context, text []byte) (got answer) {
	got.Done = true
	defer func() {
		if p := recover(); p != nil {
			got.Value, got.Error = nil, tunnel.AsError(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	var named struct {
		Ask string `json:"ask"`
	}
	var value any
	err := json.Unmarshal(text, &named)
	if f := answers[named.Ask]; err != nil {
		err = notUnderstood(err)
	} else if f == nil {
		err = notUnderstood(fmt.Errorf("there is no question %q", named.Ask))
	} else {
		value, err = f(ctx, text)
	}
	if err == nil {
		got.Value, err = json.Marshal(value)
	}
	if err != nil {
		got.Value, got.Error = nil, tunnel.AsError(err)
	}
	return got
}

// parse reads the fields of a question; an unknown one is an error. Its type has the field "ask".
func parse(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return notUnderstood(err) // encoding/json quotes names and types, not texts
	}
	return nil
}

func notUnderstood(err error) error {
	return &tunnel.Error{Op: "question", Err: fmt.Errorf("it is not understood: %w", err), Class: tunnel.ErrConfig, Permanent: true}
}

func (a *asked) find(handle int64) *question {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.entries[handle]
}

func (a *asked) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.entries)
}

// release forgets a question, and ends the work on it.
func (a *asked) release(handle int64) bool {
	a.mu.Lock()
	q := a.entries[handle]
	delete(a.entries, handle)
	a.mu.Unlock()
	if q == nil {
		return false
	}
	q.stop()
	return true
}

func (q *question) read() answer {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.answer
}
