// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/databricks"
)

// workspace is what each question to one has.
type workspace struct {
	Ask     string `json:"ask"`
	Host    string `json:"host"`
	Token   string `json:"token"`
	Profile string `json:"profile"`
}

func (q *workspace) open() (*databricks.Workspace, error) {
	cfg := databricks.Config{Host: q.Host, Profile: q.Profile}
	if q.Token != "" {
		token := q.Token
		cfg.Token = func(context.Context) (string, error) { return token, nil }
	}
	return databricks.Open(cfg)
}

// asking parses a question and asks the workspace that it names.
func asking(text []byte, q interface {
	open() (*databricks.Workspace, error)
}, f func(*databricks.Workspace) (any, error)) (any, error) {
	if err := parse(text, q); err != nil {
		return nil, err
	}
	w, err := q.open()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	return f(w)
}

func secretsOf(ctx context.Context, text []byte) (any, error) {
	var q struct {
		workspace
		Scope string   `json:"scope"`
		Keys  []string `json:"keys"`
	}
	return asking(text, &q, func(w *databricks.Workspace) (any, error) {
		found, err := w.Secrets(ctx, q.Scope, q.Keys)
		if errors.Is(err, databricks.ErrNoScope) {
			return nil, nil
		}
		values := map[string]string{}
		for key, value := range found {
			values[key] = string(value)
		}
		return values, err
	})
}

func secretOf(ctx context.Context, text []byte) (any, error) {
	var q struct {
		workspace
		Scope string `json:"scope"`
		Key   string `json:"key"`
	}
	return asking(text, &q, func(w *databricks.Workspace) (any, error) {
		value, err := w.Secret(ctx, q.Scope, q.Key)
		return string(value), err
	})
}

func clusterOf(ctx context.Context, text []byte) (any, error) {
	var q struct {
		workspace
		ID string `json:"cluster_id"`
	}
	return asking(text, &q, func(w *databricks.Workspace) (any, error) { return w.Cluster(ctx, q.ID) })
}

func userOf(ctx context.Context, text []byte) (any, error) {
	var q struct{ workspace }
	return asking(text, &q, func(w *databricks.Workspace) (any, error) { return w.Me(ctx) })
}
