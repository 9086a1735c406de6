// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/command"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/databricks"
)

// wantsInput is said where a command wants standard input, all of it, by a command.answer.
const wantsInput = `{"kind":"input"}`

// runCommand runs a command line: {"args","environment","host","token"} -> what it ends with. Its events are said, each as a line of JSON.
func runCommand(ctx context.Context, text []byte, q *question) (any, error) {
	var c struct {
		Ask         string            `json:"ask"`
		Args        []string          `json:"args"`
		Environment map[string]string `json:"environment"`
		Host        string            `json:"host"`
		Token       string            `json:"token"`
		Terminal    bool              `json:"terminal"`
	}
	if err := parse(text, &c); err != nil {
		return nil, err
	}
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
	if c.Token != "" {
		face.Workspace = databricks.Config{Host: c.Host, Token: func(context.Context) (string, error) { return c.Token, nil }}
	}
	return command.Run(ctx, c.Args, face), nil
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
