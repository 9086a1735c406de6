// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strconv"
	"syscall"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/command"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/databricks"
)

// wantsInput is said where a command wants standard input, all of it, by a command.answer.
const wantsInput = `{"kind":"input"}`

// endOfInput is the answer of who ends the input instead.
const endOfInput = "\x00"

// runCommand runs a command line: {"args","environment","host","token"} -> what it ends with. Its events are said, each as a line of JSON.
func runCommand(ctx context.Context, text []byte, q *question) (any, error) {
	var c struct {
		Ask         string            `json:"ask"`
		Args        []string          `json:"args"`
		Environment map[string]string `json:"environment"`
		Host        string            `json:"host"`
		Token       string            `json:"token"`
		Terminal    bool              `json:"terminal"`
		Person      bool              `json:"person"`
	}
	if err := parse(text, &c); err != nil {
		return nil, err
	}
	given, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	q.mu.Lock()
	q.end = giveUp
	q.mu.Unlock()
	face := command.Face{Version: version, Control: own, Terminal: c.Terminal,
		Getenv: func(name string) string { return c.Environment[name] },
		Show: func(e command.Event) {
			line, err := json.Marshal(e)
			if err != nil {
				panic(err)
			}
			q.say(ctx, string(line))
		},
		Input: func(ctx context.Context) ([]byte, error) {
			q.say(ctx, wantsInput)
			return q.hear(ctx)
		}}
	if c.Person {
		face.Ask = q.put
	}
	face.Start = func(args []string) (*os.Process, error) { // Go's threads are deaf to signals here, and their children would be
		line, err := json.Marshal(map[string]any{"kind": "start", "args": args})
		if err != nil {
			return nil, err
		}
		q.say(ctx, string(line))
		text, err := q.hear(ctx)
		if err != nil {
			return nil, err
		}
		pid, err := strconv.Atoi(string(text))
		if err != nil {
			return nil, errors.New(string(text))
		}
		return os.FindProcess(pid)
	}
	if c.Token != "" {
		face.Workspace = databricks.Config{Host: c.Host, Token: func(context.Context) (string, error) { return c.Token, nil }}
	}
	return command.Run(given, c.Args, face), nil
}

// put is a command.Face's Ask.
func (q *question) put(ctx context.Context, text string, hidden bool) (string, error) {
	line, err := json.Marshal(map[string]any{"kind": "question", "text": text, "hidden": hidden})
	if err != nil {
		return "", err
	}
	q.say(ctx, string(line))
	answer, err := q.hear(ctx)
	if string(answer) == endOfInput {
		err = io.EOF
	}
	return string(answer), err
}

// interruptCommand gives a command up, which goes on until it has ended: {"handle","signal"}, the number of the signal, 0
// where a program that it has started has it already.
func interruptCommand(_ context.Context, text []byte) (any, error) {
	var i struct {
		Ask    string `json:"ask"`
		Handle int64  `json:"handle"`
		Signal int    `json:"signal"`
	}
	if err := parse(text, &i); err != nil {
		return nil, err
	}
	given := command.Interrupt{}
	if i.Signal != 0 {
		given.By = syscall.Signal(i.Signal)
	}
	if q := asks.find(i.Handle); q != nil && q.giveUp(given) {
		return nil, nil
	}
	return nil, notUnderstood(errors.New("there is no command to give up"))
}

// answerCommand gives a command what it waits for: {"handle","text"}.
func answerCommand(_ context.Context, text []byte) (any, error) {
	var a struct {
		Ask    string `json:"ask"`
		Handle int64  `json:"handle"`
		Text   string `json:"text"`
	}
	if err := parse(text, &a); err != nil {
		return nil, err
	}
	if q := asks.find(a.Handle); q != nil {
		select {
		case q.heard <- []byte(a.Text):
			return nil, nil
		default:
		}
	}
	return nil, notUnderstood(errors.New("nobody waits for an answer"))
}
