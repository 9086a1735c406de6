// SPDX-License-Identifier: Apache-2.0

package proxyhost_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/secrettest"
	"github.com/taipy-tunnel/taipy-tunnel/pkg/proxyhost"
)

// replaced is a JSON document with a value in the place of its n-th one, counted from above; false: it has
// fewer.
func replaced(doc any, n int, value any) (any, bool) {
	var walk func(at any) any
	walk = func(at any) any {
		if n--; n == -1 {
			return value
		}
		switch at := at.(type) {
		case map[string]any:
			out := map[string]any{}
			for _, name := range slices.Sorted(maps.Keys(at)) {
				out[name] = walk(at[name])
			}
			return out
		case []any:
			out := []any{}
			for _, v := range at {
				out = append(out, walk(v))
			}
			return out
		}
		return at
	}
	out := walk(doc)
	return out, n < 0
}

// absent are the fields of a type that a document does not have.
func absent(of reflect.Type, doc, path string) (names []string) {
	for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice {
		of = of.Elem()
	}
	if of.Kind() != reflect.Struct {
		return nil
	}
	for i := range of.NumField() {
		name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
		if !strings.Contains(doc, `"`+name+`"`) {
			names = append(names, path+"."+name)
		}
		names = append(names, absent(of.Field(i).Type, doc, path+"."+name)...)
	}
	return names
}

// A secret in any field of a machine's description, in any form, is in no error.
func TestNoArgumentIsEchoed(t *testing.T) {
	h := everything(t)
	h.HTTP, h.Layout = 80, proxyhost.Layout{Etc: "/e", Run: "/r", SSHD: "/s", Site: "/n", Tmpfiles: "/t", Limits: "/l", Unit: "/u", Log: "/g", Cache: "/c", Loopback: true}
	h.Status.BasicAuth, h.Tenants[1].Access.Identity = "/etc/nginx/htpasswd", "X-User"
	text, err := json.Marshal(h)
	must(t, err)
	if _, err := proxyhost.Script(h); err != nil {
		t.Fatal(err)
	}
	if names := absent(reflect.TypeFor[proxyhost.Host](), string(text), ""); names != nil {
		t.Fatalf("the document has no %s", names)
	}
	var doc any
	must(t, json.Unmarshal(text, &doc))
	tried, echoes, hidden := 0, 0, 0
	for form, secret := range secrettest.Forms(t) {
		for _, value := range []any{secret, []any{secret}, map[string]any{secret: secret}} {
			for n := 0; ; n++ {
				changed, is := replaced(doc, n, value)
				if !is {
					break
				}
				text, err := json.Marshal(changed)
				must(t, err)
				parsed, err := proxyhost.ParseHost(text)
				if err == nil {
					_, err = proxyhost.Script(*parsed)
				}
				tried++
				shown := seen(err)
				if strings.Contains(shown, "(a text of ") {
					hidden++
				}
				if part := secrettest.Echo(secret, shown); part != "" {
					echoes++
					t.Errorf("%s: %q is shown: %s", form, part, shown)
				}
			}
		}
	}
	t.Logf("%d echoes in %d tries", echoes, tried)
	if hidden == 0 {
		t.Error("no value was refused for what it is")
	}
}

func seen(err error) string {
	if err == nil {
		return ""
	}
	e, ok := errors.AsType[*fault.Error](err)
	if !ok {
		return err.Error()
	}
	text, _ := json.Marshal(e)
	return fmt.Sprintf("%+v\n%s\n%s", err, e.Hint, text)
}
