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
	handle int64
	stop   context.CancelFunc
	room   chan struct{} // there may be some in said again
	heard  chan []byte   // what was answered to it meanwhile, and not taken yet

	mu     sync.Mutex
	answer answer
	said   []string                // and not taken yet
	end    context.CancelCauseFunc // of a command, nil if it is none
}

// answer is what tt_answer gives.
type answer struct {
	Done  bool            `json:"done"`
	Said  []string        `json:"said,omitempty"`
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
	"tunnel.identity":    identity,
	"tunnel.verify":      verify,
	"tunnel.doctor":      examine,
	"tunnel.look":        look,
	"tunnel.admit":       admit,
	"tunnel.reopen":      reopen,
	"apps.near":          near,
	"command.answer":     answerCommand,
	"command.interrupt":  interruptCommand,
}

// talks are questions during whose work something is said, line by line, and may be answered.
var talks = map[string]func(ctx context.Context, text []byte, q *question) (any, error){
	"command": runCommand,
}

// begin starts to answer and returns the question's handle, of the same numbers as the tunnels'. timeout 0: there is none.
func (a *asked) begin(text []byte, timeout time.Duration) int64 {
	ctx, stop := context.WithCancel(context.Background())
	if timeout > 0 {
		ctx, stop = context.WithTimeout(context.Background(), timeout)
	}
	handle := tunnels.next()
	q := &question{handle: handle, stop: stop, room: make(chan struct{}, 1), heard: make(chan []byte, 1)}
	a.mu.Lock()
	a.entries[handle] = q
	a.mu.Unlock()
	start(handle, func() {
		defer stop()
		got := q.reply(ctx, text)
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

// reply answers the question, whatever comes in between.
func (q *question) reply(ctx context.Context, text []byte) (got answer) {
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
	if f, g := answers[named.Ask], talks[named.Ask]; err != nil {
		err = notUnderstood(err)
	} else if f != nil {
		value, err = f(ctx, text)
	} else if g != nil {
		value, err = g(ctx, text, q)
	} else {
		err = notUnderstood(fmt.Errorf("there is no question %q", named.Ask))
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

// mostSaid is how many lines wait for tt_answer; who says more has to wait too.
const mostSaid = 256

// say keeps a line until it is taken, unless ctx ends first.
func (q *question) say(ctx context.Context, line string) {
	for {
		q.mu.Lock()
		n := len(q.said)
		if n < mostSaid {
			q.said = append(q.said, line)
		}
		q.mu.Unlock()
		if n < mostSaid {
			if n == 0 {
				events.add(record{Handle: q.handle, Type: "answer"})
			}
			return
		}
		select {
		case <-q.room:
		case <-ctx.Done():
			return
		}
	}
}

// hear waits for what is answered to the question meanwhile.
func (q *question) hear(ctx context.Context) ([]byte, error) {
	select {
	case text := <-q.heard:
		return text, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// giveUp ends the work on a command, and not the question: it has an answer yet. false: it is no command.
func (q *question) giveUp(why error) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.end != nil {
		q.end(why)
	}
	return q.end != nil
}

func (q *question) read() answer {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.answer
}

// take is the answer by now, as JSON, with what was said. That is said once, if the text and a NUL fit into
// size bytes.
func (q *question) take(size int) []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.answer
	now.Said = q.said
	text, err := json.Marshal(now)
	if err != nil {
		panic(err)
	}
	if len(text) < size && len(q.said) > 0 {
		q.said = nil
		select {
		case q.room <- struct{}{}:
		default:
		}
	}
	return text
}
