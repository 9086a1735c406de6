// SPDX-License-Identifier: Apache-2.0

package databricks

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/secrettest"
)

// A secret in any field, in any form, is in no error, though the workspace refuses each question and repeats
// what it was asked.
func TestNoArgumentIsEchoed(t *testing.T) {
	f, w := opened(t)
	lists := false
	f.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if lists && strings.HasSuffix(r.URL.Path, "/list") {
			reply(w, http.StatusOK, map[string]any{})
			return
		}
		said, _ := url.QueryUnescape(r.URL.RawQuery + string(body))
		reply(w, http.StatusForbidden, map[string]string{"error_code": "PERMISSION_DENIED", "message": said})
	})
	tried, refused := 0, 0
	look := func(what, form, secret string, err error) {
		t.Helper()
		tried++
		if err == nil {
			return
		}
		shown := fmt.Sprintf("%+v", err)
		if e, ok := errors.AsType[*Error](err); ok {
			shown += e.Hint.String()
		}
		if errors.Is(err, ErrWorkspace) {
			refused++
		}
		if part := secrettest.Echo(secret, shown); part != "" {
			t.Errorf("%s, %s: %q is shown: %s", what, form, part, shown)
		}
	}
	for form, secret := range secrettest.Forms(t) {
		of := reflect.TypeFor[StoreConfig]()
		for i := range of.NumField() {
			if of.Field(i).Type.Kind() != reflect.String {
				continue
			}
			for _, lists = range []bool{false, true} {
				for _, value := range []string{secret, "me@" + secret, "SHA256:" + secret} {
					cfg := StoreConfig{Server: server, HostKey: hostKey}
					reflect.ValueOf(&cfg).Elem().Field(i).SetString(value)
					_, err := w.Store(t.Context(), cfg)
					look(of.Field(i).Name, form, secret, err)
				}
			}
		}
		lists = false
		_, err := w.Secret(t.Context(), secret, "key")
		look("scope", form, secret, err)
		_, err = w.Secret(t.Context(), "scope", secret)
		look("key", form, secret, err)
		_, err = w.Secrets(t.Context(), secret, nil)
		look("scope of all", form, secret, err)
		_, err = w.Cluster(t.Context(), secret)
		look("cluster", form, secret, err)
		_, err = Open(Config{Host: secret, Token: fixed(token)})
		look("host", form, secret, err)
		_, err = Open(Config{Host: "http://" + secret, Token: fixed(token)})
		look("host", form, secret, err)
		w, err := Open(Config{Host: "https://" + secret, Token: fixed(token)})
		if err == nil {
			err = errors.New(w.String())
		}
		look("name", form, secret, err)
	}
	t.Logf("%d tries, %d of them came to the workspace", tried, refused)
	if refused == 0 {
		t.Error("the workspace was never asked")
	}
}
