// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// FuzzConfig: any text is either a configuration that stays the same when it is written and read
// again, or an error of class ErrConfig that does not quote a secret.
func FuzzConfig(f *testing.F) {
	for _, s := range []string{"", "{}", `{"server":"me@h","remote":8080}`, `{"server":["a@[::1]:22"],"url":"https://h/"}`,
		`{"server":"me@h:99999"}`, `{"server":"me:pw@h"}`, `{"key":"PRIVATE KEY","no":1}`, `{"server":"me@h","target":"x"}`, `{"remote":1e99}`,
		`{"server":"tls://me@h","via":"http://a:b@c:1"}`, `{"server":"me@h","via":"socks5://[::1]","environment":{"NO_PROXY":"*"}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		cfg, err := ParseConfig(text)
		if err == nil {
			cfg.KeyPassphrase = "PASSPHRASE"
			_, err = cfg.resolve()
		}
		if err != nil {
			if !errors.Is(err, ErrConfig) || strings.Contains(err.Error(), "PASSPHRASE") {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if cfg.Remote < 1 || cfg.Remote > 65535 || strings.ContainsAny(cfg.Server[0], " \n\t'\"\\") {
			t.Fatalf("%q was taken as %+v", text, cfg)
		}
		again, err := json.Marshal(cfg)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseConfig(again)
		if err != nil || back.Server[0] != cfg.Server[0] || back.Remote != cfg.Remote || back.URL != cfg.URL {
			t.Fatalf("%s became %+v, %v", again, back, err)
		}
	})
}
