// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// Secrets as people on Databricks have them that do not look like base64: what an app registration of Azure's has as its
// secret (40 characters, with ~ and .), and a token in two parts.
func TestSecretsOfOtherKindsAreNotShown(t *testing.T) {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	rng := rand.New(rand.NewPCG(1, 0))
	draw := func(n int, from string) string {
		var b strings.Builder
		for range n {
			b.WriteByte(from[rng.IntN(len(from))])
		}
		return b.String()
	}
	for kind, make := range map[string]func() string{
		"Azure":     func() string { return draw(3, letters) + "8Q~" + draw(34, letters+"~._-") },
		"two parts": func() string { return draw(18, letters) + "." + draw(19, letters) },
	} {
		shown, example := 0, ""
		for range 1000 {
			if s := make(); Showable(s) {
				shown, example = shown+1, s
			}
		}
		if shown > 0 {
			t.Errorf("%s: %d of 1000 are shown, as %s", kind, shown, Quote(example))
		}
	}
}
